"""Reading a recording: every row checked before the first is played."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge.core.catalogue import ValueKind
from edge.core.errors import ConfigError, Problem
from edge.core.language import say
from edge.core.quality import is_bad
from edge.core.written import Miswritten, quality_of, time_of, value_of

ROWS_MAX = 5_000_000
PROBLEMS_MAX = 20

_COLUMNS = ("ts", "device", "tag", "value")


@dataclass(frozen=True, slots=True)
class Row:
    """One recorded reading, its value as the lane holds it."""

    ts: int
    tag: str
    value: Any
    quality: int


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
        quality = quality_of(fields.get("quality") or "")
        value = value_of(fields["value"] or "", kind, is_bad=is_bad(quality))
        yield Row(time_of(fields["ts"] or ""), tag, value, quality)
    except Miswritten as wrong:
        problems.append(_problem(device, f"{where}: {wrong.message}", wrong.hint))


def _problem(device: str, message: str, hint: str) -> Problem:
    return Problem(("devices", device, "replay"), message, hint)
