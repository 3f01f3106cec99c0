"""Machine off, network off, box off: each made for real, and told apart by the ledger alone, at both ends."""

import asyncio
import json
import random
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from buffer.ledger_view import read_ledger
from buffer.log import open_log
from edge.agent.app import Agent
from edge.agent.commands import ledger as ledger_command
from edge.agent.configuration.loader import load
from edge.core.catalogue import ValueKind
from edge.core.clock import SystemClock, VirtualClock
from edge.core.errors import LogError, WrongInput, YulinkError
from edge.core.ledger import HOUR_NS, Line, Tally
from simulators.broker import start_broker
from simulators.faults import SteppedClock, fault_line
from simulators.modbus import Unit, free_port, serve_tcp
from simulators.pki import Pki, make_pki
from tests.support import until
from tests.uplink.support import BRAIN_KEY, SITE
from uplink.keys import write_key
from uplink.receiver.service import Receiver
from uplink.receiver.store import SqliteStore
from uplink.seal import BadSeal, Opener
from uplink.session import Access
from uplink.statement import check


def at_an_hour() -> SteppedClock:
    """A clock at the begin of the next hour: what a test does in seconds falls into one hour."""
    clock = SteppedClock()
    clock.step((HOUR_NS - clock.now() % HOUR_NS) / 1e9)
    return clock


def machine() -> Unit:
    unit = Unit()
    for address in (0, 1):
        unit.put("holding", address, "u16", 7)
    return unit


def plant(folder: Path, devices: dict[str, int], uplink: dict[str, Any] | None = None) -> Path:
    """A configuration with a Modbus device of two tags, ten times a second, at each port."""
    tags = {"speed": {"at": "holding/0"}, "load": {"at": "holding/1", "deadband": 5}}
    listed = {
        name: {"modbus": f"tcp://127.0.0.1:{port}", "every": "100ms", "tags": tags} for name, port in devices.items()
    }
    file = folder / "plant.yaml"
    file.write_text(json.dumps({"site": SITE, "devices": listed} | ({"uplink": uplink} if uplink else {})))
    return file


@asynccontextmanager
async def at_work(file: Path, data: Path, clock: Any) -> AsyncIterator[Agent]:
    """An agent, stopped in order."""
    agent = Agent(load(file), data, clock)
    running = asyncio.create_task(agent.run())
    try:
        yield agent
    finally:
        agent.stop()
        await running


async def lines_of(data: Path) -> dict[tuple[int, str], Line]:
    found = {(line.hour, line.device): line for line in await read_ledger(data / "log.sqlite3", 0, 2**40)}
    assert [line.broken() for line in found.values()] == [[]] * len(found)
    return found


async def has_read(agent: Agent, device: str, times: int) -> None:
    await until(lambda: agent._running and reads(agent, device) >= times)


def reads(agent: Agent, device: str) -> int:
    return next(int(each["reads"]) for each in agent.describe()["devices"] if each["name"] == device)


async def test_a_machine_that_is_off_owes_and_does_not_answer_and_its_neighbour_does(tmp_path: Path) -> None:
    clock = at_an_hour()
    async with serve_tcp({1: machine()}) as server:
        file = plant(tmp_path, {"running": server.port, "refused": free_port()})
        async with at_work(file, tmp_path / "data", clock) as agent:
            await has_read(agent, "running", 10)
    hour = clock.now() // HOUR_NS
    found = await lines_of(tmp_path / "data")
    running, refused = found[hour, "running"], found[hour, "refused"]
    assert running.connected_ms > 0.5 * running.watched_ms
    assert running.read >= 20
    assert running.bad == 0
    assert running.filtered >= 9  # the load never changes
    assert abs(running.due - running.read) <= 6
    assert (refused.connected_ms, refused.read, refused.bad) == (0, 2, 2)
    assert refused.due == pytest.approx(running.due, abs=4)
    assert refused.machine_off_ms == refused.watched_ms > 500


async def test_a_box_that_was_off_watched_less_than_the_hour(tmp_path: Path) -> None:
    clock = at_an_hour()
    async with serve_tcp({1: machine()}) as server:
        file = plant(tmp_path, {"plc-1": server.port})
        for _ in range(2):
            async with at_work(file, tmp_path / "data", clock) as agent:
                await has_read(agent, "plc-1", 3)
            clock.step(1700)  # the agent is stopped for about as long as half an hour
    ((hour, _),) = found = await lines_of(tmp_path / "data")
    line = found[hour, "plc-1"]
    off_ms = line.box_off_ms((hour + 1) * HOUR_NS)
    assert off_ms + line.watched_ms + line.before_ms == 3_600_000
    assert line.before_ms < 60_000, "it was installed as the hour began"
    assert line.machine_off_ms < line.watched_ms < 60_000
    assert (line.bad, line.undelivered) == (0, 0)


