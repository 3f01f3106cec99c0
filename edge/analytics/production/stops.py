"""Stops of a machine in planned time: micro-stops are counted, longer ones told with their reason."""

from collections.abc import Mapping
from typing import Any, TypeAlias

from edge.analytics.energy.grid import NS_PER_S
from edge.analytics.production.terms import RUNNING, UNKNOWN
from edge.core.batch import Event, Severity

Facts: TypeAlias = dict[str, str | int | float | bool | None]


class Stops:
    """Follows one machine's stops.

    A stop begins when the machine does not run in planned time, and ends when it runs or the planned time is over.
    Time in which its state is unknown belongs to no stop and ends none.

    Args:
        machine: its name.
        limit: ns; what is shorter is a micro-stop.
    """

    def __init__(self, machine: str, limit: int) -> None:
        self._machine, self._limit = machine, limit
        self._since: int | None = None
        self._lasted = 0
        self._in: dict[str, int] = {}
        self._reason = ""

    def pass_time(self, begin: int, end: int, state: str, *, is_planned: bool, events: list[Event]) -> bool | None:
        """Take a span in one state; return whether a stop ended that was a micro-stop, None if none ended."""
        if state == UNKNOWN:
            return None
        if state == RUNNING or not is_planned:
            return self._end(begin, events)
        if self._since is None:
            self._since = begin
        if self._lasted < self._limit <= self._lasted + end - begin:
            self._tell(begin + self._limit - self._lasted, state, events)
        self._lasted += end - begin
        self._in[state] = self._in.get(state, 0) + end - begin
        return None

    def explain(self, reason: str) -> None:
        """Take a reason for the stop that lasts, or is about to begin."""
        if reason:
            self._reason = reason

    def _tell(self, at: int, state: str, events: list[Event]) -> None:
        reason = self._reason or state
        text = f"{self._machine} has not run for {self._limit / NS_PER_S:g} s: {reason}"
        facts: Facts = {"since": self._since, "state": state, "reason": reason}
        events.append(Event(at, self._machine, "machine_stopped", Severity.LOW, text, facts))

    def _end(self, at: int, events: list[Event]) -> bool | None:
        since, lasted, states, reason = self._since, self._lasted, self._in, self._reason
        self._since, self._lasted, self._in, self._reason = None, 0, {}, ""
        if since is None or not lasted:
            return None
        if lasted < self._limit:
            return True
        state = max(sorted(states), key=lambda each: states[each])
        reason = reason or state
        text = f"{self._machine} had stopped for {lasted / NS_PER_S:g} s: {reason}"
        facts: Facts = {"since": since, "seconds": lasted / NS_PER_S, "state": state, "reason": reason}
        events.append(Event(at, self._machine, "machine_stop_ended", Severity.INFO, text, facts))
        return False

    def due(self, moment: int) -> int | None:
        """Return when the stop that lasts becomes longer than a micro-stop."""
        if self._since is None or self._lasted >= self._limit:
            return None
        return moment + self._limit - self._lasted

    def shift(self, by: int) -> None:
        """Move what is remembered of time."""
        self._since = None if self._since is None else self._since + by

    def state(self) -> list[Any]:
        """Return everything as CBOR types."""
        return [self._since, self._lasted, dict(sorted(self._in.items())), self._reason]

    def restore(self, state: list[Any]) -> None:
        """Take up the state of the same machine."""
        self._since, self._lasted, spent, self._reason = state
        self._in = dict(spent)


def reason_of(codes: Mapping[str, str], value: float | int | str) -> str:
    """Return what a code means, "" for one that is not known and for 0."""
    text = value if isinstance(value, str) else f"{value:g}"
    return codes.get(text, "" if text in ("0", "") else text)
