"""What the campaign plays on: press → agent → a line that can fail → broker → brain, each a process of its own."""

import asyncio
import json
import os
import random
import signal
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, closing, suppress
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from buffer.log import open_log
from edge.agent.app import LOG_NAME
from edge.agent.status import ask_status
from edge.core.batch import Batch
from edge.core.clock import SystemClock
from edge.core.errors import YulinkError
from simulators.broker import Broker, start_broker
from simulators.faults import FaultLine, fault_line
from simulators.modbus import serve_tcp
from simulators.pki import Pki, make_pki
from tests.brain import Brain, running_brain
from tests.faults.disk import SmallDisk
from tests.faults.press import DERIVED, TAGS, Account, Press, Row, Stored, account
from uplink.keys import make_key, write_key

SITE = "chongqing/plant-1"
EVERY_S = 0.1
CONNECTED_DEADLINE_S = 90.0
CATCH_UP_S = 120.0
END_DEADLINE_S = 30.0
BEHIND_MAX = 20
OPEN_RULES = "user brain\ntopic readwrite v1/#\npattern readwrite v1/%u/#\n"

Kill = Callable[[random.Random], Awaitable[object]]


Place = tuple[int, int, int, float]
"""Epoch and seq of a message that could not pass, and where in it a part lies that was sent instead."""


class Sink(Protocol):
    """What a brain stores, asked while it stores."""

    async def rows(self) -> Counter[Row]:
        """Return every row with how often it is there."""

    async def stored(self, places: Mapping[tuple[int, int], Place]) -> Stored:
        """Return everything for the account. `places` are where parts of messages belong, by epoch and seq."""


