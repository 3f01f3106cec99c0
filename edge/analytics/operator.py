"""What an operator is: a piece of analytics that turns readings into derived readings and events, in event time.

An operator is pure. What it returns depends on its settings, on its state and on the rows pushed so far, never on the
clock, on chance, or on how the rows were cut into pushes. So the worker may be killed at any instant and go on from
the last state that was committed, and `yulink replay` gives what `yulink run` gave. `edge.analytics.conformance`
checks exactly this for any operator.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from edge.core.batch import Event, Waveform
from edge.core.catalogue import ValueKind
from edge.core.data_class import DataClass
from edge.core.interval import Level
from edge.core.quality import bad_mask

NEVER = -(2**62)
"""An event time before all others."""


@dataclass(frozen=True, slots=True)
class Output:
    """A tag that an operator makes. `inputs` are the paths of the tags it is made of; the catalogue tells them.

    `level` is that of the intervals it gives figures of, None where it gives none: figures are kept for months. Each
    begins on a whole second.
    """

    device: str
    name: str
    kind: ValueKind
    unit: str = ""
    inputs: tuple[str, ...] = ()
    data_class: DataClass = DataClass.TELEMETRY
    level: Level | None = None

    def __post_init__(self) -> None:
        if self.level is not None and self.kind is not ValueKind.FLOAT64:
            raise ValueError(f"{self.path}: a figure of intervals is a float64")

    @property
    def path(self) -> str:
        """Device and name as users write them."""
        return f"{self.device}.{self.name}"


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Readings of one operator's inputs as columns of equal length n, in order of `at`, then of the input's path.

    slot       int32[n]    which of the operator's `inputs`
    ts         int64[n]    source time, ns since 1970 UTC
    at         int64[n]    event time at which the reading counts, never going back from row to row and push to push.
                           It is `ts`, but for a reading that came too late for its place: that one counts from the
                           moment at which it came
    value      float64[n]  the value; NaN for a text. A bool is 0 or 1, an unsigned counter is not negative
    exact      int64[n]    the same without rounding where the tag is a bool or an integer, else 0; an unsigned
                           counter by its bit pattern
    text       object[n]   `str` where the tag is a text, else None
    quality    uint32[n]   OPC UA StatusCode
    is_old     bool[n]     the reading came after a newer one of its tag, as history does that is read later
    waveforms  blocks of samples as (slot, block), in order of `waveforms_at`
    waveforms_at  event time at which each of them counts, as `at`; by default its own time
    events     what the gateway itself noted, e.g. that somebody acknowledged an alarm, in order of the log
    """

    slot: npt.NDArray[np.int32]
    ts: npt.NDArray[np.int64]
    at: npt.NDArray[np.int64]
    value: npt.NDArray[np.float64]
    exact: npt.NDArray[np.int64]
    text: npt.NDArray[Any]
    quality: npt.NDArray[np.uint32]
    is_old: npt.NDArray[np.bool_]
    waveforms: Sequence[tuple[int, Waveform]] = ()
    waveforms_at: Sequence[int] = ()
    events: Sequence[Event] = ()

    def __post_init__(self) -> None:
        if self.waveforms and not self.waveforms_at:
            object.__setattr__(self, "waveforms_at", [wave.ts for _, wave in self.waveforms])

    def numbers_and_blocks(self) -> Iterator[tuple[int, int, float | Waveform]]:
        """Yield (at, slot, value or block) in order of event time; a bad value as NaN, of one time values first."""
        blocks = list(zip(self.waveforms, self.waveforms_at, strict=True))[::-1]
        value = np.where(bad_mask(self.quality), np.nan, self.value)
        for at, slot, number in zip(self.at.tolist(), self.slot.tolist(), value.tolist(), strict=True):
            while blocks and blocks[-1][1] < at:
                (source, wave), when = blocks.pop()
                yield when, source, wave
            yield at, slot, number
        for (source, wave), when in reversed(blocks):
            yield when, source, wave

    @classmethod
    def of(
        cls,
        slot: Sequence[int],
        ts: Sequence[int],
        value: Sequence[float | int | str],
        quality: int | Sequence[int] = 0,
        at: Sequence[int] | None = None,
    ) -> "Rows":
        """Build rows from Python values, for tests and for operators that feed others."""
        n = len(slot)
        text = np.empty(n, object)
        text[:] = [each if isinstance(each, str) else None for each in value]
        exact = [each if isinstance(each, int) else 0 for each in value]
        when = np.array(ts, np.int64)
        return cls(
            np.array(slot, np.int32),
            when,
            when if at is None else np.array(at, np.int64),
            np.array([np.nan if isinstance(each, str) else each for each in value], np.float64),
            np.array(exact, np.int64),
            text,
            np.full(n, quality, np.uint32) if isinstance(quality, int) else np.array(quality, np.uint32),
            np.zeros(n, np.bool_),
        )

    @classmethod
    def concat(cls, parts: Sequence["Rows"]) -> "Rows":
        """Join rows as they are, without sorting them."""
        if len(parts) == 1:
            return parts[0]
        columns: dict[str, Any] = {name: np.concatenate([getattr(part, name) for part in parts]) for name in COLUMNS}
        waves = [wave for part in parts for wave in part.waveforms]
        at = [at for part in parts for at in part.waveforms_at]
        events = [event for part in parts for event in part.events]
        return cls(**columns, waveforms=waves, waveforms_at=at, events=events)

    def take(self, rows: npt.NDArray[Any] | slice) -> "Rows":
        """Return the rows picked by a boolean mask, an index array or a slice, without waveforms and events."""
        columns: dict[str, Any] = {name: getattr(self, name)[rows] for name in COLUMNS}
        return Rows(**columns)

    def __len__(self) -> int:
        return len(self.slot)


