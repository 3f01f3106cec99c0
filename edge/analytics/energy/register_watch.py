"""Tells when a meter's readings were not simply counted: a roll-over, a reset, a leap, a dip, an exchange, a new ratio.

Each is an event with the two readings between which it lies and the energy that was counted between them, so that an
auditor can follow it without the readings themselves.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edge.analytics.energy.grid import MINUTE_NS
from edge.analytics.energy.marks import GLITCH, JUMP, RATIO, REBASED, RESET, ROLLED
from edge.analytics.energy.meters import MILLIONTHS, Meters
from edge.analytics.operator import Derived
from edge.core.batch import Event, Severity
from edge.core.clock import iso8601

_TOLD_EACH_NS = 15 * MINUTE_NS
"""Of one kind, the first of so long is told: a register that flaps fills no log."""

_KINDS = (
    (ROLLED, "register_rolled_over", Severity.INFO, "rolled over; it counts on"),
    (RESET, "register_reset", Severity.MEDIUM, "began again; what it counted just before is not known"),
    (JUMP, "register_leap", Severity.MEDIUM, "climbed more than the meter can; that is not counted"),
    (GLITCH, "register_glitch", Severity.LOW, "left its line and came back; the reading is left out"),
    (REBASED, "meter_exchanged", Severity.INFO, "goes on with another meter, as configured"),
    (RATIO, "meter_ratio_changed", Severity.INFO, "has another ratio from here on, as configured"),
)
_ANY = ROLLED | RESET | JUMP | GLITCH | REBASED | RATIO


@dataclass(frozen=True, slots=True)
class Read:
    """What is read of a meter: its name, the path of the tag, and the unit of what is counted."""

    meter: str
    tag: str
    unit: str


class RegisterWatch:
    """Looks at readings that have been judged, and tells once what was made of them.

    Args:
        reads: in the order of the places in `meters`.
        meters: where the readings are.
    """

    def __init__(self, reads: Sequence[Read], meters: Meters) -> None:
        self._reads, self._meters = reads, meters
        self._told: dict[tuple[int, str, int], int] = {}

    def look(self, place: int, begin: int, end: int, tick: int, out: Derived) -> None:
        """Tell what is new between two instants (ns, both included), in which readings were judged."""
        read = self._reads[place]
        for judged in self._meters.judged(place, begin, end, _ANY):
            for mask, kind, severity, words in _KINDS:
                key = place, kind, judged.ts // _TOLD_EACH_NS
                if not judged.flags & mask or key in self._told:
                    continue
                self._told[key] = judged.ts
                counted = judged.counted / MILLIONTHS
                facts: dict[str, str | float] = {"tag": read.tag, "at": iso8601(judged.ts), "value": judged.raw}
                facts |= {"before": iso8601(judged.before_ts), "value_before": judged.before_raw}
                facts |= {"counted": counted, "unit": read.unit}
                message = (
                    f"{read.tag} {words}: {judged.before_raw:.10g} at {iso8601(judged.before_ts)}, "
                    f"{judged.raw:.10g} at {iso8601(judged.ts)}; counted between them: {counted:.10g} {read.unit}"
                )
                if mask == RESET:
                    message += self._advice(place)
                out.events.append(Event(tick, read.meter, kind, severity, message, facts))

    def _advice(self, place: int) -> str:
        spec = self._meters.specs[place]
        if not spec.modulus:
            return "; if it rolls over, write where: `rolls_over_at`"
        return (
            "" if spec.top is not None else "; with the meter's `max` a long silence with a roll-over is told from this"
        )

    def forget(self, before: int) -> None:
        """Let go of what was told of instants so long ago that nothing is judged there any more."""
        for key in [key for key, ts in self._told.items() if ts < before and self._meters.oldest(key[0]) > ts]:
            del self._told[key]

    def state(self) -> list[Any]:
        """Return everything as CBOR types."""
        return [[*key, ts] for key, ts in sorted(self._told.items())]

    def restore(self, state: Sequence[Any], places: dict[int, int]) -> None:
        """Take a state up; `places` says where a meter of that time stands now."""
        self._told = {(places[place], kind, part): ts for place, kind, part, ts in state if place in places}
