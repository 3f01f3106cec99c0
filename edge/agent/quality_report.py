"""From counts to what people and auditors ask for: ratios, the score, and the share of time a device was online."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from zoneinfo import ZoneInfo

from buffer.quality_days import COUNTS, TagDay
from edge.agent.day_counts import date_of, midnight
from edge.core.catalogue import Catalogue
from edge.core.clock import iso8601

RULES = COUNTS[5:]
_NS = 10**9


@dataclass(slots=True)
class Figures:
    """Counts of one or several tags and days, and their ratios; a ratio is None where nothing says it.

    expected   readings that were owed, by tags that owe any
    came       of them, at most as many a tag and day as were owed
    received   readings of all tags that came, good or not
    by         "interval": all are owed at intervals; "itself": all report by themselves; "both"
    watched_s  the longest that any was watched, s, where it is known
    """

    expected: float = 0.0
    came: float = 0.0
    received: int = 0
    good: int = 0
    timely: int = 0
    duplicate: int = 0
    rules: dict[str, int] = field(default_factory=lambda: dict.fromkeys(RULES, 0))
    by: str = ""
    watched_s: float = 0.0

    def add(self, day: TagDay) -> None:
        """Count a tag's day in."""
        expected, received, good, timely, duplicate, *rules = day.counts
        by = "interval" if day.every else "itself"
        self.by = by if self.by in ("", by) else "both"
        if day.every:
            self.expected += expected
            self.came += min(received, expected)
            self.watched_s = max(self.watched_s, expected * day.every / _NS)
        self.received += int(received)
        self.good += int(good)
        self.timely += int(timely)
        self.duplicate += int(duplicate)
        for name, count in zip(RULES, rules, strict=True):
            self.rules[name] += int(count)

    @property
    def completeness(self) -> float | None:
        """The share of what was owed that came."""
        return self.came / self.expected if self.expected else None

    @property
    def validity(self) -> float | None:
        """The share of good ones in what came."""
        return self.good / self.received if self.received else None

    @property
    def timeliness(self) -> float | None:
        """The share of what came that was there within the limit."""
        return self.timely / self.received if self.received else None

    @property
    def uniqueness(self) -> float | None:
        """The share of what came that was no repetition."""
        return self.received / (self.received + self.duplicate) if self.received else None

    @property
    def score(self) -> float | None:
        """100 times the mean of those of the four ratios that are known."""
        known = [
            each for each in (self.completeness, self.validity, self.timeliness, self.uniqueness) if each is not None
        ]
        return 100 * sum(known) / len(known) if known else None

    def as_json(self) -> dict[str, Any]:
        """Return counts and ratios; `missing` is rounded to whole readings."""
        ratios = {
            name: getattr(self, name) for name in ("completeness", "validity", "timeliness", "uniqueness", "score")
        }
        counts = {name: getattr(self, name) for name in ("received", "good", "timely", "duplicate")}
        expected = round(self.expected) if self.by != "itself" else None
        return {"owed_by": self.by, "expected": expected, **counts, "broken": dict(self.rules), **ratios}


@dataclass(frozen=True, slots=True)
class Gap:
    """A time without readings of a device, or of one of its tags; ns since 1970 UTC. `is_open`: it has not ended."""

    begin: int
    end: int
    tag: str = ""
    is_open: bool = False

    def as_json(self) -> dict[str, Any]:
        """Return the gap with exact bounds; `to` is not part of it, and None while it is open."""
        told: dict[str, Any] = {"from": iso8601(self.begin), "to": None if self.is_open else iso8601(self.end)}
        return told | {"seconds": (self.end - self.begin) / _NS} | ({"tag": self.tag} if self.tag else {})


@dataclass(slots=True)
class DeviceReport:
    """A device's figures of some days: of the whole, by tag, and its gaps. `online` is a share of the time."""

    figures: Figures = field(default_factory=Figures)
    tags: dict[str, Figures] = field(default_factory=dict)
    gaps: list[Gap] = field(default_factory=list)
    online: float | None = None


def report(
    rows: Iterable[TagDay],
    gaps: Iterable[tuple[int, int, int, bool]],
    still: Mapping[str, int],
    catalogue: Catalogue,
    span: tuple[int, int],
) -> dict[str, DeviceReport]:
    """Return what the days between two times amount to, by device. `still`: devices that are silent, and since when."""
    begin, end = span
    found: dict[str, DeviceReport] = defaultdict(DeviceReport)
    watched: dict[str, dict[int, float]] = defaultdict(lambda: defaultdict(float))
    for row in rows:
        if row.tag not in catalogue:
            continue
        tag = catalogue[row.tag]
        one = found[tag.device]
        one.figures.add(row)
        one.tags.setdefault(tag.name, Figures()).add(row)
        longest = watched[tag.device]
        longest[row.day] = max(longest[row.day], row.counts[0] * row.every / _NS)
    for first, last, number, whole in gaps:
        if number in catalogue and (device := catalogue[number].device) in found:
            found[device].gaps.append(Gap(first, last, "" if whole else catalogue[number].name))
    for device, since in still.items():
        if device in found and since < end:
            found[device].gaps.append(Gap(since, end, is_open=True))
    for device, one in found.items():
        seconds = sum(watched[device].values()) or (end - begin) / _NS
        off = sum(min(gap.end, end) - max(gap.begin, begin) for gap in one.gaps if not gap.tag) / _NS
        one.online = max(0.0, 1 - off / seconds) if seconds > 0 else None
    return dict(sorted(found.items()))


def span_of(zone: ZoneInfo, first: int, last: int) -> tuple[int, int]:
    """Return when the days `first` to `last`, both included, begin and end in a time zone, ns since 1970 UTC."""
    return midnight(zone, first), midnight(zone, last + 1)


def day_name(day: int) -> str:
    """Return a day's number as a date: `2026-01-31`."""
    return date_of(day).isoformat()


def counts_of(rows: Sequence[TagDay], catalogue: Catalogue) -> dict[str, dict[str, list[float]]]:
    """Return by device and tag the counts of one day, in the order of `COUNTS`; what was expected in whole readings."""
    found: dict[str, dict[str, list[float]]] = defaultdict(dict)
    for row in rows:
        if row.tag in catalogue:
            tag = catalogue[row.tag]
            before = found[tag.device].get(tag.name, [0] * len(COUNTS))
            now = [round(row.counts[0]) if row.every else 0, *row.counts[1:]]
            found[tag.device][tag.name] = [one + other for one, other in zip(before, now, strict=True)]
    return found
