"""Control charts of values of parts, one point a part (ISO 7870-2:2013: individuals and moving range)."""

import json
import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from edge.analytics.condition.process.charts import Charts, Crossing
from edge.analytics.condition.process.events import crossing_facts, rule_words
from edge.analytics.condition.process.model import Singles
from edge.analytics.condition.process.spc_section import figures_of
from edge.analytics.condition.statistics.control import CUSUM_LIMIT, EWMA_LIMIT
from edge.analytics.operator import NEVER, Derived, Operator, Output, Reading, Rows
from edge.core.batch import Event, Severity
from edge.core.catalogue import ValueKind
from edge.core.quality import is_bad

MOVING_RANGE = 1.128
"""Mean range of two Gaussian values in sigma, d2."""

EVIDENCE = 15
"""Parts that the longest rule looks at."""


class Spc(Operator):
    """One chart. `settings` are its part of the plan."""

    KIND = "spc"

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._settings = settings
        self._name: str = settings["name"]
        self.name = f"spc {self._name}"
        self._tag: str = settings["tag"]
        self._each: str | None = settings["each"]
        self.inputs = [self._tag, *([self._each] if self._each else [])]
        self.outputs = [
            Output(self._name, name, ValueKind(kind), unit, (self._tag,)) for name, kind, unit in figures_of(settings)
        ]
        self._seen: list[float] = []
        self._model: Singles | None = None
        self._charts = Charts(1, set(settings["rules"]))
        self._value = math.nan
        self._count: float | None = None
        self._last: list[list[Any]] = []
        self._told = NEVER

    @property
    def fingerprint(self) -> str:
        """What was learned of another tag means nothing."""
        return json.dumps(self._settings, sort_keys=True)

    def push(self, rows: Rows, now: int) -> Derived:
        """Take readings, moment after moment; of one moment, the value before the part is counted."""
        out, row, at = Derived(), 0, rows.at.tolist()
        while row < len(at):
            moment, parts = at[row], list[float]()
            is_counted = False
            while row < len(at) and at[row] == moment:
                if not rows.is_old[row]:
                    slot, value = int(rows.slot[row]), float(rows.value[row])
                    value = value if math.isfinite(value) and not is_bad(int(rows.quality[row])) else math.nan
                    if slot == 0:
                        self._value = value
                        parts.append(value)
                    elif not math.isnan(value):
                        is_counted |= self._count is not None and value != self._count
                        self._count = value
                row += 1
            if self._each is not None:
                parts = [self._value] if is_counted else []
            for value in parts:
                if not math.isnan(value):
                    self._part(out, moment, value)
        return out

    def _part(self, out: Derived, at: int, value: float) -> None:
        if self._model is None:
            self._learn(out, at, value)
            return
        model = self._model
        self._last = [*self._last, [at, value]][-EVIDENCE:]
        centre, sigma = float(model.mean[0]), float(model.sigma[0])
        # Two readings of a tag never have one time.
        self._told = ts = max(at, self._told + 1)
        for place, figure in enumerate(((value - centre) / sigma, centre, centre - 3 * sigma, centre + 3 * sigma)):
            out.readings.append(Reading(place, ts, figure, at=at))
        _, crossings = self._charts.feed(np.array([value]), model)
        out.events += [self._event(at, crossing) for crossing in crossings]

    def _learn(self, out: Derived, at: int, value: float) -> None:
        self._seen.append(value)
        if len(self._seen) < self._settings["learn"]:
            return
        values, self._seen = self._seen, []
        ranges = [abs(after - before) for before, after in pairwise(values)]
        centre = math.fsum(values) / len(values)
        sigma = math.fsum(ranges) / len(ranges) / MOVING_RANGE
        # A gauge that always tells the same has no spread: then any other value is one of many sigma.
        sigma = sigma if sigma > 0 else max(abs(centre), 1.0) * 1e-9
        one = np.ones(1)
        self._model = Singles(one * centre, one * sigma, np.ones(1, np.int64), 0.0, EWMA_LIMIT, CUSUM_LIMIT)
        unit = self._settings["unit"]
        text = f"{self._name} has learned {len(values)} parts: {centre:.6g} ± {3 * sigma:.3g} {unit}".strip()
        facts = {"tag": self._tag, "parts": len(values), "centre": centre, "sigma": sigma, "unit": unit}
        out.events.append(Event(at, self._name, "spc_learned", Severity.INFO, text, facts))

    def _event(self, at: int, crossing: Crossing) -> Event:
        unit = self._settings["unit"]
        rule, facts = rule_words(crossing.rule), crossing_facts(self._tag, unit, crossing, self._last, at)
        value, limit = (f"{each:.6g} {unit}".strip() for each in (crossing.value, crossing.limit))
        if not crossing.is_on:
            text = f"{self._tag} is in control again ({rule}): {value}"
        elif crossing.detail:
            text = f"{self._tag}: {crossing.detail} ({rule}): {value}, the centre is {limit}"
        else:
            text = f"{self._tag} has shifted ({rule}): {value}, the limit is {limit}"
        kind = "spc_alarm" if crossing.is_on else "spc_alarm_over"
        return Event(at, self._name, kind, Severity.MEDIUM if crossing.is_on else Severity.INFO, text, facts)

    def state(self) -> Mapping[str, Any]:
        """Return everything as CBOR types."""
        return {
            "seen": self._seen, "model": self._model and self._model.state(), "charts": self._charts.state(),
            "now": [self._value, self._count, self._told], "last": self._last,
        }  # fmt: skip

    def restore(self, state: Mapping[str, Any]) -> Sequence[str]:
        """Take a state up."""
        self._seen, self._last = list(state["seen"]), list(state["last"])
        self._model = Singles.of(state["model"]) if state["model"] else None
        self._charts.restore(state["charts"])
        self._value, self._count, self._told = state["now"]
        return ()

    def view(self) -> Any:
        """Return how far it has learned and what stands."""
        learned = 1.0 if self._model else len(self._seen) / self._settings["learn"]
        return {"learned": learned, "alarmed": [name.split()[0] for name in self._charts.standing]}


def make(settings: Mapping[str, Any]) -> Sequence[Operator]:
    """Return one operator a chart."""
    return [Spc(each) for each in settings["charts"]]
