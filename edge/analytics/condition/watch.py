"""Condition monitoring as an operator: a machine's velocities and waveforms in; features, zones and alarms out."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from typing import Any

import numpy as np

from edge.analytics.condition.bearing.diagnosis import CLIPPED_MAX, FLAT_MAX, Diagnosis, diagnose
from edge.analytics.condition.bearing.fault import RULE, BearingFault
from edge.analytics.condition.gate import Gate
from edge.analytics.condition.judge import Finding, Judge
from edge.analytics.condition.names import (
    FEATURES,
    GEAR_FEATURES,
    REMAINING,
    SAMPLES_MIN,
    at_steady_speed,
    figures_of,
    is_slow,
    path_of,
)
from edge.analytics.condition.signal import block
from edge.analytics.condition.signal.moments import SIZE, moments
from edge.analytics.condition.signal.stretch import BEARING, TREND, Block, Channel, Lengths, Purpose
from edge.analytics.condition.statistics.baseline import Baseline, speed_bin
from edge.analytics.condition.telling import Evidence, Teller, as_state, of_state
from edge.analytics.operator import Derived, Operator, Rows
from edge.core.batch import Event, Severity, Waveform
from edge.core.quality import StatusCode, is_bad

PLACES = {
    "acceleration_rms": (block.RMS, 1.0),
    "acceleration_peak": (block.PEAK, 1.0),
    "crest_factor": (block.CREST, 1.0),
    "kurtosis": (block.KURTOSIS, 1.0),
    "skewness": (block.SKEWNESS, 1.0),
    "velocity_rms": (block.VELOCITY, 1e3),
    "displacement_rms": (block.DISPLACEMENT, 1e6),
    "band_rms_1_10_khz": (block.BAND, 1.0),
    "order_1": (block.ORDER_1, 1.0),
    "order_2": (block.ORDER_2, 1.0),
    "orders_3_10": (block.ORDERS, 1.0),
    "subsynchronous": (block.SUBSYNCHRONOUS, 1.0),
    "envelope_rms": (block.ENVELOPE, 1.0),
    "mesh": (block.MESH, 1.0),
    "mesh_sidebands": (block.MESH_SIDEBANDS, 1.0),
}
"""Where the block's kernel puts a feature, and the factor to its unit."""

WATCHES = {
    "tracking": ("edge.analytics.condition.turning.watch", "OrderWatch"),
    "motor": ("edge.analytics.condition.motor.watch", "MotorWatch"),
    "chatter": ("edge.analytics.condition.cutting.chatter_watch", "ChatterWatch"),
    "operations": ("edge.analytics.condition.cutting.operation_watch", "OperationWatch"),
}
"""What else watches a machine, by the key of its plan: module and class."""

Facts = dict[str, str | int | float | bool | None]
GOOD = "good"
PLANS_MAX = 16
BEARING_CLAUSE = "ISO 13373-3, rolling element bearings; envelope spectrum over its carpet"


