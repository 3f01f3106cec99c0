"""Small operators for the tests of what carries operators."""

from collections.abc import Mapping, Sequence
from typing import Any

from edge.analytics.operator import Derived, Operator, Output, Reading, Rows
from edge.core.batch import Event, Severity
from edge.core.catalogue import ValueKind


class Total(Operator):
    """Adds up one tag; tells 10 s after each reading that it has been quiet so long."""

    KIND = "total"

    def __init__(self, path: str = "press.count", name: str = "total") -> None:
        self.name = name
        self.inputs = [path]
        self.outputs = [Output("press", name, ValueKind.INT64, "pcs", (path,))]
        self._sum = 0
        self._quiet_at: int | None = None

    def push(self, rows: Rows, now: int) -> Derived:
        out = Derived()
        for at, ts, value, is_old in zip(rows.at.tolist(), rows.ts.tolist(), rows.exact.tolist(), rows.is_old.tolist(),
                                         strict=True):  # fmt: skip
            self._tell(out, at)
            self._sum += value
            out.readings.append(Reading(0, at, self._sum, revision=int(is_old and ts < at)))
            self._quiet_at = at + 10 * 10**9
        self._tell(out, now)
        return out

    def _tell(self, out: Derived, now: int) -> None:
        if self._quiet_at is not None and self._quiet_at <= now:
            out.events.append(Event(self._quiet_at, "press", "quiet", Severity.INFO, "quiet", {"sum": self._sum}))
            self._quiet_at = None

    def due(self) -> int | None:
        return self._quiet_at

    def shift(self, by: int) -> None:
        self._quiet_at = None if self._quiet_at is None else self._quiet_at + by

    def state(self) -> Mapping[str, Any]:
        return {"sum": self._sum, "quiet": self._quiet_at}

    def restore(self, state: Mapping[str, Any]) -> Sequence[str]:
        self._sum, self._quiet_at = state["sum"], state["quiet"]
        return ()


def make(settings: Mapping[str, Any]) -> Sequence[Operator]:
    return [Total(settings.get("path", "press.count"), settings.get("name", "total"))]
