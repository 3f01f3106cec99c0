"""What a protocol driver is. A new protocol is one folder and one entry-point line; see `docs/drivers.md`.

The supervisor owns time-outs, back-off and health, so a driver never retries and never logs a lost device.
A failed tag is a row with bad quality. A failed session raises `Disconnected`. A wrong configuration raises
`ConfigError`. Nothing else crosses a driver's boundary.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, runtime_checkable

from pydantic import Field

from edge.core.data_class import DataClassName
from edge.core.errors import Problem
from edge.core.section import Change, Duration, DurationOrNever, Section

if TYPE_CHECKING:  # a configuration is checked without numpy
    from edge.core.batch import Record
    from edge.core.catalogue import Catalogue
    from edge.core.clock import Clock
    from edge.core.trust import Certificate


class TagSection(Section):
    """Settings every tag has, whatever its protocol."""

    unit: str = ""
    """Unit of the value as it is delivered, e.g. `degC`, `mm/s`, `kW`."""

    every: Duration | None = None
    """How often the tag is read. Default: the device's interval."""

    deadband: float | None = Field(None, gt=0)
    """Report a change only when it exceeds this amount, in the tag's unit."""

    heartbeat: Duration | None = None
    """Report the value after so long even if it has not changed, or by less than `deadband`."""

    valid: tuple[float, float] | None = None
    """Lowest and highest plausible value; outside, the value is delivered with quality BadOutOfRange."""

    max_rate: Change | None = None
    """How quickly it can change, e.g. `5 degC/min`; a value that is further from the last plausible one than that is
    delivered with quality UncertainSensorNotAccurate. Default: the device's, where the units agree."""

    frozen_after: DurationOrNever | None = None
    """A number that is exactly the same for so long, while the device answers, is delivered with quality
    UncertainLastUsableValue; `never` for a constant. Default: the device's. Texts and true/false are exempt."""

    clock_tolerance: DurationOrNever | None = None
    """How far the device's time stamps may be off the gateway's clock, or go back; beyond, the value is delivered with
    quality BadInvalidTimestamp. Default: the device's."""

    classification: str = ""
    """Category and grade (数据分级分类) by the plant's own rules, e.g. `process/internal`; goes into the catalogue."""

    data_class: DataClassName = Field("telemetry", alias="class")
    """How dear its readings are when the disk is full: old `diagnostics` and `telemetry` are thinned, then dropped,
    before `production`; `energy`, `audit` and `alarm` are kept to the last."""

    def value_kind(self) -> str | None:
        """Return what its values are, as in `edge.core.catalogue.ValueKind`; None where only the device knows."""
        return None

    @property
    def lacks_full_scale(self) -> bool:
        """Whether its waveforms are known to be integers of which nothing says what they mean."""
        return False

    @property
    def is_stream(self) -> bool:
        """Whether a waveform's time is told by the device, as that of its first sample: then those that follow each
        other without a gap can be joined. The time at which it was read says nothing of gaps."""
        return False


