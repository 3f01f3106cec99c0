"""Process values that belong together, watched as an operator: temperatures, pressures, currents, flows of a machine or
of several. Learned while it runs and is well, per speed and state; judged together and each alone."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edge.analytics.condition.gate import CONFIRM, Confirmed, Gate
from edge.analytics.condition.process.charts import Charts
from edge.analytics.condition.process.events import Events
from edge.analytics.condition.process.model import ProcessModel, learn
from edge.analytics.condition.process.names import CUSUM, EWMA, NOVELTY, SPE, T2, figures_of, flat
from edge.analytics.condition.process.steps import AVERAGED, F64, Block, Steps
from edge.analytics.condition.statistics import control
from edge.analytics.condition.statistics import multivariate as mv
from edge.analytics.condition.statistics.baseline import speed_bin
from edge.analytics.condition.statistics.novelty import HalfSpaceTrees
from edge.analytics.operator import NEVER, Derived, Operator, Output, Reading, Rows
from edge.core.catalogue import ValueKind
from edge.core.quality import StatusCode, is_bad

MONTH_NS = 30 * 86_400 * 10**9
"""Running time between two false alarms of a watch that limits are made for."""

STATES_MAX = 16
"""Speeds and states a watch learns; in others nothing is judged."""

NOVELTY_MAX = 9.0
EVIDENCE = 15
"""Means of a value that its alarm shows; the longest run rule looks at so many."""


class _State:
    """What is known of the machine at one speed and state."""

    def __init__(self, width: int, rules: Sequence[str]) -> None:
        self.rows: list[F64] = []
        self.model: ProcessModel | None = None
        self.charts = Charts(width, set(rules))
        self.last_means: list[list[list[Any]]] = [[] for _ in range(width)]  # of each value begin and mean


class ProcessWatch(Operator):
    """One watch. `settings` are its part of the plan."""

    KIND = "process"

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._settings = settings
        self._device: str = settings["name"]
        self.name = f"watch {self._device}"
        self._tags: list[str] = list(settings["tags"])
        self._rules: list[str] = list(settings["rules"])
        running = settings["running"]
        self._gate = Gate(running["above"], running["hold_ns"]) if running else None
        self._gate_tag = running["tag"] if running else None
        others = [self._gate_tag, settings["speed"], settings["state"], *settings["zones"]]
        self.inputs = list(dict.fromkeys([*self._tags, *(path for path in others if path)]))
        self._place: dict[str, int] = {}
        self.outputs: list[Output] = []
        for name, kind, unit in figures_of(settings):
            self._place[name] = len(self.outputs)
            self.outputs.append(Output(self._device, name, ValueKind(kind), unit, tuple(self._tags)))
        self._every: int = settings["every_ns"]
        self._events = Events(self._device, settings["tags"], self._every * AVERAGED)
        self._needed = max(1, round(settings["learn_ns"] / (self._every * AVERAGED)))
        self._steps = Steps(len(self._tags), settings["max_age_ns"])
        self._block = Block(len(self._tags))
        self._states: dict[str, _State] = {}
        self._key = ""
        self._speed = 0
        self._text = ""
        self._zones: dict[str, str] = {}
        self._end: int | None = None
        self._last_at = NEVER
        self._told = [NEVER] * len(self.outputs)
        self._confirmed: dict[str, Confirmed] = {rule: Confirmed() for rule in (T2, SPE) if rule in self._rules}
        self._last_rows: list[list[Any]] = []  # begin, T², SPE and values of those that confirm an alarm
        self._blind = Confirmed()
        self._is_refused = False
        self._cause = ""
        self._trees = HalfSpaceTrees(len(self._tags)) if NOVELTY in self._rules else None

    @property
    def fingerprint(self) -> str:
        """What was learned of other tags, or by other steps, means nothing."""
        return json.dumps(self._settings, sort_keys=True)

    # ------------------------------------------------------------------ readings become steps

    def push(self, rows: Rows, now: int) -> Derived:
        """Take readings in order of event time; each step ends before the first reading of the next."""
        out = Derived()
        for place in range(len(rows)):
            at = int(rows.at[place])
            self._advance(out, at)
            if not rows.is_old[place]:
                self._take(rows, place, at)
            if self._end is None:
                self._end = (at // self._every + 1) * self._every
        self._advance(out, now)
        return out

    def _take(self, rows: Rows, place: int, at: int) -> None:
        path, quality = self.inputs[int(rows.slot[place])], int(rows.quality[place])
        value = float(rows.value[place])
        if is_bad(quality) or not math.isfinite(value):
            value = math.nan
        slot = int(rows.slot[place])
        if slot < len(self._tags):
            self._steps.take(slot, at, value)
            self._last_at = at
        if self._gate is not None and path == self._gate_tag:
            self._gate.feed(at, value)
        if path == self._settings["speed"]:
            self._speed = -1 if math.isnan(value) else speed_bin(abs(value))
        text = rows.text[place]
        if path == self._settings["state"]:
            known = text if text is not None else None if math.isnan(value) else f"{value:g}"
            self._text = "" if known is None or is_bad(quality) else known
        if path in self._settings["zones"]:
            self._zones[path] = "" if text is None or is_bad(quality) else text

    def _advance(self, out: Derived, until: int) -> None:
        while self._end is not None and self._end <= until:
            end = self._end
            self._close(out, end)
            # With nothing new for longer than a value is held, there are no steps until something comes.
            is_over = end - self._last_at > self._settings["max_age_ns"] + self._every
            self._end = None if is_over else end + self._every

    def _close(self, out: Derived, end: int) -> None:
        row = self._steps.close(end)
        key = self._state_key()
        runs = self._gate is None or self._gate.is_settled(end - self._every)
        if not runs or key is None or np.isnan(row).all():
            self._pause()
            return
        if key != self._key:
            self._pause()
            self._key = key
        mean = self._block.take(row)
        if mean is None:
            return
        if key not in self._states:
            if len(self._states) >= STATES_MAX:
                return
            self._states[key] = _State(len(self._tags), self._rules)
        known = self._states[key]
        if known.model is None:
            self._learn(out, end, known, mean)
        else:
            self._judge(out, end, known, known.model, mean)

    def _state_key(self) -> str | None:
        """Return which speed and state it is in; None while that is not known."""
        if (self._settings["speed"] and self._speed < 0) or (self._settings["state"] and not self._text):
            return None
        return f"{self._speed} {self._text}"

    def _pause(self) -> None:
        self._block.clear()
        if self._key in self._states:
            self._states[self._key].charts.pause()

    # ------------------------------------------------------------------ learning

    def _learn(self, out: Derived, end: int, known: _State, mean: F64) -> None:
        if np.isnan(mean).any():
            return
        bad = [path for path, zone in sorted(self._zones.items()) if zone > "B"]
        if bad:
            if not self._is_refused:
                out.events.append(self._events.refused(end, bad[0], self._zones[bad[0]]))
            self._is_refused = True
            return
        self._is_refused = False
        known.rows.append(mean.astype(np.float32))
        if len(known.rows) < self._needed:
            return
        rows = np.array(known.rows, np.float64)
        known.rows = []
        known.model = model = learn(rows, MONTH_NS / (self._every * AVERAGED))
        out.events.append(self._events.learned(end, model, len(rows), self._state_facts()))

    def _state_facts(self) -> dict[str, Any]:
        facts: dict[str, Any] = {}
        if self._settings["speed"]:
            facts["speed_bin"] = self._speed
        if self._settings["state"]:
            facts["state"] = self._text
        return facts

    # ------------------------------------------------------------------ judgement

    def _judge(self, out: Derived, end: int, known: _State, model: ProcessModel, mean: F64) -> None:
        missing = [path for path, value in zip(self._tags, mean, strict=True) if math.isnan(value)]
        if self._blind.feed(bool(missing)):
            self._tell_blind(out, end, missing)
        if not missing:
            self._judge_together(out, end, model.together, mean)
        stepped, crossings = known.charts.feed(mean, model.alone)
        for place in np.flatnonzero(stepped).tolist():
            begin = end - int(model.alone.rows[place]) * self._every * AVERAGED
            window = [*known.last_means[place], [begin, float(known.charts.means[place])]]
            known.last_means[place] = window[-EVIDENCE:]
        for crossing in crossings:
            window = known.last_means[crossing.place]
            out.events.append(self._events.crossing(end, crossing, model.alone, window, self._state_facts()))
        for rule in (EWMA, CUSUM):
            if rule in self._rules:
                for place, score in enumerate(known.charts.scores(rule, model.alone).tolist()):
                    if stepped[place]:
                        self._tell(out, f"{rule}_{flat(self._tags[place])}", end, score)

    def _judge_together(self, out: Derived, end: int, model: mv.Model, mean: F64) -> None:
        (t2,), (spe,) = mv.statistics(model, mean[None])
        row = [end - self._every * AVERAGED, float(t2), float(spe), mean.tolist()]
        self._last_rows = [*self._last_rows, row][-CONFIRM:]
        shares: dict[str, F64] = {}
        for rule, value, limit in ((T2, float(t2), model.t2_limit), (SPE, float(spe), model.spe_limit)):
            if rule not in self._rules:
                continue
            self._tell(out, rule, end, value)
            self._tell(out, f"{rule}_limit", end, limit)
            if not self._confirmed[rule].feed(value > limit):
                continue
            if not shares:
                shares = dict(zip((T2, SPE), mv.contributions(model, mean), strict=True))
            self._tell_together(out, end, rule, value, limit, shares[rule], model)
        if self._trees is not None:
            familiar = self._trees.feed((mean - model.mean) / model.scale)
            # Not a number until a window is full; zero is where nothing ever was.
            score = -math.log10(familiar) if familiar != 0 else NOVELTY_MAX
            if not math.isnan(score):
                self._tell(out, NOVELTY, end, min(NOVELTY_MAX, score))

    def _tell_together(
        self, out: Derived, end: int, rule: str, value: float, limit: float, shares: F64, model: mv.Model
    ) -> None:
        is_on = self._confirmed[rule].is_on
        window = self._last_rows
        event = self._events.together(end, is_on, rule, value, limit, shares, model, window, self._state_facts())
        out.events.append(event)
        if is_on or not any(each.is_on for each in self._confirmed.values()):
            self._tell(out, "cause", end, str(event.facts["contributions"]) if is_on else "")

    def _tell_blind(self, out: Derived, end: int, missing: Sequence[str]) -> None:
        out.events.append(self._events.blind(end, missing))
        for rule in self._confirmed if missing else ():
            place = self._place[rule]
            out.readings.append(self._reading(place, end, math.nan, int(StatusCode.BAD_NO_COMMUNICATION)))

    def _tell(self, out: Derived, name: str, at: int, value: float | str) -> None:
        if value == value:
            out.readings.append(self._reading(self._place[name], at, value))

    def _reading(self, place: int, at: int, value: float | str, quality: int = 0) -> Reading:
        self._told[place] = ts = max(at, self._told[place] + 1)
        return Reading(place, ts, value, quality, at=at)

    # ------------------------------------------------------------------ state

    def due(self) -> int | None:
        """Return when the present step ends."""
        return self._end

    def shift(self, by: int) -> None:
        """Move what is counted from a moment; steps stay on their grid."""
        if self._gate is not None and self._gate.since is not None:
            self._gate.since += by
        self._steps.shift(by)
        if self._end is not None:
            self._end = ((self._end + by - 1) // self._every + 1) * self._every
            self._last_at += by

    def state(self) -> Mapping[str, Any]:
        """Return everything as CBOR types."""
        return {
            "since": self._gate.since if self._gate else None,
            "steps": self._steps.state(),
            "block": self._block.state(),
            "now": [self._key, self._speed, self._text, self._end, self._last_at, self._is_refused],
            "zones": dict(sorted(self._zones.items())),
            "told": self._told,
            "confirmed": {rule: each.state() for rule, each in sorted(self._confirmed.items())},
            "last_rows": self._last_rows,
            "blind": self._blind.state(),
            "trees": self._trees.state() if self._trees else None,
            "states": {
                key: [
                    b"".join(row.tobytes() for row in known.rows),
                    known.model.state() if known.model else None,
                    known.charts.state(),
                    known.last_means,
                ]
                for key, known in sorted(self._states.items())
            },
        }

    def restore(self, state: Mapping[str, Any]) -> Sequence[str]:
        """Take a state up."""
        if self._gate is not None:
            self._gate.since = state["since"]
        self._steps.restore(state["steps"])
        self._block.restore(state["block"])
        self._key, self._speed, self._text, self._end, self._last_at, self._is_refused = state["now"]
        self._zones, self._told = dict(state["zones"]), list(state["told"])
        self._confirmed = {rule: Confirmed(*each) for rule, each in state["confirmed"].items()}
        self._last_rows = [*state.get("last_rows", ())]
        self._blind = Confirmed(*state["blind"])
        if self._trees is not None:
            self._trees.restore(state["trees"])
        for key, (rows, model, charts, *last) in state["states"].items():
            known = self._states[key] = _State(len(self._tags), self._rules)
            known.rows = list(np.frombuffer(rows, np.float32).reshape(-1, len(self._tags)).copy())
            known.model = ProcessModel.of(model) if model else None
            known.charts.restore(charts)
            if last:  # states of before had none
                known.last_means = [*last[0]]
        return ()

    def view(self) -> Any:
        """Return how far it has learned and what stands, at each speed and state."""
        standing: list[str] = [rule for rule, each in self._confirmed.items() if each.is_on]
        for known in self._states.values():
            standing += [
                f"{rule} {self._tags[int(place)]}" for rule, place in (name.split() for name in known.charts.standing)
            ]
        return {
            "learned": {
                key.strip(): 1.0 if known.model else len(known.rows) / self._needed
                for key, known in self._states.items()
            },
            "alarmed": standing,
            "is_full": len(self._states) >= STATES_MAX,
        }


def make(settings: Mapping[str, Any]) -> Sequence[Operator]:
    """Return one operator a watch."""
    return [ProcessWatch(each) for each in settings["watches"]]


def warm_up() -> None:
    """Compile what the charts need."""
    z = np.zeros(1)
    control.ewma(z, 0.1, 1.0, np.zeros((1, control.EWMA_STATE)), np.zeros(1, np.bool_))
