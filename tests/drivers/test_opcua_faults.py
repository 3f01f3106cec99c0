"""Faults of line and server, each against a real server: right values, their quality, bounded recovery, nothing leaked.

Another device, at another server, is read all the while and must not notice.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from drivers.opcua import SPEC, client, history, limits, session, structures, subscription, variables
from edge.core.quality import is_bad
from simulators.broker import free_port
from simulators.faults import FaultLine, fault_line
from simulators.opcua import SimulatedServer, Variable, serve_opcua
from tests.drivers.support import Follower, following

SPEED = Variable("ns=2;s=Speed", 0.0, "Double")
COUNT = Variable("ns=2;s=Count", 0, "UInt32")
BACK_S = 10.0
DEAD_S = 6.0


@pytest.fixture
def short_deadlines(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same judgements in less time: a second for an answer, half a second for silence."""
    for module in (client, history, limits, session, structures, subscription, variables):
        monkeypatch.setattr(module, "REQUEST_TIMEOUT_S", 1.0)
    monkeypatch.setattr(session, "QUIET_S", 0.5)


@dataclass
class Plant:
    """One device behind a line that can fail, and another one beside it."""

    server: SimulatedServer
    line: FaultLine
    device: Follower
    neighbour: Follower
    number: int = 0
    losses: int = 0

    async def step(self) -> None:
        """The machine goes on: speed and count change together."""
        self.number += 1
        await self.server.write(SPEED.node, float(self.number))
        await self.server.write(COUNT.node, self.number)

    async def current(self, within: float) -> float:
        """Wait until both tags are good and those of now; return how many seconds it took."""
        start = time.monotonic()
        wanted = {"speed": (float(self.number), 0), "count": (self.number, 0)}
        await self.device.until(lambda: self.device.last() == wanted, within)
        return time.monotonic() - start

    async def lost(self, within: float = DEAD_S) -> None:
        """Wait until the device is lost once more."""
        before = len(self.device.losses)
        await self.device.until(lambda: len(self.device.losses) > before, within)


@asynccontextmanager
async def plant(**more: Any) -> AsyncIterator[Plant]:
    async with serve_opcua([SPEED, COUNT]) as server, serve_opcua([SPEED, COUNT]) as beside:
        host, port = server.url.removeprefix("opc.tcp://").partition("/")[0].split(":")
        async with fault_line(host, int(port)) as line:
            tags = {"speed": {"node": SPEED.node}, "count": {"node": COUNT.node}}
            common = {"every": "50ms", "tags": tags, **more}
            mine = {"opcua": f"opc.tcp://{line.host}:{line.port}/yulink", **common}
            async with following(SPEC, mine) as device, following(SPEC, {"opcua": beside.url, **common}) as other:
                here = Plant(server, line, device, other)
                await here.step()
                await here.current(BACK_S)
                await other.until(lambda: len(other.last()) == 2)
                here.losses = len(device.losses)
                tasks = len(asyncio.all_tasks())
                yield here
                await here.step()
                await here.current(BACK_S)
                # Nothing leaked: one connection, its tasks, its subscription, as before.
                await device.until(lambda: server.connections == 1 and server.subscriptions <= 1)
                assert len(asyncio.all_tasks()) <= tasks + 1
                assert not other.losses
                await beside.write(COUNT.node, 77)
                await other.until(lambda: other.last()["count"] == (77, 0))
        good = [(tag, value) for tag, value, quality, _ in device.rows if not is_bad(quality)]
        assert all(value == int(value) and 0 <= value <= here.number for _, value in good)


MODES = pytest.mark.parametrize("mode", ["subscribe", "poll"])


@MODES
async def test_refused(mode: str) -> None:
    async with plant(mode=mode) as here:
        here.line.refuse()
        here.line.cut()
        await here.lost()
        await here.lost()
        assert "does not answer" in here.device.losses[-1].message
        await here.step()
        here.line.heal()
        assert await here.current(BACK_S) < BACK_S


