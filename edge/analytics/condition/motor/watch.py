"""A motor's current as an operator: rotor bars, eccentricity and bearing by lines beside the supply's."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from edge.analytics.condition.block_watch import BlockWatch, scaled
from edge.analytics.condition.gate import CONFIRM, Confirmed
from edge.analytics.condition.judge import HIGH, Finding, Judge
from edge.analytics.condition.motor.current import CurrentSpectrum, Motor, NotDiagnosable, current_spectrum
from edge.analytics.condition.names import MOTOR_LINES, motor_figures_of
from edge.analytics.condition.signal.stretch import BEARING, Channel, Lengths, Purpose
from edge.analytics.condition.statistics.baseline import speed_bin
from edge.analytics.condition.telling import Evidence
from edge.analytics.condition.turning.speeds import Speeds
from edge.analytics.operator import Derived
from edge.core.batch import Severity, Waveform

JUDGED, NO_SPEED = "judged", "no_steady_speed"
RULE = "rotor bars"
CLAUSE = "lower line of the rotor's bars, in dB below the supply's; a convention of the trade, no standard has limits"
RPM_DOUBT_MIN = 1.0
SPEED_SHARE = 0.01


class MotorWatch(BlockWatch):
    """The motor of one machine."""

    def __init__(self, machine: Mapping[str, Any]) -> None:
        self._how = machine["motor"]
        self._currents: dict[str, float] = self._how["currents"]
        self._motor = Motor(self._how["supply_hz"], machine["rpm"], self._how["rated_a"], machine["orders"])
        lengths: dict[Purpose, Lengths] = {BEARING: Lengths(self._how["window_s"], self._how["window_s"])}
        channels = {tag: Channel(lengths, joins=tag in self._how["joined"]) for tag in self._currents}
        values = [machine["speed"]] if machine["speed"] else []
        super().__init__(machine, "motor", channels, values, "running", motor_figures_of(machine))
        self._speeds = Speeds(math.nan)
        self._bars = {tag: Confirmed() for tag in self._currents}
        self._windows: dict[str, list[list[Any]]] = {tag: [] for tag in self._currents}
        self._lines = [*MOTOR_LINES, *machine["orders"]]
        self._judges = {f"{tag}_{name}": Judge(None, "") for tag in self._currents for name in self._lines}

    def take_value(self, tag: str, at: int, value: float) -> None:
        """Take the motor's speed."""
        if tag == self.machine["speed"]:
            self._speeds.feed(at, value)

    def take_block(self, out: Derived, tag: str, at: int, wave: Waveform) -> bool:
        """Judge a block of current."""
        samples = scaled(wave, self._currents[tag])
        speeds = [rpm for rpm in self._speeds.within(wave.ts, at) if not math.isnan(rpm)]
        rpm = doubt = math.nan
        if speeds:
            rpm, doubt = sum(speeds) / len(speeds), max(max(speeds) - min(speeds), RPM_DOUBT_MIN)
        reason = "no_full_scale" if samples is None else NO_SPEED if doubt > SPEED_SHARE * rpm else ""
        if reason or samples is None:
            self.teller.tell(out, f"{tag}_motor", wave.ts, reason)
            return True
        try:
            found = current_spectrum(samples, wave.rate_hz, self._motor, rpm, doubt)
        except NotDiagnosable as error:
            self.teller.tell(out, f"{tag}_motor", wave.ts, error.code)
            return True
        self._tell(out, tag, wave, found)
        facts = {
            "supply_hz": found.supply_hz, "slip": found.slip, "slip_doubt": found.slip_doubt,
            "slip_from": found.slip_from, "load_percent": 100 * found.load,
        }  # fmt: skip
        evidence = Evidence(tag, wave, self._currents[tag], "motor_evidence")
        self._judge_bars(out, tag, at, wave, found, facts, evidence)
        for name in self._lines:
            line = found.lines.get(name)
            if line is None:
                continue
            # Baselines are those of amplitudes: a share of the supply's line, in percent.
            share = 100 * 10 ** (line.level_db / 20)
            more = {**facts, "hz": line.hz, "floor_db": line.floor_db}
            for finding in self._judges[f"{tag}_{name}"].feed(wave.ts, share, speed_bin(self._motor.rpm)):
                words = ("above" if finding.rule == HIGH else "drifts from") + " its baseline"
                self.teller.alarm(out, f"{tag}_{name}", at, _in_db(finding), words, more, evidence)
        return True

    def _tell(self, out: Derived, tag: str, wave: Waveform, found: CurrentSpectrum) -> None:
        tell = self.teller.tell
        tell(out, f"{tag}_motor", wave.ts, JUDGED)
        tell(out, f"{tag}_supply_frequency", wave.ts, found.supply_hz)
        tell(out, f"{tag}_slip", wave.ts, 100 * found.slip)
        tell(out, f"{tag}_slip_doubt", wave.ts, 100 * found.slip_doubt)
        tell(out, f"{tag}_slip_from", wave.ts, found.slip_from)
        tell(out, f"{tag}_motor_load", wave.ts, 100 * found.load)
        for name in self._lines:
            if (line := found.lines.get(name)) is not None:
                tell(out, f"{tag}_{name}", wave.ts, line.level_db)

    def _judge_bars(
        self, out: Derived, tag: str, at: int, wave: Waveform, found: CurrentSpectrum, facts: Mapping[str, Any],
        evidence: Evidence,
    ) -> None:  # fmt: skip
        line = found.lines.get("rotor_bars_lower")
        if line is None:
            return
        limit, broken = self._how["bars_db"]
        self._windows[tag] = [*self._windows[tag], [wave.ts, line.level_db]][-CONFIRM:]
        if not self._bars[tag].feed(line.is_visible and line.level_db > limit):
            return
        is_on = self._bars[tag].is_on
        severity = Severity.INFO if not is_on else Severity.HIGH if line.level_db > broken else Severity.MEDIUM
        since, values = self._windows[tag][0][0], [each for _, each in self._windows[tag]]
        finding = Finding(RULE, is_on, line.level_db, limit, severity, CLAUSE, since, values)
        more = {**facts, "hz": line.hz, "expected_hz": line.expected_hz, "floor_db": line.floor_db}
        upper = found.lines.get("rotor_bars_upper")
        more |= {} if upper is None else {"upper_db": upper.level_db}
        words = "shows lines of broken rotor bars, or a load that pulsates so"
        self.teller.alarm(out, f"{tag}_rotor_bars_lower", at, finding, words, more, evidence)

    def shift(self, by: int) -> None:
        """Move what is counted from a moment."""
        super().shift(by)
        self._speeds.shift(by)

    def state(self) -> Mapping[str, Any]:
        """Return speeds, baselines, alarms and blocks that wait."""
        return {
            **super().state(),
            "speeds": self._speeds.state(),
            "bars": {tag: [bars.state(), self._windows[tag]] for tag, bars in self._bars.items()},
            "judges": {name: judge.state() for name, judge in self._judges.items()},
        }

    def restore(self, state: Mapping[str, Any]) -> Sequence[str]:
        """Take a state up."""
        super().restore(state)
        self._speeds.restore(state["speeds"])
        for tag, (bars, window) in state["bars"].items():
            self._bars[tag], self._windows[tag] = Confirmed(*bars), list(window)
        for name, judge in self._judges.items():
            judge.restore(state["judges"][name])
        return ()

    def view(self) -> Any:
        """Return which lines are in alarm, and what is learned."""
        judges = self._judges.items()
        alarmed = [f"{tag}_rotor_bars_lower" for tag, bars in self._bars.items() if bars.is_on]
        return {
            "alarmed": [*alarmed, *(name for name, judge in judges if judge.is_alarmed)],
            "learned": [name for name, judge in judges if any(each.is_ready for each in judge.baselines.values())],
        }


def _in_db(finding: Finding) -> Finding:
    """Return a finding about a share in percent as one in dB."""

    def db(share: float) -> float:
        return 20 * math.log10(max(share, 1e-12) / 100)

    values = [db(each) for each in finding.values]
    return replace(finding, value=db(finding.value), limit=db(finding.limit), values=values)
