"""Each fault against a real server: never a wrong value, bounded recovery, no leak, no other device disturbed."""

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from drivers.api import Session, Shared
from drivers.modbus import SPEC
from drivers.modbus.client import EXCEPTIONS
from edge.core.catalogue import Catalogue
from edge.core.errors import Disconnected
from edge.core.quality import StatusCode, is_bad
from simulators.faults import FaultLine, fault_line
from simulators.modbus import Server, Unit, serve_serial, serve_tcp
from tests.drivers.support import make_driver, read_rows

TIMEOUT_S = 0.06
PATIENT_S = 3.0
RECOVERY_S = 5.0
WORDS = 12

Rows = dict[str, tuple[Any, int, int]]


class Plant:
    """A device behind a line that can fail, and a neighbour at the same server: another unit, another driver."""

    def __init__(self, unit: Unit, neighbour: Unit, server: Server, line: FaultLine | None, timeout_s: float) -> None:
        self.unit, self.neighbour, self.server = unit, neighbour, server
        self._line = line
        self.shared = Shared()
        self.polls = 0
        url = f"{server.url.partition('://')[0]}://{line.host}:{line.port}" if line else server.url
        self.driver, self.catalogue = self._make(1, url, timeout_s)
        self.other, self.other_catalogue = self._make(2, server.url, PATIENT_S)

    @property
    def line(self) -> FaultLine:
        assert self._line is not None
        return self._line

    def _make(self, unit: int, url: str, timeout_s: float) -> Any:
        tags = {f"w{place}": {"at": f"holding/{place}"} for place in range(WORDS)} | {"c": {"at": "coil/0"}}
        limits = {"timeout": f"{timeout_s * 1e3:.0f}ms"}
        section = {"modbus": url, "id": unit, "every": "10ms", "limits": limits, "tags": tags}
        return make_driver(SPEC, section, device=f"device-{unit}", shared=self.shared)

    def is_right(self, rows: Rows) -> bool:
        """Every value is right or marked bad; tell whether all are right."""
        for name, (value, quality, _) in rows.items():
            held = self.unit.tables["coil"][0] if name == "c" else self.unit.tables["holding"][int(name[1:])]
            assert is_bad(quality) or value == held, (name, value, held)
        return not any(is_bad(quality) for _, quality, _ in rows.values())

    async def poll_until(self, right: bool, session: Session, catalogue: Catalogue) -> None:
        async with asyncio.timeout(RECOVERY_S):
            while self.is_right(await read_rows(session, catalogue)) is not right:
                pass


def table() -> Unit:
    unit = Unit()
    unit.put("holding", 0, "u16", [7000 + 3 * place for place in range(WORDS)])
    unit.put("coil", 0, "bool", True)
    return unit


@asynccontextmanager
async def plant(framing: Any, timeout_s: float = TIMEOUT_S) -> AsyncIterator[Plant]:
    unit, neighbour = table(), table()
    if framing == "serial":
        async with serve_serial({1: unit, 2: neighbour}, baud=0) as server:
            yield Plant(unit, neighbour, server, None, timeout_s)
        return
    async with (
        serve_tcp({1: unit, 2: neighbour}, framing=framing) as server,
        fault_line(server.host, server.port) as line,
    ):
        yield Plant(unit, neighbour, server, line, timeout_s)


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def suffer(framing: Any, fault: Callable[[Plant], None], heal: Callable[[Plant], None]) -> None:
    """Live through a fault as the supervisor does: connect, read, lose, connect again, until all is right again."""
    gc.collect()  # what an earlier test left open is not ours
    async with plant(framing) as stage:
        before = open_files()
        undisturbed = asyncio.create_task(neighbour(stage))
        try:
            await live_through(stage, fault, heal)
            assert not undisturbed.done()
        finally:
            undisturbed.cancel()
            await undisturbed
        stage.shared.close()
        await asyncio.sleep(0)
        # What the simulated server keeps open for a client that has just left is not ours.
        async with asyncio.timeout(RECOVERY_S):
            while open_files() > before:
                await asyncio.sleep(0.01)


async def live_through(stage: Plant, fault: Callable[[Plant], None], heal: Callable[[Plant], None]) -> None:
    async with asyncio.timeout(RECOVERY_S):
        while not await fall_ill(stage, fault):  # on a busy machine a well device may be late
            await asyncio.sleep(0.02)
    began, polls = time.monotonic(), stage.polls
    async with asyncio.timeout(RECOVERY_S):  # while the fault lasts, the neighbour goes on
        while time.monotonic() - began < 2.5 * TIMEOUT_S or stage.polls < polls + 3:
            try:
                async with stage.driver.connect() as session:
                    stage.is_right(await read_rows(session, stage.catalogue))
            except Disconnected:
                await asyncio.sleep(0.01)
    heal(stage)
    stage.unit.put("holding", 0, "u16", [9000 + place for place in range(WORDS)])
    await recover(stage)


async def fall_ill(stage: Plant, fault: Callable[[Plant], None]) -> bool:
    """Connect, read until all is right, then let the fault happen and read until it shows; False when it never was."""
    try:
        async with stage.driver.connect() as session:
            await stage.poll_until(True, session, stage.catalogue)
            fault(stage)
            with suppress(Disconnected):
                await stage.poll_until(False, session, stage.catalogue)
            return True
    except Disconnected:
        return False


async def recover(stage: Plant) -> None:
    async with asyncio.timeout(RECOVERY_S):
        while True:
            try:
                async with stage.driver.connect() as session:
                    await stage.poll_until(True, session, stage.catalogue)
                    return
            except Disconnected:
                await asyncio.sleep(0.02)


