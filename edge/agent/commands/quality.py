"""`yulink quality`: what came of the readings by device, tag, day and month, as the log keeps it."""

import asyncio
import difflib
import json
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from buffer.quality_days import TagDay, days, gaps, has_tables
from buffer.view import View, open_view
from edge.agent.app import LOG_NAME
from edge.agent.commands import table
from edge.agent.configuration.loader import load
from edge.agent.day_counts import DayCounts, day_of, local_day, unpacked
from edge.agent.quality_report import RULES, DeviceReport, Figures, Gap, day_name, report, span_of
from edge.agent.quality_watch import FOLLOWER, PATIENCE_NS
from edge.core.clock import SystemClock
from edge.core.errors import CorruptSegment, WrongInput
from edge.core.language import say

_NS = 10**9
_GAPS_SHOWN_MAX = 20


@dataclass(frozen=True, slots=True)
class _Span:
    """Days, both included, and what they are called."""

    first: int
    last: int
    name: str


def run(config: Path, data_dir: Path, device: str | None, day: str, month: str, *, json_output: bool) -> int:
    """Print the figures of a day or month, and of a device by tag; returns the exit code."""
    settings = load(config, offline=True)
    zone = ZoneInfo(settings.timezone)
    now = SystemClock().now()
    span = _span(day, month, zone, now)
    found = asyncio.run(_read(data_dir / LOG_NAME, settings.log_secrets(), zone, span, now))
    if device is not None:
        if device not in found:
            raise _unknown(device, [*found, *settings.devices])
        found = {device: found[device]}
    if json_output:
        for name, one in found.items():
            print(json.dumps(as_json(name, one, span.name, settings.timezone), ensure_ascii=False))
    elif found:
        print(render(found, span.name, zone, by_tag=device is not None))
    else:
        print(say("nothing was counted on {days}", days=span.name))
    return 0


