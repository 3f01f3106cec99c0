"""From `watch:` of the configuration to the worker's plan, or to what is wrong with it."""

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from edge.analytics.condition.names import TEXT
from edge.analytics.condition.names import figures_of as condition_figures_of
from edge.analytics.condition.process.names import figures_of
from edge.analytics.condition.process.section import WatchSection
from edge.analytics.condition.process.section import plan as plan_watch
from edge.analytics.expression.check import Known, Type
from edge.core.errors import Problem
from edge.core.language import say

ROOT_KEY = "watch"

Tell = Callable[[Problem], None]


def made(sections: Mapping[str, WatchSection]) -> Iterator[tuple[str, Known]]:
    """Yield path and type of all tags that watches make."""
    for name, given in sections.items():
        for tag, kind, unit in figures_of({"rules": given.rules, "tags": given.tags}):
            yield f"{name}.{tag}", Known(Type.TEXT if kind == TEXT else Type.NUMBER, unit or None)


def made_of(settings: Mapping[str, Any]) -> Iterator[str]:
    """Yield the paths of all tags of a planned part."""
    for watch in settings["watches"]:
        yield from (f"{watch['name']}.{tag}" for tag, _, _ in figures_of(watch))


def inputs_of(watch: Mapping[str, Any]) -> list[str]:
    """Return the paths of all tags that a planned watch reads."""
    running = [watch["running"]["tag"]] if watch["running"] else []
    return [*watch["tags"], *running, *filter(None, (watch["speed"], watch["state"])), *watch["zones"]]


def plan(
    sections: Mapping[str, WatchSection],
    machines: Sequence[Mapping[str, Any]],
    look_up: Callable[[str], Known | None],
    known: Callable[[], list[str]],
    tell: Tell,
) -> list[dict[str, Any]]:
    """Return the settings of all watches; what is wrong with them is told, each at its place."""
    found = []
    for name, given in sections.items():
        for problem in given.problems():
            tell(Problem((ROOT_KEY, name, *problem.path), problem.message, problem.hint, problem.severity, problem.on))
        units: dict[str, str] = {}
        own = [f"{name}.{tag}" for tag, *_ in figures_of({"rules": given.rules, "tags": given.tags})]
        is_right = True
        for place, path, is_number in given.needed():
            tag = look_up(path)
            if tag is None or path in own:
                others = [other for other in known() if other not in own]
                near = difflib.get_close_matches(path, others, 1, 0.6)
                hint = say('did you mean "{near}"?', near=near[0]) if near else say("write device.tag")
                tell(Problem((ROOT_KEY, name, *place), say("there is no tag {path!r}", path=path), hint))
                is_right = False
            elif is_number and tag.type not in (Type.NUMBER, Type.ANY):
                message = say("a watch needs numbers, {path} is {found}", path=path, found=tag.type.words)
                tell(Problem((ROOT_KEY, name, *place), message))
                is_right = False
            else:
                units[path] = tag.unit or ""
        if is_right and (planned := _planned(name, given, units, machines, tell)) is not None:
            found.append(planned)
    return found


def _planned(
    name: str, given: WatchSection, units: dict[str, str], machines: Sequence[Mapping[str, Any]], tell: Tell
) -> dict[str, Any] | None:
    devices = {path.partition(".")[0] for path in given.tags}
    zones = [
        f"{machine['device']}.{tag}"
        for machine in machines
        if machine["device"] in devices
        for tag, *_ in condition_figures_of(machine)
        if tag.endswith("_zone")
    ]
    try:
        return plan_watch(name, given, units, zones)
    except ValueError as error:
        assert given.running is not None
        words = say("{given!r} is not a value in {unit!r}", given=given.running.above, unit=str(error))
        hint = say("write e.g. {example}", example=f"4 {error}".strip())
        tell(Problem((ROOT_KEY, name, "running", "above"), words, hint))
        return None
