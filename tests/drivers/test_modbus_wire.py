"""Modbus against a slave that misbehaves: whatever comes over the wire, a value is right or marked bad."""

import asyncio
import time
from contextlib import AsyncExitStack, suppress
from typing import Any

import pytest

from drivers.api import Shared
from drivers.modbus import SPEC
from edge.core.errors import Disconnected
from edge.core.quality import StatusCode, is_bad
from simulators.modbus import Unit, Wrong, serve_serial, serve_tcp
from tests.drivers.support import make_driver, read_rows

GOOD = 0
TIMEOUT_MS = 100


def slave(*values: int, table: str = "holding") -> Unit:
    unit = Unit()
    unit.put(table, 0, "u16", list(values))
    return unit


def settings(url: str, tags: dict[str, Any], unit: int = 1, **limits: Any) -> dict[str, Any]:
    return {
        "modbus": url,
        "id": unit,
        "every": "20ms",
        "limits": {"timeout": f"{TIMEOUT_MS}ms", **limits},
        "tags": tags,
    }


def words(count: int) -> dict[str, Any]:
    return {f"w{place}": {"at": f"holding/{place}"} for place in range(count)}


@pytest.mark.parametrize("wrong", ["transaction", "unit", "function", "length", "truncate", "garbage"])
@pytest.mark.parametrize("framing", ["tcp", "rtu"])
async def test_an_answer_that_is_not_to_the_request_is_never_a_value(wrong: Wrong, framing: Any) -> None:
    if framing == "rtu" and wrong == "transaction":
        return  # RTU frames have no transaction id: there is nothing to be wrong
    unit = slave(11, 12, 13, 14)
    async with serve_tcp({1: unit}, framing=framing) as server:
        driver, catalogue = make_driver(SPEC, settings(server.url, words(4)))
        async with driver.connect() as session:
            assert {name: row[0] for name, row in (await read_rows(session, catalogue)).items()} == {
                "w0": 11, "w1": 12, "w2": 13, "w3": 14,
            }  # fmt: skip
            unit.wrong = wrong
            try:
                async with asyncio.timeout(5):
                    rows = await read_rows(session, catalogue)
            except Disconnected:
                pass
            else:
                assert all(is_bad(quality) for _, quality, _ in rows.values()), rows
        unit.wrong = None
        async with driver.connect() as session:
            assert (await read_rows(session, catalogue))["w3"][:2] == (14, GOOD)


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (1, StatusCode.BAD_NOT_SUPPORTED),
        (2, StatusCode.BAD_CONFIGURATION_ERROR),
        (3, StatusCode.BAD_OUT_OF_RANGE),
        (4, StatusCode.BAD_DEVICE_FAILURE),
        (6, StatusCode.BAD_RESOURCE_UNAVAILABLE),
        (11, StatusCode.BAD_NO_COMMUNICATION),
        (99, StatusCode.BAD_COMMUNICATION_ERROR),
    ],
)
async def test_an_exception_marks_the_values_of_its_request_only(code: int, status: StatusCode) -> None:
    unit = slave(1, 2)
    unit.put("input", 0, "u16", 7)
    unit.exceptions["input", 0] = code
    async with serve_tcp({1: unit}) as server:
        driver, catalogue = make_driver(SPEC, settings(server.url, {**words(2), "broken": {"at": "input/0"}}))
        async with driver.connect() as session:
            rows = await read_rows(session, catalogue)
    assert (rows["w0"][:2], rows["w1"][:2]) == ((1, GOOD), (2, GOOD))
    assert rows["broken"][1] == status


async def test_a_late_answer_is_never_given_to_the_next_request() -> None:
    """The answer to the first read comes while the second waits; the second must not take it."""
    unit = slave(5)
    async with serve_tcp({1: unit}) as server:
        driver, catalogue = make_driver(SPEC, settings(server.url, words(1)))
        async with driver.connect() as session:
            await read_rows(session, catalogue)
            unit.delay_s = TIMEOUT_MS / 1e3 * 1.5
            with pytest.raises(Disconnected):
                await read_rows(session, catalogue)
            unit.delay_s = 0
            unit.put("holding", 0, "u16", 6)
        async with driver.connect() as session:
            assert (await read_rows(session, catalogue))["w0"][:2] == (6, GOOD)


async def test_a_silent_device_on_a_bus_costs_the_others_one_time_out_at_most() -> None:
    units = {1: slave(1), 2: slave(2), 3: slave(3)}
    shared = Shared()
    async with serve_serial(units, baud=0) as bus, AsyncExitStack() as closing:
        sessions = {}
        for number in units:
            driver, catalogue = make_driver(SPEC, settings(bus.url, words(1), number), shared=shared)
            sessions[number] = (await closing.enter_async_context(driver.connect()), catalogue)
            assert (await read_rows(*sessions[number]))["w0"][0] == number
        units[2].silent = True

        async def poll(number: int, times: int) -> list[float]:
            waits = []
            for _ in range(times):
                began = time.monotonic()
                try:
                    assert (await read_rows(*sessions[number]))["w0"][:2] == (number, GOOD)
                except Disconnected:
                    assert number == 2
                waits.append(time.monotonic() - began)
            return waits

        one, _, three = await asyncio.gather(poll(1, 10), poll(2, 3), poll(3, 10))
        # A poll waits for its turn: the silent one's time-out, the other's exchange, its own; then scheduling noise.
        assert max(one + three) < 2.5 * TIMEOUT_MS / 1e3
        units[2].silent = False
        assert (await poll(2, 1))[0] < 5
    assert shared == {}, "the last device to leave closes the line"


