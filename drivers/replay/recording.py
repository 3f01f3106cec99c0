"""Reading a recording: every row checked before the first is played."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from edge.core.catalogue import ValueKind
from edge.core.errors import ConfigError, Problem
from edge.core.language import say
from edge.core.quality import StatusCode

ROWS_MAX = 5_000_000
PROBLEMS_MAX = 20

_COLUMNS = ("ts", "device", "tag", "value")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Row:
    """One recorded reading, its value as the lane holds it."""

    ts: int
    tag: str
    value: Any
    quality: int


def parse_ts(text: str) -> int:
    """Return ISO 8601 (UTC unless it has an offset) or whole nanoseconds as ns since 1970 UTC. Raises ValueError."""
    if text.lstrip("-").isdecimal():
        return int(text)
    when = datetime.fromisoformat(text)
    aware = when if when.tzinfo else when.replace(tzinfo=UTC)
    return (aware - _EPOCH) // timedelta(microseconds=1) * 1000


def parse_value(text: str, kind: ValueKind) -> Any:
    """Return a value as its lane holds it. Raises ValueError when the text is not of that kind."""
    match kind:
        case ValueKind.TEXT:
            return text
        case ValueKind.FLOAT64:
            return float(text)
        case ValueKind.BOOL:
            words = {"true": 1, "1": 1, "false": 0, "0": 0}
            if text.lower() not in words:
                raise ValueError(text)
            return words[text.lower()]
        case _:
            number = int(text)
            low, high = (0, 2**64) if kind is ValueKind.UINT64 else (-(2**63), 2**63)
            if not low <= number < high:
                raise ValueError(text)
            return number - 2**64 if number >= 2**63 else number


def read_recording(path: Path, device: str, kinds: dict[str, tuple[str, ValueKind]]) -> list[Row]:
    """Return the device's rows in order of time.

    Args:
        kinds: name in the file → (tag, kind).

    Raises:
        ConfigError: the file cannot be read, or rows are wrong; each with its line.
    """
    problems: list[Problem] = []
    rows: list[Row] = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            lacking = [column for column in _COLUMNS if column not in (reader.fieldnames or ())]
            if lacking:
                message = say("{file}:1: the column {column} is missing", file=path, column=lacking[0])
                raise ConfigError([_problem(device, message, say("the first line is ts,device,tag,value[,quality]"))])
            for line, fields in enumerate(reader, 2):
                if fields["device"] == device and fields["tag"] in kinds:
                    rows += _row(fields, *kinds[fields["tag"]], f"{path}:{line}", device, problems)
                if len(problems) >= PROBLEMS_MAX or len(rows) > ROWS_MAX:
                    break
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        message = say("the recording cannot be read: {error}", error=error)
        raise ConfigError([_problem(device, message, say("check `replay`: a path, UTF-8, comma-separated"))]) from error
    if len(rows) > ROWS_MAX:
        problems.append(
            _problem(device, say("{file}: more than {count} rows", file=path, count=ROWS_MAX), say("split it"))
        )
    if not rows and not problems:
        message = say("{file}: no row belongs to this device and its tags", file=path)
        problems.append(_problem(device, message, say("compare the columns device and tag with the configuration")))
    if problems:
        raise ConfigError(problems)
    return sorted(rows, key=lambda row: row.ts)


def _row(
    fields: dict[str, str], tag: str, kind: ValueKind, where: str, device: str, problems: list[Problem]
) -> Iterator[Row]:
    try:
        quality = int(fields.get("quality") or "0", 0)
        bad = quality & 0x80000000 and not fields["value"]
        nothing = {ValueKind.FLOAT64: "nan", ValueKind.TEXT: ""}.get(kind, "0")
        yield Row(parse_ts(fields["ts"]), tag, parse_value(nothing if bad else fields["value"], kind), quality)
    except (ValueError, TypeError, OverflowError):
        message = say("{where}: {row} is not a row of kind {kind}", where=where, row=list(fields.values()), kind=kind)
        problems.append(
            _problem(
                device,
                message,
                say("ts is ISO 8601 or nanoseconds, quality e.g. {code}", code=f"0x{StatusCode.BAD:08X}"),
            )
        )


def _problem(device: str, message: str, hint: str) -> Problem:
    return Problem(("devices", device, "replay"), message, hint)
