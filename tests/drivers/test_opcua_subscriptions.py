"""Subscriptions fit the server: whatever it limits or refuses, each tag is right or says what is wrong with it."""

import itertools
from typing import Any

import pytest
from asyncua import ua
from asyncua.client.ua_client import UaClient

from drivers.opcua import SPEC
from edge.core.quality import is_bad
from simulators.opcua import SimulatedServer, Variable, serve_opcua
from simulators.opcua_manners import Manners
from tests.drivers.support import following

UNKNOWN = 0x80340000
SPEED = Variable("ns=2;s=Speed", 1480.5, "Double")


def settings(server: SimulatedServer, tags: Any, **more: Any) -> dict[str, Any]:
    return {"opcua": server.url, "every": "50ms", "tags": tags, **more}


def speed(**more: Any) -> dict[str, Any]:
    return {"speed": {"node": SPEED.node, **more}}


@pytest.mark.parametrize("mode", ["subscribe", "poll"])
@pytest.mark.parametrize(
    ("per_call", "stated", "count"),
    [(1, 1, 40), (1, 0, 40), (200, 200, 230), (200, 0, 230), (1000, 0, 1100), (0, 0, 230)],
)
async def test_every_name_has_its_own_value_whatever_a_call_may_hold(
    mode: str, per_call: int, stated: int, count: int
) -> None:
    """Also where the server does not state its limit, and where 0 says that there is none."""
    variables = [Variable(f"ns=2;s=n{number}", number, "Int32") for number in range(count)]
    async with serve_opcua(variables, manners=Manners(per_call=per_call, stated=stated)) as server:
        tags = {f"t{number}": {"node": f"ns=2;s=n{number}"} for number in range(count)}
        tags["nowhere"] = {"node": "ns=2;s=nowhere"}
        changed = (0, count // 2, count - 1)
        async with following(SPEC, settings(server, tags, mode=mode, every="200ms")) as device:
            await device.until(lambda: len(device.last()) == count + 1)
            assert device.last()["nowhere"][1] == UNKNOWN
            assert all(device.last()[f"t{number}"] == (number, 0) for number in range(count))
            for number in changed:
                await server.write(f"ns=2;s=n{number}", -number - 1)
            await device.until(lambda: all(device.last()[f"t{n}"][0] == -n - 1 for n in changed))
            assert {name: value for name, (value, quality) in device.last().items() if not is_bad(quality)} == {
                f"t{n}": -n - 1 if n in changed else n for n in range(count)
            }
            assert not device.losses


async def test_a_node_that_is_not_there_harms_no_other_and_is_taken_up_when_it_comes() -> None:
    async with serve_opcua([SPEED]) as server:
        tags = {**speed(), "late": {"node": "ns=2;s=Late"}, "by_path": {"node": "/Objects/Cnc/Load"}}
        async with following(SPEC, settings(server, tags)) as device:
            await device.until(lambda: len(device.last()) == 3)
            assert device.last()["speed"] == (1480.5, 0)
            assert device.last()["late"][1] == device.last()["by_path"][1] == UNKNOWN
            assert device.counters["refused_items"] == 2
            await server.add(Variable("ns=2;s=Late", "法兰-7", "String"))
            await server.add(Variable("ns=2;i=77", 12, "UInt16", path="Cnc/Load"))
            await device.until(lambda: device.last()["late"] == ("法兰-7", 0) and device.last()["by_path"] == (12, 0))
            await server.write("ns=2;s=Late", "法兰-8")
            await device.until(lambda: device.last()["late"] == ("法兰-8", 0))
            assert device.counters["refused_items"] == 0
            assert not device.losses


async def test_what_moves_to_another_node_id_is_found_again_under_its_path() -> None:
    async with serve_opcua([SPEED, Variable("ns=2;i=10", 5, "Int32", path="Cnc/Load")]) as server:
        tags = {**speed(), "load": {"node": "/Objects/Cnc/Load"}}
        async with following(SPEC, settings(server, tags, mode="poll")) as device:
            await device.until(lambda: device.last().get("load") == (5, 0))
            await server.remove("ns=2;i=10")
            await device.until(lambda: device.last()["load"][1] == UNKNOWN)
            await server.add(Variable("ns=2;i=11", 6, "Int32", path="Cnc/Load"))
            await device.until(lambda: device.last()["load"] == (6, 0))
            assert not device.losses


async def test_each_interval_has_its_subscription_where_the_server_has_that_many() -> None:
    other = Variable("ns=2;s=Other", 1, "Int32")
    for allowed in (100, 1):
        async with serve_opcua([SPEED, other], manners=Manners(subscriptions=allowed)) as server:
            tags = {**speed(every="50ms"), "other": {"node": other.node, "every": "100ms"}}
            async with following(SPEC, settings(server, tags)) as device:
                await device.until(lambda: len(device.last()) == 2)
                assert server.subscriptions == min(2, allowed)
                await server.write(SPEED.node, 1.0)
                await server.write(other.node, 2)
                await device.until(lambda: device.last() == {"speed": (1.0, 0), "other": (2, 0)})


async def test_what_the_server_has_no_room_to_monitor_is_polled() -> None:
    variables = [Variable(f"ns=2;s=n{number}", number, "Int32") for number in range(6)]
    async with serve_opcua(variables, manners=Manners(items=4)) as server:
        tags = {f"t{number}": {"node": f"ns=2;s=n{number}"} for number in range(6)}
        async with following(SPEC, settings(server, tags)) as device:
            await device.until(lambda: len(device.last()) == 6)
            assert device.counters["polled_items"] == 2
            for number in range(6):
                await server.write(f"ns=2;s=n{number}", 10 + number)
            await device.until(lambda: device.last() == {f"t{n}": (10 + n, 0) for n in range(6)})


async def test_a_poll_reads_the_nodes_that_the_server_has_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server answers with an id of its own, under which it has something else: so it shows which one is read."""
    prepared = Variable("ns=2;s=Prepared", 7.0, "Double")

    async def register(_: Any, nodes: list[ua.NodeId]) -> list[ua.NodeId]:
        return [ua.NodeId.from_string(prepared.node) if node.Identifier == "Speed" else node for node in nodes]

    monkeypatch.setattr(UaClient, "register_nodes", register)
    async with (
        serve_opcua([SPEED, prepared]) as server,
        following(SPEC, settings(server, speed(), mode="poll")) as device,
    ):
        await device.until(lambda: device.last().get("speed") == (7.0, 0))
        await server.write(prepared.node, 8.0)
        await device.until(lambda: device.last()["speed"] == (8.0, 0))


@pytest.mark.parametrize("able", [True, False])
async def test_a_dead_band_is_left_to_the_server_where_it_has_them(able: bool) -> None:
    async with (
        serve_opcua([SPEED], manners=Manners(dead_bands=able)) as server,
        following(SPEC, settings(server, speed(deadband=5))) as device,
    ):
        await device.until(lambda: device.good("speed") == [1480.5])
        for value in (1481.5, 1500.0):
            await server.write(SPEED.node, value)
        await device.until(lambda: device.good("speed")[-1] == 1500.0)
        assert device.good("speed") == ([1480.5, 1500.0] if able else [1480.5, 1481.5, 1500.0])


@pytest.mark.parametrize("mode", ["subscribe", "poll"])
async def test_a_heartbeat_repeats_what_does_not_change(mode: str) -> None:
    async with (
        serve_opcua([SPEED]) as server,
        following(SPEC, settings(server, speed(), mode=mode, heartbeat="200ms")) as device,
    ):
        await device.until(lambda: len(device.rows) >= 4)
    assert device.good("speed")[:4] == [1480.5] * 4
    times = [ts for *_, ts in device.rows[1:4]]
    assert all(150e6 < later - earlier < 3e9 for earlier, later in itertools.pairwise(times))


async def test_all_changes_between_two_publishes_come_in_their_order() -> None:
    async with (
        serve_opcua([SPEED]) as server,
        following(SPEC, settings(server, speed(queue=50), every="300ms")) as device,
    ):
        await device.until(lambda: len(device.rows) == 1)
        for number in range(40):
            await server.write(SPEED.node, float(number))
        await device.until(lambda: device.good("speed")[-1] == 39.0)
        assert device.good("speed") == [1480.5, *map(float, range(40))]
        assert device.counters["overflows_total"] == 0


@pytest.mark.parametrize("history", [True, False])
async def test_what_a_full_queue_dropped_is_counted_and_read_from_the_history(history: bool) -> None:
    async with serve_opcua([SPEED]) as server:
        await server.historize(SPEED.node)
        async with following(SPEC, settings(server, speed(queue=3), every="300ms", history=history)) as device:
            await device.until(lambda: len(device.rows) == 1)
            for number in range(20):
                await server.write(SPEED.node, float(number))
            await device.until(lambda: device.good("speed")[-1] == 19.0)
            await device.until(lambda: device.counters["overflows_total"] > 0)
            live = [value for _, value, quality, _ in device.rows if quality & 0x0C80 != 0x0400]
            if history:
                await device.until(lambda: sorted(set(device.good("speed"))) == [*map(float, range(20)), 1480.5])
                late = [value for _, value, quality, _ in device.rows if quality == 0x0400]
                assert not set(late) & set(live)
            else:
                assert device.good("speed") == live
