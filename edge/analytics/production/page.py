"""What a machine did in one interval, and the figures that follow from it (ISO 22400-2)."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from edge.analytics.energy.grid import NS_PER_S
from edge.analytics.production.oee import mtbf, mttr, oee
from edge.analytics.production.terms import FAULT, OFF, RUNNING, UNKNOWN
from edge.core.interval import Level
from edge.core.quality import StatusCode

NOT_ISSUED = -1
UNKNOWN_SHARE = 0.01
"""With more of the planned time unknown, what is made of it is uncertain."""

QUARTERS_KEPT = 12
"""Newest quarter hours of an interval, whose energy may still be corrected."""

_HOUR_S, _QUARTER_MINUTES = 3600.0, 15
_PARTS = ("parts", "good", "scrap")
Figure = tuple[str, float, int]
"""Name without its level, value, StatusCode."""


@dataclass(slots=True)
class Page:
    """One interval of one machine. Times in ns.

    seconds      by state, of the whole interval
    planned      by state, of planned time
    parts        `parts` (all), `good` and `scrap`, of the whole interval; `planned_parts` of planned time
    ideal        what the parts of planned time would have taken at best
    energy       kWh, by state; "" for what is not known of
    quarters     kWh and minutes of the newest quarter hours, by their begin; `lowest` kWh of the whole ones before
    programmes   parts and kWh by programme
    """

    level: Level
    begin: int
    end: int
    seconds: dict[str, int] = field(default_factory=dict)
    planned: dict[str, int] = field(default_factory=dict)
    parts: dict[str, float] = field(default_factory=dict)
    planned_parts: dict[str, float] = field(default_factory=dict)
    ideal: float = 0.0
    micro_stops: int = 0
    stops: int = 0
    failures: int = 0
    energy: dict[str, float] = field(default_factory=dict)
    quarters: dict[int, list[float]] = field(default_factory=dict)
    lowest: float | None = None
    programmes: dict[str, list[float]] = field(default_factory=dict)
    revision: int = NOT_ISSUED
    energy_revision: int = NOT_ISSUED
    is_changed: bool = True
    is_energy_changed: bool = True
    is_flagged: bool = False

    def spend(self, state: str, ns: int, planned: int) -> None:
        """Add time in a state, of which some was planned."""
        self.seconds[state] = self.seconds.get(state, 0) + ns
        if planned:
            self.planned[state] = self.planned.get(state, 0) + planned
        self.is_changed = True

    def count(self, what: str, number: float, cycle_s: float, *, is_planned: bool) -> None:
        """Add parts."""
        self.parts[what] = self.parts.get(what, 0.0) + number
        if is_planned:
            self.planned_parts[what] = self.planned_parts.get(what, 0.0) + number
            if what == "parts":
                self.ideal += number * cycle_s * NS_PER_S
        self.is_changed = self.is_energy_changed = True

    def use(self, state: str, minute: int, energy: float, minutes: int) -> None:
        """Add energy of a minute; `minutes` is 0 for a correction of one that was added already."""
        self.energy[state] = self.energy.get(state, 0.0) + energy
        quarter = minute - minute % (_QUARTER_MINUTES * 60 * NS_PER_S)
        kept = self.quarters.setdefault(quarter, [0.0, 0])
        kept[0] += energy
        kept[1] += minutes
        if len(self.quarters) > QUARTERS_KEPT:
            self._fold(min(self.quarters))
        self.is_energy_changed = True

    def _fold(self, quarter: int) -> None:
        """Keep of a quarter hour only whether it was the lowest of the whole ones."""
        energy, minutes = self.quarters.pop(quarter)
        if minutes == _QUARTER_MINUTES:
            self.lowest = energy if self.lowest is None else min(self.lowest, energy)

    # ------------------------------------------------------------------ figures

    @property
    def busy(self) -> int:
        """Planned busy time of which the state is known."""
        return sum(self.planned.values()) - self.planned.get(UNKNOWN, 0)

    @property
    def quality(self) -> int:
        """StatusCode of what is made of planned time."""
        planned = sum(self.planned.values())
        unknown = self.planned.get(UNKNOWN, 0)
        return StatusCode.UNCERTAIN if unknown > UNKNOWN_SHARE * planned else StatusCode.GOOD

    def good(self) -> float | None:
        """Return the good parts of planned time, None where nothing counts them."""
        made = self.planned_parts
        if "good" in made:
            return made["good"]
        return made.get("parts", 0.0) - made["scrap"] if "scrap" in made else None

    def effectiveness(self) -> float:
        """Return effectiveness (performance), NaN while nothing ran."""
        return oee(1.0, self.planned.get(RUNNING, 0), 1.0, self.ideal, 0.0).effectiveness

    def figures(self, *, has_parts: bool, has_cycle: bool) -> Iterator[Figure]:
        """Yield the figures of production. What has nothing to be made of is not there."""
        seconds, quality = self.seconds, self.quality
        for state, ns in sorted(seconds.items()):
            yield f"state_seconds_{state}", ns / NS_PER_S, 0
        yield "planned_seconds", sum(self.planned.values()) / NS_PER_S, 0
        yield "micro_stops", float(self.micro_stops), 0
        yield "stops", float(self.stops), 0
        running, busy = self.planned.get(RUNNING, 0), self.busy
        if self.failures:
            yield "mtbf", mtbf(seconds.get(RUNNING, 0) / NS_PER_S / _HOUR_S, self.failures), quality
            yield "mttr", mttr(seconds.get(FAULT, 0) / NS_PER_S / 60, self.failures), quality
        if has_parts:
            for what in _PARTS:
                if what in self.parts:
                    yield "parts" if what == "parts" else f"parts_{what}", self.parts[what], 0
            if self.parts.get("parts", 0) > 0:
                yield "cycle_time", seconds.get(RUNNING, 0) / NS_PER_S / self.parts["parts"], quality
        if not self.planned:
            return
        if not busy:
            yield "availability", float("nan"), StatusCode.BAD_NO_COMMUNICATION
            return
        produced, good = self.planned_parts.get("parts", 0.0), self.good()
        found = oee(busy, running, self.ideal / produced if produced else 0.0, produced, good or 0.0)
        yield "availability", found.availability, quality
        if has_parts and good is not None and produced > 0:
            yield "quality", found.quality, quality
        if has_parts and has_cycle and running:
            yield "effectiveness", found.effectiveness, quality
            if good is not None and produced > 0:
                yield "oee", found.oee, quality
            elif good is None:
                # Nothing counts good parts: this is what it is at best.
                yield "oee", found.availability * found.effectiveness, StatusCode.UNCERTAIN

    def energy_figures(self, *, has_parts: bool, programmes: Mapping[str, str]) -> Iterator[Figure]:
        """Yield the figures that energy goes into; `programmes` have some of their own, by how they are named there."""
        total, made = math.fsum(self.energy.values()), self.parts.get("parts", 0.0)
        if has_parts and made > 0:
            yield "kwh_per_part", total / made, self.quality
        for programme, slug in programmes.items():
            parts, energy = self.programmes.get(programme, (0.0, 0.0))
            if has_parts and parts > 0:
                yield f"parts_of_{slug}", parts, 0
                yield f"kwh_per_part_of_{slug}", energy / parts, self.quality
        if total > 0:
            idle = math.fsum(each for state, each in self.energy.items() if state not in (RUNNING, OFF, UNKNOWN, ""))
            yield "idle_energy_share", idle / total, self.quality
        whole = [energy for energy, minutes in self.quarters.values() if minutes == _QUARTER_MINUTES]
        whole += [] if self.lowest is None else [self.lowest]
        if whole:
            yield "base_load", min(whole) * 4, 0

    def state(self) -> dict[str, Any]:
        """Return everything as CBOR types."""
        return {
            **asdict(self),
            "level": str(self.level),
            "quarters": [[k, *v] for k, v in sorted(self.quarters.items())],
        }

    @classmethod
    def of(cls, state: dict[str, Any]) -> "Page":
        """Return the page of a state."""
        quarters = {begin: [energy, minutes] for begin, energy, minutes in state["quarters"]}
        return cls(**{**state, "level": Level(state["level"]), "quarters": quarters})
