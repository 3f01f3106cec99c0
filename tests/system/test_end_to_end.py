"""The whole product as processes: simulated plant → agent → mosquitto → receiver, killed in the middle."""

import asyncio
import json
import os
import random
import signal
import sqlite3
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from edge.agent.commands.demo_account import Account, logged
from edge.agent.status import ask_status
from edge.core.errors import YulinkError
from simulators.broker import Broker, start_broker
from simulators.pki import Pki, make_pki
from simulators.scenario import serve
from tests.support import until
from uplink.keys import make_key, write_key


class Plant:
    """A configured plant whose agent and brain are processes that can be killed."""

    def __init__(self, folder: Path, broker: Broker, pki: Pki) -> None:
        self.folder = folder
        self.data_dir = folder / "data"
        self.account = Account(folder / "brain.sqlite3")
        self._identity = pki.issue("brain")
        write_key(make_key(), folder / "pki" / "brain.key", folder / "pki" / "brain.pub")
        self._pki = pki
        self._broker = broker
        self._processes: dict[str, asyncio.subprocess.Process] = {}

    async def start(self, name: str) -> None:
        arguments = {
            "run": ("plant.yaml", "--data-dir", "data"),
            "receive": (
                *("--mqtt", self._broker.url, "--ca", self._pki.ca),
                *("--identity", self._identity, "--key", "pki/brain.key", "--store", "brain.sqlite3"),
            ),
        }[name]
        with (self.folder / f"{name}.log").open("ab") as log:
            self._processes[name] = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "edge.agent.cli", name),
                *map(str, arguments),
                cwd=self.folder,
                stdout=log,
                stderr=log,
                env=os.environ | {"LC_ALL": "C.UTF-8"},
            )

    async def end(self, name: str, number: signal.Signals) -> int:
        process = self._processes.pop(name)
        process.send_signal(number)
        async with asyncio.timeout(15):
            return await process.wait()

    async def status(self) -> dict[str, Any]:
        try:
            return await ask_status(self.data_dir)
        except YulinkError:
            return {"devices": [], "backlog": None, "uplink": None}

    async def until_connected(self, devices: int) -> None:
        async with asyncio.timeout(30):
            while sum(d["state"] == "connected" for d in (await self.status())["devices"]) < devices:
                await asyncio.sleep(0.05)

    async def close(self) -> None:
        for name in list(self._processes):
            await self.end(name, signal.SIGKILL)


@pytest.fixture
async def plant(tmp_path: Path, program: Callable[[str], str]) -> AsyncIterator[Plant]:
    program("mosquitto")
    async with running_plant(tmp_path, "demo") as plant:
        yield plant


@asynccontextmanager
async def running_plant(folder: Path, scenario: str) -> AsyncIterator[Plant]:
    pki = make_pki(folder / "pki")
    pki.issue("gateway", common_name="chongqing/plant-1")
    async with start_broker(folder / "broker", pki, kind="mosquitto") as broker, serve(scenario) as devices:
        (folder / "secrets").mkdir()
        for name, text in devices.secrets.items():
            (folder / "secrets" / name).touch(0o600)
            (folder / "secrets" / name).write_text(text)
        uplink = {"mqtt": broker.url, "identity": "pki/gateway.pem", "ca": "pki/ca.pem", "latency": "200ms"}
        uplink["seal_to"] = "pki/brain.pub"
        settings = {"site": "chongqing/plant-1", "devices": devices.configuration, "uplink": uplink}
        (folder / "plant.yaml").write_text(json.dumps(settings, ensure_ascii=False), "utf-8")
        plant = Plant(folder, broker, pki)
        plant.broker = broker  # type: ignore[attr-defined]
        plant.devices = devices  # type: ignore[attr-defined]
        try:
            yield plant
        finally:
            await plant.close()


def durable(data_dir: Path) -> int:
    """Rows that are in the agent's log by its own tables; read-only, beside the running agent."""
    db = sqlite3.connect(f"{(data_dir / 'log.sqlite3').absolute().as_uri()}?mode=ro", uri=True)
    try:
        return int(db.execute("SELECT ifnull(sum(rows), 0) FROM segment WHERE kind < 4").fetchone()[0])
    finally:
        db.close()


