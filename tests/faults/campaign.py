"""The fault campaign: `make faults`. Real processes, real faults, and an account of every value at the end of each.

Each chapter runs a plant → agent → (a line that can fail) → mosquitto → receiver, does its harm, heals, waits until the
brain holds everything, and compares three counts: what the simulated press answered, what the agent's log holds, and
what the brain stored. Lost may be only what was read in the commit interval before a kill; it is counted.
"""

import argparse
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
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from edge.agent.demo_account import Account, logged
from edge.agent.status import ask_status
from edge.core.errors import YulinkError
from simulators.broker import Broker, start_broker
from simulators.faults import FaultLine, fault_line
from simulators.modbus import Server, Unit, serve_tcp
from simulators.pki import Pki, make_pki
from uplink.keys import make_key, write_key

SITE = "chongqing/plant-1"
TAGS, EVERY_S = 50, 0.1
CATCH_UP_S = 120.0


class Stage:
    """A running plant whose agent and brain are processes."""

    def __init__(self, folder: Path, pki: Pki, broker: Broker, line: FaultLine, press: Server) -> None:
        self.folder, self.pki, self.broker, self.line, self.press = folder, pki, broker, line, press
        self.account = Account(folder / "brain.sqlite3")
        self.kills: Counter[str] = Counter()
        self._processes: dict[str, asyncio.subprocess.Process] = {}

    async def start(self, name: str) -> None:
        """Start "run" (the agent) or "receive" (the brain)."""
        arguments: dict[str, tuple[object, ...]] = {
            "run": ("plant.yaml", "--data-dir", "data"),
            "receive": (
                *("--mqtt", self.broker.url, "--ca", self.pki.ca, "--identity", self.folder / "pki" / "brain.pem"),
                *("--key", "pki/brain.key", "--store", "brain.sqlite3"),
            ),
        }
        with (self.folder / f"{name}.log").open("ab") as log:
            self._processes[name] = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "edge.agent.cli", name, *map(str, arguments[name])),
                cwd=self.folder,
                stdout=log,
                stderr=log,
                env=os.environ | {"LC_ALL": "C.UTF-8"},
            )

    async def kill(self, name: str) -> None:
        """Kill a process with SIGKILL and start it again."""
        self.kills[name] += 1
        if name == "broker":
            await self.broker.kill()
            await self.broker.start()
            return
        await self.end(name, signal.SIGKILL)
        await self.start(name)

    async def end(self, name: str, number: signal.Signals) -> int:
        """Send a signal and wait for the end."""
        process = self._processes.pop(name)
        process.send_signal(number)
        async with asyncio.timeout(20):
            return await process.wait()

    async def until_connected(self) -> None:
        """Wait until the agent reads its device."""
        async with asyncio.timeout(60):
            while True:
                try:
                    status = await ask_status(self.folder / "data")
                    if all(device["state"] == "connected" for device in status["devices"]):
                        return
                except YulinkError:
                    pass
                await asyncio.sleep(0.05)

    async def close(self) -> None:
        """End what still runs."""
        for name in list(self._processes):
            await self.end(name, signal.SIGKILL)


