"""`yulink ledger`: what became of the readings, by device and hour, and which of machine, network and box was off."""

import asyncio
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from buffer.ledger_view import read_ledger
from edge.agent.app import LOG_NAME
from edge.agent.commands import table
from edge.agent.configuration.loader import load
from edge.core.clock import Clock, SystemClock
from edge.core.errors import WrongInput
from edge.core.language import say
from edge.core.ledger import HOUR_NS, Line

PLAIN = ("due", "read", "bad", "filtered", "stored")


def run(config: Path | None, data_dir: Path, device: str | None, hours: int, *, json_output: bool) -> int:
    """Print the ledger of the last `hours` hours and return the exit code."""
    if hours < 1:
        raise WrongInput(say("--hours {hours} is no number of hours", hours=hours), say("write 1 or more"))
    clock = SystemClock()
    secrets = load(config).log_secrets() if config is not None else ()
    now_hour = clock.now() // HOUR_NS
    found = asyncio.run(read_ledger(data_dir / LOG_NAME, now_hour - hours + 1, now_hour, *secrets))
    lines = [line for line in found if device in (None, line.device)]
    if json_output:
        for line in lines:
            print(json.dumps(as_json(line, clock), ensure_ascii=False))
    else:
        print(render(lines, clock))
    return 0


def as_json(line: Line, clock: Clock) -> dict[str, Any]:
    """Return a line with what it says of what was off."""
    off = {"machine_ms": line.machine_off_ms, "box_ms": line.box_off_ms(clock.now())}
    waiting = {name: line.waiting(name) for name in line.uplinks}
    return line.as_json() | {"waiting": waiting, "off": off | {"network_rows": line.undelivered}}


def render(lines: Sequence[Line], clock: Clock) -> str:
    """Return a table: a row a device and hour, and for each uplink what became of the readings on their way."""
    if not lines:
        return say("the ledger has no lines for these hours")
    uplinks = sorted({name for line in lines for name in line.uplinks})
    prefix = {name: f"{name} " if len(uplinks) > 1 else "" for name in uplinks}
    plain = [say("due"), say("read"), say("bad"), say("filtered"), say("stored")]
    way = [say("sent"), say("committed"), say("late"), say("dropped"), say("waiting")]
    head = [say("hour"), say("device"), *plain, *(prefix[name] + word for name in uplinks for word in way), say("off")]
    rows = [head]
    for line in lines:
        began = datetime.fromtimestamp(line.hour * HOUR_NS // 10**9, UTC).astimezone()
        row = [began.strftime("%Y-%m-%d %H:%M"), line.device, *(f"{getattr(line, name):,}" for name in PLAIN)]
        for name in uplinks:
            if (one := line.uplinks.get(name)) is None:
                row += ["–"] * len(way)
                continue
            counts = (one.sent, one.committed, one.late, sum(one.dropped.values()), line.waiting(name))
            row += [f"{count:,}" for count in counts]
        rows.append([*row, _off(line, clock)])
    return table.render(rows, left=(0, 1, len(head) - 1))


def _off(line: Line, clock: Clock) -> str:
    parts = []
    if line.machine_off_ms >= 1000:
        parts.append(say("machine {seconds:,.0f} s", seconds=line.machine_off_ms / 1e3))
    if (box := line.box_off_ms(clock.now())) >= 1000:
        parts.append(say("box {seconds:,.0f} s", seconds=box / 1e3))
    if line.undelivered:
        parts.append(say("network: {rows:,} rows late or waiting", rows=line.undelivered))
    return ", ".join(parts) or "–"
