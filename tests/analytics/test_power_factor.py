"""The charge for power factor, against the published table."""

from decimal import Decimal

import pytest

from edge.analytics.energy.power_factor import STANDARDS, adjustment, power_factor

NINETY = {100: "-0.75", 96: "-0.75", 95: "-0.75", 94: "-0.60", 92: "-0.30", 90: "0", 89: "0.5", 85: "2.5", 80: "5"}
NINETY |= {75: "7.5", 70: "10", 69: "11", 65: "15", 64: "17", 60: "25", 45: "55"}
EIGHTY_FIVE = {100: "-1.1", 94: "-1.1", 93: "-0.95", 91: "-0.65", 90: "-0.5", 86: "-0.1", 85: "0", 84: "0.5"}
EIGHTY_FIVE |= {65: "10", 64: "11", 60: "15", 59: "17", 45: "45"}
EIGHTY = {100: "-1.3", 92: "-1.3", 91: "-1.15", 90: "-1.0", 81: "-0.1", 80: "0", 60: "10", 59: "11", 55: "15", 54: "17"}


@pytest.mark.parametrize(("standard", "table"), [(90, NINETY), (85, EIGHTY_FIVE), (80, EIGHTY)])
def test_the_adjustment_is_that_of_the_table(standard: int, table: dict[int, str]) -> None:
    assert {at: adjustment(at, standard) for at in table} == {at: Decimal(percent) for at, percent in table.items()}


def test_a_worse_power_factor_never_costs_less() -> None:
    for standard in STANDARDS:
        charges = [adjustment(at, standard) for at in range(100, 0, -1)]
        assert charges == sorted(charges)


def test_a_months_energies_are_rounded_to_hundredths_before_the_table_is_read() -> None:
    assert power_factor(100_000, 50_000) == 89
    assert adjustment(power_factor(100_000, 50_000)) == Decimal("0.5")
    assert power_factor(1000, 0) == 100


def test_what_has_no_power_factor_is_refused() -> None:
    with pytest.raises(ValueError, match="without active energy"):
        power_factor(0, 10)
    with pytest.raises(ValueError, match="one of"):
        adjustment(90, 88)
    with pytest.raises(ValueError, match="no power factor"):
        adjustment(101)
