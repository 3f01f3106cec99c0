"""`motor:` of a machine: the phase current and the name plate. Pure: no numpy."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from edge.analytics.condition.turning.section import no_tag
from edge.core.errors import Problem
from edge.core.language import say
from edge.core.section import CURRENT_UNITS, Current, Duration, Frequency, Level, Section

WINDOW_MIN_S, WINDOW_MAX_S = 10.0, 120.0
SLIP_MAX = 0.1


def _as_list(given: Any) -> Any:
    return (given,) if isinstance(given, str) else given


class MotorSection(Section):
    """An induction motor by its phase current: rotor bars, eccentricity, bearing. `rpm` of the machine is the rated
    speed on its name plate; a tag `speed` makes the slip exact."""

    current: Annotated[
        tuple[str, ...],
        BeforeValidator(_as_list, json_schema_input_type=str | list[str]),
        Field(min_length=1, max_length=3),
    ]
    """Tags of this device: waveforms of the current of a phase, with `rate` and a unit such as A."""

    rated: Current
    """Rated current, e.g. `42 A`: below half of it nothing is judged."""

    supply: Frequency = 50.0
    """Rated frequency of the supply; found within 3 % of it."""

    window: Duration = 20.0
    """How long a block is, 10 s at least. Shorter waveforms that follow each other without a gap are joined."""

    bars: Level = -45.0
    """From this level of the lower line on rotor bars are an alarm. A convention: no standard has limits."""

    bars_broken: Level = -36.0
    """From this level on it is urgent; a convention too."""

    def problems(self, tags: Mapping[str, Any], rpm: float) -> Iterator[Problem]:
        """Yield what is missing or contradicts, at paths below this section."""
        for place, name in enumerate(self.current):
            path = ("current",) if len(self.current) == 1 else ("current", place)
            if name not in tags:
                yield Problem(path, *no_tag(name, tags))
                continue
            tag, unit = tags[name], _unit_of(tags[name])
            if getattr(tag, "rate", None) is None:
                words = say("the tag {name} is no waveform", name=name)
                yield Problem(path, words, say("add {example}", example="rate: 2 kHz"))
            elif unit not in CURRENT_UNITS:
                words = say("a current needs its unit, not {unit!r}", unit=unit)
                yield Problem(("..", "tags", name), words, say("one of: {choices}", choices="A, mA, kA"), on="key")
            elif tag.rate < 8 * self.supply:
                words = say("{rate:g} Hz are too slow for a supply of {supply:g} Hz", rate=tag.rate, supply=self.supply)
                yield Problem(path, words, say("take {least:g} Hz or more", least=8 * self.supply))
        pairs = int(60 * self.supply / rpm)
        if pairs < 1 or not 0 < 1 - rpm * pairs / (60 * self.supply) <= SLIP_MAX:
            fields = ", ".join(f"{60 * self.supply / each:g}" for each in (1, 2, 3, 4))
            words = say("{rpm:g} rpm is no rated speed of an induction motor at {hz:g} Hz", rpm=rpm, hz=self.supply)
            yield Problem((), words, say("a little below one of: {speeds}", speeds=fields), on="key")
        if not WINDOW_MIN_S <= self.window <= WINDOW_MAX_S:
            words = say("a block of current is {least:g} to {most:g} s long", least=WINDOW_MIN_S, most=WINDOW_MAX_S)
            yield Problem(("window",), words, say("write e.g. {example}", example="window: 20s"))
        if self.bars_broken < self.bars:
            yield Problem(("bars_broken",), say("it lies below `bars`, from which on it is an alarm"))

    def plan(self, tags: Mapping[str, Any]) -> dict[str, Any]:
        """Return what the worker needs to know, as JSON types."""
        known = [name for name in self.current if name in tags and _unit_of(tags[name]) in CURRENT_UNITS]
        return {
            "currents": {name: CURRENT_UNITS[_unit_of(tags[name])] for name in known},
            "joined": [name for name in known if tags[name].is_stream],
            "rated_a": self.rated,
            "supply_hz": self.supply,
            "window_s": self.window,
            "bars_db": [self.bars, self.bars_broken],
        }


def _unit_of(tag: Any) -> str:
    return tag.unit or str(getattr(tag, "full_scale_quantity", (0.0, ""))[1])
