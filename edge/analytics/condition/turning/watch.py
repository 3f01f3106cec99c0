"""Order tracking as an operator: a machine of changing speed by its orders, and its bearing in the angle domain."""

import math
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edge.analytics.condition.bearing.diagnosis import Diagnosis, diagnose
from edge.analytics.condition.bearing.fault import BearingFault
from edge.analytics.condition.block_watch import BlockWatch, end_of, scaled
from edge.analytics.condition.judge import HIGH, Judge
from edge.analytics.condition.names import order_figures_of, order_name
from edge.analytics.condition.signal.stretch import BEARING, Channel, Lengths, Purpose
from edge.analytics.condition.statistics.baseline import speed_bin
from edge.analytics.condition.telling import Evidence, as_state, of_state
from edge.analytics.condition.turning.follow import followed
from edge.analytics.condition.turning.orders import order_amplitudes, within
from edge.analytics.condition.turning.tacho import NoSpeed, Track, tacho_track, track_of
from edge.analytics.operator import Derived
from edge.core.batch import Waveform

GOOD, NO_TACHO, NO_SCALE = "good", "no_tacho", "no_full_scale"
TACHOS_MAX = 2
PULSES_MAX = 20_000
PULSES_NS = 120 * 10**9
"""How long pulses are kept: a block comes after its end."""

PATIENCE_NS = 60 * 10**9
"""How long after its end a block waits for the tacho's that belongs to it."""

OVERLAP_MIN = 0.8
COUNTS_MIN = 6
BEARING_CLAUSE = "ISO 13373-3, rolling element bearings; envelope order spectrum over its carpet"


