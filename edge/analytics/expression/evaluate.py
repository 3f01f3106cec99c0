"""Evaluates expressions in event time: when a reading of theirs comes, and when one leaves a window.

Three-valued: a value that nobody knows has bad quality, and what is made of it is unknown too, but where the rest
decides: `false and unknown` is false. The worst quality of what was used is the quality of the result.
"""

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from edge.analytics.expression.check import REMEMBERING
from edge.analytics.expression.syntax import (
    Binary,
    Call,
    Compare,
    Duration,
    Literal,
    Logic,
    Node,
    Ref,
    Unary,
    parse,
    refs,
)
from edge.analytics.expression.windows import NO_VALUE, WAITING, Memory, Previous, Result, Value, Window
from edge.analytics.operator import Rows
from edge.core.quality import StatusCode, is_bad

EXACT_MAX = 2**65
"""Whole numbers above this go on as floats, so that none grows without a limit."""

DIGITS_MAX = 20

MISMATCH: Result = (None, int(StatusCode.BAD_TYPE_MISMATCH))
Evaluate: TypeAlias = Callable[[int], Result]

_ARITHMETIC: Mapping[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "%": operator.mod,
}
_ORDER: Mapping[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def worst(*codes: int) -> int:
    """Return the worst of StatusCodes: bad before uncertain before good, the first of equals."""
    return max(codes, key=lambda code: code >> 30, default=0)


class Values:
    """The last value of each tag, by its path."""

    def __init__(self, paths: Sequence[str]) -> None:
        self.paths = list(paths)
        self.results: dict[str, Result] = dict.fromkeys(paths, WAITING)
        self.touched: set[str] = set()

    def set(self, path: str, value: Value, quality: int) -> None:
        """Take a reading of this moment. A bad one, or a number that is none, has no value."""
        self.touched.add(path)
        if is_bad(quality):
            self.results[path] = None, quality
        elif isinstance(value, float) and not math.isfinite(value):
            self.results[path] = NO_VALUE
        else:
            self.results[path] = value, quality


def value_of(rows: Rows, row: int) -> Value:
    """Return a row's value as Python has it; whole numbers without rounding."""
    text: str | None = rows.text[row]
    if text is not None:
        return text
    value, exact = float(rows.value[row]), int(rows.exact[row])
    if not exact:
        return value
    return exact + 2**64 if exact < 0 <= value else exact


class Expression:
    """One compiled expression over `values`. Its memory is what its functions over time remember."""

    def __init__(self, text: str, values: Values, node: Node | None = None) -> None:
        self.text = text
        tree = parse(text) if node is None else node
        self.inputs = refs(tree)
        self._values = values
        self._memory: list[Memory] = []
        self._evaluate = self._compile(tree)

    def at(self, now: int) -> Result:
        """Evaluate with the values of this moment. Call once for a moment: it feeds the functions over time."""
        return self._evaluate(now)

    def due(self) -> int | None:
        """Return when the value may change without a reading."""
        return min((due for memory in self._memory if (due := memory.due()) is not None), default=None)

    def shift(self, by: int) -> None:
        """Move all times that are waited for."""
        for memory in self._memory:
            memory.shift(by)

    def state(self) -> list[Any]:
        """Return the memory as CBOR types."""
        return [memory.state() for memory in self._memory]

    def restore(self, state: Sequence[Any]) -> None:
        """Take up the memory of the same expression."""
        for memory, each in zip(self._memory, state, strict=True):
            memory.restore(each)

    def _compile(self, node: Node) -> Evaluate:
        match node:
            case Literal():
                result: Result = (node.value, 0)
                return lambda now: result
            case Ref():
                results, path = self._values.results, node.path
                return lambda now: results[path]
            case Unary():
                operand = self._compile(node.operand)
                return _negation(operand) if node.sign == "not" else _numeric(operator.neg, operand)
            case Binary():
                return _numeric(_ARITHMETIC[node.sign], self._compile(node.left), self._compile(node.right))
            case Compare():
                return _comparison(_ORDER[node.sign], self._compile(node.left), self._compile(node.right))
            case Logic():
                return _logic(node.sign == "and", [self._compile(operand) for operand in node.operands])
            case Call():
                return self._call(node)
            case Duration():
                raise AssertionError("a time is an argument")

    def _call(self, node: Call) -> Evaluate:
        first = self._compile(node.arguments[0])
        over = node.arguments[1] if len(node.arguments) == 2 else None
        if node.name in REMEMBERING and (isinstance(over, Duration) or node.name not in ("min", "max")):
            memory: Memory = Window(over.ns) if isinstance(over, Duration) else Previous()
            self._memory.append(memory)
            return self._remembering(node, first, memory)
        rest = [self._compile(argument) for argument in node.arguments[1:]]
        match node.name:
            case "if":
                return _choice(first, *rest)
            case "good":
                return lambda now: (first(now)[1] >> 30 == 0, 0)
            case "bit":
                return _numeric(lambda value, bit: bool(int(value) >> bit & 1), first, *rest)
            case "round":
                return _numeric(_rounded, first, *rest)
        functions: dict[str, Callable[..., Any]] = {
            "min": min, "max": max, "abs": abs, "floor": math.floor, "ceil": math.ceil, "sqrt": math.sqrt,
        }  # fmt: skip
        return _numeric(functions[node.name], first, *rest)

    def _remembering(self, node: Call, first: Evaluate, memory: Memory) -> Evaluate:
        name, reads = node.name, set(refs(node.arguments[0]))
        touched = self._values.touched
        takes_all = name in ("count", "prev", "changed")

        def evaluate(now: int) -> Result:
            value, quality = first(now)
            if not takes_all and isinstance(value, str):
                value, quality = MISMATCH
            if not reads.isdisjoint(touched) and quality != WAITING[1]:
                memory.add(now, value if name != "count" or value is None else 1)
            memory.forget(now)
            if value is None and name != "count":
                return None, quality
            found, own = memory.value(name, now)
            if isinstance(found, float) and not math.isfinite(found):
                return NO_VALUE
            return found, own if is_bad(own) else worst(0 if name == "count" else quality, own)

        return evaluate


def _negation(operand: Evaluate) -> Evaluate:
    def evaluate(now: int) -> Result:
        value, quality = _truth(operand(now))
        return (None if value is None else not value), quality

    return evaluate


def _truth(result: Result) -> Result:
    value, quality = result
    if isinstance(value, str):
        return MISMATCH
    return (None if value is None else bool(value)), quality


def _rounded(value: float, digits: float = 0) -> float:
    """Round to so many digits behind the point; more than there are change nothing, and cost nothing."""
    return round(value, int(max(min(digits, DIGITS_MAX), -DIGITS_MAX)))


def _numeric(function: Callable[..., Any], *operands: Evaluate) -> Evaluate:
    def evaluate(now: int) -> Result:
        results = [operand(now) for operand in operands]
        quality = worst(*(code for _, code in results))
        if is_bad(quality):
            return None, quality
        if any(isinstance(value, str) for value, _ in results):
            return MISMATCH
        try:
            value = function(*(value for value, _ in results))
            if isinstance(value, int) and abs(value) > EXACT_MAX:
                value = float(value)
        except (ArithmeticError, ValueError):
            return NO_VALUE
        if isinstance(value, float) and not math.isfinite(value):
            return NO_VALUE
        return value, quality

    return evaluate


def _comparison(order: Callable[[Any, Any], bool], left: Evaluate, right: Evaluate) -> Evaluate:
    def evaluate(now: int) -> Result:
        one, other = left(now), right(now)
        quality = worst(one[1], other[1])
        if is_bad(quality):
            return None, quality
        if isinstance(one[0], str) is not isinstance(other[0], str):
            return MISMATCH
        return order(one[0], other[0]), quality

    return evaluate


def _logic(is_and: bool, operands: Sequence[Evaluate]) -> Evaluate:
    def evaluate(now: int) -> Result:
        results = [_truth(operand(now)) for operand in operands]
        for value, quality in results:
            if value is (not is_and):
                return value, quality
        quality = worst(*(code for _, code in results))
        return (None if is_bad(quality) else is_and), quality

    return evaluate


def _choice(condition: Evaluate, then: Evaluate, otherwise: Evaluate) -> Evaluate:
    def evaluate(now: int) -> Result:
        # Both are evaluated, so that functions over time in them miss nothing.
        (value, quality), one, other = _truth(condition(now)), then(now), otherwise(now)
        if value is None:
            return None, quality
        chosen = one if value else other
        return chosen[0], worst(quality, chosen[1])

    return evaluate
