"""A recording as `yulink replay` reads it: every row checked, in columns, in order of time."""

import csv
import difflib
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.agent.configuration.located import Located, Span, in_order
from edge.core.catalogue import ValueKind
from edge.core.errors import ConfigError
from edge.core.language import say
from edge.core.quality import is_bad
from edge.core.written import Miswritten, quality_of, time_of, value_of

COLUMNS = ("ts", "device", "tag", "value")
PROBLEMS_MAX = 20


@dataclass(slots=True)
class Recording:
    """Rows in order of time, of equal times in the order of the file.

    paths    path of each tag
    kinds    of each tag
    place    int32[n]    which tag
    ts       int64[n]
    number   float64[n]  of tags that are floats
    whole    int64[n]    of tags that are bools or integers, unsigned ones by their bit pattern
    text     texts by row
    quality  uint32[n]
    unknown  tags that the configuration does not have, with their rows
    """

    paths: list[str]
    kinds: list[ValueKind]
    place: npt.NDArray[np.int32]
    ts: npt.NDArray[np.int64]
    number: npt.NDArray[np.float64]
    whole: npt.NDArray[np.int64]
    text: npt.NDArray[Any]
    quality: npt.NDArray[np.uint32]
    unknown: Counter[str]


@dataclass(slots=True)
class _Columns:
    place: "array[int]" = field(default_factory=lambda: array("i"))
    ts: "array[int]" = field(default_factory=lambda: array("q"))
    number: "array[float]" = field(default_factory=lambda: array("d"))
    whole: "array[int]" = field(default_factory=lambda: array("q"))
    quality: "array[int]" = field(default_factory=lambda: array("I"))
    text: dict[int, str] = field(default_factory=dict)


class _Wrong(ValueError):
    """A field that cannot be read: its number in the row, and what to say."""

    def __init__(self, column: str, message: str, hint: str) -> None:
        super().__init__(message)
        self.column, self.message, self.hint = column, message, hint


def read(path: Path, known: Mapping[str, ValueKind | None]) -> Recording:
    """Return the rows of the tags that are `known`, by path; a kind of None is found from the values.

    Raises:
        ConfigError: the file cannot be read, or rows are wrong; each with line and column.
    """
    reader = _Reader(path, known)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader.read(file)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        hint = say("a CSV file in UTF-8 with the columns ts,device,tag,value[,quality]")
        raise ConfigError(
            [_located(path, 1, 1, "", say("the recording cannot be read: {error}", error=error), hint)]
        ) from error
    if reader.problems:
        raise ConfigError(in_order(reader.problems))
    return reader.recording()


def _located(path: Path, line: int, column: int, text: str, message: str, hint: str, length: int = 1) -> Located:
    return Located((), message, hint, span=Span(str(path), line, column, length, text))


