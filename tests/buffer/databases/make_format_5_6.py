"""Writes `format-5.sqlite3` and `format-6.sqlite3`. Kept to show how; run it with a program that writes that format."""

import asyncio
import sqlite3
import sys
from pathlib import Path

from buffer import cuts
from buffer.log import open_log
from edge.core.catalogue import ValueKind
from edge.core.clock import VirtualClock
from tests.buffer.support import event, numbered

EPOCH = 1_234_567_890_123_456


async def main(path: Path) -> None:
    cuts.secrets.randbits = lambda bits: EPOCH - 1  # type: ignore[attr-defined]
    clock = VirtualClock()
    async with open_log(path, clock, commit_interval_s=0.001) as log:
        tag = log.catalogue.intern("plc-1", "count", ValueKind.INT64, "pcs")
        outbox = log.outbox()
        await log.append([numbered(0, 10, tag.id), event("hello")])
        for _ in range(2):
            assert await outbox.next(100) is not None
        await outbox.committed(EPOCH, 1)
        for start in (10, 20, 30):
            await log.append([numbered(start, 10, tag.id)])
        await clock.advance(60)
        await outbox.wait()
        assert await outbox.next(10) is not None  # the rest of the old is backlog now
        await log.append([numbered(40, 5, tag.id)])
    with sqlite3.connect(path) as db:
        db.execute("INSERT INTO gap VALUES (1, 4, 4, 10, 20, 29, 'log full', 2, x'')")
        db.execute("DELETE FROM segment WHERE position = 4")
        db.execute("DELETE FROM body WHERE position = 4")
        db.commit()
        db.execute("PRAGMA journal_mode=DELETE")
        db.execute("VACUUM")
    db.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
