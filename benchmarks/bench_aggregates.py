"""Kept figures: what a simulated year of 20 meters takes of the disk, of memory and of a commit.

Each meter gives a minute, a quarter hour, an hour, a shift, a day and a month, in pulses of 0.01 kWh; one minute in
fifty is corrected. Peer in the same run: a plain table of rows (level, ts, tag) → value, quality, revision in SQLite.

    python -m benchmarks.bench_aggregates [--days 365] [--meters 20] [--keep-days 200]
"""

import argparse
import asyncio
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np

from buffer.aggregates import NUMBERS, Aggregates
from buffer.schema import create, number, open_writer
from buffer.vault import Vault
from edge.analytics.wire import resident_mb
from edge.core.batch import Batch, Lane
from edge.core.interval import Level

BEGIN = 1_767_225_600
TAG_FIRST = 60_000_000
LENGTHS = {Level.MINUTE: 60, Level.QUARTER: 900, Level.HOUR: 3600, Level.SHIFT: 28_800, Level.DAY: 86_400,
           Level.MONTH: 30 * 86_400}  # fmt: skip
ROWS = """
CREATE TABLE figure (level INTEGER NOT NULL, ts INTEGER NOT NULL, tag INTEGER NOT NULL, value REAL NOT NULL,
    quality INTEGER NOT NULL, revision INTEGER NOT NULL, PRIMARY KEY (level, ts, tag)) WITHOUT ROWID;
"""


def days(count: int, meters: int) -> Iterator[list[tuple[Level, Batch]]]:
    """Yield the figures of each day."""
    generator = np.random.default_rng(7)
    for day in range(count):
        given = []
        for place, (level, length) in enumerate(LENGTHS.items()):
            begins = [s for s in range(day * 86_400, (day + 1) * 86_400, min(length, 86_400)) if not s % length]
            tags = np.arange(meters, dtype=np.int32) * 6 + TAG_FIRST + place
            for begin in begins:
                ts = (BEGIN + begin) * 10**9
                value = np.round(generator.integers(0, 200, meters) * 0.01 * length / 60, 2)
                given.append((level, Batch.of(Lane.FLOAT, tags, ts, value)))
                if level is Level.MINUTE and not generator.integers(50):
                    given.append((level, Batch.of(Lane.FLOAT, tags[:1], ts, value[:1] + 0.01, 0, [1])))
        yield given


async def pages(folder: Path, arguments: argparse.Namespace) -> tuple[int, float, int, list[float]]:
    """Return (rows, CPU seconds, bytes, resident MB after each quarter of the time) of the log's own table."""
    path = folder / "pages.sqlite3"
    with closing(sqlite3.connect(path)) as db:
        create(db)
    aggregates, rows, memory, seconds = Aggregates(Vault(), arguments.keep_days * 86_400.0), 0, list[float](), 0.0
    async with open_writer(path) as db:
        empty = await number(db, "PRAGMA page_count") * 4096
        for day, given in enumerate(days(arguments.days, arguments.meters)):
            rows += sum(len(batch) for _, batch in given if batch.revision is None)
            begin = time.process_time()
            await db.execute("BEGIN IMMEDIATE")
            await aggregates.put(db, given)
            await aggregates.prune(db)
            await db.execute("COMMIT")
            seconds += time.process_time() - begin
            if (day + 1) % max(arguments.days // 4, 1) == 0:
                memory.append(resident_mb())
        used = await number(db, "PRAGMA page_count") - await number(db, "PRAGMA freelist_count")
        return rows, seconds, used * 4096 - empty, memory


def plain(folder: Path, arguments: argparse.Namespace) -> tuple[int, float, int]:
    """Return (rows on file, CPU seconds, bytes) of the table of rows, nothing forgotten."""
    count, seconds = min(arguments.days, 30), 0.0
    with closing(sqlite3.connect(folder / "rows.sqlite3", isolation_level=None)) as db:
        db.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;" + ROWS)
        for given in days(count, arguments.meters):
            begin = time.process_time()
            db.execute("BEGIN")
            for level, batch in given:
                columns = batch.ts, batch.tag, batch.value, batch.quality, batch.revisions()
                rows = zip(*(column.tolist() for column in columns), strict=True)
                db.executemany(
                    "INSERT OR REPLACE INTO figure VALUES (?, ?, ?, ?, ?, ?)",
                    [(NUMBERS[level], *row) for row in rows],
                )
            db.execute("COMMIT")
            seconds += time.process_time() - begin
        ((rows_on_file,),) = db.execute("SELECT count(*) FROM figure")
        ((used,),) = db.execute("PRAGMA page_count")
    return rows_on_file, seconds, used * 4096


def main() -> None:
    """Print bytes a figure, seconds a figure and the memory, and the ratios to the plain table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--meters", type=int, default=20)
    parser.add_argument("--keep-days", type=int, default=200)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        rows, seconds, size, memory = asyncio.run(pages(Path(name), arguments))
        kept = min(arguments.days, arguments.keep_days) / arguments.days * rows
        peer_rows, peer_seconds, peer_size = plain(Path(name), arguments)
    print(f"{rows:,} figures of {arguments.days} days and {arguments.meters} meters; {arguments.keep_days} days kept")
    print(f"disk: {size / 1e6:.1f} MB, {size / kept:.1f} bytes a figure; plain rows {peer_size / peer_rows:.1f} bytes,"
          f" {peer_size / peer_rows / (size / kept):.1f} x")  # fmt: skip
    print(f"CPU: {seconds / rows * 1e6:.1f} µs a figure; plain rows {peer_seconds / peer_rows * 1e6:.1f} µs,"
          f" {peer_seconds / peer_rows / (seconds / rows):.1f} x")  # fmt: skip
    print("memory after each quarter: " + ", ".join(f"{each:.0f}" for each in memory) + " MB")


if __name__ == "__main__":
    main()
