"""`yulink probe`, `yulink scan` and the plan of `yulink check`, by hand against real devices."""

import json
import struct
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from drivers.modbus import SPEC
from drivers.modbus.probe import interpret, is_plausible, probe
from drivers.modbus.scan import scan
from drivers.modbus.section import parse_address
from drivers.modbus.types import ORDERS
from edge.agent.cli import main
from edge.core.errors import Disconnected, WrongInput
from simulators.modbus import Server, Unit, serve_serial, serve_tcp


@pytest_asyncio.fixture
async def meter() -> AsyncIterator[Server]:
    unit = Unit()
    unit.put("holding", 999, "u16", [0] * 8)
    unit.put("holding", 1001, "f32", 231.4, "CDAB")
    async with serve_tcp({1: unit, 17: Unit()}) as server:
        yield server


async def test_a_value_one_address_off_and_in_another_order_is_found_by_what_the_display_shows(meter: Server) -> None:
    shown = await probe(meter.url, 1, "holding/1000", 0.5, 231.4)
    fits = [(each.at, each.type, each.order, each.scale) for each in shown.interpretations if each.is_plausible]
    assert ("holding/1001", "f32", "CDAB", 1.0) in fits
    assert len(fits) <= 3
    assert shown.raw["holding/1001"] == struct.unpack(">HH", struct.pack(">f", 231.4))[1]


async def test_registers_that_are_not_there_are_left_out(meter: Server) -> None:
    shown = await probe(meter.url, 1, "holding/1006", 0.5, None)
    assert list(shown.raw) == ["holding/1005", "holding/1006"]
    assert {each.type for each in shown.interpretations} == {"u16", "i16", "u32", "i32", "f32"}


@pytest.mark.parametrize(
    ("unit", "at", "words"), [(1, "holding/40", "exception 2"), (99, "holding/1000", "not answer")]
)
async def test_what_cannot_be_probed_says_why(meter: Server, unit: int, at: str, words: str) -> None:
    with pytest.raises(Disconnected, match=words):
        await probe(meter.url, unit, at, 0.1, None)
    assert len(meter.requests) <= 8


@pytest.mark.parametrize(
    ("url", "at"), [("tcp://h", "coil/1"), ("tcp://h", "40000"), ("http://h", "holding/1"), ("dtu:h:1", "holding/1")]
)
async def test_a_wrong_place_is_wrong_input(url: str, at: str) -> None:
    with pytest.raises(WrongInput):
        await probe(url, 1, at, 0.1, None)


def test_every_type_and_order_at_three_addresses() -> None:
    address = parse_address("holding/1")
    assert address is not None
    found = list(interpret(address, dict.fromkeys(range(7), 0x0102), None))
    assert len(found) == 3 * (2 * 2 + 6 * 4)
    assert {each.order for each in found} == set(ORDERS)


@pytest.mark.parametrize(
    ("value", "plausible"),
    [
        (231.4, True),
        (-5, True),
        (0, False),
        (2.4e-41, False),
        (1e30, False),
        (float("nan"), False),
        (float("inf"), False),
    ],
)
def test_plausible(value: float, plausible: bool) -> None:
    assert is_plausible(value) is plausible


def test_probe_by_hand(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["probe", "nowhere:1", "--at", "holding/1"]) == 2
    assert "addresses begin with: tcp" in capsys.readouterr().err
    assert main(["probe", "tcp://127.0.0.1:1", "--at", "holding/1", "--timeout", "0.2"]) == 1
    assert "cannot be reached" in capsys.readouterr().err


async def found(where: str, **more: Any) -> list[tuple[str, int | None, str]]:
    made = scan(where, more.get("units", []), more.get("port"), more.get("rate", 1000.0), 0.1)
    assert made is not None
    return [(each.where, each.unit, each.what) async for each in made.found()]


async def test_units_on_a_line_are_found_and_no_others() -> None:
    first, second = Unit(), Unit()
    first.put("holding", 0, "u16", 0xABCD)
    async with serve_serial({3: first, 17: second}, baud=0) as bus:
        listed = await found(bus.url, units=range(1, 20))
    assert [(unit, what) for _, unit, what in listed] == [
        (3, "holding/0 = 0xABCD"),
        (17, "exception 2, illegal data address"),
    ]


