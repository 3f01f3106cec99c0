"""`yulink energy --events`: what figures rest on, by the log: factors, tariffs, registers, bills, balances."""

import asyncio
import csv
import json
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from buffer.view import View, open_view
from edge.agent.app import LOG_NAME
from edge.agent.commands.energy import span
from edge.agent.commands.event_line import as_line, as_text
from edge.agent.configuration.loader import load
from edge.core.batch import Event
from edge.core.language import say

KINDS = (
    "calibration_", "carbon_", "demand_", "energy_", "factor_", "machine_stop", "meter_", "performance_",
    "power_", "rate_", "readings_too_late", "register_", "tariff_",
)  # fmt: skip
"""How the kinds begin that energy and production tell."""

_SHOWN_DAYS = 31.0
_NS = 10**9


def run(config: Path, data_dir: Path, device: str | None, begin: str, end: str, how: str) -> int:
    """Print events of energy and production, oldest first, as text, "csv" or "json" lines. Returns the exit code."""
    settings = load(config, offline=True)
    zone = ZoneInfo(settings.timezone)
    first, last = span(begin, end, zone, _SHOWN_DAYS)
    path, secrets = data_dir / LOG_NAME, settings.log_secrets()
    found = asyncio.run(_collect(path, secrets, device, first, last))
    found.sort(key=lambda event: event.ts)
    rows = csv.writer(sys.stdout, lineterminator="\n")
    if how == "csv":
        rows.writerow(("at", "source", "kind", "severity", "text", "facts"))
    for event in found:
        at = datetime.fromtimestamp(event.ts // _NS, UTC).astimezone(zone)
        if how == "json":
            print(as_line(event))
        elif how == "csv":
            facts = json.dumps(dict(event.facts), ensure_ascii=False)
            rows.writerow((at.isoformat(), event.source, event.kind, int(event.severity), event.message, facts))
        else:
            print(f"{at:%Y-%m-%d %H:%M:%S}  {as_text(event)}")
    if not found and how == "table":
        print(say("there are no events of energy and production for this time"))
    return 0


async def _collect(
    path: Path, secrets: tuple[str | None, str | None], source: str | None, first: int, last: int
) -> list[Event]:
    async with open_view(path, *secrets) as view:
        return [
            event
            async for event in _events(view)
            if first <= event.ts < last and source in (None, event.source) and event.kind.startswith(KINDS)
        ]


async def _events(view: View) -> AsyncIterator[Event]:
    position = 0
    while found := await view.events(position):
        for _, event in found:
            if event is not None:
                yield event
        position = found[-1][0]
