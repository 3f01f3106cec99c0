"""Overall equipment effectiveness and its parts (ISO 22400-2:2014)."""

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Oee:
    """The figures of one machine and period. NaN where there is nothing to divide by.

    availability   actual production time / planned busy time
    effectiveness  planned run time per item · produced quantity / actual production time (performance)
    quality        good quantity / produced quantity
    """

    availability: float
    effectiveness: float
    quality: float

    @property
    def oee(self) -> float:
        """The product of the three."""
        return self.availability * self.effectiveness * self.quality

    @property
    def cycle_is_wrong(self) -> bool:
        """Whether it made more than it can: the ideal cycle is set too long. Shown, never cut to 1."""
        return self.effectiveness > 1


def oee(planned: float, producing: float, ideal_cycle: float, produced: float, good: float) -> Oee:
    """Return availability, effectiveness and quality.

    Args:
        planned: planned busy time, any unit of time.
        producing: actual production time, in the same.
        ideal_cycle: planned run time per item, in the same.
        produced: items made, good or not.
        good: good items.
    """
    return Oee(_ratio(producing, planned), _ratio(ideal_cycle * produced, producing), _ratio(good, produced))


def mtbf(operating: float, failures: int) -> float:
    """Return the mean operating time between failures; infinite while there was none."""
    return operating / failures if failures else math.inf


def mttr(repairing: float, failures: int) -> float:
    """Return the mean time to restore; NaN while there was no failure."""
    return _ratio(repairing, failures)


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole > 0 else math.nan