class Stage:
    """A running plant. `victims` are what may be killed, by name: how often in relation to others, and how.

    A new kind of process joins the campaign by an entry there.
    """

    def __init__(self, folder: Path, pki: Pki, broker: Broker, line: FaultLine, press: Press, sink: Sink) -> None:
        self.folder, self.pki, self.broker, self.line, self.sink = folder, pki, broker, line, sink
        self.press = press
        self.data = folder / "data"
        self.disk: SmallDisk | None = None
        self.derives = False
        self.kills: Counter[str] = Counter()
        self.victims: dict[str, tuple[int, Kill]] = {
            "agent": (2, lambda _: self.kill("run")),
            "broker": (1, lambda _: self.restart_broker()),
        }
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self._commands: dict[str, tuple[object, ...]] = {"run": ("plant.yaml", "--data-dir", self.data)}

    def add_receiver(self) -> None:
        """Let `yulink receive` be the brain."""
        self._commands["receive"] = (
            *("--mqtt", self.broker.url, "--ca", self.pki.ca, "--identity", self.pki.folder / "brain.pem"),
            *("--key", self.pki.folder / "brain.key", "--store", self.folder / "brain.sqlite3"),
        )
        self.victims["receiver"] = (1, lambda _: self.kill("receive"))

    def add_analytics(self) -> None:
        """Let a worker derive sums."""
        self.derives = True
        self.victims["analytics worker"] = (2, lambda _: self._kill_worker())

    async def _kill_worker(self) -> None:
        await self.until(lambda status: status["analytics"]["pid"], "the analytics worker")
        with suppress(ProcessLookupError):
            os.kill((await self.status())["analytics"]["pid"] or 0, signal.SIGKILL)

    def add_workers(self, brain: Brain) -> None:
        """Let bridges, stream servers and writers be the brain."""
        for kind, count in (("bridge", 2), ("write", 2), ("nats", 3)):
            self.victims[kind] = (2, partial(_restart_one, brain, kind, count))

    async def start(self, name: str) -> None:
        """Start "run" (the agent) or "receive" (the brain)."""
        with (self.folder / f"{name}.log").open("ab") as log:
            self._processes[name] = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "edge.agent.cli", name, *map(str, self._commands[name])),
                cwd=self.folder,
                stdout=log,
                stderr=log,
                env=os.environ | {"LC_ALL": "C.UTF-8"},
            )

    async def kill(self, name: str) -> None:
        """Kill a process with SIGKILL and start it again."""
        await self.end(name, signal.SIGKILL)
        await self.start(name)

    async def kill_any(self, chance: random.Random) -> None:
        """Kill one of the victims and start it again."""
        (name,) = chance.choices([*self.victims], [weight for weight, _ in self.victims.values()])
        self.kills[name] += 1
        await self.victims[name][1](chance)

    async def restart_broker(self) -> None:
        """Kill the broker, which forgets everything, and start it again."""
        await self.broker.kill()
        await self.broker.start()

    async def end(self, name: str, number: signal.Signals) -> int:
        """Send a signal and wait for the end; return the exit code."""
        process = self._processes.pop(name)
        if process.returncode is None:
            process.send_signal(number)
        try:
            async with asyncio.timeout(END_DEADLINE_S):
                return await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
            raise AssertionError(f"{name} did not end within {END_DEADLINE_S} s") from None

    async def status(self) -> dict[str, Any]:
        """Return what the agent says of itself, as soon as it reads its device."""
        async with asyncio.timeout(CONNECTED_DEADLINE_S):
            while True:
                try:
                    status = await ask_status(self.data)
                    if all(device["state"] == "connected" for device in status["devices"]):
                        return status
                except YulinkError:
                    process = self._processes["run"]
                    if process.returncode is not None:
                        words = (self.folder / "run.log").read_text("utf-8", "replace")[-400:]
                        raise AssertionError(f"the agent ended by itself ({process.returncode}): {words}") from None
                await asyncio.sleep(0.05)

    async def until(self, condition: Callable[[dict[str, Any]], object], what: str, deadline_s: float = 60) -> None:
        """Wait until the agent's status says that the harm is done: a chapter that harms nothing shows nothing."""
        deadline = time.monotonic() + deadline_s
        while not condition(await self.status()):
            assert time.monotonic() < deadline, f"not seen in the agent's status: {what}"
            await asyncio.sleep(0.2)

    async def settle(self) -> Account:
        """Heal the line, deliver everything, stop the agent, and account for every value."""
        self.line.heal()
        await self.status()
        await asyncio.sleep(1)
        if self.derives:
            derived = (await self.status())["analytics"]["rows_derived_total"]
            await self.until(lambda status: status["analytics"]["rows_derived_total"] > derived + 10, "sums", 120)
            await self.until(lambda status: status["analytics"]["behind"] < BEHIND_MAX, "the worker has caught up", 120)
        await self.end("run", signal.SIGTERM)
        in_log = await self._logged()
        if in_log - await self.sink.rows():
            await self.start("run")
            deadline = time.monotonic() + CATCH_UP_S
            while in_log - await self.sink.rows() and time.monotonic() < deadline:
                await asyncio.sleep(0.5)
            await self.end("run", signal.SIGTERM)
            in_log = await self._logged()
        brain = await self.sink.stored(self._places())
        return account(self.press.answers, in_log, brain, derives=self.derives)

    async def _logged(self) -> Counter[Row]:
        found: Counter[Row] = Counter()
        async with open_log(self.data / LOG_NAME, SystemClock()) as log:
            position = 0
            while records := await log.read(position):
                position = records[-1][0]
                for _, record in records:
                    if isinstance(record, Batch):
                        columns = (record.tag.tolist(), record.ts.tolist(), record.value.tolist())
                        for tag, ts, value, quality in zip(*columns, record.quality.tolist(), strict=True):
                            found[int(log.catalogue[tag].name[1:]), ts, value, quality] += 1
        return found

    def _places(self) -> dict[tuple[int, int], Place]:
        """Return where each part belongs that has a later number than the message that it is a part of."""
        query = "SELECT epoch, seq, instead_of, first, part, parts FROM parcel WHERE instead_of <> ''"
        with closing(sqlite3.connect(self.data / LOG_NAME)) as db:
            parts = db.execute(query).fetchall()
        return {
            (epoch, seq): (*json.loads(instead_of)[0], first, part / parts)
            for epoch, seq, instead_of, first, part, parts in parts
        }

    async def close(self) -> None:
        """End what still runs."""
        for name in list(self._processes):
            await self.end(name, signal.SIGKILL)


async def _restart_one(brain: Brain, kind: str, count: int, chance: random.Random) -> None:
    name = f"{kind}-{chance.randrange(count)}"
    await brain.kill(name)
    await brain.start(name)


class SqliteSink:
    """The store of `yulink receive`."""

    _ORDERED = (
        "SELECT epoch, seq, historical, tag, ts FROM sample JOIN message ON message.id = sample.message"
        " ORDER BY epoch, seq, sample.rowid"
    )

    def __init__(self, path: Path) -> None:
        self._path = path

    def _ask(self, query: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(f"{self._path.absolute().as_uri()}?mode=ro", uri=True, timeout=30)) as db:
            return db.execute(query).fetchall()

    async def rows(self) -> Counter[Row]:
        """Return every row with how often it is there."""
        found = self._ask("SELECT tag, ts, value, quality FROM reading")
        return Counter((int(tag[1:]), ts, value, quality) for tag, ts, value, quality in found)

    async def stored(self, places: Mapping[tuple[int, int], Place]) -> Stored:
        """Return everything for the account."""
        ((told,),) = self._ask("SELECT ifnull(sum(rows), 0) FROM gap")
        return Stored(await self.rows(), 0, told, in_order(self._ask(self._ORDERED), places))


