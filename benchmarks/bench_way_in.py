"""What a value costs on its way in: decode + plausibility + log, 1,000-value Modbus batches, against a floor.

Plausibility is measured with a range for a tenth of the tags, with none, and with every rule for every tag.

The floor, in the same run, is the least one can do with the same values: numpy decodes them and sqlite3 stores the
raw bytes of 1,000 values as one blob in one transaction, without names, quality, checksums or a second thread.
"""

import asyncio
import resource
import sqlite3
import struct
import tempfile
import time
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np

from buffer.log import Log, open_log
from buffer.quality_days import storing
from drivers.modbus.image import Image, kind_of
from drivers.modbus.section import ModbusSection
from edge.agent.configuration.rules import TagRule
from edge.agent.day_counts import DayCounts, Rows, Watched, packed
from edge.agent.ingest import Ingest
from edge.agent.quality_watch import FOLLOWER
from edge.core.batch import Batch
from edge.core.catalogue import Catalogue
from edge.core.clock import SystemClock

VALUES = 1000
POLLS = 300


def cpu_s() -> float:
    """Return the CPU time of this process with all its threads."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def make_image(catalogue: Catalogue) -> tuple[Image, dict[str, TagRule]]:
    """Return the plan of a device with 500 f32 and 500 u16 tags, a tenth of them with a plausible range."""
    tags = {f"f{n}": {"at": f"holding/{2 * n}", "type": "f32", "order": "CDAB"} for n in range(VALUES // 2)}
    tags |= {f"u{n}": {"at": f"input/{n}", "type": "u16"} for n in range(VALUES // 2)}
    section = ModbusSection.model_validate({"modbus": "tcp://127.0.0.1", "tags": tags})
    ids = {name: catalogue.intern("plc", name, kind_of(tag)).id for name, tag in section.tags.items()}
    rules = {name: TagRule(valid=(-1e9, 1e9)) for name in list(tags)[::10]}
    return Image(section.tags, ids, section.order, section.limits), rules


def answers(image: Image) -> list[bytes]:
    """Return an answer's data bytes for each request."""
    chance = np.random.default_rng(1)
    return [chance.integers(0, 120, request.payload_bytes, np.uint8).tobytes() for request in image.requests]


def deciding(image: Image, payloads: list[bytes], catalogue: Catalogue, rules: dict[str, TagRule]) -> float:
    """Return microseconds of CPU a value for decode + plausibility with these rules."""
    ingest = Ingest("plc", rules, catalogue)
    statuses = [0] * len(payloads)
    poll(image, payloads, statuses, ingest)
    before = cpu_s()
    for _ in range(POLLS):
        poll(image, payloads, statuses, ingest)
    return (cpu_s() - before) / POLLS / VALUES * 1e6


def poll(image: Image, payloads: list[bytes], statuses: list[int], ingest: Ingest) -> list[Batch]:
    """Return what one poll gives."""
    for number, payload in enumerate(payloads):
        image.fill(number, payload)
    now = time.time_ns()
    return [ingest.take(batch, None, now) for batch in image.decode(now, statuses) if isinstance(batch, Batch)]


async def way_in(folder: Path) -> tuple[dict[str, float], float, float]:
    """Return microseconds of CPU a value for decode + plausibility by its rules, and for all the way into the log."""
    async with open_log(folder / "log.sqlite3", SystemClock(), followers=[FOLLOWER]) as log:
        image, rules = make_image(log.catalogue)
        payloads = answers(image)
        every = TagRule(valid=(-1e9, 1e9), rate=1e9, frozen_after=3600.0, clock_tolerance=60.0)
        all_rules = {tag.name: every for tag in log.catalogue}
        ways = {"no rules": {}, "a range for a tenth": rules, "every rule for all": all_rules}
        decoding = {words: deciding(image, payloads, log.catalogue, each) for words, each in ways.items()}
        ingest, statuses = Ingest("plc", rules, log.catalogue), [0] * len(payloads)
        before = cpu_s()
        for _ in range(POLLS):
            for batch in poll(image, payloads, statuses, ingest):
                await log.put(batch)
        await log.flush()
        whole = (cpu_s() - before) / POLLS / VALUES * 1e6
        return decoding, whole, await counting(log)


async def counting(log: Log) -> float:
    """Return microseconds of CPU a value for reading it from the log again and counting it by tag and day."""
    watched = [Watched(tag.id, "plc", 10**9) for tag in log.catalogue]
    follower, now = log.followers[FOLLOWER], time.time_ns()
    counts = DayCounts(ZoneInfo("Asia/Shanghai"), 10**10)
    counts.watch(watched, now - 3600 * 10**9)
    before, position, rows = cpu_s(), 0, 0
    while found := await follower.read(position):
        portion = Rows()
        for each in found:
            if isinstance(each.record, Batch):
                portion.add(each.record.tag, each.record.ts, each.record.quality, each.stored)
        counts.take(portion)
        position, rows = found[-1].position, rows + len(portion)
    await follower.commit(position, packed(counts.state()), more=storing(counts.rows(), {}, counts.gaps))
    return (cpu_s() - before) / rows * 1e6


def floor(folder: Path) -> float:
    """Return the floor's microseconds of CPU a value."""
    db = sqlite3.connect(folder / "floor.sqlite3", isolation_level=None)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=FULL")
    db.execute("CREATE TABLE blob (position INTEGER PRIMARY KEY, data BLOB)")
    raw = struct.pack(">1000f", *range(VALUES))
    before = cpu_s()
    for _ in range(POLLS):
        db.execute("INSERT INTO blob (data) VALUES (?)", (np.frombuffer(raw, ">f4").astype(np.float64).tobytes(),))
    spent = cpu_s() - before
    db.close()
    return spent / POLLS / VALUES * 1e6


def main() -> None:
    """Print the figures."""
    with tempfile.TemporaryDirectory() as name:
        decoding, whole, counted = asyncio.run(way_in(Path(name)))
        least = floor(Path(name))
    for words, each in decoding.items():
        print(f"decode + plausibility         {each:6.3f} µs CPU a value, {words}")
    print(f"decode + plausibility + log   {whole:6.3f} µs CPU a value (target ≤ 2)")
    print(f"counted by tag and day        {counted:6.3f} µs CPU a value, once a minute")
    print(f"floor: numpy + one blob       {least:6.3f} µs CPU a value")
    print(f"ratio to the floor            {whole / least:6.1f} x")


if __name__ == "__main__":
    main()
