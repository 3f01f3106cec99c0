"""A tool by the load it makes: features of one run of an operation, and what is normal for that operation and tool.

An operation is compared with itself only. What is normal is learned from the first runs after a new tool; runs that lie
above what earlier tools did when they were new teach nothing.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edge.analytics.condition.gate import CONFIRM, Confirmed
from edge.analytics.condition.statistics.baseline import MAD_TO_SIGMA

SNIPPET = 1024
SIGMAS = 4.0
SIGMA_SHARE_MIN = 0.02
UNSTEADY_SHARE = 0.5
"""First runs that scatter by more than this part of the limit are no baseline; then the next ones are tried."""

FALL = 0.5
"""A load below this part of its baseline: the tool is broken, or does not cut."""

HISTORY_MAX, TREND_MIN = 30, 8
TREND_Z = 2.33
"""Of Mann and Kendall's test: a trend that chance makes once in a hundred times is none."""

TOOLS_MAX = 9
UNKNOWN_MAX = 0.1
"""A run of which more is not known has no features."""


@dataclass(slots=True)
class Sums:
    """What one load did in one run so far: its last value holds until the next.

    known, unknown    how long its value was known, and was not, ns
    area, square      its integrals over time, and of its square
    steps, count      sum of the squares of its changes, and their number
    shown             time since the begin and value of each reading, thinned where there are too many
    """

    known: int = 0
    unknown: int = 0
    area: float = 0.0
    square: float = 0.0
    peak: float = -math.inf
    steps: float = 0.0
    count: int = 0
    shown: list[list[float]] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """How long it took, known or not."""
        return (self.known + self.unknown) / 1e9

    def hold(self, value: float, ns: int) -> None:
        """Let a value hold for so long; NaN is not known."""
        if math.isnan(value):
            self.unknown += ns
            return
        self.known += ns
        seconds = ns / 1e9
        self.area += value * seconds
        self.square += value * value * seconds
        self.peak = max(self.peak, value)

    def step(self, change: float) -> None:
        """Take a change from one reading to the next."""
        if not math.isnan(change):
            self.steps += change * change
            self.count += 1

    def show(self, seconds: float, value: float) -> None:
        """Keep a reading for the evidence."""
        if math.isnan(value):
            return
        self.shown.append([seconds, value])
        if len(self.shown) > 2 * SNIPPET:
            self.shown = self.shown[::2]

    def features(self) -> dict[str, float] | None:
        """Return mean, RMS, peak and ripple in the load's unit; None where too little of it is known.

        Ripple is what changes from reading to reading: the root of half the mean square of the changes, which is the
        standard deviation of noise and does not see a slow course (von Neumann 1941).
        """
        if self.known <= 0 or self.unknown > UNKNOWN_MAX * (self.known + self.unknown):
            return None
        seconds = self.known / 1e9
        return {
            "mean": self.area / seconds,
            "rms": math.sqrt(self.square / seconds),
            "peak": self.peak,
            "ripple": math.sqrt(self.steps / (2 * self.count)) if self.count else math.nan,
        }

    def snippet(self) -> tuple[list[float], float]:
        """Return the course of the load as equally spaced samples, and their rate in Hz."""
        times, values = (np.array(each) for each in zip(*self.shown, strict=True))
        seconds = max(self.seconds, 1e-3)
        at = np.arange(SNIPPET) * (seconds / SNIPPET)
        return values[np.maximum(np.searchsorted(times, at, side="right") - 1, 0)].tolist(), SNIPPET / seconds

    def state(self) -> list[Any]:
        """Return it as plain values."""
        return [self.known, self.unknown, self.area, self.square, self.peak, self.steps, self.count, self.shown]