COLUMNS = ("slot", "ts", "at", "value", "exact", "text", "quality", "is_old")
EMPTY = Rows.of([], [], [])


class Reading(NamedTuple):
    """A derived reading.

    output    which of the operator's `outputs`
    ts        its time: for an interval, where it begins
    value     of the output's kind
    quality   OPC UA StatusCode
    revision  0 at first; a correction of what was given out for the same `ts` has a higher one
    at        event time at which it was settled, where that is not `ts`: for an interval, where it ends
    """

    output: int
    ts: int
    value: float | int | bool | str
    quality: int = 0
    revision: int = 0
    at: int = NEVER


@dataclass(slots=True)
class Derived:
    """What a push gives: readings in order of time, blocks of samples as (output, block), and events."""

    readings: list[Reading] = field(default_factory=list)
    waveforms: list[tuple[int, Waveform]] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)


class Operator:
    """Base of all operators. Made in the worker from settings; making one does no I/O.

    name     tells operators apart; its state is kept under it
    inputs   paths `device.tag` of the tags it reads, of the log or of other operators' outputs
    outputs  tags it makes
    """

    KIND: ClassVar[str]
    """What the plan calls it."""

    VERSION: ClassVar[int] = 1
    """Of the meaning of its state; raised when an older state cannot be taken up any more."""

    name: str
    inputs: Sequence[str]
    outputs: Sequence[Output]

    @property
    def fingerprint(self) -> str:
        """Say in which case a state may be taken up: only by an operator with the same words.

        The default leaves it to `restore` alone. An operator whose state means nothing under other settings gives them.
        """
        return ""

    def push(self, rows: Rows, now: int) -> Derived:
        """Take the next rows and return what follows from them.

        Event time is `now` afterwards: all rows up to it are here, and every later row has a later `at`, or is `now`
        for one that comes too late. Called when there are rows for it, and when `due` is reached.
        """
        raise NotImplementedError

    def due(self) -> int | None:
        """Return the event time at which `push` must be called even if no row comes, None while nothing waits."""
        return None

    def shift(self, by: int) -> None:
        """Move every event time that is waited for by so many ns: the gateway's clock was set. Default: nothing."""

    def state(self) -> Mapping[str, Any]:
        """Return everything `push` depends on, as CBOR types: None, bool, int, float, str, bytes, lists, mappings.

        Arrays go as `array.tobytes()`. A pure function of the state gives the same bytes each time.
        """
        return {}

    def restore(self, state: Mapping[str, Any]) -> Sequence[str]:
        """Take a state up that `state` gave, at once after being made.

        Returns the names of parts that begin anew because their settings differ; an event tells them.
        """
        return ()

    def view(self) -> Any:
        """Return what `yulink status` shows of it, as JSON types; None for nothing."""
        return None
