"""`yulink replay`: byte for byte the same again, and the same as the agent makes of the same rows."""

import asyncio
import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from buffer.log import open_log
from edge.agent.app import LOG_NAME, Agent
from edge.agent.commands.recorded import read
from edge.agent.configuration.loader import load
from edge.core.batch import Batch, Event
from edge.core.catalogue import ValueKind
from edge.core.clock import SystemClock, iso8601
from edge.core.errors import ConfigError

CONFIG = """
site: chongqing/plant-1
devices:
  press:
    replay: rows.csv
    speed: 0
    tags:
      count: {type: int64, unit: pcs}
      temperature: {unit: degC, valid: [0, 100], deadband: 0.5}
      running: {type: bool}
      program: {type: text}
derived:
  press.rate: rate(press.count, 1min)
  press.mean: avg(press.temperature, 10min)
  line.busy: press.running and press.mean > 40 and press.program != "idle"
alarms:
  hot: {when: press.temperature > 60, for: 2min, deadband: 5, severity: high}
  stopped: {when: "count(press.count, 5min) < 3", latch: true}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A configuration and a day of rows, some bad, none on time to the second."""
    chance = random.Random(7)
    rows: list[str] = []
    count, temperature, ms = 0, 40.0, 1_767_225_600_000
    while len(rows) < 1500:
        ms += chance.randint(100, 60_000)
        count += chance.random() < 0.7
        temperature = min(max(temperature + chance.uniform(-6, 6), -20), 110)
        # Several at one time, as a poll gives them.
        rows += [f"{ms}000000,press,count,{count},", f"{ms}000000,press,temperature,{temperature:.2f},"]
        if chance.random() < 0.2:
            rows.append(f"{ms}000000,press,running,{chance.choice(['true', 'false'])},")
        if chance.random() < 0.1:
            rows.append(f"{ms}000000,press,program,{chance.choice(['idle', '法兰-7'])},")
        if chance.random() < 0.05:
            rows.append(f"{ms + 1}000000,press,temperature,,0x80310000")
    (tmp_path / "rows.csv").write_text("ts,device,tag,value,quality\n" + "\n".join(rows) + "\n", "utf-8")
    (tmp_path / "plant.yaml").write_text(CONFIG.replace("rows.csv", str(tmp_path / "rows.csv")), "utf-8")
    return tmp_path


def replay(folder: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "edge.agent.cli", "replay", "plant.yaml", *arguments],
        cwd=folder,
        capture_output=True,
        env=os.environ | {"LC_ALL": "C.UTF-8"},
        timeout=60,
    )


async def run(folder: Path, rows_max: int) -> list[tuple[Any, ...]]:
    """Run the agent on the recording; return its derived rows and alarm events."""
    agent = Agent(load(folder / "plant.yaml"), folder / "data")
    running = asyncio.create_task(agent.run())
    async with asyncio.timeout(30):
        while True:
            analytics = agent.describe()["analytics"]
            if running.done() or (analytics and analytics["rows_derived_total"] >= rows_max):
                break
            await asyncio.sleep(0.05)
    agent.stop()
    await running
    found: list[tuple[Any, ...]] = []
    derived = set(agent.describe()["analytics"]["derived_tags"])
    async with open_log(folder / "data" / LOG_NAME, SystemClock()) as log:
        position = 0
        while records := await log.read(position):
            position = records[-1][0]
            for _, record in records:
                if isinstance(record, Event) and record.kind.startswith("alarm_"):
                    found.append((iso8601(record.ts), record.kind, dict(record.facts), record.message))
                elif isinstance(record, Batch):
                    columns = (record.tag, record.ts, record.value, record.quality)
                    for tag_id, ts, value, quality in zip(*(column.tolist() for column in columns), strict=True):
                        tag = log.catalogue[tag_id]
                        if tag.path in derived:
                            shown = None if quality & 0x80000000 else tag.present(value)
                            found.append((iso8601(ts), tag.path, shown, f"0x{quality:08X}"))
    return found


