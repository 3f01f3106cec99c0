"""Compares the units that a device tells with those of the configuration."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from edge.core import units
from edge.core.batch import Event, Severity
from edge.core.catalogue import Catalogue

SHOWN_MAX = 20


@dataclass(slots=True)
class UnitWatch:
    """Remembers what was told of one device's units, so that each is told once.

    wrong    by tag id, units of the device that are others than those of the configuration
    unknown  those of which nobody can say
    """

    device: str
    catalogue: Catalogue
    wrong: dict[int, str] = field(default_factory=dict)
    unknown: dict[int, str] = field(default_factory=dict)

    def look(self, told: Mapping[int, str], now: int) -> list[Event]:
        """Take what the device tells by tag id, and return what there is to say of it; `now` in ns since 1970 UTC."""
        wrong, unknown = dict[int, str](), dict[int, str]()
        for tag, unit in told.items():
            mine = self.catalogue[tag].unit
            if not unit or not mine or (agree := units.same(mine, unit)):
                continue
            (unknown if agree is None else wrong)[tag] = unit
        events = []
        if wrong != self.wrong:
            words = "units differ" if wrong else "units agree again"
            events.append(self._event("unit_mismatch", Severity.MEDIUM if wrong else Severity.INFO, words, wrong, now))
        if unknown and unknown != self.unknown:
            events.append(self._event("unit_unknown", Severity.INFO, "units cannot be compared", unknown, now))
        self.wrong, self.unknown = wrong, unknown
        return events

    def _event(self, kind: str, severity: Severity, words: str, tags: Mapping[int, str], now: int) -> Event:
        said = list(self._said(tags))
        more = f", and {len(said) - SHOWN_MAX} more" if len(said) > SHOWN_MAX else ""
        text = f"{self.device}: {words}" + (f": {'; '.join(said[:SHOWN_MAX])}{more}" if said else "")
        facts = {self.catalogue[tag].name: unit for tag, unit in list(tags.items())[:SHOWN_MAX]}
        return Event(now, self.device, kind, severity, text, facts)

    def _said(self, tags: Mapping[int, str]) -> Iterator[str]:
        for tag, unit in tags.items():
            yield f"{self.catalogue[tag].name} is in {unit} at the device, in {self.catalogue[tag].unit} here"
