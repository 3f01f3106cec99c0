"""Units are the same, convertible, or not known: nothing is guessed."""

import pytest

from edge.core.section import ChangeRate, _parse_change
from edge.core.units import factor, same


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("degC", "°C", True), ("degC", "CEL", True), ("kW", "W", False), ("degC", "K", False), ("bar", "degC", False),
        ("parts", "parts", True), ("kW", "horses", None), ("Stück", "pcs", None),
    ],
)  # fmt: skip
def test_what_is_the_same_unit(one: str, other: str, expected: bool | None) -> None:
    assert same(one, other) is same(other, one) is expected


def test_amounts_are_turned_into_another_unit_of_the_same_quantity() -> None:
    assert factor("kPa", "bar") == pytest.approx(0.01)
    assert factor("degF", "K") == pytest.approx(5 / 9)
    assert factor("MJ", "kWh") == pytest.approx(1 / 3.6)
    assert factor("parts", "parts") == 1
    assert factor("W", "Wh") is factor("horses", "kW") is None


@pytest.mark.parametrize(
    ("text", "rate"),
    [("5 degC/min", (5 / 60, "degC")), ("3 m/s/s", (3, "m/s")), ("2%/h", (2 / 3600, "%")), ("7/s", (7, ""))],
)
def test_a_rate_of_change_is_an_amount_a_unit_and_a_time(text: str, rate: tuple[float, str]) -> None:
    assert _parse_change(text) == ChangeRate(*rate)