@asynccontextmanager
async def staged(acl: str | None = None) -> AsyncIterator[Stage]:
    """A running plant, agent and brain, until the block ends."""
    with tempfile.TemporaryDirectory(prefix="yulink-faults-") as name:
        folder = Path(name)
        pki = make_pki(folder / "pki")
        pki.issue("gateway", common_name=SITE)
        pki.issue("brain")
        write_key(make_key(), folder / "pki" / "brain.key", folder / "pki" / "brain.pub")
        unit = Unit()
        count = [0]

        def refresh() -> None:
            count[0] += 1
            unit.put("holding", 0, "u16", [(count[0] * 31 + tag) % 65_536 for tag in range(TAGS)])

        refresh()
        unit.refresh = refresh
        async with (
            start_broker(folder / "broker", pki, kind="mosquitto", acl=acl) as broker,
            fault_line(broker.host, broker.port) as line,
            serve_tcp({1: unit}) as press,
        ):
            tags = {f"t{number}": {"at": f"holding/{number}"} for number in range(TAGS)}
            uplink = {
                "mqtt": f"mqtts://localhost:{line.port}",
                "identity": "pki/gateway.pem",
                "ca": "pki/ca.pem",
                "seal_to": "pki/brain.pub",
                "latency": "200ms",
            }
            device = {"modbus": press.url, "every": f"{round(EVERY_S * 1e3)}ms", "tags": tags}
            (folder / "plant.yaml").write_text(
                json.dumps({"site": SITE, "devices": {"press": device}, "uplink": uplink})
            )
            stage = Stage(folder, pki, broker, line, press)
            try:
                await stage.start("receive")
                await stage.start("run")
                await stage.until_connected()
                yield stage
            finally:
                await stage.close()


async def settle(stage: Stage) -> dict[str, Any]:
    """Heal everything, deliver everything, and count."""
    stage.line.heal()
    await stage.until_connected()
    await asyncio.sleep(1)
    await stage.end("run", signal.SIGTERM)
    in_log = await logged(stage.folder / "data")
    if in_log - stage.account.stored():
        await stage.start("run")
        deadline = time.monotonic() + CATCH_UP_S
        while in_log - stage.account.stored() and time.monotonic() < deadline:
            await asyncio.sleep(0.5)
        await stage.end("run", signal.SIGTERM)
        in_log = await logged(stage.folder / "data")
    stored = stage.account.stored()
    answered = sum(count for _, _, _, count in stage.press.requests)
    return {
        "read": answered,
        "logged": in_log.total(),
        "uncommitted": answered - in_log.total(),
        "stored": stored.total(),
        "lost": (in_log - stored).total(),
        "twice": (stored - in_log).total(),
        "in order": in_order(stage.folder / "brain.sqlite3"),
    }


def in_order(store: Path) -> bool:
    """Tell whether in each epoch and class, by sequence number, no tag's time goes back."""
    db = sqlite3.connect(store)
    try:
        last: dict[tuple[Any, ...], int] = {}
        for epoch, historical, tag, ts in db.execute(
            "SELECT epoch, historical, tag, ts FROM sample JOIN message ON message.id = sample.message"
            " ORDER BY epoch, seq, sample.rowid"
        ):
            if ts < last.get((epoch, historical, tag), ts):
                return False
            last[epoch, historical, tag] = ts
        return True
    finally:
        db.close()


async def random_kills(stage: Stage, chance: random.Random, kills: int) -> None:
    """Kill agent, brain or broker at random instants."""
    for number in range(kills):
        await asyncio.sleep(chance.uniform(0.05, 1.0))  # the instant is the random input of this campaign
        await stage.kill(chance.choice(("run", "run", "receive", "broker")))
        if number % 20 == 19:
            await stage.until_connected()
            print(f"  {number + 1} kills", flush=True)


async def outage(stage: Stage, chance: random.Random, kills: int) -> None:
    """The broker is away for 15 s; what grows old meanwhile is backlog."""
    await asyncio.sleep(2)
    await stage.broker.kill()
    await asyncio.sleep(15)
    await stage.broker.start()
    await asyncio.sleep(3)


async def frozen(stage: Stage, chance: random.Random, kills: int) -> None:
    """Nothing passes for 30 s while the sockets stay open."""
    await asyncio.sleep(2)
    stage.line.freeze()
    await asyncio.sleep(30)


async def half_open(stage: Stage, chance: random.Random, kills: int) -> None:
    """Three times the link freezes and then breaks without a word to the broker."""
    for _ in range(3):
        await asyncio.sleep(2)
        stage.line.freeze()
        await asyncio.sleep(3)
        stage.line.cut()
        stage.line.heal()