async def test_devices_of_one_bus_never_get_each_others_values() -> None:
    units = {number: slave(*range(100 * number, 100 * number + 50)) for number in range(1, 5)}
    shared = Shared()
    async with serve_serial(units, baud=0) as bus, AsyncExitStack() as closing:

        async def poll(number: int) -> None:
            driver, catalogue = make_driver(SPEC, settings(bus.url, words(50), number), shared=shared)
            async with driver.connect() as session:
                for _ in range(10):
                    rows = await read_rows(session, catalogue)
                    assert [rows[f"w{place}"][0] for place in range(50)] == [100 * number + p for p in range(50)]

        await asyncio.gather(*map(poll, units))
        await closing.aclose()


async def test_cancelling_in_the_middle_of_a_request_leaves_the_line_usable() -> None:
    units = {1: slave(1), 2: slave(2)}
    shared = Shared()
    async with serve_serial(units, baud=0) as bus:
        first, first_names = make_driver(SPEC, settings(bus.url, words(1), 1), shared=shared)
        second, second_names = make_driver(SPEC, settings(bus.url, words(1), 2), shared=shared)
        async with first.connect() as session_1, second.connect() as session_2:
            await read_rows(session_1, first_names)
            units[1].delay_s = TIMEOUT_MS / 1e3 / 2
            requests = len(bus.requests)
            reading = asyncio.create_task(read_rows(session_1, first_names))
            async with asyncio.timeout(5):
                while len(bus.requests) == requests:
                    await asyncio.sleep(0.001)
            reading.cancel()
            await asyncio.wait([reading], timeout=2)
            assert reading.cancelled()
            units[1].delay_s = 0
            for _ in range(3):
                try:
                    assert (await read_rows(session_2, second_names))["w0"][:2] == (2, GOOD)
                except Disconnected:
                    continue  # the answer to the cancelled request disturbed this one; it is no value
            assert (await read_rows(session_2, second_names))["w0"][:2] == (2, GOOD)


async def test_a_serial_port_that_is_not_there_is_named_with_what_to_do() -> None:
    driver, _ = make_driver(SPEC, settings("rtu:/dev/serial/by-id/usb-none?9600-8N1", words(1)))
    with pytest.raises(Disconnected, match="usb-none") as refused:
        async with driver.connect():
            pass
    assert "port" in refused.value.hint


async def test_every_interval_has_its_own_pace() -> None:
    unit = slave(1, 2)
    tags = {"quick": {"at": "holding/0", "every": "20ms"}, "slow": {"at": "holding/1", "every": "10s"}}
    async with serve_tcp({1: unit}) as server:
        driver, catalogue = make_driver(SPEC, settings(server.url, tags))
        async with driver.connect() as session:
            seen = [set(await read_rows(session, catalogue)) for _ in range(6)]
    assert seen.count({"quick"}) == 5
    assert seen.count({"slow"}) == 1


@pytest.mark.parametrize("framing", ["serial", "rtu", "tcp"])
@pytest.mark.parametrize("delay", [1.2, 1.7, 2.3, 3.4, 6.1])
async def test_a_device_that_is_always_late_never_gives_one_value_for_another(delay: float, framing: Any) -> None:
    """Three requests of one register each: on a serial line their answers differ in nothing but the value."""
    unit = slave(*range(100, 140))
    tags = {f"w{place}": {"at": f"holding/{place}"} for place in (0, 18, 36)}
    serving = serve_serial({1: unit}, baud=0) if framing == "serial" else serve_tcp({1: unit}, framing=framing)
    timeout_s = 0.03
    async with serving as server:
        section = settings(server.url, tags, timeout=f"{timeout_s * 1e3:.0f}ms", gap=0)
        driver, catalogue = make_driver(SPEC, section)

        async def live(seconds: float) -> int:
            good = 0
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                with suppress(Disconnected):
                    async with driver.connect() as session:
                        while time.monotonic() < until:
                            for name, (value, quality, _) in (await read_rows(session, catalogue)).items():
                                assert is_bad(quality) or value == 100 + int(name[1:])
                                good += not is_bad(quality)
                await asyncio.sleep(0.01)
            return good

        assert await live(0.2)
        unit.delay_s = delay * timeout_s
        await live(0.8)
        unit.delay_s = 0
        async with asyncio.timeout(5):
            while not await live(0.1):
                pass
