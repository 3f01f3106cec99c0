"""What the operators of a machine have in common: their tags by name, alarms with all facts, and raw samples."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from edge.analytics.condition.gate import CONFIRM
from edge.analytics.condition.judge import Finding
from edge.analytics.condition.names import WAVEFORM, Figure
from edge.analytics.operator import NEVER, Derived, Output, Reading
from edge.core.batch import Event, Waveform
from edge.core.catalogue import ValueKind
from edge.core.clock import iso8601
from edge.core.data_class import DataClass


class Evidence(NamedTuple):
    """The block of samples that an alarm stands on; `factor` makes its values those of the evidence's unit.

    It is given out as `TAG_KIND`.
    """

    tag: str
    wave: Waveform
    factor: float
    kind: str = "evidence"

    @property
    def name(self) -> str:
        """The tag it is given out as."""
        return f"{self.tag}_{self.kind}"

    @property
    def ts(self) -> int:
        """When it begins, to the microsecond: so the alarm's text names it exactly."""
        return self.wave.ts // 1000 * 1000


class Teller:
    """The tags that one operator makes of a machine.

    outputs  in the order of the figures
    told     newest time given out of each: of one tag no two readings have the same
    now      event time of what is being told
    """

    def __init__(self, device: str, figures: Iterable[Figure]) -> None:
        self._device = device
        self.outputs: list[Output] = []
        self._place: dict[str, int] = {}
        for name, kind, unit, source in figures:
            self._place[name] = len(self.outputs)
            data_class = DataClass.ALARM if kind == WAVEFORM else DataClass.TELEMETRY
            self.outputs.append(Output(device, name, ValueKind(kind), unit, (f"{device}.{source}",), data_class))
        self.told = [NEVER] * len(self.outputs)
        self.now = NEVER

    def tell(self, out: Derived, name: str, at: int, value: float | str) -> None:
        """Give a reading of this time out; NaN is none."""
        if value != value:
            return
        place = self._place[name]
        self.told[place] = ts = max(at, self.told[place] + 1)
        out.readings.append(Reading(place, ts, value, at=self.now))

    def alarm(
        self,
        out: Derived,
        name: str,
        at: int,
        finding: Finding,
        words: str,
        more: Mapping[str, Any],
        evidence: Evidence | None = None,
        *,
        unit: str = "",
        readings: int = CONFIRM,
    ) -> None:
        """Give out that an alarm begins, changes or ends, when it begins with its evidence.

        unit: of a value that is no tag of its own; readings: how many in a row it took.
        """
        place = self._place.get(name)
        unit = unit if place is None else self.outputs[place].unit
        facts: dict[str, Any] = {
            "tag": name, "rule": finding.rule, "value": finding.value, "limit": finding.limit, "unit": unit,
            "clause": finding.clause, "from": iso8601(finding.since), "to": iso8601(at), "readings": readings, **more,
        }  # fmt: skip
        if finding.values:
            facts |= {"readings": len(finding.values), "values": " ".join(f"{each:.4g}" for each in finding.values)}
        if finding.is_on and evidence is not None:
            facts |= {"evidence": evidence.name, "evidence_ts": iso8601(evidence.ts)}
            self._keep(out, evidence)
        kind = "condition_alarm" if finding.is_on else "condition_alarm_over"
        over = "" if finding.is_on else ": is over"
        value, limit = (f"{number:.3g} {unit}".strip() for number in (finding.value, finding.limit))
        message = f"{self._device}.{name} {words}{over}: {value}, the limit is {limit}"
        out.events.append(Event(at, self._device, kind, finding.severity, message, facts))

    def _keep(self, out: Derived, evidence: Evidence) -> None:
        """Give the raw samples out once: a block that several alarms stand on is sent once."""
        place, ts, factor, wave = self._place[evidence.name], evidence.ts, evidence.factor, evidence.wave
        if self.told[place] == ts:
            return
        self.told[place] = ts
        full_scale = wave.full_scale * factor
        samples = wave.samples if wave.samples.dtype == np.int16 else (wave.samples * np.float32(factor))
        out.waveforms.append((place, Waveform(0, ts, wave.rate_hz, full_scale, samples, wave.quality)))


def as_state(wave: Waveform) -> list[Any]:
    """Return a block of samples as plain values."""
    samples = wave.samples
    return [wave.ts, wave.rate_hz, wave.full_scale, samples.dtype.str, samples.tobytes(), wave.quality]


def of_state(state: list[Any]) -> Waveform:
    """Return the block that `as_state` told."""
    ts, rate, full_scale, dtype, samples, quality = state
    return Waveform(0, ts, rate, full_scale, np.frombuffer(samples, dtype).copy(), quality)
