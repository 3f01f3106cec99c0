"""`tacho:` of a machine: where the turns of its shaft come from, and which orders are measured. Pure: no numpy."""

import difflib
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import Field

from edge.core.errors import Problem
from edge.core.language import say
from edge.core.section import Percent, Section

FOLLOW_MAX = 40.0
ORDERS_MAX = 32
Order = Annotated[float, Field(gt=0, le=1000)]


class Tacho(Section):
    """The turns of a shaft of changing speed: from a tachometer, or from the shaft's own line where it stands out."""

    tag: str | None = None
    """A tag of this device: a waveform with the pulses, taken at the same time as the acceleration; or a value that is
    true with each pulse, or counts pulses."""

    pulses: Annotated[int, Field(ge=1, le=100_000)] = 1
    """Equally spaced pulses in a turn of the shaft."""

    follow: Percent | None = None
    """Without a tacho: follow the shaft's own line within so much of its speed, e.g. `20 %`. Where the line does not
    stand 15 dB over its surroundings nothing is told."""

    orders: Annotated[tuple[Order, ...], Field(min_length=1, max_length=ORDERS_MAX)] = (1.0, 2.0, 3.0)
    """Multiples of the shaft's frequency whose amplitudes are told. Those of the bearing and the mesh come besides."""

    def problems(self, tags: Mapping[str, Any], has_waves: bool) -> Iterator[Problem]:
        """Yield what is missing or contradicts, at paths below this section."""
        if (self.tag is None) == (self.follow is None):
            words = say("a tacho needs either a tag or `follow`")
            yield Problem((), words, say("write e.g. {example}", example="tacho: {tag: NAME, pulses: 1}"), on="key")
        if self.follow is not None and not 0 < self.follow <= FOLLOW_MAX:
            words = say(
                "a line is followed within 1 to {most:g} %, not {given:g} %", most=FOLLOW_MAX, given=self.follow
            )
            yield Problem(("follow",), words)
        if self.tag is not None and self.tag not in tags:
            yield Problem(("tag",), *no_tag(self.tag, tags))
        elif self.tag is not None and tags[self.tag].value_kind() == "text":
            yield Problem(("tag",), say("the tag {name} is a text", name=self.tag))
        if len(set(self.orders)) < len(self.orders):
            yield Problem(("orders",), say("an order is there twice"))
        if not has_waves:
            words = say("order tracking needs a waveform of acceleration")
            yield Problem((), words, say("add a tag with `rate`, and a unit such as g"), on="key")

    def plan(self, tags: Mapping[str, Any]) -> dict[str, Any]:
        """Return what the worker needs to know, as JSON types."""
        tag = tags.get(self.tag) if self.tag else None
        return {
            "tag": self.tag,
            "is_waveform": tag is not None and tag.value_kind() == "waveform",
            "joined": tag is not None and tag.is_stream,
            "counts": tag is not None and tag.value_kind() != "bool",
            "pulses": self.pulses,
            "follow": self.follow / 100 if self.follow else None,
            "orders": list(self.orders),
        }


def no_tag(name: str, tags: Mapping[str, Any]) -> tuple[str, str]:
    """Return words and hint for a tag that the device does not have."""
    near = difflib.get_close_matches(name, tags, 1)
    hint = say("did you mean {name}?", name=near[0]) if near else say("tags: {names}", names=", ".join(tags))
    return say("the device has no tag {name!r}", name=name), hint