@pytest.mark.timeout(180)
async def test_every_value_is_accounted_for_through_kills_of_broker_agent_and_receiver(plant: Plant) -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    chance = random.Random(seed)
    broker: Broker = plant.broker  # type: ignore[attr-defined]
    await plant.start("receive")
    await plant.start("run")
    await plant.until_connected(4)
    before_kill: list[int] = []
    for victim in ("broker", "run", "receive", "run", "broker"):
        await asyncio.sleep(chance.uniform(0.3, 1.2))  # the instant of death is this test's random input
        if victim == "broker":
            await broker.kill()
            await broker.start()
            continue
        if victim == "run":
            before_kill.append(durable(plant.data_dir))
        await plant.end(victim, signal.SIGKILL)
        await plant.start(victim)
        if victim == "run":
            await plant.until_connected(4)
            assert durable(plant.data_dir) >= before_kill[-1]
    await asyncio.sleep(1)
    assert await plant.end("run", signal.SIGTERM) == 0
    in_log: Counter[tuple[Any, ...]] = await logged(plant.data_dir)
    # What the last drain could not confirm goes out at the next start: deliver all of it before counting.
    await plant.start("run")
    await plant.until_connected(4)
    await until(lambda: not in_log - plant.account.stored(), 60)
    assert await plant.end("run", signal.SIGTERM) == 0
    final = await logged(plant.data_dir)
    stored = plant.account.stored()
    assert in_log.total() > 300
    assert not in_log - final
    assert not stored - final, "the brain holds something twice, or something that was never in the log"
    assert not in_log - stored, "something that was durable on the box never arrived"
    assert max(stored.values()) == max(final.values())


@pytest.mark.timeout(90)
async def test_a_lost_device_is_told_with_its_reason_and_harms_no_other(plant: Plant) -> None:
    await plant.start("receive")
    await plant.start("run")
    await plant.until_connected(4)
    line = plant.devices.lines["plc-1"]  # type: ignore[attr-defined]
    line.refuse()
    line.cut()

    async def device(name: str) -> dict[str, Any]:
        return next(d for d in (await plant.status())["devices"] if d["name"] == name)

    async with asyncio.timeout(20):
        while (await device("plc-1"))["state"] != "lost":
            await asyncio.sleep(0.05)
    assert (await device("plc-1"))["reason"]
    others = (await device("cnc-07"))["values_read"]
    async with asyncio.timeout(20):
        while (await device("cnc-07"))["values_read"] <= others:
            await asyncio.sleep(0.05)
    line.heal()
    await plant.until_connected(4)
    events = [event["kind"] for event in (await plant.status())["events"] if event["source"] == "plc-1"]
    assert events[-3:] == ["device_connected", "device_lost", "device_returned"]
    assert await plant.end("run", signal.SIGTERM) == 0


@pytest.mark.timeout(90)
async def test_a_changed_configuration_restarts_only_what_changed_and_a_wrong_one_nothing(plant: Plant) -> None:
    await plant.start("run")
    await plant.until_connected(4)
    config = plant.folder / "plant.yaml"
    settings = json.loads(config.read_text("utf-8"))
    config.write_text("site: [", "utf-8")
    plant._processes["run"].send_signal(signal.SIGHUP)
    log = plant.folder / "run.log"
    await until(lambda: "goes on with the old one" in log.read_text("utf-8"))
    del settings["devices"]["plc-1"]
    config.write_text(json.dumps(settings, ensure_ascii=False), "utf-8")
    plant._processes["run"].send_signal(signal.SIGHUP)
    async with asyncio.timeout(20):
        while {device["name"] for device in (await plant.status())["devices"]} != {"pump-3", "incomer", "cnc-07"}:
            await asyncio.sleep(0.05)
    assert all(device["state"] == "connected" for device in (await plant.status())["devices"])
    assert await plant.end("run", signal.SIGTERM) == 0


@pytest.mark.timeout(120)
@pytest.mark.parametrize("broker", ["mosquitto", "nats"])
async def test_the_demo_delivers_everything_once(tmp_path: Path, broker: str, program: Callable[[str], str]) -> None:
    if broker == "mosquitto":
        program("mosquitto")
    report = tmp_path / "demo.json"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "edge.agent.cli", "demo", "--duration", "4", "--broker", broker, "--json", report),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    assert process.returncode == 0, output.decode() + errors.decode()
    summary = json.loads(report.read_text("utf-8"))
    assert {device["name"]: device["security"] for device in summary["devices"]} == {
        "cnc-07": "sign+encrypt",
        "plc-1": "none",
        "pump-3": "none",
        "incomer": "none",
    }
    assert all(device["values_read"] > 0 for device in summary["devices"])
    assert summary["values_read"] == summary["values_delivered"] > 100
    assert summary["values_lost"] == summary["values_duplicated"] == 0
    assert summary["derived_tags"] == 4
    assert summary["values_derived"] > 0
    assert 10 < summary["rss_mb"]["worker"] < 180
    assert summary["uplink"]["mutual"] is True
    assert summary["uplink"]["sealed"] is True
    assert summary["uplink"]["protocol"] == ("MQTT 5" if broker == "mosquitto" else "MQTT 3.1.1")
    assert 0 < summary["latency_ms"]["p50"] < 5000
