"""A day of a plant in the log: what is counted of it, told of it, and shown of it."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from buffer.log import Log, open_log
from buffer.quality_days import days, gaps
from edge.agent.app import LOG_NAME
from edge.agent.cli import main
from edge.agent.day_counts import Watched, local_day, midnight
from edge.agent.quality_watch import FOLLOWER, QualityWatch, RuleState
from edge.core.batch import Batch, Event, Lane
from edge.core.catalogue import ValueKind
from edge.core.clock import VirtualClock
from edge.core.quality import StatusCode
from tests.buffer.support import everything
from uplink.statement import quality_statement

ZONE = ZoneInfo("Asia/Shanghai")
S = 10**9
MINUTE, HOUR = 60 * S, 3600 * S
DAY = local_day(ZONE, 1_767_225_600 * S)
BEGIN = midnight(ZONE, DAY)
CONFIG = "site: chongqing/plant-1\ntimezone: Asia/Shanghai\ndevices: {}\n"
OFF = range(6, 9)
SECRET = "correct horse battery"


def tell(device: str, facts: Mapping[str, Any], now: int) -> Event:
    return quality_statement(device, facts, "chongqing/plant-1", now, None)


class Plant:
    """A press with two tags a minute each, and a robot that reports by itself; and who counts."""

    def __init__(self, log: Log, clock: VirtualClock) -> None:
        self.log, self.clock = log, clock
        make = log.catalogue.intern
        self.press = [make("press", name, ValueKind.FLOAT64, "bar").id for name in ("pressure", "stroke")]
        self.robot = make("robot", "count", ValueKind.INT64).id
        self.repeated: dict[int, int] = {}
        watched = [*(Watched(tag, "press", MINUTE) for tag in self.press), Watched(self.robot, "robot", 0)]
        rules: Callable[[], Mapping[str, RuleState]] = lambda: {"press": {1: [0, 0, 0, 20.5, 7]}}  # noqa: E731
        self.watch = QualityWatch(
            *(log.followers[FOLLOWER], log.catalogue, clock, ZONE, 10.0),
            *(lambda: watched, lambda: self.repeated, rules, tell),
        )

    async def hour(self, number: int, quality: int = 0, off: range = OFF) -> None:
        """Let an hour pass in which the press answers, or does not, and be counted."""
        start = BEGIN + number * HOUR
        if number not in off:
            ts = [start + minute * MINUTE for minute in range(60) for _ in self.press]
            await self.log.put(Batch.of(Lane.FLOAT, self.press * 60, ts, [1.0, 2.0] * 60, quality))
        elif number == off[0]:
            await self.log.put(Batch.of(Lane.FLOAT, self.press, start + S, [0.0] * 2, StatusCode.BAD_NO_COMMUNICATION))
        await self.log.put(Batch.of(Lane.INT, [self.robot], BEGIN + number * HOUR + 7, [number]))
        await self.log.flush()
        await self.clock.advance(3600)
        await self.watch.step()


async def a_day(
    path: Path, hours: int = 25, *, secret: str | None = None, kills: bool = False, off: range = OFF
) -> list[Any]:
    """Play a day in which the press is off from 06:00 to 09:00, and some of the next; return what the log has then."""
    clock = VirtualClock(BEGIN)
    number = 0
    told: list[Any] = []
    while number < hours:
        async with open_log(path, clock, followers=[FOLLOWER], commit_interval_s=0.001, secret=secret) as log:
            plant = Plant(log, clock)
            await plant.watch.step()
            while number < hours:
                await plant.hour(number, StatusCode.UNCERTAIN_LAST_USABLE_VALUE if number == 12 else 0, off)
                number += 1
                if kills and number % 5 == 0:
                    break  # what was counted since is forgotten, and counted at the next start
            told = await everything(log)
    return told


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Arguments that show the day."""
    folder = tmp_path_factory.mktemp("day")
    (folder / "plant.yaml").write_text(CONFIG)
    asyncio.run(a_day(folder / LOG_NAME))
    return [str(folder / "plant.yaml"), "--data-dir", str(folder)]


