"""The charge for power factor (功率因数调整电费办法, (83)水电财字215号), counted in whole hundredths."""

from decimal import ROUND_HALF_UP, Decimal

STANDARDS = (90, 85, 80)
"""The standards in hundredths: 0.90 industry above 160 kVA, 0.85 other users from 100 kVA, 0.80 farming and bulk."""


def power_factor(kwh: float, kvarh: float) -> int:
    """Return the power factor of a month in hundredths, rounded half up: P / sqrt(P² + Q²).

    Args:
        kwh: active energy, not negative.
        kvarh: reactive energy, forward and reverse as the contract has it.

    Raises:
        ValueError: no active energy, so there is no power factor.
    """
    if kwh <= 0:
        raise ValueError("without active energy there is no power factor")
    active, reactive = Decimal(repr(float(kwh))), Decimal(repr(float(kvarh)))
    ratio = active / (active * active + reactive * reactive).sqrt()
    return int((ratio * 100).quantize(Decimal(1), ROUND_HALF_UP))


def adjustment(hundredths: int, standard: int = 90) -> Decimal:
    """Return the adjustment in percent of the charges: below zero is a reward.

    Args:
        hundredths: the power factor, e.g. 89 for 0.89.
        standard: 90, 85 or 80.

    Raises:
        ValueError: no such standard, or no power factor.

    Source: (83)水电财字215号; 0.90 cross-checked, 0.85 and 0.80 from one public table (medium confidence).
    """
    if standard not in STANDARDS:
        raise ValueError(f"the standard is one of {STANDARDS}, not {standard}")
    if not 0 <= hundredths <= 100:
        raise ValueError(f"{hundredths} hundredths is no power factor")
    if hundredths >= standard:
        return -_reward(hundredths, standard)
    # 0.5 % a hundredth for the first twenty, 1 % for the next five, then 2 %.
    below = standard - hundredths
    if below <= 20:
        return Decimal(below) / 2
    if below <= 25:
        return Decimal(10) + (below - 20)
    return Decimal(15) + 2 * (below - 25)


def _reward(hundredths: int, standard: int) -> Decimal:
    if standard == 90:
        return Decimal("0.15") * min(hundredths - 90, 5)
    first = Decimal("0.1") * min(hundredths - standard, 90 - standard)
    return first + Decimal("0.15") * max(0, min(hundredths - 90, 4 if standard == 85 else 2))