async def test_run_and_replay_give_the_same(folder: Path) -> None:
    first, again = replay(folder, "rows.csv", "--jsonl"), replay(folder, "rows.csv", "--jsonl")
    assert (first.returncode, first.stderr) == (0, b"")
    assert first.stdout == again.stdout
    told = [json.loads(line) for line in first.stdout.splitlines()]
    times = [each.get("ts") or each["event"]["ts"] for each in told]
    assert times == sorted(times)
    replayed = [
        (each["event"]["ts"], each["event"]["kind"], each["event"]["facts"], each["event"]["text"])
        if "event" in each
        else (each["ts"], f"{each['device']}.{each['tag']}", each["value"], each["quality"])
        for each in told
    ]
    rows = sum("event" not in each for each in told)
    assert rows > 500
    assert len(told) - rows > 5
    assert sorted(map(repr, await run(folder, rows))) == sorted(map(repr, replayed))


def test_the_order_of_rows_in_the_file_does_not_matter_but_for_those_of_one_time(folder: Path) -> None:
    head, *rows = (folder / "rows.csv").read_text("utf-8").splitlines()
    by_time: dict[str, list[str]] = {}
    for row in rows:
        by_time.setdefault(row.partition(",")[0], []).append(row)
    shuffled = list(by_time.values())
    random.Random(1).shuffle(shuffled)
    (folder / "other.csv").write_text("\n".join([head, *(row for part in shuffled for row in part)]), "utf-8")
    assert replay(folder, "other.csv").stdout == replay(folder, "rows.csv").stdout


def test_wrong_rows_are_told_with_line_and_column(folder: Path) -> None:
    (folder / "rows.csv").write_text(
        "ts,device,tag,value,quality\n2026-01-01,press,count,1,\n2026-13-01,press,count,1,\n"
        "2026-01-01,press,temperature,warm,\n2026-01-01,press,running,3,\n2026-01-01,press,count,1,bad\n1,press\n",
        "utf-8",
    )
    done = replay(folder, "rows.csv")
    assert (done.returncode, done.stdout) == (2, b"")
    heads = [line for line in done.stderr.decode().splitlines() if line.startswith("rows.csv")]
    assert [head.split(" error")[0] for head in heads] == [
        "rows.csv:3:1:", "rows.csv:4:30:", "rows.csv:5:26:", "rows.csv:6:26:", "rows.csv:7:1:",
    ]  # fmt: skip


def test_rows_of_other_tags_are_told_and_passed_over(folder: Path) -> None:
    (folder / "rows.csv").write_text(
        "ts,device,tag,value\n1,press,cuont,1\n2,press,cuont,2\n3,press,count,1\n", "utf-8"
    )
    done = replay(folder, "rows.csv")
    assert done.returncode == 0
    assert done.stderr.decode().splitlines() == [
        "2 rows of press.cuont were passed over: it is not in the configuration (did you mean press.count?)"
    ]


def test_kinds_that_only_the_device_knows_are_found_from_the_values(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    rows = ["1,d,a,1", "2,d,a,2.5", "3,d,b,true", "4,d,b,false", "5,d,c,7", "6,d,e,x", "7,d,e,1", "8,d,f,"]
    file.write_text("ts,device,tag,value\n" + "\n".join(rows), "utf-8")
    found = read(file, dict.fromkeys(("d.a", "d.b", "d.c", "d.e")))
    assert dict(zip(found.paths, found.kinds, strict=True)) == {
        "d.a": ValueKind.FLOAT64, "d.b": ValueKind.BOOL, "d.c": ValueKind.INT64, "d.e": ValueKind.TEXT,
    }  # fmt: skip
    assert found.number[:2].tolist() == [1.0, 2.5]
    assert found.unknown == {"d.f": 1}
    with pytest.raises(ConfigError):
        read(tmp_path / "none.csv", {})
