"""Control charts of each process value alone, over means that hardly depend on each other."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.analytics.condition.gate import CONFIRM
from edge.analytics.condition.process.model import CLIP, CUSUM_SLACK, EWMA_WEIGHT, Singles
from edge.analytics.condition.process.names import CUSUM, EWMA, NELSON, WESTERN_ELECTRIC
from edge.analytics.condition.statistics import control

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

RUN_RULES = {NELSON: control.NELSON, WESTERN_ELECTRIC: control.WESTERN_ELECTRIC}


@dataclass(frozen=True, slots=True)
class Crossing:
    """The chart of a value begins or ends to alarm. `value` and `limit` are in the unit of the value, or, for a run
    rule, the mean that completes the run and the middle it is about."""

    rule: str
    place: int
    is_on: bool
    value: float
    limit: float
    detail: str = ""


class Charts:
    """The charts of all values at one state of the machine. A value that is missing stands still."""

    def __init__(self, width: int, rules: Collection[str]) -> None:
        self._rules = rules
        self._sums = np.zeros(width)
        self._counts = np.zeros(width, np.int64)
        self._ewma = np.zeros((width, control.EWMA_STATE))
        self._cusum = np.zeros((width, control.CUSUM_STATE))
        self._runs = np.zeros((width, control.RUNS_STATE), np.int64)
        self._previous = np.full(width, math.nan)
        self.means = np.full(width, math.nan)
        """The means of the last step, NaN where there was none."""
        self.standing: dict[str, int] = {}
        """Which alarm, `rule place`, and how many means in a row spoke against it."""

    def pause(self) -> None:
        """Drop the means that have begun: the machine stood."""
        self._sums[:], self._counts[:] = 0.0, 0

    def feed(self, row: F64, model: Singles) -> tuple[NDArray[np.bool_], list[Crossing]]:
        """Take a row; return which values' charts took a step with it, and what begins or ends."""
        seen = np.isfinite(row) & (model.rows > 0)
        self._sums[seen] += row[seen]
        self._counts[seen] += 1
        full = seen & (self._counts >= model.rows)
        if not full.any():
            return full, []
        self.means = means = np.where(full, self._sums / np.maximum(self._counts, 1), math.nan)
        self._sums[full], self._counts[full] = 0.0, 0
        z = (means - model.mean) / model.sigma
        found: list[Crossing] = []
        if EWMA in self._rules:
            found += self._step_ewma(z, model)
        if CUSUM in self._rules:
            found += self._step_cusum(z, model)
        if self._rules & RUN_RULES.keys():
            found += self._step_runs(z, means, model)
        return full, found

    def _step_ewma(self, z: F64, model: Singles) -> list[Crossing]:
        alarm = np.zeros(z.size, np.bool_)
        spread = math.sqrt(EWMA_WEIGHT / (2 - EWMA_WEIGHT))
        limit = model.ewma_limit + model.bias / spread
        control.ewma(np.clip(z, -CLIP, CLIP), EWMA_WEIGHT, limit, self._ewma, alarm)
        found = []
        for place in np.flatnonzero(np.isfinite(z)).tolist():
            if self._turns(f"{EWMA} {place}", bool(alarm[place])):
                level = float(self._ewma[place, 0])
                found.append(self._crossing(EWMA, place, level, math.copysign(limit * spread, level), model))
        return found

    def _step_cusum(self, z: F64, model: Singles) -> list[Crossing]:
        alarm = np.zeros(z.size, np.bool_)
        slack = CUSUM_SLACK + model.bias
        control.cusum(np.clip(z, -CLIP, CLIP), slack, model.cusum_limit, self._cusum, alarm)
        # Bounded, so that a long fault does not take as long again to be seen as over.
        np.minimum(self._cusum, 2 * model.cusum_limit, out=self._cusum)
        found = []
        for place in np.flatnonzero(np.isfinite(z)).tolist():
            name, sums = f"{CUSUM} {place}", self._cusum[place]
            stands = name in self.standing
            if alarm[place] and not stands:
                self.standing[name] = 0
            elif stands and not sums.any():
                del self.standing[name]
            else:
                continue
            side = 1.0 if z[place] > 0 else -1.0
            found.append(self._crossing(CUSUM, place, float(z[place]), side * slack, model))
        return found

    def _step_runs(self, z: F64, means: F64, model: Singles) -> list[Crossing]:
        fired = np.zeros(z.size, np.int64)
        control.run_rules(z, self._previous, self._runs, fired)
        found = []
        for rule in sorted(self._rules & RUN_RULES.keys()):
            for place in np.flatnonzero(np.isfinite(z)).tolist():
                bits = int(fired[place]) & RUN_RULES[rule]
                if self._turns(f"{rule} {place}", bits != 0, 1 if bits else CONFIRM):
                    names = [name for bit, name in enumerate(control.RULES) if bits >> bit & 1]
                    is_on = f"{rule} {place}" in self.standing
                    middle = float(model.mean[place])
                    found.append(Crossing(rule, place, is_on, float(means[place]), middle, "; ".join(names)))
        return found

    def _turns(self, name: str, beyond: bool, needed: int = CONFIRM) -> bool:
        """Count for or against an alarm; return whether it begins, at once, or ends, after `needed` in a row.

        A chart gathers its evidence over many means: it needs none to confirm it.
        """
        if name not in self.standing:
            if beyond:
                self.standing[name] = 0
            return beyond
        self.standing[name] = 0 if beyond else self.standing[name] + 1
        if self.standing[name] < needed:
            return False
        del self.standing[name]
        return True

    def _crossing(self, rule: str, place: int, level: float, limit: float, model: Singles) -> Crossing:
        middle, sigma = float(model.mean[place]), float(model.sigma[place])
        is_on = f"{rule} {place}" in self.standing
        return Crossing(rule, place, is_on, middle + level * sigma, middle + limit * sigma)

    def scores(self, rule: str, model: Singles) -> F64:
        """Return how far each chart is on the way to its limit, (d,) f64: 1 at the limit, negative below the middle."""
        if rule == CUSUM:
            up, down = self._cusum.T
            share: F64 = np.where(up >= down, up, -down) / model.cusum_limit
            return share
        spread = math.sqrt(EWMA_WEIGHT / (2 - EWMA_WEIGHT))
        scaled: F64 = self._ewma[:, 0] / (model.ewma_limit * spread + model.bias)
        return scaled

    def state(self) -> dict[str, Any]:
        """Return it as CBOR types."""
        arrays = (self._sums, self._counts, self._ewma, self._cusum, self._runs, self._previous)
        return {"arrays": [each.tobytes() for each in arrays], "standing": dict(sorted(self.standing.items()))}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up what `state` told."""
        arrays = (self._sums, self._counts, self._ewma, self._cusum, self._runs, self._previous)
        for array, kept in zip(arrays, state["arrays"], strict=True):
            array.ravel()[:] = np.frombuffer(kept, array.dtype)
        self.standing = dict(state["standing"])
