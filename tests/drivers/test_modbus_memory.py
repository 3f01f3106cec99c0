"""What a device has taught is known after a restart, and is found out when it is no longer so."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.modbus.known import Known
from drivers.modbus.memory import Memory
from drivers.modbus.section import Limits, ModbusSection
from edge.core.quality import is_bad
from simulators.modbus import Unit, serve_tcp
from tests.drivers.modbus import Device, connected, full, good, words


def difficult() -> tuple[Unit, dict[str, Any]]:
    """A device with a limit, a boundary, a register and a table that it refuses."""
    unit = full(120)
    unit.registers_max = 40
    unit.boundaries = {("holding", 90)}
    unit.exceptions["holding", 57] = 2
    unit.unsupported.add("coil")
    return unit, words(120) | {"c": {"at": "coil/0"}}


async def settled(device: Device) -> None:
    """Poll until nothing more is learned."""
    async with asyncio.timeout(10):
        before = -1
        while (failed := device.driver.counters["exceptions_total"]) != before:
            before = failed
            await device.poll()


async def test_after_a_restart_nothing_is_searched_for_again(tmp_path: Path) -> None:
    unit, tags = difficult()
    async with serve_tcp({1: unit}) as server:
        async with connected(unit, tags, server=server, data_dir=tmp_path) as first:
            await settled(first)
            assert first.driver.counters["exceptions_total"] > 4
            plan = await first.asked()
        async with connected(unit, tags, server=server, data_dir=tmp_path) as again:
            assert again.driver is not first.driver
            rows = await again.poll()
            assert again.driver.counters["exceptions_total"] == 0
            assert again.driver.counters["registers_refused"] == 1
            assert {name for name, (_, quality) in rows.items() if is_bad(quality)} == {"w57", "c"}
            assert await again.asked() == plan
            assert again.driver.known.registers_max == first.driver.known.registers_max <= 40


async def test_a_device_with_other_firmware_is_found_out_and_told(tmp_path: Path) -> None:
    """Each lesson is tried again after the pause, by one request a poll, until the plan is what it would be anew."""
    unit, tags = difficult()
    async with serve_tcp({1: unit}) as server:
        async with connected(unit, tags, server=server, data_dir=tmp_path) as device:
            await settled(device)
        unit.registers_max = 125
        unit.boundaries.clear()
        unit.exceptions.clear()
        unit.unsupported.clear()
        unit.put("coil", 0, "bool", True)
        async with connected(unit, tags, server=server, data_dir=tmp_path, retry="20ms") as device:
            async with asyncio.timeout(20):
                while sorted(await device.asked()) != [(1, 1, 0, 1), (1, 3, 0, 120)]:
                    pass
            assert len(good(await device.poll())) == 121
            told = {event.kind for event in device.events}
            assert told == {"limit_lifted", "registers_returned"}
        async with connected(unit, tags, server=server, data_dir=tmp_path) as device:
            await device.poll()
            assert sorted(await device.asked()) == [(1, 1, 0, 1), (1, 3, 0, 120)], "forgotten on the disk too"


async def test_a_lesson_that_still_holds_costs_one_request_in_a_growing_pause_and_no_value() -> None:
    unit = full(100)
    unit.registers_max = 40
    async with connected(unit, words(100), retry="30ms") as device:
        await settled(device)
        learned = len(device.server.requests)
        for _ in range(60):
            assert len(good(await device.poll())) == 100
        longer = [request for request in device.server.requests[learned:] if request[3] > 40]
        assert 2 <= len(longer) <= 6
        assert device.driver.known.registers_max == 40


async def test_another_device_under_the_same_name_is_not_judged_by_the_old_one(tmp_path: Path) -> None:
    unit, tags = difficult()
    async with connected(unit, tags, data_dir=tmp_path) as device:
        await settled(device)
    async with connected(full(120), words(120), data_dir=tmp_path) as device:  # on another port
        assert await device.asked() == [(1, 3, 0, 120)]


SECTION = ModbusSection.model_validate({"modbus": "tcp://127.0.0.1", "tags": {"t": {"at": "holding/0"}}})
OF = [SECTION.modbus, SECTION.id]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        json.dumps({"of": OF}),
        json.dumps({"of": OF, "registers": 0, "bits": 1, "barriers": [], "refused": [], "unsupported": []}),
        json.dumps({"of": OF, "registers": True, "bits": 1, "barriers": [], "refused": [], "unsupported": []}),
        json.dumps({"of": OF, "registers": 9, "bits": 9, "barriers": [["x", 1]], "refused": [], "unsupported": []}),
        json.dumps({"of": OF, "registers": 9, "bits": 9, "barriers": [], "refused": [["holding"]], "unsupported": []}),
        json.dumps(
            {"of": OF, "registers": 9, "bits": 9, "barriers": [], "refused": [], "unsupported": [["coil", "x"]]}
        ),
    ],
)
def test_a_file_that_cannot_be_read_is_as_none(tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "modbus").mkdir()
    (tmp_path / "modbus" / "m.json").write_text(text)
    known = Known(Limits())
    Memory(tmp_path, "m", SECTION).recall(known, 0.0, 60.0)
    assert known == Known(Limits())
    assert "learned again" in caplog.text


@given(st.text(min_size=1, max_size=20))
def test_any_device_has_a_file_of_its_own(device: str) -> None:
    path = Memory(Path("/data"), device, SECTION)._path
    assert path is not None
    assert path.parent == Path("/data/modbus")


def test_where_nothing_can_be_written_the_device_is_read_all_the_same(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "modbus").write_text("a file where the folder should be")
    known = Known(Limits(), registers_max=7)
    memory = Memory(tmp_path, "m", SECTION)
    memory.keep(known)
    assert "cannot be kept" in caplog.text
    memory.recall(known, 0.0, 60.0)
    assert known.registers_max == 7
