"""Texts of numbers as loggers and spreadsheets write them all give the same samples; the rest names the line."""

import numpy as np
import pytest

from edge.core.errors import WrongInput
from edge.core.waveform_formats import decode
from edge.core.waveform_table import rate_of

RATE = 1000.0
SAMPLES = np.round(np.random.default_rng(1).normal(size=400), 5)
TIMES = np.arange(SAMPLES.size) / RATE


def text(sign: str = ",", head: str = "", *, comma: bool = False, time: bool = True, scale: float = 1.0) -> str:
    rows = (
        f"{at * scale:.4f}{sign}{value:.5f}" if time else f"{value:.5f}"
        for at, value in zip(TIMES, SAMPLES, strict=True)
    )
    body = "\n".join(rows) + "\n"
    return head + (body.replace(".", ",") if comma else body)


@pytest.mark.parametrize(
    ("data", "channel", "rate"),
    [
        (text(time=False), "0", None),
        (text(head="time,acc\n"), "acc", RATE),
        (text(), "1", RATE),
        (text(head="Device: VIB-7\nRate: 1000 Hz, 24 bit\n\ntime,acc\n"), "acc", RATE),
        (text(head="# time,acc\n"), "acc", RATE),
        (text(head="Time (ms),acc\n", scale=1e3), "acc", RATE),
        (text("\t", "t\tacc\n"), "acc", RATE),
        (text(" "), "1", RATE),
        (text(";", "Zeit;acc\n", comma=True), "acc", RATE),
        (text(";", "t;acc\n"), "acc", RATE),
        (text("\t", "t\tacc\n", comma=True), "acc", RATE),
        (text(time=False, comma=True), "0", None),
        (text(head="t,acc\r\n").replace("\n", "\r\n"), "acc", RATE),
        (text(head="时间,加速度(g)\n"), "加速度(g)", RATE),
        (text(head="时间,加速度(g)\n").encode("gbk"), "加速度(g)", RATE),
        (text(head="time,acc\n").encode("utf-16"), "acc", RATE),
        (text(head="t,acc\n").replace("\n", ",\n"), "acc", RATE),
    ],
)  # fmt: skip
def test_every_writing_gives_the_same_samples(data: str | bytes, channel: str, rate: float | None) -> None:
    found = decode("a.csv", data if isinstance(data, bytes) else data.encode())
    assert list(found.channels) == [channel]
    np.testing.assert_array_equal(found.channels[channel], SAMPLES)
    assert found.facts.rate_hz == (None if rate is None else pytest.approx(rate))


def test_the_separator_may_change_on_the_way() -> None:
    """FEMTO's Bearing1_4 goes from commas to semicolons."""
    rows = [f"9,39,{value:.5f},{2 * value:.5f}" for value in SAMPLES]
    rows[200:] = [row.replace(",", ";") for row in rows[200:]]
    found = decode("acc_00001.csv", "\n".join(rows).encode())
    np.testing.assert_array_equal(found.channels["2"], SAMPLES)


def test_moments_are_a_time_and_say_whether_in_utc() -> None:
    for zone, is_utc in (("", False), ("Z", True), ("+08:00", True)):
        rows = "\n".join(f"2026-01-31 08:00:00.{k:03d}{zone},{value}" for k, value in enumerate(SAMPLES.tolist()))
        found = decode("a.csv", f"timestamp,acc\n{rows}\n".encode())
        np.testing.assert_array_equal(found.channels["acc"], SAMPLES)
        assert found.facts.rate_hz == pytest.approx(RATE, rel=1e-5)
        assert found.facts.is_utc is is_utc
        hour = 0 if zone == "+08:00" else 8
        assert found.facts.ts == pytest.approx(1769817600_000_000_000 + hour * 3600 * 10**9, abs=1000)


def test_an_empty_cell_is_a_missing_sample() -> None:
    rows = text(head="t,acc\n").splitlines()
    rows[11] = rows[11].split(",")[0] + ","
    found = decode("a.csv", "\n".join(rows).encode()).channels["acc"]
    assert np.flatnonzero(np.isnan(found)).tolist() == [10]
    np.testing.assert_array_equal(np.delete(found, 10), np.delete(SAMPLES, 10))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("", "no rows of numbers"),
        ("time,acc\n", "no rows of numbers"),
        ("hello, this\nis, no table\n", "no rows of numbers"),
        (text(head="t,acc\n") + "0.4,1.0,2.0\n", "line 402: 3 cells, not 2"),
        (text(head="t,acc\n") + "0.4", "line 402: 1 cells, not 2"),
        (text(head="t,acc\n") + "0.4,high\n", "line 402, column 2: 'high' is no number"),
    ],
)
def test_what_is_no_table_names_the_line(data: str, words: str) -> None:
    with pytest.raises(WrongInput, match=words):
        decode("a.csv", data.encode())


def test_a_rounded_clock_has_a_rate_and_one_with_a_gap_has_none() -> None:
    assert rate_of(np.round(np.arange(5000) / 2560, 3)) == pytest.approx(2560, rel=1e-3)
    assert rate_of(np.concatenate([np.arange(500), np.arange(600, 900)]) / RATE) is None
    assert rate_of(np.zeros(100)) is None
    assert rate_of(TIMES[::-1].copy()) is None