@MODES
async def test_cut_in_the_middle_of_a_frame(mode: str) -> None:
    async with plant(mode=mode) as here:
        for after in (3, 40):
            here.line.cut(after_bytes=after)
            await here.step()
            await here.lost()
            await here.current(BACK_S)


@MODES
@pytest.mark.usefixtures("short_deadlines")
async def test_frozen(mode: str) -> None:
    """A black hole: the sockets stay open and nothing comes."""
    async with plant(mode=mode) as here:
        here.line.freeze()
        await here.step()
        await here.lost()
        here.line.heal()
        await here.current(BACK_S)


@MODES
async def test_late(mode: str) -> None:
    """Late is not lost: values come, in their order, and no reconnection is needed. A session is opened late, too."""
    async with plant(mode=mode) as here:
        here.line.delay(0.2)
        for _ in range(2):
            await here.step()
            await here.current(BACK_S)
        assert len(here.device.losses) == here.losses
        here.line.cut()
        await here.lost()
        await here.step()
        await here.current(20.0)
        assert here.device.good("count") == sorted(here.device.good("count"))
        here.line.heal()


async def test_half_a_second_late() -> None:
    async with plant() as here:
        here.line.delay(0.5)
        for _ in range(2):
            await here.step()
            await here.current(BACK_S)
        assert len(here.device.losses) == here.losses
        here.line.heal()


@MODES
async def test_a_byte_at_a_time(mode: str) -> None:
    async with plant(mode=mode) as here:
        here.line.drip(0.0005)
        for _ in range(2):
            await here.step()
            await here.current(BACK_S)
        here.line.heal()
        assert len(here.device.losses) == here.losses


@MODES
@pytest.mark.usefixtures("short_deadlines")
async def test_garbage(mode: str) -> None:
    async with plant(mode=mode) as here:
        here.line.garbage()
        await here.step()
        await here.lost()
        here.line.heal()
        await here.current(BACK_S)


@MODES
async def test_bad_and_uncertain_values_keep_their_status(mode: str) -> None:
    async with plant(mode=mode) as here:
        for status in (0x808C0000, 0x40910000, 0x80340000, 0x80000000):
            await here.server.write(SPEED.node, float(here.number), status)
            await here.device.until(lambda status=status: here.device.last()["speed"][1] == status)  # type: ignore[misc]
            assert here.device.last()["count"] == (here.number, 0)
        assert len(here.device.losses) == here.losses


Kill = Callable[[SimulatedServer], Awaitable[None]]


@pytest.mark.parametrize(
    "kill",
    [
        lambda server: server.kill_sessions(),
        lambda server: server.kill_sessions(subscriptions=False),
        lambda server: server.kill_subscriptions(),
        lambda server: server.kill_subscriptions(told=True),
        lambda server: server.cut(),
    ],
    ids=["sessions", "sessions but not subscriptions", "subscriptions", "subscriptions, told", "connections"],
)
async def test_a_server_that_ends(kill: Kill) -> None:
    async with plant() as here:
        for _ in range(2):
            await kill(here.server)
            await here.step()
            await here.current(10.0)


@MODES
async def test_a_server_that_tells_another_address_than_its_own_is_read_at_the_one_configured(mode: str) -> None:
    """Behind address translation, or named after a host that the gateway cannot resolve; and it may change."""
    port = free_port()
    tags = {"speed": {"node": SPEED.node}}
    section = {"opcua": f"opc.tcp://127.0.0.1:{port}/yulink", "every": "50ms", "mode": mode, "tags": tags}
    async with following(SPEC, section) as device:
        for value, told in (
            (0.0, "opc.tcp://cnc-7.invalid:4840/elsewhere"),
            (9.0, "opc.tcp://10.255.255.1:4841/moved"),
        ):
            async with serve_opcua([Variable(SPEED.node, value, "Double")], port=port, told_url=told):
                await device.until(lambda value=value: device.last() == {"speed": (value, 0)}, BACK_S)  # type: ignore[misc]
