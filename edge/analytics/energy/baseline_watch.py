"""An energy baseline in event time: gathers its period, fits once, and then tells what each period saves against it."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from edge.analytics.energy.baseline import Baseline, NoModel, fit
from edge.analytics.energy.baseline_section import LEVELS, figures_of
from edge.analytics.energy.grid import Grid
from edge.analytics.operator import Derived, Operator, Output, Reading, Rows
from edge.analytics.production.counter import Counter
from edge.core.batch import Event, Severity
from edge.core.catalogue import ValueKind
from edge.core.data_class import DataClass
from edge.core.quality import StatusCode, is_bad

PERIODS_MAX = 400
"""Periods after the baseline that are kept to be corrected."""

CORRECTED_PERIODS = 2
"""The newest periods, in which a driver's figure may still be corrected."""

_NOT_ISSUED = -1


@dataclass(slots=True)
class _Period:
    """One period. `sums` and `counts` of each driver; `told` what figures were, by driver and time."""

    energy: float | None
    quality: int
    sums: list[float]
    counts: list[int]
    told: dict[tuple[int, int], float] = field(default_factory=dict)
    revision: int = _NOT_ISSUED

    def columns(self) -> list[Any]:
        told = [[*key, value] for key, value in sorted(self.told.items())]
        return [self.energy, self.quality, self.sums, self.counts, told, self.revision]