async def test_hosts_in_a_range_are_found(meter: Server) -> None:
    listed = await found("127.0.0.1-4", port=meter.port)
    assert [where for where, _, _ in listed] == [f"tcp://127.0.0.1:{meter.port}"]
    assert listed[0][1] == 1


async def test_a_scan_is_no_faster_than_its_rate(meter: Server) -> None:
    began = time.monotonic()
    await found("127.0.0.1-6", port=meter.port, rate=20.0)
    assert time.monotonic() - began >= 5 / 20


def test_a_scan_says_what_it_will_send_and_sends_nothing_before() -> None:
    made = scan("192.168.7.0/28", [], None, 10.0, 0.1)
    assert made is not None
    assert "14 addresses, 192.168.7.1 to 192.168.7.14" in made.words
    line = scan("rtu:/dev/ttyS9?9600-8N1", range(1, 33), None, 10.0, 0.1)
    assert line is not None
    assert "32 units" in line.words


@pytest.mark.parametrize("where", ["10.0.0.0/8", "10.0.0.0-10.1.0.0"])
def test_a_range_that_is_too_large_is_refused(where: str) -> None:
    with pytest.raises(WrongInput, match="addresses"):
        scan(where, [], None, 10.0, 0.1)


@pytest.mark.parametrize(
    "arguments", [["192.168.7.0/28"], ["nonsense", "--yes"], ["127.0.0.1", "--ids", "5-3", "--yes"], ["--rate", "0"]]
)
def test_a_scan_that_nobody_agreed_to_or_that_cannot_be_is_refused(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["scan", *arguments]) == 2
    assert "help:" in capsys.readouterr().err


def test_no_is_no(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    class Terminal:
        def isatty(self) -> bool:
            return True

        def readline(self) -> str:
            return "n\n"

    monkeypatch.setattr("sys.stdin", Terminal())
    assert main(["scan", "192.168.7.0/28"]) == 1
    assert "14 addresses" in capsys.readouterr().err


def check(tmp_path: Path, devices: dict[str, Any], *arguments: str) -> int:
    file = tmp_path / "plant.yaml"
    file.write_text(json.dumps({"site": "chongqing/plant-1", "devices": devices}))
    return main(["check", str(file), "--offline", *arguments])


def line_of(count: int, every: str) -> dict[str, Any]:
    tags = {f"t{n}": {"at": f"holding/{n * 200}"} for n in range(6)}
    url = "rtu:/dev/serial/by-id/usb-1?9600-8N1"
    return {f"meter-{n}": {"modbus": url, "id": n, "every": every, "tags": tags} for n in range(1, count + 1)}


def test_a_line_that_cannot_hold_its_cycle_is_warned_of_in_numbers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(tmp_path, line_of(8, "1s")) == 0
    shown = capsys.readouterr().out
    assert "the serial line /dev/serial/by-id/usb-1 (9600-8N1) needs 1.6 s per cycle, you asked 1 s" in shown
    assert "every: 1.9s" in shown
    assert "meter-1: 6 requests, 6 registers" in shown
    assert check(tmp_path, line_of(8, "1s"), "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    (problem,) = answer["problems"]
    assert (problem["severity"], "needs 1.6 s" in problem["message"]) == ("warning", True)
    assert answer["plan"]["meter-1"] == {
        "requests_per_cycle": 6, "registers_per_cycle": 6, "cycle_ms_estimated": 197.5, "cycle_ms_asked": 1000.0,
    }  # fmt: skip


def test_a_line_that_holds_its_cycle_is_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(tmp_path, line_of(8, "2s")) == 0
    assert "warning" not in capsys.readouterr().out


def test_slow_tags_load_a_line_only_as_often_as_they_are_read() -> None:
    tags = {
        "fast": {"at": "holding/0", "every": "1s"},
        "slow": {"at": "holding/500", "type": "i16[2048]", "every": "10min"},
    }
    section = SPEC.section.model_validate({"modbus": "rtu:/dev/ttyS0?9600-8N1", "tags": tags})
    assert SPEC.plan is not None
    plan = SPEC.plan(section, 1.0)
    assert plan.cycle_ms_estimated > 4000
    assert plan.line_load < 0.1
