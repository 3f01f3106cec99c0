"""Tool wear by the spindle's load, operation by operation, as an operator."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edge.analytics.condition.cutting.operations import FALL, Key, Run, Sums, Wear, trimmed
from edge.analytics.condition.gate import Gate
from edge.analytics.condition.judge import Finding
from edge.analytics.condition.names import operation_figures_of, path_of
from edge.analytics.condition.telling import Evidence, Teller
from edge.analytics.operator import Derived, Operator, Rows
from edge.core.batch import Severity, Waveform
from edge.core.quality import is_bad

KNOWN_MAX = 512
"""Operations, times tools, times loads, of which is known what is normal; the last used are kept."""

WORN, LOST = "tool wear", "tool lost"
CLAUSES = {
    WORN: "own baseline of the operation since the tool is new: four robust sigma and `rise`; a convention",
    LOST: "own baseline of the operation since the tool is new: half of it; a convention",
}


class OperationWatch(Operator):
    """The operations of one machine."""

    KIND = "condition"

    def __init__(self, machine: Mapping[str, Any]) -> None:
        self._machine = machine
        self._how = machine["operations"]
        self._device: str = machine["device"]
        self.name = f"operations {self._device}"
        cutting = machine["cutting"]
        self._gate = Gate(cutting["above"], cutting["hold_ns"])
        self._loads: list[str] = list(self._how["load"])
        extra = [tag for tag in (self._how["tool"], self._how["changed"]) if tag]
        self._tags = list(dict.fromkeys([*self._loads, *self._how["name"], *extra, cutting["tag"]]))
        self.inputs = [path_of(self._device, tag) for tag in self._tags]
        self._teller = Teller(self._device, operation_figures_of(machine))
        self.outputs = self._teller.outputs
        self._words: dict[str, str | None] = dict.fromkeys([*self._how["name"], *extra])
        self._values = dict.fromkeys(self._loads, math.nan)
        self._clock = 0
        self._run: Run | None = None
        self._known: dict[Key, Wear] = {}
        self._forgotten = 0

    @property
    def fingerprint(self) -> str:
        """What is normal for other tags means nothing."""
        return json.dumps([self._how, self._machine["cutting"]], sort_keys=True)

    def push(self, rows: Rows, now: int) -> Derived:
        """Take values in order of event time."""
        out = Derived()
        for place in range(len(rows)):
            at = int(rows.at[place])
            self._end_of_pause(out, at - 1)
            self._hold(at)
            self._teller.now = at
            bad, text = is_bad(int(rows.quality[place])), rows.text[place]
            value = math.nan if bad else float(rows.value[place])
            word = None if bad or (text is None and math.isnan(value)) else f"{value:g}" if text is None else text
            self._take(out, self._tags[int(rows.slot[place])], at, value, word)
        self._end_of_pause(out, now)
        return out

    def _take(self, out: Derived, tag: str, at: int, value: float, word: str | None) -> None:
        if tag == self._machine["cutting"]["tag"]:
            self._gate.feed(at, value)
        is_lost = tag == self._how["changed"] and word is None  # which tool it is goes on to be what it was
        if tag in self._words and word != self._words[tag] and not is_lost:
            self._end(out, at)
            self._change(out, tag, at, word)
        if tag in self._values:
            if self._run is not None and self._run.stopped is None:
                self._run.loads[tag].step(value - self._values[tag])
                self._run.loads[tag].show((at - self._run.begin) / 1e9, value)
            self._values[tag] = value
        self._begin_or_stop(at)

    def _change(self, out: Derived, tag: str, at: int, word: str | None) -> None:
        """Take another operation, tool, or what says that the tool is new."""
        before, self._words[tag] = self._words[tag], word
        if tag != self._how["changed"] or before is None or (self._how["changed_is_bool"] and word == "0"):
            return
        tool = self._tool()
        for (operation, of_tool, load), wear in self._known.items():
            if of_tool != tool:
                continue
            rules = [rule for rule, state in ((WORN, wear.worn), (LOST, wear.lost)) if state.is_on]
            normal, limit = wear.reference(self._how["rise"])
            last = wear.window[-1][1] if wear.window else math.nan
            wear.renew()
            for rule in rules:
                border = limit if rule == WORN else FALL * normal
                finding = Finding(rule, False, last, border, Severity.INFO, CLAUSES[rule], at)
                self._tell_alarm(out, load, at, finding, {"operation": operation, "tool": of_tool, "tool_is_new": True})

    def _tool(self) -> str | None:
        return self._words[self._how["tool"]] if self._how["tool"] else ""

    def _operation(self) -> str | None:
        words = [self._words[tag] for tag in self._how["name"]]
        return None if None in words else "/".join(word or "" for word in words)

    def _begin_or_stop(self, at: int) -> None:
        cuts = self._gate.since is not None
        if self._run is not None:
            if not cuts:
                self._run.stopped = at if self._run.stopped is None else self._run.stopped
            else:
                self._run.stopped = None
            return
        operation, tool = self._operation(), self._tool()
        if cuts and operation is not None and tool is not None:
            self._run = Run(operation, tool, at, {tag: Sums() for tag in self._loads})
            for tag, sums in self._run.loads.items():
                sums.show(0.0, self._values[tag])

    def _hold(self, at: int) -> None:
        """Let the last values hold until now, while it cuts."""
        if self._run is not None and self._run.stopped is None:
            for tag, sums in self._run.loads.items():
                sums.hold(self._values[tag], at - self._clock)
        self._clock = at

    def _end_of_pause(self, out: Derived, until: int) -> None:
        due = self.due()
        if due is not None and due <= until:
            self._teller.now = due
            self._end(out, due)

    def due(self) -> int | None:
        """Return when a pause has become the end of the run."""
        if self._run is None or self._run.stopped is None:
            return None
        return int(self._run.stopped + self._how["pause_ns"])

    def _end(self, out: Derived, at: int) -> None:
        """Judge the run that ends, if it was long enough."""
        run, self._run = self._run, None
        if run is None:
            return
        seconds = max(sums.seconds for sums in run.loads.values())
        if seconds * 1e9 < self._how["shortest_ns"]:
            return
        tell = self._teller.tell
        tell(out, "operation", run.begin, run.operation)
        if self._how["tool"]:
            tell(out, "operation_tool", run.begin, run.tool)
        tell(out, "operation_duration", run.begin, seconds)
        for load, sums in run.loads.items():
            features = sums.features()
            if features is None:
                continue
            for name, value in features.items():
                tell(out, f"{load}_operation_{name}", run.begin, value)
            self._judge(out, load, at, run, features, sums)

    def _judge(
        self, out: Derived, load: str, at: int, run: Run, features: Mapping[str, float], sums: Sums
    ) -> None:  # fmt: skip
        key = run.operation, run.tool, load
        wear = self._known.pop(key, None) or Wear()
        self._forgotten += len(self._known) >= KNOWN_MAX
        self._known = trimmed(self._known, KNOWN_MAX - 1)
        self._known[key] = wear
        rise, mean = self._how["rise"], features["mean"]
        normal, limit = wear.reference(rise)
        changes = wear.feed(run.begin, mean, self._how["runs"], rise)
        facts: dict[str, Any] = {"operation": run.operation, "tool": run.tool, "parts_since_new": wear.parts}
        facts |= {"baseline": normal, "baseline_of": "earlier tools" if math.isnan(wear.normal) else "this tool"}
        facts |= {"peak": features["peak"], "rms": features["rms"]}
        if not math.isnan(normal) and normal > 0:
            self._teller.tell(out, f"{load}_wear", run.begin, 100 * (mean / normal - 1))
        if (trend := wear.trend()) is not None:
            for name, value in zip(("wear_trend", "parts_left"), trend, strict=True):
                self._teller.tell(out, f"{load}_{name}", run.begin, value)
        since, values = wear.window[0][0], [each for _, each in wear.window]
        for rule, state, has_changed in zip((WORN, LOST), (wear.worn, wear.lost), changes, strict=True):
            if has_changed:
                border = limit if rule == WORN else FALL * normal
                severity = Severity.MEDIUM if state.is_on else Severity.INFO
                finding = Finding(rule, state.is_on, mean, border, severity, CLAUSES[rule], since, values)
                self._tell_alarm(out, load, at, finding, facts, self._evidence(load, run, sums))

    def _tell_alarm(
        self, out: Derived, load: str, at: int, finding: Finding, facts: Mapping[str, Any],
        evidence: Evidence | None = None,
    ) -> None:  # fmt: skip
        what = "shows tool wear" if finding.rule == WORN else "shows that the tool does not cut"
        words = f"{what} in operation {facts['operation']}" + (f", tool {facts['tool']}" if facts["tool"] else "")
        self._teller.alarm(out, f"{load}_operation_mean", at, finding, words, facts, evidence)

    def _evidence(self, load: str, run: Run, sums: Sums) -> Evidence | None:
        if not sums.shown:
            return None
        samples, rate = sums.snippet()
        wave = Waveform(0, run.begin, rate, 0.0, np.array(samples, np.float32))
        return Evidence(load, wave, 1.0, "operation_evidence")

    def shift(self, by: int) -> None:
        """Move what is counted from a moment."""
        self._clock += by
        if self._gate.since is not None:
            self._gate.since += by
        if self._run is not None:
            self._run.begin += by
            self._run.stopped = None if self._run.stopped is None else self._run.stopped + by

    def state(self) -> Mapping[str, Any]:
        """Return the run at hand and what is normal."""
        return {
            "since": self._gate.since,
            "told": self._teller.told,
            "words": self._words,
            "values": self._values,
            "clock": self._clock,
            "run": None if self._run is None else self._run.state(),
            "known": [[*key, wear.state()] for key, wear in self._known.items()],
            "forgotten": self._forgotten,
        }

    def restore(self, state: Mapping[str, Any]) -> Sequence[str]:
        """Take a state up."""
        self._gate.since, self._clock, self._forgotten = state["since"], state["clock"], state["forgotten"]
        self._teller.told = list(state["told"])
        self._words = {tag: state["words"][tag] for tag in self._words}
        self._values = {tag: state["values"][tag] for tag in self._values}
        self._run = None if state["run"] is None else Run.of(state["run"])
        self._known = {(operation, tool, load): Wear.of(wear) for operation, tool, load, wear in state["known"]}
        return ()

    def view(self) -> Any:
        """Return which operations are learned, which are in alarm, and what is being learned."""
        named = {" · ".join(part for part in key if part): wear for key, wear in self._known.items()}
        return {
            "learned": [name for name, wear in named.items() if not math.isnan(wear.normal)],
            "alarmed": [name for name, wear in named.items() if wear.worn.is_on or wear.lost.is_on],
            "not_learned": {name: wear.refused for name, wear in named.items() if wear.refused},
            "forgotten": self._forgotten,
        }
