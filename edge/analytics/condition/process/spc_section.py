"""`spc:` of the configuration: control charts of values of parts. Pure: no numpy."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from edge.analytics.condition.names import NUMBER
from edge.core.section import Section

Rule = Literal["western_electric", "nelson", "ewma", "cusum"]

FIGURES = ("z", "centre", "lower", "upper")
"""The tags a chart makes: how many sigma the value lies from the centre, the centre, and the limits of three sigma."""


class SpcSection(Section):
    """A control chart of single values: a dimension, a torque, a weight of each part."""

    tag: Annotated[str, Field(examples=["gauge.bore"])]
    """The tag with the value, `device.tag`."""

    each: Annotated[str | None, Field(examples=["press.part_count"])] = None
    """A tag that changes with each part: then the value is taken that stands at that moment, also when two parts have
    the same. Default: each reading is a part."""

    learn: Annotated[int, Field(ge=20, le=1000)] = 100
    """From how many parts centre and sigma are learned: of a process that is in control."""

    rules: Annotated[Sequence[Rule], Field(min_length=1)] = ("western_electric",)
    """`western_electric`: its four zone rules, a false alarm in 92 parts. `nelson`: his eight. `ewma`, `cusum`: small
    lasting shifts, a false alarm in 500 and 465 parts."""


def figures_of(chart: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yield name, kind and unit of all tags of one chart of the plan, in a fixed order."""
    for name in FIGURES:
        yield name, NUMBER, "" if name == "z" else chart["unit"]


def plan(name: str, chart: SpcSection, unit: str) -> dict[str, Any]:
    """Return what the worker needs to know of a chart, as JSON types."""
    rules = list(dict.fromkeys(chart.rules))
    return {"name": name, "tag": chart.tag, "each": chart.each, "unit": unit, "learn": chart.learn, "rules": rules}
