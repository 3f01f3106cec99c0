"""Tables of numbers as text, as loggers, spreadsheets and laboratories write them: columns of f64 and a time column.

Cells are separated by a comma, a semicolon, a tabulator or blanks, also if that changes on the way; decimals are points
or commas. Lines before the numbers are told apart by themselves; the last of them names the columns if it has as many.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from edge.core.errors import WrongInput
from edge.core.language import say

F64 = NDArray[np.float64]
EMPTY = ("", "nan", "null", "none", "-", "n/a", "#n/a")
HEAD_LINES_MAX = 200
TIME = re.compile(r"(time|t|ts|timestamp|datetime|seconds|zeit|时间|采样时间)(?![a-z])", re.I)
TIME_UNITS = {"ms": 1e-3, "毫秒": 1e-3, "us": 1e-6, "µs": 1e-6, "微秒": 1e-6, "ns": 1e-9}
UNEVEN_STEPS = 1.5


@dataclass(frozen=True, slots=True)
class Table:
    """Columns by name, or by number where they have none; which of them is the time in seconds, and whether in UTC."""

    columns: dict[str, F64]
    time: str | None
    is_utc: bool = True


def read_table(name: str, data: bytes) -> Table:
    """Return the columns of a text.

    Raises:
        WrongInput: there are no numbers, or a line differs from the others.
    """
    lines = _plain(_text(data))
    start = next((place for place, line in enumerate(lines[:HEAD_LINES_MAX]) if _is_data(line)), None)
    if start is None:
        raise WrongInput(
            say("{file} holds no rows of numbers", file=name), say("one row a sample, the same columns in each")
        )
    first = lines[start].split(",")
    above = next((line for line in reversed(lines[:start]) if line.strip()), "")
    head = [cell.strip(' "#') for cell in above.split(",")]
    is_named = bool(above) and len(set(head)) == len(head) == len(first)
    names = head if is_named else [str(place) for place in range(len(first))]
    table = _numbers(name, lines, start, len(first))
    columns = {each: table[:, place] for place, each in enumerate(names) if not np.isnan(table[:, place]).all()}
    time = next((each for each in columns if TIME.match(each)), None)
    if time is None and not is_named and len(columns) > 1 and _is_clock(columns[each := next(iter(columns))]):
        time = each
    if time is None:
        return Table(columns, None)
    if unit := re.search(r"(ms|毫秒|us|µs|微秒|ns)\W*$", time.lower()):
        columns[time] = columns[time] * TIME_UNITS[unit[1]]
    cell = first[names.index(time)]
    return Table(columns, time, _number(cell) is not None or datetime.fromisoformat(_iso(cell)).tzinfo is not None)


def rate_of(times: F64) -> float | None:
    """Return the rate of a column of seconds; nothing if it runs unevenly. It may be rounded, with equal times."""
    steps = np.diff(times)
    if not steps.size or not np.all(steps >= 0) or times[-1] <= times[0]:
        return None
    even = np.linspace(times[0], times[-1], times.size)
    longest = max(float(np.median(steps)), float(steps[steps > 0].min()))
    return float(steps.size / (times[-1] - times[0])) if np.abs(times - even).max() <= UNEVEN_STEPS * longest else None


def _is_clock(column: F64) -> bool:
    """Whether a nameless first column is an even time that begins at zero."""
    return bool(column[0] == 0 and np.all(np.diff(column) > 0) and rate_of(column) is not None and column[1] != 1)


def _text(data: bytes) -> str:
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("gb18030", "replace")  # spreadsheets on Chinese Windows


def _plain(text: str) -> list[str]:
    """Return the lines with commas between cells and points as decimals, whatever was there, and blank ones empty."""
    lines = text.splitlines()
    for sign in ";\t":
        if sign not in text:
            continue
        some = [line for line in lines[-1000:] + lines[:1000] if sign in line]
        comma = any(re.search(r"\d,\d", line) for line in some) and not any(re.search(r"\d\.\d", line) for line in some)
        lines = [
            (line.replace(",", ".") if comma else line).replace(sign, ",") if sign in line else line for line in lines
        ]
    middle = [line.strip() for line in lines[len(lines) // 2 :][:1000] if line.strip()]
    if _is_one_comma_each(middle):
        lines = [line.replace(",", ".") for line in lines]
    if any(" " in line and "," not in line for line in middle):
        lines = [",".join(line.split()) for line in lines]
    return lines


def _is_one_comma_each(lines: list[str]) -> bool:
    """Whether the commas can only be decimals: `-0,25`, `0,012`, or such numbers with blanks between."""
    number = r"[-+]?\d+,\d+(e[-+]?\d+)?"
    if any("." in line for line in lines) or not all(
        re.fullmatch(rf"{number}(\s+{number})*", line, re.I) for line in lines
    ):
        return False
    return any(re.match(r"-0,|[-+]?\d+,0\d|\S+\s", line) for line in lines)


def _is_data(row: str) -> bool:
    cells = [cell.strip() for cell in row.split(",")]
    return any(_number(cell) is not None for cell in cells) and all(
        _number(cell) is not None or cell.lower() in EMPTY or _moment(cell) is not None for cell in cells
    )


def _numbers(name: str, lines: list[str], start: int, width: int) -> F64:
    """Return all cells, (rows, width); empty ones are NaN, moments are seconds since 1970."""
    try:
        table: F64 = np.loadtxt(lines[start:], delimiter=",", ndmin=2, comments=None)
        return table
    except ValueError:
        pass  # what is not a number is looked at cell by cell
    rows = [(number, line) for number, line in enumerate(lines[start:], start + 1) if line.strip()]
    table = np.empty((len(rows), width))
    for place, (number, line) in enumerate(rows):
        cells = line.split(",")
        if len(cells) != width:
            words = say(
                "{file}, line {line}: {count} cells, not {width}",
                file=name, line=number, count=len(cells), width=width,
            )  # fmt: skip
            raise WrongInput(words, say("mend or remove that line"))
        for column, cell in enumerate(cells):
            table[place, column] = _cell(name, number, column, cell.strip())
    return table


def _cell(name: str, line: int, column: int, cell: str) -> float:
    value = _number(cell)
    if value is None:
        value = float("nan") if cell.lower() in EMPTY else _moment(cell)
    if value is None:
        raise WrongInput(
            say("{file}, line {line}, column {column}: {cell!r} is no number", file=name, line=line, column=column + 1,
                cell=cell[:40]),
            say("mend that cell; an empty one counts as missing"),
        )  # fmt: skip
    return value


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None


def _moment(cell: str) -> float | None:
    """Return seconds since 1970 of a date and time, taken as UTC where it does not say."""
    try:
        when = datetime.fromisoformat(_iso(cell))
    except ValueError:
        return None
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()


def _iso(cell: str) -> str:
    return cell.strip().strip('"').replace("/", "-")
