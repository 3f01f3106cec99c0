"""Several devices on one line: in turn, a dead one costs one probe, no answer is given to another's request."""

import asyncio
import time
from collections import Counter
from contextlib import AsyncExitStack
from typing import Any

import pytest

from drivers.api import Shared
from drivers.modbus import SPEC
from drivers.modbus.endpoint import parse_url
from drivers.modbus.line import PROBE_SHARE, Access, Line
from edge.core.clock import VirtualClock
from edge.core.errors import Disconnected
from simulators.modbus import Unit, serve_serial, serve_tcp
from tests.drivers.support import make_driver, read_rows

TIMEOUT_S = 0.1


def slave(number: int, count: int = 3) -> Unit:
    unit = Unit()
    unit.put("holding", 0, "u16", [100 * number + place for place in range(count)])
    return unit


def section(url: str, number: int, *places: int, **more: Any) -> dict[str, Any]:
    return {
        "modbus": url,
        "id": number,
        "every": "5ms",
        "limits": {"timeout": f"{TIMEOUT_S * 1e3:.0f}ms", "gap": 0},
        "tags": {f"w{place}": {"at": f"holding/{place}"} for place in places},
        **more,
    }


async def test_a_greedy_device_does_not_keep_the_line_from_a_modest_one() -> None:
    """One needs 40 requests a poll, the other one; the line gives them turns."""
    units = {1: slave(1, 80), 2: slave(2)}
    shared = Shared()
    async with serve_serial(units, baud=0) as bus, AsyncExitStack() as closing:
        for unit in units.values():
            unit.delay_s = 0.002
        greedy, names = make_driver(SPEC, section(bus.url, 1, *range(0, 80, 2)), shared=shared)
        modest, modest_names = make_driver(SPEC, section(bus.url, 2, 0), shared=shared)
        first = await closing.enter_async_context(greedy.connect())
        second = await closing.enter_async_context(modest.connect())

        async def often() -> None:
            while True:
                await read_rows(second, modest_names)

        polling = asyncio.create_task(often())
        before = len(bus.requests)
        await read_rows(first, names)
        polling.cancel()
        await asyncio.wait([polling])
        asked = Counter(unit for unit, *_ in bus.requests[before:])
    assert asked[2] >= 10, "it had its turn between the other's requests"


async def test_a_dead_unit_is_probed_once_in_a_growing_pause_and_costs_a_tenth_of_the_line() -> None:
    units = {1: slave(1), 2: slave(2)}
    shared = Shared()
    async with serve_serial(units, baud=0) as bus, AsyncExitStack() as closing:
        alive, names = make_driver(SPEC, section(bus.url, 1, 0), shared=shared)
        dead, dead_names = make_driver(SPEC, section(bus.url, 2, 0), shared=shared)
        first = await closing.enter_async_context(alive.connect())
        async with dead.connect() as session:
            await read_rows(session, dead_names)
            units[2].silent = True
            with pytest.raises(Disconnected, match="does not answer"):
                await read_rows(session, dead_names)
        before = len(bus.requests)
        began = time.monotonic()
        refused = 0
        while time.monotonic() - began < 1.0:
            await read_rows(first, names)
            with pytest.raises(Disconnected):
                async with dead.connect():
                    pass
            refused += 1
        probes = sum(unit == 2 for unit, *_ in bus.requests[before:])
        assert refused > 20, "refusing costs nothing"
        assert 1 <= probes <= 1 + 1.0 * PROBE_SHARE / TIMEOUT_S
        units[2].silent = False
        async with asyncio.timeout(10):
            while True:
                try:
                    async with dead.connect() as session:
                        assert (await read_rows(session, dead_names))["w0"][:2] == (200, 0)
                        break
                except Disconnected:
                    await read_rows(first, names)


async def test_a_silent_unit_silences_no_other_with_its_number_elsewhere() -> None:
    silent, well = slave(1), slave(1)
    silent.silent = True
    shared = Shared()
    async with serve_tcp({1: silent}) as one, serve_tcp({1: well}) as other:
        lost, _ = make_driver(SPEC, section(one.url, 1, 0), shared=shared)
        read, names = make_driver(SPEC, section(other.url, 1, 0), shared=shared)
        for _ in range(3):
            with pytest.raises(Disconnected, match="does not answer"):
                async with lost.connect():
                    pass
        async with read.connect() as session:
            assert (await read_rows(session, names))["w0"][:2] == (100, 0)


