"""`watch:` of the configuration: process values that are watched together. Pure: no numpy."""

from collections.abc import Iterator, Sequence
from typing import Annotated, Any

from pydantic import Field, model_validator

from edge.analytics.condition.process.names import ALARMING, Rule
from edge.analytics.condition.section import Running
from edge.core.errors import Problem
from edge.core.language import say
from edge.core.section import Duration, Section, refuse

AVERAGED = 6
"""Steps in a row, as `edge.analytics.condition.process.steps` has it."""

ROWS_MIN, ROWS_MAX = 30, 1500
"""Rows that can be learned: fewer tell nothing, more are more than a gateway keeps."""

LEARN_S, LEARN_EVERY_S, LEARN_MIN_S = 6 * 86_400.0, 60.0, 3 * 86_400.0
"""The default of `learn` with steps of a minute and longer; it is as many rows with shorter ones, but not below."""


class WatchRunning(Running):
    """How it is known that the machine runs. While it does not, nothing is learned and nothing is alarmed."""

    tag: str
    """A tag, `device.tag`: true or false, or a value with `above`."""

    hold: Annotated[Duration, Field(alias="for")] = 60.0
    """How long it must run before it is judged: long enough for what warms up."""


class WatchSection(Section):
    """Process values that belong together: temperatures, pressures, currents, flows of a machine or of several."""

    tags: Annotated[list[str], Field(min_length=1, max_length=32, examples=[["pump-3.pressure", "pump-3.current"]])]
    """The tags, `device.tag`: numbers that the machine makes, its load among them."""

    running: WatchRunning | None = None
    """How it is known that the machine runs."""

    speed: str | None = None
    """A tag with the speed: each tenth of speed is learned apart."""

    state: str | None = None
    """A tag that tells what the machine does, a program or a product: each value is learned apart."""

    learn: Duration | None = None
    """How long it learns what is usual, of time in which the machine runs, for each speed and state: so long that the
    weather changes. Default: 6 d, 3 d with steps of 30 s."""

    every: Duration = 60.0
    """The step: tags are brought to one time so often. Six steps make a row, three rows an alarm."""

    max_age: Duration | None = None
    """How old the last value of a tag may be to count still. Default: five steps."""

    rules: Annotated[Sequence[Rule], Field(min_length=1)] = ALARMING
    """`t2`, `spe`: all values together. `ewma`, `cusum`: each alone. By choice also `nelson`, `western_electric`: run
    rules of each alone, and `novelty`: a tag only, how unlike all lately it is."""

    @property
    def learning(self) -> float:
        """How long it learns, in s."""
        if self.learn is not None:
            return self.learn
        return max(LEARN_MIN_S, min(LEARN_S, LEARN_S * self.every / LEARN_EVERY_S))

    @model_validator(mode="after")
    def _is_enough(self) -> "WatchSection":
        rows = round(self.learning / (self.every * AVERAGED))
        least = max(ROWS_MIN, 3 * len(self.tags))
        if rows < least:
            shortest = self.every * AVERAGED * least
            refuse(
                say("{count} tags cannot be learned from {rows} rows", count=len(self.tags), rows=rows),
                say("a row is six steps: learn at least {time}, or make `every` shorter", time=f"{shortest:g}s"),
            )
        if rows > ROWS_MAX:
            longest = self.learning / (ROWS_MAX * AVERAGED)
            refuse(
                say("more rows than {count} are learned", count=ROWS_MAX),
                say("a row is six steps: make `every` at least {time}", time=f"{longest:.3g}s"),
            )
        return self

    def needed(self) -> Iterator[tuple[tuple[str | int, ...], str, bool]]:
        """Yield place, path and whether it must be a number, of each tag that is read."""
        for number, path in enumerate(self.tags):
            yield ("tags", number), path, True
        if self.running is not None:
            yield ("running", "tag"), self.running.tag, False
        if self.speed is not None:
            yield ("speed",), self.speed, True
        if self.state is not None:
            yield ("state",), self.state, False

    def problems(self) -> Iterator[Problem]:
        """Yield what is told of it beside its tags, at paths below this section."""
        for number, path in enumerate(self.tags):
            if path in self.tags[:number]:
                yield Problem(("tags", number), say("{path} is there twice", path=path))
        if self.running is None:
            words = say("nothing tells when the machine runs")
            hint = say("add {example}, or its standstill is taken for a change", example="running: {tag: DEVICE.TAG}")
            yield Problem((), words, hint, severity="warning", on="key")


def plan(name: str, watch: WatchSection, units: dict[str, str], zones: list[str]) -> dict[str, Any]:
    """Return what the worker needs to know of a watch, as JSON types.

    `units` of the tags it reads; `zones`: tags with the zones of their machines.
    """
    running = None
    if watch.running is not None:
        above = watch.running.limit(units.get(watch.running.tag, ""))
        running = {"tag": watch.running.tag, "above": above, "hold_ns": round(watch.running.hold * 1e9)}
    return {
        "name": name,
        "tags": {path: units.get(path, "") for path in watch.tags},
        "running": running,
        "speed": watch.speed,
        "state": watch.state,
        "learn_ns": round(watch.learning * 1e9),
        "every_ns": round(watch.every * 1e9),
        "max_age_ns": round((watch.max_age or 5 * watch.every) * 1e9),
        "rules": list(dict.fromkeys(watch.rules)),
        "zones": zones,
    }
