"""The lines of the ledger: read from its tables, and which of them are to be told."""

from collections import defaultdict
from collections.abc import Sequence

from buffer.fetch import Fetch
from buffer.ledger_devices import Devices
from edge.core.ledger import COUNTS, HOUR_NS, Line, Way

GRACE_NS = 60 * 10**9
AGAIN_NS = 3_600 * 10**9
STATEMENT_LINES_MAX = 500


async def untold(fetch: Fetch, devices: Devices, hours: set[int], consumers: Sequence[str], now: int) -> list[Line]:
    """Return lines of closed hours to tell now, oldest first, at most `STATEMENT_LINES_MAX`.

    `hours` are those with a line that may have changed since it was told; where none has, the hour is taken out.
    A line is told a minute after its hour has ended; again when it has changed and nothing of it waits any more, or
    once an hour while something does.
    """
    found: list[Line] = []
    for hour in sorted(hours):
        if now < (hour + 1) * HOUR_NS + GRACE_NS and now >= hour * HOUR_NS:
            continue
        told = {
            devices.name(device): (int(revision), int(when))
            for device, revision, when in await fetch(
                "SELECT device, told, told_at FROM ledger WHERE hour = ? AND revision > told", (hour,)
            )
        }
        if not told:
            hours.discard(hour)
            continue
        for line in await lines(fetch, devices, consumers, hour, hour):
            revision, when = told.get(line.device, (line.revision, 0))
            settled = not any(map(line.waiting, line.uplinks))
            if line.revision > revision and (not when or settled or not 0 <= now - when < AGAIN_NS):
                found.append(line)
        if len(found) >= STATEMENT_LINES_MAX:
            break
    return found[:STATEMENT_LINES_MAX]


async def lines(fetch: Fetch, devices: Devices, consumers: Sequence[str], first: int, last: int) -> list[Line]:
    """Return the lines of the hours `first` to `last`, both included, by hour and device."""
    span = (first, last)
    dropped: dict[tuple[int, int, str], dict[str, int]] = defaultdict(dict)
    for hour, name, consumer, reason, rows in await fetch(
        "SELECT hour, device, consumer, reason, rows FROM ledger_drop WHERE hour BETWEEN ? AND ?", span
    ):
        if rows:
            dropped[hour, name, consumer][reason] = rows
    ways = {
        (hour, name, consumer): Way(sent, committed, late, withheld, dropped.get((hour, name, consumer), {}))
        for hour, name, consumer, sent, committed, late, withheld in await fetch(
            "SELECT hour, device, consumer, sent, committed, late, withheld FROM ledger_way WHERE hour BETWEEN ? AND ?",
            span,
        )
    }
    before = {
        (hour, name): before_ms
        for name, hour, before_ms in await fetch(
            "SELECT device, hour, before_ms FROM ledger_first WHERE hour BETWEEN ? AND ?", span
        )
    }
    columns = ("hour", "device", "revision", *COUNTS)
    found = []
    for row in await fetch(
        f"SELECT {', '.join(columns)} FROM ledger WHERE hour BETWEEN ? AND ? ORDER BY hour, device",
        span,
    ):
        uplinks = {
            each: ways.get(key := (row[0], row[1], each)) or Way(dropped=dropped.get(key, {})) for each in consumers
        }
        counts = dict(zip(columns, row, strict=True))
        named = {"device": devices.name(row[1]), "before_ms": before.get((row[0], row[1]), 0)}
        found.append(Line(**counts | named, uplinks=uplinks))
    return found
