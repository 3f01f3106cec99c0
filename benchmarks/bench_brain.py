"""The brain beyond one machine: 1,000 gateways, a replicated stream, more and more workers, and then the kills.

Everything runs on this one machine: broker, three servers of the stream, PostgreSQL, the workers and the gateways share
its cores, so more workers show what they cost and whether they get into each other's way, not what more machines bring.
The floors, in the same run: one client that publishes the same bytes into the stream, and PostgreSQL's bare COPY.
"""

import argparse
import asyncio
import logging
import tempfile
import time
from pathlib import Path

import asyncpg

from tests.brain import Brain, Fleet, account, running_brain
from uplink.receiver.stream import open_stream

TAGS = 100


async def stream_floor(brain: Brain, messages: int, size: int) -> float:
    """Return messages a second that one client puts into the stream, 200 at a time."""
    async with open_stream(brain.stream) as (_, stream):
        began = time.perf_counter()
        for first in range(0, messages, 200):
            await asyncio.gather(
                *(
                    stream.publish("yulink.in.0", b"x" * size, timeout=10)
                    for _ in range(first, min(first + 200, messages))
                )
            )
        spent = time.perf_counter() - began
        await stream.purge_stream("YULINK")
    return messages / spent


async def copy_floor(brain: Brain, rows: int) -> float:
    """Return rows a second of COPY into a table like `sample` without an index."""
    connection = await asyncpg.connect(brain.database.dsn, server_settings={"search_path": "yulink"})
    await connection.execute("CREATE TABLE floor (LIKE sample)")
    records = [(n % 1000, n, float(n), None, None, 0, 1) for n in range(rows)]
    began = time.perf_counter()
    await connection.copy_records_to_table("floor", records=records)
    spent = time.perf_counter() - began
    await connection.close()
    return rows / spent


async def whole_way(folder: Path, workers: int, gateways: int, batches: int, *, kill: bool) -> None:
    """Print how fast everything is acknowledged, and what the database then holds."""
    async with running_brain(folder, workers, workers) as brain:
        if workers == 1 and not kill:
            print(f"floor: one client into the stream      {await stream_floor(brain, 5000, 500):9,.0f} messages/s")
            print(f"floor: COPY without an index           {await copy_floor(brain, 300_000):9,.0f} rows/s")
        fleet = Fleet(brain, gateways, batches, TAGS)
        fleet.may_send.clear()
        began = time.perf_counter()
        running = asyncio.create_task(fleet.run())
        while await brain.ask("SELECT count(DISTINCT gateway) FROM tag") != [(gateways,)]:
            await asyncio.sleep(0.2)
        announced = time.perf_counter() - began
        before, began = brain.cpu_s(), time.perf_counter()
        fleet.may_send.set()
        if kill:
            while fleet.acknowledged < gateways * batches // 4:
                await asyncio.sleep(0.05)
            leader = await brain.leader()
            for name in (leader, "bridge-0", "write-0"):
                await brain.kill(name)
            print(f"killed at {fleet.acknowledged:,} batches: {leader} (leader of the stream), bridge-0, write-0")
            for name in ("bridge-0", "write-0", leader):
                await brain.start(name)
        await running
        spent = time.perf_counter() - began
        cpu = {kind: round((used - before[kind]) / gateways / batches * 1e3, 2) for kind, used in brain.cpu_s().items()}
        found = await account(brain, fleet, TAGS)
        messages = gateways * batches
        words = f"{workers} bridges, {workers} writers{', killed' if kill else ''}:"
        print(
            f"{words:34} {messages / spent:7,.0f} batches/s {messages * TAGS / spent:9,.0f} values/s in {spent:.1f} s"
        )
        print(f"    keys and catalogues before that: {announced:.1f} s; ms CPU a batch: {cpu}")
        print(f"    sent again {fleet.resent:,}; in PostgreSQL: {found}", flush=True)


def main() -> None:
    """Print the figures."""
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # the client library and TLS, without consequence
    parser = argparse.ArgumentParser()
    parser.add_argument("--gateways", type=int, default=1000)
    parser.add_argument("--batches", type=int, default=20)
    arguments = parser.parse_args()
    print(f"{arguments.gateways:,} gateways, {arguments.batches} sealed batches each of {TAGS} values")
    with tempfile.TemporaryDirectory(prefix="yulink-bench-") as name:
        for workers, kill in ((1, False), (2, False), (3, False), (2, True)):
            folder = Path(name) / f"{workers}{kill}"
            folder.mkdir()
            asyncio.run(whole_way(folder, workers, arguments.gateways, arguments.batches, kill=kill))


if __name__ == "__main__":
    main()
