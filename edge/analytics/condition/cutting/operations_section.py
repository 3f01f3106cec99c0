"""`operations:` of a machine: which loads tell of tool wear, what names an operation, when a tool is new. Pure."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from edge.analytics.condition.turning.section import no_tag
from edge.core.errors import Problem
from edge.core.language import say
from edge.core.section import Duration, Percent, Section

RISE_MIN, RISE_MAX = 5.0, 300.0
Names = Annotated[
    tuple[str, ...],
    BeforeValidator(
        lambda given: (given,) if isinstance(given, str) else given, json_schema_input_type=str | list[str]
    ),
    AfterValidator(lambda names: tuple(dict.fromkeys(names))),
    Field(min_length=1, max_length=8),
]


class Operations(Section):
    """Tool wear by the spindle's load: each run of an operation against the same operation with a new tool."""

    load: Names
    """Tags of this device: load, power or current of the spindle, or of an axis. One or several."""

    name: Names
    """Tags that together name the operation: program, block, sequence or step; texts or numbers."""

    tool: str | None = None
    """The tag with the tool's number: each tool has its own baseline."""

    changed: str | None = None
    """A tag whose value changes with each new tool or insert: a serial number, or a counter of changes; a true or false
    tag is true with it. Then the tool's baselines are learned anew."""

    rise: Percent = 30.0
    """How far the mean load of a run may rise over its baseline. 30 % is a convention: a tool may be worn before."""

    runs: Annotated[int, Field(ge=5, le=200)] = 8
    """Runs with a new tool that make its baseline."""

    pause: Duration = 2.0
    """A shorter pause in cutting does not end a run."""

    shortest: Duration = 2.0
    """Shorter runs are left out."""

    def problems(self, tags: Mapping[str, Any]) -> Iterator[Problem]:
        """Yield what is missing or contradicts, at paths below this section."""
        for key, names in (("load", self.load), ("name", self.name), ("tool", self.tool), ("changed", self.changed)):
            for place, name in enumerate((names,) if isinstance(names, str) else names or ()):
                path = (key,) if isinstance(names, str) or len(names or ()) == 1 else (key, place)
                if name not in tags:
                    yield Problem(path, *no_tag(name, tags))
                elif getattr(tags[name], "rate", None) is not None:
                    yield Problem(path, say("the tag {name} is a waveform", name=name))
                elif key == "load" and tags[name].value_kind() in ("text", "bool"):
                    yield Problem(path, say("a load is a number, and the tag {name} is none", name=name))
        if not RISE_MIN <= self.rise <= RISE_MAX:
            words = say("a load may rise by {least:g} to {most:g} %", least=RISE_MIN, most=RISE_MAX)
            yield Problem(("rise",), words, say("write e.g. {example}", example="rise: 30 %"))

    def plan(self, tags: Mapping[str, Any]) -> dict[str, Any]:
        """Return what the worker needs to know, as JSON types."""
        changed = tags.get(self.changed) if self.changed else None
        return {
            "load": {name: tags[name].unit or "" for name in self.load if name in tags},
            "name": list(self.name),
            "tool": self.tool,
            "changed": self.changed,
            "changed_is_bool": changed is not None and changed.value_kind() == "bool",
            "rise": self.rise / 100,
            "runs": self.runs,
            "pause_ns": round(self.pause * 1e9),
            "shortest_ns": round(self.shortest * 1e9),
        }
