"""The events of a process watch: in words for people, and in facts that an alarm stands on."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from edge.analytics.condition.process.charts import Crossing
from edge.analytics.condition.process.model import F64, ProcessModel, Singles
from edge.analytics.condition.process.names import CUSUM, EWMA, SPE, T2
from edge.analytics.condition.statistics import multivariate as mv
from edge.core.batch import Event, Severity
from edge.core.clock import iso8601

CAUSES = 3
"""Tags that an alarm of all values together names, those that add most."""

SOURCES = {
    T2: "Hotelling's T² of principal components, F limit",
    SPE: "squared prediction error, limit of Jackson & Mudholkar (1979)",
    EWMA: "EWMA of independent means, weight 0.1",
    CUSUM: "CUSUM of independent means, slack 0.5 sigma",
    "nelson": "Nelson, J. Quality Technology 16 (1984) 237",
    "western_electric": "Western Electric, Statistical Quality Control Handbook (1956)",
}


class Events:
    """Makes the events of one watch. `tags` are its tags with their units, `row_ns` is the time of a row."""

    def __init__(self, name: str, tags: Mapping[str, str], row_ns: int) -> None:
        self._name = name
        self._tags, self._units = list(tags), list(tags.values())
        self._row_ns = row_ns

    def learned(self, at: int, model: ProcessModel, rows: int, state: Mapping[str, Any]) -> Event:
        """Tell what was learned, and which values are not judged alone."""
        apart = [path for path, count in zip(self._tags, model.alone.rows, strict=True) if not count]
        not_alone = f"; not judged alone, for there are too few independent means of: {', '.join(apart)}"
        text = f"{self._name} has learned {len(self._tags)} values from {rows} rows{not_alone if apart else ''}"
        facts: dict[str, Any] = {
            "rows": rows, "components": model.together.kept, "t2_limit": model.together.t2_limit,
            "spe_limit": model.together.spe_limit, "not_alone": ", ".join(apart), **state,
        }  # fmt: skip
        return Event(at, self._name, "process_learned", Severity.INFO, text, facts)

    def refused(self, at: int, path: str, zone: str) -> Event:
        """Tell that a machine that is not well teaches nothing."""
        text = f"{self._name} learns nothing while {path} is {zone}: the machine is not well"
        return Event(at, self._name, "process_learning_refused", Severity.LOW, text, {"because": path})

    def blind(self, at: int, missing: Sequence[str]) -> Event:
        """Tell that values cannot be judged together, or can again."""
        if not missing:
            return Event(at, self._name, "process_watch_sees", Severity.INFO, f"{self._name} sees all its values again")
        text = f"{self._name} cannot judge its values together: no good reading of {', '.join(missing)}"
        return Event(at, self._name, "process_watch_blind", Severity.LOW, text, {"missing": ", ".join(missing)})

    def together(
        self,
        at: int,
        is_on: bool,
        rule: str,
        value: float,
        limit: float,
        shares: F64,
        model: mv.Model,
        window: Sequence[Sequence[Any]],
        state: Mapping[str, Any],
    ) -> Event:
        """Tell that T² or SPE leaves its limit or is back; `shares` are what each value adds to it.

        window: of each row that it stands on, the newest last: its begin, T², SPE and the values
        """
        mean = window[-1][-1]
        order = np.argsort(-shares, kind="stable").tolist()
        cause, total = order[0], float(np.maximum(shares, 0).sum()) or 1.0
        named = ", ".join(
            f"{self._tags[place]} {shares[place] / total:.0%}" for place in order[:CAUSES] if shares[place] > 0
        )
        facts: dict[str, Any] = {
            "tag": rule, "rule": rule, "value": value, "limit": limit, "unit": "", "source": SOURCES[rule],
            "clause": SOURCES[rule], "from": iso8601(window[0][0]), "to": iso8601(at), "readings": len(window),
            "values": _words(row[1 if rule == T2 else 2] for row in window), "evidence_rows": self._rows(window),
            "contributions": named,
            "cause": self._tags[cause], "cause_value": float(mean[cause]), "cause_usual": float(model.mean[cause]),
            "cause_unit": self._units[cause], **state,
        }  # fmt: skip
        words = f"is not as it was learned, most of all {named}" if is_on else "is as it was learned again"
        name = "T²" if rule == T2 else "SPE"
        message = f"{self._name} {words}: {name} {value:.3g}, the limit is {limit:.3g}"
        return self._alarm(at, is_on, Severity.MEDIUM, message, facts)

    def _rows(self, window: Sequence[Sequence[Any]]) -> str:
        """Return the values of each tag in the rows of the window."""
        columns = zip(self._tags, np.array([row[-1] for row in window]).T.tolist(), strict=True)
        return "; ".join(f"{tag} {_words(column)}" for tag, column in columns)

    def crossing(
        self, at: int, crossing: Crossing, model: Singles, window: Sequence[Sequence[Any]], state: Mapping[str, Any]
    ) -> Event:
        """Tell that the chart of one value begins or ends to alarm. `window`: begin and mean of the last ones."""
        place = crossing.place
        tag, unit, span = self._tags[place], self._units[place], int(model.rows[place]) * self._row_ns
        rule = rule_words(crossing.rule)
        facts = crossing_facts(tag, unit, crossing, window, at)
        facts |= {"mean_over_s": span / 1e9, "usual": float(model.mean[place]), **state}
        value, limit = (f"{each:.4g} {unit}".strip() for each in (crossing.value, crossing.limit))
        if not crossing.is_on:
            message = f"{tag} is usual again ({rule}): {value}"
        elif crossing.detail:
            message = f"{tag}: {crossing.detail} ({rule}): {value}, usual is {limit}"
        else:
            message = f"{tag} has moved from what was learned ({rule}): {value}, the limit is {limit}"
        return self._alarm(at, crossing.is_on, Severity.LOW, message, facts)

    def _alarm(self, at: int, is_on: bool, severity: Severity, message: str, facts: Mapping[str, Any]) -> Event:
        kind = "process_alarm" if is_on else "process_alarm_over"
        return Event(at, self._name, kind, severity if is_on else Severity.INFO, message, facts)


def rule_words(rule: str) -> str:
    """Return the name of a chart or of run rules."""
    return rule.upper() if rule in (EWMA, CUSUM) else rule.replace("_", " ")


def crossing_facts(tag: str, unit: str, crossing: Crossing, window: Sequence[Sequence[Any]], at: int) -> dict[str, Any]:
    """Return what an alarm of one value's chart stands on. `window`: begin and value of the last points."""
    return {
        "tag": tag, "rule": crossing.rule, "value": crossing.value, "limit": crossing.limit, "unit": unit,
        "source": SOURCES[crossing.rule], "clause": SOURCES[crossing.rule], "detail": crossing.detail,
        "from": iso8601(window[0][0]), "to": iso8601(at), "readings": len(window),
        "values": _words(value for _, value in window),
    }  # fmt: skip


def _words(values: Iterable[float]) -> str:
    return " ".join(f"{value:.6g}" for value in values)
