"""YAML files with the place of every key and value, so that each problem can be shown where it stands."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any, TypeAlias

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from edge.agent.configuration.located import Located, Span
from edge.core.errors import Problem
from edge.core.language import say

FILE_BYTES_MAX = 16 << 20

KeyPath: TypeAlias = tuple[str | int, ...]

_DATE = re.compile(r"(?<![\w-])(\d{4})-(\d{1,2})-(\d{1,2})(?![\w-])")
_TOKEN = re.compile(r"\"(?:[^\"\\]|\\.)*\"|'(?:[^']|'')*'|[^,\]}#]*[^\s,\]}#]|.")


@dataclass
class Source:
    """The merged data of one file or one folder of files, and where everything in it stands."""

    data: dict[str, Any] = field(default_factory=dict)
    problems: list[Located] = field(default_factory=list)
    _keys: dict[KeyPath, Span] = field(default_factory=dict)
    _values: dict[KeyPath, Span] = field(default_factory=dict)
    _lines: dict[str, list[str]] = field(default_factory=dict)

    def locate(self, problem: Problem) -> Located:
        """Find the place of a problem: its own key or value, or the nearest thing above that exists."""
        path = problem.path
        while path:
            if path in self._keys or path in self._values:
                exact = path == problem.path
                on_key = not exact or problem.on == "key" or path not in self._values
                place = (self._keys if on_key else self._values).get(path) or self._values[path]
                return self._at(problem, place)
            path = path[:-1]
        file = next(iter(self._lines), "")
        return self._at(problem, Span(file, 1, 1))

    def _at(self, problem: Problem, span: Span) -> Located:
        lines = self._lines.get(span.file, [])
        text = lines[span.line - 1] if 0 < span.line <= len(lines) else ""
        if problem.within is not None:
            column, length = problem.within
            if column < span.length:  # else the value is written over several lines: its beginning is marked
                quoted = text[span.column - 1 : span.column] in ("'", '"')
                span = replace(span, column=span.column + column + quoted, length=length)
        return Located(
            problem.path, problem.message, problem.hint, problem.severity, problem.on, span=replace(span, text=text)
        )

    def add_file(self, path: Path, shown: str, under: KeyPath | None = None) -> None:
        """Read a file and merge it in: top-level keys may appear once, devices are joined.

        Of a profile, `under` is the place of the device that it is for.
        """
        try:
            if path.stat().st_size > FILE_BYTES_MAX:
                raise ValueError(say("the file is above 16 MiB"))
            text = path.read_bytes().decode("utf-8")
        except (OSError, UnicodeDecodeError, ValueError) as error:
            words = say("the file cannot be read: {error}", error=error)
            hint = say("check the path, its permissions, and that it is UTF-8")
            self.problems.append(self._at(Problem((), words, hint), Span(shown)))
            return
        self._lines[shown] = text.splitlines()
        try:
            data = YAML(typ="rt").load(text)
        except (YAMLError, ValueError, OverflowError) as error:
            self._add_syntax_error(error, shown)
            return
        if data is None:
            return
        if not isinstance(data, CommentedMap):
            problem = Problem((), say("a configuration is a mapping of keys"), say("begin with site: tenant/gateway"))
            self.problems.append(self._at(problem, Span(shown, 1, 1)))
            return
        if under is not None:
            self._index(data.get("device"), under, shown)
            self.data = _plain(data)
            return
        self._index(data, (), shown)
        for key, value in _plain(data).items():
            mergeable = key == "devices" and isinstance(value, dict) and isinstance(self.data.get(key, {}), dict)
            if mergeable:
                known = self.data.setdefault("devices", {})
                for name, device in value.items():
                    self._merge_once(known, name, device, ("devices", name))
            else:
                self._merge_once(self.data, key, value, (key,))

    def add_profile(self, path: Path, at: KeyPath) -> dict[str, Any] | None:
        """Return a device profile's data; what its `device` says is found at `at`, where the configuration is silent.

        A file that cannot be used is a problem and None.
        """
        shown, known = str(path), len(self.problems)
        beneath = Source()
        beneath.add_file(path, shown, under=at)
        self._lines |= beneath._lines
        self._keys = beneath._keys | self._keys
        self._values = beneath._values | self._values
        self.problems += beneath.problems
        return beneath.data if len(self.problems) == known else None

    def _merge_once(self, into: dict[str, Any], key: str, value: Any, path: KeyPath) -> None:
        if key in into:
            problem = Problem(path, say("{key!r} stands in another file already", key=key), on="key")
            self.problems.append(self.locate(problem))
        into[key] = value

    def _index(self, node: Any, path: KeyPath, file: str) -> None:
        if isinstance(node, CommentedMap):
            for key, value in node.items():
                name = key if isinstance(key, str) else str(key)
                self._keys[*path, name] = self._place(file, *node.lc.key(key))
                self._values[*path, name] = self._place(file, *node.lc.value(key))
                self._index(value, (*path, name), file)
        elif isinstance(node, CommentedSeq):
            for place, value in enumerate(node):
                self._values[*path, place] = self._place(file, *node.lc.item(place))
                self._index(value, (*path, place), file)

    def _place(self, file: str, line: int, column: int) -> Span:
        lines = self._lines[file]
        text = lines[line][column:] if line < len(lines) else ""
        match = _TOKEN.match(text)
        token = match[0] if match else " "
        if not token.startswith(("'", '"')):
            token = re.split(r":(?:\s|$)|\s+#", token)[0].rstrip()
        return Span(file, line + 1, column + 1, max(len(token), 1))

    def _add_syntax_error(self, error: Exception, shown: str) -> None:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        line, column = (mark.line, mark.column) if mark else (0, 0)
        lines = self._lines[shown]
        if lines and line >= len(lines):
            line, column = len(lines) - 1, len(lines[-1])
        hint, width = "", 1
        words = str(getattr(error, "problem", None) or error).splitlines()[0]
        if mark is None and (found := _no_date(lines)) is not None:
            line, column, given = found
            width = len(given)
            message, hint = say("{given!r} is no date", given=given), say("write e.g. {example}", example="2026-05-03")
        elif isinstance(error, DuplicateKeyError):
            message = say("a key stands twice: {words}", words=words.partition(" with value")[0])
            hint = say("remove one of the two")
        else:
            if lines and "\t" in lines[line][: column + 1]:
                hint = say("indent with spaces, not with tabs")
            elif isinstance(error, MarkedYAMLError) and "mapping values" in words:
                hint = say("put the text in quotes, or start a new line after the colon")
            message = say("this is not YAML: {words}", words=words)
        self.problems.append(self._at(Problem((), message, hint), Span(shown, line + 1, column + 1, width)))


def _plain(node: Any) -> Any:
    if isinstance(node, dict):
        return {key if isinstance(key, str) else str(key): _plain(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_plain(value) for value in node]
    if isinstance(node, bool):
        return bool(node)
    if isinstance(node, int):
        return int(node)
    if isinstance(node, float):
        return float(node)
    return str(node) if isinstance(node, str) else node


def read_source(path: Path) -> Source:
    """Read a file, or all `*.yaml` and `*.yml` files of a folder in order of name."""
    source = Source()
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix in (".yaml", ".yml"))
        if not files:
            problem = Problem((), say("the folder holds no .yaml file"), say("name a file, or run in another folder"))
            source.problems.append(source._at(problem, Span(str(path))))
        for file in files:
            source.add_file(file, str(file))
    else:
        source.add_file(path, str(path))
    return source


def _no_date(lines: Sequence[str]) -> tuple[int, int, str] | None:
    """Return line, column and text of the first date that there is not: YAML does not tell where it stands."""
    for number, line in enumerate(lines):
        for match in _DATE.finditer(line.partition(" #")[0]):
            try:
                date(*map(int, match.groups()))
            except ValueError:
                return number, match.start(), match[0]
    return None
