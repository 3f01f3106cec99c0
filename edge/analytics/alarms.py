"""Alarms after ISA-18.2 (IEC 62682): delay, dead-band, latching, acknowledgement, shelving, floods.

A condition of which nobody knows whether it holds changes nothing: an alarm that stands goes on standing, a delay that
runs is broken off. An alarm ends when its condition was false for as long as `clear_for`, so a chattering input is one
alarm.
"""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edge.analytics.expression.deadband import widened
from edge.analytics.expression.engine import Engine
from edge.analytics.expression.evaluate import Expression, Values
from edge.analytics.expression.syntax import parse, refs
from edge.analytics.operator import NEVER, Derived, Operator, Rows
from edge.core.batch import Event, Severity

REQUEST = "alarm_request"
FACTS_MAX = 8
SHOWN_MAX = 200
FOREVER = 2**62


@dataclass(frozen=True, slots=True)
class Rule:
    """An alarm's settings. Times in ns; `when` is its condition."""

    name: str
    when: str
    after: int
    clear_after: int
    deadband: float
    latch: bool
    severity: Severity
    message: str

    @classmethod
    def of(cls, name: str, settings: Mapping[str, Any]) -> "Rule":
        """Return the rule in a part of a plan."""
        return cls(
            name,
            settings["when"],
            settings["for_ns"],
            settings["clear_for_ns"],
            settings["deadband"],
            settings["latch"],
            Severity[settings["severity"].upper()],
            settings["message"],
        )

    @property
    def fingerprint(self) -> str:
        """Settings under which a state means the same. Severity and words may change while an alarm stands."""
        return f"{self.when} | {self.after} | {self.clear_after} | {self.deadband} | {self.latch}"


@dataclass(slots=True)
class _Standing:
    """Where one alarm stands. Event times; None where nothing is waited for.

    `is_told`: its `alarm_raised` is in the log, and nothing has ended it since.
    """

    is_active: bool = False
    is_gone: bool = False
    is_acknowledged: bool = False
    is_told: bool = False
    since: int = NEVER
    raise_at: int | None = None
    clear_at: int | None = None
    shelved_until: int | None = None

    def dues(self) -> Iterable[int]:
        """Return all times that are waited for."""
        return [at for at in (self.raise_at, self.clear_at, self.shelved_until) if at is not None and at < FOREVER]

    def shift(self, by: int) -> None:
        """Move all times."""
        self.since += by
        self.raise_at = None if self.raise_at is None else self.raise_at + by
        self.clear_at = None if self.clear_at is None else self.clear_at + by
        if self.shelved_until is not None and self.shelved_until < FOREVER:
            self.shelved_until += by

    def columns(self) -> list[Any]:
        """Return it as CBOR types."""
        return [getattr(self, name) for name in self.__slots__]


