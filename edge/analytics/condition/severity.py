"""Zones A to D of vibration severity by machine group and support, with the clause each limit stands in."""

from dataclasses import dataclass
from typing import Literal

Support = Literal["rigid", "flexible"]
Standard = Literal["iso20816-3", "iso10816-7", "none"]


@dataclass(frozen=True, slots=True)
class Limits:
    """Borders between the zones: velocity in mm/s RMS, displacement in µm RMS where the standard has it."""

    clause: str
    velocity: tuple[float, float, float]
    displacement: tuple[float, float, float] | None = None


LIMITS: dict[tuple[str, str, str], Limits] = {
    ("iso20816-3", "1", "rigid"): Limits("ISO 20816-3:2022 Table A.1", (2.3, 4.5, 7.1), (29, 57, 90)),
    ("iso20816-3", "1", "flexible"): Limits("ISO 20816-3:2022 Table A.1", (3.5, 7.1, 11.0), (45, 90, 140)),
    ("iso20816-3", "2", "rigid"): Limits("ISO 20816-3:2022 Table A.2", (1.4, 2.8, 4.5), (22, 45, 71)),
    ("iso20816-3", "2", "flexible"): Limits("ISO 20816-3:2022 Table A.2", (2.3, 4.5, 7.1), (37, 71, 113)),
    ("iso10816-7", "I", "to 200 kW"): Limits("ISO 10816-7:2009 Table A.1", (2.5, 4.0, 6.6)),
    ("iso10816-7", "I", "above 200 kW"): Limits("ISO 10816-7:2009 Table A.1", (3.5, 5.0, 7.6)),
    ("iso10816-7", "II", "to 200 kW"): Limits("ISO 10816-7:2009 Table A.1", (3.2, 5.1, 8.5)),
    ("iso10816-7", "II", "above 200 kW"): Limits("ISO 10816-7:2009 Table A.1", (4.2, 6.1, 9.5)),
}
"""By standard, group or category, and support or power. Pump limits come from a guide that quotes the standard."""

CRITERION_II_SHARE = 0.25
TRIP_FACTOR = 1.25


def zone(value: float, borders: tuple[float, float, float]) -> str:
    """Return the zone `A` to `D` of a value. A value on a border belongs to the less severe zone; NaN to none ("")."""
    if value != value:
        return ""
    return "ABCD"[sum(value > border for border in borders)]


def alarm_limit(baseline: float, borders: tuple[float, float, float]) -> float:
    """Return the alarm limit from a machine's own baseline: plus a quarter of border B/C, never above 1.25 times it.

    Source: ISO 20816-1, setting of alarm limits. Units are those of the borders.
    """
    return min(baseline + CRITERION_II_SHARE * borders[1], TRIP_FACTOR * borders[1])


def trip_limit(borders: tuple[float, float, float]) -> float:
    """Return the highest trip limit: 1.25 times the border C/D (ISO 20816-1)."""
    return TRIP_FACTOR * borders[2]
