"""`baselines:` of the configuration: energy as a line over what drives it. Models and names, pure."""

from collections.abc import Iterator, Mapping
from datetime import date
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from edge.core.interval import Level
from edge.core.language import say
from edge.core.section import Section, refuse

AUTO = "auto"
Use = Literal["auto", "counter", "sum", "mean"]
LEVELS = {"day": Level.DAY, "month": Level.MONTH}
Figure = tuple[str, str, str, tuple[str, ...]]
"""Device, name, unit and the paths of the tags it is made of."""


def _uses(given: Any) -> Any:
    return dict.fromkeys(given, AUTO) if isinstance(given, list) else given


class BaselineSection(Section):
    """An energy baseline (ISO 50006, GB/T 36713): fitted once over a period, then what is saved against it."""

    energy: str
    """A meter of `energy:`."""

    drivers: Annotated[
        Mapping[str, Use],
        BeforeValidator(_uses, json_schema_input_type=list[str] | dict[str, Use]),
        Field(min_length=1, examples=[{"cnc-07.part_count": "counter", "weather.temperature": "mean"}]),
    ]
    """What drives it: tags, and what of each counts in a period: what a `counter` gained, the `sum` or the `mean` of
    its readings. In a list, figures such as `cnc-07.parts_1d` are summed, all else is averaged."""

    every: Literal["day", "month"] = "day"
    """How long a period is."""

    begin: date = Field(alias="from")
    """The first day of the baseline."""

    to: date
    """Its last day."""

    @model_validator(mode="after")
    def _in_order(self) -> "BaselineSection":
        if self.to < self.begin:
            refuse(say("the baseline ends before it begins"), say("write `from` before `to`"))
        return self


def figures_of(settings: Mapping[str, Any]) -> Iterator[Figure]:
    """Yield the figures of one baseline of the plan, in a fixed order."""
    inputs = (settings["energy"], *settings["drivers"])
    level = LEVELS[settings["every"]]
    for name in ("energy_expected", "energy_saved", "energy_saved_cusum"):
        yield settings["name"], f"{name}_{level}", settings["unit"], inputs
