"""The judgement of one amplitude of one machine: zone, change from its baseline, drift, and what life remains."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median
from typing import Any

from edge.analytics.condition.gate import CONFIRM, Confirmed, ConfirmedZone
from edge.analytics.condition.severity import CRITERION_II_SHARE, TRIP_FACTOR, Limits, alarm_limit, trip_limit, zone
from edge.analytics.condition.statistics.baseline import Baseline
from edge.analytics.condition.statistics.drift import Drift
from edge.analytics.condition.statistics.remaining import CONFIDENCE, POINTS_MIN, likelier
from edge.core.batch import Severity

BLOCK_NS = 600 * 10**9
"""Baseline and drift are made of medians over ten minutes of running: single readings depend on each other."""

BLOCKS_OF_HOUR = 6
HISTORY_MAX = 168
"""Hours that remaining life is told from."""

ZONE, CHANGE, HIGH, DRIFT = "zone", "criterion II", "baseline", "drift"


@dataclass(frozen=True, slots=True)
class Finding:
    """An alarm of a rule begins, changes its severity, or ends (`is_on` false).

    since   when the first reading or block began on which it stands
    values  what it stands on, in order of time; the last is `value`
    """

    rule: str
    is_on: bool
    value: float
    limit: float
    severity: Severity
    clause: str
    since: int
    values: Sequence[float] = ()


@dataclass(slots=True)
class Judge:
    """What is known of one amplitude.

    borders  of the zones in its unit, None where no standard has any
    window   time and value of the last readings
    """

    borders: tuple[float, float, float] | None
    clause: str
    zone: ConfirmedZone = field(default_factory=ConfirmedZone)
    changed: Confirmed = field(default_factory=Confirmed)
    high: Confirmed = field(default_factory=Confirmed)
    baselines: dict[int, Baseline] = field(default_factory=dict)
    block: int = -1
    bin: int = 0
    values: list[float] = field(default_factory=list)
    drift: Drift = field(default_factory=Drift)
    history: list[list[float]] = field(default_factory=list)
    window: list[list[Any]] = field(default_factory=list)

    @property
    def is_alarmed(self) -> bool:
        """Whether any rule stands."""
        return self.zone.zone > "B" or self.changed.is_on or self.high.is_on or self.drift.is_on

    def feed(self, at: int, value: float, speed: int) -> list[Finding]:
        """Take a value of the settled machine, at a bin of speed; return which alarms begin, change or end with it."""
        if math.isnan(value):
            return []
        self.window = [*self.window, [at, value]][-CONFIRM:]
        if not self.is_alarmed and len(self.window) == CONFIRM:
            self.baselines.setdefault(speed, Baseline()).sustain([each for _, each in self.window])
        found = list(self._end_block(at, speed))
        self.values.append(value)
        baseline = self.baselines.get(speed)
        if self.borders is not None:
            before = self.zone.zone
            if self.zone.feed(zone(value, self.borders)):
                found += self._zone_change(before, value)
            if baseline is not None and baseline.is_ready:
                fell = value < baseline.median
                border = self._low_border(baseline) if fell else self._high_border(baseline)
                if self.changed.feed(value < border if fell else value > border):
                    found.append(self._finding(CHANGE, self.changed.is_on, value, border, Severity.MEDIUM))
        elif baseline is not None and baseline.is_ready and self.high.feed(value > baseline.high):
            found.append(self._finding(HIGH, self.high.is_on, value, baseline.high, Severity.MEDIUM))
        return found

    def _high_border(self, baseline: Baseline) -> float:
        """Return from where a change matters: a quarter of B/C, or what it did for as long while it was learned."""
        assert self.borders is not None
        limit = max(alarm_limit(baseline.median, self.borders), baseline.sustained_high)
        return min(limit, TRIP_FACTOR * self.borders[1])

    def _low_border(self, baseline: Baseline) -> float:
        assert self.borders is not None
        return min(baseline.median - CRITERION_II_SHARE * self.borders[1], baseline.sustained_low)

    def _zone_change(self, before: str, value: float) -> Iterator[Finding]:
        assert self.borders is not None
        after = self.zone.zone
        if after > "B":
            severity = Severity.HIGH if after == "D" else Severity.MEDIUM
            yield self._finding(ZONE, True, value, self.borders[1 if after == "C" else 2], severity)
        elif before > "B":
            yield self._finding(ZONE, False, value, self.borders[1], Severity.INFO)

    def _end_block(self, at: int, speed: int) -> Iterator[Finding]:
        """Close the ten minutes before, when they are over or the speed is another: learn, and look for drift."""
        block = at // BLOCK_NS
        if (block, speed) == (self.block, self.bin):
            return
        if self.values:
            middle = median(self.values)
            self._remember(self.block // BLOCKS_OF_HOUR, middle)
            baseline = self.baselines.setdefault(self.bin, Baseline())
            if baseline.is_ready:
                yield from self._drift(middle, baseline)
            else:
                baseline.learn(middle, is_well=not self.is_alarmed)
        self.block, self.bin, self.values = block, speed, []

    def _remember(self, hour: int, middle: float) -> None:
        """Keep the mean of an hour's medians: what one is read off by would be taken for the scatter of the rise."""
        if self.history and self.history[-1][0] == hour:
            _, mean, count = self.history[-1]
            self.history[-1] = [hour, mean + (middle - mean) / (count + 1), count + 1]
        else:
            self.history = [*self.history, [hour, middle, 1]][-HISTORY_MAX:]

    def _drift(self, middle: float, baseline: Baseline) -> Iterator[Finding]:
        """Take the median as a share of its baseline; told in the unit of the value at the present speed."""
        usual = baseline.median
        if usual <= 0:
            return
        is_well = not self.is_alarmed
        mean = self.drift.feed(self.block * BLOCK_NS, middle / usual, is_well=is_well)
        if mean is None:
            return
        leaning = self.drift.leaning or [[self.drift.since, mean]]
        window = [[at, share * usual] for at, share in leaning]
        limit = self.drift.limit(mean) * usual
        yield self._finding(DRIFT, self.drift.is_on, mean * usual, limit, Severity.LOW, window)

    def _finding(
        self,
        rule: str,
        is_on: bool,
        value: float,
        limit: float,
        severity: Severity,
        window: Sequence[Sequence[Any]] | None = None,
    ) -> Finding:
        clauses = {
            ZONE: self.clause,
            CHANGE: "ISO 20816-1, criterion II",
            HIGH: "own baseline: six robust sigma and twice the median",
            DRIFT: "own baseline: CUSUM of independent means, slack 1 sigma, learned over a week of running",
        }
        since, _ = (window := window or self.window)[0]
        values = [each for _, each in window]
        return Finding(rule, is_on, value, limit, severity if is_on else Severity.INFO, clauses[rule], since, values)

    def remaining(self) -> tuple[float, float, float] | None:
        """Return hours of life until the trip limit (low, median, high), only in alarm and where it rises at all."""
        if self.borders is None or not self.is_alarmed or len(self.history) < POINTS_MIN:
            return None
        rise = self._rise()
        if len(rise) < POINTS_MIN:
            return None
        times, values = zip(*((float(hour), mean) for hour, mean, _ in rise), strict=True)
        if any(after <= before for before, after in pairwise(times)):
            return None
        limit = trip_limit(Limits(self.clause, self.borders).velocity)
        baseline = self.baselines.get(self.bin)
        base = baseline.median if baseline is not None and baseline.is_ready else math.inf
        found = likelier(times, values, base, limit, CONFIDENCE, averaged=1.0)
        return (found.low, found.median, found.high) if math.isfinite(found.high) else None

    def _rise(self) -> list[list[float]]:
        """Return the medians since the last that was usual: what it was before it rose tells nothing of the rise."""
        baseline = self.baselines.get(self.bin)
        if baseline is None or not baseline.is_ready:
            return self.history
        usual = baseline.median + baseline.sigma
        last = max((place for place, (_, value, _) in enumerate(self.history) if value <= usual), default=-1)
        return self.history[last + 1 :]

    def state(self) -> dict[str, Any]:
        """Return it as CBOR types."""
        return {
            "zone": [self.zone.zone, self.zone.recent],
            "changed": self.changed.state(),
            "high": self.high.state(),
            "baselines": {str(key): value.state() for key, value in sorted(self.baselines.items())},
            "block": [self.block, self.bin, self.values],
            "drift": self.drift.state(),
            "history": self.history,
            "window": self.window,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up what `state` told."""
        self.zone = ConfirmedZone(*state["zone"])
        self.changed, self.high = Confirmed(*state["changed"]), Confirmed(*state["high"])
        self.baselines = {int(key): Baseline.of(value) for key, value in state["baselines"].items()}
        self.block, self.bin, self.values = state["block"]
        self.drift = Drift.of(state["drift"])
        self.history, self.window = state["history"], state["window"]
