"""Whether an amplitude creeps away from what it was: cumulative sums of independent means, over hours and days."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edge.analytics.condition.statistics.control import cusum_limit
from edge.analytics.condition.statistics.independence import Independent, across_halves, independent

BLOCKS = 6
"""Medians over ten minutes that make an hour."""

LEARN_HOURS = 168
LEARN_HOURS_MAX = 4 * LEARN_HOURS
"""A week of running: loads and weather change from day to day. Where its values depend on each other for long, up to
four, until there are `MEANS_MIN` independent means."""

MEANS_MIN = 14
SLACK = 1.0
CLIP = 4.0
"""Sigma that one mean counts at most."""

RUN_LENGTH = 1e6
"""Means between two false alarms that the limit is made for: were they Gaussian, none in a plant's life."""

SIGMA_MIN = 0.05
"""A spread below this share of the median is not believed, as for the baseline."""


@dataclass(slots=True)
class Drift:
    """Of one amplitude, as a share of its baseline at each speed, so that speeds may come and go.

    leaning  time and share of the means since the greater sum left zero
    """

    hour: list[float] = field(default_factory=list)
    seen: list[float] = field(default_factory=list)
    usual: Independent | None = None
    mean: list[float] = field(default_factory=list)
    since: int = 0
    sums: list[float] = field(default_factory=lambda: [0.0, 0.0])
    is_on: bool = False
    leaning: list[list[Any]] = field(default_factory=list)

    @property
    def is_refused(self) -> bool:
        """Whether what was learned does not do: its values depended on each other for too long."""
        return self.usual is not None and not self.usual.count

    @property
    def slack(self) -> float:
        """What a mean may lie off, in sigma."""
        assert self.usual is not None
        return SLACK + self.usual.bias

    def feed(self, at: int, share: float, *, is_well: bool) -> float | None:
        """Take the median over ten minutes as a share of its baseline.

        Returns the mean with which the alarm begins or ends, None otherwise. A machine that is not well teaches it
        nothing.
        """
        if self.usual is None and not is_well:
            return None
        if not self.hour and not self.mean:
            self.since = at
        self.hour.append(share)
        if len(self.hour) < BLOCKS:
            return None
        hour = math.fsum(self.hour) / BLOCKS
        self.hour = []
        if self.usual is None:
            self._learn(hour)
            return None
        if self.is_refused:
            return None
        self.mean.append(hour)
        if len(self.mean) < self.usual.count:
            return None
        mean = math.fsum(self.mean) / len(self.mean)
        self.mean = []
        return mean if self._step(mean) else None

    def _learn(self, hour: float) -> None:
        self.seen.append(hour)
        if len(self.seen) % LEARN_HOURS:
            return
        seen = np.array(self.seen)
        spread = float(np.sqrt((across_halves(seen[:, None]) ** 2).mean()))
        if spread <= SIGMA_MIN / 2:
            # So quiet that what is believed of the spread covers what its hours depend on each other.
            self.usual, self.seen = Independent(1, float(seen.mean()), SIGMA_MIN, 0.0), []
            return
        found = independent(seen, MEANS_MIN)
        if not found.count and len(self.seen) < LEARN_HOURS_MAX:
            return
        self.usual = Independent(found.count, found.mean, max(found.sigma, SIGMA_MIN), found.bias)
        self.seen = []

    def _step(self, mean: float) -> bool:
        """Take an independent mean into the sums; return whether the alarm begins or ends."""
        assert self.usual is not None
        z = min(max((mean - self.usual.mean) / self.usual.sigma, -CLIP), CLIP)
        limit = cusum_limit(SLACK, RUN_LENGTH)
        # Bounded, so that a long fault does not take as long again to be seen as over.
        self.sums = [
            min(max(0.0, each + side * z - self.slack), 2 * limit)
            for each, side in zip(self.sums, (1, -1), strict=True)
        ]
        self.leaning = [*self.leaning, [self.since, mean]][-LEARN_HOURS:] if max(self.sums) > 0 else []
        if self.is_on == (max(self.sums) > (0 if self.is_on else limit)):
            return False
        self.is_on = not self.is_on
        return True

    def limit(self, mean: float) -> float:
        """Return the share from which means count as drift, on the side of this one."""
        assert self.usual is not None
        return self.usual.mean + math.copysign(self.slack * self.usual.sigma, mean - self.usual.mean)

    def state(self) -> dict[str, Any]:
        """Return it as CBOR types."""
        usual = self.usual
        return {
            "hour": self.hour, "seen": self.seen, "mean": self.mean, "since": self.since, "sums": self.sums,
            "is on": self.is_on, "leaning": self.leaning,
            "usual": usual and [usual.count, usual.mean, usual.sigma, usual.bias],
        }  # fmt: skip

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> "Drift":
        """Return what `state` told."""
        usual = state["usual"] and Independent(*state["usual"])
        return cls(
            list(state["hour"]), list(state["seen"]), usual, list(state["mean"]), state["since"], list(state["sums"]),
            state["is on"], list(state["leaning"]),
        )  # fmt: skip
