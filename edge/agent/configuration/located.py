"""Problems at their place in a file, and how people and programs see them."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from edge.core.errors import ConfigError, Problem
from edge.core.language import say

LINE_SHOWN_MAX = 120


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of one line of a file. `line` and `column` count characters from 1; `text` is the whole line."""

    file: str
    line: int = 1
    column: int = 1
    length: int = 1
    text: str = ""


@dataclass(frozen=True, slots=True)
class Located(Problem):
    """A problem that knows where it stands."""

    span: Span = field(default=Span(""), kw_only=True)


def render(problem: Problem) -> str:
    """Return the problem as `file:line:col: error: …`, its line, a caret under the piece, and the next step."""
    severity = say("error") if problem.severity == "error" else say("warning")
    hint = say("help: {hint}", hint=problem.hint) if problem.hint else ""
    if not isinstance(problem, Located):
        return "\n".join(filter(None, [f"{severity}: {_sentence(problem)}", hint]))
    span = problem.span
    head = f"{span.file}:{span.line}:{span.column}: {severity}: {_sentence(problem)}"
    if not span.text.strip():
        return "\n".join(filter(None, [head, f"      | {hint}" if hint else ""]))
    text, column = _window(span.text.rstrip(), span.column - 1)
    room = max(1, min(span.length, len(text) - column))
    caret = " " * _width(text[:column]) + "^" * max(1, _width(text[column : column + room]))
    return f"{head}\n{span.line:>5} | {text}\n      | {caret}{'  ' + hint if hint else ''}"


def render_all(error: ConfigError) -> str:
    """Return all problems of an error, in the order of the file."""
    return "\n".join(render(problem) for problem in error.problems)


def as_json(problem: Problem) -> dict[str, Any]:
    """Return the problem as the object `yulink check --json` lists."""
    span = problem.span if isinstance(problem, Located) else Span("")
    return {
        "file": span.file,
        "line": span.line,
        "column": span.column,
        "severity": problem.severity,
        "message": _sentence(problem),
        "hint": problem.hint,
    }


def in_order(problems: Sequence[Located]) -> list[Located]:
    """Return the problems as a reader meets them: by file, line and column."""
    return sorted(problems, key=lambda p: (p.span.file, p.span.line, p.span.column, p.severity))


def _sentence(problem: Problem) -> str:
    return f"{'.'.join(map(str, problem.path))}: {problem.message}" if problem.path else problem.message


def _window(text: str, column: int) -> tuple[str, int]:
    """Return the part of a long line around the column, and the column in it; control characters as blanks."""
    text = "".join(char if char.isprintable() else " " for char in text)
    if len(text) <= LINE_SHOWN_MAX:
        return text, column
    first = max(0, min(column - LINE_SHOWN_MAX // 3, len(text) - LINE_SHOWN_MAX))
    shown = text[first : first + LINE_SHOWN_MAX]
    start, end = "…" if first else "", "…" if first + LINE_SHOWN_MAX < len(text) else ""
    return f"{start}{shown}{end}", column - first + len(start)


def _width(text: str) -> int:
    """Return the columns a text takes in a terminal: two for a Chinese character."""
    return sum(
        2 if unicodedata.east_asian_width(char) in "WF" else 0 if unicodedata.combining(char) else 1 for char in text
    )