class PostgresSink:
    """The database of the brain beyond one machine, where a second row of a tag and time would replace the first."""

    _ORDERED = (
        "SELECT epoch, seq, historical, tag, ts FROM sample JOIN message ON message.id = sample.message"
        " ORDER BY epoch, seq, tag, ts"
    )

    def __init__(self, brain: Brain) -> None:
        self._brain = brain

    async def rows(self) -> Counter[Row]:
        """Return every row with how often it is there."""
        found = await self._brain.ask("SELECT tag, ts, whole::bigint, quality FROM reading")
        return Counter((int(tag[1:]), ts, value, quality) for tag, ts, value, quality in found)

    async def stored(self, places: Mapping[tuple[int, int], Place]) -> Stored:
        """Return everything for the account."""
        ((replaced,),) = await self._brain.ask("SELECT coalesce(sum(replaced), 0)::bigint FROM message")
        ((told,),) = await self._brain.ask("SELECT coalesce(sum(rows), 0)::bigint FROM gap")
        return Stored(await self.rows(), replaced, told, in_order(await self._brain.ask(self._ORDERED), places))


def in_order(rows: list[tuple[Any, ...]], places: Mapping[tuple[int, int], Place]) -> bool:
    """Tell whether in each epoch and lane no tag's time goes back: by number, a part in the place of its whole."""
    rows.sort(key=lambda row: places.get(row[:2], (row[0], row[1], 0, 0.0)))
    last: dict[tuple[Any, ...], int] = {}
    for epoch, seq, *series, ts in rows:
        place = (places.get((epoch, seq), (epoch,))[0], *series)
        if ts < last.get(place, ts):
            return False
        last[place] = ts
    return True


@asynccontextmanager
async def one_machine(*, disk_mb: int = 0, log_max: str = "4 GB", derives: bool = False) -> AsyncIterator[Stage]:
    """A running plant and `yulink receive`, until the block ends; the agent's data on a disk of that size, if any."""
    async with AsyncExitStack() as closing_all:
        folder = Path(closing_all.enter_context(tempfile.TemporaryDirectory(prefix="yulink-faults-")))
        disk = SmallDisk(folder / "disk.img", folder / "data")
        if disk_mb:
            disk.make(disk_mb)
            closing_all.callback(disk.unmount)
        pki = make_pki(folder / "pki")
        pki.issue("brain")
        write_key(make_key(), folder / "pki" / "brain.key", folder / "pki" / "brain.pub")
        broker = await closing_all.enter_async_context(
            start_broker(folder / "broker", pki, kind="mosquitto", acl=OPEN_RULES)
        )
        sink = SqliteSink(folder / "brain.sqlite3")
        stage = await _plant(closing_all, folder, pki, broker, sink, "pki/brain.pub", log_max, derives)
        stage.disk = disk
        stage.add_receiver()
        if derives:
            stage.add_analytics()
        await stage.start("receive")
        await stage.start("run")
        await stage.status()
        yield stage


@asynccontextmanager
async def many_machines() -> AsyncIterator[Stage]:
    """A running plant, two bridges, a stream on three servers, two writers and PostgreSQL, until the block ends."""
    async with AsyncExitStack() as closing_all:
        folder = Path(closing_all.enter_context(tempfile.TemporaryDirectory(prefix="yulink-faults-")))
        brain = await closing_all.enter_async_context(running_brain(folder, bridges=2, writers=2))
        stage = await _plant(closing_all, folder, brain.pki, brain.broker, PostgresSink(brain), "brain.pub")
        stage.add_workers(brain)
        await stage.start("run")
        await stage.status()
        yield stage


async def _plant(
    closing_all: AsyncExitStack,
    folder: Path,
    pki: Pki,
    broker: Broker,
    sink: Sink,
    brain_key: str,
    log_max: str = "4 GB",
    derives: bool = False,
) -> Stage:
    """Make the plant's side: the press, the line, and the agent's configuration."""
    pki.issue("gateway", common_name=SITE)
    line = await closing_all.enter_async_context(fault_line(broker.host, broker.port))
    press = Press()
    server = await closing_all.enter_async_context(serve_tcp({1: press}))
    uplink = {
        "mqtt": f"mqtts://localhost:{line.port}",
        "identity": "pki/gateway.pem",
        "ca": "pki/ca.pem",
        "seal_to": brain_key,
        "latency": "200ms",
    }
    tags = {f"t{number}": {"at": f"holding/{number}"} for number in range(TAGS)}
    device = {"modbus": server.url, "every": f"{round(EVERY_S * 1e3)}ms", "tags": tags}
    limits = {"free": "1 KB", "max": log_max}
    settings: dict[str, Any] = {"site": SITE, "devices": {"press": device}, "uplink": uplink, "log": limits}
    if derives:
        settings["derived"] = {f"press.t{DERIVED}": "press.t1 + press.t2"}
    (folder / "plant.yaml").write_text(json.dumps(settings))
    stage = Stage(folder, pki, broker, line, press, sink)
    closing_all.push_async_callback(stage.close)
    return stage
