"""CPU a value of the whole way, Modbus device to broker, side by side with ThingsBoard Gateway and Node-RED.

All read the same simulated devices: 100 registers in one request, at the same pace. Ours also writes every value to its
durable log, seals it and sends it over mutual TLS, and a value counts only when the brain could open it and has
acknowledged it; the others send in the clear, without TLS, and a value counts when the broker has passed it on.
CPU is the time of the gateway's processes alone, user and system; what devices, broker and brain take of the machine's
cores is printed beside it, because where these fill up, they are what limits the rate.

What a gateway costs has two parts, one a second and one a value; both are fitted to our loads.
"""

import argparse
import asyncio
import contextlib
import json
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import psutil

from benchmarks.peers import gateways
from edge.core.errors import Disconnected
from simulators.broker import Broker, find_mosquitto, free_port, start_broker
from simulators.pki import Pki, make_pki
from uplink.encode import decode
from uplink.keys import make_key, read_private, write_key
from uplink.seal import Opener
from uplink.session import Access, MqttSession, Received, open_session

LIMITS_ASKED = "v1/devices/me/rpc/request/"
NO_LIMITS = {"maxPayloadSize": 65_536, "maxInflightMessages": 100, "rateLimits": {}, "gatewayRateLimits": {}}
"""What ThingsBoard answers a gateway before that sends anything."""

LOADS = {
    "yulink": [(50, 1000), (100, 100), (300, 100)],
    "thingsboard": [(50, 1000)],
    "node-red": [(50, 1000), (100, 100)],
}
"""Devices of 100 registers, and milliseconds between reads: 5,000, 100,000 and 300,000 values a second."""

WARM_UP_S, WINDOW_S = 12.0, 15.0
START_S = 90.0


Start: TypeAlias = Callable[[Path, list[int], int, int], "subprocess.Popen[bytes]"]


class Count:
    """Values that arrived."""

    def __init__(self) -> None:
        self.values = 0


@dataclass(frozen=True, slots=True)
class Cost:
    """Values delivered a second, and the share of a core that the gateway took for them."""

    values_s: float
    cpu_share: float

    @property
    def us_a_value(self) -> float:
        """Microseconds of CPU a value delivered."""
        return self.cpu_share / max(self.values_s, 1.0) * 1e6


Counting: TypeAlias = Callable[[Count], Coroutine[Any, Any, None]]


async def open_and_acknowledge(session: MqttSession, opener: Opener, count: Count) -> None:
    """Be the smallest brain: open, count, acknowledge. Nothing is stored, so that the gateway is what is measured."""
    topic = f"v1/{gateways.SITE}"
    highest: dict[int, int] = {}
    while True:
        message: Received = await session.received.get()
        session.acknowledge(message)
        if message.topic == f"{topic}/key":
            opener.learn(message.topic, message.payload)
        if not message.topic.startswith((f"{topic}/data", f"{topic}/event")):
            continue
        batch = decode(opener.open(message.topic, message.payload).plain)
        count.values += sum(len(table.tags) * table.rows for table in batch.tables)
        highest[batch.epoch] = max(highest.get(batch.epoch, 0), batch.seq)
        answer = {"epoch": batch.epoch, "committed_through": highest[batch.epoch], "missing": []}
        if sealed := opener.seal_ack(gateways.SITE, f"{topic}/ack", json.dumps(answer).encode()):
            session.publish(f"{topic}/ack", sealed)


async def count_json(session: MqttSession, count: Count) -> None:
    """Count the values in what the peers publish."""
    while True:
        message = await session.received.get()
        session.acknowledge(message)
        if message.topic.startswith(LIMITS_ASKED):
            session.publish(message.topic.replace("request", "response"), json.dumps(NO_LIMITS).encode())
            continue
        content = json.loads(message.payload)
        if isinstance(content, list):
            count.values += len(content)
        elif isinstance(content, dict):
            rows = (row for rows in content.values() if isinstance(rows, list) for row in rows)
            count.values += sum(len(row.get("values", ())) for row in rows if isinstance(row, dict))


