"""`products:` of the configuration: who makes what, and how what several share is divided. Models, pure."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from edge.analytics.production.section import PartCounter
from edge.core.language import say
from edge.core.section import Section, refuse

Key = Literal["parts", "running", "energy", "equal"]
"""By what a shared meter is divided: parts made, running time, energy of the machines, or to equal shares."""


def _called(given: Any) -> Any:
    listed = given if isinstance(given, list) else [given]
    return [f"{each:g}" if isinstance(each, int | float) else each for each in listed]


def _counters(given: Any) -> Any:
    return given if isinstance(given, dict) and "tag" not in given else {"": given}


class Maker(Section):
    """A machine that makes products. What is left out is that of the machine of the same name under `production`."""

    meter: str | None = None
    """Its meter in `energy:`. Default: the one of `production`, else the meter of the same name."""

    product: str | None = None
    """Path of the tag that names the product, the order or the programme. Default: `programme` of `production`."""

    parts: Annotated[
        Mapping[str, PartCounter],
        BeforeValidator(_counters, json_schema_input_type=str | dict[str, Any]),
        Field(examples=["cnc-07.part_count"]),
    ] = {}
    """Its counter of parts, or counters by product: `{flange: press.flanges, shaft: press.shafts}`; with those and
    without `product` its energy is divided by parts. Default: `parts` of `production`."""


Called = Annotated[
    Sequence[str],
    BeforeValidator(_called, json_schema_input_type=str | float | list[str | float]),
    Field(examples=["FLANGE-7"]),
]
"""What the tag says for it: `FLANGE-7`, `7`, or a list."""


class ProductsSection(Section):
    """Energy, cost, coal and CO2 by product."""

    made: Mapping[str, Called]
    """Products by the name that their figures stand under, and what the tags call them: `{flange: [7, FLANGE-7]}`."""

    machines: Mapping[str, Maker]
    """Machines that make them: `{cnc-07: {}}` where `production` says it all."""

    shared: Mapping[str, Key] = {}
    """Meters that several products share, and by what each is divided: `{compressor: running}`. Shares are those of
    the interval: of a month, the month's."""

    @model_validator(mode="after")
    def _one_each(self) -> "ProductsSection":
        names: dict[str, str] = {}
        for product, called in self.made.items():
            for each in called:
                if names.setdefault(each, product) != product:
                    refuse(say("{name!r} is two products", name=each), say("name each once"))
        return self
