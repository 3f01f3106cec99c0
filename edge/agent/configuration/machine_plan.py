"""Tags of other devices that tell state and speed of a machine: added to its plan, or what is wrong with them told."""

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from edge.analytics.condition.names import all_figures_of, is_path
from edge.analytics.condition.section import gate_plan
from edge.analytics.expression.check import Known, Type
from edge.core.errors import Problem
from edge.core.language import say

if TYPE_CHECKING:
    from edge.agent.configuration.settings import Device

Tell = Callable[[Problem], None]
GATES = ("running", "cutting")


def made_of(machine: Mapping[str, Any]) -> Iterator[str]:
    """Yield the paths of all tags that a planned machine makes."""
    yield from (f"{machine['device']}.{name}" for name, *_ in all_figures_of(machine))


def inputs_of(machine: Mapping[str, Any]) -> list[str]:
    """Return the paths that a planned machine reads beside the tags of its device."""
    tags = [*(machine[key]["tag"] for key in GATES if machine[key]), machine["speed"] or ""]
    return [tag for tag in tags if is_path(tag)]


def resolve(
    machines: Sequence[dict[str, Any]],
    devices: Mapping[str, "Device"],
    look_up: Callable[[str], Known | None],
    known: Callable[[], list[str]],
    tell: Tell,
) -> None:
    """Add gates and speeds by `device.tag` to the plans of machines; what is wrong is told, each at its place."""
    for machine in machines:
        name, section = machine["device"], devices[machine["device"]].machine
        assert section is not None
        own = set(made_of(machine))

        def find(place: tuple[str, ...], path: str, own: set[str] = own) -> Known | None:
            found = None if path in own else look_up(path)
            if found is None:
                near = difflib.get_close_matches(path, [other for other in known() if other not in own], 1, 0.6)
                hint = say('did you mean "{near}"?', near=near[0]) if near else say("write device.tag")
                tell(Problem(place, say("there is no tag {path!r}", path=path), hint))
            elif found.type is Type.TEXT:
                words = say("{path} is {found}, not a number or true or false", path=path, found=found.type.words)
                tell(Problem(place, words, say("take another tag, or make one below `derived`")))
                return None
            return found

        for key in GATES:
            gate = getattr(section, key)
            if gate is None or not is_path(gate.tag):
                continue
            place = ("devices", name, "machine", key)
            if (tag := find((*place, "tag"), gate.tag)) is None:
                continue
            try:
                machine[key] = {**gate_plan(gate, tag.unit or ""), "tag": gate.tag.removeprefix(f"{name}.")}
            except ValueError:
                words = say("{given!r} is not a value in {unit!r}", given=gate.above, unit=tag.unit or "")
                example = f"4 {tag.unit or ''}".strip()
                tell(Problem((*place, "above"), words, say("write e.g. {example}", example=example)))
        speed = section.speed
        if speed is not None and is_path(speed) and find(("devices", name, "machine", "speed"), speed) is not None:
            machine["speed"] = speed.removeprefix(f"{name}.")
