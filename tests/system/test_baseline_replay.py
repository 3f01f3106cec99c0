"""The published energy baseline through `yulink replay` from a recording, and what follows from it."""

import random
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from edge.analytics.conformance import check_operator
from edge.analytics.energy.baseline_watch import BaselineWatch
from edge.analytics.operator import Rows
from tests.system.test_production_replay import Row, replay

PARTS = [100, 120, 80, 150, 130, 90, 110, 140, 105, 95, 125, 135]
ENERGY = [8240, 8810, 7585, 9790, 9175, 7845, 8540, 9485, 8345, 8070, 8975, 9300]
BEGIN = datetime.fromisoformat("2026-03-01T00:00:00+08:00")
PLANT = """
site: chongqing/plant-1
devices:
  press:
    modbus: tcp://127.0.0.1:1
    tags:
      energy: {at: holding/0, type: f64, unit: kWh}
      parts: {at: holding/4, type: u32}
energy: {tree: {press: []}}
baselines:
  hall: {energy: press, drivers: {press.parts: counter}, from: 2026-03-01, to: 2026-03-12}
alarms:
  wasted: {when: hall.energy_saved_cusum_1d < -100}
"""


def days(parts: list[int], energy: list[int]) -> list[Row]:
    """Return a register and a counter by the hour, that gain so much each day."""
    rows: list[Row] = []
    used, made = 0.0, 0
    for day, (count, kwh) in enumerate(zip(parts, energy, strict=True)):
        for hour in range(24):
            at = BEGIN + timedelta(days=day, hours=hour)
            rows += [(at, "press", "energy", used + kwh * hour / 24), (at, "press", "parts", made + count * hour // 24)]
        used, made = used + kwh, made + count
    at = BEGIN + timedelta(days=len(parts))
    rows += [(at, "press", "energy", used), (at, "press", "parts", made)]
    at += timedelta(minutes=2)
    return [*rows, (at, "press", "energy", used), (at, "press", "parts", made)]


def events(lines: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [line["event"] for line in lines if "event" in line and line["event"]["kind"] == kind]


def test_the_published_baseline_and_what_is_saved_against_it(tmp_path: Path) -> None:
    lines = replay(tmp_path, PLANT, days([*PARTS, 100, 120], [*ENERGY, 8000, 9000]))
    (told,) = events(lines, "energy_baseline")
    facts = told["facts"]
    assert (facts["a"], facts["b press.parts"]) == (pytest.approx(5043.125), pytest.approx(31.625))
    assert facts["r2"] == pytest.approx(0.998748, abs=5e-7)
    assert facts["cv_rmse_percent"] == pytest.approx(0.2941, abs=5e-5)
    assert (facts["periods"], facts["accepted"]) == (12, True)

    def last(tag: str) -> list[float]:
        found = {line["ts"]: line["value"] for line in lines if line.get("device") == "hall" and line["tag"] == tag}
        return [found[ts] for ts in sorted(found)]

    first, second = 5043.125 + 31.625 * 100, 5043.125 + 31.625 * 120
    assert last("energy_expected_1d") == pytest.approx([first, second])
    assert last("energy_saved_1d") == pytest.approx([first - 8000, second - 9000])
    assert last("energy_saved_cusum_1d") == pytest.approx([first - 8000, first - 8000 + second - 9000])


def test_a_driver_that_never_changes_is_refused_in_words(tmp_path: Path) -> None:
    lines = replay(tmp_path, PLANT, days([100] * 13, [*ENERGY, 8000]))
    (refused,) = events(lines, "energy_baseline_refused")
    assert refused["text"] == "there is no baseline of hall: press.parts never changes: nothing can be told from it"
    assert not [line for line in lines if line.get("device") == "hall"]


def settings() -> dict[str, Any]:
    day = 86_400 * 10**9
    begin = int(BEGIN.timestamp()) * 10**9
    return {
        "name": "hall",
        "timezone": "Asia/Shanghai",
        "energy": "m.energy_1d",
        "unit": "kWh",
        "drivers": {"m.parts_1d": "sum", "m.temperature": "mean", "m.count": "counter"},
        "every": "day",
        "from_ns": begin,
        "to_ns": begin + 8 * day,
    }


def test_the_same_from_any_cut_and_after_any_restart_and_corrections_have_a_revision() -> None:
    chance, begin, hour = random.Random(5), settings()["from_ns"], 3600 * 10**9
    rows: list[tuple[int, int, int, float]] = []
    counted = 0.0
    for day in range(14):
        at = begin + day * 24 * hour
        parts = chance.randint(50, 100)
        for part in range(6):
            counted += chance.randint(5, 20)
            rows.append((at + 4 * part * hour + hour, 3, at + 4 * part * hour + hour, counted))
            rows.append((at + 4 * part * hour, 2, at + 4 * part * hour, chance.uniform(0, 30)))
        energy = 1000 + 3 * parts + chance.uniform(-20, 20)
        rows += [(at + 24 * hour, 1, at, parts), (at + 24 * hour + 60, 0, at, energy)]
        if day % 3 == 2:  # the day before is given out again
            rows.append((at + 24 * hour + 120, 0, at - 24 * hour, energy + 5))
    rows.sort()
    columns = [[row[place] for row in rows] for place in range(4)]
    given = Rows.of([int(each) for each in columns[1]], columns[2], columns[3], at=columns[0])  # type: ignore[arg-type]
    derived = check_operator(lambda: BaselineWatch(settings()), given, begin + 16 * 24 * hour)
    assert [event.kind for event in derived.events] == ["energy_baseline"]
    sums = {each.ts: each for each in derived.readings if each.output == 2}
    saved = {each.ts: each for each in derived.readings if each.output == 1}
    assert len(saved) == 6
    assert max(each.revision for each in saved.values()) >= 1
    total = 0.0
    for ts in sorted(saved):
        total += float(saved[ts].value)
        assert float(sums[ts].value) == pytest.approx(total)
