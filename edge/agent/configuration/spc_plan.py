"""From `spc:` of the configuration to the worker's plan, or to what is wrong with it."""

import difflib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from edge.analytics.condition.process.spc_section import FIGURES, SpcSection, figures_of
from edge.analytics.condition.process.spc_section import plan as plan_chart
from edge.analytics.expression.check import Known, Type
from edge.core.errors import Problem
from edge.core.language import say

ROOT_KEY = "spc"

Tell = Callable[[Problem], None]


def made(sections: Mapping[str, SpcSection]) -> Iterator[tuple[str, Known]]:
    """Yield path and type of all tags that charts make; their unit is that of the value, which is not known yet."""
    for name in sections:
        yield from ((f"{name}.{figure}", Known(Type.NUMBER)) for figure in FIGURES)


def made_of(settings: Mapping[str, Any]) -> Iterator[str]:
    """Yield the paths of all tags of a planned part."""
    for chart in settings["charts"]:
        yield from (f"{chart['name']}.{figure}" for figure, *_ in figures_of(chart))


def plan(
    sections: Mapping[str, SpcSection],
    look_up: Callable[[str], Known | None],
    known: Callable[[], list[str]],
    tell: Tell,
) -> list[dict[str, Any]]:
    """Return the settings of all charts; what is wrong with them is told, each at its place."""
    found = []
    for name, given in sections.items():
        own = [f"{name}.{figure}" for figure in FIGURES]
        unit: str | None = ""
        for key, path in (("tag", given.tag), ("each", given.each)):
            if path is None:
                continue
            tag = look_up(path)
            if tag is None or path in own:
                near = difflib.get_close_matches(path, [other for other in known() if other not in own], 1, 0.6)
                hint = say('did you mean "{near}"?', near=near[0]) if near else say("write device.tag")
                tell(Problem((ROOT_KEY, name, key), say("there is no tag {path!r}", path=path), hint))
                unit = None
            elif tag.type not in (Type.NUMBER, Type.ANY):
                message = say("a chart needs numbers, {path} is {found}", path=path, found=tag.type.words)
                tell(Problem((ROOT_KEY, name, key), message))
                unit = None
            elif key == "tag":
                unit = tag.unit or ""
        if unit is not None:
            found.append(plan_chart(name, given, unit))
    return found