async def neighbour(stage: Plant) -> None:
    """Poll the other unit until cancelled; a bad row or a lost session there fails the test."""
    with suppress(asyncio.CancelledError):
        async with stage.other.connect() as session:
            while True:
                rows = await read_rows(session, stage.other_catalogue)
                stage.polls += 1
                for name, (value, quality, _) in rows.items():
                    assert not is_bad(quality), (name, hex(quality))
                    assert value == (1 if name == "c" else 7000 + 3 * int(name[1:]))


def refuse(stage: Plant) -> None:
    stage.line.refuse()
    stage.line.cut()


WIRE: dict[str, tuple[Callable[[Plant], None], Callable[[Plant], None]]] = {
    "refused": (refuse, lambda s: s.line.heal()),
    "cut in the middle of a frame": (lambda s: s.line.cut(after_bytes=7), lambda s: s.line.heal()),
    "frozen": (lambda s: s.line.freeze(), lambda s: s.line.heal()),
    "late": (lambda s: s.line.delay(5 * TIMEOUT_S), lambda s: s.line.heal()),
    "garbage on the way": (lambda s: s.line.garbage(), lambda s: s.line.heal()),
}


@pytest.mark.parametrize("framing", ["tcp", "rtu"])
@pytest.mark.parametrize("name", WIRE)
async def test_a_fault_of_the_connection(name: str, framing: str) -> None:
    await suffer(framing, *WIRE[name])


UNIT_FAULTS = [
    "transaction", "unit", "function", "length", "length_short", "length_long", "truncate", "garbage",
]  # fmt: skip
MBAP_ONLY = {"transaction", "length_short", "length_long"}


@pytest.mark.parametrize("framing", ["tcp", "rtu", "serial"])
@pytest.mark.parametrize("wrong", UNIT_FAULTS)
async def test_a_fault_of_the_answers(wrong: Any, framing: str) -> None:
    if wrong in MBAP_ONLY and framing != "tcp":
        return  # RTU frames have neither transaction id nor length field: there is nothing to be wrong

    def fault(stage: Plant) -> None:
        stage.unit.wrong = wrong

    def heal(stage: Plant) -> None:
        stage.unit.wrong = None

    await suffer(framing, fault, heal)


@pytest.mark.parametrize("framing", ["tcp", "rtu", "serial"])
async def test_a_silent_unit(framing: str) -> None:
    def fault(stage: Plant) -> None:
        stage.unit.silent = True

    def heal(stage: Plant) -> None:
        stage.unit.silent = False

    await suffer(framing, fault, heal)


@pytest.mark.parametrize("code", [*range(1, 12), 77])
async def test_an_exception_code(code: int) -> None:
    def fault(stage: Plant) -> None:
        stage.unit.exception_always = code

    def heal(stage: Plant) -> None:
        stage.unit.exception_always = None
        stage.driver.known.refused.clear()  # they would be tried again in a minute
        stage.driver.known.unsupported.clear()

    await suffer("tcp", fault, heal)


@pytest.mark.parametrize(("code", "status"), EXCEPTIONS.items())
async def test_an_exception_code_has_its_own_status(code: int, status: StatusCode) -> None:
    unit = table()
    unit.put("input", 0, "u16", 1)
    unit.exceptions["input", 0] = code
    async with serve_tcp({1: unit}) as server:
        tags = {"right": {"at": "holding/0"}, "wrong": {"at": "input/0"}}
        limits = {"timeout": "80ms"}
        driver, catalogue = make_driver(SPEC, {"modbus": server.url, "every": "5ms", "limits": limits, "tags": tags})
        driver.hello_turn = 0  # type: ignore[attr-defined]
        async with driver.connect() as session:
            for _ in range(4):
                rows = await read_rows(session, catalogue)
                assert rows["right"][:2] == (7000, 0)
                assert rows["wrong"][1] == status


def test_no_two_causes_share_a_status() -> None:
    causes = [*EXCEPTIONS.values(), StatusCode.BAD_TIMEOUT, StatusCode.BAD_COMMUNICATION_ERROR]
    assert len(set(causes)) == len(causes)


@pytest.mark.parametrize("framing", ["tcp", "rtu", "serial"])
async def test_five_milliseconds_between_two_bytes_are_only_slow(framing: str) -> None:
    async with plant(framing, 0.5) as stage:
        stage.unit.drip_s = 0.005
        async with stage.driver.connect() as session:
            for _ in range(3):
                assert stage.is_right(await read_rows(session, stage.catalogue))
        assert stage.driver.counters["timeouts_total"] == 0


@pytest.mark.parametrize("framing", ["tcp", "rtu", "serial"])
async def test_an_answer_sent_twice_answers_once(framing: str) -> None:
    async with plant(framing) as stage, stage.driver.connect() as session:
        stage.unit.wrong = "duplicate"
        for turn in range(8):
            stage.unit.put("holding", 0, "u16", [100 * turn + place for place in range(WORDS)])
            assert stage.is_right(await read_rows(session, stage.catalogue))
            await asyncio.sleep(0.005)


async def test_an_answer_half_a_second_late_spoils_only_its_own_poll() -> None:
    """With a time-out above its delay a slow device is simply slow."""
    unit = table()
    async with serve_tcp({1: unit}) as server:
        tags = {f"w{place}": {"at": f"holding/{place}"} for place in range(WORDS)}
        driver, catalogue = make_driver(SPEC, {"modbus": server.url, "every": "10ms", "tags": tags})
        async with driver.connect() as session:
            unit.delay_s = 0.5
            rows = await read_rows(session, catalogue)
            assert rows["w3"][:2] == (7009, 0)
