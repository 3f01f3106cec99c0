"""`yulink explain`: numbers that can be checked by hand, and what to do when there is nothing to explain."""

import json
from pathlib import Path

import pytest

from edge.agent.cli import main

EXAMPLE = Path(__file__).parents[2] / "config" / "examples" / "machine.yaml"


def test_zones_frequencies_and_blocks(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", str(EXAMPLE), "pump-3", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["zones"]["velocity_mm_s"] == [1.4, 2.8, 4.5]
    assert found["shaft_hz"] == pytest.approx(1480 / 60)
    ratio = 15.081 / 65
    assert found["lines"]["bpfo"]["hz"] == pytest.approx(8 / 2 * (1 - ratio) * 1480 / 60)
    (block,) = found["blocks"]
    assert block["resolution_hz"] == pytest.approx(6400 / 8192)
    assert block["samples_needed"] == pytest.approx(20 * 60 / 1480 * 6400, abs=1)
    assert block["long_enough"]
    assert block["quick_enough"]
    assert found["velocities"] == ["velocity_x", "velocity_y", "velocity_z"]
    assert found["running"] == {"tag": "current", "above": "4 A", "for_s": 10.0}


def test_the_text_names_standard_bearing_and_what_is_too_short(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "plant.yaml").write_text(EXAMPLE.read_text("utf-8").replace("8192", "2048"), "utf-8")
    monkeypatch.chdir(tmp_path)
    assert main(["explain", "pump-3"]) == 0
    shown = capsys.readouterr().out
    for words in ("ISO 20816-3:2022 Table A.2", "A ≤ 1.4 < B ≤ 2.8 < C ≤ 4.5 < D", "bearing 6308", "75.774 Hz"):
        assert words in shown
    assert "too short for bearing lines: 5190 samples are needed" in shown
    assert "runs while current is above 4 A, judged after 10 s" in shown
    assert "8 elements of 15.081 mm in 6308 are inferred, not published: check its data sheet" in shown


def test_what_cannot_be_explained_says_what_can(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plant = tmp_path / "plant.yaml"
    plant.write_text(
        EXAMPLE.read_text("utf-8") + "  meter:\n    modbus: tcp://h\n    tags: {a: {at: input/0}}\n", "utf-8"
    )
    assert main(["explain", str(plant), "pump-4"]) == 2
    assert "did you mean 'pump-3'" in capsys.readouterr().err
    assert main(["explain", str(plant), "meter"]) == 2
    assert "devices that have: pump-3" in capsys.readouterr().err


def test_a_spindle_gets_no_zone_and_dimensions_stand_for_a_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spindle = (
        "{standard: none, rpm: 12000, bearing: {balls: 20, ball: 0.25 in, pitch: 57 mm, angle: 15 deg}, teeth: 31}"
    )
    plant = tmp_path / "plant.yaml"
    tags = "{running: {at: coil/3}}"
    plant.write_text(f"site: a/b\ndevices:\n  cnc-1:\n    modbus: tcp://h\n    tags: {tags}\n    machine: {spindle}\n")
    assert main(["explain", str(plant), "cnc-1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["zones"] is None
    assert found["lines"]["mesh"]["hz"] == 31 * 200
    assert found["running"]["tag"] == "running"
    assert found["bearing"] == "20 × 6.35 mm / 57 mm"


def test_a_watch_tells_what_it_reads_and_how_soon_it_alarms(capsys: pytest.CaptureFixture[str]) -> None:
    example = str(EXAMPLE.with_name("watch.yaml"))
    assert main(["explain", example, "cooling", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["rows"], found["row_s"], found["alarm_after_s"], found["max_age_s"]) == (480, 360, 1080, 300)
    assert found["running"] == {"tag": "pump-3.current", "above": 4.0, "for_s": 1800}
    assert "cooling.t2_limit" in found["makes"]
    assert main(["explain", example, "cooling"]) == 0
    shown = capsys.readouterr().out
    assert "judged from 1800 s after pump-3.current > 4 on" in shown
    assert "learns 480 rows, 48 h of running" in shown
