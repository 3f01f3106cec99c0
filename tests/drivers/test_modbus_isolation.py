"""One bad register spoils only itself: what a device refuses is found once, left out, told, and tried again."""

import asyncio

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drivers.modbus.image import Image
from drivers.modbus.known import Known, Search
from drivers.modbus.plan import Request, plan_requests
from drivers.modbus.section import Limits, ModbusSection
from edge.core.errors import Disconnected
from edge.core.quality import StatusCode, is_bad
from simulators.modbus import Unit
from tests.drivers.modbus import Rows, connected, full, good, words


@pytest.mark.parametrize(
    ("code", "status"), [(2, StatusCode.BAD_CONFIGURATION_ERROR), (3, StatusCode.BAD_OUT_OF_RANGE)]
)
async def test_a_refused_register_costs_itself_and_one_search(code: int, status: StatusCode) -> None:
    unit = full(100)
    unit.exceptions["holding", 37] = code
    async with connected(unit, words(100)) as device:
        for _ in range(2):
            rows = await device.poll()
            assert rows["w37"][1] == status
            assert good(rows) == {f"w{place}": 1000 + place for place in range(100) if place != 37}
        assert await device.asked() == [(1, 3, 0, 37), (1, 3, 38, 62)], "found once, then left out"
        (event,) = device.events
        assert (event.kind, event.facts["tags"]) == ("registers_refused", "w37")
        assert f"exception {code}" in event.message
        assert "exception" in device.session.raw()["w37"]
        assert device.driver.counters["registers_refused"] == 1


async def test_what_was_refused_is_tried_again_and_comes_back() -> None:
    unit = full(20)
    unit.exceptions["holding", 7] = 2
    async with connected(unit, words(20), retry="50ms") as device:
        assert is_bad((await device.poll())["w7"][1])
        for _ in range(30):  # the pause doubles, so the device is asked less and less
            await device.poll()
        tries = sum(request == (1, 3, 7, 1) for request in device.server.requests)
        assert 2 <= tries <= 6
        unit.exceptions.clear()
        async with asyncio.timeout(5):
            while is_bad((await device.poll())["w7"][1]):
                pass
        assert good(await device.poll())["w7"] == 1007
        assert await device.asked() == [(1, 3, 0, 20)], "and is read with the others again"
        assert device.events[-1].kind == "registers_returned"


async def test_a_gap_that_cannot_be_read_is_not_bridged() -> None:
    unit = full(10)
    unit.put("holding", 20, "u16", list(range(5)))
    tags = words(10) | {f"v{place}": {"at": f"holding/{20 + place}"} for place in range(5)}
    async with connected(unit, tags) as device:
        rows = await device.poll()
        assert not any(quality for _, quality in rows.values())
        assert await device.asked() == [(1, 3, 0, 10), (1, 3, 20, 5)]
        assert device.driver.known.registers_max == 125
        assert not device.driver.known.refused


