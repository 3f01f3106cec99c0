"""Equipment states (ISO 22400, OPC 40001-1 Machinery): which one a machine is in, from conditions over its tags.

The first state whose condition holds is the one. A condition that nobody knows ends the search: the state is unknown.
So it is when no condition holds, and when a tag that is read was silent for too long. Unknown is never off.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from edge.analytics.expression.deadband import widened
from edge.analytics.expression.engine import Engine
from edge.analytics.expression.evaluate import Expression, Values
from edge.analytics.expression.syntax import parse
from edge.analytics.operator import Rows
from edge.analytics.production.terms import UNKNOWN


class StateWatch:
    """Follows one machine's state.

    Args:
        inputs: paths of the operator that owns this, by slot.
        rules: of the plan, in order: `state`, `when`, `for_ns`, `deadband`.
        stale: how long each tag may be silent, ns, by path.
    """

    def __init__(self, inputs: Sequence[str], rules: Sequence[Mapping[str, Any]], stale: Mapping[str, int]) -> None:
        self.current = UNKNOWN
        self._rules = rules
        self._stale = stale
        self._inputs = inputs
        values, expressions = Values(inputs), []
        for rule in rules:
            expressions.append(Expression(rule["when"], values))
            expressions.append(Expression(rule["when"], values, widened(parse(rule["when"]), rule["deadband"])))
        self._engine = Engine(inputs, values, expressions)
        self._names = [f"{rule['state']} {part}" for rule in rules for part in ("enter", "stay")]
        self._holds: list[bool | None] = [None] * len(expressions)
        self._since: list[int | None] = [None] * len(rules)
        self._seen: dict[str, int] = {}

    def load(self, rows: Rows) -> None:
        """Take rows in, of one push."""
        self._engine.load(rows)

    def see(self, slot: int, at: int) -> None:
        """Note that a tag was heard of."""
        path = self._inputs[slot]
        if path in self._stale:
            self._seen[path] = at

    def judge(self, moment: int) -> bool:
        """Take the rows of a moment and say whether the state changed."""
        engine = self._engine
        engine.begin(moment)
        for number in range(len(self._holds)):
            if engine.is_dirty(number):
                value = engine.evaluate(number, moment)[0]
                self._holds[number] = None if value is None or isinstance(value, str) else bool(value)
        engine.end()
        before, self.current = self.current, self._state(moment)
        return before != self.current

    def _state(self, moment: int) -> str:
        for number in range(len(self._rules)):
            if not self._holds[2 * number]:
                self._since[number] = None
            elif self._since[number] is None:
                self._since[number] = moment
        if any(self._seen.get(path, moment) + limit <= moment for path, limit in self._stale.items()):
            return UNKNOWN
        is_waiting = False
        for number, rule in enumerate(self._rules):
            is_current = rule["state"] == self.current
            holds = self._holds[2 * number + is_current]
            if holds is None:
                return UNKNOWN
            since = self._since[number]
            if holds and (is_current or (since is not None and since + rule["for_ns"] <= moment)):
                return str(rule["state"])
            is_waiting |= holds
        return self.current if is_waiting else UNKNOWN

    def due(self, moment: int) -> int | None:
        """Return when the state may change without a reading, after this moment."""
        dues = [self._seen[path] + limit for path, limit in self._stale.items() if path in self._seen]
        dues += [
            since + rule["for_ns"]
            for since, rule in zip(self._since, self._rules, strict=True)
            if since is not None
        ]  # fmt: skip
        later = [due for due in dues if due > moment]
        own = self._engine.due()
        return min([*later, *([] if own is None else [own])], default=None)

    def shift(self, by: int) -> None:
        """Move all that is waited for."""
        self._engine.shift(by)
        self._since = [None if each is None else each + by for each in self._since]
        self._seen = {path: at + by for path, at in self._seen.items()}

    def state(self) -> dict[str, Any]:
        """Return everything as CBOR types."""
        return {
            **self._engine.state(self._names),
            "current": self.current,
            "holds": list(self._holds),
            "since": list(self._since),
            "seen": dict(self._seen),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up the state of a watch with the same settings."""
        self._engine.restore(state, self._names)
        self.current = state["current"]
        self._holds, self._since, self._seen = list(state["holds"]), list(state["since"]), dict(state["seen"])
