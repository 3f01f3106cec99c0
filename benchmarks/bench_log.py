"""What the log costs: CPU a value, bytes written to the disk a byte of payload, transactions; plain and encrypted.

The floor, in the same run, is plain sqlite3 that stores the same bodies with neither descriptions nor limits: one blob
a transaction, synchronous=FULL in WAL mode. Bytes written are what the kernel counts for this process (/proc/self/io),
so the folder must lie on a real file system.
"""

import argparse
import asyncio
import resource
import sqlite3
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from buffer.log import open_log
from edge.core.batch import Batch, Lane
from edge.core.clock import SystemClock
from edge.core.codec import encode

VALUES = 1000
POLLS = 600
LIMITED_BYTES = 1e6
SECRET = "a secret of the benchmark"


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one way: µs of CPU a value, payload bytes a value, written bytes a payload byte, values a transaction."""

    cpu_us: float
    payload: float
    written: float
    values: float


def cpu_s() -> float:
    """Return the CPU time of this process with all its threads."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def written_bytes() -> int:
    """Return how many bytes this process has caused to be written to disks."""
    lines = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(lines["write_bytes"])


def polls() -> list[Batch]:
    """Return polls of 1,000 values a second: half of them drift by steps of 0.1, a half are noise of 12 bits."""
    chance = np.random.default_rng(1)
    value = np.round(np.cumsum(chance.normal(0, 0.2, (POLLS, VALUES)), axis=0), 1)
    value[:, ::2] = chance.integers(0, 4096, (POLLS, VALUES // 2))
    tags = np.arange(1, VALUES + 1, dtype=np.int32)
    start = 1_767_225_600_000_000_000
    return [Batch.of(Lane.FLOAT, tags, start + n * 10**9, value[n]) for n in range(POLLS)]


async def through_the_log(folder: Path, batches: list[Batch], secret: str | None, bytes_max: float) -> Cost:
    """Return what it costs to make each batch durable in a transaction of its own."""
    async with open_log(folder / "log.sqlite3", SystemClock(), secret=secret, bytes_max=bytes_max) as log:
        await log.append(batches[:1])
        cpu, written, before = cpu_s(), written_bytes(), log.statistics()
        for batch in batches:
            await log.append([batch])
        cpu, after = cpu_s() - cpu, log.statistics()
        await log._writer._db.execute_fetchall("PRAGMA wal_checkpoint(TRUNCATE)")
        rows = after.rows_durable_total - before.rows_durable_total
        payload = after.payload_bytes_total - before.payload_bytes_total
        return Cost(
            cpu / rows * 1e6,
            payload / rows,
            (written_bytes() - written) / payload,
            rows / (after.transactions_total - before.transactions_total),
        )


def floor(folder: Path, batches: list[Batch]) -> Cost:
    """Return what plain sqlite3 needs for the same bodies."""
    db = sqlite3.connect(folder / "floor.sqlite3", isolation_level=None)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=FULL")
    db.execute("CREATE TABLE body (position INTEGER PRIMARY KEY, data BLOB)")
    cpu, written, payload = cpu_s(), written_bytes(), 0
    for batch in batches:
        body = encode(batch)
        payload += len(body)
        db.execute("INSERT INTO body (data) VALUES (?)", (body,))
    cpu = cpu_s() - cpu
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    rows = len(batches) * VALUES
    return Cost(cpu / rows * 1e6, payload / rows, (written_bytes() - written) / payload, VALUES)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path.cwd(), help="a folder on the disk to be measured")
    given = parser.parse_args()
    batches = polls()
    ways: dict[str, Callable[[Path], Cost]] = {
        "floor: blobs by sqlite3": lambda folder: floor(folder, batches),
        "log": lambda folder: asyncio.run(through_the_log(folder, batches, None, 4e9)),
        "log, encrypted": lambda folder: asyncio.run(through_the_log(folder, batches, SECRET, 4e9)),
        "log at its limit": lambda folder: asyncio.run(through_the_log(folder, batches, None, LIMITED_BYTES)),
    }
    print(f"{POLLS} polls of {VALUES} values, a transaction each")
    print(f"{'':<26}{'µs CPU a value':>16}{'payload B a value':>20}{'written B a payload B':>24}{'to the floor':>14}")
    least = 0.0
    plain = 0.0
    for name, run in ways.items():
        with tempfile.TemporaryDirectory(dir=given.folder, prefix=".bench-") as folder:
            cost = run(Path(folder))
        least = least or cost.cpu_us
        plain = cost.cpu_us if name == "log" else plain
        ratio = f"{cost.cpu_us / least:.2f} x"
        print(f"{name:<26}{cost.cpu_us:>16.3f}{cost.payload:>20.2f}{cost.written:>24.2f}{ratio:>14}")
        if name == "log, encrypted":
            sealed = cost.cpu_us / plain
    print(f"encrypted to plain: {sealed:.2f} x CPU")


if __name__ == "__main__":
    main()
