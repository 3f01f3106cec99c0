"""A child appends numbered rows and cuts parcels; it is killed at a random instant, again and again."""

import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from buffer.log import open_log
from edge.core.clock import SystemClock
from tests.buffer.support import everything, values

CHILD = """
import asyncio, sys
from pathlib import Path
from buffer.log import open_log
from edge.core.clock import SystemClock
from tests.buffer.support import everything, numbered, values

async def main():
    async with open_log(Path(sys.argv[1]), SystemClock(), commit_interval_s=0.002) as log:
        row = max(values(await everything(log)), default=-1) + 1
        while True:
            await log.append([numbered(row, 7)])
            row += 7
            print("durable", row, flush=True)
            if row % 5 == 0:
                parcel = await log.outbox().next(30)
                print("parcel", parcel.epoch, parcel.seq, *values(parcel.records), flush=True)

asyncio.run(main())
"""


@pytest.mark.timeout(120)
async def test_kill_9_at_any_instant_loses_nothing_durable_and_changes_no_parcel(tmp_path: Path) -> None:
    path = tmp_path / "log.sqlite3"
    seed = random.randrange(2**32)
    print("seed", seed)
    chance = random.Random(seed)
    durable = 0
    parcels: dict[tuple[int, int], list[int]] = {}
    for _ in range(12):
        child = subprocess.Popen([sys.executable, "-c", CHILD, str(path)], stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        lines = [child.stdout.readline()]
        time.sleep(chance.uniform(0, 0.15))  # the instant of death is the random input of this test
        child.send_signal(signal.SIGKILL)
        lines += child.stdout.read().splitlines(keepends=True)
        child.stdout.close()
        assert child.wait(10) == -signal.SIGKILL
        for line in lines:
            if not line.endswith("\n"):  # death came in the middle of telling
                continue
            match line.split():
                case ["durable", rows]:
                    durable = int(rows)
                case ["parcel", epoch, seq, *rows]:
                    identity = (int(epoch), int(seq))
                    assert parcels.setdefault(identity, [int(row) for row in rows]) == [int(row) for row in rows]
        with sqlite3.connect(path) as db:
            assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        db.close()
    assert durable > 100
    assert len(parcels) > 5
    async with open_log(path, SystemClock()) as log:
        stored = values(await everything(log))
        assert stored == list(range(len(stored)))
        assert len(stored) >= durable
        told: dict[tuple[int, int], list[int]] = {}
        while (parcel := await log.outbox().next(30)) is not None:
            told[parcel.epoch, parcel.seq] = values(parcel.records)
        assert sorted(row for rows in told.values() for row in rows) == stored
        assert {identity: told[identity] for identity in parcels} == parcels
