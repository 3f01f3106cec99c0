"""The chapters of the campaign: what harm each does. Each also makes sure that the harm was done."""

import asyncio
import random
import signal
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from simulators.broker import Broker
from tests.faults.stage import OPEN_RULES, Stage, many_machines, one_machine

DISK_MB = 24
MESSAGE_BYTES_MAX = 6000


async def kills(stage: Stage, chance: random.Random, count: int) -> None:
    """Agent, receiver and broker are killed at random instants, and started again at once."""
    for number in range(count):
        await asyncio.sleep(chance.uniform(0.02, 1.5))  # the instant is the random input of this campaign
        await stage.kill_any(chance)
        if number % 20 == 19:
            await stage.status()
            print(f"  {number + 1} kills", flush=True)


async def outage(stage: Stage, chance: random.Random) -> None:
    """The broker is away for 15 s; what grows old meanwhile is backlog."""
    await asyncio.sleep(2)
    await stage.broker.kill()
    await stage.until(lambda status: not status["uplink"]["connected"], "the uplink is away")
    await asyncio.sleep(15)
    await stage.broker.start()
    await asyncio.sleep(3)


async def frozen(stage: Stage, chance: random.Random) -> None:
    """Nothing passes for 30 s while the sockets stay open."""
    await asyncio.sleep(2)
    stage.line.freeze()
    await stage.until(lambda status: not status["uplink"]["connected"], "the dead link is noticed")
    await asyncio.sleep(30 - 15)
    stage.line.heal()
    await asyncio.sleep(3)


async def half_open(stage: Stage, chance: random.Random) -> None:
    """Three times the link freezes and then breaks without a word to the broker."""
    for _ in range(3):
        await asyncio.sleep(2)
        stage.line.freeze()
        await asyncio.sleep(3)
        stage.line.cut()
        stage.line.heal()
    await stage.until(lambda status: status["uplink"]["reconnects_total"] >= 3, "three reconnects")


async def slow_and_lossy(stage: Stage, chance: random.Random) -> None:
    """80 ms each way for 20 s; every twentieth piece waits 300 ms more, as TCP does for a lost packet."""
    stage.line.delay(0.08)
    stage.line.lose(0.05, 0.3, chance)
    await asyncio.sleep(20)
    assert stage.line.pieces_lost_total > 0


async def cut_frames(stage: Stage, chance: random.Random) -> None:
    """Twelve times the link breaks in the middle of an answer: of the handshake, of a PUBACK, of an acknowledgement."""
    for cuts in range(1, 13):
        await asyncio.sleep(chance.uniform(0.1, 0.8))
        stage.line.cut(after_bytes=chance.randint(1, 6000))
        async with asyncio.timeout(60):
            while stage.line.frames_cut_total < cuts:
                await asyncio.sleep(0.05)


async def forgetful_broker(stage: Stage, chance: random.Random) -> None:
    """The brain is away; the broker takes messages, dies and forgets them; then both come back."""
    await stage.end("receive", signal.SIGKILL)
    await asyncio.sleep(5)
    await stage.restart_broker()
    await stage.start("receive")
    await stage.until(lambda status: status["uplink"]["reconnects_total"] >= 1, "a reconnect")
    await asyncio.sleep(2)


async def denied_topic(stage: Stage, chance: random.Random) -> None:
    """For six seconds the broker's rules deny the gateway its topics."""
    acl = stage.folder / "broker" / "acl"
    acl.write_text("user brain\ntopic readwrite v1/#\n")
    await stage.restart_broker()
    await stage.until(lambda status: "refuse" in status["uplink"]["last_error"], "the broker refuses")
    await asyncio.sleep(6)
    acl.write_text(OPEN_RULES)
    await stage.restart_broker()
    await asyncio.sleep(2)


async def oversize(stage: Stage, chance: random.Random, *, announced: bool) -> None:
    """After an outage of 12 s the broker takes messages of 6 kB at most: the backlog's are larger."""
    broker = stage.broker
    await broker.kill()
    await asyncio.sleep(12)
    _limit(stage, broker, announced=announced)
    await broker.start()
    await stage.until(lambda status: status["uplink"]["splits_total"] > 0, "a message was split")
    await stage.until(lambda status: status["backlog"]["rows"] < 1000, "the backlog is gone")


def _limit(stage: Stage, broker: Broker, *, announced: bool) -> None:
    config = stage.folder / "broker" / "mosquitto.conf"
    more = f"message_size_limit {MESSAGE_BYTES_MAX}\n"
    config.write_text(config.read_text() + more + (f"max_packet_size {MESSAGE_BYTES_MAX}\n" if announced else ""))


