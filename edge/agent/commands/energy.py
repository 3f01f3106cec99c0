"""`yulink energy`: the figures of meters, machines and the plant by interval, as the log keeps them for months."""

import asyncio
import csv
import difflib
import json
import math
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TextIO
from zoneinfo import ZoneInfo

from buffer.aggregates import Figure, figures
from buffer.view import View, open_view
from edge.agent.app import LOG_NAME
from edge.agent.commands import table
from edge.agent.configuration.figure_inputs import inputs_of
from edge.agent.configuration.loader import load
from edge.core.clock import SystemClock, iso8601
from edge.core.errors import WrongInput
from edge.core.interval import Level
from edge.core.language import say
from edge.core.quality import describe, is_bad

_SHOWN_DAYS = {
    Level.MINUTE: 1 / 24,
    Level.QUARTER: 1.0,
    Level.HOUR: 2.0,
    Level.SHIFT: 7.0,
    Level.DAY: 31.0,
    Level.MONTH: 400.0,
}
"""How far back a listing goes where nobody says."""

_COLUMNS = ("begin", "device", "tag", "value", "unit", "quality", "revision")
_NS = 10**9


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which figures: of a device, or of all, of a level, that begin from `first` up to but not including `last`."""

    device: str | None
    level: Level
    first: int
    last: int


def run(config: Path, data_dir: Path, device: str | None, level: str, begin: str, end: str, how: str) -> int:
    """Print figures, oldest first, as a table, or as "csv" or "json" lines. Returns the exit code."""
    settings = load(config, offline=True)
    zone = ZoneInfo(settings.timezone)
    first, last = span(begin, end, zone, _SHOWN_DAYS[Level(level)])
    wanted = Wanted(device, Level(level), first, last)
    write = _WRITERS[how](sys.stdout, zone, inputs_of(settings.analytics))
    found = asyncio.run(_print(data_dir / LOG_NAME, settings.log_secrets(), wanted, write))
    if not found and how == "table":
        print(say("there are no figures of this level for this time"))
    return 0


def span(begin: str, end: str, zone: ZoneInfo, days: float) -> tuple[int, int]:
    """Return the instants of `--from` and `--to`; without them now, and so many days before."""
    last = _time("--to", end, zone) if end else SystemClock().now()
    first = _time("--from", begin, zone) if begin else last - round(days * 86_400 * _NS)
    if last <= first:
        raise WrongInput(say("--to is not after --from"), say("both are local times of the plant"))
    return first, last


async def _print(path: Path, secrets: tuple[str | None, str | None], wanted: Wanted, write: "_Writer") -> int:
    count = 0
    async with open_view(path, *secrets) as view:
        _check(view, wanted.device)
        write.open()
        async for figure in _figures(view, wanted):
            write.put(figure)
            count += 1
    write.end()
    return count


def _check(view: View, device: str | None) -> None:
    known = sorted({tag.device for tag in view.catalogue})
    if device is not None and device not in known:
        near = difflib.get_close_matches(device, known, 1)
        raise WrongInput(
            say("the log has nothing of {device!r}", device=device),
            say("did you mean {name!r}?", name=near[0]) if near else say("devices: {names}", names=", ".join(known)),
        )


async def _figures(view: View, wanted: Wanted) -> AsyncIterator[Figure]:
    tags = {tag.id: tag for tag in view.catalogue if wanted.device in (None, tag.device)}
    async for figure in figures(view.fetch, view.vault, tags, wanted.level, wanted.first, wanted.last):
        yield figure


def _time(option: str, text: str, zone: ZoneInfo) -> int:
    """Return an instant; a text without an offset is local time of the plant."""
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        hint = say("write 2026-01-31, 2026-01-31T08:00, or with an offset 2026-01-31T08:00:00Z")
        raise WrongInput(say("{option} {given} is not a time", option=option, given=text), hint) from None
    aware = when if when.tzinfo else when.replace(tzinfo=zone)
    return (aware - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1000


def as_json(figure: Figure, inputs: Sequence[str] = ()) -> dict[str, Any]:
    """Return a figure as JSON types; a bad one, or one that is no number, has no value. `inputs` made it."""
    known = not is_bad(figure.quality) and math.isfinite(figure.value)
    return {
        "ts": iso8601(figure.ts),
        "device": figure.tag.device,
        "tag": figure.tag.name,
        "value": figure.value if known else None,
        "unit": figure.tag.unit,
        "quality": f"0x{figure.quality:08X}",
        "revision": figure.revision,
        "inputs": list(inputs),
    }


class _Writer:
    """Takes figures one after the other."""

    def __init__(self, out: TextIO, zone: ZoneInfo, inputs: Mapping[str, tuple[str, ...]]) -> None:
        self._out = out
        self._zone = zone
        self._inputs = inputs

    def open(self) -> None:
        """The first comes."""

    def put(self, figure: Figure) -> None:
        """Take one."""
        raise NotImplementedError

    def end(self) -> None:
        """Nothing more comes."""

    def _begin(self, ts: int) -> datetime:
        return datetime.fromtimestamp(ts // _NS, UTC).astimezone(self._zone)


class _JsonLines(_Writer):
    def put(self, figure: Figure) -> None:
        self._out.write(json.dumps(as_json(figure, self._inputs.get(figure.tag.path, ())), ensure_ascii=False) + "\n")


class _Csv(_Writer):
    def open(self) -> None:
        self._rows = csv.writer(self._out, lineterminator="\n")
        self._rows.writerow(_COLUMNS)

    def put(self, figure: Figure) -> None:
        told = as_json(figure)
        value = "" if told["value"] is None else repr(figure.value)
        begin = self._begin(figure.ts).isoformat()
        self._rows.writerow([begin, told["device"], told["tag"], value, told["unit"], told["quality"], figure.revision])


class _Table(_Writer):
    def open(self) -> None:
        head = say("begin"), say("device"), say("tag"), say("value"), say("unit"), say("quality"), say("revision")
        self._rows = [list(head)]

    def put(self, figure: Figure) -> None:
        told = as_json(figure)
        value = "–" if told["value"] is None else f"{figure.value:,.6g}"
        begin = self._begin(figure.ts).strftime("%Y-%m-%d %H:%M")
        quality = describe(figure.quality)
        revision = str(figure.revision or "")
        self._rows.append([begin, figure.tag.device, figure.tag.name, value, figure.tag.unit, quality, revision])

    def end(self) -> None:
        if len(self._rows) > 1:
            self._out.write(table.render(self._rows, left=(0, 1, 2, 4, 5)) + "\n")


_WRITERS: dict[str, Callable[[TextIO, ZoneInfo, Mapping[str, tuple[str, ...]]], _Writer]] = {
    "table": _Table,
    "csv": _Csv,
    "json": _JsonLines,
}