class Alarms(Operator):
    """All alarms of a gateway."""

    KIND = "alarms"

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.name = "alarms"
        self._rules = [Rule.of(name, each) for name, each in settings["alarms"].items()]
        self._flood_limit, self._flood_ns = settings["flood_limit"], settings["flood_ns"]
        self.inputs = sorted({path for rule in self._rules for path in refs(parse(rule.when))})
        self.outputs = []
        values, expressions = Values(self.inputs), []
        for rule in self._rules:
            expressions.append(Expression(rule.when, values))
            expressions.append(Expression(rule.when, values, widened(parse(rule.when), rule.deadband)))
        self._engine = Engine(self.inputs, values, expressions)
        self._names = [f"{rule.name} {part}" for rule in self._rules for part in ("raise", "stay")]
        self._standing = [_Standing() for _ in self._rules]
        self._raised: deque[int] = deque()
        self._in_flood = False
        self._held_back = 0
        self._left: list[str] = []

    def push(self, rows: Rows, now: int) -> Derived:
        """Evaluate at each moment up to `now`, then do what people asked for."""
        out, engine = Derived(), self._engine
        self._say_farewell(out, now)
        engine.load(rows)
        while True:
            moments = [at for at in (engine.next_moment(), self._next_timer()) if at is not None]
            moment = min(moments, default=FOREVER)
            if moment > now:
                break
            engine.begin(moment)
            for number, standing in enumerate(self._standing):
                self._judge(number, standing, moment)
                self._run_timers(out, number, standing, moment)
            engine.end()
            self._end_flood(out, moment)
        for event in rows.events:
            if event.kind == REQUEST:
                self._obey(out, event, max(now, event.ts) if now == NEVER else now)
        return out

    def _judge(self, number: int, standing: _Standing, moment: int) -> None:
        """Start and stop delays by what the conditions are now."""
        raising, staying = 2 * number, 2 * number + 1
        if not self._engine.is_dirty(raising):
            return
        wanted = self._engine.evaluate(raising, moment)[0]
        stays = self._engine.evaluate(staying, moment)[0]
        rule = self._rules[number]
        if not standing.is_active:
            if not wanted:
                standing.raise_at = None
            elif standing.raise_at is None:
                standing.raise_at = moment + rule.after
        elif stays is False:
            if standing.clear_at is None and not standing.is_gone:
                standing.clear_at = moment + rule.clear_after
        else:
            standing.clear_at = None
            standing.is_gone = standing.is_gone and stays is None

    def _run_timers(self, out: Derived, number: int, standing: _Standing, moment: int) -> None:
        rule = self._rules[number]
        if standing.shelved_until is not None and standing.shelved_until <= moment:
            self._unshelve(out, number, standing, standing.shelved_until, "its time was over")
        if standing.raise_at is not None and standing.raise_at <= moment:
            standing.is_active, standing.is_gone, standing.is_acknowledged = True, False, False
            standing.since, standing.raise_at = standing.raise_at, None
            self._raise(out, number, standing, standing.since)
        if standing.clear_at is not None and standing.clear_at <= moment:
            at, standing.clear_at = standing.clear_at, None
            if rule.latch and not standing.is_acknowledged:
                standing.is_gone = True
                if standing.is_told:
                    self._tell(out, "alarm_returned", number, at, "is over and waits to be acknowledged")
            else:
                self._clear(out, number, standing, at)

    def _raise(self, out: Derived, number: int, standing: _Standing, at: int) -> None:
        """Tell that an alarm stands, if nothing holds that back."""
        if standing.shelved_until is not None:
            return
        self._begin_flood(out, at)
        if self._in_flood and self._rules[number].severity < Severity.HIGH:
            self._held_back += 1
            return
        standing.is_told = True
        self._tell(out, "alarm_raised", number, at, "stands")

    def _clear(self, out: Derived, number: int, standing: _Standing, at: int, why: str = "is over") -> None:
        if standing.is_told:
            self._tell(out, "alarm_cleared", number, at, why)
        standing.is_active = standing.is_gone = standing.is_told = False
        standing.since = NEVER

    # A flood: more alarms than somebody can read.

    def _begin_flood(self, out: Derived, at: int) -> None:
        self._raised.append(at)
        self._forget_raised(at)
        if not self._in_flood and len(self._raised) > self._flood_limit:
            self._in_flood = True
            message = (
                f"more than {self._flood_limit} alarms in {self._flood_ns // 10**9} s: those below high are held back"
            )
            facts = {"alarms": len(self._raised)}
            out.events.append(Event(at, "gateway", "alarm_flood_started", Severity.HIGH, message, facts))

    def _forget_raised(self, now: int) -> None:
        while self._raised and self._raised[0] <= now - self._flood_ns:
            self._raised.popleft()

    def _end_flood(self, out: Derived, moment: int) -> None:
        if not self._in_flood:
            return
        self._forget_raised(moment)
        if len(self._raised) > self._flood_limit // 2:
            return
        self._in_flood = False
        message = f"the flood of alarms is over; {self._held_back} were held back"
        facts = {"held_back": self._held_back}
        out.events.append(Event(moment, "gateway", "alarm_flood_ended", Severity.INFO, message, facts))
        self._held_back = 0
        for number, standing in enumerate(self._standing):
            if standing.is_active and not standing.is_told and standing.shelved_until is None:
                standing.is_told = True
                self._tell(out, "alarm_raised", number, moment, "stands")

    # What people ask for.

    def _obey(self, out: Derived, request: Event, at: int) -> None:
        wanted, action = request.facts.get("alarm"), request.facts.get("action")
        by = str(request.facts.get("by") or "")
        for number, standing in enumerate(self._standing):
            if wanted not in ("*", self._rules[number].name):
                continue
            if action == "acknowledge" and standing.is_active and not standing.is_acknowledged:
                standing.is_acknowledged = True
                self._tell(out, "alarm_acknowledged", number, at, f"was acknowledged by {by or 'somebody'}", by)
                if standing.is_gone:
                    self._clear(out, number, standing, at)
            elif action == "shelve":
                seconds = request.facts.get("seconds")
                until = at + round(float(seconds) * 1e9) if seconds else FOREVER
                standing.shelved_until = until
                self._tell(out, "alarm_shelved", number, at, f"was shelved by {by or 'somebody'}", by)
            elif action == "unshelve" and standing.shelved_until is not None:
                self._unshelve(out, number, standing, at, f"by {by or 'somebody'}", by)

    def _unshelve(self, out: Derived, number: int, standing: _Standing, at: int, why: str, by: str = "") -> None:
        standing.shelved_until = None
        self._tell(out, "alarm_unshelved", number, at, f"is no longer shelved: {why}", by)
        if standing.is_active and not standing.is_told:
            self._raise(out, number, standing, at)

    def _say_farewell(self, out: Derived, now: int) -> None:
        """End alarms that stood when they were taken out of the configuration, or changed there."""
        for name in self._left:
            message = f"{name} is over: its settings were changed"
            out.events.append(Event(now, "gateway", "alarm_cleared", Severity.INFO, message, {"alarm": name}))
        self._left = []

    def _tell(self, out: Derived, kind: str, number: int, at: int, words: str, by: str = "") -> None:
        rule, standing = self._rules[number], self._standing[number]
        inputs = self._engine.expressions[2 * number].inputs
        devices = {path.partition(".")[0] for path in inputs}
        source = devices.pop() if len(devices) == 1 else "gateway"
        facts: dict[str, str | int | float | bool | None] = {"alarm": rule.name, "when": rule.when}
        if standing.since != NEVER:
            facts["since"] = standing.since
        if by:
            facts["by"] = by
        for path in inputs[:FACTS_MAX]:
            facts[path] = self._engine.values.results[path][0]
        severity = rule.severity if kind in ("alarm_raised", "alarm_returned") else Severity.INFO
        message = f"{rule.name} {words}" + (f": {rule.message}" if rule.message and kind == "alarm_raised" else "")
        out.events.append(Event(at, source, kind, severity, message, facts))

    def _next_timer(self) -> int | None:
        flood = [self._raised[0] + self._flood_ns] if self._in_flood and self._raised else []
        return min([*flood, *(due for standing in self._standing for due in standing.dues())], default=None)

    def due(self) -> int | None:
        """Return when a delay, a shelving or a flood ends, or a reading leaves a window."""
        if self._left:
            return NEVER + 1
        return min((at for at in (self._engine.due(), self._next_timer()) if at is not None), default=None)

    def shift(self, by: int) -> None:
        """Move all that is waited for."""
        self._engine.shift(by)
        self._raised = deque(at + by for at in self._raised)
        for standing in self._standing:
            standing.shift(by)

    def state(self) -> Mapping[str, Any]:
        """Return where every alarm stands."""
        return {
            **self._engine.state(self._names),
            "alarms": {
                rule.name: [rule.fingerprint, *standing.columns()]
                for rule, standing in zip(self._rules, self._standing, strict=True)
            },
            "raised": list(self._raised),
            "flood": self._in_flood,
            "held back": self._held_back,
            "left": list(self._left),
        }

    def restore(self, state: Mapping[str, Any]) -> Sequence[str]:
        """Take up the alarms whose settings are the same; the others begin anew."""
        anew: list[str] = []
        known = {rule.name: number for number, rule in enumerate(self._rules)}
        self._left = list(state["left"])
        for name, (fingerprint, *columns) in state["alarms"].items():
            before = _Standing(*columns)
            number = known.get(name)
            if number is not None and fingerprint == self._rules[number].fingerprint:
                self._standing[number] = before
                continue
            if number is not None:
                anew.append(name)
            if before.is_told:
                self._left.append(name)
        self._engine.restore(state, self._names)
        self._raised = deque(state["raised"])
        self._in_flood, self._held_back = state["flood"], state["held back"]
        return anew

    def view(self) -> Any:
        """Return the alarms that are not at rest."""
        shown: list[dict[str, Any]] = []
        for rule, standing in zip(self._rules, self._standing, strict=True):
            words = _words(standing)
            if words != "normal" and len(shown) < SHOWN_MAX:
                shown.append({
                    "alarm": rule.name,
                    "state": words,
                    "severity": rule.severity.name.lower(),
                    "since": None if standing.since == NEVER else standing.since,
                    "acknowledged": standing.is_acknowledged,
                    "shelved": standing.shelved_until is not None,
                })  # fmt: skip
        return {"alarms": shown, "flood": self._in_flood, "names": [rule.name for rule in self._rules][:SHOWN_MAX]}


def _words(standing: _Standing) -> str:
    if standing.is_gone:
        return "returned"
    if standing.is_active:
        return "active"
    if standing.raise_at is not None:
        return "pending"
    return "shelved" if standing.shelved_until is not None else "normal"


def make(settings: Mapping[str, Any]) -> Sequence[Operator]:
    """Return the one operator of all alarms."""
    return [Alarms(settings)]
