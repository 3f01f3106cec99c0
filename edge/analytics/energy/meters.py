"""Meters: from readings of registers and powers to energy between any two instants, in any order of arrival."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.analytics.energy import points as kernels
from edge.analytics.energy.marks import COUNTED, FIXED, RATIO, REBASED
from edge.analytics.energy.spec import Change, MeterSpec
from edge.analytics.operator import NEVER

MILLIONTHS = 1_000_000
"""Energy is counted in whole millionths of the meter's unit."""

ROOM_BYTES = 32 * 2**20
"""What the points of all meters may take."""

_NO_CHANGE = np.iinfo(np.int64).max
_ROOM_LEAST, _ROOM_MOST = 256, 8192


@dataclass(slots=True)
class Dirty:
    """Where a meter's energy may differ from what was measured before: from and to in ns since 1970 UTC."""

    meter: int
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class Judged:
    """A reading and what was made of it.

    ts, raw                instant in ns since 1970 UTC, raw value
    flags                  of `marks`
    before_ts, before_raw  the counted reading before it
    counted                millionths between the two
    """

    ts: int
    raw: float
    flags: int
    before_ts: int
    before_raw: float
    counted: int


class Meters:
    """The points of many meters.

    Args:
        specs: the meters; their place in this list is how they are called from here on.
        gap: ns from which on what lies between two readings counts as interpolated.
        cell: ns in which only the first and the last reading of a register matter. Every edge asked for should lie
            on its grid: then what is measured is exact, else it is interpolated inside a cell.
        room: points kept of a register; None for as many as fit the budget. What arrives for an instant before the
            oldest point is counted as late.
        power_room: the same for a power, every reading of which matters. Default: `room`.
    """

    def __init__(
        self,
        specs: Sequence[MeterSpec],
        *,
        gap: int = 900 * 10**9,
        cell: int = 60 * 10**9,
        room: int | None = None,
        power_room: int | None = None,
    ) -> None:
        self.specs = tuple(specs)
        self._gap, self._cell = gap, cell
        each = ROOM_BYTES // max(len(specs), 1) // kernels.POINT.itemsize
        room = room or min(max(each, _ROOM_LEAST), _ROOM_MOST)
        rooms = [max(room, power_room or 0) if spec.power else room for spec in specs]
        self._points = np.zeros((len(specs), max(rooms, default=room)), kernels.POINT)
        self._meters = np.zeros(len(specs), kernels.METER)
        self._meters["room"] = rooms
        self._next_change = np.full(len(specs), np.iinfo(np.int64).max)
        self._changes = [list(spec.changes) for spec in specs]
        self._applied: list[list[Change]] = [[] for _ in specs]
        scales = list[tuple[int, float]]()
        for place, spec in enumerate(specs):
            meter = self._meters[place]
            meter["kind"] = kernels.POWER if spec.power else kernels.REGISTER
            meter["modulus"] = spec.modulus
            meter["top"] = np.inf if spec.top is None else spec.top
            meter["fast_until"] = NEVER
            meter["first_scale"] = len(scales)
            scales.append((NEVER, spec.per * MILLIONTHS))
            scales += [(change.ts, change.per * MILLIONTHS) for change in spec.changes if change.per is not None]
            meter["scales"] = len(scales) - meter["first_scale"]
            if spec.changes:
                self._next_change[place] = spec.changes[0].ts
        self._scales = np.array(scales, kernels.SCALE)
        self._clean()

    def take(self, meter: NDArray[np.int32], ts: NDArray[np.int64], value: NDArray[np.float64]) -> None:
        """Take readings, in any order; those that are not finite are left out.

        Args:
            meter: (n,) i4, places in `specs`.
            ts: (n,) i8, ns since 1970 UTC.
            value: (n,) f8, raw units.
        """
        finite = np.isfinite(value)
        if not finite.all():
            meter, ts, value = meter[finite], ts[finite], value[finite]
        due = ts >= self._next_change[meter]
        if due.any():
            for place in np.unique(meter[due]):
                self._change(int(place), int(ts[due & (meter == place)].max()))
        kernels.push(self._points, self._meters, self._scales, self._gap, self._cell, meter, ts, value)

    def _change(self, place: int, until: int) -> None:
        """Set the points of all changes up to an instant."""
        left = self._changes[place]
        while left and left[0].ts <= until:
            change = left.pop(0)
            self._applied[place].append(change)
            if change.end is not None:
                self._insert(place, change.ts, change.end, FIXED)
            elif change.per is not None:
                self._insert(place, change.ts, 0.0, RATIO | FIXED)
            if change.start is not None:
                self._insert(place, change.ts, change.start, REBASED | FIXED)
        self._next_change[place] = left[0].ts if left else np.iinfo(np.int64).max

    def _insert(self, place: int, ts: int, raw: float, mark: int) -> None:
        row, meter = self._points[place], self._meters[place]
        kernels.insert(row, meter, self._scales, self._gap, self._cell, ts, raw, mark)

    def measure(
        self, which: NDArray[np.int32], edges: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the energy of some meters between neighbouring edges, and what happened there.

        Args:
            which: (k,) i4, places in `specs`.
            edges: (n,) i8, ns since 1970 UTC, ascending.

        Returns:
            (k, n - 1) i8 in millionths of the meter's unit, and (k, n - 1) i8 of `Mark`.
        """
        out = np.empty((len(which), len(edges) - 1), np.int64)
        marks = np.empty_like(out)
        kernels.intervals(self._points, self._meters, self._scales, self._gap, self._cell, which, edges, out, marks)
        return out, marks

    def dirty(self) -> list[Dirty]:
        """Return where energy may have changed since the last call, by meter."""
        touched = np.flatnonzero(self._meters["dirty_from"] <= self._meters["dirty_to"])
        # The last reading may have moved on the short way since.
        found = [
            Dirty(
                int(place),
                int(self._meters["dirty_from"][place]),
                int(max(self._meters["dirty_to"][place], self._meters["last_ts"][place])),
            )
            for place in touched
        ]
        self._clean()
        return found

    def _clean(self) -> None:
        self._meters["dirty_from"] = np.iinfo(np.int64).max
        self._meters["dirty_to"] = np.iinfo(np.int64).min

    def oldest(self, place: int) -> int:
        """Return the instant before which readings are too late; the beginning of time while nothing was let go."""
        return int(self._points[place, 0]["ts"]) if self._meters[place]["let_go"] else NEVER

    def before(self, place: int, ts: int) -> int:
        """Return the instant of the newest counted point before `ts`; the beginning of time for none."""
        mine = self._points[place, : self._meters[place]["count"]]
        earlier = np.flatnonzero((mine["ts"] < ts) & (mine["flags"] & COUNTED != 0))
        return int(mine["ts"][earlier[-1]]) if len(earlier) else NEVER

    def judged(self, place: int, begin: int, end: int, mask: int) -> Iterator[Judged]:
        """Yield the points of a meter between two instants, both included, that have one of these flags."""
        mine = self._points[place, : self._meters[place]["count"]]
        first, last = np.searchsorted(mine["ts"], [begin, end + 1])
        for at in (first + np.flatnonzero(mine["flags"][first:last] & mask)).tolist():
            earlier = np.flatnonzero(mine["flags"][:at] & COUNTED)
            if len(earlier):
                here, before = mine[at], mine[earlier[-1]]
                counted = int(here["energy"] - before["energy"])
                yield Judged(
                    int(here["ts"]),
                    float(here["raw"]),
                    int(here["flags"]),
                    int(before["ts"]),
                    float(before["raw"]),
                    counted,
                )

    def counted(self, place: int, ts: int) -> int:
        """Return the millionths counted since the first reading up to an instant; the meter must have a reading."""
        mine = self._points[place, : self._meters[place]["count"]]
        first = int(np.argmax(mine["flags"] & COUNTED != 0))
        since, _ = self.measure(np.array([place], np.int32), np.array([NEVER, ts], np.int64))
        return int(self._points[place, first]["energy"] + since[0, 0])

    def latest(self) -> NDArray[np.int64]:
        """Return the instant of each meter's last reading; the beginning of time for none."""
        return np.where(self._meters["count"] > 0, self._meters["last_ts"], NEVER)

    def earliest(self, place: int) -> int:
        """Return the instant of a meter's oldest point; it must have one."""
        return int(self._points[place, 0]["ts"])

    def state(self) -> dict[str, Any]:
        """Return everything as CBOR types, small: columns whose neighbours resemble each other, byte by byte."""
        counts = self._meters["count"].tolist()
        used = np.concatenate([self._points[place, :count] for place, count in enumerate(counts)])
        steps = np.diff(used["ts"], prepend=np.int64(0)), np.diff(used["energy"], prepend=np.int64(0))
        return {
            "meters": self._meters.tobytes(),
            "ts": shuffled(steps[0]),
            "energy": shuffled(steps[1]),
            "raw": shuffled(used["raw"].copy().view(np.int64)),
            "flags": shuffled(used["flags"].copy()),
            "applied": [[[each.ts, each.per, each.end, each.start] for each in done] for done in self._applied],
        }

    def restore(self, state: Mapping[str, Any], places: Mapping[int, int]) -> None:
        """Take up a state; `places` says where a meter of that time stands now, in the same unit.

        An exchange or a ratio that was written since counts from its instant on, also where that has passed: what
        differs is dirty. Of a meter whose past changes are others now, nothing is taken up.
        """
        meters = np.frombuffer(state["meters"], kernels.METER)
        used = np.zeros(int(meters["count"].sum()), kernels.POINT)
        for column in ("ts", "energy"):
            used[column] = np.cumsum(unshuffled(state[column], np.int64))
        used["raw"] = unshuffled(state["raw"], np.int64).view(np.float64)
        used["flags"] = unshuffled(state["flags"], np.int64)
        begins = np.concatenate([[0], np.cumsum(meters["count"])])
        for old, place in places.items():
            mine = used[begins[old] : begins[old + 1]]
            room = self._meters[place]["room"]
            kept = mine[-room:]
            self._points[place, : len(kept)] = kept
            first = self._meters[place]["first_scale"]
            self._meters[place] = meters[old]
            self._meters[place]["first_scale"] = first
            self._meters[place]["room"], self._meters[place]["count"] = room, len(kept)
            self._meters[place]["let_go"] += len(mine) - len(kept)
            spec, done = self.specs[place], [Change(*each) for each in state["applied"][old]]
            self._meters[place]["modulus"] = spec.modulus
            self._meters[place]["top"] = np.inf if spec.top is None else spec.top
            self._meters[place]["scales"] = 1 + sum(change.per is not None for change in spec.changes)
            self._applied[place] = done
            self._changes[place] = [change for change in spec.changes if change not in done]
            self._next_change[place] = self._changes[place][0].ts if self._changes[place] else _NO_CHANGE
            last = int(self._meters[place]["last_ts"])
            if len(kept) and self._next_change[place] <= last:
                self._change_past(place, last)

    def is_dirty(self) -> bool:
        """Whether energy may have changed since `dirty` was asked."""
        return bool(np.any(self._meters["dirty_from"] <= self._meters["dirty_to"]))

    def goes_on(self, state: Mapping[str, Any], old: int, place: int) -> bool:
        """Whether a meter's changes that have been taken into account are still those of its spec."""
        return all(Change(*each) in self.specs[place].changes for each in state["applied"][old])

    def _change_past(self, place: int, last: int) -> None:
        """Set the points of changes that have passed, and judge everything again with them."""
        since = int(self._next_change[place])
        self._change(place, last)
        row, meter = self._points[place], self._meters[place]
        kernels.settle(row, meter, self._scales, self._gap, 0, int(meter["count"]))
        meter["dirty_from"], meter["dirty_to"] = self.before(place, since), last
        if meter["dirty_from"] == NEVER:
            meter["dirty_from"] = since

    def counts(self) -> dict[str, int]:
        """Return what was not taken as it came: `late` and `twice`, of all meters."""
        return {key: int(self._meters[key].sum()) for key in ("late", "twice")}


def shuffled(column: NDArray[Any]) -> bytes:
    """Return 8-byte values as bytes, all first bytes before all second ones: what is alike lies together."""
    return np.ascontiguousarray(column.reshape(-1).view(np.uint8).reshape(-1, 8).T).tobytes()


def unshuffled(data: bytes, dtype: Any) -> NDArray[Any]:
    """Return what `shuffled` was given, as one row."""
    back = np.frombuffer(data, np.uint8).reshape(8, -1).T
    return np.ascontiguousarray(back).reshape(-1).view(dtype)
