"""Chatter as an operator: blocks of vibration while the tool cuts, at a known speed and number of teeth."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edge.analytics.condition.block_watch import BlockWatch, scaled
from edge.analytics.condition.cutting.chatter import INDEX_LIMIT, LEVEL_DB, SPEED_SHARE, VARIANCE_LIMIT, chatter
from edge.analytics.condition.gate import CONFIRM
from edge.analytics.condition.judge import Finding
from edge.analytics.condition.names import chatter_figures_of
from edge.analytics.condition.signal.stretch import TREND, Channel, Lengths, Purpose
from edge.analytics.condition.telling import Evidence
from edge.analytics.condition.turning.speeds import Speeds
from edge.analytics.operator import Derived
from edge.core.batch import Severity, Waveform

CLAUSE = (
    f"share out of step above {INDEX_LIMIT}, once-per-turn variance above {VARIANCE_LIMIT}, a narrow line "
    f"{LEVEL_DB:.0f} dB over its surroundings in all quarters of the block (Altintas 2012; Schmitz 2002)"
)
RULE = "chatter"
STEADY, CHATTER = "stable", "chatter"


class ChatterWatch(BlockWatch):
    """The spindle of one machine."""

    def __init__(self, machine: Mapping[str, Any]) -> None:
        self._teeth_tag: str | None = machine["chatter"]["tag"]
        self._teeth: float = machine["chatter"]["teeth"] or math.nan
        self._waveforms: dict[str, float] = machine["waveforms"]
        lengths: dict[Purpose, Lengths] = {TREND: Lengths(*machine["blocks"][TREND])}
        channels = {tag: Channel(lengths, joins=tag in machine["joined"]) for tag in self._waveforms}
        values = [tag for tag in (machine["speed"], self._teeth_tag) if tag]
        super().__init__(machine, "chatter", channels, values, "cutting", chatter_figures_of(machine))
        start = math.nan if machine["speed"] else float(machine["rpm"])
        self._speeds = Speeds(start)
        self._quiet: dict[str, int | None] = dict.fromkeys(self._waveforms)

    def take_value(self, tag: str, at: int, value: float) -> None:
        """Take the spindle's speed, or the teeth of the tool."""
        if tag == self.machine["speed"]:
            self._speeds.feed(at, value)
        if tag == self._teeth_tag:
            self._teeth = value

    def take_block(self, out: Derived, tag: str, at: int, wave: Waveform) -> bool:
        """Judge a block that lay wholly in the cut."""
        samples = scaled(wave, self._waveforms[tag])
        rpm = self._speed(wave.ts, at)
        reason = ""
        if samples is None:
            reason = "no_full_scale"
        elif not np.isfinite(samples).all():
            reason = "missing_samples"
        elif not rpm > 0:
            reason = "no_steady_speed"
        elif not self._teeth >= 1:
            reason = "no_teeth"
        found = None if reason or samples is None else chatter(samples, wave.rate_hz, rpm, int(self._teeth))
        tell = self.teller.tell
        if found is None:
            tell(out, f"{tag}_cut", wave.ts, reason or "too_few_turns")
            return True
        tell(out, f"{tag}_cut", wave.ts, CHATTER if found.is_chatter else STEADY)
        tell(out, f"{tag}_chatter_index", wave.ts, found.index)
        tell(out, f"{tag}_chatter_variance", wave.ts, found.variance)
        tell(out, f"{tag}_chatter_frequency", wave.ts, found.hz)
        tell(out, f"{tag}_chatter_amplitude", wave.ts, found.amplitude)
        before = self._quiet[tag]
        self._quiet[tag] = 0 if found.is_chatter else None if before is None or before + 1 >= CONFIRM else before + 1
        if (before is None) == (self._quiet[tag] is None):
            return True
        is_on = found.is_chatter
        facts = {
            "hz": found.hz, "level_db": found.level_db, "variance": found.variance, "amplitude": found.amplitude,
            "rpm": found.rpm, "teeth": int(self._teeth), "tooth_hz": found.rpm / 60 * int(self._teeth),
            "order": found.hz / found.rpm * 60,
        }  # fmt: skip
        severity = Severity.HIGH if is_on else Severity.INFO
        finding = Finding(RULE, is_on, found.index, INDEX_LIMIT, severity, CLAUSE, wave.ts)
        words = f"chatters at {found.hz:.0f} Hz" if is_on else "chatters"
        evidence = Evidence(tag, wave, self._waveforms[tag], "chatter_evidence")
        readings = 1 if is_on else CONFIRM
        self.teller.alarm(out, f"{tag}_chatter_index", at, finding, words, facts, evidence, readings=readings)
        return True

    def _speed(self, begin: int, end: int) -> float:
        """Return the speed in rpm, NaN where it changed within the block."""
        speeds = self._speeds.within(begin, end)
        if not speeds or any(math.isnan(rpm) for rpm in speeds):
            return math.nan
        return speeds[-1] if max(speeds) - min(speeds) <= SPEED_SHARE * max(speeds) else math.nan

    def shift(self, by: int) -> None:
        """Move what is counted from a moment."""
        super().shift(by)
        self._speeds.shift(by)

    def state(self) -> Mapping[str, Any]:
        """Return speed, teeth, alarms and blocks that wait."""
        return {**super().state(), "speeds": self._speeds.state(), "teeth": self._teeth, "quiet": self._quiet}

    def restore(self, state: Mapping[str, Any]) -> Sequence[str]:
        """Take a state up."""
        super().restore(state)
        self._speeds.restore(state["speeds"])
        self._teeth = state["teeth"]
        self._quiet = {tag: state["quiet"][tag] for tag in self._quiet}
        return ()

    def view(self) -> Any:
        """Return which waveforms show chatter."""
        return {"alarmed": [tag for tag, quiet in self._quiet.items() if quiet is not None]}
