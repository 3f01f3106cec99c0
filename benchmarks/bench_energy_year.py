"""The energy account over a simulated year: does memory, state or disk grow?

Meters give a register a minute; readings are lost, come late and correct, a meter is silent for a day, registers roll
over, a factor is corrected each quarter (which states a year's months anew), and the account is restarted each month.
Its figures go into the log's table of kept figures, hour by hour. Prints each month: resident memory, the state as it
is stored, pages and bytes of the table, and CPU seconds. The last line compares the last month with the second.

    python -m benchmarks.bench_energy_year [--days 365] [--meters 50]
"""

import argparse
import asyncio
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cbor2
import numpy as np

from buffer.aggregates import KEEP_S, Aggregates
from buffer.schema import create, number, open_writer
from buffer.vault import Vault
from edge.analytics.energy.account import EnergyAccount, make
from edge.analytics.operator import Derived, Rows
from edge.analytics.wire import resident_mb
from edge.core.batch import Batch, Lane
from edge.core.interval import Level
from edge.core.zstd import compress

MINUTE_NS = 60 * 10**9
BEGIN = int(datetime(2025, 12, 31, 16, tzinfo=UTC).timestamp()) * 10**9  # New Year in Chongqing
MONTH_DAYS = 30
HOURS = [{"rate": "peak", "spans": [[660, 1020], [1200, 1320]]}, {"rate": "valley", "spans": [[0, 480]]},
         {"rate": "flat"}]  # fmt: skip
MODULUS = 10_000.0


def plan(meters: int, factor: float) -> dict[str, Any]:
    """Return an account with everything: tree, tariff, demand, reactive registers, factors, processes, shifts."""
    names = [f"m{number:02}" for number in range(meters)]
    row = {"carrier": "electricity", "unit": "kWh", "valid_from": "2025-12-31", "document": "benchmark"}
    return {
        "timezone": "Asia/Shanghai",
        "shifts": {"early": 360, "late": 840, "night": 1320},
        "meters": [{"name": name, "tag": f"{name}.energy", "modulus": MODULUS, "tariff": True} for name in names],
        "virtual": [{"name": names[0], "tag": "residual", "unit": "kWh", "parent": names[0],
                     "parts": [[names[0], 1], *([name, -1] for name in names[1:])]}],
        "processes": [{"name": "hall", "parts": [[name, 1] for name in names[1 : meters // 2]]}],
        "editions": [{"valid_from": "2021-12-01", "rules": HOURS, "prices": {"peak": 1.0, "flat": 0.6, "valley": 0.3}}],
        "demand": [{"meter": names[0], "window": 15, "sliding": True, "limit": 1e9}],
        "factors": [{**row, "id": "f/co2", "purpose": "co2", "scope": 2, "value": factor},
                    {**row, "id": "f/coal", "purpose": "coal_equivalent", "value": 0.1229}],
    }  # fmt: skip


def hours(days: int, meters: int) -> Iterator[Rows]:
    """Yield the readings that come in each hour."""
    generator = np.random.default_rng(7)
    shown = np.zeros(meters)
    late: list[tuple[int, int, int, float]] = []
    for hour in range(days * 24):
        rows = late
        late = []
        for minute in range(60):
            ts = BEGIN + (hour * 60 + minute) * MINUTE_NS
            shown = np.round((shown + generator.integers(0, 300, meters) / 100) % MODULUS, 2)
            lost = generator.random(meters) < 0.01
            comes_late = generator.random(meters) < 0.005
            for meter, value in enumerate(shown.tolist()):
                if lost[meter] or (meter == 1 and hour // 24 % 60 == 20):
                    continue
                at = ts + 40 * MINUTE_NS * int(comes_late[meter])
                here = late if at >= BEGIN + (hour + 1) * 60 * MINUTE_NS else rows
                here.append((at, meter, ts, value))
        rows.sort()
        meters_of, times = [meter for _, meter, *_ in rows], [ts for _, _, ts, _ in rows]
        yield Rows.of(meters_of, times, [value for *_, value in rows], at=[at for at, *_ in rows])


def kept(account: EnergyAccount, derived: Derived) -> list[tuple[Level, Batch]]:
    """Return the figures that the log keeps, as the agent gives them."""
    found = []
    for level in Level:
        here = [each for each in derived.readings if account.outputs[each.output].level is level]
        if here:
            tags, begins = [each.output for each in here], [each.ts for each in here]
            values, quality = [float(each.value) for each in here], [each.quality for each in here]
            revisions = [each.revision for each in here]
            found.append((level, Batch.of(Lane.FLOAT, tags, begins, values, quality, revisions)))
    return found


async def run(folder: Path, days: int, meters: int) -> None:
    """Run the year and print a line a month."""
    path = folder / "year.sqlite3"
    with closing(sqlite3.connect(path)) as db:
        create(db)
    aggregates, factor, seconds = Aggregates(Vault(), KEEP_S), 0.55, 0.0
    (account,) = make(plan(meters, factor))
    lines: list[tuple[float, int, int, int]] = []
    print("month  resident MB  state kB  figures on disk MB  pages  events  CPU s")
    events = 0
    async with open_writer(path) as db:
        for hour, rows in enumerate(hours(days, meters)):
            begin = time.process_time()
            derived = account.push(rows, BEGIN + (hour + 1) * 60 * MINUTE_NS - 1)
            events += len(derived.events)
            await db.execute("BEGIN IMMEDIATE")
            await aggregates.put(db, kept(account, derived))  # type: ignore[arg-type]
            if hour % 24 == 0:
                await aggregates.prune(db)
            await db.execute("COMMIT")
            seconds += time.process_time() - begin
            if (hour + 1) % (24 * MONTH_DAYS):
                continue
            month = (hour + 1) // (24 * MONTH_DAYS)
            state = cbor2.dumps(account.state(), canonical=True)
            used = await number(db, "PRAGMA page_count") - await number(db, "PRAGMA freelist_count")
            pages = await number(db, "SELECT sum(pages) FROM aggregate_level")
            lines.append((resident_mb(), len(compress(state, 1)), used * 4096, pages))
            memory, size, disk, pages = lines[-1]
            columns = f"{month:5}  {memory:11.1f}  {size / 1e3:8.1f}  {disk / 1e6:18.1f}  {pages:5}  {events:6}"
            print(f"{columns}  {seconds:5.0f}", flush=True)
            factor += 0.001 * (month % 3 == 0)
            (account,) = make(plan(meters, factor))
            account.restore(cbor2.loads(state))
    if len(lines) > 2:
        first, last = lines[1], lines[-1]
        print(f"last month against the second: memory {last[0] / first[0]:.2f} x, state {last[1] / first[1]:.2f} x; "
              f"{seconds / (days * 1440 * meters) * 1e6:.1f} µs CPU a reading")  # fmt: skip


def main() -> None:
    """Print what grows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--meters", type=int, default=50)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        asyncio.run(run(Path(name), arguments.days, arguments.meters))


if __name__ == "__main__":
    main()