@asynccontextmanager
async def brain(broker_url: str, pki: Pki, folder: Path) -> AsyncIterator[None]:
    """A receiver at work that opens what is sealed to it and knows the gateways' authority."""
    access = Access(broker_url, pki.ca, pki.issue("brain"), client_id="brain", clean_start=False, manual_ack=True)
    authorities = x509.load_pem_x509_certificates(pki.ca.read_bytes())
    store = SqliteStore(folder / "brain.sqlite3", authorities=authorities)
    task = asyncio.create_task(Receiver(access, store, SystemClock(), opener=Opener([BRAIN_KEY], pki.ca)).run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def uplink_settings(url: str, pki: Pki) -> dict[str, Any]:
    write_key(BRAIN_KEY, pki.folder / "brain.key", pki.folder / "brain.pub")
    identity = pki.issue("gateway", common_name=SITE)
    return {"mqtt": url, "identity": str(identity), "ca": str(pki.ca), "seal_to": str(pki.folder / "brain.pub"),
            "latency": "50ms"}  # fmt: skip


def told(folder: Path, query: str) -> list[tuple[Any, ...]]:
    """Rows of the brain's store."""
    if not (folder / "brain.sqlite3").exists():
        return []
    db = sqlite3.connect(folder / "brain.sqlite3")
    try:
        return db.execute(query).fetchall()
    except sqlite3.OperationalError:  # not made yet
        return []
    finally:
        db.close()


def discrepancies(folder: Path) -> list[tuple[Any, ...]]:
    return told(folder, "SELECT text FROM event WHERE kind = 'ledger_discrepancy'")


async def test_a_network_that_was_off_shows_as_late_and_the_brain_is_told_so_under_a_signature(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: Callable[[str], str]
) -> None:
    program("mosquitto")
    monkeypatch.setattr("edge.agent.bookkeeping.EVERY_S", 0.2)
    monkeypatch.setattr("uplink.backoff.BACKOFF_MAX_S", 0.2)
    monkeypatch.setattr("buffer.ledger.LATE_NS", 5 * 10**8)  # instead of a minute
    clock, pki = at_an_hour(), make_pki(tmp_path / "pki")
    hour = clock.now() // HOUR_NS
    async with (
        start_broker(tmp_path, pki, kind="mosquitto") as broker,
        fault_line(broker.host, broker.port) as line,
        serve_tcp({1: machine()}) as server,
        brain(broker.url, pki, tmp_path),
    ):
        file = plant(tmp_path, {"plc-1": server.port}, uplink_settings(f"mqtts://127.0.0.1:{line.port}", pki))
        async with at_work(file, tmp_path / "data", clock) as agent:
            await until(lambda: told(tmp_path, "SELECT 1 FROM reading LIMIT 1"))
            line.refuse()
            line.cut()
            before = reads(agent, "plc-1")
            await has_read(agent, "plc-1", before + 15)  # a second and a half
            assert agent._log is not None
            await agent._log.flush()
            found = (await lines_of(tmp_path / "data"))[hour, "plc-1"]
            assert found.waiting("brain") >= 5
            assert found.machine_off_ms < 1000
            line.heal()
            clock.step(3700)  # the hour is over, and told; once more when all of it has arrived
            whole = "json_extract(line, '$.uplinks.brain.committed') = json_extract(line, '$.stored')"
            await until(
                lambda: told(tmp_path, f"SELECT 1 FROM ledger WHERE hour = {hour} AND verified AND {whole}"), 20
            )
        ((text, signature, arrived, wrong),) = told(
            tmp_path, f"SELECT line, signature, arrived, discrepancies FROM ledger WHERE hour = {hour}"
        )
    stated = Line.of_json(json.loads(text))
    assert stated.uplinks["brain"].late >= 5
    assert stated.uplinks["brain"].committed == arrived == stated.stored == stored_for(tmp_path, hour)
    assert (wrong, discrepancies(tmp_path)) == ("[]", [])
    authorities = x509.load_pem_x509_certificates(pki.ca.read_bytes())
    check(SITE, text, signature, authorities)  # a third party, with nothing but the stored row and the authority
    for wrong_text, wrong_signature, gateway in (
        (text.replace('"read": ', '"read": 1'), signature, SITE),
        (text, signature[:-8] + "AAAAAAA=", SITE),
        (text, signature, "chongqing/plant-2"),
    ):
        with pytest.raises(BadSeal):
            check(gateway, wrong_text, wrong_signature, authorities)


def stored_for(folder: Path, hour: int) -> int:
    db = sqlite3.connect(folder / "data" / "log.sqlite3")
    try:
        ((rows,),) = db.execute("SELECT sum(rows) FROM segment WHERE hour = ? AND kind <> 4", (hour,))
        return int(rows)
    finally:
        db.close()


@pytest.mark.timeout(120)
async def test_kill_9_at_any_instant_leaves_sums_that_close_and_equal_the_rows(
    tmp_path: Path, program: Callable[[str], str]
) -> None:
    program("mosquitto")
    seed = random.randrange(2**32)
    print("seed", seed)
    chance, pki = random.Random(seed), make_pki(tmp_path / "pki")
    async with (
        start_broker(tmp_path, pki, kind="mosquitto") as broker,
        serve_tcp({1: machine()}) as server,
        brain(broker.url, pki, tmp_path),
    ):
        file = plant(tmp_path, {"plc-1": server.port}, uplink_settings(broker.url, pki))
        for _ in range(4):
            await killed(file, tmp_path / "data", chance)
            found = await lines_of(tmp_path / "data")
            rows = {hour: stored_for(tmp_path, hour) for hour, _ in found}
            assert {hour: line.stored for (hour, _), line in found.items()} == rows
        async with at_work(file, tmp_path / "data", SystemClock()) as agent:
            await has_read(agent, "plc-1", 3)
        found = await lines_of(tmp_path / "data")
        assert [line.waiting("brain") for line in found.values()] == [0] * len(found)
        for (hour, _), line in found.items():
            here = told(tmp_path, f"SELECT rows FROM arrived WHERE hour = {hour} AND device = 'plc-1'")
            assert here == [(line.uplinks["brain"].committed,)] == [(line.stored,)]


async def killed(file: Path, data: Path, chance: random.Random) -> None:
    """An agent as a process, killed at a random instant after it has read."""
    with (data.parent / "run.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "edge.agent.cli", "run", str(file), "--data-dir", str(data)], stdout=log, stderr=log
        )
    try:
        before = segments(data)
        await until(lambda: segments(data) > before + 2, 30)
        await asyncio.sleep(chance.uniform(0, 0.5))  # the instant of death is the random input of this test
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def segments(data: Path) -> int:
    try:
        db = sqlite3.connect(f"file:{data / 'log.sqlite3'}?mode=ro", uri=True)
        try:
            return int(db.execute("SELECT ifnull(max(position), 0) FROM segment").fetchone()[0])
        finally:
            db.close()
    except sqlite3.OperationalError:
        return 0


async def an_hour_ago(path: Path) -> None:
    clock = VirtualClock((SystemClock().now() // HOUR_NS - 1) * HOUR_NS)
    async with open_log(path, clock, commit_interval_s=0.001) as log:
        await log.put(None, Tally("press-9", due=60, watched_ms=3_000_000, connected_ms=1_000_000))


def test_the_command_shows_each_kind_of_off_in_both_languages_and_for_programs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asyncio.run(an_hour_ago(tmp_path / "log.sqlite3"))
    for language, words in (("en", ("box 600 s", "machine 2,000 s")), ("zh", ("网关 600 秒", "设备 2,000 秒"))):
        monkeypatch.setattr("edge.core.language.chinese_wanted", lambda language=language: language == "zh")
        assert ledger_command.run(None, tmp_path, None, 24, json_output=False) == 0
        shown = capsys.readouterr().out
        assert all(each in shown for each in ("press-9", "60", *words)), shown
    assert ledger_command.run(None, tmp_path, "press-9", 24, json_output=True) == 0
    told_line = json.loads(capsys.readouterr().out)
    assert told_line["off"] == {"machine_ms": 2_000_000, "box_ms": 600_000, "network_rows": 0}
    assert ledger_command.run(None, tmp_path, "other", 24, json_output=True) == 0
    assert capsys.readouterr().out == ""
    with pytest.raises(WrongInput, match="--hours 0"):
        ledger_command.run(None, tmp_path, None, 0, json_output=False)
    with pytest.raises(YulinkError, match=r"none/log\.sqlite3"):
        ledger_command.run(None, tmp_path / "none", None, 24, json_output=False)


async def test_an_encrypted_log_shows_its_ledger_to_who_has_the_secret_while_it_is_open(tmp_path: Path) -> None:
    path, secret, clock = tmp_path / "log.sqlite3", "correct horse battery staple", VirtualClock()
    async with open_log(path, clock, commit_interval_s=0.001, secret=secret) as log:
        log.catalogue.intern("plc-1", "speed", ValueKind.FLOAT64)
        for device in ("plc-1", "press-9"):
            await log.put(None, Tally(device, due=5, watched_ms=1000))
        await log.flush()
        lines = await read_ledger(path, 0, 2**40, secret)
        assert [(line.device, line.due) for line in lines] == [("plc-1", 5), ("press-9", 5)]
    for wrong in (None, "correct horse battery stable"):
        with pytest.raises(LogError, match="encrypt"):
            await read_ledger(path, 0, 2**40, wrong)
