"""Meters as the kernels need them: what a reading means, and what happened to a meter in its life."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Change:
    """What happened to a meter at an instant: another meter in its place, another transformer ratio, or both.

    ts          ns since 1970 UTC
    per         meter's units a raw unit from here on; None if that stays
    end, start  the last reading of the old meter and the first of the new one; None if it is the same meter
    """

    ts: int
    per: float | None = None
    end: float | None = None
    start: float | None = None


@dataclass(frozen=True, slots=True)
class MeterSpec:
    """A meter as the kernels need it.

    name     tells meters apart when a state is taken up again
    power    whether the readings are a power that is to be integrated; else a register that climbs
    per      meter's units a raw unit; for a power: units an hour
    modulus  where the register rolls over, raw units; 0 never
    top      the most it can climb a second, raw units; None if not known
    changes  in order of time
    """

    name: str
    power: bool = False
    per: float = 1.0
    modulus: float = 0.0
    top: float | None = None
    changes: tuple[Change, ...] = ()