class BaselineWatch(Operator):
    """One baseline. `settings` are its part of the plan."""

    KIND: ClassVar[str] = "baselines"

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.name = f"baseline {settings['name']}"
        self._settings = settings
        self._uses: list[str] = list(settings["drivers"].values())
        self.inputs = [settings["energy"], *settings["drivers"]]
        self.outputs = [
            Output(device, name, ValueKind.FLOAT64, unit, inputs, DataClass.ENERGY)
            for device, name, unit, inputs in figures_of(settings)
        ]
        self._grid = Grid(settings["timezone"])
        self._level = LEVELS[settings["every"]]
        self._counters = [Counter() for _ in self._uses]
        self._periods: dict[int, _Period] = {}
        self._model: Baseline | None = None
        self._is_fitted = False
        self._base = 0.0

    @property
    def fingerprint(self) -> str:
        """Another period or other drivers make another baseline."""
        return json.dumps(self._settings, sort_keys=True)

    def push(self, rows: Rows, now: int) -> Derived:
        """Take figures of energy and readings of drivers, moment after moment."""
        out, row, at = Derived(), 0, rows.at.tolist()
        while row < len(at):
            moment, changed = at[row], set[int]()
            while row < len(at) and at[row] == moment:
                if not is_bad(int(rows.quality[row])) and math.isfinite(float(rows.value[row])):
                    changed.add(self._take(rows, row))
                row += 1
            self._settle(changed - {_NOT_ISSUED}, moment, out)
        return out

    def _take(self, rows: Rows, row: int) -> int:
        """Take one reading and return the begin of the period it belongs to."""
        slot, ts, value = int(rows.slot[row]), int(rows.ts[row]), float(rows.value[row])
        if slot == 0:
            period = self._period(ts)
            period.energy, period.quality = value, int(rows.quality[row])
            return self._begin(ts)
        driver, use = slot - 1, self._uses[slot - 1]
        if use == "counter":
            if rows.is_old[row]:
                return _NOT_ISSUED
            ts -= 1  # what a counter shows was made before
            value = self._counters[driver].take(value)
        period = self._period(ts)
        if use == "sum":
            # A figure may be given out again: then it takes the place of what it was.
            value, period.told[driver, ts] = value - period.told.get((driver, ts), 0.0), value
        period.sums[driver] += value
        period.counts[driver] += 1
        return self._begin(ts)

    def _begin(self, ts: int) -> int:
        return self._grid.interval(self._level, ts).begin

    def _period(self, ts: int) -> _Period:
        begin = self._begin(ts)
        if begin not in self._periods:
            self._periods[begin] = _Period(None, 0, [0.0] * len(self._uses), [0] * len(self._uses))
        return self._periods[begin]

    def _drivers(self, period: _Period) -> list[float] | None:
        """Return the drivers of a period, None if one of them is not known."""
        if not all(period.counts):
            return None
        return [
            total / count if use == "mean" else total
            for use, total, count in zip(self._uses, period.sums, period.counts, strict=True)
        ]

    # ------------------------------------------------------------------ the model and what follows from it

    def _settle(self, changed: set[int], moment: int, out: Derived) -> None:
        end = self._settings["to_ns"]
        for begin in sorted(self._periods)[:-CORRECTED_PERIODS]:
            self._periods[begin].told.clear()
        if not self._is_fitted:
            last = self._begin(end - 1)
            if not any(begin >= last and self._periods[begin].energy is not None for begin in changed):
                return
            self._fit(moment, out)
            changed = set(self._periods)
        if self._model is None:
            return
        later = [begin for begin in sorted(self._periods) if begin >= end]
        known = [begin for begin in later if self._periods[begin].energy is not None]
        first = min((begin for begin in changed if begin in known), default=None)
        if first is not None:
            self._give(known, first, changed, moment, out)
        for begin in later[:-PERIODS_MAX]:
            self._base += self._saved(self._periods.pop(begin)) or 0.0

    def _fit(self, moment: int, out: Derived) -> None:
        begin, end = self._settings["from_ns"], self._settings["to_ns"]
        names, name = list(self._settings["drivers"]), self._settings["name"]
        periods = [self._periods[each] for each in sorted(self._periods) if begin <= each < end]
        whole = [
            (drivers, period.energy)
            for period in periods
            if (drivers := self._drivers(period)) is not None and period.energy is not None
        ]
        self._is_fitted = True
        try:
            model = fit(
                names,
                np.array([drivers for drivers, _ in whole], np.float64).reshape(len(whole), len(names)),
                np.array([energy for _, energy in whole], np.float64),
            )
        except NoModel as error:
            text = f"there is no baseline of {name}: {error}"
            facts = {"baseline": name, "periods": len(whole), "reason": str(error)}
            out.events.append(Event(moment, name, "energy_baseline_refused", Severity.HIGH, text, facts))
            return
        finally:
            self._periods = {each: period for each, period in self._periods.items() if each >= end}
        self._model = model
        line = " + ".join(
            [
                f"{model.intercept:.6g}",
                *(f"{slope:.6g} · {each}" for slope, each in zip(model.slopes, names, strict=True)),
            ]
        )
        weak = "" if model.accepted() else "; too weak to judge by"
        text = f"baseline of {name}: {line}; R² {model.r2:.6f}, CV(RMSE) {model.cv_rmse:.4f} %{weak}"
        told: dict[str, str | int | float | bool | None] = {
            "baseline": name,
            "a": model.intercept,
            **{f"b {each}": slope for slope, each in zip(model.slopes, names, strict=True)},
            "r2": model.r2,
            "cv_rmse_percent": model.cv_rmse,
            "periods": model.periods,
            "accepted": model.accepted(),
        }
        severity = Severity.INFO if model.accepted() else Severity.MEDIUM
        out.events.append(Event(moment, name, "energy_baseline", severity, text, told))

    def _saved(self, period: _Period) -> float | None:
        drivers = self._drivers(period)
        if self._model is None or drivers is None or period.energy is None:
            return None
        return float(self._model.expected(np.array([drivers]))[0]) - period.energy

    def _give(self, known: Sequence[int], first: int, changed: set[int], moment: int, out: Derived) -> None:
        """Give out what changed, and the running sum from there on."""
        total = self._base
        for begin in known:
            period = self._periods[begin]
            saved = self._saved(period)
            total += saved or 0.0
            if begin < first:
                continue
            period.revision += 1
            quality = period.quality if saved is not None else int(StatusCode.BAD_NO_COMMUNICATION)
            figures = [saved + (period.energy or 0.0), saved] if saved is not None else [math.nan, math.nan]
            for output, value in enumerate([*figures, total]):
                if begin in changed or output == 2:
                    code = quality if output < 2 else period.quality
                    out.readings.append(Reading(output, begin, value, code, period.revision, moment))

    # ------------------------------------------------------------------ state

    def state(self) -> Mapping[str, Any]:
        """Return everything as CBOR types."""
        model = self._model
        return {
            "periods": [[begin, *period.columns()] for begin, period in sorted(self._periods.items())],
            "counters": [counter.state() for counter in self._counters],
            "model": model and [model.intercept, list(model.slopes), model.r2, model.cv_rmse, model.periods],
            "is fitted": self._is_fitted,
            "base": self._base,
        }

    def restore(self, state: Mapping[str, Any]) -> Sequence[str]:
        """Take up the state of a baseline with the same settings."""
        for begin, energy, quality, sums, counts, told, revision in state["periods"]:
            period = _Period(
                energy, quality, list(sums), list(counts), {(driver, ts): value for driver, ts, value in told}, revision
            )
            self._periods[begin] = period
        for counter, kept in zip(self._counters, state["counters"], strict=True):
            counter.restore(kept)
        if state["model"]:
            intercept, slopes, r2, cv_rmse, periods = state["model"]
            names = tuple(self._settings["drivers"])
            self._model = Baseline(names, intercept, tuple(slopes), r2, cv_rmse, periods)
        self._is_fitted, self._base = state["is fitted"], state["base"]
        return ()


def make(settings: Mapping[str, Any]) -> Sequence[Operator]:
    """Return one operator a baseline."""
    return [BaselineWatch(each) for each in settings["baselines"]]
