"""Power quality by the day: values of ten minutes against their limits, told when the verdict becomes another one."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from edge.analytics.energy.grid import MINUTE_NS, Grid
from edge.analytics.energy.meters import MILLIONTHS
from edge.analytics.energy.power_quality_section import figures_of
from edge.analytics.operator import NEVER, Derived, Operator, Output, Reading, Rows
from edge.core.batch import Event, Severity
from edge.core.catalogue import ValueKind
from edge.core.data_class import DataClass
from edge.core.interval import Level, level_of
from edge.core.quality import StatusCode, bad_mask

TEN_MINUTES_NS = 10 * MINUTE_NS
KNOWN_SHARE = 0.9
"""With fewer of a day's values known, its figures are uncertain, and no verdict is told."""


class QualityWatch(Operator):
    """All quantities of a plant. Each value of ten minutes is the mean of what came in them, of the worst phase."""

    KIND: ClassVar[str] = "power_quality"

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.name = "power quality"
        self._settings = settings
        self._quantities: Sequence[Mapping[str, Any]] = settings["quantities"]
        self.inputs = sorted({path for each in self._quantities for path in each["paths"]})
        self.outputs = [
            Output(meter, name, ValueKind.FLOAT64, unit, inputs, DataClass.ENERGY, level_of(name))
            for meter, name, unit, inputs in figures_of(settings)
        ]
        self._grid = Grid(settings["timezone"])
        self._slots = [[self.inputs.index(path) for path in each["paths"]] for each in self._quantities]
        self._end = NEVER
        self._sums = np.zeros(len(self.inputs), np.int64)
        self._counts = np.zeros(len(self.inputs), np.int64)
        self._days: list[list[float]] = [[] for _ in self._quantities]
        self._verdicts: dict[str, bool] = {}

    @property
    def fingerprint(self) -> str:
        """A day's values mean nothing for other quantities."""
        return json.dumps(self._settings, sort_keys=True)

    def push(self, rows: Rows, now: int) -> Derived:
        """Take readings, and give out each ten minutes and each day that ended."""
        out, done = Derived(), 0
        if self._end == NEVER:
            if not len(rows):
                return out
            self._end = (int(rows.at[0]) // TEN_MINUTES_NS + 1) * TEN_MINUTES_NS
        while self._end <= now:
            last = int(np.searchsorted(rows.at, self._end, "left"))
            self._take(rows.take(slice(done, last)))
            done = last
            self._close(out)
        self._take(rows.take(slice(done, len(rows))))
        return out

    def due(self) -> int | None:
        """Return when ten minutes end."""
        return None if self._end == NEVER else self._end

    def shift(self, by: int) -> None:
        """Keep to whole ten minutes after the clock was set."""
        if self._end != NEVER:
            self._end = (self._end + by) // TEN_MINUTES_NS * TEN_MINUTES_NS

    def _take(self, rows: Rows) -> None:
        # Whole millionths: a sum does not depend on how the readings were cut.
        usable = ~bad_mask(rows.quality) & np.isfinite(rows.value) & ~rows.is_old
        np.add.at(self._sums, rows.slot[usable], np.rint(rows.value[usable] * MILLIONTHS).astype(np.int64))
        np.add.at(self._counts, rows.slot[usable], 1)

    def _close(self, out: Derived) -> None:
        begin = self._end - TEN_MINUTES_NS
        day = self._grid.interval(Level.DAY, begin)
        for place, (quantity, slots) in enumerate(zip(self._quantities, self._slots, strict=True)):
            means = [float(self._sums[at]) / MILLIONTHS / int(self._counts[at]) for at in slots if self._counts[at]]
            nominal, per = quantity["nominal"], quantity["per"]
            values = [(mean - nominal) / per for mean in means]
            if values:
                worst = max(values, key=lambda value: (_beyond(value, quantity), abs(value), value))
                self._days[place].append(worst)
                out.readings.append(Reading(3 * place, begin, worst, at=self._end))
            if self._end >= day.end:
                self._judge(place, day.begin, day.end, out)
                self._days[place] = []
        self._sums[:] = 0
        self._counts[:] = 0
        self._end += TEN_MINUTES_NS

    def _judge(self, place: int, begin: int, end: int, out: Derived) -> None:
        quantity, values = self._quantities[place], self._days[place]
        if not values:
            return
        known = len(values) * TEN_MINUTES_NS / (end - begin)
        quality = StatusCode.GOOD if known >= KNOWN_SHARE else StatusCode.UNCERTAIN
        ordered = sorted(abs(value) for value in values)
        highest = ordered[math.ceil(0.95 * len(ordered)) - 1]
        outside = 100 * sum(_beyond(value, quantity) > 0 for value in values) / len(values)
        out.readings.append(Reading(3 * place + 1, begin, highest, quality, at=end))
        out.readings.append(Reading(3 * place + 2, begin, outside, quality, at=end))
        short = quantity["short"]
        is_over = outside > 100 - quantity["share"] + 1e-9 or (short is not None and ordered[-1] > short)
        key = f"{quantity['meter']}.{quantity['name']}"
        if quality != StatusCode.GOOD or self._verdicts.get(key, False) == is_over:
            return
        self._verdicts[key] = is_over
        day = self._grid.local(begin).date()
        facts: dict[str, str | float | None] = {
            "quantity": quantity["name"], "day": str(day), "verdict": "exceeded" if is_over else "within",
            "p95": round(highest, 6), "highest": round(ordered[-1], 6), "outside_percent": round(outside, 6),
            "low": quantity["low"], "high": quantity["high"], "short": short, "source": quantity["source"],
        }  # fmt: skip
        words = "is beyond its limit" if is_over else "is within its limit again"
        message = f"{quantity['meter']}: {quantity['name']} of {day} {words}, {outside:.1f} % of values outside"
        severity = Severity.MEDIUM if is_over else Severity.INFO
        out.events.append(Event(end, quantity["meter"], "power_quality", severity, message, facts))

    def state(self) -> Mapping[str, Any]:
        """Return everything as CBOR types."""
        return {
            "end": self._end,
            "sums": self._sums.tolist(),
            "counts": self._counts.tolist(),
            "days": [np.array(each, np.float64).tobytes() for each in self._days],
            "verdicts": dict(sorted(self._verdicts.items())),
        }

    def restore(self, state: Mapping[str, Any]) -> Sequence[str]:
        """Take a state up."""
        self._end = state["end"]
        self._sums[:], self._counts[:] = state["sums"], state["counts"]
        self._days = [np.frombuffer(each, np.float64).tolist() for each in state["days"]]
        self._verdicts = dict(state["verdicts"])
        return ()


def _beyond(value: float, quantity: Mapping[str, Any]) -> float:
    """Return how far a value lies outside of its limits; below zero inside."""
    high = value - quantity["high"] if quantity["high"] is not None else -math.inf
    low = quantity["low"] - value if quantity["low"] is not None else -math.inf
    return max(high, low)


def make(settings: Mapping[str, Any]) -> Sequence[Operator]:
    """Return the operators of the plan's part `power_quality`."""
    return [QualityWatch(settings)]
