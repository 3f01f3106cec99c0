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


def test_a_full_scale_has_the_unit_that_is_written_with_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "pump.wav"
    write(path)
    found = []
    for scale in (["8"], ["8 g"], ["8g"], ["8000 mg"], ["78.4532 m/s²"], ["78.4532", "--unit", "m/s2"]):
        assert main(["diagnose", str(path), *COMMON, "--full-scale", *scale]) == 0
        found.append(json.loads(capsys.readouterr().out)["features"]["velocity_rms_mm_s"])
    assert found == pytest.approx([found[0]] * len(found))


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


def test_a_picture_holds_no_letters_that_its_fonts_lack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Warnings are errors here, and matplotlib warns of each glyph that is missing."""
    monkeypatch.setattr("edge.core.language.chinese_wanted", lambda: True)
    write(tmp_path / "pump.npz")
    for fonts in ((), ("no such font",)):
        monkeypatch.setattr("edge.agent.commands.diagnose_picture.CHINESE_FONTS", fonts)
        picture = tmp_path / "泵 3.png"
        assert main(["diagnose", str(tmp_path / "pump.npz"), *COMMON, "--picture", str(picture)]) == 0
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
        (["counts.wav", "--rpm", "1770", "--bearing", "6205", "--full-scale", "8 bar"], "--full-scale '8 g'"),
        (["counts.wav", "--rpm", "1770", "--bearing", "6205", "--full-scale", "0 g"], "--full-scale '8 g'"),
        (["counts.wav", "--rpm", "1770", "--bearing", "6205", "--full-scale", "8g", "--unit", "mg"], "leave --unit"),
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
    write(tmp_path / "counts.wav")
    monkeypatch.chdir(tmp_path)
    assert main(["diagnose", *arguments]) == 2
    assert words in capsys.readouterr().err


def test_a_matlab_file_with_arrays_of_two_records_gives_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """99.mat of the Case Western Reserve University carries X098 too: its arrays, and its speed."""
    from scipy.io import savemat

    fault, noise = strokes(3.5848, seconds=4.0, size=3.0)[:, None], np.random.default_rng(9).normal(size=(48000, 1))
    own = {"X099_DE_time": fault, "X099RPM": np.array([[RPM]])}
    other = {"X098_DE_time": noise, "X098RPM": np.array([[900.0]])}
    for arrays in (own | other, other | own):
        savemat(tmp_path / "99.mat", arrays)
        assert main(["diagnose", str(tmp_path / "99.mat"), "--rate", str(RATE), "--bearing", "6205", "--json"]) == 0
        shown = json.loads(capsys.readouterr().out)
        assert shown["verdict"]["fault"] == "outer_race"
        assert shown["lines"]["bpfo"]["hz"] == pytest.approx(3.5848 * RPM / 60, rel=1e-3)
        assert not any("channel" in note for note in shown["notes"])


def test_a_matlab_file_named_after_another_record_gives_its_arrays_and_asks_for_the_speed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """3001.mat (IR028) carries X056 and no speed."""
    from scipy.io import savemat

    path = tmp_path / "3001.mat"
    block = strokes(5.4152, seconds=4.0, size=3.0)[:, None]
    savemat(path, {"X056_DE_time": block, "X056_FE_time": 0.1 * np.random.default_rng(1).normal(size=block.shape)})
    assert main(["diagnose", str(path), "--rate", str(RATE), "--bearing", "6205", "--json"]) == 2
    assert "--rpm is missing" in capsys.readouterr().err
    assert main(["diagnose", str(path), "--rate", str(RATE), *COMMON, "--channel", "DE"]) == 0
    assert json.loads(capsys.readouterr().out)["verdict"]["fault"] == "inner_race"


def test_a_clock_or_a_counter_is_not_taken_for_the_waveform(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "acc_00001.csv"
    rows = (
        f"9,39,{i // 12000},{i % 12000 * 83.3},{v:.4f},{v / 2:.4f}\n" for i, v in enumerate(strokes(3.5848, 4.0, 3.0))
    )
    path.write_text("".join(rows))
    assert main(["diagnose", str(path), "--rate", str(RATE), *COMMON]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["verdict"]["fault"] == "outer_race"
    assert "channel 4 of 0, 1, 2, 3, 4, 5" in shown["notes"]


def test_what_contradicts_the_file_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "pump.wav")
    assert main(["diagnose", str(tmp_path / "pump.wav"), "--rate", "25600", *COMMON]) == 0
    assert "--rate 25600 is taken, not 12000 as the file says" in json.loads(capsys.readouterr().out)["notes"]


def test_matlab_7_3_says_how_to_save_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "new.mat").write_bytes(b"MATLAB 7.3 MAT-file, Platform: GLNXA64" + bytes(1000))
    assert main(["diagnose", str(tmp_path / "new.mat"), *COMMON]) == 2
    assert "'-v7'" in capsys.readouterr().err


def test_a_bearing_whose_geometry_is_not_published_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "pump.npz")
    given = ["diagnose", str(tmp_path / "pump.npz"), "--rpm", str(RPM), "--json", "--bearing"]
    for name, is_told in (("6308", True), ("6205", False)):
        assert main([*given, name]) == 0
        notes = json.loads(capsys.readouterr().out)["notes"]
        assert any("inferred" in note for note in notes) is is_told