class DriverSection(Section):
    """Settings every device has, whatever its protocol. A driver's section adds the key named like its kind.

    `tags` is redeclared by each driver with its own tag model.
    """

    every: Duration | None = None
    """How often the tags are read. Default: the site's interval."""

    use: str | None = None
    """A device profile, `maker/model` of `config/profiles`: its tags and settings, where none are given here."""

    max_rate: Change | None = None
    """How quickly values of this unit can change, for tags that do not say otherwise: `5 degC/min` is for all
    temperatures."""

    frozen_after: DurationOrNever | None = None
    """After how long an unchanged number is suspect, for tags that do not say otherwise. Default: the site's."""

    clock_tolerance: DurationOrNever | None = None
    """How far this device's time stamps may be off the gateway's clock. Default: the site's."""

    parameters: Mapping[str, float | str] = {}
    """What the profile asks of this device, e.g. `{ct: 40}`: the ratio of a meter's current transformers."""

    path: str = ""
    """Where the equipment stands, as an ISA-95 path below the site: `workshop-2/line-1/cell-3`."""

    tags: Mapping[str, TagSection]
    """The tags by name."""

    @classmethod
    def expand_tag(cls, tag: Mapping[str, Any], index: int, word: str) -> dict[str, Any]:
        """Return the settings of one tag of a brace array such as `load_{x,y,z}`.

        `index` counts from 0, `word` is this tag's alternative. The default puts `word` in place of `{}`
        in every text; Modbus advances the address instead.
        """
        return {key: value.replace("{}", word) if isinstance(value, str) else value for key, value in tag.items()}

    def heartbeat_of(self, tag: TagSection) -> float | None:
        """Return the seconds after which a tag is reported even if it has not changed; None for never."""
        return tag.heartbeat

    def is_polled(self, tag: TagSection) -> bool:
        """Tell whether a reading of the tag is owed at each of its intervals. Default: no, it reports by itself."""
        return False

    def tag_of(self, name: str) -> TagSection | None:
        """Return the settings that readings of this name come from, None for none. The elements of an array have its
        name and their index: `x[3]`."""
        return self.tags.get(name) or self.tags.get(name.partition("[")[0])

    def problems(self) -> Sequence[Problem]:
        """Return what is wrong between several settings, at paths relative to this section."""
        return ()


class Shared(dict[str, Any]):
    """What devices of one agent share. Whoever made it closes it when the last device has stopped."""

    def close(self) -> None:
        """Close what lingers in it, e.g. a port that modems dial. Closing twice is fine."""
        for thing in list(self.values()):
            if (close := getattr(thing, "close", None)) is not None:
                close()
        self.clear()


class Kept(Protocol):
    """What a driver may ask of the log, so that what is taken from a device for good is taken exactly once."""

    async def durable(self) -> None:
        """Return when all that the session returned before is on disk."""

    async def held(self, tag: int, times: Sequence[int]) -> set[int]:
        """Return those of the times at which a waveform of the tag is in the log."""


@dataclass(frozen=True, slots=True)
class DeviceContext:
    """What the program lends a driver.

    device     the device's name
    every      the default interval of its tags, seconds
    catalogue  gives tag ids: `catalogue.intern(device, name, kind, unit)`
    clock      the only source of time
    secret     returns a secret's text by name; raises ConfigError when it is nowhere
    shared     one mapping for all devices of this agent, in which devices of a kind share what they must,
               e.g. a serial line. Keys begin with the driver's kind. What may stay in it is closed by its owner.
    data_dir   where this gateway keeps its files: trust lists, certificates; None where nothing is kept
    kept       what the log has; None where nothing is stored, as for `yulink read`: then nothing is taken for good
    """

    device: str
    every: float
    catalogue: Catalogue
    clock: Clock
    secret: Callable[[str], str]
    shared: Shared = field(default_factory=Shared)
    data_dir: Path | None = None
    kept: Kept | None = None


class Session(Protocol):
    """An open connection, used by one task; `read` is never called concurrently."""

    async def read(self) -> Sequence[Record]:
        """Wait for the next poll or notification and return it: at most one batch a lane, waveforms, and events.

        A tag that could not be read is a row with bad quality. May return nothing when nothing changed.
        Cancelling is safe and loses at most that poll.

        Raises:
            Disconnected: the session is unusable; the supervisor closes it and connects again.
        """


@runtime_checkable
class Inspectable(Protocol):
    """A session that can show where its last values came from, for `yulink read`."""

    def raw(self) -> Mapping[str, str]:
        """Return per tag name the raw origin of the last value, e.g. `holding/40 = 0x0102 0x0304`."""


@runtime_checkable
class Counting(Protocol):
    """A driver that counts what happens on its wire, for `yulink status`."""

    @property
    def counters(self) -> Mapping[str, int]:
        """Return the live counters by name, e.g. `timeouts_total`. The same mapping for the driver's whole life."""


