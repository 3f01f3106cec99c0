"""Ten million values of backlog drain beside live data: how fast, and how long a live value takes meanwhile.

A real broker with mutual TLS, sealed messages, and `yulink receive` as a process of its own, all on this machine. The
backlog is written by the log's own writer, a second of the plant a transaction, before the uplink starts. A live
value's latency runs from its source time to the moment its confirmation by the brain is recorded in the log.

The floors, in the same run: the same live data without a backlog; and encoding and sealing the same backlog messages,
with nothing read, sent or confirmed.
"""

import argparse
import asyncio
import contextlib
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil

from buffer.log import Log, open_log
from buffer.outbox import ParcelOutbox
from edge.core.batch import Batch, Lane
from edge.core.catalogue import ValueKind
from edge.core.clock import SystemClock
from edge.core.delivery import Identity, Parcel, Priority
from simulators.broker import Broker, start_broker
from simulators.pki import Pki, make_pki
from uplink.encode import encode
from uplink.keys import make_key, read_public, write_key
from uplink.pump import Pump
from uplink.seal import Sealer
from uplink.section import MqttSection

SITE = "bench/plant"
TAGS = 500
LIVE_HZ = 10
LIVE_PER_S = TAGS * LIVE_HZ
GROWS_OLD_S = 10.5
ALONE_S = 20.0
CLOCK = SystemClock()

Times = npt.NDArray[np.int64]


@dataclass(slots=True)
class Deliveries:
    """What the brain has confirmed: values of the backlog, and the latencies of live ones in seconds."""

    backlog: int = 0
    messages: int = 0
    live: list[npt.NDArray[np.float64]] = field(default_factory=list)
    kept: list[Parcel] = field(default_factory=list)

    def take_live(self) -> npt.NDArray[np.float64]:
        """Return the latencies since the last call."""
        taken, self.live = self.live, []
        return np.concatenate(taken) if taken else np.empty(0)


class WatchedOutbox:
    """The outbox, with a look at each parcel when it is given out and when it is confirmed."""

    def __init__(self, outbox: ParcelOutbox, seen: Deliveries) -> None:
        self._outbox = outbox
        self._seen = seen
        self._flying: dict[Identity, Parcel] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._outbox, name)

    async def next(self, rows_max: int, priority: Priority | None = None) -> Parcel | None:
        """Return the next parcel."""
        parcel = await self._outbox.next(rows_max, priority)
        if parcel is not None:
            self._flying[parcel.epoch, parcel.seq] = parcel
            if parcel.historical and len(self._seen.kept) < 20:
                self._seen.kept.append(parcel)
        return parcel

    async def committed(
        self, epoch: int, through: int, missing: Sequence[tuple[int, int]] = (), on_their_way: Collection[int] = ()
    ) -> int:
        """Record the brain's confirmation."""
        count = await self._outbox.committed(epoch, through, missing, on_their_way)
        now = CLOCK.now()
        for identity in [each for each in self._flying if each[0] == epoch and each[1] <= through]:
            if any(first <= identity[1] <= last for first, last in missing):
                continue
            parcel = self._flying.pop(identity)
            times = [record.ts for record in parcel.records if isinstance(record, Batch)]
            if parcel.historical:
                self._seen.backlog += sum(map(len, times))
                self._seen.messages += 1
            elif times:
                self._seen.live.append((now - np.concatenate(times)) / 1e9)
        return count


class Walk:
    """Readings of all tags as a plant has them: each goes on in steps of a hundredth."""

    def __init__(self) -> None:
        self._chance = np.random.default_rng(1)
        self._last = 5000 + 100 * np.arange(TAGS)

    def next(self, rows: int) -> npt.NDArray[np.float64]:
        """Return the next so many readings of each tag, float64[rows, tags]."""
        steps = self._last + self._chance.integers(-9, 10, (rows, TAGS)).cumsum(axis=0)
        self._last = steps[-1]
        readings: npt.NDArray[np.float64] = np.round(steps / 100, 2)
        return readings


