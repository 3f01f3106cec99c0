"""Several expressions over the same rows, moment after moment."""

from collections.abc import Mapping, Sequence
from typing import Any

from edge.analytics.expression.evaluate import Expression, Values, value_of
from edge.analytics.expression.windows import Result
from edge.analytics.operator import EMPTY, Rows


class Engine:
    """Evaluates each expression whose readings come, or leave a window, at the moment at which they do.

    `expressions` are in an order in which each stands behind those whose value it reads; an operator that gives such
    values sets them with `set` while it handles a moment.
    """

    def __init__(self, inputs: Sequence[str], values: Values, expressions: Sequence[Expression]) -> None:
        self.values = values
        self.expressions = expressions
        self._inputs = inputs
        self._readers: dict[str, list[int]] = {}
        for number, expression in enumerate(expressions):
            for path in expression.inputs:
                self._readers.setdefault(path, []).append(number)
        self._dirty: set[int] = set()
        self._dues: list[int | None] = [None] * len(expressions)
        self._rows = EMPTY
        self._at: list[int] = []
        self._next = 0

    def load(self, rows: Rows) -> None:
        """Take rows in. What is older than what is known of its tag is of no use here."""
        self._rows = rows.take(~rows.is_old) if rows.is_old.any() else rows
        self._at = self._rows.at.tolist()
        self._next = 0

    def next_moment(self) -> int | None:
        """Return the next event time at which something is to be evaluated, as far as is known."""
        moments = [due for due in self._dues if due is not None]
        if self._next < len(self._at):
            moments.append(self._at[self._next])
        return min(moments, default=None)

    def due(self) -> int | None:
        """Return when something is to be evaluated without a reading."""
        return min((due for due in self._dues if due is not None), default=None)

    def begin(self, moment: int) -> None:
        """Take in all rows of a moment; then call `evaluate` for each expression that `is_dirty`, and `end`."""
        while self._next < len(self._at) and self._at[self._next] <= moment:
            row, rows = self._next, self._rows
            self.set(self._inputs[int(rows.slot[row])], value_of(rows, row), int(rows.quality[row]))
            self._next += 1
        self._dirty.update(number for number, due in enumerate(self._dues) if due is not None and due <= moment)

    def set(self, path: str, value: Any, quality: int) -> None:
        """Set a value of this moment."""
        self.values.set(path, value, quality)
        self._dirty.update(self._readers.get(path, ()))

    def is_dirty(self, number: int) -> bool:
        """Tell whether an expression is to be evaluated at this moment."""
        return number in self._dirty

    def evaluate(self, number: int, moment: int) -> Result:
        """Evaluate one expression."""
        result = self.expressions[number].at(moment)
        self._dues[number] = self.expressions[number].due()
        return result

    def end(self) -> None:
        """Close a moment."""
        self._dirty.clear()
        self.values.touched.clear()

    def shift(self, by: int) -> None:
        """Move all times that are waited for."""
        for number, expression in enumerate(self.expressions):
            expression.shift(by)
            self._dues[number] = expression.due()

    def state(self, names: Sequence[str]) -> dict[str, Any]:
        """Return values, and each expression's text and memory by its name."""
        return {
            "values": {path: list(result) for path, result in self.values.results.items()},
            "memory": {name: [each.text, each.state()] for name, each in zip(names, self.expressions, strict=True)},
        }

    def restore(self, state: Mapping[str, Any], names: Sequence[str]) -> list[str]:
        """Take up what belongs to the same expressions; return the names of those that begin anew."""
        for path, (value, quality) in state["values"].items():
            if path in self.values.results:
                self.values.results[path] = value, quality
        anew = []
        for number, (name, expression) in enumerate(zip(names, self.expressions, strict=True)):
            text, memory = state["memory"].get(name, (None, None))
            if text == expression.text:
                expression.restore(memory)
                self._dues[number] = expression.due()
            elif text is not None:
                anew.append(name)
        return anew