async def _fill(stage: Stage) -> Path:
    """Fill the agent's disk; return the file that does it, once the agent says that it cannot write."""
    ballast = stage.data / "ballast"

    def grow() -> None:
        with suppress(OSError), ballast.open("ab", buffering=0) as file:
            while True:
                file.write(bytes(4096))

    while (await stage.status())["log"]["writable"]:  # the log still has room of its own inside its files
        grow()
        await asyncio.sleep(0.2)
    return ballast


async def log_full(stage: Stage, chance: random.Random) -> None:
    """The broker is away for longer than the log has room: the oldest readings go, and the brain is told of each."""
    await asyncio.sleep(2)
    await stage.broker.kill()
    await stage.until(lambda status: status["log"]["rows_dropped_total"] > 2000, "rows are dropped", 120)
    await stage.broker.start()
    await stage.until(lambda status: status["backlog"]["rows"] < 1000, "the backlog is gone")


async def disk_full(stage: Stage, chance: random.Random) -> None:
    """Something else fills the agent's disk to the last byte for ten seconds."""
    ballast = await _fill(stage)
    await asyncio.sleep(10)
    ballast.unlink()
    await stage.until(lambda status: status["log"]["writable"], "the log can be written again")


async def disk_full_and_killed(stage: Stage, chance: random.Random) -> None:
    """The disk is full, and the agent is killed and started on it five times, then there is room again."""
    ballast = await _fill(stage)
    for _ in range(5):
        await asyncio.sleep(chance.uniform(0.2, 2.0))
        stage.kills["agent"] += 1
        await stage.kill("run")
    await asyncio.sleep(1)
    ballast.unlink()
    await stage.until(lambda status: status["log"]["writable"], "the log can be written")
    await asyncio.sleep(2)


async def writes_refused(stage: Stage, chance: random.Random) -> None:
    """For ten seconds the log's files refuse every write."""
    assert stage.disk is not None
    await asyncio.sleep(2)
    stage.disk.refuse_writes(refuse=True)
    await stage.until(lambda status: not status["log"]["writable"], "the log cannot be written")
    await asyncio.sleep(10)
    stage.disk.refuse_writes(refuse=False)
    await stage.until(lambda status: status["log"]["writable"], "the log can be written again")
    await asyncio.sleep(2)


async def read_only(stage: Stage, chance: random.Random) -> None:
    """The file system goes read-only after an error; ten seconds later an operator repairs it.

    That cannot be done under a running agent. It is stopped in order, which tells how many rows still waited.
    """
    assert stage.disk is not None
    await asyncio.sleep(2)
    stage.disk.fail()
    await stage.until(lambda status: not status["log"]["writable"], "the log cannot be written")
    await asyncio.sleep(10)
    await stage.status()
    stage.kills["agent"] += 1
    await stage.end("run", signal.SIGTERM)
    stage.disk.repair()
    await stage.start("run")
    await stage.status()
    await asyncio.sleep(2)


@dataclass(frozen=True, slots=True)
class Chapter:
    """A harm, the stage it is done on, and whether it needs a file system of its own.

    `memory_s`: readings of so many seconds may be in memory when the agent is ended: the commit interval and the commit
    under way, or as long as the disk refused to write.
    """

    title: str
    harm: Callable[[Stage, random.Random], Awaitable[None]]
    stage: Callable[[], AbstractAsyncContextManager[Stage]] = one_machine
    with_disk: bool = False
    memory_s: float = 1.0


def chapters(kills_wanted: int) -> list[Chapter]:
    """Return the campaign. A quarter as many kills as on one machine are made beyond it."""
    on_small_disk = partial(one_machine, disk_mb=DISK_MB)
    return [
        Chapter("random kills", partial(kills, count=kills_wanted)),
        Chapter("random kills, brain beyond one machine", partial(kills, count=kills_wanted // 4), many_machines),
        Chapter(
            "random kills, analytics at work",
            partial(kills, count=kills_wanted // 4),
            partial(one_machine, derives=True),
        ),
        Chapter("outage, 15 s", outage),
        Chapter("frozen link, 30 s", frozen),
        Chapter("half-open link, three times", half_open),
        Chapter("80 ms and 5 % loss, 20 s", slow_and_lossy),
        Chapter("link cut in a frame, 12 times", cut_frames),
        Chapter("broker without memory", forgetful_broker),
        Chapter("denied topic, 6 s", denied_topic),
        Chapter("oversize, the broker says so", partial(oversize, announced=True)),
        Chapter("oversize, the broker only refuses", partial(oversize, announced=False)),
        Chapter("log full in an outage", log_full, partial(one_machine, log_max="400 KB")),
        Chapter("disk full, 10 s", disk_full, on_small_disk, with_disk=True),
        Chapter("disk full, agent killed on it", disk_full_and_killed, on_small_disk, with_disk=True, memory_s=4.0),
        Chapter("disk refuses writes, 10 s", writes_refused, on_small_disk, with_disk=True),
        Chapter("file system read-only, 10 s, repaired", read_only, on_small_disk, with_disk=True, memory_s=30.0),
    ]
