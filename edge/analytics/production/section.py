"""`production:` and `shifts:` of the configuration. Models; names are resolved later."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from edge.analytics.energy.section import TimeOfDay
from edge.analytics.energy.tariff_rules import parse_span
from edge.analytics.energy.working_calendar import DayType
from edge.analytics.production.terms import OTHER
from edge.core.language import say
from edge.core.section import Duration, Pause, Section, refuse


def _spans(given: Any) -> Any:
    spans = []
    for each in given if isinstance(given, list) else [given]:
        try:
            spans.append(parse_span(str(each)))
        except ValueError:
            refuse(say("{given!r} is not a span of the day", given=each), say("write from and to: 11:00-17:00"))
    return spans


class Shift(Section):
    """A shift: when it begins, or keys with that as `from`."""

    begin: TimeOfDay = Field(alias="from")
    """When it begins: `'06:00'`."""

    to: TimeOfDay | None = None
    """When planned work ends. Default: when the next shift begins."""

    breaks: Annotated[Sequence[tuple[int, int]], BeforeValidator(_spans, json_schema_input_type=str | list[str])] = ()
    """Times at which nothing is planned: `11:30-12:00`, or a list."""

    days: Sequence[DayType] = ()
    """On which days it is worked: `workday`, `weekend`, `holiday`. Default: on all."""

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, given: Any) -> Any:
        return given if isinstance(given, dict) else {"from": given}


def edges_of(shifts: Mapping[str, Shift]) -> dict[str, int]:
    """Return the minutes of the day at which a shift begins, or ends and no other begins: an interval each."""
    edges = {name: shift.begin for name, shift in shifts.items()}
    begins = set(edges.values())
    for name, shift in shifts.items():
        if shift.to is not None and shift.to not in begins:
            edges[f"{name} end"] = shift.to
    return edges


class StateRule(Section):
    """When a machine is in a state: a condition, or keys with it as `when`."""

    when: Annotated[str, Field(examples=["cnc-07.program_status == 2"])]
    """The condition, an expression that is true or false."""

    after: Pause = Field(0.0, alias="for")
    """How long it must hold without a break before the machine counts as being in this state."""

    deadband: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    """How far behind its limit a value must go back before the state is left, in the unit of the tag."""

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, given: Any) -> Any:
        return {"when": given} if isinstance(given, str) else given


class PartCounter(Section):
    """A counter of parts: its tag, or keys with that as `tag`."""

    tag: Annotated[str, Field(examples=["cnc-07.part_count"])]
    """Path of the counter."""

    rolls_over_at: Annotated[float, Field(gt=0)] | None = None
    """Where it begins again at 0: 65536. Without it, a counter that falls was reset."""

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, given: Any) -> Any:
        return {"tag": given} if isinstance(given, str) else given


class Reasons(Section):
    """Why a machine stands, by a tag's codes."""

    tag: str
    """Path of the tag with the code."""

    codes: Mapping[int | str, str]
    """What each code means, in your words: `{1: tool change, 2: no material}`."""


def _cycles(given: Any) -> Any:
    return given if isinstance(given, dict) else {OTHER: given}


class Production(Section):
    """What a machine makes, and what holds it up."""

    use: str | None = None
    """A ready mapping of `config/states` or of `states/` beside the configuration, e.g. `siemens-840d`."""

    parameters: Mapping[str, str | float] = {}
    """What the mapping asks for: paths of tags, thresholds."""

    states: Mapping[str, StateRule] = {}
    """States and when the machine is in them. The first whose condition holds is the one."""

    parts: PartCounter | None = None
    """The counter of all parts."""

    good: PartCounter | None = None
    """The counter of good parts, where there is one."""

    scrap: PartCounter | None = None
    """The counter of parts that are not good, where there is one."""

    ideal_cycle: Annotated[
        Mapping[str, Duration] | None,
        BeforeValidator(_cycles, json_schema_input_type=str | dict[str, str]),
        Field(examples=["30s"]),
    ] = None
    """The time a part takes at best: `30s`, or by programme: `{FLANGE-7: 30s, other: 45s}`."""

    energy: str | None = None
    """The machine's meter in `energy:`, for energy a part, the idle share and the base load."""

    programme: str | None = None
    """Path of the tag with the name of the programme that runs."""

    reasons: Reasons | None = None
    """Why it stands, by a tag's codes."""

    micro_stop: Duration = 120.0
    """A stop that is shorter is a micro-stop: it is counted and not told."""

    stale: Duration | None = None
    """How long a tag of `states` may be silent before the state is unknown. Default: five of its polls."""
