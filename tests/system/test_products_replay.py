"""Energy by product, through `yulink replay` from a recording: sums close to the last digit."""

from datetime import timedelta
from pathlib import Path

import pytest

from tests.system.test_production_replay import BEGIN as MORNING
from tests.system.test_production_replay import Row, replay

BEGIN = MORNING.replace(hour=0)
PLANT = """
site: chongqing/plant-1
devices:
  cnc-07:
    modbus: tcp://127.0.0.1:1
    every: 10min
    tags:
      energy: {at: holding/0, type: f64, unit: kWh}
      status: {at: holding/4, type: u16}
      programme: {at: holding/5, type: u16}
      part_count: {at: holding/6, type: u16}
  press:
    modbus: tcp://127.0.0.1:2
    every: 10min
    tags:
      energy: {at: holding/0, type: f64, unit: kWh}
      count_{1,2}: {at: holding/4, type: u16}
  compressor:
    modbus: tcp://127.0.0.1:3
    every: 10min
    tags: {energy: {at: holding/0, type: f64, unit: kWh}}
  light:
    modbus: tcp://127.0.0.1:4
    every: 10min
    tags: {energy: {at: holding/0, type: f64, unit: kWh}}
energy:
  tree: {cnc-07: [], press: [], compressor: [], light: []}
  processes: {all: [cnc-07, press, compressor, light]}
  tariff: {use: chongqing/2021-14, base: 0.6}
  area: 重庆
production:
  cnc-07:
    states: {running: cnc-07.status == 2, idle: cnc-07.status == 1}
    parts: {tag: cnc-07.part_count, rolls_over_at: 150}
    ideal_cycle: {7: 6min, other: 3min}
    programme: cnc-07.programme
    energy: cnc-07
products:
  made: {flange: [7], shaft: [9, SHAFT]}
  machines:
    cnc-07: {}
    press: {parts: {flange: press.count_1, shaft: press.count_2}}
  shared: {compressor: running, light: parts}
"""


def day() -> list[Row]:
    """Return a day: the machine stands until 8, then makes flanges, shafts, and something that nobody listed."""
    rows: list[Row] = []
    for number in range(24 * 6 + 2):
        at = BEGIN + timedelta(minutes=10 * number)
        hours = min(number / 6, 24)
        programme = 7 if hours < 14 else 9 if hours < 20 else 11
        made = round(10 * max(min(hours - 8, 6), 0) + 20 * max(min(hours - 14, 6), 0) + 5 * max(hours - 20, 0))
        rows += [
            (at, "cnc-07", "energy", 60 * number / 6),
            (at, "cnc-07", "status", 2 if hours >= 8 else 1),
            (at, "cnc-07", "part_count", made % 150),
            (at, "press", "energy", 7 * number / 6),
            (at, "press", "count_1", round(200 * hours / 24)),
            (at, "press", "count_2", round(100 * hours / 24)),
            (at, "compressor", "energy", 32 * number / 144),
            (at, "light", "energy", 10 * number / 144),
        ]
        if hours >= 8:
            rows.append((at, "cnc-07", "programme", programme))
    return rows


def test_a_days_energy_cost_and_carbon_are_given_to_what_was_made(tmp_path: Path) -> None:
    lines = replay(tmp_path, PLANT, day())
    found = {f"{line['device']}.{line['tag']}": line["value"] for line in lines if "tag" in line}
    products = ("flange", "shaft", "other_products", "no_product")
    made = [found[f"{product}.parts_1d"] for product in products]
    assert made == [60 + 200, 120 + 100, 20, 0]
    energy = [found[f"{product}.energy_1d"] for product in products]
    press, light = 24 * 7, 10.0
    assert energy == pytest.approx(
        [
            6 * 60 + press * 2 / 3 + 32 * 6 / 16 + light * 260 / 500,
            6 * 60 + press / 3 + 32 * 6 / 16 + light * 220 / 500,
            4 * 60 + 32 * 4 / 16 + light * 20 / 500,
            8 * 60,
        ],
        abs=2e-6,
    )
    assert found["flange.kwh_per_part_1d"] == pytest.approx(energy[0] / 260)
    assert found["flange.co2_per_part_1d"] == pytest.approx(energy[0] * 0.5581 / 260)
    for name in ("energy", "cost", "co2", "standard_coal"):
        sums = [round(found[f"{product}.{name}_1d"] * 1e6) for product in products]
        assert sum(sums) == round(found[f"all.{name}_1d"] * 1e6), name
    # What the machine itself tells by programme, without shares of others.
    assert found["cnc-07.kwh_per_part_of_7_1d"] == pytest.approx(6 * 60 / 60)
    (told,) = [line["event"] for line in lines if "event" in line and line["event"]["kind"] == "energy_by_product"]
    assert told["facts"]["made: 11"] == 20
    assert told["facts"]["compressor by"] == "running"