async def test_when_one_silent_unit_answers_all_others_may_try_at_once() -> None:
    endpoint = parse_url("tcp://127.0.0.1:1")
    assert endpoint is not None
    clock = VirtualClock()
    line = Line(Access(endpoint), clock, Shared())
    line._users = 3
    for unit in (1, 2, 3):
        line.note_silence(unit, 1.0)
    with pytest.raises(Disconnected, match="unit 3 is silent"):
        line.check(3)
    await clock.advance(9.1)
    for unit in (1, 2, 3):
        line.check(unit)
    line.note_silence(1, 1.0)
    with pytest.raises(Disconnected, match="asked again"):
        line.check(2)  # the line has lost its share of time to unit 1
    await clock.advance(9.1)
    line._answered(1)
    line.check(1)
    line.check(2)


async def test_a_lonely_device_is_not_made_to_wait() -> None:
    unit = slave(1)
    async with serve_tcp({1: unit}) as server:
        driver, names = make_driver(SPEC, section(server.url, 1, 0))
        unit.silent = True
        for _ in range(2):
            with pytest.raises(Disconnected, match="does not answer"):
                async with driver.connect():
                    pass
        unit.silent = False
        async with driver.connect() as session:
            assert (await read_rows(session, names))["w0"][0] == 100


async def test_behind_a_gateway_a_late_unit_does_not_cost_the_others_their_connection() -> None:
    units = {1: slave(1), 2: slave(2)}
    shared = Shared()
    async with serve_tcp(units) as server, AsyncExitStack() as closing:
        opened = 0
        sessions = {}
        for number in units:
            driver, names = make_driver(SPEC, section(server.url, number, 0), shared=shared)
            sessions[number] = (await closing.enter_async_context(driver.connect()), names)
        connections = set(server._writers)
        units[2].silent = True
        with pytest.raises(Disconnected):
            await asyncio.gather(*(read_rows(*sessions[2]), read_rows(*sessions[1])))
        for _ in range(3):
            assert (await read_rows(*sessions[1]))["w0"][:2] == (100, 0)
        assert set(server._writers) == connections
        assert opened == 0


async def test_who_waits_for_a_line_that_is_refused_is_refused_with_it() -> None:
    """30 devices behind a dead gateway do not wait one after the other."""
    shared = Shared()
    drivers = [make_driver(SPEC, section("tcp://127.0.0.1:1", number, 0), shared=shared)[0] for number in range(1, 31)]

    async def try_it(driver: Any) -> str:
        with pytest.raises(Disconnected) as refused:
            async with driver.connect():
                pass
        return refused.value.message

    began = time.monotonic()
    assert len(set(await asyncio.gather(*map(try_it, drivers)))) == 1
    assert time.monotonic() - began < 2
    assert not shared


async def test_an_overloaded_device_sheds_its_slow_groups_first_and_counts_it() -> None:
    unit = slave(1, 100)
    unit.delay_s = 0.01
    tags = {"fast": {"at": "holding/0", "every": "40ms"}}
    tags |= {f"slow{place}": {"at": f"holding/{place}", "every": "60ms"} for place in range(2, 40, 2)}
    async with serve_tcp({1: unit}) as server:
        driver, names = make_driver(SPEC, section(server.url, 1, tags=tags))
        async with driver.connect() as session:
            fast = slow = 0
            async with asyncio.timeout(20):
                while slow < 4:
                    rows = await read_rows(session, names)
                    fast += "fast" in rows
                    slow += "slow2" in rows
        # 20 requests of 10 ms cannot be read every 60 ms; the fast tag keeps its pace between them.
        assert fast >= 4 * slow
        assert driver.counters["overruns_total"] >= 2 * slow  # type: ignore[attr-defined]


async def test_a_group_that_was_shed_three_times_is_let_through() -> None:
    unit = slave(1, 100)
    unit.delay_s = 0.02
    tags = {"fast": {"at": "holding/0", "every": "10ms"}, "slow": {"at": "holding/50", "every": "50ms"}}
    async with serve_tcp({1: unit}) as server:
        driver, names = make_driver(SPEC, section(server.url, 1, tags=tags))
        async with driver.connect() as session:
            seen: Counter[str] = Counter()
            for _ in range(40):
                seen.update(list(await read_rows(session, names)))
    assert 3 <= seen["slow"] < seen["fast"]
