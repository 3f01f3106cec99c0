"""Types and units of expressions, found before anything runs."""

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from edge.analytics.expression.syntax import (
    Binary,
    Call,
    Compare,
    Duration,
    ExpressionError,
    Literal,
    Logic,
    Node,
    Ref,
    Unary,
    parse,
    refs,
)
from edge.core.language import say


class Type(StrEnum):
    """What a part of an expression is. ANY is a tag whose kind only its server knows."""

    BOOL = "bool"
    NUMBER = "number"
    TEXT = "text"
    TIME = "time"
    ANY = "any"

    @property
    def words(self) -> str:
        """The type in the user's language."""
        return {
            Type.BOOL: say("true or false"),
            Type.NUMBER: say("a number"),
            Type.TEXT: say("a text"),
            Type.TIME: say("a time such as 5min"),
            Type.ANY: say("any value"),
        }[self]


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a value: its type, and its unit if it has one that matters; None where it is not known."""

    type: Type
    unit: str | None = None


@dataclass(frozen=True, slots=True)
class Function:
    """A function of the language. `takes` are its arguments, of which `needs` must be there.

    unit  "same" as the first argument's, "per second" of it, "" none
    """

    takes: tuple[Type, ...]
    needs: int
    gives: Type
    unit: str = ""
    many: bool = False


N, T, B, A = Type.NUMBER, Type.TIME, Type.BOOL, Type.ANY
FUNCTIONS: Mapping[str, Function] = {
    "avg": Function((N, T), 2, N, "same"),
    "min": Function((N, N), 2, N, "same", many=True),
    "max": Function((N, N), 2, N, "same", many=True),
    "sum": Function((N, T), 2, N, "same"),
    "count": Function((A, T), 2, N),
    "delta": Function((N, T), 1, N, "same"),
    "rate": Function((N, T), 1, N, "per second"),
    "prev": Function((A,), 1, A, "same"),
    "changed": Function((A,), 1, B),
    "good": Function((A,), 1, B),
    "if": Function((B, A, A), 3, A, "same"),
    "bit": Function((N, N), 2, B),
    "abs": Function((N,), 1, N, "same"),
    "round": Function((N, N), 1, N, "same"),
    "floor": Function((N,), 1, N, "same"),
    "ceil": Function((N,), 1, N, "same"),
    "sqrt": Function((N,), 1, N),
}
"""All there is. `min` and `max` of a value and a time are over that time, of several values the least and greatest."""

WINDOWED = ("avg", "min", "max", "sum", "count", "delta", "rate")
REMEMBERING = (*WINDOWED, "prev", "changed")
DAYS_MAX_NS = 31 * 86400 * 10**9


@dataclass(frozen=True, slots=True)
class Checked:
    """An expression that is right: its tree, the tags it reads, and what it gives."""

    node: Node
    inputs: tuple[str, ...]
    type: Type
    unit: str | None

    @property
    def kind(self) -> str:
        """What a tag of it holds, as in `edge.core.catalogue.ValueKind`. What is unknown is taken for a number."""
        return {Type.BOOL: "bool", Type.TEXT: "text"}.get(self.type, "float64")


def check(text: str, look_up: Callable[[str], Known | None], known: Callable[[], Sequence[str]]) -> Checked:
    """Return an expression with its type and unit.

    Args:
        text: the expression.
        look_up: what is known of a tag by its path, None if there is no such tag.
        known: all paths there are, for near matches.

    Raises:
        ExpressionError: the first thing that is wrong, with its place.
    """
    node = parse(text)
    found = _Checker(look_up, known).of(node)
    if found.type is Type.TIME:
        raise _error(node, say("a time alone is no value"), say("times stand in functions: avg(x, 5min)"))
    if not refs(node):
        raise _error(node, say("the expression reads no tag"), say("write device.tag"))
    return Checked(node, tuple(refs(node)), found.type, found.unit)


def _error(node: Node, message: str, hint: str) -> ExpressionError:
    return ExpressionError(message, hint, node.start, node.end - node.start)


class _Checker:
    def __init__(self, look_up: Callable[[str], Known | None], known: Callable[[], Sequence[str]]) -> None:
        self._look_up = look_up
        self._known = known

    def of(self, node: Node) -> Known:
        """Return what a node gives. Raises ExpressionError."""
        match node:
            case Literal():
                if isinstance(node.value, bool):
                    return Known(B)
                return Known(Type.TEXT if isinstance(node.value, str) else N)
            case Duration():
                return Known(T)
            case Ref():
                return self._ref(node)
            case Unary():
                wanted = B if node.sign == "not" else N
                return Known(wanted, self._want(node.operand, wanted).unit)
            case Binary():
                return self._binary(node)
            case Compare():
                return self._compare(node)
            case Logic():
                for operand in node.operands:
                    self._want(operand, B)
                return Known(B)
            case Call():
                return self._call(node)

    def _ref(self, node: Ref) -> Known:
        found = self._look_up(node.path)
        if found is not None:
            return found
        near = difflib.get_close_matches(node.path, self._known(), 1, 0.6)
        device = node.path.partition(".")[0]
        own = [path for path in self._known() if path.startswith(device + ".")]
        if near:
            hint = say("did you mean {name}?", name=near[0])
        elif own:
            hint = say("tags there: {names}", names=", ".join(own[:8]))
        else:
            hint = say("devices: {names}", names=", ".join(sorted({path.partition(".")[0] for path in self._known()})))
        if "-" in node.path.rpartition(".")[2]:
            hint = say("{hint}; a subtraction has spaces around the minus", hint=hint)
        raise _error(node, say("there is no tag {name}", name=node.path), hint)

    def _want(self, node: Node, wanted: Type) -> Known:
        found = self.of(node)
        if Type.ANY in (found.type, wanted) and T not in (found.type, wanted):
            return found
        if found.type is not wanted:
            message = say("this is {found}, where {wanted} is needed", found=found.type.words, wanted=wanted.words)
            hint = say("compare it: {example}", example="x > 0") if wanted is B else say("look at the tag's `type`")
            if wanted is N and found.type is B:
                hint = say("write if(x, 1, 0) to count with it")
            if wanted is T:
                hint = say("write e.g. 5min")
            raise _error(node, message, hint)
        return found

    def _same_unit(self, node: Binary | Compare, left: Known, right: Known) -> None:
        if left.unit and right.unit and left.unit != right.unit:
            message = say("{left} with {right}: the units differ", left=left.unit, right=right.unit)
            raise _error(node, message, say("bring one to the other's unit with a factor, e.g. x * 0.001"))

    def _binary(self, node: Binary) -> Known:
        left, right = self._want(node.left, N), self._want(node.right, N)
        if node.sign in "+-":
            self._same_unit(node, left, right)
            return Known(N, left.unit or right.unit)
        # A factor makes another unit of it, so it fits any that is written beside it.
        return Known(N, left.unit if node.sign == "%" else None)

    def _compare(self, node: Compare) -> Known:
        left, right = self.of(node.left), self.of(node.right)
        for side, found in ((node.left, left), (node.right, right)):
            if found.type is T:
                raise _error(side, say("a time alone is no value"), say("times stand in functions: avg(x, 5min)"))
        if Type.ANY not in (left.type, right.type) and left.type is not right.type:
            message = say("{left} compared with {right}", left=left.type.words, right=right.type.words)
            raise _error(node, message, say("compare values of one kind"))
        if node.sign not in ("==", "!=") and B in (left.type, right.type):
            message = say("true and false have no order")
            raise _error(node, message, say("write == or !="))
        self._same_unit(node, left, right)
        return Known(B)

    def _call(self, node: Call) -> Known:
        function = FUNCTIONS.get(node.name)
        if function is None:
            near = difflib.get_close_matches(node.name, FUNCTIONS, 1, 0.6)
            hint = (
                say("did you mean {name}?", name=near[0])
                if near
                else say("functions: {names}", names=", ".join(FUNCTIONS))
            )
            raise _error(node, say("there is no function {name}", name=node.name), hint)
        given = node.arguments
        if len(given) < function.needs or (len(given) > len(function.takes) and not function.many):
            message = say("{name} takes {wanted} arguments, not {given}", name=node.name, given=len(given),
                          wanted=_numbers(function))  # fmt: skip
            raise _error(node, message, say("e.g. {example}", example=EXAMPLES.get(node.name, f"{node.name}(x)")))
        takes = function.takes
        if function.many:
            over_time = len(given) == 2 and isinstance(given[1], Duration)
            takes = (N, T) if over_time else (N,) * len(given)
        found = [self._want(argument, wanted) for argument, wanted in zip(given, takes, strict=False)]
        for argument, wanted in zip(given, takes, strict=False):
            if wanted is T:
                self._window(argument)
        if node.name == "bit" and not (isinstance(given[1], Literal) and given[1].value in range(64)):
            raise _error(given[1], say("a bit has a number from 0 to 63"), say("e.g. {example}", example="bit(x, 3)"))
        if node.name == "if":
            return self._if(node, found)
        gives = found[0].type if function.gives is A else function.gives
        match function.unit:
            case "same":
                return Known(gives, found[0].unit)
            case "per second":
                return Known(gives, f"{found[0].unit}/s" if found[0].unit else None)
        return Known(gives)

    def _window(self, argument: Node) -> None:
        if not isinstance(argument, Duration):
            raise _error(argument, say("this must be written as a time"), say("write e.g. 5min"))
        if not 0 < argument.ns <= DAYS_MAX_NS:
            raise _error(argument, say("a time here is above zero and at most 31 days"), say("write e.g. 5min"))

    def _if(self, node: Call, found: Sequence[Known]) -> Known:
        _, then, otherwise = found
        if Type.ANY not in (then.type, otherwise.type) and then.type is not otherwise.type:
            message = say("one branch is {left}, the other {right}", left=then.type.words, right=otherwise.type.words)
            raise _error(node, message, say("give both the same kind of value"))
        return Known(otherwise.type if then.type is A else then.type, then.unit or otherwise.unit)


def _numbers(function: Function) -> str:
    if function.many:
        return say("{count} or more", count=function.needs)
    most = len(function.takes)
    return str(most) if most == function.needs else say("{low} or {high}", low=function.needs, high=most)


EXAMPLES = {
    "avg": "avg(x, 5min)",
    "min": "min(x, 5min)",
    "max": "max(x, y)",
    "sum": "sum(x, 1h)",
    "count": "count(x, 1h)",
    "delta": "delta(x, 1h)",
    "rate": "rate(x, 1min)",
    "if": "if(x > 0, 1, 0)",
    "bit": "bit(x, 3)",
    "round": "round(x, 2)",
}