class OrderWatch(BlockWatch):
    """One machine with a tacho, or whose own line is followed."""

    VERSION = 2

    def __init__(self, machine: Mapping[str, Any]) -> None:
        self._how = machine["tracking"]
        self._waveforms: dict[str, float] = machine["waveforms"]
        lengths: dict[Purpose, Lengths] = {BEARING: Lengths(*machine["blocks"][BEARING])}
        channels = {tag: Channel(lengths, joins=tag in machine["joined"]) for tag in self._waveforms}
        values = [machine["speed"]] if machine["speed"] else []
        if self._how["is_waveform"]:
            channels[self._how["tag"]] = Channel(lengths, joins=self._how["joined"])
        elif self._how["tag"]:
            values.append(self._how["tag"])
        super().__init__(machine, "orders", channels, values, "running", order_figures_of(machine))
        teeth = [machine["teeth"]] if machine["teeth"] else []
        self._orders = [*self._how["orders"], *teeth]
        self._names = [order_name(order) for order in self._how["orders"]] + ["tracked_mesh"] * len(teeth)
        self._judges = {f"{tag}_{name}": Judge(None, "") for tag in self._waveforms for name in self._names}
        self._bearings = {tag: BearingFault() for tag in self._waveforms}
        self._rpm: float = machine["rpm"]
        self._tachos: list[Waveform] = []
        self._pulses: deque[tuple[int, float]] = deque(maxlen=PULSES_MAX)
        self._is_high = False

    def take_value(self, tag: str, at: int, value: float) -> None:
        """Take the speed, or a pulse: a number counts them, a true value is one."""
        if tag == self.machine["speed"]:
            self._rpm = value
        if tag != self._how["tag"] or self._how["is_waveform"]:
            return
        if not self._how["counts"]:
            was, self._is_high = self._is_high, value > 0.5
            if was or not self._is_high:
                return
            value = self._pulses[-1][1] + 1 if self._pulses else 0.0
        if math.isnan(value) or (self._pulses and value < self._pulses[-1][1]):
            self._pulses.clear()  # a counter that began anew says nothing about what was before
        if not math.isnan(value):
            self._pulses.append((at, value))
            while self._pulses[0][0] < at - PULSES_NS:
                self._pulses.popleft()

    def is_kept(self, tag: str, at: int, wave: Waveform) -> bool:
        """Keep a block of the tacho for those it belongs to."""
        if tag != self._how["tag"]:
            return tag in self._waveforms
        self._tachos = [*self._tachos, wave][-TACHOS_MAX:]
        self.ask_again(at)
        return False

    def patience(self) -> int:
        """Return how long a block waits for its tacho's."""
        return PATIENCE_NS if self._how["is_waveform"] else 0

    def give_up(self, out: Derived, tag: str, wave: Waveform) -> None:
        """Tell that the tacho's block did not come."""
        self.teller.tell(out, f"{tag}_tracking", wave.ts, NO_TACHO)

    def take_block(self, out: Derived, tag: str, at: int, wave: Waveform) -> bool:
        """Judge a block of acceleration, if its tacho's is there."""
        tacho = self._tacho_of(wave)
        if self._how["is_waveform"] and tacho is None:
            return False
        samples = scaled(wave, self._waveforms[tag])
        if samples is None:
            self.teller.tell(out, f"{tag}_tracking", wave.ts, NO_SCALE)
            return True
        try:
            track = self._track(wave, samples, tacho)
            slowest, mean, fastest = track.hz()
            amplitudes = order_amplitudes(samples, wave.rate_hz, track, self._orders)
            found = diagnose(samples, wave.rate_hz, 60 * mean, self.machine["orders"], track=track)
        except NoSpeed as error:
            self.teller.tell(out, f"{tag}_tracking", wave.ts, error.code)
            return True
        self.teller.tell(out, f"{tag}_tracking", wave.ts, GOOD)
        self.teller.tell(out, f"{tag}_rpm_min", wave.ts, 60 * slowest)
        self.teller.tell(out, f"{tag}_rpm_max", wave.ts, 60 * fastest)
        evidence = Evidence(tag, wave, self._waveforms[tag], "tracked_evidence")
        facts = {"rpm": 60 * mean, "rpm_min": 60 * slowest, "rpm_max": 60 * fastest, "turns": track.span}
        facts |= {"pulses_missing": track.missing, "pulses_additional": track.additional}
        for name, order, amplitude in zip(self._names, self._orders, amplitudes, strict=True):
            full = f"{tag}_{name}"
            self.teller.tell(out, full, wave.ts, amplitude)
            for finding in self._judges[full].feed(wave.ts, amplitude, speed_bin(60 * mean)):
                words = f"of order {order:g} " + ("above" if finding.rule == HIGH else "drifts from") + " its baseline"
                self.teller.alarm(out, full, at, finding, words, {"order": order, **facts}, evidence)
        if self.machine["orders"]:
            self._judge_bearing(out, tag, at, wave, found, evidence, facts)
        return True

    def _tacho_of(self, wave: Waveform) -> Waveform | None:
        """Return the tacho's block that lies over most of this one."""
        begin, end = wave.ts, end_of(wave)

        def overlap(each: Waveform) -> int:
            return min(end, end_of(each)) - max(begin, each.ts)

        best = max(self._tachos, key=overlap, default=None)
        return best if best is not None and overlap(best) >= OVERLAP_MIN * (end - begin) else None

    def _track(self, wave: Waveform, samples: Any, tacho: Waveform | None) -> Track:
        if not np.isfinite(samples).all():
            raise NoSpeed("missing_samples")
        if tacho is not None:
            voltage = tacho.samples.astype(np.float64)
            track = tacho_track(voltage, tacho.rate_hz, self._how["pulses"], (tacho.ts - wave.ts) / 1e9)
        elif self._how["tag"]:
            track = self._counted(wave.ts)
        else:
            share = self._how["follow"]
            if not self._rpm > 0:
                raise NoSpeed("no_line")
            track = followed(samples, wave.rate_hz, (1 - share) * self._rpm / 60, (1 + share) * self._rpm / 60)
        within(track, (samples.size - 1) / wave.rate_hz)
        return track

    def _counted(self, begin: int) -> Track:
        """Return the turns that values of the tacho's tag show, since this time."""
        seconds = np.array([(at - begin) / 1e9 for at, _ in self._pulses])
        if not self._how["counts"]:
            return track_of(seconds, self._how["pulses"])
        # Counts are read now and then, not at each pulse: between readings the speed is taken as smooth.
        count = np.array([value for _, value in self._pulses])
        moved = np.flatnonzero(np.diff(count) > 0) + 1
        if moved.size < COUNTS_MIN:
            raise NoSpeed("too_few_turns")
        return Track(seconds[moved], count[moved] / self._how["pulses"])

    def _judge_bearing(
        self, out: Derived, tag: str, at: int, wave: Waveform, found: Diagnosis, evidence: Evidence,
        facts: Mapping[str, Any],
    ) -> None:  # fmt: skip
        for family, line in found.lines.items():
            self.teller.tell(out, f"{tag}_{family}", wave.ts, line.level_db)
        self.teller.tell(out, f"{tag}_fault", wave.ts, found.verdict.fault)
        known = self._bearings[tag]
        finding = known.feed(wave.ts, found, BEARING_CLAUSE)
        if finding is not None:
            more = {**known.facts(found, self.machine["orders"]), **facts}
            words = f"shows a fault: {known.fault}"
            self.teller.alarm(out, f"{tag}_{known.family}", at, finding, words, more, evidence)

    def shift(self, by: int) -> None:
        """Move what is counted from a moment."""
        super().shift(by)
        self._pulses = deque(((at + by, value) for at, value in self._pulses), PULSES_MAX)

    def state(self) -> Mapping[str, Any]:
        """Return baselines, alarms, pulses and blocks that wait."""
        return {
            **super().state(),
            "rpm": self._rpm,
            "judges": {name: judge.state() for name, judge in self._judges.items()},
            "bearings": {tag: known.state() for tag, known in self._bearings.items()},
            "tachos": [as_state(wave) for wave in self._tachos],
            "pulses": [np.array([at for at, _ in self._pulses], np.int64).tobytes(),
                       np.array([value for _, value in self._pulses], np.float64).tobytes(), self._is_high],
        }  # fmt: skip

    def restore(self, state: Mapping[str, Any]) -> Sequence[str]:
        """Take a state up."""
        super().restore(state)
        self._rpm = state["rpm"]
        for name, judge in self._judges.items():
            judge.restore(state["judges"][name])
        for tag, known in self._bearings.items():
            known.restore(state["bearings"][tag])
        self._tachos = [of_state(wave) for wave in state["tachos"]]
        at, value, self._is_high = state["pulses"]
        pulses = zip(np.frombuffer(at, np.int64).tolist(), np.frombuffer(value).tolist(), strict=True)
        self._pulses.extend(pulses)
        return ()

    def view(self) -> Any:
        """Return faults, which orders are in alarm, and what is learned."""
        judges = self._judges.items()
        return {
            "faults": {tag: known.fault for tag, known in self._bearings.items() if known.is_on},
            "alarmed": [name for name, judge in judges if judge.is_alarmed],
            "learned": [name for name, judge in judges if any(each.is_ready for each in judge.baselines.values())],
        }
