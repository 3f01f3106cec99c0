"""`power_quality` of a meter: what it measures, and the limits. Models and names, pure."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from edge.core.language import say
from edge.core.section import Section, refuse

Percent = Annotated[float, Field(gt=0, le=100)]
Figure = tuple[str, str, str, tuple[str, ...]]


def _paths(given: Any) -> Any:
    return [given] if isinstance(given, str) else given


Paths = Annotated[Sequence[str], BeforeValidator(_paths, json_schema_input_type=str | list[str])]
"""Paths of tags, one a phase; the worst one counts."""


class PowerQualityMax(Section):
    """Limits of your own; what is left out is that of the table. In percent, frequency in Hz."""

    unbalance: Percent | None = None
    """Voltage unbalance."""

    unbalance_short: Percent | None = None
    """Voltage unbalance for a short time: no ten minutes above it."""

    thd_voltage: Percent | None = None
    """Total harmonic distortion of voltage."""

    odd: Percent | None = None
    """Each odd harmonic."""

    even: Percent | None = None
    """Each even harmonic."""

    harmonics: Mapping[Annotated[int, Field(ge=2, le=63)], Percent] = {}
    """Single harmonics by their order: `{5: 3}`."""

    above: Percent | None = None
    """How far voltage may be above `nominal`."""

    below: Percent | None = None
    """How far it may be below."""

    frequency: Annotated[float, Field(gt=0, le=10)] | None = None
    """How far frequency may be from 50 Hz, in Hz."""


class PowerQuality(Section):
    """Limits of power quality, judged by the day on values of ten minutes (as GB/T 15543 and GB/T 14549 do)."""

    limits: str | None = None
    """A voltage level of the tables in `config/power-quality`, or `power-quality/` beside the configuration:
    `china/0.38kV`. Compare it with the standards in force: what is shipped is not verified."""

    max: PowerQualityMax = PowerQualityMax()
    """Limits of your own."""

    unbalance: str | None = None
    """Path of the voltage unbalance in percent. Default: computed from the meter's `voltages`."""

    thd_voltage: Paths = ()
    """Paths of the total harmonic distortion of voltage in percent."""

    harmonics: Mapping[Annotated[int, Field(ge=2, le=63)], Paths] = {}
    """Paths of harmonics of voltage in percent, by order: `{5: [incomer.hu5_a, incomer.hu5_b, incomer.hu5_c]}`."""

    voltage: Paths = ()
    """Paths of voltages, to be compared with `nominal`."""

    nominal: Annotated[float, Field(gt=0)] | None = None
    """The nominal voltage, in the unit of those tags."""

    frequency: str | None = None
    """Path of the frequency in Hz."""

    share: Annotated[float, Field(gt=0, le=100)] = 95.0
    """How many percent of a day's values must lie within the limit."""

    @model_validator(mode="after")
    def _with_nominal(self) -> "PowerQuality":
        if self.voltage and self.nominal is None:
            refuse(say("voltages, and no nominal voltage"), say("write e.g. {example}", example="nominal: 220"))
        return self


def figures_of(settings: Mapping[str, Any]) -> Iterator[Figure]:
    """Yield the figures of all quantities of the plan, in a fixed order."""
    for each in settings["quantities"]:
        for name, unit in (("10min", each["unit"]), ("p95_1d", each["unit"]), ("outside_1d", "%")):
            yield each["meter"], f"{each['name']}_{name}", unit, tuple(each["paths"])