@dataclass(frozen=True, slots=True)
class CertificateState:
    """A certificate in use, for those who watch when it ends.

    whose       "server": the device's, or "own"
    not_after   its end, ns since 1970 UTC
    doubt       what an operator should know of it now; "" when nothing
    """

    whose: Literal["server", "own"]
    subject: str
    thumbprint: str
    not_after: int
    doubt: str = ""


@runtime_checkable
class Certified(Protocol):
    """A driver whose connection rests on certificates that end some day."""

    @property
    def certificates(self) -> Sequence[CertificateState]:
        """Return those that the last connection used; none before the first."""


@runtime_checkable
class Repeating(Protocol):
    """A driver whose device may deliver a reading twice; it passes on the first alone, and counts the others."""

    @property
    def repeated(self) -> Mapping[int, int]:
        """Return by tag id how often a reading came again, since the driver was made."""


@runtime_checkable
class Measuring(Protocol):
    """A driver whose device tells the units of its values."""

    @property
    def units(self) -> Mapping[int, str]:
        """Return by tag id the unit that the device told at the last connection."""


@runtime_checkable
class Scheduled(Protocol):
    """A driver that polls by a plan. One that does not, as with subscriptions, owes a reading a tag and hour."""

    @property
    def schedule(self) -> Mapping[float, int]:
        """Return how many readings are owed at each interval in seconds, known before the device is reached."""


class Driver(Protocol):
    """A configured device. Making one does no I/O."""

    @property
    def tag_ids(self) -> Sequence[int]:
        """Ids of all its tags known so far; the supervisor marks them bad when the device is lost."""

    @property
    def read_deadline(self) -> float:
        """Seconds after which a silent `read` means the device hangs: at least three of its slowest intervals.

        Asked once a session.
        """

    def connect(self) -> AbstractAsyncContextManager[Session]:
        """Open a session. Never retries; closes also when cancelled. Raises `Disconnected`."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What one cycle of a device costs, for `yulink check`.

    line        what it shares with other devices, as people call it; "" when it shares nothing
    line_load   the share of the line's time that it needs, all its intervals counted: above 1 it cannot be held
    """

    requests_per_cycle: int
    registers_per_cycle: int
    cycle_ms_estimated: float
    cycle_ms_asked: float
    line: str = ""
    line_load: float = 0.0


@dataclass(frozen=True, slots=True)
class Interpretation:
    """One way to read a place of a device: `value × scale` would be what is measured."""

    at: str
    type: str
    order: str
    value: int | float
    scale: float
    is_plausible: bool


@dataclass(frozen=True, slots=True)
class Probe:
    """A place of an unknown device: its raw words by address, and every interpretation."""

    raw: Mapping[str, int]
    interpretations: Sequence[Interpretation]


@dataclass(frozen=True, slots=True)
class Found:
    """Something a scan found: an address as the configuration writes it, what is there, and its unit id."""

    where: str
    what: str
    unit: int | None = None


@dataclass(frozen=True, slots=True)
class Scan:
    """A scan made ready. `words` tells what it will send to whom, "" when nothing; `found` sends it.

    `found` raises Disconnected when a line cannot be opened. Closing it ends the scan.
    """

    words: str
    found: Callable[[], AsyncIterator[Found]]


@dataclass(frozen=True, slots=True)
class BrowseWish:
    """What to show of a device's address space.

    match      glob of paths; "" for everything
    depth      how many layers below where the glob begins
    nodes_max  how many nodes at most
    """

    match: str = ""
    depth: int = 8
    nodes_max: int = 1000


