"""Zones: values on a border, criterion II, the limits it gives."""

import math

import pytest

from edge.analytics.condition.severity import LIMITS, alarm_limit, changed_much, trip_limit, zone

GROUP_2_RIGID = LIMITS["iso20816-3", "2", "rigid"].velocity


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, "A"),
        (1.4, "A"),
        (1.41, "B"),
        (2.8, "B"),
        (2.81, "C"),
        (4.5, "C"),
        (4.51, "D"),
        (math.inf, "D"),
        (math.nan, ""),
    ],
)
def test_a_value_on_a_border_belongs_to_the_milder_zone(value: float, expected: str) -> None:
    assert zone(value, GROUP_2_RIGID) == expected


def test_borders_rise_and_softer_supports_and_larger_machines_may_shake_more() -> None:
    for limits in LIMITS.values():
        assert list(limits.velocity) == sorted(limits.velocity)
    for group in "12":
        rigid, flexible = (LIMITS["iso20816-3", group, support].velocity for support in ("rigid", "flexible"))
        assert all(a < b for a, b in zip(rigid, flexible, strict=True))


def test_criterion_ii_and_the_limits_from_a_baseline() -> None:
    assert alarm_limit(0.5, GROUP_2_RIGID) == pytest.approx(1.2)
    assert alarm_limit(9.0, GROUP_2_RIGID) == pytest.approx(3.5)
    assert trip_limit(GROUP_2_RIGID) == pytest.approx(5.625)
    assert changed_much(1.3, 0.5, GROUP_2_RIGID)
    assert changed_much(0.5, 1.3, GROUP_2_RIGID)
    assert not changed_much(1.2, 0.5, GROUP_2_RIGID)