def _span(day: str, month: str, zone: ZoneInfo, now: int) -> _Span:
    today = local_day(zone, now)
    if month:
        try:
            year, number = map(int, month.split("-"))
            begin, end = date(year, number, 1), date(year + number // 12, number % 12 + 1, 1)
        except ValueError:
            raise WrongInput(say("--month {given} is not a month", given=month), say("write 2026-01")) from None
        return _Span(day_of(begin), min(day_of(end) - 1, max(today, day_of(begin))), month)
    if not day:
        return _Span(today, today, day_name(today))
    try:
        number = day_of(date.fromisoformat(day))
    except ValueError:
        raise WrongInput(say("--day {given} is not a day", given=day), say("write 2026-01-31")) from None
    return _Span(number, number, day)


async def _read(
    path: Path, secrets: tuple[str | None, str | None], zone: ZoneInfo, span: _Span, now: int
) -> dict[str, DeviceReport]:
    async with open_view(path, *secrets) as view:
        if not await has_tables(view.fetch):
            return {}
        rows = await days(view.fetch, span.first, span.last)
        still: dict[str, int] = {}
        if (counts := await _state(view, zone)) is not None:
            rows = _until_now(rows, counts, span, min(now - PATIENCE_NS, span_of(zone, span.first, span.last)[1]))
            still = dict(counts.open_gaps(now, PATIENCE_NS))
        begin, end = span_of(zone, span.first, span.last)
        listed = await gaps(view.fetch, begin, end)
        return report(rows, listed, still, view.catalogue, (begin, min(end, max(now, begin))))


async def _state(view: View, zone: ZoneInfo) -> DayCounts | None:
    """Return what the counting follower knew when it committed last; None where that cannot be read."""
    for (state,) in await view.fetch("SELECT state FROM follower WHERE name = ?", (FOLLOWER,)):
        try:
            counts = DayCounts(zone, 0)
            counts.restore(unpacked(view.vault.open(0, state))["counts"])
        except (CorruptSegment, ValueError, KeyError, TypeError, IndexError):
            return None
        return counts
    return None


def _until_now(rows: list[TagDay], counts: DayCounts, span: _Span, now: int) -> list[TagDay]:
    """Return the days with what was owed until `now`, where the agent has stopped counting."""
    counts.pass_time(now)
    every, known = counts.every(), {(row.day, row.tag): row for row in rows}
    for day, tag, *more in counts.rows():
        if span.first <= day <= span.last:
            before = known.get((day, tag), TagDay(day, tag, (0,) * len(more), every.get(tag, 0)))
            together = tuple(one + other for one, other in zip(before.counts, more, strict=True))
            known[day, tag] = TagDay(day, tag, together, before.every)
    return [known[key] for key in sorted(known)]


def _unknown(device: str, known: list[str]) -> WrongInput:
    near = difflib.get_close_matches(device, known, 1)
    return WrongInput(
        say("nothing was counted of {device!r} then", device=device),
        say("did you mean {name!r}?", name=near[0])
        if near
        else say("devices: {names}", names=", ".join(sorted(set(known)))),
    )


def as_json(name: str, one: DeviceReport, days: str, timezone: str) -> dict[str, Any]:
    """Return a device's report as JSON types."""
    told = {"device": name, "days": days, "timezone": timezone, "online": one.online, **one.figures.as_json()}
    tags = {tag: figures.as_json() for tag, figures in sorted(one.tags.items())}
    return told | {"gaps": [gap.as_json() for gap in sorted(one.gaps, key=_in_time)], "tags": tags}


def _in_time(gap: Gap) -> tuple[int, str]:
    return gap.begin, gap.tag


def render(found: dict[str, DeviceReport], days: str, zone: ZoneInfo, *, by_tag: bool) -> str:
    """Return a table of the devices, or of one device's tags, and the gaps below."""
    head = [
        say("tag") if by_tag else say("device"), say("expected"), say("received"), say("complete"), say("valid"),
        say("timely"), say("unique"), say("score"), *([] if by_tag else [say("online")]), say("doubted"),
    ]  # fmt: skip
    rows = [head]
    for name, one in found.items():
        if by_tag:
            rows += [_row(tag, figures) for tag, figures in sorted(one.tags.items())]
            rows.append(_row(say("all"), one.figures))
        else:
            rows.append(_row(name, one.figures, one))
    lines = [f"{days}  {zone.key}", table.render(rows, left=(0, len(head) - 1))]
    listed = [(name, gap) for name, one in found.items() for gap in sorted(one.gaps, key=_in_time)]
    if listed:
        shown = [[say("gap"), say("from"), say("to"), say("lasted")]]
        shown += [_gap(name, gap, zone) for name, gap in listed[:_GAPS_SHOWN_MAX]]
        lines += ["", table.render(shown, left=(0, 1, 2))]
        if more := len(listed) - _GAPS_SHOWN_MAX:
            lines.append(say("and {count} more: see --json", count=more) if more > 0 else "")
    return "\n".join(lines).rstrip()


def _row(name: str, figures: Figures, device: DeviceReport | None = None) -> list[str]:
    expected = say("by itself") if figures.by == "itself" else f"{round(figures.expected):,}"
    ratios = figures.completeness, figures.validity, figures.timeliness, figures.uniqueness
    score = "–" if figures.score is None else f"{figures.score:.2f}"
    online = [] if device is None else [_percent(device.online)]
    doubts = [f"{rule} {figures.rules[rule]:,}" for rule in RULES if figures.rules[rule]]
    return [
        name, expected, f"{figures.received:,}", *map(_percent, ratios), score, *online, ", ".join(doubts) or "–",
    ]  # fmt: skip


def _percent(share: float | None) -> str:
    """Return a share without rounding up to all: 99.996 % is not 100 %."""
    return "–" if share is None else f"{int(share * 10_000 + 1e-6) / 100:.2f} %"


def _gap(device: str, gap: Gap, zone: ZoneInfo) -> list[str]:
    end = say("still") if gap.is_open else _local(gap.end, zone)
    seconds = (gap.end - gap.begin) / _NS
    lasted = f"{int(seconds // 3600)}:{int(seconds % 3600 // 60):02}:{seconds % 60:06.3f}"
    return [f"{device}.{gap.tag}" if gap.tag else device, _local(gap.begin, zone), end, lasted]


def _local(ts: int, zone: ZoneInfo) -> str:
    when = datetime.fromtimestamp(ts // _NS, UTC).astimezone(zone)
    return f"{when:%Y-%m-%d %H:%M:%S}.{ts // 10**6 % 1000:03}"
