"""From the text of an expression to its tree. Nothing of the text is ever run: what is not in this file does not exist.

    cnc-07.load > 80 and spindle.running
    avg(pump-3.temperature, 5min) - min(pump-3.temperature, 1h) > 10
    if(plc-1.state == "running", rate(plc-1.bottles, 1min) * 60, 0)

A tag is `device.tag`, perhaps with `[3]` for an element of an array. A minus between two letters or digits belongs to a
name, so a subtraction has spaces around it.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from edge.core.errors import YulinkError
from edge.core.language import say

LENGTH_MAX = 2000
DEPTH_MAX = 40

SECONDS = {"ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


class ExpressionError(YulinkError):
    """An expression is wrong at `column` (from 0) for `length` characters."""

    def __init__(self, message: str, hint: str, column: int, length: int = 1) -> None:
        super().__init__(message, hint)
        self.column = column
        self.length = length


@dataclass(frozen=True, slots=True)
class Literal:
    """A number, a text, or true and false."""

    value: float | int | str | bool
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Duration:
    """A time such as `5min`, in nanoseconds."""

    ns: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Ref:
    """A tag's last value."""

    path: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Unary:
    """`-` or `not`."""

    sign: str
    operand: "Node"
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Binary:
    """`+ - * / %`."""

    sign: str
    left: "Node"
    right: "Node"
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Compare:
    """`== != < <= > >=`."""

    sign: str
    left: "Node"
    right: "Node"
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Logic:
    """`and` or `or` over two or more."""

    sign: str
    operands: tuple["Node", ...]
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Call:
    """A function of this language; see `edge.analytics.expression.check`."""

    name: str
    arguments: tuple["Node", ...]
    start: int
    end: int


Node: TypeAlias = Literal | Duration | Ref | Unary | Binary | Compare | Logic | Call


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    start: int

    @property
    def end(self) -> int:
        return self.start + len(self.text)


_NAME = r"[^\W_]\w*(?:-+\w+)*"
_NUMBER = r"\d+(?:\.\d+)?(?:[eE][+-]?\d+)?"
_TOKENS = [
    ("space", re.compile(r"\s+")),
    ("number", re.compile(rf"{_NUMBER}[^\W\d_]*(?![\w.]|-+\w)")),
    ("tag", re.compile(rf"{_NAME}\.{_NAME}(?:\[\d+\])?")),
    ("word", re.compile(r"[^\W\d_]\w*")),
    ("number", re.compile(_NUMBER)),
    ("text", re.compile(r'"[^"\n]*"|\'[^\'\n]*\'')),
    ("sign", re.compile(r"==|!=|<=|>=|[-+*/%<>(),]|[≤≥≠]")),
]
_SIGNS = {"≤": "<=", "≥": ">=", "≠": "!="}
_COMPARISONS = ("==", "!=", "<", "<=", ">", ">=")
_WORDS = {"true": True, "false": False}
_END = "end"


def parse(text: str) -> Node:
    """Return the tree of an expression. Raises ExpressionError at the first thing that is wrong."""
    if len(text) > LENGTH_MAX:
        message = say("the expression has more than {count} characters", count=LENGTH_MAX)
        raise ExpressionError(message, say("make a derived tag of a part of it"), 0)
    return _Parser(list(_tokens(text))).whole()


def _tokens(text: str) -> Iterator[_Token]:
    at = 0
    while at < len(text):
        for kind, pattern in _TOKENS:
            if match := pattern.match(text, at):
                if kind != "space":
                    yield _Token(kind, match[0], at)
                at = match.end()
                break
        else:
            raise _unknown_sign(text, at)
    yield _Token(_END, "", len(text))


def _unknown_sign(text: str, at: int) -> ExpressionError:
    instead = {"&": "and", "|": "or", "!": "not", "=": "=="}.get(text[at])
    hint = say("write `{word}`", word=instead) if instead else say("see docs/analytics.md for what can be written")
    return ExpressionError(say("{sign!r} means nothing here", sign=text[at]), hint, at)