class _Reader:
    def __init__(self, path: Path, known: Mapping[str, ValueKind | None]) -> None:
        self._path = path
        self._known = known
        self._places: dict[str, int] = {}
        self._kinds: list[ValueKind | None] = []
        self._raw: dict[int, str] = {}  # texts of tags whose kind is not known yet, by row
        self._columns = _Columns()
        self._line = ""
        self._unknown: Counter[str] = Counter()
        self.problems: list[Located] = []

    def _lines(self, file: Any) -> Iterator[str]:
        for self._line in file:
            yield self._line

    def read(self, file: Any) -> None:
        """Read all rows, or as far as there are not too many problems."""
        rows = csv.reader(self._lines(file))
        header = [name.strip() for name in next(rows, [])]
        lacking = [name for name in COLUMNS if name not in header]
        if lacking:
            message = say("the column {column} is missing", column=lacking[0])
            hint = say("the first line is ts,device,tag,value[,quality]")
            self.problems.append(_located(self._path, 1, 1, self._line.rstrip("\r\n"), message, hint))
            return
        self._header = {name: header.index(name) for name in (*COLUMNS, *(["quality"] if "quality" in header else []))}
        for fields in rows:
            if not fields:
                continue
            try:
                self._take(fields)
            except _Wrong as wrong:
                self._tell(fields, wrong, rows.line_num)
                if len(self.problems) >= PROBLEMS_MAX:
                    return

    def _tell(self, fields: list[str], wrong: _Wrong, line: int) -> None:
        at = self._header.get(wrong.column, 0)
        text = self._line.rstrip("\r\n")
        given = fields[at] if at < len(fields) else ""
        column = sum(len(each) + 1 for each in fields[:at]) + 1
        if '"' in text:  # what is quoted is longer in the file than it is
            column = max(text.find(given), 0) + 1
        self.problems.append(_located(self._path, line, column, text, wrong.message, wrong.hint, max(len(given), 1)))

    def _take(self, fields: list[str]) -> None:
        header = self._header
        if len(fields) < len(header):
            message = say("a row of {given} fields, not {wanted}", given=len(fields), wanted=len(header))
            raise _Wrong("ts", message, say("an empty value is written with its comma"))
        path = f"{fields[header['device']].strip()}.{fields[header['tag']].strip()}"
        if path not in self._known:
            self._unknown[path] += 1
            return
        place = self._places.get(path)
        if place is None:
            place = self._places[path] = len(self._places)
            self._kinds.append(self._known[path])
        columns, value = self._columns, fields[header["value"]]
        row, number, whole = len(columns.ts), 0.0, 0
        column = "quality"
        try:
            quality = quality_of(fields[header["quality"]]) if "quality" in header else 0
            column = "ts"
            ts = time_of(fields[header["ts"]])
            column = "value"
            match self._kinds[place]:
                case None:
                    self._raw[row] = value
                case ValueKind.TEXT:
                    columns.text[row] = value
                case ValueKind.FLOAT64:
                    number = float(value_of(value, ValueKind.FLOAT64, is_bad=is_bad(quality)))
                case kind:
                    whole = int(value_of(value, kind, is_bad=is_bad(quality)))
        except Miswritten as wrong:
            raise _Wrong(column, wrong.message, wrong.hint) from None
        columns.place.append(place)
        columns.ts.append(ts)
        columns.number.append(number)
        columns.whole.append(whole)
        columns.quality.append(quality)

    def recording(self) -> Recording:
        """Return what was read, sorted."""
        columns = self._columns
        place, whole = np.array(columns.place, np.int32), np.array(columns.whole, np.int64)
        number = np.array(columns.number, np.float64)
        kinds = self._found_kinds()
        text = np.full(len(place), "", object)
        for row, value in columns.text.items():
            text[row] = value
        for row, value in self._raw.items():
            kind = kinds[place[row]]
            into = {ValueKind.TEXT: text, ValueKind.FLOAT64: number}.get(kind, whole)
            into[row] = value_of(value, kind, is_bad=is_bad(columns.quality[row]))
        order = np.argsort(np.array(columns.ts, np.int64), kind="stable")
        return Recording(
            list(self._places),
            kinds,
            place[order],
            np.array(columns.ts, np.int64)[order],
            number[order],
            whole[order],
            text[order],
            np.array(columns.quality, np.uint32)[order],
            self._unknown,
        )

    def _found_kinds(self) -> list[ValueKind]:
        """Return the kinds, those that nobody knew from the values: bool, integer, float, or else text."""
        fits: dict[int, list[ValueKind]] = {}
        for row, value in self._raw.items():
            if value.strip():
                place = self._columns.place[row]
                left = fits.setdefault(place, [ValueKind.BOOL, ValueKind.INT64, ValueKind.FLOAT64])
                left[:] = [kind for kind in left if _fits(value, kind)]
        return [
            kind or (fits.get(place) or [ValueKind.TEXT if place in fits else ValueKind.FLOAT64])[0]
            for place, kind in enumerate(self._kinds)
        ]


def _fits(value: str, kind: ValueKind) -> bool:
    if kind is ValueKind.BOOL:
        return value.strip().lower() in ("true", "false")
    try:
        value_of(value, kind)
    except Miswritten:
        return False
    return True


def near(path: str, known: Mapping[str, object]) -> str:
    """Return the nearest known path, "" when there is none."""
    return next(iter(difflib.get_close_matches(path, known, 1, 0.6)), "")
