"""An edge node, a recording of what it says, and a host of our own, around a real mosquitto without TLS."""

import json
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np

from buffer.log import Log, open_log
from edge.core.batch import Batch, Event, Lane, Severity
from edge.core.catalogue import ValueKind
from edge.core.clock import SystemClock
from edge.core.quality import StatusCode
from simulators.broker import Broker, find_mosquitto, free_port
from tests.sparkplug.wire import Recording, Tap, tapped
from uplink.api import UplinkContext
from uplink.session import Access, MqttSession, open_session
from uplink.sparkplug.payload import parse
from uplink.sparkplug.section import SparkplugSection
from uplink.sparkplug.sparkplug_b_pb2 import Payload
from uplink.sparkplug.uplink import SparkplugUplink

CLOCK = SystemClock()
SITE = "chongqing/plant-1"
DEVICES = ("pump-3", "press-1")


@asynccontextmanager
async def plain_mosquitto(folder: Path) -> AsyncIterator[Broker]:
    """Run mosquitto on loopback, in the clear."""
    folder.mkdir(parents=True, exist_ok=True)
    port, program = free_port(), find_mosquitto()
    assert program is not None
    user = "user root\n" if os.getuid() == 0 else ""
    (folder / "conf").write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\nset_tcp_nodelay true\n{user}"
    )
    broker = Broker("mosquitto", port, [program, "-c", str(folder / "conf")], folder)
    await broker.start()
    try:
        yield broker
    finally:
        await broker.stop()


class Plant:
    """The log of a small plant: what is put in comes out at the edge node."""

    def __init__(self, log: Log) -> None:
        self.log = log
        for device in DEVICES:
            log.catalogue.intern(device, "count", ValueKind.INT64, "pcs")
            log.catalogue.intern(device, "temperature", ValueKind.FLOAT64, "degC")
            log.catalogue.intern(device, "running", ValueKind.BOOL)
            log.catalogue.intern(device, "program", ValueKind.TEXT)
            log.catalogue.intern(device, "energy", ValueKind.UINT64, "Wh")

    def id(self, device: str, tag: str) -> int:
        found = self.log.catalogue.find(device, tag)
        assert found is not None
        return found.id

    async def put(self, device: str, count: int, ts: int | None = None, quality: int = StatusCode.GOOD) -> None:
        """Store a reading of every tag of a device."""
        now = CLOCK.now() if ts is None else ts
        ints = [self.id(device, name) for name in ("count", "running", "energy")]
        energy = int(np.uint64(2**64 - 1 - count).astype(np.int64))
        await self.log.append(
            [
                Batch.of(Lane.INT, ints, now, [count, count % 2, energy], quality),
                Batch.of(Lane.FLOAT, [self.id(device, "temperature")], now, [20.5 + count], quality),
                Batch.of(Lane.TEXT, [self.id(device, "program")], now, [f"O{count:04}"], quality),
            ]
        )

    async def lose(self, device: str) -> None:
        """Store what the supervisor stores when a device is lost."""
        now = CLOCK.now()
        await self.put(device, 0, now, StatusCode.BAD_NO_COMMUNICATION)
        await self.log.append([Event(now, device, "device_lost", Severity.MEDIUM, f"{device} is lost")])

    async def find(self, device: str) -> None:
        """Store what the supervisor stores when it is back."""
        await self.log.append([Event(CLOCK.now(), device, "device_returned", Severity.INFO, f"{device} is back")])


@asynccontextmanager
async def open_edge(folder: Path, url: str, **settings: Any) -> AsyncIterator[tuple[Plant, SparkplugUplink]]:
    """A plant's log and its edge node, not running yet."""
    section = SparkplugSection.model_validate({"sparkplug": url, "latency": "20ms", **settings})
    names = {section.name: section.only}
    async with open_log(folder / "log.sqlite3", CLOCK, consumers=names, commit_interval_s=0.01) as log:
        plant = Plant(log)
        yield plant, SparkplugUplink(section, UplinkContext(SITE, log.outbox(section.name), CLOCK, dict, log.put))


class Host:
    """A primary host on one server: says its STATE, and sends commands."""

    def __init__(self, session: MqttSession, name: str = "scada") -> None:
        self.session, self.name = session, name

    async def say(self, online: bool, timestamp: int | None = None) -> None:
        state = {"online": online, "timestamp": CLOCK.now() // 10**6 if timestamp is None else timestamp}
        await self.session.publish(f"spBv1.0/STATE/{self.name}", json.dumps(state).encode(), retain=True)

    async def ask_rebirth(self) -> None:
        payload = Payload(timestamp=CLOCK.now() // 10**6)
        payload.metrics.add(name="Node Control/Rebirth", timestamp=1, datatype=11, boolean_value=True)
        await self.session.publish("spBv1.0/chongqing/NCMD/plant-1", payload.SerializeToString(), qos=0)


@asynccontextmanager
async def host_at(broker: Broker) -> AsyncIterator[Host]:
    async with open_session(Access(f"mqtt://127.0.0.1:{broker.port}", client_id="scada"), ("3.1.1",)) as (session, _):
        yield Host(session)


@asynccontextmanager
async def recorded(folder: Path, servers: int = 1) -> AsyncIterator[tuple[Recording, list[Tap], list[Broker]]]:
    """Servers with a recording proxy in front of each."""
    recording = Recording()
    async with AsyncExitStack() as stack:
        brokers = [await stack.enter_async_context(plain_mosquitto(folder / f"b{n}")) for n in range(servers)]
        taps = [
            await stack.enter_async_context(tapped(recording, broker.port, f"server-{n}"))
            for n, broker in enumerate(brokers)
        ]
        yield recording, taps, brokers


def said(recording: Recording, kind: str = "", device: str = "") -> list[Payload]:
    """Return the payloads of the edge's messages of a kind, in order."""
    found = []
    for packet in recording.packets:
        parts = packet.topic.split("/")
        if packet.from_edge and packet.kind == 3 and parts[2] == kind and (not device or parts[-1] == device):
            payload = parse(packet.payload)
            assert payload is not None
            found.append(payload)
    return found
