"""An agent whose disk stops taking writes: it goes on, says so, and neither loses nor repeats what it could store."""

import asyncio
import json
import os
import re
import resource
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from edge.agent.commands.demo_account import logged
from edge.agent.status import ask_status
from edge.core.errors import YulinkError
from simulators.modbus import Unit, serve_tcp
from tests.faults.disk import SmallDisk


class Agent:
    """`yulink run` with one device of one tag, as a process."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.data = folder, folder / "data"
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        with (self.folder / "run.log").open("wb") as log:
            self.process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "edge.agent.cli", "run", "plant.yaml", "--data-dir", str(self.data)),
                cwd=self.folder,
                stdout=log,
                stderr=log,
                env=os.environ | {"LC_ALL": "C.UTF-8"},
            )
        await self.until(lambda status: status["log"]["rows_durable_total"] > 3)

    async def until(self, condition: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        async with asyncio.timeout(20):
            while True:
                try:
                    status = await ask_status(self.data)
                    if condition(status):
                        return status
                except YulinkError:
                    assert self.process is not None
                    assert self.process.returncode is None, (self.folder / "run.log").read_text()
                await asyncio.sleep(0.02)

    async def end(self) -> tuple[int, str]:
        """Stop it in order; return the exit code and what it said."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(15):
            code = await self.process.wait()
        return code, (self.folder / "run.log").read_text()


@pytest.fixture
async def agent(tmp_path: Path) -> AsyncIterator[Agent]:
    async with running(tmp_path) as agent:
        yield agent


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Agent]:
    unit = Unit()
    unit.put("holding", 0, "u16", 7)
    async with serve_tcp({1: unit}) as server:
        device = {"modbus": server.url, "every": "50ms", "tags": {"t": {"at": "holding/0"}}}
        settings = {"site": "chongqing/plant-1", "devices": {"press": device}, "log": {"free": "1 KB"}}
        (folder / "plant.yaml").write_text(json.dumps(settings))
        agent = Agent(folder)
        try:
            await agent.start()
            yield agent
        finally:
            if agent.process is not None and agent.process.returncode is None:
                agent.process.kill()
                await agent.process.wait()


def refuse_writes(agent: Agent) -> None:
    """Let no file of the agent grow any more, as on a full disk."""
    assert agent.process is not None
    size = (agent.data / "log.sqlite3-wal").stat().st_size
    resource.prlimit(agent.process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def take_writes(agent: Agent) -> None:
    assert agent.process is not None
    resource.prlimit(agent.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def once_each(found: Counter[tuple[Any, ...]]) -> bool:
    return set(found.values()) == {1}


async def test_a_full_disk_holds_readings_in_memory_and_the_status_says_so(agent: Agent) -> None:
    refuse_writes(agent)
    full = await agent.until(lambda status: status["log"]["rows_waiting"] > 5)
    assert not full["log"]["writable"]
    assert full["log"]["last_error"]
    assert full["devices"][0]["state"] == "connected", "the device is read all the while"
    take_writes(agent)
    await agent.until(lambda status: status["log"]["writable"] and not status["log"]["rows_waiting"])
    read = (await ask_status(agent.data))["devices"][0]["values_read"]
    assert (await agent.end())[0] == 0
    found = await logged(agent.data)
    assert once_each(found)
    assert found.total() >= read


async def test_stopping_on_a_full_disk_ends_soon_and_tells_what_is_lost(agent: Agent) -> None:
    refuse_writes(agent)
    waiting = (await agent.until(lambda status: status["log"]["rows_waiting"] > 5))["log"]["rows_waiting"]
    code, said = await agent.end()
    assert code == 1
    told = re.search(r"stopping while the log cannot be written: (\d+) waiting rows are lost", said)
    assert told, said
    assert int(told[1]) >= waiting
    assert "Traceback" not in said
    await agent.start()
    assert (await agent.end())[0] == 0
    assert once_each(await logged(agent.data))


@pytest.mark.skipif(not SmallDisk.is_possible(), reason="only root can mount an ext4 file system; `make faults` too")
async def test_a_file_system_that_goes_read_only_is_told_and_after_its_repair_the_agent_goes_on(tmp_path: Path) -> None:
    """The journal is aborted under the agent, as `errors=remount-ro` does after an error of the disk."""
    disk = SmallDisk(tmp_path / "disk.img", tmp_path / "data")
    disk.make(16)
    try:
        async with running(tmp_path) as agent:
            before = (await ask_status(agent.data))["log"]["position"]
            disk.fail()
            await agent.until(lambda status: not status["log"]["writable"] and status["log"]["rows_waiting"] > 5)
            assert agent.process is not None
            agent.process.kill()  # what waits is lost with it
            await agent.process.wait()
            disk.repair()
            await agent.start()
            status = await agent.until(lambda status: status["log"]["writable"])
            assert status["log"]["position"] > before, "what was durable is there"
            assert not status["log"]["damaged_total"]
            assert (await agent.end())[0] == 0
            assert once_each(await logged(agent.data))
    finally:
        disk.unmount()
