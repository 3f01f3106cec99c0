"""`chatter:` of a machine: the teeth of the tool. Pure: no numpy."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import Field

from edge.analytics.condition.turning.section import no_tag
from edge.core.errors import Problem
from edge.core.language import say
from edge.core.section import Section


class ChatterSection(Section):
    """Chatter of the tool: judged on waveforms of acceleration while it cuts, at the speed of `speed:`, else `rpm:`."""

    teeth: Annotated[int, Field(ge=1, le=100)] | str
    """Teeth of the tool, or a tag of this device that tells them."""

    def problems(self, tags: Mapping[str, Any], has_waves: bool) -> Iterator[Problem]:
        """Yield what is missing or contradicts, at paths below this section."""
        if isinstance(self.teeth, str):
            if self.teeth not in tags:
                yield Problem(("teeth",), *no_tag(self.teeth, tags))
            elif tags[self.teeth].value_kind() in ("text", "bool", "waveform"):
                yield Problem(("teeth",), say("teeth are a number, and the tag {name} is none", name=self.teeth))
        if not has_waves:
            words = say("chatter needs a waveform of acceleration")
            yield Problem((), words, say("add a tag with `rate`, and a unit such as g"), on="key")

    def plan(self) -> dict[str, Any]:
        """Return what the worker needs to know, as JSON types."""
        tag = self.teeth if isinstance(self.teeth, str) else None
        return {"tag": tag, "teeth": None if isinstance(self.teeth, str) else self.teeth}
