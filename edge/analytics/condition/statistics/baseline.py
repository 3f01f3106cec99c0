"""What is normal for one value of one machine: learned once per bin of speed, robust, and not from a bad machine."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

LEARN_COUNT = 144
"""Values that make a baseline: a day of medians over ten minutes, for a plant has days and nights."""

MAD_TO_SIGMA = 1.4826
SIGMA_SHARE_MIN = 0.05
"""A spread below this share of the median is not believed: quiet minutes would make every later day an alarm."""

SPEED_BIN = 1.1
"""Speeds within a tenth belong together."""

SIGMAS = 6.0
DOUBLING = 2.0
"""An amplitude is high from six sigma and twice its baseline on: 6 dB is the step from one severity to the next."""


def speed_bin(rpm: float) -> int:
    """Return which bin a speed belongs to; 0 for a standing or unknown one."""
    return round(math.log(rpm) / math.log(SPEED_BIN)) if rpm > 0 else 0


@dataclass(slots=True)
class Baseline:
    """Median and spread of one value at one speed, frozen when enough was seen: a baseline that follows hides wear.

    refused  values that were not learned, because the machine was not well
    sustained_high, sustained_low  the farthest that readings in a row stayed at while it was learned
    """

    seen: list[float] = field(default_factory=list)
    median: float = math.nan
    sigma: float = math.nan
    refused: int = 0
    sustained_high: float = -math.inf
    sustained_low: float = math.inf

    @property
    def is_ready(self) -> bool:
        """Whether it is learned."""
        return not math.isnan(self.median)

    def learn(self, value: float, *, is_well: bool) -> None:
        """Take a value of the running machine; one that is not well (zone C or D, or in alarm) is refused."""
        if self.is_ready or math.isnan(value):
            return
        if not is_well:
            self.refused += 1
            return
        self.seen.append(value)
        if len(self.seen) < LEARN_COUNT:
            return
        values = np.array(self.seen)
        self.median = float(np.median(values))
        spread = MAD_TO_SIGMA * float(np.median(np.abs(values - self.median)))
        self.sigma = max(spread, SIGMA_SHARE_MIN * abs(self.median), 1e-12)
        self.seen = []

    def sustain(self, readings: Sequence[float]) -> None:
        """Take readings in a row of a machine that is well: what all of them are above, and below."""
        if not self.is_ready:
            self.sustained_high = max(self.sustained_high, min(readings))
            self.sustained_low = min(self.sustained_low, max(readings))

    def z(self, value: float) -> float:
        """Return the distance from the median in robust standard deviations; NaN while it is being learned."""
        return (value - self.median) / self.sigma

    @property
    def high(self) -> float:
        """The limit of an amplitude; NaN while it is being learned."""
        return max(self.median + SIGMAS * self.sigma, DOUBLING * self.median)

    def state(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {
            "seen": self.seen,
            "median": self.median,
            "sigma": self.sigma,
            "refused": self.refused,
            "sustained": [self.sustained_high, self.sustained_low],
        }

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> "Baseline":
        """Return what `state` told."""
        return cls(list(state["seen"]), state["median"], state["sigma"], state["refused"], *state["sustained"])
