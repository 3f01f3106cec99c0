"""A connection that breaks loses nothing that the server kept; a server that is back is read again within seconds."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import groupby
from typing import Any

import pytest

from drivers.opcua import SPEC, watch
from simulators.broker import free_port
from simulators.faults import FaultLine, fault_line
from simulators.opcua import SimulatedServer, Variable, serve_opcua
from simulators.opcua_manners import Manners
from tests.drivers.support import Follower, following

SPEED = Variable("ns=2;s=Speed", 1480.5, "Double")
OTHER = Variable("ns=2;s=Other", 1, "Int32")
HISTORICAL = 0x400
BACK_S = 10.0


@asynccontextmanager
async def plant(
    manners: Manners | None = None, history: bool = False, **more: Any
) -> AsyncIterator[tuple[SimulatedServer, FaultLine, Follower]]:
    """A server, the line to it, and the device that has read it."""
    async with serve_opcua([SPEED, OTHER], manners=manners) as server:
        if history:
            await server.historize(SPEED.node)
        host, port = server.url.removeprefix("opc.tcp://").partition("/")[0].split(":")
        async with fault_line(host, int(port)) as line:
            tags = {"speed": {"node": SPEED.node, "queue": 100}, "other": {"node": OTHER.node, "every": "100ms"}}
            settings = {"opcua": f"opc.tcp://{line.host}:{line.port}/yulink", "every": "50ms", "tags": tags, **more}
            async with following(SPEC, settings) as device:
                await device.until(lambda: len(device.last()) == 2)
                yield server, line, device


async def outage(server: SimulatedServer, line: FaultLine, device: Follower, values: range) -> None:
    """Cut the line, let the machine go on, and mend the line."""
    losses = len(device.losses)
    line.refuse()
    line.cut()
    await device.until(lambda: len(device.losses) > losses)
    for value in values:
        await server.write(SPEED.node, float(value))
    line.heal()


async def test_what_changed_while_the_line_was_cut_comes_once_and_in_order() -> None:
    """The session is activated again on the new connection, with its subscriptions."""
    async with plant() as (server, line, device):
        await outage(server, line, device, range(20))
        await device.until(lambda: device.good("speed")[-1] == 19.0, within=BACK_S)
        assert device.good("speed") == [1480.5, *map(float, range(20))]
        assert device.counters["resumed_total"] == 1
        assert device.counters["lost_notifications_total"] == 0
        assert device.good("other")[-1] == 1  # has not changed and stands marked bad: it is told again


async def test_subscriptions_move_to_a_new_session_where_the_old_one_is_gone() -> None:
    async with plant(Manners()) as (server, line, device):
        line.refuse()
        line.cut()
        await device.until(lambda: bool(device.losses))
        for value in range(20):
            await server.write(SPEED.node, float(value))
        await server.kill_sessions(subscriptions=False)
        line.heal()
        await device.until(lambda: device.good("speed")[-1] == 19.0, within=BACK_S)
        assert device.good("speed") == [1480.5, *map(float, range(20))]
        assert device.counters["resumed_total"] == 1
        assert server.manners.calls["transfer"] == 1


@pytest.mark.parametrize("history", [True, False])
async def test_a_server_that_kept_nothing_is_asked_for_its_history(history: bool) -> None:
    async with plant(Manners(transfers=False), history=history) as (server, line, device):
        line.refuse()
        line.cut()
        await device.until(lambda: bool(device.losses))
        await server.kill_sessions()
        for value in range(20):
            await server.write(SPEED.node, float(value))
        line.heal()
        await device.until(lambda: 19.0 in device.good("speed"), within=BACK_S)
        assert device.counters["rebuilt_total"] == 1
        if history:
            await device.until(lambda: len(device.good("speed")) == 21)
            late = [value for tag, value, quality, _ in device.rows if quality == HISTORICAL]
            assert late == [*map(float, range(19))]
            assert device.counters["history_rows_total"] == 19
        else:
            assert device.good("speed") == [1480.5, 19.0]


async def test_a_long_gap_is_read_in_pages_beside_what_comes_live(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drivers.opcua.history.ROWS_PER_CALL", 7)
    async with plant(Manners(transfers=False), history=True) as (server, line, device):
        line.refuse()
        line.cut()
        await device.until(lambda: bool(device.losses))
        await server.kill_sessions()
        for value in range(50):
            await server.write(SPEED.node, float(value))
        line.heal()
        await device.until(lambda: len(set(device.good("speed"))) == 51)
        assert sorted(device.good("speed")) == [*map(float, range(50)), 1480.5]


async def test_a_message_cut_in_its_middle_is_fetched_again() -> None:
    async with plant() as (server, line, device):
        for number in range(3):
            line.cut(after_bytes=10 + 13 * number)
            for value in range(10):
                await server.write(SPEED.node, 10.0 * number + value)
            await device.until(lambda number=number: device.good("speed")[-1] == 10.0 * number + 9, within=BACK_S)  # type: ignore[misc]
        # What came just before the loss is told again after it.
        assert [value for value, _ in groupby(device.good("speed"))] == [1480.5, *map(float, range(30))]
        assert len(device.losses) == 3


@pytest.mark.parametrize("told", [True, False])
async def test_a_subscription_that_the_server_drops_is_made_anew(told: bool) -> None:
    async with plant() as (server, _, device):
        await server.kill_subscriptions(told=told)
        await server.write(SPEED.node, 7.0)
        await server.write(OTHER.node, 8)
        await device.until(lambda: device.last()["speed"] == (7.0, 0) and device.last()["other"] == (8, 0), within=10)
        await server.write(SPEED.node, 9.0)
        await device.until(lambda: device.last()["speed"] == (9.0, 0))
        assert server.subscriptions == 2


async def test_sessions_that_the_server_ends_are_made_anew() -> None:
    async with plant() as (server, _, device):
        await server.kill_sessions()
        await server.write(SPEED.node, 7.0)
        await device.until(lambda: device.last()["speed"] == (7.0, 0), within=BACK_S + 2)
        assert server.subscriptions == 2


@pytest.mark.parametrize("busy", [True, False])
async def test_a_subscription_that_only_keeps_alive_is_found_and_made_anew(
    monkeypatch: pytest.MonkeyPatch, busy: bool
) -> None:
    """Also while another subscription of the same server is busy. No value is missed meanwhile: it was read."""
    monkeypatch.setattr(watch, "DOUBT_S", 0.5)
    monkeypatch.setattr(watch, "GRACE_S", 0.3)
    async with plant() as (server, _, device):
        if busy:
            held = server.subscription_of(OTHER.node)
            held.delete_all_monitored_items()
        else:
            server.mute()
        stop = asyncio.Event()

        async def machine() -> None:
            value = 0
            while not stop.is_set():
                value += 1
                await server.write(SPEED.node, float(value))
                await asyncio.sleep(0.02)

        working = asyncio.create_task(machine()) if busy else None
        await server.write(OTHER.node, 5)
        await device.until(lambda: device.last()["other"] == (5, 0))
        await device.until(lambda: device.counters["dead_subscriptions_total"] == 1)
        await server.write(OTHER.node, 6)
        await device.until(lambda: device.last()["other"] == (6, 0))
        stop.set()
        if working is not None:
            await working
        assert len(device.losses) == 1
        assert server.subscriptions == 2  # the dead ones are not left with the server


async def test_a_healthy_quiet_subscription_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose values do not change, though a Read gives them each time with a new time."""
    monkeypatch.setattr(watch, "DOUBT_S", 0.2)
    monkeypatch.setattr(watch, "GRACE_S", 0.1)
    monkeypatch.setattr("drivers.opcua.session.QUIET_S", 0.1)
    async with plant() as (server, _, device):
        server.stamp_reads(SPEED.node)
        reads = server.manners.calls["read"]
        await device.until(lambda: server.manners.calls["read"] > reads + 10)
        assert not device.losses


async def test_a_server_that_comes_back_with_other_node_ids_is_read_by_its_paths() -> None:
    port = free_port()
    tags = {"load": {"node": "/Objects/Cnc/Load"}, "all": {"node": "/Objects/Cnc/Axes/*"}}
    settings = {"opcua": f"opc.tcp://127.0.0.1:{port}/yulink", "every": "50ms", "tags": tags}
    places = ("Cnc/Load", "Cnc/Axes/X", "Cnc/Axes/Y")
    async with following(SPEC, settings) as device:
        for ids, values in (((10, 11, 12), (1, 2, 3)), ((11, 12, 10), (10, 20, 30))):
            variables = [
                Variable(f"ns=2;i={node}", value, "Int32", path=path)
                for node, value, path in zip(ids, values, places, strict=True)
            ]
            async with serve_opcua(variables, port=port):
                wanted = dict(zip(("load", "all[X]", "all[Y]"), [(value, 0) for value in values], strict=True))
                await device.until(lambda wanted=wanted: device.last() == wanted, within=BACK_S)  # type: ignore[misc]
        assert (device.good("load"), device.good("all[X]")) == ([1, 10], [2, 20])