class _Parser:
    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens
        self._at = 0
        self._depth = 0

    @property
    def _next(self) -> _Token:
        return self._tokens[self._at]

    def _take(self) -> _Token:
        token = self._next
        self._at += token.kind != _END
        return token

    def _is(self, *texts: str) -> bool:
        return self._next.kind in ("sign", "word") and _SIGNS.get(self._next.text, self._next.text) in texts

    def whole(self) -> Node:
        node = self._or()
        if self._next.kind != _END:
            raise self._unexpected()
        return node

    def _unexpected(self) -> ExpressionError:
        token = self._next
        if token.kind == _END:
            hint = say("write a tag, a number or ( here")
            return ExpressionError(say("the expression ends too early"), hint, max(token.start - 1, 0))
        hint = say("join two parts with and, or, or an arithmetic sign")
        if token.kind == "word" and not self._is("and", "or", "not"):
            hint = say("a tag is written device.tag, a text in quotes")
        message = say("{text!r} cannot stand here", text=token.text)
        return ExpressionError(message, hint, token.start, len(token.text))

    def _or(self) -> Node:
        self._depth += 1
        if self._depth > DEPTH_MAX:
            message = say("the expression is nested more than {count} deep", count=DEPTH_MAX)
            raise ExpressionError(message, say("make a derived tag of a part of it"), self._next.start)
        node = self._logic("or", self._and)
        self._depth -= 1
        return node

    def _and(self) -> Node:
        return self._logic("and", self._not)

    def _logic(self, word: str, below: Callable[[], Node]) -> Node:
        operands = [below()]
        while self._is(word):
            self._take()
            operands.append(below())
        if len(operands) == 1:
            return operands[0]
        return Logic(word, tuple(operands), operands[0].start, operands[-1].end)

    def _not(self) -> Node:
        first, nots = self._next, 0
        while self._is("not"):
            nots += 1
            self._take()
        node = self._comparison()
        return Unary("not", node, first.start, node.end) if nots % 2 else node

    def _comparison(self) -> Node:
        parts, signs = [self._sum()], []
        while self._is(*_COMPARISONS):
            sign = self._take().text
            signs.append(_SIGNS.get(sign, sign))
            parts.append(self._sum())
        pairs: list[Node] = [
            Compare(sign, left, right, left.start, right.end)
            for sign, left, right in zip(signs, parts[:-1], parts[1:], strict=True)
        ]
        if len(pairs) > 1:
            return Logic("and", tuple(pairs), pairs[0].start, pairs[-1].end)
        return pairs[0] if pairs else parts[0]

    def _sum(self) -> Node:
        node = self._product()
        while self._is("+", "-"):
            sign = self._take().text
            right = self._product()
            node = Binary(sign, node, right, node.start, right.end)
        return node

    def _product(self) -> Node:
        node = self._negative()
        while self._is("*", "/", "%"):
            sign = self._take().text
            right = self._negative()
            node = Binary(sign, node, right, node.start, right.end)
        return node

    def _negative(self) -> Node:
        first, minuses = self._next, 0
        while self._is("-", "+"):
            minuses += self._take().text == "-"
        node = self._primary()
        return Unary("-", node, first.start, node.end) if minuses % 2 else node

    def _primary(self) -> Node:
        token = self._next
        if self._is("and", "or", "not"):
            raise self._unexpected()
        match token.kind:
            case "number":
                return self._number()
            case "text":
                self._take()
                return Literal(token.text[1:-1], token.start, token.end)
            case "tag":
                self._take()
                return Ref(token.text, token.start, token.end)
            case "word" if token.text in _WORDS:
                self._take()
                return Literal(_WORDS[token.text], token.start, token.end)
            case "word" if self._tokens[self._at + 1].text == "(":
                return self._call()
            case "sign" if token.text == "(":
                self._take()
                node = self._or()
                self._close(token)
                return node
        raise self._unexpected()

    def _number(self) -> Node:
        token = self._take()
        match = re.match(_NUMBER, token.text)
        assert match is not None
        unit = token.text[match.end() :]
        if not unit:
            whole = match[0].isdecimal() and len(match[0]) < 19
            return Literal(int(match[0]) if whole else float(match[0]), token.start, token.end)
        if unit not in SECONDS:
            message = say("{unit!r} is not a unit of time", unit=unit)
            hint = say("times: {units}; other numbers stand in the unit of their tag", units=", ".join(SECONDS))
            raise ExpressionError(message, hint, token.start, len(token.text))
        return Duration(round(float(match[0]) * SECONDS[unit] * 1e9), token.start, token.end)

    def _call(self) -> Node:
        name, opening = self._take(), self._take()
        arguments: list[Node] = []
        while not self._is(")"):
            arguments.append(self._or())
            if not self._is(","):
                break
            self._take()
        end = self._close(opening)
        return Call(name.text, tuple(arguments), name.start, end)

    def _close(self, opening: _Token) -> int:
        if not self._is(")"):
            if self._next.kind == _END:
                raise ExpressionError(say("this ( is never closed"), say("add a )"), opening.start)
            raise self._unexpected()
        return self._take().end


def parts(node: Node) -> Iterator[Node]:
    """Yield a node and everything below it, from left to right."""
    yield node
    match node:
        case Unary():
            yield from parts(node.operand)
        case Binary() | Compare():
            yield from parts(node.left)
            yield from parts(node.right)
        case Logic():
            for operand in node.operands:
                yield from parts(operand)
        case Call():
            for argument in node.arguments:
                yield from parts(argument)


def refs(node: Node) -> list[str]:
    """Return the paths of the tags that an expression reads, each once, in order of the text."""
    return list(dict.fromkeys(part.path for part in parts(node) if isinstance(part, Ref)))
