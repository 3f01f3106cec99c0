"""`yulink quarantine`: what cannot pass is shown, kept in a file, and goes again, at once or at the next start."""

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from buffer.log import Log, open_log
from edge.agent.app import Agent
from edge.agent.cli import main
from edge.agent.configuration.loader import load
from edge.agent.status import give_order
from edge.core.batch import Batch, Event, Lane, Record, Severity, Waveform
from edge.core.catalogue import ValueKind
from edge.core.clock import SystemClock
from edge.core.delivery import Parcel
from edge.core.errors import YulinkError
from simulators.modbus import free_port
from tests.support import until
from tests.uplink.support import SITE

SECRET = "correct horse battery staple"
TS = 1_790_000_000_123_456_789


def records(log: Log) -> list[Record]:
    """Something of every kind, each to become a message of its own."""

    def tag(name: str, kind: ValueKind, unit: str = "") -> int:
        return log.catalogue.intern("press-9", name, kind, unit).id

    return [
        Batch.of(Lane.TEXT, [tag("recipe", ValueKind.TEXT)] * 2, [TS, TS + 1000], ["法兰-7", "RUN"]),
        Batch.of(Lane.INT, [tag("total", ValueKind.UINT64, "pcs"), tag("on", ValueKind.BOOL)], TS, [-1, 1]),
        Batch.of(Lane.FLOAT, [tag("load", ValueKind.FLOAT64, "%")] * 3, TS, [1.5, np.nan, 7.0], [0, 0, 0x80050000]),
        Waveform(tag("shock", ValueKind.WAVEFORM, "g"), TS, 6400.0, 8.0, np.arange(4, dtype=np.int16)),
        Event(TS, "press-9", "device_lost", Severity.HIGH, "gone", {"polls": 3}),
    ]


@asynccontextmanager
async def opened(folder: Path, *, secret: str | None = None, uplink: str = "brain") -> AsyncIterator[Log]:
    path = folder / "log.sqlite3"
    async with open_log(path, SystemClock(), consumers=[uplink], commit_interval_s=0.001, secret=secret) as log:
        yield log


async def set_aside(folder: Path, *, secret: str | None = None, uplink: str = "brain") -> list[Record]:
    """Put something of every kind into a log's quarantine, and return it in that order."""
    async with opened(folder, secret=secret, uplink=uplink) as log:
        given = records(log)
        for record in given:
            await log.append([record])
            (parcel,) = await waiting(log, uplink)
            await log.outbox(uplink).quarantine(parcel.epoch, parcel.seq, "refused with reason 0x95")
        return given


async def waiting(log: Log, uplink: str = "brain") -> list[Parcel]:
    """Every parcel that has rows and would go now."""
    found = []
    while (parcel := await log.outbox(uplink).next(1000)) is not None:
        found += [parcel] if parcel.records else []
    return found


