"""What functions over time remember of a value. All of it is a function of the readings and their times alone.

A value holds until the next reading. A window is the time (now − length, now]; a reading leaves it at its own time
plus the length. Readings closer than a thousandth of the length are kept as one, so a window's memory has a bound.
"""

from dataclasses import dataclass
from typing import Any, TypeAlias

from edge.core.quality import StatusCode

PARTS = 1000

Value: TypeAlias = float | int | bool | str | None
Result: TypeAlias = tuple[Value, int]
"""A value with its StatusCode; None is a value nobody knows, and its quality is bad."""

WAITING: Result = (None, int(StatusCode.BAD_WAITING_FOR_INITIAL_DATA))
NO_VALUE: Result = (None, int(StatusCode.BAD_OUT_OF_RANGE))


@dataclass(slots=True)
class _Part:
    """Readings so close that they count as one. Times in ns; `area` is the sum of value × ns within the part.

    `known` is how many ns of it had a value. Of numbers that nobody knows, `last` is None.
    """

    first: int
    end: int
    last: Any
    low: Any
    high: Any
    total: Any
    count: int
    begin: Any
    area: Any = 0
    known: int = 0

    def add(self, at: int, value: Any) -> None:
        if self.last is not None:
            self.area += self.last * (at - self.end)
            self.known += at - self.end
        self.end, self.last = at, value
        if value is not None:
            self.begin = value if self.begin is None else self.begin
            self.low = value if self.low is None else min(self.low, value)
            self.high = value if self.high is None else max(self.high, value)
            self.total += value
            self.count += 1


class Window:
    """The readings of one value over the last `length` ns."""

    def __init__(self, length: int) -> None:
        self._length = length
        self._grid = max(length // PARTS, 1)
        self._began: int | None = None
        self._base: Any = None
        self._parts: list[_Part] = []

    def add(self, at: int, value: Any) -> None:
        """Take a reading; None is one without a value."""
        if self._began is None:
            self._began = at
        last = self._parts[-1] if self._parts else None
        if last is not None and last.first // self._grid == at // self._grid:
            last.add(at, value)
            return
        nothing = value is None
        self._parts.append(_Part(at, at, value, value, value, 0 if nothing else value, 0 if nothing else 1, value))

    def forget(self, now: int) -> None:
        """Let go what left the window."""
        gone = 0
        while gone < len(self._parts) and self._parts[gone].end <= now - self._length:
            gone += 1
        if gone:
            self._base = self._parts[gone - 1].last
            del self._parts[:gone]

    def due(self) -> int | None:
        """Return when the next reading leaves."""
        return self._parts[0].end + self._length if self._parts else None

    def value(self, name: str, now: int) -> Result:
        """Return a function of the window: avg, min, max, sum, count, delta or rate."""
        if self._began is None:
            return WAITING
        parts = self._parts
        if name == "count":
            return sum(part.count for part in parts), 0
        if name == "sum":
            return sum(part.total for part in parts), 0
        held = [self._base] if self._base is not None and (not parts or parts[0].first > now - self._length) else []
        if name in ("min", "max"):
            ends = [part.low if name == "min" else part.high for part in parts if part.low is not None]
            found = held + ends
            return ((min if name == "min" else max)(found), self._quality(now)) if found else NO_VALUE
        if name == "avg":
            return self._average(now)
        return self._change(name, now)

    def _average(self, now: int) -> Result:
        area, known = self._areas(now)
        if not known:
            last = self._parts[-1].last if self._parts else self._base
            return (last, 0) if last is not None else NO_VALUE
        return area / known, self._quality(now)

    def _areas(self, now: int) -> tuple[Any, int]:
        """Return the sum of value × ns over the window, and the ns that had a value."""
        area: Any = 0
        known, held, since = 0, self._base, now - self._length
        for part in self._parts:
            if held is not None and part.first > since:
                area += held * (part.first - since)
                known += part.first - since
            area += part.area
            known += part.known
            held, since = part.last, part.end
        if held is not None and now > since:
            area += held * (now - since)
            known += now - since
        return area, known

    def _quality(self, now: int) -> int:
        """Return good, or uncertain where some of the window's time has no value though readings had begun."""
        assert self._began is not None
        _, known = self._areas(now)
        covered = now - max(self._began, now - self._length)
        return int(StatusCode.UNCERTAIN_DATA_SUB_NORMAL) if known < covered else 0

    def _change(self, name: str, now: int) -> Result:
        start, since = self._base, now - self._length
        if start is None:
            first = next((part for part in self._parts if part.low is not None), None)
            if first is None:
                return NO_VALUE
            start, since = first.begin, first.first
        end = self._parts[-1].last if self._parts else self._base
        if end is None:
            return NO_VALUE
        if name == "delta":
            return end - start, 0
        return (float((end - start) * 10**9 / (now - since)), 0) if now > since else (0.0, 0)

    def state(self) -> list[Any]:
        """Return everything as CBOR types."""
        return [
            self._began,
            self._base,
            [
                [p.first, p.end, p.last, p.low, p.high, p.total, p.count, p.begin, p.area, p.known]
                for p in self._parts
            ],
        ]  # fmt: skip

    def restore(self, state: list[Any]) -> None:
        """Take a state up."""
        self._began, self._base, parts = state
        self._parts = [_Part(*part) for part in parts]

    def shift(self, by: int) -> None:
        """Move all times."""
        self._began = None if self._began is None else self._began + by
        for part in self._parts:
            part.first += by
            part.end += by


class Previous:
    """The last reading of a value and the one before."""

    def __init__(self) -> None:
        self._last: Any = None
        self._before: Any = None
        self._at = self._before_at = 0
        self._touched_at: int | None = None

    def add(self, at: int, value: Any) -> None:
        """Take a reading; None is one without a value."""
        self._touched_at = at
        if value is not None:
            self._before, self._before_at = self._last, self._at
            self._last, self._at = value, at

    def value(self, name: str, now: int) -> Result:
        """Return prev, changed, delta or rate."""
        if name == "changed":
            return (self._before is not None and self._touched_at == now == self._at and self._last != self._before), 0
        if self._before is None:
            return WAITING
        if name == "prev":
            return self._before, 0
        change = self._last - self._before
        if name == "delta":
            return change, 0
        return (float(change * 10**9 / (self._at - self._before_at)), 0) if self._at > self._before_at else NO_VALUE

    def forget(self, now: int) -> None:
        """Nothing leaves with time."""

    def due(self) -> int | None:
        """Nothing leaves with time."""
        return None

    def state(self) -> list[Any]:
        """Return everything as CBOR types."""
        return [self._last, self._before, self._at, self._before_at, self._touched_at]

    def restore(self, state: list[Any]) -> None:
        """Take a state up."""
        self._last, self._before, self._at, self._before_at, self._touched_at = state

    def shift(self, by: int) -> None:
        """Move all times."""
        self._at += by
        self._before_at += by
        self._touched_at = None if self._touched_at is None else self._touched_at + by


Memory: TypeAlias = Window | Previous