async def build(log: Log, tags: npt.NDArray[np.int32], values: int) -> None:
    """Write the backlog: an outage of the plant's own rate, a transaction a second of it."""
    seconds = values // LIVE_PER_S
    began, walk = CLOCK.now() - seconds * 10**9, Walk()
    for second in range(seconds):
        readings = walk.next(LIVE_HZ)
        times = began + second * 10**9 + np.arange(LIVE_HZ) * (10**9 // LIVE_HZ)
        await log.append(
            [Batch.of(Lane.FLOAT, np.tile(tags, LIVE_HZ), np.repeat(times, TAGS), readings.ravel())],
        )


async def feed(log: Log, tags: npt.NDArray[np.int32]) -> None:
    """Put live readings of all tags, `LIVE_HZ` times a second."""
    loop, walk, turn = asyncio.get_running_loop(), Walk(), 0
    began = loop.time()
    while True:
        await asyncio.sleep(max(began + turn / LIVE_HZ - loop.time(), 0))
        await log.put(Batch.of(Lane.FLOAT, tags, CLOCK.now(), walk.next(1)[0]))
        turn += 1


@contextlib.asynccontextmanager
async def receiver(folder: Path, broker: Broker, pki: Pki, identity: Path) -> AsyncIterator[psutil.Process]:
    """Run `yulink receive` with its store in SQLite."""
    command = [sys.executable, "-m", "edge.agent.cli", "receive", "--mqtt", broker.url, "--ca", pki.ca]
    command += ["--identity", identity, "--key", folder / "brain.key", "--store", folder / "brain.sqlite3"]
    with (folder / "receive.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(*map(str, command), stdout=log, stderr=log)
    try:
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        await process.wait()


def cpu_s(process: psutil.Process) -> float:
    """Return CPU seconds, user and system."""
    times = process.cpu_times()
    return float(times.user + times.system)


def told(what: str, latencies: npt.NDArray[np.float64]) -> float:
    """Print a line and return the 99th percentile."""
    middle, high = np.percentile(latencies, [50, 99])
    print(f"{what:40s} p50 {middle:6.3f} s   p99 {high:6.3f} s   {len(latencies):9,d} values")
    return float(high)


def seal_floor(parcels: Sequence[Parcel], folder: Path, identity: Path, last_id: int) -> tuple[float, list[int]]:
    """Return values a second of encoding and sealing alone, on one core, and the sizes of the messages."""
    sealer = Sealer(SITE, [read_public(folder / "brain.pub")], identity)
    topic = f"v1/{SITE}/data/backlog"
    rows = sum(len(record) for parcel in parcels for record in parcel.records)
    began = time.process_time()
    sizes = [len(sealer.seal(topic, encode(parcel, SITE, last_id), (parcel.epoch, parcel.seq))) for parcel in parcels]
    return rows / (time.process_time() - began), sizes


async def measure(folder: Path, values: int) -> None:
    """Build, drain, and print the figures."""
    pki = make_pki(folder / "pki")
    gateway, brain = pki.issue("gateway", common_name=SITE), pki.issue("brain")
    write_key(make_key(), folder / "brain.key", folder / "brain.pub")
    async with (
        start_broker(folder / "broker", pki, kind="mosquitto") as broker,
        receiver(folder, broker, pki, brain) as process,
        open_log(folder / "log.sqlite3", CLOCK) as log,
    ):
        names = [log.catalogue.intern("plc", f"t{n}", ValueKind.FLOAT64).id for n in range(TAGS)]
        tags = np.array(names, np.int32)
        began = time.perf_counter()
        await build(log, tags, values)
        print(f"backlog of {values:,} values written in {time.perf_counter() - began:.0f} s", flush=True)
        await asyncio.sleep(GROWS_OLD_S)
        section = MqttSection.model_validate(
            {"mqtt": broker.url, "identity": str(gateway), "ca": str(pki.ca), "seal_to": str(folder / "brain.pub")}
        )
        seen = Deliveries()
        pump = Pump(section, SITE, WatchedOutbox(log.outbox(), seen), CLOCK)
        feeding = asyncio.create_task(feed(log, tags))
        pumping = asyncio.create_task(pump.run())
        own = psutil.Process()
        own_before, brain_before, began = cpu_s(own), cpu_s(process), time.perf_counter()
        goodput: list[float] = []
        while log.outbox().backlog().historical_rows or not seen.backlog:
            await asyncio.sleep(0.5)
            goodput.append(pump._share.goodput_bytes_s)
            for task in (feeding, pumping):
                if task.done():
                    task.result()
        spent = time.perf_counter() - began
        own_cpu, brain_cpu = cpu_s(own) - own_before, cpu_s(process) - brain_before
        sent = pump.statistics().bytes_total
        high = told("live, while the backlog drains", seen.take_live())
        await asyncio.sleep(3)
        seen.take_live()
        await asyncio.sleep(ALONE_S)
        alone = told("floor: live, without a backlog", seen.take_live())
        for task in (feeding, pumping):
            task.cancel()
        await asyncio.wait([feeding, pumping])
        rate = seen.backlog / spent
        floor, sizes = seal_floor(seen.kept, folder, gateway, log.catalogue.last_id)
        share = sent / spent / statistics.mean(goodput)
        print(f"{'backlog drained':40s} {seen.backlog:,} values in {spent:.0f} s: {rate:,.0f} values/s")
        print(f"{'floor: encode and seal alone':40s} {floor:,.0f} values/s, {floor / rate:.1f} x")
        print(
            f"{'messages of the backlog':40s} median {statistics.median(sizes) / 1024:.0f} KB,"
            f" max {max(sizes) / 1024:.0f} KB (limit 128), {seen.backlog // seen.messages:,} values each"
        )
        measured = f"{statistics.mean(goodput) / 1e6:.2f} MB/s, of which {share:.0%} was used"
        print(f"{'goodput measured':40s} {measured} (share of the backlog {section.backlog_share:.0%})")
        print(f"{'cores: gateway, brain':40s} {own_cpu / spent:.2f}, {brain_cpu / spent:.2f}")
        print(f"{'drain / live rate':40s} {rate / LIVE_PER_S:.1f} x (target >= 10)")
        print(f"{'live p99, draining / alone':40s} {high / alone:.2f} x, {high:.3f} s (target <= 1.5 s)")


def main() -> None:
    """Print the figures."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--values", type=int, default=10_000_000, help="how long the backlog is")
    given = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="yulink-bench-") as name:
        asyncio.run(measure(Path(name), given.values))


if __name__ == "__main__":
    main()
