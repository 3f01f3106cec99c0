"""A brain beyond one machine on loopback: broker, stream on three servers, PostgreSQL, workers, simulated gateways."""

import asyncio
import contextlib
import json
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import psutil

from simulators.broker import Broker, find_nats, free_port, start_broker
from simulators.pki import Pki, make_pki
from tests.postgres import Postgres, start_postgres
from tests.uplink.fleet import Gateway
from uplink.keys import CLASSICAL, PrivateKey, make_key, write_key
from uplink.receiver.stream import STREAM, StreamAccess, open_stream
from uplink.session import Access, MqttSession, open_session

ROOT = Path(__file__).parents[1]
ACL = (ROOT / "contract" / "mosquitto.acl").read_text() + "\nuser fleet\ntopic readwrite v1/#\n"
RESEND_S = 5.0
WINDOW = 2000


class Brain:
    """The servers and workers, each a process that can be killed."""

    def __init__(self, folder: Path, pki: Pki, broker: Broker, database: Postgres, key: PrivateKey) -> None:
        self.folder, self.pki, self.broker, self.database, self.key = folder, pki, broker, database, key
        self._ports = [(free_port(), free_port()) for _ in range(3)]
        self._identity = pki.issue("brain", common_name="brain")
        self._server = pki.issue("nats", server=True, client=True)
        self._processes: dict[str, asyncio.subprocess.Process] = {}

    @property
    def stream(self) -> StreamAccess:
        servers = tuple(f"tls://127.0.0.1:{port}" for port, _ in self._ports)
        return StreamAccess(servers, self.pki.ca, self._identity)

    async def start(self, name: str) -> None:
        """Start `nats-0` to `nats-2`, `bridge-N` or `write-N`."""
        kind, _, number = name.partition("-")
        command: tuple[object, ...]
        env = os.environ | {"LC_ALL": "C.UTF-8"}
        common = ("--mqtt", self.broker.url, "--ca", self.pki.ca, "--identity", self._identity)
        if kind == "nats":
            port, cluster = self._ports[int(number)]
            command = (find_nats(), "-c", ROOT / "deploy" / "brain" / "nats.conf")
            env |= {
                "YULINK_NATS_NAME": name,
                "YULINK_NATS_LISTEN": f"127.0.0.1:{port}",
                "YULINK_NATS_CLUSTER_LISTEN": f"127.0.0.1:{cluster}",
                "YULINK_NATS_ROUTES": json.dumps([f"nats://127.0.0.1:{other}" for _, other in self._ports]),
                "YULINK_NATS_STORE": str(self.folder / name),
                "YULINK_NATS_IDENTITY": str(self._server),
                "YULINK_NATS_CA": str(self.pki.ca),
            }
        else:
            command = (sys.executable, "-m", "edge.agent.cli", kind, *common, "--nats", ",".join(self.stream.servers))
            if kind == "bridge":
                command += ("--name", number)
            else:
                command += ("--postgres", self.database.dsn, "--key", self.folder / "brain.key")
        with (self.folder / f"{name}.log").open("ab") as log:
            self._processes[name] = await asyncio.create_subprocess_exec(
                *map(str, command), stdout=log, stderr=log, env=env
            )

    async def kill(self, name: str) -> None:
        process = self._processes.pop(name)
        process.kill()
        await process.wait()

    async def leader(self) -> str:
        """Return the name of the server that leads the stream."""
        async with open_stream(self.stream) as (_, stream):
            info = await stream.stream_info(STREAM)
        assert info.cluster is not None
        assert info.cluster.leader is not None
        return info.cluster.leader

    async def until_ready(self) -> None:
        """Return when the stream takes messages and every worker is at work."""
        async with asyncio.timeout(60):
            while True:
                with contextlib.suppress(Exception):
                    await self.leader()
                    break
                await asyncio.sleep(0.1)
            while any(
                "ing from" not in (self.folder / f"{name}.log").read_text()
                for name in self._processes
                if name[0] != "n"
            ):
                await asyncio.sleep(0.05)

    async def ask(self, query: str) -> list[tuple[Any, ...]]:
        connection = await asyncpg.connect(self.database.dsn, server_settings={"search_path": "yulink"})
        try:
            return [tuple(row) for row in await connection.fetch(query)]
        finally:
            await connection.close()

    def cpu_s(self) -> dict[str, float]:
        """Return the CPU time so far of all processes of each kind."""
        spent: dict[str, float] = {}
        processes = [(name.partition("-")[0], process.pid) for name, process in self._processes.items()]
        for kind, pid in [*processes, ("broker", self.broker.pid), ("postgres", self.database.pid)]:
            first = psutil.Process(pid)
            for each in [first, *first.children(recursive=True)]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    spent[kind] = spent.get(kind, 0.0) + sum(each.cpu_times()[:2])
        return spent

    async def close(self) -> None:
        for process in self._processes.values():
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


