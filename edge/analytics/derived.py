"""Derived tags: expressions over tags, each a tag of its own that changes when its value does."""

import math
from collections.abc import Mapping, Sequence
from graphlib import TopologicalSorter
from typing import Any

from edge.analytics.expression.engine import Engine
from edge.analytics.expression.evaluate import Expression, Values
from edge.analytics.expression.windows import WAITING, Value
from edge.analytics.operator import NEVER, Derived, Operator, Output, Reading, Rows
from edge.core.catalogue import ValueKind
from edge.core.data_class import DataClass


class DerivedTags(Operator):
    """All derived tags of a gateway. `tags` are by path; `of` is the expression."""

    KIND = "derived"

    def __init__(self, tags: Mapping[str, Mapping[str, Any]]) -> None:
        self.name = "derived"
        values = Values([])
        made = {path: Expression(tag["of"], values) for path, tag in tags.items()}
        order = TopologicalSorter({path: [each for each in made[path].inputs if each in made] for path in made})
        self._paths = [*order.static_order()]
        self.inputs = sorted({path for each in made.values() for path in each.inputs} - set(made))
        values.results.update(dict.fromkeys([*self.inputs, *self._paths], WAITING))
        self.outputs = [self._output(path, tags[path], made[path]) for path in self._paths]
        self._engine = Engine(self.inputs, values, [made[path] for path in self._paths])
        self._last: list[tuple[Value, int]] = [WAITING] * len(self._paths)
        self._told = [NEVER] * len(self._paths)

    @staticmethod
    def _output(path: str, tag: Mapping[str, Any], expression: Expression) -> Output:
        device, _, name = path.partition(".")
        data_class = DataClass[tag["class"].upper()]
        return Output(device, name, ValueKind(tag["kind"]), tag["unit"], tuple(expression.inputs), data_class)

    def push(self, rows: Rows, now: int) -> Derived:
        """Evaluate at each moment up to `now`."""
        out, engine = Derived(), self._engine
        engine.load(rows)
        while (moment := engine.next_moment()) is not None and moment <= now:
            engine.begin(moment)
            for number, path in enumerate(self._paths):
                if engine.is_dirty(number):
                    result = engine.evaluate(number, moment)
                    if result != self._last[number]:
                        engine.set(path, *result)
                        self._last[number] = result
                        # Two readings of a tag never have one time: after a late reading there may be two at `now`.
                        self._told[number] = ts = max(moment, self._told[number] + 1)
                        shown = self._shown(number, result[0])
                        out.readings.append(Reading(number, ts, shown, result[1], at=moment))
            engine.end()
        return out

    def _shown(self, number: int, value: Value) -> Any:
        match self.outputs[number].kind:
            case ValueKind.TEXT:
                return "" if value is None else str(value)
            case ValueKind.BOOL:
                return bool(value)
            case _:
                return math.nan if value is None or isinstance(value, str) else float(value)

    def due(self) -> int | None:
        """Return when a reading leaves a window."""
        return self._engine.due()

    def shift(self, by: int) -> None:
        """Move the windows."""
        self._engine.shift(by)

    def state(self) -> Mapping[str, Any]:
        """Return values and windows."""
        last = {path: [*result, told] for path, result, told in zip(self._paths, self._last, self._told, strict=True)}
        return {**self._engine.state(self._paths), "last": last}

    def restore(self, state: Mapping[str, Any]) -> Sequence[str]:
        """Take up the tags whose expression is the same; the others begin anew."""
        anew = self._engine.restore(state, self._paths)
        for number, path in enumerate(self._paths):
            if path in state["last"] and path not in anew:
                value, quality, self._told[number] = state["last"][path]
                self._last[number] = value, quality
            else:
                self._engine.values.results[path] = WAITING
        return anew


def make(settings: Mapping[str, Any]) -> Sequence[Operator]:
    """Return the one operator of all derived tags."""
    return [DerivedTags(settings)]