def shown(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert main(["quality", *arguments, "--json"]) == 0
    return {told["device"]: told for told in map(json.loads, capsys.readouterr().out.splitlines())}


def test_three_hours_off_are_an_online_rate_of_87_5_and_one_gap_with_exact_bounds(
    day: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    press = shown([*day, "--day", "2026-01-01"], capsys)["press"]
    assert press["online"] == press["completeness"] == 0.875
    assert (press["expected"], press["received"], press["good"]) == (2880, 2520, 2400)
    assert press["validity"] == 2400 / 2520
    assert press["broken"] == {"unit": 0, "range": 0, "clock": 0, "rate": 0, "frozen": 120}
    assert press["gaps"] == [
        {"from": "2025-12-31T22:00:00.000000Z", "to": "2026-01-01T01:00:00.000000Z", "seconds": 10800.0}
    ]
    assert press["tags"]["stroke"]["completeness"] == 0.875
    expected = 100 * (0.875 + 2400 / 2520 + press["timeliness"] + 1) / 4
    assert press["score"] == pytest.approx(expected, rel=1e-12)


def test_a_month_is_made_of_the_counts_of_its_days(day: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    (one, two), month = (
        [shown([*day, "--day", f"2026-01-0{number}"], capsys)["robot"] for number in (1, 2)],
        shown([*day, "--month", "2026-01"], capsys)["robot"],
    )
    assert month["received"] == one["received"] + two["received"] == 25
    late = 25 - month["timely"]
    assert month["score"] == 100 * (1 + (25 - late) / 25 + 1) / 3
    assert (one["timely"] + two["timely"]) / 25 == month["timeliness"]


def test_a_device_that_reports_by_itself_owes_nothing_and_is_told_as_such(
    day: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    robot = shown([*day, "--day", "2026-01-01"], capsys)["robot"]
    assert (robot["owed_by"], robot["expected"], robot["completeness"]) == ("itself", None, None)
    assert (robot["received"], robot["validity"], robot["online"]) == (24, 1.0, 1.0)


def test_the_command_shows_devices_tags_and_gaps_in_both_languages(
    day: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["quality", *day, "--day", "2026-01-01"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "2026-01-01  Asia/Shanghai"
    assert lines[2].split()[:6] == ["press", "2,880", "2,520", "87.50", "%", "95.23"]
    assert lines[2].split()[-4:] == ["87.50", "%", "frozen", "120"]
    assert lines[3].split()[:4] == ["robot", "by", "itself", "24"]
    assert lines[-1].split() == ["press", "2026-01-01", "06:00:00.000", "2026-01-01", "09:00:00.000", "3:00:00.000"]
    assert main(["quality", *day, "--day", "2026-01-01", "--device", "press"]) == 0
    first = [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:5]]
    assert first == ["tag", "pressure", "stroke", "all"]
    chinese = subprocess.run(
        [sys.executable, "-m", "edge.agent.cli", "quality", *day, "--month", "2026-01"],
        env={"LC_ALL": "zh_CN.UTF-8", "PYTHONIOENCODING": "utf-8"}, capture_output=True, text=True, encoding="utf-8",
    )  # fmt: skip
    assert chinese.stdout.splitlines()[1].split()[:3] == ["设备", "应有", "收到"], chinese.stderr


def test_wrong_words_say_what_to_write(day: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["quality", *day, "--day", "2026-01-01", "--device", "pres"]) == 2
    assert "help: did you mean 'press'?" in capsys.readouterr().err
    assert main(["quality", *day, "--day", "yesterday"]) == 2
    assert "--day yesterday is not a day" in capsys.readouterr().err
    assert main(["quality", *day, "--month", "2026-13"]) == 2
    assert "--month 2026-13 is not a month" in capsys.readouterr().err
    assert main(["quality", *day, "--day", "2020-01-01"]) == 0
    assert capsys.readouterr().out == "nothing was counted on 2020-01-01\n"


async def test_a_day_that_is_over_is_told_once_with_its_counts_and_told_again_when_it_changes(tmp_path: Path) -> None:
    events = [each for each in await a_day(tmp_path / LOG_NAME) if isinstance(each, Event)]
    told = {each.source: json.loads(str(each.facts["quality"])) for each in events}
    assert len(events) == len(told) == 2
    assert told["press"]["tags"]["stroke"][:3] == [1440, 1260, 1200]
    assert (told["press"]["online"], told["press"]["revision"], told["press"]["day"]) == (0.875, 0, "2026-01-01")
    clock = VirtualClock(BEGIN + 27 * HOUR)
    async with open_log(tmp_path / LOG_NAME, clock, followers=[FOLLOWER], commit_interval_s=0.001) as log:
        plant = Plant(log, clock)
        await log.put(Batch.of(Lane.FLOAT, plant.press[:1], BEGIN + 7 * HOUR, [1.0]))
        await log.flush()
        await plant.watch.step()
        again = [each for each in await everything(log) if isinstance(each, Event)][2:]
        rows = [each for each in await everything(log) if isinstance(each, Batch) and each.revision is not None]
    corrected = json.loads(str(next(each for each in again if each.source == "press").facts["quality"]))
    assert (corrected["revision"], corrected["tags"]["pressure"][1]) == (1, 1261)
    assert {log.catalogue[tag].name for batch in rows for tag in batch.tag.tolist()} >= {"completeness_1d", "online_1d"}


async def test_a_gap_that_lasts_over_midnight_is_told_open_and_again_with_its_end(tmp_path: Path) -> None:
    events = [
        each for each in await a_day(tmp_path / LOG_NAME, 28, off=range(22, 26))
        if isinstance(each, Event) and each.source == "press"
    ]  # fmt: skip
    open_one, ended = (json.loads(str(each.facts["quality"])) for each in events)
    assert open_one["online"] == ended["online"] == pytest.approx(22 / 24)
    assert [gap["to"] for gap in open_one["gaps"]] == [None]
    assert [(gap["from"], gap["to"]) for gap in ended["gaps"]] == [
        ("2026-01-01T14:00:00.000000Z", "2026-01-01T18:00:00.000000Z")
    ]


async def test_a_clock_that_is_set_owes_nothing_for_the_jump_and_leaves_no_gap(tmp_path: Path) -> None:
    clock = VirtualClock(BEGIN)
    async with open_log(tmp_path / LOG_NAME, clock, followers=[FOLLOWER], commit_interval_s=0.001) as log:
        plant = Plant(log, clock)
        await plant.watch.step()
        await plant.hour(0)
        clock.step_wall(2 * 3600)
        await plant.hour(3)
        fetch = log.followers[FOLLOWER].fetch
        counted = {row.tag: row.counts[:3] for row in await days(fetch, DAY, DAY)}
        assert await gaps(fetch, 0, 2**62) == []
    assert [counted[tag] for tag in plant.press] == [(120, 120, 120)] * 2


async def test_killed_anywhere_it_counts_every_reading_once(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    for path, kills in ((tmp_path / LOG_NAME, False), (tmp_path / "other" / LOG_NAME, True)):
        await a_day(path, 15, kills=kills)
    found = []
    for path in (tmp_path / LOG_NAME, tmp_path / "other" / LOG_NAME):
        async with open_log(path, VirtualClock(BEGIN + 16 * HOUR), followers=[FOLLOWER]) as log:
            plant = Plant(log, VirtualClock(BEGIN + 16 * HOUR))
            assert plant.watch.kept == {"press": {1: [0, 0, 0, 20.5, 7]}}
            found.append(await days(log.followers[FOLLOWER].fetch, 0, 2**40))
    assert found[0] == found[1]
    assert sum(row.counts[1] for row in found[0]) == 2 * 720 + 15


async def test_what_a_commit_could_not_bring_over_is_counted_at_the_next_start(tmp_path: Path) -> None:
    clock = VirtualClock(BEGIN)
    async with open_log(tmp_path / LOG_NAME, clock, followers=[FOLLOWER], commit_interval_s=0.001) as log:
        plant = Plant(log, clock)
        await plant.watch.step()
        await log.append([Batch.of(Lane.FLOAT, plant.press, BEGIN + S, [1.0, 2.0])])
        plant.watch.leave_out([Batch.of(Lane.FLOAT, plant.press[:1], BEGIN + 2 * S, [1.0])])
        plant.repeated = {plant.robot: 3}
    async with open_log(tmp_path / LOG_NAME, clock, followers=[FOLLOWER], commit_interval_s=0.001) as log:
        plant = Plant(log, clock)
        plant.watch.leave_out([Batch.of(Lane.FLOAT, plant.press[:1], BEGIN + 3 * S, [1.0])])
        plant.repeated = {plant.robot: 2}
        await plant.watch.step()
        await plant.watch.step()
        counted = {row.tag: row.counts for row in await days(log.followers[FOLLOWER].fetch, DAY, DAY)}
    assert [counted[tag][1] for tag in plant.press] == [2, 1]
    assert counted[plant.robot][4] == 2


async def test_a_sealed_log_shows_its_gap_while_it_lasts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "plant.yaml").write_text(CONFIG + "log: {encrypt: disk}\n")
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "disk").write_text(SECRET)
    (tmp_path / "secrets" / "disk").chmod(0o600)
    await a_day(tmp_path / LOG_NAME, 8, secret=SECRET)
    arguments = [str(tmp_path / "plant.yaml"), "--data-dir", str(tmp_path), "--day", "2026-01-01"]
    with suppress(RuntimeError):  # the command has a loop of its own
        await asyncio.to_thread(main, ["quality", *arguments, "--json"])
    press = next(told for told in map(json.loads, capsys.readouterr().out.splitlines()) if told["device"] == "press")
    assert [(gap["from"], gap["to"]) for gap in press["gaps"]] == [("2025-12-31T22:00:00.000000Z", None)]
    assert press["online"] == 0.25  # the agent has been off since
