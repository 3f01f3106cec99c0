"""Finds the times in which nothing came, over whole columns."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

NEVER = np.int64(-(2**63))
GAP_MIN_NS = 5 * 10**9
"""A shorter one shows in the counts alone."""


class GapFinder:
    """Follows streams of readings by their place, 0, 1, 2, …

    A stream that owes a reading at each interval has a gap where one and a half intervals pass without: from the first
    reading that was missed to the next that came. One that reports by itself has one from when the gateway marked it as
    not reached to the next reading. A gap in which a stream begins is from when it began to be expected.
    """

    def __init__(self) -> None:
        self._every = np.empty(0, np.int64)
        self._watched = np.empty(0, np.bool_)
        self._marks = np.empty(0, np.int64)
        self._last = np.empty(0, np.int64)
        self._down = np.empty(0, np.int64)

    def expect(
        self,
        every: npt.NDArray[np.int64],
        watched: npt.NDArray[np.bool_],
        now: int,
        marks: npt.NDArray[np.int64] | None = None,
    ) -> None:
        """Say which streams are followed from now on, and their intervals in ns, 0 for those that report by themselves.

        `marks`: as many marks of one time say that such a stream is not reached; 1 where it is not given.
        """
        more = len(every) - len(self._last)
        self._last = np.append(self._last, np.full(more, NEVER))
        self._down = np.append(self._down, np.full(more, NEVER))
        self._every, self._watched = every, watched
        self._marks = np.ones(len(every), np.int64) if marks is None else np.maximum(marks, 1)
        begins = watched & (self._last == NEVER)
        self._last[begins] = now - every[begins]
        self._last[~watched] = self._down[~watched] = NEVER

    def take(
        self,
        place: npt.NDArray[np.intp],
        ts: npt.NDArray[np.int64],
        stored: npt.NDArray[np.int64],
        came: npt.NDArray[np.bool_],
    ) -> list[tuple[int, int, int]]:
        """Return (place, begin, end) of each gap that ends with these rows, which are in the order they came.

        `came` is false for marks that a stream is not reached.
        """
        found = list(self._ended(place, ts, stored, came))
        at, when = (place, ts) if came.all() else (place[came], ts[came])
        order = _in_order(at, when)
        at, when = at[order], when[order]
        if not len(at):
            return found
        first = np.append(True, at[1:] != at[:-1])
        before = np.where(first, self._last[at], np.append(np.int64(0), when[:-1]))
        before = np.maximum(before, self._last[at])  # what is late closes nothing
        every = self._every[at]
        wide = (before != NEVER) & (every > 0)
        passed = np.where(wide, when - np.where(wide, before, 0), 0)
        missed = wide & (2 * passed > 3 * every) & (passed - every >= GAP_MIN_NS)
        found += [
            (int(at[row]), int(before[row] + every[row]), int(when[row])) for row in np.flatnonzero(missed).tolist()
        ]
        np.maximum.at(self._last, at, when)
        return found

    def _ended(
        self,
        place: npt.NDArray[np.intp],
        ts: npt.NDArray[np.int64],
        stored: npt.NDArray[np.int64],
        came: npt.NDArray[np.bool_],
    ) -> Iterator[tuple[int, int, int]]:
        """Yield the gaps of streams that report by themselves; few are marked at a time."""
        marked = np.unique(place[~came])
        silent = self._every == 0
        for each in np.union1d(marked, np.flatnonzero(self._down != NEVER)).tolist():
            if not silent[each] or not self._watched[each]:
                continue
            rows = np.flatnonzero(place == each)
            arrived = rows[came[rows]]
            down, at = int(self._down[each]), -1
            times, first, count = np.unique(ts[rows[~came[rows]]], return_index=True, return_counts=True)
            places = rows[~came[rows]][first]
            marks = [(int(row), int(when)) for row, when, many in zip(places, times, count, strict=True)
                     if many >= self._marks[each]]  # fmt: skip
            for row, when in [*sorted(marks), (-1, 0)]:
                if down != NEVER:
                    ending = arrived[(arrived > at) & ((arrived < row) | (row < 0))]
                    if len(ending):
                        back = int(ts[ending[0]])
                        end = back if back > down else int(stored[ending[0]])
                        if end - down >= GAP_MIN_NS:
                            yield each, down, end
                        down = int(NEVER)
                if row >= 0 and down == NEVER:
                    down, at = when, row
            self._down[each] = down

    def open(self, now: int, patience_ns: int) -> list[tuple[int, int]]:
        """Return (place, begin) of gaps that have not ended, where nothing came for `patience_ns` and an interval."""
        since = np.where(self._every > 0, self._last + self._every, self._down)
        known = self._watched & np.where(self._every > 0, self._last != NEVER, self._down != NEVER)
        late = known & (now - np.where(known, since, now) > patience_ns)
        return [(int(place), int(since[place])) for place in np.flatnonzero(late)]

    def shift(self, by: int) -> None:
        """Move every time that is kept by so many ns."""
        self._last = np.where(self._last == NEVER, NEVER, self._last + by)
        self._down = np.where(self._down == NEVER, NEVER, self._down + by)

    def state(self) -> dict[str, Any]:
        """Return what it knows of the streams, as CBOR types."""
        names = ("every", "watched", "marks", "last", "down")
        return {name: getattr(self, f"_{name}").tolist() for name in names}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up a state."""
        self._watched = np.array(state["watched"], np.bool_)
        for name in ("every", "marks", "last", "down"):
            setattr(self, f"_{name}", np.array(state[name], np.int64))


def _in_order(place: npt.NDArray[np.intp], ts: npt.NDArray[np.int64]) -> npt.NDArray[np.intp]:
    """Return an order by place, then time. Mostly time is in order already, and a sort by small numbers is quick."""
    if np.all(ts[1:] >= ts[:-1]):
        small = place.astype(np.uint16) if place.max(initial=0) < 2**16 else place
        return np.argsort(small, kind="stable")
    return np.lexsort((ts, place))