@dataclass(slots=True)
class Wear:
    """What is known of one load in one operation with one tool since it was new.

    seen      means of the runs that shall become the baseline
    normal    the baseline's median, `limit` above it begins wear; NaN while it is learned
    earlier   medians of the tools before, when they were new
    parts     runs since the tool was new
    history   number and rise over the baseline of the last runs
    refused   runs that were not learned because they lie above what earlier tools did, `unsteady` that scattered
    """

    seen: list[float] = field(default_factory=list)
    normal: float = math.nan
    limit: float = math.nan
    earlier: list[float] = field(default_factory=list)
    parts: int = 0
    refused: int = 0
    unsteady: int = 0
    history: list[list[float]] = field(default_factory=list)
    worn: Confirmed = field(default_factory=Confirmed)
    lost: Confirmed = field(default_factory=Confirmed)
    window: list[list[Any]] = field(default_factory=list)

    def renew(self) -> bool:
        """Begin anew with a new tool; return whether an alarm ends with the old one."""
        if not math.isnan(self.normal):
            self.earlier = [*self.earlier, self.normal][-TOOLS_MAX:]
        was_on = self.worn.is_on or self.lost.is_on
        self.seen, self.normal, self.limit, self.parts, self.refused = [], math.nan, math.nan, 0, 0
        self.history, self.window, self.unsteady = [], [], 0
        self.worn, self.lost = Confirmed(), Confirmed()
        return was_on

    def reference(self, rise: float) -> tuple[float, float]:
        """Return what is normal and the limit; of earlier tools while this one's is not known. NaN for nothing."""
        if not math.isnan(self.normal) or not self.earlier:
            return self.normal, self.limit
        middle = float(np.median(self.earlier))
        return middle, middle + rise * abs(middle)

    def feed(self, at: int, mean: float, runs: int, rise: float) -> tuple[bool, bool]:
        """Take the mean of a run; return whether wear, and whether loss of the tool, begins or ends with it.

        runs: how many make a baseline; rise: the share by which a load may rise over it.
        """
        self.parts += 1
        normal, limit = self.reference(rise)
        self.window = [*self.window, [at, mean]][-CONFIRM:]
        changes = False, False
        if not math.isnan(normal):
            changes = self.worn.feed(mean > limit), self.lost.feed(mean < FALL * normal)
        if math.isnan(self.normal):
            self._learn(mean, limit, normal, runs, rise)
        if not math.isnan(self.normal):
            self.history = [*self.history, [self.parts, mean / self.normal - 1]][-HISTORY_MAX:]
        return changes

    def _learn(self, mean: float, limit: float, before: float, runs: int, rise: float) -> None:
        if mean > limit or mean < FALL * before or not mean > 0:
            self.refused += 1
            return
        self.seen.append(mean)
        if len(self.seen) < runs:
            return
        values = np.array(self.seen)
        middle = float(np.median(values))
        sigma = max(MAD_TO_SIGMA * float(np.median(np.abs(values - middle))), SIGMA_SHARE_MIN * middle)
        if SIGMAS * sigma > max(UNSTEADY_SHARE * rise, SIGMAS * SIGMA_SHARE_MIN) * middle and not self._is_enough(runs):
            self.unsteady += 1
            self.seen = self.seen[1:]
            return
        self.normal, self.limit, self.seen = middle, middle + max(SIGMAS * sigma, rise * middle), []

    def _is_enough(self, runs: int) -> bool:
        """After as many tries again it scatters for good: then its limit lies as far out."""
        return self.unsteady >= runs

    def trend(self) -> tuple[float, float] | None:
        """Return rise in percent a run (Theil and Sen), and runs left until the limit; None without a clear trend."""
        if len(self.history) < TREND_MIN or math.isnan(self.normal):
            return None
        x, y = np.array(self.history).T
        first, second = np.triu_indices(x.size, 1)
        n, score = x.size, float(np.sign(y[second] - y[first]).sum())
        if score < TREND_Z * math.sqrt(n * (n - 1) * (2 * n + 5) / 18):
            return None
        slope = float(np.median((y[second] - y[first]) / (x[second] - x[first])))
        if not slope > 0:
            return None
        now = float(np.median(y - slope * (x - x[-1])))
        return 100 * slope, max((self.limit / self.normal - 1 - now) / slope, 0.0)

    def state(self) -> list[Any]:
        """Return it as plain values."""
        return [
            self.seen, self.normal, self.limit, self.earlier, self.parts, self.refused, self.unsteady, self.history,
            self.worn.state(), self.lost.state(), self.window,
        ]  # fmt: skip

    @classmethod
    def of(cls, state: Sequence[Any]) -> "Wear":
        """Return what `state` told."""
        seen, normal, limit, earlier, parts, refused, unsteady, history, worn, lost, window = state
        known = seen, normal, limit, earlier, parts, refused, unsteady, history
        return cls(*known, Confirmed(*worn), Confirmed(*lost), window)


@dataclass(slots=True)
class Run:
    """One run of an operation, from the first cut to the last. `stopped`: since when it does not cut; None while so."""

    operation: str
    tool: str
    begin: int
    loads: dict[str, Sums]
    stopped: int | None = None

    def state(self) -> list[Any]:
        """Return it as plain values."""
        loads = {name: sums.state() for name, sums in self.loads.items()}
        return [self.operation, self.tool, self.begin, loads, self.stopped]

    @classmethod
    def of(cls, state: Sequence[Any]) -> "Run":
        """Return what `state` told."""
        operation, tool, begin, loads, stopped = state
        return cls(operation, tool, begin, {name: Sums(*each) for name, each in loads.items()}, stopped)


Key = tuple[str, str, str]
"""Operation, tool, load."""


def trimmed(known: Mapping[Key, Wear], most: int) -> dict[Key, Wear]:
    """Return the last used of what is known."""
    return dict(list(known.items())[-most:])