@asynccontextmanager
async def farm(devices: int) -> AsyncIterator[tuple[list[int], Callable[[], int]]]:
    """Simulated devices: their ports, and how many registers they have answered."""
    process = subprocess.Popen(  # noqa: ASYNC220 - asked and answered line by line, between measurements
        [sys.executable, "-m", "benchmarks.peers.farm", str(devices)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None

    def answered() -> int:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("\n")
        process.stdin.flush()
        return int(process.stdout.readline())

    try:
        yield json.loads(process.stdout.readline()), answered
    finally:
        process.stdin.close()
        process.stdout.close()
        process.wait(10)


def usage(process: "subprocess.Popen[bytes]") -> tuple[float, float]:
    """Return CPU seconds and resident megabytes of a process and its children."""
    root = psutil.Process(process.pid)
    family = [root, *root.children(recursive=True)]
    times = [each.cpu_times() for each in family]
    return sum(each.user + each.system for each in times), sum(each.memory_info().rss for each in family) / 1e6


def others(process: "subprocess.Popen[bytes]") -> dict[str, float]:
    """Return CPU seconds of what is no gateway: devices, broker, and the brain, which is this process."""
    spent = dict.fromkeys(("devices", "broker"), 0.0)
    for child in psutil.Process().children():
        if child.pid != process.pid:
            with contextlib.suppress(psutil.Error):
                times = child.cpu_times()
                spent["broker" if child.name() == "mosquitto" else "devices"] += times.user + times.system
    return spent | {"brain": time.process_time()}


async def measure(name: str, process: "subprocess.Popen[bytes]", count: Count, answered: Callable[[], int]) -> Cost:
    """Print a line and return what a second and a value cost."""
    async with asyncio.timeout(START_S):
        while not count.values:
            await asyncio.sleep(0.1)
            if process.poll() is not None:
                raise RuntimeError(f"{name} ended with {process.returncode}")
    await asyncio.sleep(WARM_UP_S)
    cpu, _ = usage(process)
    values, registers, beside, began = count.values, answered(), others(process), time.monotonic()
    await asyncio.sleep(WINDOW_S)
    cpu_after, rss = usage(process)
    delivered, read, beside_after = count.values - values, answered() - registers, others(process)
    seconds = time.monotonic() - began
    cost = Cost(delivered / seconds, (cpu_after - cpu) / seconds)
    shares = ", ".join(f"{who} {(beside_after[who] - spent) / seconds:.0%}" for who, spent in beside.items())
    print(
        f"{name:34s} {read / seconds:9,.0f} {cost.values_s:9,.0f} {cost.us_a_value:8.2f} "
        f"{cost.cpu_share * 100:6.0f} % {rss:6.0f}   {shares}",
        flush=True,
    )
    return cost


@asynccontextmanager
async def open_broker(folder: Path) -> AsyncIterator[int]:
    """A mosquitto in the clear that lets everybody in; yields its port."""
    port, config = free_port(), folder / "open.conf"
    config.write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous true\nset_tcp_nodelay true\n"
        "max_queued_messages 100000\nuser root\n"
    )
    broker = Broker("mosquitto", port, [find_mosquitto() or "mosquitto", "-c", str(config)], folder)
    await broker.start()
    try:
        yield port
    finally:
        await broker.stop()


async def peer(name: str, devices: int, every_ms: int, start: Start) -> Cost:
    """Measure a peer: plain MQTT, no TLS."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        async with (
            open_broker(path) as port,
            farm(devices) as (ports, answered),
            open_session(Access(f"mqtt://127.0.0.1:{port}", client_id="count"), ("5",)) as (session, _),
        ):
            await session.subscribe("v1/gateway/telemetry")
            await session.subscribe(f"{LIMITS_ASKED}+")
            await session.subscribe("nr/#")
            return await _run(
                name, start(path, ports, every_ms, port), answered, lambda count: count_json(session, count)
            )


async def ours(name: str, devices: int, every_ms: int) -> Cost:
    """Measure our agent."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        pki: Pki = make_pki(path / "pki")
        pki.issue("gateway", common_name=gateways.SITE)
        brain = pki.issue("brain")
        write_key(make_key(), path / "pki" / "brain.key", path / "pki" / "brain.pub")
        opener = Opener([read_private(path / "pki" / "brain.key")], pki.ca)
        async with (
            start_broker(path / "broker", pki, kind="mosquitto") as broker,
            farm(devices) as (ports, answered),
            open_session(Access(broker.url, pki.ca, brain, "brain"), ("5",)) as (session, _),
        ):
            await session.subscribe(f"v1/{gateways.SITE}/#")
            process = gateways.start_yulink(path, ports, every_ms, broker.port)
            return await _run(name, process, answered, lambda count: open_and_acknowledge(session, opener, count))


async def _run(name: str, process: "subprocess.Popen[bytes]", answered: Callable[[], int], counting: Counting) -> Cost:
    count = Count()
    task = asyncio.create_task(counting(count))
    try:
        return await measure(name, process, count, answered)
    finally:
        task.cancel()
        await asyncio.wait([task])
        process.kill()
        process.wait()


async def main() -> None:
    """Print the table and the ratios."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--only", choices=["yulink", "thingsboard", "node-red"], help="measure one of them")
    options.add_argument("--load", type=int, nargs=2, metavar=("DEVICES", "MS"), help="devices, and time between reads")
    given = options.parse_args()
    print(f"{'':34s} {'read/s':>9s} {'got/s':>9s} {'µs/value':>8s} {'core':>8s} {'MB':>6s}   cores beside it")
    await floor()
    costs: dict[tuple[str, int, int], Cost] = {}
    for which, loads in LOADS.items():
        if given.only not in (None, which):
            continue
        for devices, every_ms in [given.load] if given.load else loads:
            try:
                costs[which, devices, every_ms] = await one(which, devices, every_ms)
            except (OSError, RuntimeError, TimeoutError, Disconnected, subprocess.SubprocessError) as error:
                print(f"{which}, {devices} devices: not measured: {type(error).__name__} {error}")
    fit([cost for (which, *_), cost in costs.items() if which == "yulink"])
    for (which, *load), cost in costs.items():
        mine = costs.get(("yulink", load[0], load[1]))
        if which != "yulink" and mine:
            print(f"{which} / yulink, {load[0]} devices every {load[1]} ms: {cost.us_a_value / mine.us_a_value:.1f} x")


def fit(costs: Sequence[Cost]) -> None:
    """Print what our gateway costs a second, and what it costs a value."""
    if len(costs) < 2:
        return
    a_value, a_second = np.polyfit([cost.values_s for cost in costs], [cost.cpu_share for cost in costs], 1)
    print(f"yulink: {a_second * 1e3:.0f} ms of CPU a second, and {a_value * 1e6:.2f} µs a value (target 3 in all)")


async def floor() -> None:
    """Print what the same reads cost without any gateway: requests and answers on bare sockets, one after the other."""
    devices, turns = 50, 40
    request = struct.pack(">HHHBBHH", 1, 0, 6, 1, 3, 0, gateways.REGISTERS)
    async with farm(devices) as (ports, _):
        with contextlib.ExitStack() as closing:
            lines = [closing.enter_context(socket.create_connection(("127.0.0.1", port))) for port in ports]
            before = time.process_time()
            for _ in range(turns):
                for line in lines:
                    line.sendall(request)
                for line in lines:
                    line.recv(1024)
            spent = time.process_time() - before
    values = devices * turns * gateways.REGISTERS
    print(f"{'floor: send and recv alone':34s} {'':9s} {'':9s} {spent / values * 1e6:8.2f}")


async def one(which: str, devices: int, every_ms: int) -> Cost:
    """Measure one gateway at one load."""
    load = f"{devices} x {1000 / every_ms:g}/s"
    match which:
        case "thingsboard":
            gateways.install_thingsboard()
            return await peer(f"ThingsBoard Gateway, SQLite, {load}", devices, every_ms, gateways.start_thingsboard)
        case "node-red":
            gateways.install_node_red()
            return await peer(f"Node-RED, {load}", devices, every_ms, gateways.start_node_red)
        case _:
            return await ours(f"Yulink, log + seal + mTLS, {load}", devices, every_ms)


if __name__ == "__main__":
    asyncio.run(main())
