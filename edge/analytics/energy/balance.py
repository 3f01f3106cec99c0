"""The meter tree: what a meter shows against the sum of those below it (GB/T 28751 balance, GB 17167 classes)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """What a residual means."""

    WITHIN_TOLERANCE = "within_tolerance"
    UNMETERED_LOAD = "unmetered_load"
    CHILDREN_EXCEED_PARENT = "children_exceed_parent"


@dataclass(frozen=True, slots=True)
class Branch:
    """A meter in a balance.

    energy          of the interval, in the parent's unit
    accuracy_class  percent of what it shows, e.g. 0.5
    sign            +1 drawn from the parent, -1 fed into it
    share           how much of it belongs here, for a load that several share
    """

    energy: float
    accuracy_class: float = 1.0
    sign: int = 1
    share: float = 1.0


@dataclass(frozen=True, slots=True)
class Balance:
    """A parent against its children.

    residual   parent - Σ sign · share · child
    tolerance  what the classes, and clocks that differ, allow
    """

    parent: float
    children: float
    residual: float
    tolerance: float

    @property
    def verdict(self) -> Verdict:
        """What the residual says. Children beyond the parent point to a wrong transformer ratio or wiring."""
        if abs(self.residual) <= self.tolerance:
            return Verdict.WITHIN_TOLERANCE
        return Verdict.UNMETERED_LOAD if self.residual > 0 else Verdict.CHILDREN_EXCEED_PARENT

    @property
    def percent(self) -> float:
        """The residual in percent of the parent; NaN if that shows nothing."""
        return 100 * self.residual / self.parent if self.parent else math.nan


def balance(parent: Branch, children: Sequence[Branch], clock_error: float = 0.0) -> Balance:
    """Return the balance of one interval.

    Args:
        parent: its `sign` and `share` do not count.
        children: what hangs below it.
        clock_error: share of the interval by which the meters' clocks may differ; so much of the parent's energy may
            have been counted into the neighbouring interval.
    """
    drawn = math.fsum(child.sign * child.share * child.energy for child in children)
    errors = [parent.accuracy_class * parent.energy]
    errors += [child.accuracy_class * child.share * child.energy for child in children]
    tolerance = math.sqrt(math.fsum(error * error for error in errors)) / 100 + clock_error * abs(parent.energy)
    return Balance(parent.energy, drawn, math.fsum([parent.energy, -drawn]), tolerance)
