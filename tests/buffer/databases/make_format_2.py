"""Writes `format-2.sqlite3`. Kept to show how it was made; run it only with a program that writes format 2."""

import asyncio
import sqlite3
import sys
from pathlib import Path

from buffer import log as log_module
from buffer.log import open_log
from edge.core.catalogue import ValueKind
from edge.core.clock import VirtualClock
from tests.buffer.support import numbered

EPOCH = 1_234_567_890_123_456


async def main(path: Path) -> None:
    log_module.secrets.randbits = lambda bits: EPOCH - 1  # type: ignore[attr-defined]
    async with open_log(path, VirtualClock()) as log:
        tag = log.catalogue.intern("plc-1", "count", ValueKind.INT64, "pcs")
        outbox = log.outbox()
        for start in (0, 10):
            await log.append([numbered(start, 10, tag.id)])
            assert await outbox.next(100) is not None
        await outbox.sent(EPOCH, [1, 2])
        await outbox.committed(EPOCH, 1)
        await log.append([numbered(20, 5, tag.id)])
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA journal_mode=DELETE")
        db.execute("VACUUM")
    db.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
