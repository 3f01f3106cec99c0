"""The fault that the bearing behind one waveform shows, once it stood in as many blocks in a row as an alarm takes."""

from collections.abc import Sequence
from typing import Any

from edge.analytics.condition.bearing.diagnosis import FAULTS, Diagnosis
from edge.analytics.condition.gate import CONFIRM, Confirmed
from edge.analytics.condition.judge import Finding
from edge.core.batch import Severity

RULE = "bearing"
FAMILIES = {fault: family for family, fault in FAULTS.items()}


class BearingFault:
    """Verdict after verdict in, the beginning and the end of an alarm out.

    fault      which it is, or was last
    is_on      whether its alarm stands
    """

    def __init__(self) -> None:
        self.fault = "none"
        self._confirmed = Confirmed()
        self._window: list[list[Any]] = []  # begin of the last blocks, and level of the line in each

    @property
    def is_on(self) -> bool:
        return self._confirmed.is_on

    @property
    def family(self) -> str:
        """The fault's line: bpfo, bpfi, bsf2 or ftf."""
        return FAMILIES[self.fault]

    def feed(self, at: int, found: Diagnosis, clause: str) -> Finding | None:
        """Take the verdict on the block that begins at this time; return what there is to tell with it."""
        fault = found.verdict.fault
        is_fault = fault in FAMILIES
        if is_fault and not self.is_on and fault != self.fault:
            self.fault, self._confirmed = fault, Confirmed()
        line = found.lines.get(FAMILIES.get(self.fault, ""))
        level = line.level_db if line else 0.0
        self._window = [*self._window, [at, level]][-CONFIRM:]
        if not self._confirmed.feed(is_fault and fault == self.fault):
            return None
        since, values = self._window[0][0], [each for _, each in self._window]
        severity = Severity.HIGH if self.is_on else Severity.INFO
        return Finding(RULE, self.is_on, level, found.level_needed_db, severity, clause, since, values)

    def facts(self, found: Diagnosis, orders: dict[str, float]) -> dict[str, Any]:
        """Return what an alarm says of the fault: its line, where that is, and the chance that it is none."""
        facts: dict[str, Any] = {"fault": self.fault, "line": self.family, "order": orders[self.family]}
        if (line := found.lines.get(self.family)) is not None:
            facts |= {"hz": line.hz, "p_false_alarm": found.verdict.p_false_alarm}
        return facts

    def state(self) -> list[Any]:
        """Return it as plain values."""
        return [self.fault, self._confirmed.state(), self._window]

    def restore(self, state: Sequence[Any]) -> None:
        """Take up what `state` told."""
        self.fault, confirmed, self._window = state[0], state[1], list(state[2])
        self._confirmed = Confirmed(*confirmed)