@asynccontextmanager
async def running_brain(folder: Path, bridges: int, writers: int) -> AsyncIterator[Brain]:
    """Run a brain with so many workers of each kind while the block runs."""
    async with AsyncExitStack() as closing:
        pki = make_pki(folder / "pki")
        key = make_key(CLASSICAL)
        write_key(key, folder / "brain.key", folder / "brain.pub")
        broker = await closing.enter_async_context(start_broker(folder / "broker", pki, kind="mosquitto", acl=ACL))
        database = await closing.enter_async_context(start_postgres())
        brain = Brain(folder, pki, broker, database, key)
        closing.push_async_callback(brain.close)
        for n in range(3):
            await brain.start(f"nats-{n}")
        for n in range(bridges):
            await brain.start(f"bridge-{n}")
        for n in range(writers):
            await brain.start(f"write-{n}")
        await brain.until_ready()
        yield brain


class Fleet:
    """Many gateways over one connection: each seals for itself, heeds its acknowledgements and sends again."""

    def __init__(self, brain: Brain, gateways: int, batches: int, tags: int = 20) -> None:
        self._brain = brain
        self.batches = batches
        self.gateways = {
            name: Gateway(
                name, 1000 + n, tags, identity=brain.pki.issue(f"g{n}", common_name=name), brain=brain.key.public
            )
            for n, name in enumerate(f"chongqing/plant-{n}" for n in range(gateways))
        }
        self._open: set[tuple[str, int]] = set()
        self.forget()
        self._ready = {(name, seq): self.gateways[name].batch(seq) for name, seq in self._open}
        self.sent = self.resent = self.announced = 0
        self.progress = asyncio.Event()
        self.may_send = asyncio.Event()
        self.may_send.set()

    @property
    def acknowledged(self) -> int:
        """Batches the brain has confirmed."""
        return len(self.gateways) * self.batches - len(self._open)

    def forget(self) -> None:
        """Take everything for not acknowledged."""
        self._open = {(name, seq) for name in self.gateways for seq in range(1, self.batches + 1)}

    async def run(self) -> None:
        """Send everything, and again what is not acknowledged in time, until all of it is."""
        access = Access(self._brain.broker.url, self._brain.pki.ca, self._brain.pki.issue("fleet"), client_id="fleet")
        async with open_session(access, ("5",)) as (session, _):
            for topic in ("ack", "cmd/announce"):
                await session.subscribe(f"v1/+/+/{topic}")
            reading = asyncio.create_task(self._read(session))
            try:
                for gateway in self.gateways.values():
                    self._publish(session, *gateway.key())
                    self._publish(session, *gateway.catalogue())
                    self._publish(session, *gateway.health())
                    await asyncio.sleep(0)
                await self.may_send.wait()
                waiting: dict[tuple[str, int], float] = {}
                fresh = iter([(name, seq) for seq in range(1, self.batches + 1) for name in self.gateways])
                while self._open:
                    assert not session.lost.done()
                    waiting = {key: due for key, due in waiting.items() if key in self._open}
                    now = time.monotonic()
                    late = [key for key, due in waiting.items() if due <= now]
                    self.resent += len(late)
                    while len(waiting) + len(late) < WINDOW and (key := next(fresh, None)) is not None:
                        late.append(key)
                    for name, seq in late:
                        self.sent += 1
                        self._publish(session, *(self._ready.pop((name, seq), None) or self.gateways[name].batch(seq)))
                        waiting[name, seq] = time.monotonic() + RESEND_S
                        if self.sent % 50 == 0:
                            await asyncio.sleep(0)  # acknowledgements want to be heard meanwhile
                    self.progress.clear()
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(0.2):
                            await self.progress.wait()
            finally:
                reading.cancel()
                await asyncio.wait([reading])

    def _publish(self, session: MqttSession, topic: str, payload: bytes) -> None:
        session.publish(topic, payload)

    async def _read(self, session: MqttSession) -> None:
        while True:
            message = await session.received.get()
            name = "/".join(message.topic.split("/")[1:3])
            gateway = self.gateways[name]
            if message.topic.endswith("announce"):
                self.announced += 1
                self._publish(session, *gateway.key())
                self._publish(session, *gateway.catalogue())
                continue
            told = json.loads(gateway.open_ack(message.topic, message.payload))
            missing = {seq for first, last in told["missing"] for seq in range(first, last + 1)}
            for seq in range(1, told["committed_through"] + 1):
                if seq not in missing:
                    self._open.discard((name, seq))
            self.progress.set()


async def account(brain: Brain, fleet: Fleet, tags: int = 20) -> dict[str, int]:
    """Return what the database holds of the fleet: messages, those there twice or not at all, rows lost or doubled."""
    names, batches = len(fleet.gateways), fleet.batches
    found = await brain.ask("SELECT gateway, seq, count(*) FROM message GROUP BY 1, 2")
    ((rows, replaced, kept),) = await brain.ask(
        "SELECT coalesce(sum(rows), 0)::bigint, coalesce(sum(replaced), 0)::bigint, (SELECT count(*) FROM sample)"
        " FROM message"
    )
    return {
        "messages": len(found),
        "lost": names * batches - len(found),
        "twice": sum(count - 1 for _, _, count in found),
        "rows lost": names * batches * tags - kept,
        "rows replaced": replaced,
        "rows told": rows,
    }
