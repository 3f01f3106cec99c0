"""What the agent asks of an uplink, whatever it speaks to whom."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from uplink.section import UplinkSection

if TYPE_CHECKING:  # checking a configuration needs the sections alone, not numpy
    from edge.core.batch import Event
    from edge.core.clock import Clock
    from edge.core.delivery import Outbox
    from uplink.catalogue import Equipment


class UplinkStatistics(Protocol):
    """A frozen dataclass with at least these; what else it has is shown as it is."""

    @property
    def connected(self) -> bool:
        """Whether there is a session now."""

    @property
    def protocol(self) -> str:
        """What is spoken, with its version, e.g. "MQTT 5"; "" before the first session."""

    @property
    def last_error(self) -> str:
        """Why there is no session, or what went wrong last; "" when all is well."""


class Uplink(Protocol):
    """One way out. It alone uses its outbox, so it never waits for another uplink."""

    async def run(self) -> None:
        """Deliver until cancelled, reconnecting by itself. What is unconfirmed stays in the log."""

    async def drain(self, deadline_s: float) -> None:
        """Send what is left without waiting for company; return when all is confirmed or the time is up.

        Called once, while `run` runs, when nothing new is read any more.
        """

    def statistics(self) -> UplinkStatistics:
        """Return a snapshot."""


@dataclass(frozen=True, slots=True)
class UplinkContext:
    """What an uplink is made of besides its section.

    equipment  tells what the catalogue says of each device
    put        takes an event into the log
    health     tells how the gateway as a whole is: JSON types, see `contract/v1/schemas/health.schema.json`
    """

    site: str
    outbox: "Outbox"
    clock: "Clock"
    equipment: "Callable[[], Mapping[str, Equipment]]"
    put: "Callable[[Event], Awaitable[None]]"
    health: Callable[[], Mapping[str, Any]] = dict


@dataclass(frozen=True, slots=True)
class UplinkKind:
    """A protocol: its configuration model, and what makes the uplink of a section. `create` does no I/O but keys."""

    title: str
    section: type[UplinkSection]
    create: Callable[[Any, UplinkContext], Uplink]