def ran(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Exit code, output and errors of a command."""
    code = main(["quarantine", *map(str, arguments)])
    shown = capsys.readouterr()
    return code, shown.out, shown.err


def configured(folder: Path, **more: Any) -> Path:
    (folder / "secrets").mkdir()
    (folder / "secrets" / "log").touch(0o600)
    (folder / "secrets" / "log").write_text(SECRET)
    file = folder / "plant.yaml"
    file.write_text(json.dumps({"site": SITE, "devices": {}, **more}))
    return file


def test_the_list_says_what_whose_when_why_and_how_large_in_both_languages_and_for_programs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asyncio.run(set_aside(tmp_path))
    monkeypatch.setattr("edge.core.language.chinese_wanted", lambda: False)
    code, out, _ = ran(capsys, "list", "--data-dir", tmp_path)
    head, *rows, hint = out.splitlines()
    assert (code, len(rows)) == (0, 5)
    assert head.split() == ["id", "uplink", "devices", "values", "from", "to", "bytes", "set", "aside", "reason"]
    assert rows[0].split()[:4] == ["1", "brain", "press-9", "2"]
    assert rows[0].endswith("refused with reason 0x95")
    assert "retry" in hint
    monkeypatch.setattr("edge.core.language.chinese_wanted", lambda: True)
    assert ran(capsys, "list", "--data-dir", tmp_path)[1].splitlines()[0].split()[:3] == ["编号", "上行", "设备"]
    code, out, _ = ran(capsys, "list", "--data-dir", tmp_path, "--json")
    told = [json.loads(line) for line in out.splitlines()]
    assert [(each["id"], each["rows"], each["retrying"], each["damaged"]) for each in told] == [
        (number, rows, False, False) for number, rows in enumerate([2, 2, 3, 1, 1], 1)
    ]
    assert told[0]["from"] == "2026-09-21T14:13:20.123456Z"
    assert all(each["devices"] == ["press-9"] and each["bytes"] > 10 for each in told)


def test_an_export_holds_every_value_and_overwrites_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asyncio.run(set_aside(tmp_path, secret=SECRET))
    config = configured(tmp_path, log={"encrypt": "log"})
    code, _, errors = ran(capsys, "export", tmp_path / "aside.jsonl", "--data-dir", tmp_path)
    assert (code, (tmp_path / "aside.jsonl").exists()) == (1, False), "encrypted, and no secret"
    assert "encrypt" in errors
    code, out, errors = ran(capsys, "export", tmp_path / "aside.jsonl", config, "--data-dir", tmp_path)
    assert (code, out, errors) == (0, "", "9 values of 5 messages\n")
    told = [json.loads(line) for line in (tmp_path / "aside.jsonl").read_text("utf-8").splitlines()]
    readings = [each for each in told if "tag" in each]
    assert {(each["gateway"], each["device"], each["historical"]) for each in readings} == {(SITE, "press-9", True)}
    assert [(each["tag"], each["value"], each["quality"][:4]) for each in readings] == [
        *(("recipe", "法兰-7", "0x00"), ("recipe", "RUN", "0x00"), ("total", 2**64 - 1, "0x00"), ("on", True, "0x00")),
        *(("load", 1.5, "0x00"), ("load", "NaN", "0x00"), ("load", None, "0x80")),
    ]
    (wave,) = (each["waveform"] for each in told if "waveform" in each)
    assert (wave["tag"], wave["samples"], wave["int16_samples"]) == ("shock", 4, [0, 1, 2, 3])
    (event,) = (each["event"] for each in told if "event" in each)
    assert (event["kind"], event["facts"]) == ("device_lost", {"polls": 3})
    before = (tmp_path / "aside.jsonl").read_bytes()
    code, _, errors = ran(capsys, "export", tmp_path / "aside.jsonl", config, "--data-dir", tmp_path)
    assert (code, (tmp_path / "aside.jsonl").read_bytes()) == (2, before)
    code, out, _ = ran(capsys, "export", "-", config, "--data-dir", tmp_path)
    assert (code, out.encode()) == (0, before)
    assert len(json.loads(ran(capsys, "list", config, "--data-dir", tmp_path, "--json")[1].splitlines()[0])) > 5


@pytest.mark.parametrize("secret", [None, SECRET])
def test_a_stopped_agent_sends_again_at_its_next_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], secret: str | None
) -> None:
    given = asyncio.run(set_aside(tmp_path, secret=secret))
    code, out, errors = ran(capsys, "retry", 2, 4, 77, "--data-dir", tmp_path)
    assert (code, out) == (1, "2 messages go again at the next start of the agent\n")
    assert "message 77 is not set aside" in errors
    assert ran(capsys, "retry", 2, "--data-dir", tmp_path)[0] == 1, "on its way already"
    assert ran(capsys, "retry", "--all", "--data-dir", tmp_path)[:2] == (
        *(0, "3 messages go again at the next start of the agent\n"),
    )
    assert ran(capsys, "retry", "--all", "--data-dir", tmp_path)[0] == 0

    async def start() -> None:
        async with opened(tmp_path, secret=secret) as log:
            parcels = {given.index(parcel.records[0]): parcel for parcel in await waiting(log)}
            assert sorted(parcels) == [0, 1, 2, 3, 4]
            assert all(len(parcel.instead_of) == 1 and parcel.historical for parcel in parcels.values())
            assert parcels[1].epoch == parcels[3].epoch != parcels[0].epoch, "an epoch of its own each time"
            for place in (1, 3):
                assert await log.outbox().confirm(parcels[place].epoch, [parcels[place].seq]) == 1
            assert log.outbox().backlog().quarantined == 3
        async with opened(tmp_path, secret=secret) as log:
            assert sorted(given.index(parcel.records[0]) for parcel in await waiting(log)) == [0, 2, 4]

    asyncio.run(start())


async def test_a_running_agent_sends_again_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    await set_aside(tmp_path)
    file = configured(tmp_path, uplink={"mqtt": f"mqtt://127.0.0.1:{free_port()}"})
    agent = Agent(load(file), tmp_path)
    running = asyncio.create_task(agent.run())
    try:
        await until((tmp_path / "yulink.sock").exists)
        code, out, _ = await asyncio.to_thread(ran, capsys, "retry", 3, "--data-dir", tmp_path)
        assert (code, out) == (0, "1 messages go again now\n")
        code, out, _ = await asyncio.to_thread(ran, capsys, "retry", "--uplink", "brain", "--data-dir", tmp_path)
        assert (code, out) == (0, "4 messages go again now\n")
        code, out, _ = await asyncio.to_thread(ran, capsys, "list", "--data-dir", tmp_path, "--json")
        assert [json.loads(line)["retrying"] for line in out.splitlines()] == [True] * 5
        code, out, errors = await asyncio.to_thread(ran, capsys, "retry", "--uplink", "brian", "--data-dir", tmp_path)
        assert (code, out) == (2, "")
        assert "uplinks: brain" in errors
        with pytest.raises(YulinkError, match="does not know"):
            await give_order(tmp_path, "self_destruct")
    finally:
        agent.stop()
        await running


def test_wrong_input_is_told_and_changes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asyncio.run(set_aside(tmp_path))
    cases: dict[tuple[str, ...], tuple[int, str]] = {
        ("retry",): (2, "--all"),
        ("retry", "1", "--all"): (2, "one of them"),
        ("retry", "--uplink", "brian"): (2, "uplinks: brain"),
        ("list", "--uplink", "brian"): (2, "uplinks: brain"),
        ("export", str(tmp_path / "none" / "a.jsonl")): (1, "cannot be written"),
    }
    for arguments, (code, words) in cases.items():
        got, _, errors = ran(capsys, *arguments, "--data-dir", tmp_path)
        assert (got, words in errors) == (code, True), (arguments, errors)
    for action in ("list", "retry 1", "export x.jsonl"):
        got, _, errors = ran(capsys, *action.split(), "--data-dir", tmp_path / "none")
        assert (got, "there is no log" in errors) == (1, True), action

    async def untouched() -> None:
        async with opened(tmp_path) as log:
            assert await waiting(log) == []
            assert log.outbox().backlog().quarantined == 5
            code, _, errors = await asyncio.to_thread(ran, capsys, "retry", "--all", "--data-dir", tmp_path)
            assert (code, "is in use by process" in errors) == (1, True), "somebody has the log, but no socket"

    asyncio.run(untouched())


def test_what_the_disk_has_damaged_is_told_and_the_rest_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asyncio.run(set_aside(tmp_path))
    db = sqlite3.connect(tmp_path / "log.sqlite3")
    with db:
        db.execute("UPDATE quarantine SET data = substr(data, 1, length(data) - 3) WHERE id = 3")
    db.close()
    code, out, errors = ran(capsys, "export", "-", "--data-dir", tmp_path)
    assert (code, len(out.splitlines())) == (1, 6)
    assert "message 3: the disk has damaged it" in errors
    assert "damaged on the disk" in ran(capsys, "list", "--data-dir", tmp_path)[1]

    async def goes_as_a_gap() -> None:
        async with opened(tmp_path) as log:
            assert await log.outbox().retry([3]) == [3]
            while (parcel := await log.outbox().next(1000)) is not None:
                if parcel.instead_of and not parcel.records and not parcel.gaps[0].reason.startswith("set aside"):
                    assert [gap.rows for gap in parcel.gaps] == [3]
                    return
            pytest.fail("it did not go")

    asyncio.run(goes_as_a_gap())


async def test_a_retry_from_another_task_takes_no_number_twice(tmp_path: Path) -> None:
    """What is cut and what is retried at the same time are numbered one after the other, without a hole."""
    await set_aside(tmp_path)
    async with opened(tmp_path) as log:
        log.catalogue.intern("press-9", "total", ValueKind.UINT64, "pcs")
        outbox, seqs = log.outbox(), list[int]()

        async def cut() -> None:
            for number in range(40):
                await log.append([Batch.of(Lane.INT, [2], number, [number])])
                while (parcel := await outbox.next(1)) is not None:
                    seqs.extend([parcel.seq] if parcel.epoch == outbox.epoch else [])

        async def again(entry: int) -> None:
            for _ in range(8):
                await outbox.retry([entry])
                await log.flush()

        await asyncio.gather(cut(), *(again(entry) for entry in range(1, 6)))
        while (parcel := await outbox.next(1)) is not None:
            seqs.append(parcel.seq)
        assert sorted(seqs) == list(range(1, 46))
