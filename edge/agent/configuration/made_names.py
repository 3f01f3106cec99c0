"""Tags that analytics would make though another tag has their path already."""

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from edge.agent.configuration.circles import Place
from edge.core.errors import Problem
from edge.core.language import say

if TYPE_CHECKING:
    from edge.agent.configuration.settings import Device


def tell_taken(
    makes: Mapping[Place, Iterable[str]],
    devices: Mapping[str, "Device"],
    derived: Iterable[str],
    tell: Callable[[Problem], None],
) -> None:
    """Tell of each tag that is a device's, a derived one or another maker's already. `makes`: paths by the place of the
    maker in the configuration."""
    makers: dict[str, Place] = {path: ("derived", path) for path in derived}
    for place, paths in makes.items():
        for path in dict.fromkeys(paths):
            device, _, tag = path.partition(".")
            if device in devices and tag in devices[device].section.tags:
                message = say("the device {device} has a tag {name} already", device=device, name=tag)
                tell(Problem(place, message, say("choose another name"), on="key"))
            elif path in makers:
                message = say("{machine} makes a tag {name} itself", machine=place[1], name=tag)
                tell(Problem(makers[path], message, say("choose another name"), on="key"))
            else:
                makers[path] = place
