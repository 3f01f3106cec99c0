"""The published numbers of production, through `yulink replay` from a recording."""

import contextlib
import csv
import io
import json
import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from edge.agent.cli import main
from tests.agent.test_replay_command import run

Row = tuple[datetime, str, str, float]
BEGIN = datetime.fromisoformat("2026-03-02T08:00:00+08:00")
MACHINE = """
site: chongqing/plant-1
shifts: {day: {from: '08:00', to: '16:30', breaks: 12:00-12:30}}
devices:
  cnc-07:
    modbus: tcp://127.0.0.1:1
    every: 1min
    tags:
      status: {at: holding/0, type: u16}
      alarm: {at: holding/1, type: u16}
      part_count: {at: holding/2, type: u16}
      good_count: {at: holding/3, type: u16}
production:
  cnc-07:
    states:
      fault: cnc-07.alarm > 0
      running: cnc-07.status == 2
      idle: cnc-07.status == 1
    parts: {tag: cnc-07.part_count, rolls_over_at: 65536}
    good: cnc-07.good_count
    ideal_cycle: 30s
"""


def replay(folder: Path, config: str, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return what a recording gives."""
    (folder / "plant.yaml").write_text(config, "utf-8")
    with (folder / "rows.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["ts", "device", "tag", "value"])
        writer.writerows([at.isoformat(), device, tag, value] for at, device, tag, value in sorted(rows))
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert main(["replay", str(folder / "plant.yaml"), str(folder / "rows.csv"), "--jsonl"]) == 0
    return [json.loads(line) for line in printed.getvalue().splitlines()]


def shift() -> list[Row]:
    """Return 480 planned minutes, of which 420 ran, 780 parts over a roll-over of their counter, 760 of them good."""
    rows: list[Row] = []
    ran = 0
    for minute in range(515):
        at = BEGIN + timedelta(minutes=minute)
        stands = 240 <= minute < 270 or 60 <= minute < 90 or 300 <= minute < 330 or minute >= 510
        rows += [
            (at, "cnc-07", "status", 1 if stands else 2),
            (at, "cnc-07", "alarm", int(300 <= minute < 330)),
            (at, "cnc-07", "part_count", (65_500 + round(780 * ran / 420)) % 65_536),
            (at, "cnc-07", "good_count", round(760 * ran / 420)),
        ]
        ran += not stands
    return rows


async def test_the_agent_makes_the_same_as_a_replay(tmp_path: Path) -> None:
    config = MACHINE.replace("modbus: tcp://127.0.0.1:1", f"replay: {tmp_path / 'rows.csv'}\n    speed: 0")
    for tag in ("status", "alarm", "part_count", "good_count"):
        config = re.sub(rf"{tag}: {{.*}}", f"{tag}: {{type: int64}}", config)
    lines = replay(tmp_path, config, shift())
    replayed = [
        repr((line["ts"], f"{line['device']}.{line['tag']}", line["value"], line["quality"]))
        for line in lines
        if "event" not in line
    ]
    assert len(replayed) > 300
    assert sorted(map(repr, await run(tmp_path, len(replayed)))) == sorted(replayed)


def test_oee_of_a_shift(tmp_path: Path) -> None:
    lines = replay(tmp_path, MACHINE, shift())
    found = {line["tag"]: line["value"] for line in lines if "tag" in line}
    figures = [found[f"{name}_shift"] for name in ("availability", "effectiveness", "quality", "oee")]
    assert figures == pytest.approx([0.8750, 0.9286, 0.9744, 0.7917], abs=5e-5)
    assert found["planned_seconds_shift"] == 480 * 60
    assert (found["parts_shift"], found["parts_good_shift"]) == (780, 760)
    assert {line["event"]["kind"] for line in lines if "event" in line} == {"machine_stopped", "machine_stop_ended"}


def test_energy_of_the_account_becomes_energy_a_part(tmp_path: Path) -> None:
    config = MACHINE.replace(
        "production:\n  cnc-07:\n",
        "      energy: {at: holding/4, type: f64, unit: kWh}\n"
        "energy: {tree: {cnc-07: []}}\nproduction:\n  cnc-07:\n    energy: cnc-07\n",
    )
    rows, used = shift(), 0.0
    for at, status in [(at, value) for at, _, tag, value in shift() if tag == "status"]:
        rows.append((at, "cnc-07", "energy", used))
        used += 0.5 if status == 2 else 0.1
    lines = replay(tmp_path, config, rows)
    found = {
        line["tag"]: line["value"]
        for line in lines
        if "tag" in line and line["ts"].startswith("2026-03-02T00:00") and line["tag"].endswith("_shift")
    }
    # 420 minutes ran; 60 stood, and 30 were the break.
    total = 420 * 0.5 + 90 * 0.1
    assert found["energy_shift"] == pytest.approx(total)
    assert found["kwh_per_part_shift"] == pytest.approx(total / 780)
    assert found["idle_energy_share_shift"] == pytest.approx(9 / total)
    assert found["base_load_shift"] == pytest.approx(6.0)
