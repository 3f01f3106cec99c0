"""Sums of minutes over the intervals of one level, what was given out of them, and what has to be corrected."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.analytics.energy.grid import Grid, Interval
from edge.analytics.energy.marks import Mark
from edge.analytics.energy.meters import MILLIONTHS
from edge.analytics.energy.pricing import Charge
from edge.core.interval import Level

I64 = NDArray[np.int64]
NOT_ISSUED = -1


@dataclass(slots=True)
class Page:
    """One interval of all meters.

    energy    int64[m], millionths
    known     int64[m], how many of its minutes were measured
    marks     int64[m], what happened in them
    revision  int64[m], what was given out last, `NOT_ISSUED` for nothing
    changed   bool[m], whether it differs from what was given out
    charged   energy by rate and price, int64[m] each
    """

    interval: Interval
    energy: I64
    known: I64
    marks: I64
    revision: I64
    changed: NDArray[np.bool_]
    charged: dict[Charge, I64] = field(default_factory=dict)

    @classmethod
    def blank(cls, interval: Interval, meters: int) -> "Page":
        """Return a page on which nothing stands yet."""
        energy, known, marks = (np.zeros(meters, np.int64) for _ in range(3))
        return cls(interval, energy, known, marks, np.full(meters, NOT_ISSUED, np.int64), np.zeros(meters, np.bool_))

    def mark(self, place: int) -> Mark:
        """Return what happened to a meter, and whether minutes of it are missing."""
        mark = Mark(int(self.marks[place]))
        return mark if self.known[place] >= self.interval.minutes else mark | Mark.MISSING

    def marks_of(self, places: Sequence[int]) -> Mark:
        """Return what happened to any of some meters."""
        mark = Mark(0)
        for place in places:
            mark |= self.mark(place)
        return mark

    def by_since(self, place: int) -> dict[int, int]:
        """Return a meter's energy by the instant since which the same factors hold."""
        found = dict[int, int]()
        for (since, *_), energy in self.charged.items():
            found[since] = found.get(since, 0) + int(energy[place])
        return found

    def by_price(self, place: int) -> dict[tuple[int, float], int]:
        """Return a meter's energy by rate and price."""
        found = dict[tuple[int, float], int]()
        for (_, rate, price), energy in self.charged.items():
            found[rate, price] = found.get((rate, price), 0) + int(energy[place])
        return found

    def cost(self, place: int) -> float | None:
        """Return what a meter's energy costs; None where some of it has no known price."""
        parts = self.by_price(place)
        if any(price < 0 and energy for (_, price), energy in parts.items()):
            return None
        return math.fsum(energy / MILLIONTHS * price for (_, price), energy in sorted(parts.items()))


class Book:
    """The pages of one level, by where they begin."""

    def __init__(self, level: Level, grid: Grid, meters: int) -> None:
        self.level = level
        self.pages: dict[int, Page] = {}
        self._grid = grid
        self._meters = meters

    def post(self, minute: int, meters: NDArray[np.int32], energy: I64, known: I64, marks: I64, charge: Charge) -> None:
        """Add one minute of some meters: (k,) each. For a correction, energy is the difference and known is 0."""
        interval = self._grid.interval(self.level, minute)
        page = self.pages.get(interval.begin)
        if page is None:
            page = self.pages[interval.begin] = Page.blank(interval, self._meters)
        page.energy[meters] += energy
        page.known[meters] += known
        page.marks[meters] |= marks
        page.changed[meters] = True
        if charge not in page.charged:
            page.charged[charge] = np.zeros(self._meters, np.int64)
        page.charged[charge][meters] += energy

    def issue(self, until: I64, now: int, patience: int) -> Iterator[tuple[Page, NDArray[np.intp]]]:
        """Yield each page with the meters whose figures are to be given out now; they count as given out.

        Args:
            until: int64[m], up to where a meter's minutes are known.
            now: event time.
            patience: ns after an interval's end when it is given out with what there is.
        """
        for begin in sorted(self.pages):
            page = self.pages[begin]
            if page.interval.end > now:
                continue
            ready = (until >= page.interval.end) | (now >= page.interval.end + patience)
            due = page.changed & ready
            if due.any():
                page.revision[due] += 1
                page.changed[due] = False
                yield page, np.flatnonzero(due)

    def restate(self, again: Callable[[Charge, int], Charge]) -> None:
        """Let everything that was given out be given out again: what it is made with has changed.

        `again` says what energy is charged with now, given the charge of then and where its interval begins.
        """
        for begin, page in self.pages.items():
            page.changed |= page.revision != NOT_ISSUED
            charged, page.charged = page.charged, {}
            for charge, energy in charged.items():
                now = again(charge, begin)
                page.charged[now] = page.charged[now] + energy if now in page.charged else energy

    def forget(self, before: int, until: I64) -> None:
        """Let go of pages that ended before an instant, but for those in which a meter's known minutes stop.

        Should that meter come back, the rest of the page is still to be filled.
        """
        for begin in [begin for begin, page in self.pages.items() if page.interval.end <= before]:
            if not ((until > begin) & (until < self.pages[begin].interval.end)).any():
                del self.pages[begin]

    def state(self) -> list[Any]:
        """Return everything as CBOR types."""
        return [
            [
                page.interval.begin,
                page.interval.end,
                page.energy.tobytes(),
                page.known.tobytes(),
                page.marks.tobytes(),
                page.revision.tobytes(),
                page.changed.tobytes(),
                [[*charge, energy.tobytes()] for charge, energy in sorted(page.charged.items())],
            ]
            for page in (self.pages[begin] for begin in sorted(self.pages))
        ]

    def restore(self, state: list[Any], places: Mapping[int, int]) -> None:
        """Take a state up; `places` says where a meter of that time stands now."""
        old, new = list(places), list(places.values())
        for begin, end, energy, known, marks, revision, changed, charged in state:
            page = Page.blank(Interval(begin, end), self._meters)
            for column, data in (("energy", energy), ("known", known), ("marks", marks), ("revision", revision)):
                getattr(page, column)[new] = np.frombuffer(data, np.int64)[old]
            page.changed[new] = np.frombuffer(changed, np.bool_)[old]
            for since, rate, price, data in charged:
                page.charged[since, rate, price] = np.zeros(self._meters, np.int64)
                page.charged[since, rate, price][new] = np.frombuffer(data, np.int64)[old]
            self.pages[begin] = page
