"""`yulink diagnose` with a tacho, and of a motor's current: as text and JSON, and what is wrong about it."""

import json
from pathlib import Path

import numpy as np
import pytest

from edge.agent.cli import main
from edge.analytics.condition.bearing.bearings import bearing
from tests.analytics.test_motor import RATE as CURRENT_RATE
from tests.analytics.test_motor import SUPPLY, current
from tests.analytics.test_orders import RATE, wavering

PLATE = "supply=50,rpm=1480,rated=42"


@pytest.fixture
def run_up(tmp_path: Path) -> str:
    samples, tacho = wavering(bearing("6205").orders["bpfo"], seconds=6)
    file = tmp_path / "run-up.npz"
    np.savez(file, de=samples, tacho=tacho, quiet=0 * tacho)
    return str(file)


def test_a_bearing_at_changing_speed_needs_its_tacho(run_up: str, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["diagnose", run_up, "--rate", str(RATE), "--bearing", "6205", "--channel", "de", "--unit", "m/s2"]
    given.append("--json")
    assert main([*given, "--tacho", "tacho"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["verdict"]["fault"] == "outer_race"
    assert any("rpm; pulses missing 0, too many 0" in note for note in found["notes"])
    assert main([*given, "--rpm", "1480"]) == 0
    assert json.loads(capsys.readouterr().out)["verdict"]["fault"] == "none"
    assert main([*given, "--tacho", "quiet"]) == 2
    assert "channel quiet: the tacho shows no pulses" in capsys.readouterr().err
    assert main([*given, "--tacho", "tacho", "--pulses", "0"]) == 2
    assert "--pulses must be above zero, not 0" in capsys.readouterr().err


def test_a_motors_current(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "current.npy"
    np.save(file, current(lower=-38, upper=-41, below=-50, above=-52))
    given = ["diagnose", str(file), "--rate", str(CURRENT_RATE), "--motor"]
    assert main([*given, PLATE, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["verdict"], found["slip_from"]) == ("judged", "shaft")
    assert found["supply_hz"] == pytest.approx(SUPPLY, abs=1e-3)
    assert found["lines"]["rotor_bars_lower"]["level_db"] == pytest.approx(-38, abs=0.3)
    assert main([*given, PLATE, "--bearing", "6308"]) == 0
    shown = capsys.readouterr().out
    assert "supply 49.963 Hz, 37.8 A, 90% of rated; slip 1.20%" in shown
    assert "rotor_bars_lower" in shown
    assert "bpfo" in shown
    assert "a convention, no standard" in shown
    picture = tmp_path / "current.png"
    assert main([*given, PLATE, "--picture", str(picture)]) == 0
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("plate", "words"),
    [
        ("supply=50,rpm=1480", "'supply=50,rpm=1480' is no name plate of a motor"),
        ("supply=50,rpm=fast,rated=42", "is no name plate of a motor"),
        ("supply=50,rpm=1200,rated=42", "1200 rpm is no rated speed of an induction motor at 50 Hz"),
    ],
)
def test_a_wrong_name_plate_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], plate: str, words: str
) -> None:
    file = tmp_path / "current.npy"
    np.save(file, current(10))
    assert main(["diagnose", str(file), "--rate", str(CURRENT_RATE), "--motor", plate]) == 2
    shown = capsys.readouterr().err
    assert words in shown
    assert f"--motor {PLATE}" in shown


def test_an_idle_motor_is_not_diagnosable(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "current.npy"
    np.save(file, current(load=0.3))
    assert main(["diagnose", str(file), "--rate", str(CURRENT_RATE), "--motor", PLATE]) == 0
    assert capsys.readouterr().out.startswith("not_diagnosable: low_load")