class MachineWatch(Operator):
    """One machine."""

    KIND = "condition"
    VERSION = 2

    def __init__(self, machine: Mapping[str, Any]) -> None:
        self._machine = machine
        self._device: str = machine["device"]
        self.name = f"condition {self._device}"
        self._has_zones = machine["velocity_mm_s"] is not None
        running = machine["running"]
        self._gate = Gate(running["above"], running["hold_ns"]) if running else None
        self._features = [*FEATURES, *(GEAR_FEATURES if machine["teeth"] else ())]
        self._velocities: dict[str, float] = machine["velocities"]
        self._waveforms: dict[str, float] = machine["waveforms"]
        tags = [*self._velocities, *self._waveforms, *([running["tag"]] if running else [])]
        tags += [machine["speed"]] if machine["speed"] else []
        self._tags = list(dict.fromkeys(tags))
        self.inputs = [path_of(self._device, tag) for tag in self._tags]
        self._teller = Teller(self._device, figures_of(machine))
        self.outputs = self._teller.outputs
        self._tell = self._teller.tell
        names = [*self._velocities, *(f"{tag}_velocity_rms" for tag in self._waveforms)]
        self._judges = {name: self._judge_of(machine["velocity_mm_s"]) for name in names}
        for tag in self._waveforms:
            self._judges[f"{tag}_acceleration_rms"] = self._judge_of(None)
            if is_slow(self._machine):
                self._judges[f"{tag}_displacement_rms"] = self._judge_of(machine["displacement_um"])
        self._young = {tag: (Baseline(), Baseline()) for tag in self._waveforms}
        self._plans: dict[tuple[int, float, float], block.Plan] = {}
        self._bearings = {tag: BearingFault() for tag in self._waveforms}
        self._channels = {tag: self._channel(tag) for tag in self._waveforms}
        self._due: int | None = None
        self._rpm: float = machine["rpm"]
        self._last: tuple[str, Waveform] | None = None
        self._refused: dict[str, str] = {}
        self._noted: list[str] = []

    def _channel(self, tag: str) -> Channel:
        lengths: dict[Purpose, Lengths] = {TREND: Lengths(*self._machine["blocks"][TREND])}
        if self._machine["orders"]:
            lengths[BEARING] = Lengths(*self._machine["blocks"][BEARING])
        return Channel(lengths, joins=tag in self._machine["joined"])

    def _judge_of(self, borders: Sequence[float] | None) -> Judge:
        return Judge(None if borders is None else (borders[0], borders[1], borders[2]), self._machine["clause"])

    @property
    def fingerprint(self) -> str:
        """Zones and baselines of another machine mean nothing."""
        return json.dumps(self._machine, sort_keys=True)

    def push(self, rows: Rows, now: int) -> Derived:
        """Take values and waveforms in order of event time; of one time, values first."""
        out = Derived()
        for at, slot, given in rows.numbers_and_blocks():
            if isinstance(given, Waveform):
                self._take_waveform(out, slot, given, at)
            else:
                self._end_stretches(out, at - 1)
                self._take_value(out, self._tags[slot], at, given)
        self._end_stretches(out, now)
        return out

    def due(self) -> int | None:
        """Return when the first stretch of samples counts as ended."""
        return self._due

    def _take_value(self, out: Derived, tag: str, at: int, value: float) -> None:
        self._teller.now = at
        if self._gate is not None and tag == self._machine["running"]["tag"]:
            self._gate.feed(at, value)
        if tag == self._machine["speed"]:
            self._rpm = value
        if tag in self._velocities and self._is_settled(at):
            self._judge(out, tag, at, value * self._velocities[tag], self._rpm, until=at)

    def _is_settled(self, at: int) -> bool:
        return self._gate is None or self._gate.is_settled(at)

    def _take_waveform(self, out: Derived, slot: int, wave: Waveform, at: int) -> None:
        self._end_stretches(out, at - 1)
        tag = self._tags[slot]
        channel = self._channels[tag]
        self._teller.now = at
        is_taken = self._is_fit(out, tag, wave) and self._is_settled(at) and self._rpm > 0
        for each in channel.feed(wave, self._rpm, at) if is_taken else channel.end():
            self._take_block(out, tag, each)
        self._find_due()

    def _end_stretches(self, out: Derived, until: int) -> None:
        """Judge what is left of stretches that nothing followed in time."""
        while self._due is not None and self._due <= until:
            self._teller.now = self._due
            for tag, channel in self._channels.items():
                if channel.due() == self._due:
                    for each in channel.end():
                        self._take_block(out, tag, each)
            self._find_due()

    def _find_due(self) -> None:
        self._due = min((due for each in self._channels.values() if (due := each.due()) is not None), default=None)

    def _is_fit(self, out: Derived, tag: str, wave: Waveform) -> bool:
        if wave.quality == StatusCode.BAD_CONFIGURATION_ERROR:
            return self._refuse(out, tag, wave, "its quality is BadConfigurationError")
        if is_bad(wave.quality) or not len(wave):
            return False
        if wave.samples.dtype == np.int16 and not wave.full_scale:
            return self._refuse(out, tag, wave, "its samples are integers, and it has no full_scale")
        self._refused.pop(tag, None)
        return True

    def _refuse(self, out: Derived, tag: str, wave: Waveform, reason: str) -> bool:
        """Note that samples cannot be judged; an event tells each reason once."""
        self._refused[tag] = reason
        if (note := f"{tag}: {reason}") not in self._noted:
            self._noted.append(note)
            facts: Facts = {"tag": tag, "reason": reason, "samples": len(wave), "rate_hz": wave.rate_hz}
            message = f"{self._device}.{tag} is not judged: {reason}"
            out.events.append(Event(wave.ts, self._device, "waveform_not_judged", Severity.MEDIUM, message, facts))
        return False

    def _take_block(self, out: Derived, tag: str, taken: Block) -> None:
        wave = taken.wave
        if len(wave) < SAMPLES_MIN:
            self._refuse(out, tag, wave, f"fewer than {SAMPLES_MIN} samples follow each other without a gap")
            return
        factor = self._waveforms[tag] * (wave.full_scale / 32768 if wave.samples.dtype == np.int16 else 1.0)
        samples = wave.samples.astype(np.float64) * factor
        if taken.purpose == BEARING:
            self._look_for_faults(out, tag, taken, samples)
        else:
            self._take_trend(out, tag, taken, samples)

    def _take_trend(self, out: Derived, tag: str, taken: Block, samples: block.F64) -> None:
        wave, rpm = taken.wave, taken.rpm
        self._last = tag, wave
        measured = self._measured(samples, wave.rate_hz, rpm)
        health = _health(measured)
        self._tell(out, f"{tag}_sensor", wave.ts, health)
        if health != GOOD:
            return
        judged = {"velocity_rms": block.VELOCITY, "acceleration_rms": block.RMS}
        if is_slow(self._machine):
            judged["displacement_rms"] = block.DISPLACEMENT
        for name in self._features:
            place, scale = PLACES[name]
            self._tell(out, f"{tag}_{name}", wave.ts, float(measured[place]) * scale)
        for name, place in judged.items():
            value = float(measured[place]) * PLACES[name][1]
            self._judge(out, f"{tag}_{name}", wave.ts, value, rpm, until=taken.end)
        self._compare_with_its_youth(out, tag, wave.ts, measured)

    def _measured(self, samples: block.F64, rate_hz: float, rpm: float) -> block.F64:
        """Return the features of a block; a plan serves as long as length, rate and speed stay."""
        key = len(samples), rate_hz, rpm
        if key not in self._plans:
            if len(self._plans) >= PLANS_MAX:
                self._plans.clear()
            low, high = (share * rate_hz for share in block.ENVELOPE_SHARE)
            orders, teeth = self._machine["orders"], self._machine["teeth"] or 0
            self._plans[key] = block.plan(*key, orders, (low, high), teeth)
        measured = np.empty(block.SIZE)
        block.features(samples, self._plans[key], measured)
        return measured

    def _compare_with_its_youth(self, out: Derived, tag: str, at: int, measured: block.F64) -> None:
        """Tell K(t) of VDI 3832: RMS times peak when it was new over what they are now; below 0.2 it wears."""
        rms, peak = float(measured[block.RMS]), float(measured[block.PEAK])
        young = self._young[tag]
        is_well = not self._judges[f"{tag}_acceleration_rms"].is_alarmed
        for baseline, value in zip(young, (rms, peak), strict=True):
            baseline.learn(value, is_well=is_well)
        if all(baseline.is_ready for baseline in young) and rms * peak > 0:
            self._tell(out, f"{tag}_dkw", at, young[0].median * young[1].median / (rms * peak))

    def _look_for_faults(self, out: Derived, tag: str, taken: Block, samples: block.F64) -> None:
        wave = taken.wave
        found = diagnose(samples, wave.rate_hz, taken.rpm, self._machine["orders"])
        for family, line in found.lines.items():
            self._tell(out, f"{tag}_{family}", wave.ts, line.level_db)
        self._tell(out, f"{tag}_fault", wave.ts, found.verdict.fault)
        self._judge_bearing(out, tag, taken, found)

    def _judge(self, out: Derived, name: str, at: int, value: float, rpm: float, *, until: int) -> None:
        judge = self._judges[name]
        zone = judge.zone.zone
        for finding in judge.feed(at, value, speed_bin(rpm)):
            self._tell_finding(out, name, until, finding, self._last_evidence())
        if judge.zone.zone != zone:
            self._tell(out, f"{name}_zone", at, judge.zone.zone)
        if judge.borders is not None and (left := judge.remaining()) is not None:
            for each, hours in zip(REMAINING, left, strict=True):
                self._tell(out, f"{name}_{each}", at, hours)

    def _judge_bearing(self, out: Derived, tag: str, taken: Block, found: Diagnosis) -> None:
        known = self._bearings[tag]
        finding = known.feed(taken.wave.ts, found, BEARING_CLAUSE)
        if finding is not None:
            facts = known.facts(found, self._machine["orders"]) | {"rpm": taken.rpm}
            evidence = Evidence(tag, taken.wave, self._waveforms[tag], "bearing_evidence")
            self._tell_finding(out, f"{tag}_{known.family}", taken.end, finding, evidence, facts)

    def _last_evidence(self) -> Evidence | None:
        if self._last is None:
            return None
        tag, wave = self._last
        return Evidence(tag, wave, self._waveforms[tag])

    def _tell_finding(
        self,
        out: Derived,
        name: str,
        until: int,
        finding: Finding,
        evidence: Evidence | None,
        more: Mapping[str, Any] | None = None,
    ) -> None:
        judge = self._judges.get(name)
        facts: dict[str, Any] = {}
        if judge is not None and judge.zone.zone:
            facts["zone"] = judge.zone.zone
        facts |= more or {}
        words = {
            "zone": f"zone {facts.get('zone')}", "criterion II": "changed from its baseline",
            "baseline": "above its baseline", "drift": "drifts from its baseline",
            RULE: f"shows a fault: {facts.get('fault')}",
        }[finding.rule]  # fmt: skip
        self._teller.alarm(out, name, until, finding, words, facts, evidence, unit="mm/s")

    def shift(self, by: int) -> None:
        """Move what is counted from a moment."""
        if self._gate is not None and self._gate.since is not None:
            self._gate.since += by
        for channel in self._channels.values():
            channel.shift(by)
        self._find_due()

    def state(self) -> Mapping[str, Any]:
        """Return baselines, zones, alarms, and the last block of samples."""
        return {
            "since": self._gate.since if self._gate else None,
            "rpm": self._rpm,
            "told": self._teller.told,
            "judges": {name: judge.state() for name, judge in self._judges.items()},
            "bearings": {tag: known.state() for tag, known in self._bearings.items()},
            "young": {tag: [each.state() for each in pair] for tag, pair in self._young.items()},
            "channels": {tag: channel.state() for tag, channel in self._channels.items()},
            "refused": [self._refused, self._noted],
            "last": None if self._last is None else [self._last[0], *as_state(self._last[1])],
        }

    def restore(self, state: Mapping[str, Any]) -> Sequence[str]:
        """Take a state up."""
        if self._gate is not None:
            self._gate.since = state["since"]
        self._rpm, self._teller.told = state["rpm"], list(state["told"])
        for name, judge in self._judges.items():
            judge.restore(state["judges"][name])
        for tag, known in self._bearings.items():
            known.restore(state["bearings"][tag])
        for tag, stretch in state["channels"].items():
            self._channels[tag].restore(stretch)
        self._refused, self._noted = state["refused"]
        self._find_due()
        for tag, (rms, peak) in state["young"].items():
            self._young[tag] = Baseline.of(rms), Baseline.of(peak)
        if state["last"] is not None:
            tag, *wave = state["last"]
            self._last = tag, of_state(wave)
        return ()

    def view(self) -> Any:
        """Return zones, faults, which alarms stand, and what is learned."""
        judges = self._judges.items()
        return {
            "zones": {name: judge.zone.zone for name, judge in judges if judge.zone.zone},
            "faults": {tag: known.fault for tag, known in self._bearings.items() if known.is_on},
            "alarmed": [name for name, judge in judges if judge.is_alarmed],
            "learned": [name for name, judge in judges if any(each.is_ready for each in judge.baselines.values())],
            "drift_unjudged": [name for name, judge in judges if judge.drift.is_refused],
            "not_judged": self._refused,
        }


def _health(measured: block.F64) -> str:
    """Return what is wrong with the sensor: missing, flat, clipped; else good."""
    if measured[block.MISSING] > 0:
        return "missing"
    if measured[block.RMS] == 0 or measured[block.FLAT] > FLAT_MAX:
        return "flat"
    return "clipped" if measured[block.CLIPPED] > CLIPPED_MAX else GOOD


def make(settings: Mapping[str, Any]) -> Sequence[Operator]:
    """Return the operators of each machine."""
    return [operator for machine in settings["machines"] for operator in operators_of(machine)]


def operators_of(machine: Mapping[str, Any]) -> Iterator[Operator]:
    """Yield what watches one machine. Modules of what is not asked for are not loaded: kernels take time and memory."""
    yield MachineWatch(at_steady_speed(machine))
    for key, (module, name) in WATCHES.items():
        if machine.get(key):
            watch: Callable[[Mapping[str, Any]], Operator] = getattr(import_module(module), name)
            yield watch(machine)


def warm_up() -> None:
    """Compile what a block of samples needs."""
    moments(np.zeros(8), np.empty(SIZE))