async def slow_and_lossy(stage: Stage, chance: random.Random, kills: int) -> None:
    """80 ms each way; every twentieth piece waits 300 ms more, as TCP does for a lost packet."""
    stage.line.delay(0.08)
    for _ in range(100):
        stage.line.delay(0.38 if chance.random() < 0.05 else 0.08)
        await asyncio.sleep(0.15)


async def cut_frames(stage: Stage, chance: random.Random, kills: int) -> None:
    """Twenty times the link breaks in the middle of an answer."""
    for _ in range(20):
        await asyncio.sleep(chance.uniform(0.1, 0.8))
        stage.line.cut(after_bytes=chance.randint(1, 400))


async def forgetful_broker(stage: Stage, chance: random.Random, kills: int) -> None:
    """The brain is away, the broker takes messages, dies and forgets them; then both come back."""
    await stage.end("receive", signal.SIGKILL)
    await asyncio.sleep(5)
    await stage.broker.kill()
    await stage.broker.start()
    await stage.start("receive")
    await asyncio.sleep(2)


async def denied_topic(stage: Stage, chance: random.Random, kills: int) -> None:
    """For a while the broker's rules deny the gateway's topics."""
    acl = stage.folder / "broker" / "acl"
    rules = acl.read_text()
    acl.write_text("user brain\ntopic readwrite v1/#\n")
    await stage.broker.kill()
    await stage.broker.start()
    await asyncio.sleep(6)
    acl.write_text(rules)
    await stage.broker.kill()
    await stage.broker.start()
    await asyncio.sleep(2)


async def brain_killed(stage: Stage, chance: random.Random, kills: int) -> None:
    """Brain killed ten times in quick succession."""
    for _ in range(10):
        await asyncio.sleep(chance.uniform(0.3, 0.9))
        await stage.kill("receive")


Chapter = Callable[[Stage, random.Random, int], Awaitable[None]]
OPEN_RULES = "user brain\ntopic readwrite v1/#\npattern readwrite v1/%u/#\n"
CHAPTERS: dict[str, tuple[Chapter, str | None]] = {
    "random kills": (random_kills, None),
    "outage of 15 s": (outage, None),
    "frozen link, 30 s": (frozen, None),
    "half-open link": (half_open, None),
    "80 ms and 5 % loss": (slow_and_lossy, None),
    "link cut in a frame": (cut_frames, None),
    "broker forgets": (forgetful_broker, None),
    "denied topic": (denied_topic, OPEN_RULES),
    "brain killed": (brain_killed, None),
}


async def campaign(kills: int, seed: int, only: str | None) -> bool:
    """Run the chapters and print the table. Returns whether every account closes."""
    print(f"seed {seed}", flush=True)
    rows = []
    for name, (harm, acl) in CHAPTERS.items():
        if only and only not in name:
            continue
        began = time.monotonic()
        print(f"{name} …", flush=True)
        async with staged(acl) as stage:
            await harm(stage, random.Random(seed), kills)
            account = await settle(stage)
            rows.append((name, stage.kills.total(), time.monotonic() - began, account))
    heads = ("chapter", "kills", "s", "read", "uncommitted", "stored", "lost", "twice", "in order")
    print("| " + " | ".join(heads) + " |")
    print("|" + "---|" * len(heads))
    for name, killed, seconds, account in rows:
        cells = (name, killed, f"{seconds:.0f}", *(account[head] for head in heads[3:]))
        print("| " + " | ".join(f"{cell:,}" if type(cell) is int else str(cell) for cell in cells) + " |")
    return all(not account["lost"] and not account["twice"] and account["in order"] for *_, account in rows)


def main() -> None:
    """Run it; exit 1 when an account does not close."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    parser.add_argument("--only", help="chapters whose name holds this")
    arguments = parser.parse_args()
    sys.exit(not asyncio.run(campaign(arguments.kills, arguments.seed, arguments.only)))


if __name__ == "__main__":
    main()
