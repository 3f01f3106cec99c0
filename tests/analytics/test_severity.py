"""Zones: values on a border, criterion II, the limits it gives."""

import math

import pytest

from edge.analytics.condition.severity import LIMITS, alarm_limit, trip_limit, zone

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


@pytest.mark.parametrize(
    ("key", "velocity", "displacement"),
    [
        (("iso20816-3", "1", "rigid"), (2.3, 4.5, 7.1), (29, 57, 90)),
        (("iso20816-3", "1", "flexible"), (3.5, 7.1, 11.0), (45, 90, 140)),
        (("iso20816-3", "2", "rigid"), (1.4, 2.8, 4.5), (22, 45, 71)),
        (("iso20816-3", "2", "flexible"), (2.3, 4.5, 7.1), (37, 71, 113)),
        (("iso10816-7", "I", "to 200 kW"), (2.5, 4.0, 6.6), None),
        (("iso10816-7", "I", "above 200 kW"), (3.5, 5.0, 7.6), None),
        (("iso10816-7", "II", "to 200 kW"), (3.2, 5.1, 8.5), None),
        (("iso10816-7", "II", "above 200 kW"), (4.2, 6.1, 9.5), None),
    ],
)
def test_each_border_is_that_of_the_standard_and_belongs_to_the_milder_zone(
    key: tuple[str, str, str], velocity: tuple[float, float, float], displacement: tuple[float, float, float] | None
) -> None:
    assert (LIMITS[key].velocity, LIMITS[key].displacement) == (velocity, displacement)
    for borders in filter(None, (velocity, displacement)):
        assert [zone(border, borders) for border in borders] == ["A", "B", "C"]
        assert [zone(math.nextafter(border, math.inf), borders) for border in borders] == ["B", "C", "D"]