@dataclass(slots=True)
class BrowsedNode:
    """A node of a device's address space; of a variable with type, value for people, access ("r", "rw") and unit.

    `node` is what the configuration writes for it.
    """

    path: str
    node: str
    name: str
    kind: str
    depth: int
    type: str = ""
    value: str = ""
    quality: str = ""
    access: str = ""
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Browsed:
    """A device's address space as a tree in order of printing. `is_cut`: there is more than was asked for."""

    url: str
    nodes: Sequence[BrowsedNode]
    is_cut: bool


class Browser(Protocol):
    """Shows what a device has."""

    async def __call__(
        self, target: DriverSection | Mapping[str, Any], context: DeviceContext, wish: BrowseWish
    ) -> Browsed:
        """Return the tree of a configured device, or of one whose settings, as written, have no tags yet.

        Raises WrongInput, Disconnected.
        """


class Prober(Protocol):
    """Reads one place of a device that nobody has configured yet."""

    async def __call__(self, url: str, unit: int, at: str, timeout_s: float, expected: float | None) -> Probe:
        """Return what is at a place; `expected` is what somebody reads there. Raises WrongInput, Disconnected."""


class Scanner(Protocol):
    """Looks for devices."""

    def __call__(
        self, where: str, units: Sequence[int], port: int | None, per_second: float, timeout_s: float
    ) -> Scan | None:
        """Make a scan ready, sending nothing; None when `where` is nothing to this driver. Raises WrongInput."""


@dataclass(slots=True)
class Simulated:
    """A live simulated device on loopback, for the conformance suite.

    section   raw configuration (as YAML would give it) that points at the device
    expected  tag name → the value it must deliver, of a waveform its number of samples; the device holds still
    secrets   what the section refers to
    shared    what its drivers share; closed with the device
    cut       breaks every open connection now, and refuses new ones; None where there is none
    spoil     makes exactly this tag unreadable from the next read on; None where that cannot be
    garbage   makes the device answer nonsense from now on; None where that cannot be
    restore   ends cut, spoil and garbage
    """

    section: Mapping[str, Any]
    expected: Mapping[str, bool | int | float | str]
    cut: Callable[[], Awaitable[None]] | None
    spoil: Callable[[str], Awaitable[None]] | None
    garbage: Callable[[], Awaitable[None]] | None
    restore: Callable[[], Awaitable[None]]
    secrets: Mapping[str, str] = field(default_factory=dict)
    shared: Shared = field(default_factory=Shared)


@dataclass(frozen=True, slots=True)
class DriverSpec:
    """What the entry point gives. Importing it must not import the protocol's library.

    kind      the configuration key whose value is the device's URL, e.g. "modbus"
    title     for people, e.g. "Modbus TCP, RTU over TCP and serial RTU"
    section   configuration model; its docstrings are the user's documentation
    create    makes the driver; no I/O. Raises ConfigError
    plan      what a cycle costs, from the section and the default interval in seconds; None where it has no meaning
    simulate  yields live simulated devices by variant name, e.g. {"tcp": …, "serial": …}
    security  says for the demo's and status' listing how a section's connection is protected, e.g. "SignAndEncrypt"
    schemes   what the URLs of this kind begin with, for commands that take an address without a configuration
    probe     shows a place of an unknown device in every interpretation; None where it cannot
    scan      looks for devices; None where it cannot
    browse    shows what a device has; None where it cannot
    own       our certificates in a data directory, each with the file for those who must trust it; None: there are none
    """

    GROUP: ClassVar[str] = "yulink.drivers"

    kind: str
    title: str
    section: type[DriverSection]
    create: Callable[[Any, DeviceContext], Driver]
    simulate: Mapping[str, Callable[[], AbstractAsyncContextManager[Simulated]]]
    plan: Callable[[Any, float], Plan] | None = None
    security: Callable[[Any], str] = lambda section: "none"
    schemes: Sequence[str] = ()
    probe: Prober | None = None
    scan: Scanner | None = None
    browse: Browser | None = None
    own: Callable[[Path], Sequence[tuple[Certificate, Path]]] | None = None
