"""A plant's side (log and pump) and a brain's side (receiver) around a real broker."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from buffer.log import Log, open_log
from edge.core.catalogue import ValueKind
from edge.core.clock import SystemClock
from simulators.broker import Broker
from simulators.pki import Pki
from tests.buffer.support import numbered
from uplink.api import Uplink, UplinkContext
from uplink.keys import PrivateKey, make_key, write_key
from uplink.kinds import kind_of
from uplink.pump import Pump
from uplink.receiver.service import Receiver
from uplink.receiver.store import SqliteStore
from uplink.seal import Opener
from uplink.section import MqttSection
from uplink.session import Access

CLOCK = SystemClock()
SITE = "chongqing/plant-1"
BRAIN_KEY = make_key()


@asynccontextmanager
async def background(*runs: Callable[[], Any]) -> AsyncIterator[None]:
    """Run coroutines while the block runs; a failure in one of them fails the test."""
    tasks = [asyncio.create_task(run()) for run in runs]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, Exception):
                raise result


@asynccontextmanager
async def open_uplinks(folder: Path, *settings: dict[str, Any]) -> AsyncIterator[tuple[Log, dict[str, Uplink]]]:
    """A log with a tag `plc-1.count` and several uplinks by name, as the agent makes them, not running yet."""
    sections = [MqttSection.model_validate({"latency": "50ms", **each}) for each in settings]
    names = {section.name: section.only for section in sections}
    async with open_log(folder / "log.sqlite3", CLOCK, consumers=names, commit_interval_s=0.01) as log:
        log.catalogue.intern("plc-1", "count", ValueKind.INT64, "pcs")
        yield (
            log,
            {
                section.name: kind_of(section).create(
                    section, UplinkContext(SITE, log.outbox(section.name), CLOCK, dict, log.put)
                )
                for section in sections
            },
        )


@asynccontextmanager
async def open_plant(
    folder: Path, health: Callable[[], dict[str, Any]] = dict, **settings: Any
) -> AsyncIterator[tuple[Log, Pump]]:
    """A log with a tag `plc-1.count` and a pump that is not running yet."""
    section = MqttSection.model_validate({"latency": "50ms", **settings})
    async with open_log(folder / "log.sqlite3", CLOCK, commit_interval_s=0.01) as log:
        log.catalogue.intern("plc-1", "count", ValueKind.INT64, "pcs")
        yield log, Pump(section, SITE, log.outbox(), CLOCK, put=log.put, health=health)


def uplink_to(broker: Broker, pki: Pki, **settings: Any) -> dict[str, Any]:
    """Settings of a gateway that seals to the brain's key."""
    public = pki.folder / "brain.pub"
    if not public.exists():
        write_key(BRAIN_KEY, pki.folder / "brain.key", public)
    identity = str(pki.issue("gateway", common_name=SITE))
    return {"mqtt": broker.url, "identity": identity, "ca": str(pki.ca), "seal_to": str(public), **settings}


def brain(broker: Broker, pki: Pki, folder: Path, *, sealed: bool = True, key: PrivateKey = BRAIN_KEY) -> Receiver:
    access = Access(broker.url, pki.ca, pki.issue("brain"), client_id="brain", clean_start=False, manual_ack=True)
    opener = Opener([key], pki.ca) if sealed else None
    return Receiver(access, SqliteStore(folder / "brain.sqlite3"), CLOCK, opener=opener)


def received(folder: Path) -> list[int]:
    """Every value in the brain's store, sorted; repeats would show."""
    path = folder / "brain.sqlite3"
    if not path.exists():
        return []
    db = sqlite3.connect(path)
    try:
        return [value for (value,) in db.execute("SELECT value FROM reading ORDER BY value")]
    except sqlite3.OperationalError:
        return []
    finally:
        db.close()


def stored(folder: Path) -> list[tuple[bool, int]]:
    """(historical, value) of every reading in the order of arrival."""
    db = sqlite3.connect(folder / "brain.sqlite3")
    try:
        query = "SELECT historical, value FROM sample JOIN message ON message.id = sample.message ORDER BY sample.rowid"
        return [(bool(historical), value) for historical, value in db.execute(query)]
    finally:
        db.close()


async def feed(log: Log, rows: int, first: int = 0, step: int = 50) -> None:
    for start in range(first, first + rows, step):
        await log.append([numbered(start, min(step, first + rows - start))])