@pytest.mark.parametrize("most", [1, 2, 9, 60, 100])
async def test_how_many_registers_a_device_takes_is_learned_exactly(most: int) -> None:
    unit = full(125)
    unit.registers_max = most
    async with connected(unit, words(125)) as device:
        rows: Rows = {}
        for _ in range(4):  # a search may go over several polls
            rows = await device.poll()
        assert len(good(rows)) == 125
        assert device.driver.known.registers_max == most
        assert len(await device.asked()) == -(-125 // most)
        assert any(event.kind == "limit_learned" and event.facts["registers"] == most for event in device.events)
    assert device.driver.known.registers_max == most, "and outlives the session"


async def test_a_device_of_single_registers_still_gives_wide_values() -> None:
    unit = Unit(registers_max=1)
    unit.put("holding", 0, "u32", 0xDEADBEEF)
    unit.put("holding", 2, "f64", 2.5)
    tags = {"a": {"at": "holding/0", "type": "u32"}, "b": {"at": "holding/2", "type": "f64"}}
    async with connected(unit, tags) as device:
        rows: Rows = {}
        for _ in range(3):
            rows = await device.poll()
        assert good(rows) == {"a": 0xDEADBEEF, "b": 2.5}


async def test_a_boundary_that_no_request_may_cross_is_learned() -> None:
    unit = full(60)
    unit.boundaries = {("holding", 10), ("holding", 40)}
    async with connected(unit, words(60)) as device:
        for _ in range(3):
            rows = await device.poll()
        assert len(good(rows)) == 60
        assert len(await device.asked()) <= 4


async def test_a_table_that_the_device_does_not_know_is_not_asked_again() -> None:
    unit = full(3)
    unit.put("coil", 0, "bool", [True] * 9)
    unit.unsupported.add("coil")
    tags = words(3) | {f"c{place}": {"at": f"coil/{place}"} for place in range(9)}
    async with connected(unit, tags) as device:
        rows = await device.poll()
        assert {quality for name, (_, quality) in rows.items() if name[0] == "c"} == {StatusCode.BAD_NOT_SUPPORTED}
        assert len(good(rows)) == 3
        assert await device.asked() == [(1, 3, 0, 3)]


async def test_a_register_answered_by_silence_does_not_make_the_device_dead() -> None:
    """The peer loses the device and every tag of it."""
    unit = full(6)
    unit.unanswered.add(("holding", 4))
    async with connected(unit, words(6)) as device:
        async with asyncio.timeout(10):
            while device.driver.known.cuts or not device.driver.known.refused:
                rows = await device.poll()
                assert all(is_bad(quality) or value == 1000 + int(name[1:]) for name, (value, quality) in rows.items())
        rows = await device.poll()
        assert rows["w4"][1] == StatusCode.BAD_TIMEOUT
        assert len(good(rows)) == 5
        assert (await device.asked()) == [(1, 3, 0, 4), (1, 3, 5, 1)]


async def test_a_busy_device_is_asked_again_within_the_poll() -> None:
    unit = full(3)
    async with connected(unit, words(3), timeout="500ms") as device:
        unit.busy = 2
        assert len(good(await device.poll())) == 3
        assert device.driver.counters["busy_retries_total"] == 2
        unit.busy = 10**6
        rows = await device.poll()
        assert {quality for _, quality in rows.values()} == {StatusCode.BAD_RESOURCE_UNAVAILABLE}
        assert 10**6 - unit.busy < 10, "asked with growing pauses"


@pytest.mark.parametrize("code", [10, 11])
async def test_a_gateway_that_cannot_reach_the_device_makes_it_lost_with_that_reason(code: int) -> None:
    unit = full(3)
    async with connected(unit, words(3)) as device:
        await device.poll()
        unit.exception_always = code
        with pytest.raises(Disconnected, match=f"exception {code}") as lost:
            await device.poll()
        assert "gateway" in lost.value.hint


async def test_all_addresses_wrong_is_all_tags_bad_and_a_living_device() -> None:
    unit = Unit()
    async with connected(unit, words(40)) as device:
        for _ in range(4):
            rows = await device.poll()
        assert {quality for _, quality in rows.values()} == {StatusCode.BAD_CONFIGURATION_ERROR}
        assert len(await device.asked()) == 1, "one question whether it still lives"


@given(
    st.lists(st.tuples(st.integers(0, 150), st.sampled_from(["u16", "u32", "f64"])), min_size=1, max_size=25),
    st.sets(st.integers(0, 155), max_size=6),
    st.integers(1, 125),
    st.sets(st.integers(0, 155), max_size=3),
    st.sets(st.integers(0, 155), max_size=20),
)
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
def test_whatever_a_device_refuses_every_readable_value_is_read(
    places: list[tuple[int, str]], refused: set[int], most: int, boundaries: set[int], absent: set[int]
) -> None:
    """Any tags, any refused registers, any limit, holes and boundaries: after the searches the plan holds."""
    unit = Unit(registers_max=most)
    unit.tables["holding"] = {place: place for place in range(160)}
    tags = {f"t{n}": {"at": f"holding/{place}", "type": kind} for n, (place, kind) in enumerate(places)}
    section = ModbusSection.model_validate({"modbus": "tcp://127.0.0.1", "tags": tags})
    used = {
        place for tag in section.tags.values() for place in range(tag.address.number, tag.address.number + tag.span)
    }
    for place in absent - used:
        del unit.tables["holding"][place]
    unit.exceptions = {("holding", place): 2 for place in refused}
    edges = {
        place
        for place in boundaries
        if not any(t.address.number < place < t.address.number + t.span for t in section.tags.values())
    }
    unit.boundaries = {("holding", place) for place in edges}
    known = Known(Limits())
    image = Image(section.tags, dict.fromkeys(section.tags, 1), section.order, section.limits, known)

    async def ask(request: Request) -> int:
        answer = unit.answer(bytes([3, *request.address.to_bytes(2, "big"), *request.count.to_bytes(2, "big")]))
        assert answer is not None
        assert request.address + request.count <= 65_536
        return answer[1] if answer[0] & 0x80 else 0

    async def learn() -> None:
        nonlocal image
        for _ in range(200):
            codes = {request: await ask(request) for request in image.requests}
            failed = [(request, code) for request, code in codes.items() if code]
            if not failed:
                return
            for request, code in failed:
                await Search(known, image.spans, ask, 0.0, 60.0).run(request, code)
            image = Image(section.tags, dict.fromkeys(section.tags, 1), section.order, section.limits, known)
        raise AssertionError("the search does not end")

    asyncio.run(learn())
    for tag in section.tags.values():
        span = range(tag.address.number, tag.address.number + tag.span)
        assert image.is_refused(tag) == bool(refused & set(span))
    assert len(image.requests) <= len(plan_requests(image.spans, Limits(gap=0, registers=known.registers_max))) + 2 * (
        len(refused) + len(edges) + len(absent)
    )
