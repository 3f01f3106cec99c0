"""`yulink diagnose`: every format gives the same judgement; wrong input says what to do next."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from edge.agent.cli import main
from tests.analytics.test_diagnosis import RATE, RPM, strokes

COMMON = ["--rpm", str(RPM), "--bearing", "6205", "--json"]


def write(path: Path) -> None:
    """Write the same record as whatever the ending says, in g as far as the format can."""
    from scipy.io import savemat, wavfile

    block = strokes(3.5848, seconds=4.0, size=3.0)
    match path.suffix:
        case ".npy":
            np.save(path, block)
        case ".npz":
            np.savez(path, de=block.astype(np.float32), fs=RATE)
        case ".mat":
            savemat(path, {"X105_DE_time": block[:, None], "X105RPM": np.array([[RPM]])})
        case ".wav":
            wavfile.write(path, int(RATE), np.round(block * 1000).astype(np.int16))
        case ".csv":
            rows = "\n".join(f"{i / RATE:.6f},{value:.6f}" for i, value in enumerate(block))
            path.write_text("time_s,DE [g]\n" + rows + "\n")


@pytest.mark.parametrize("ending", ["npy", "npz", "mat", "wav", "csv"])
def test_every_format_gives_the_same_verdict(tmp_path: Path, capsys: pytest.CaptureFixture[str], ending: str) -> None:
    path = tmp_path / f"pump.{ending}"
    write(path)
    assert main(["diagnose", str(path), "--rate", str(RATE), *COMMON]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["verdict"]["fault"] == "outer_race"
    assert shown["lines"].keys() == {"bpfo", "bpfi", "bsf2", "ftf"}
    assert shown["lines"]["bpfo"]["hz"] == pytest.approx(3.5848 * RPM / 60, rel=1e-3)
    assert {"acceleration_rms_g", "kurtosis", "crest_factor"} <= shown["features"].keys()
    bare_counts = ending == "wav"
    assert ("velocity_rms_mm_s" in shown["features"]) is not bare_counts
    assert any("--full-scale" in note for note in shown["notes"]) is bare_counts


def test_text_and_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, picture = tmp_path / "pump.npz", tmp_path / "pump.png"
    write(path)
    zone = ["--group", "2", "--support", "rigid"]
    assert main(["diagnose", str(path), *COMMON[:-1], *zone, "--picture", str(picture)]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("outer_race: BPFO at 105.8 Hz")
    assert re.search(r"^zone [A-D]$", shown, re.M)
    assert "ISO 20816-3:2022 Table A.2" in shown
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["pump.npz", "--rpm", "1770"], "--bearing"),
        (["pump.npz", "--bearing", "6205"], "--rpm 1480"),
        (["pump.npz", "--rpm", "1770", "--bearing", "6204"], "did you mean 6205"),
        (["pump.npy", "--rpm", "1770", "--bearing", "6205"], "did you mean pump.npz"),
        (["pump.xlsx", "--rpm", "1770", "--bearing", "6205"], "formats: .wav"),
        (["pump.npz", "--rpm", "-3", "--bearing", "6205"], "above zero"),
        (["pump.npz", "--rpm", "1770", "--bearing", "6205", "--channel", "fe"], "channels: de"),
        (["pump.npz", "--rpm", "1770", "--bearing", "6205", "--group", "2"], "--group 2 --support rigid"),
    ],
)
def test_wrong_input_says_what_to_do(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    words: str,
) -> None:
    write(tmp_path / "pump.npz")
    monkeypatch.chdir(tmp_path)
    assert main(["diagnose", *arguments]) == 2
    assert words in capsys.readouterr().err
