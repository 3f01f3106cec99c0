"""The published numbers of energy, through `yulink replay` from a recording."""

import contextlib
import csv
import gzip
import io
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.agent.cli import main

DATA = Path(__file__).parents[2] / "../shared/data"
STEEL = DATA / "steel_energy/steel_energy_first80.csv.gz"
DEVICES = """
site: chongqing/plant-1
devices:
  m:
    modbus: tcp://127.0.0.1:1
    tags:
      energy: {at: holding/0, type: f64, unit: kWh}
      reactive_energy: {at: holding/4, type: f64, unit: kvarh}
      gas: {at: holding/8, type: f64, unit: m3}
      diesel: {at: holding/12, type: f64, unit: L}
      voltage_{ab,bc,ca}: {at: holding/16, type: f32, unit: V}
"""
Row = tuple[datetime, str, float]


def replay(folder: Path, energy: str, rows: Iterable[Row]) -> list[dict[str, Any]]:
    """Return what a recording gives; times are the plant's."""
    (folder / "plant.yaml").write_text(DEVICES + energy, "utf-8")
    with (folder / "rows.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["ts", "device", "tag", "value"])
        for at, tag, value in sorted(rows):
            writer.writerow([f"{at.isoformat()}+08:00", "m", tag, repr(float(value))])
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert main(["replay", str(folder / "plant.yaml"), str(folder / "rows.csv"), "--jsonl"]) == 0
    return [json.loads(line) for line in printed.getvalue().splitlines()]


def figures(lines: Iterable[Mapping[str, Any]], tag: str) -> dict[str, float]:
    """Return the last figure of each interval, by device, tag and begin."""
    return {
        f"{line['ts']}": line["value"] for line in lines if "tag" in line and f"{line['device']}.{line['tag']}" == tag
    }


def steady(tag: str, begin: datetime, end: datetime, total: float, step: timedelta) -> list[Row]:
    """Return a register that climbs evenly to `total`."""
    count = round((end - begin) / step)
    return [(begin + step * number, tag, total * number / count) for number in range(count + 1)]


def test_hours_and_bill_of_a_july_day(tmp_path: Path) -> None:
    begin = datetime(2025, 7, 1)
    rows = steady("energy", begin, begin + timedelta(days=1), 2400.0, timedelta(minutes=30))
    asked = "energy: {tree: {m: []}, tariff: {use: chongqing/2021-14, base: 0.6}}\n"
    lines = replay(tmp_path, asked, rows)
    hours = {
        rate: [*figures(lines, f"m.energy_{rate}_1d").values()][-1] / 100
        for rate in ("valley", "flat", "peak", "sharp")
    }
    assert hours == {"valley": 8, "flat": 8, "peak": 6, "sharp": 2}
    assert [*figures(lines, "m.cost_1d").values()] == [pytest.approx(1468.80, abs=1e-6)]


def test_the_meters_own_registers_by_rate_are_compared_over_an_exchange_and_tell_of_a_wrong_clock(
    tmp_path: Path,
) -> None:
    begin, step = datetime(2025, 4, 1), timedelta(minutes=15)
    exchanged = begin + timedelta(hours=10)
    shown = dict.fromkeys(("energy", "energy_peak", "energy_flat", "energy_valley"), 0.0)
    rows: list[Row] = []
    ends = dict(shown)
    for number in range(2 * 96 + 2):
        at = begin + number * step
        if at == exchanged:
            ends, shown = shown, dict.fromkeys(shown, 7.0)
        rows += [(at, tag, value) for tag, value in shown.items()]
        # On the second day the meter's clock is an hour fast: sums over a day do not show it, the load being even.
        hour = (at + timedelta(hours=at.day == 2)).hour
        rate = "valley" if hour < 8 else "peak" if 11 <= hour < 17 or 20 <= hour < 22 else "flat"
        shown = {tag: value + 2.5 * (tag in ("energy", f"energy_{rate}")) for tag, value in shown.items()}
    rates = ", ".join(f"{tag[7:]}: {{end: {end}, start: 7}}" for tag, end in ends.items() if tag != "energy")
    asked = f"""      energy_{{peak,flat,valley}}: {{at: holding/30, type: f64, unit: kWh}}
energy:
  meters:
    m: {{class: 0.5, exchanges: [{{at: 2025-04-01 10:00, end: {ends["energy"]}, start: 7, rates: {{{rates}}}}}]}}
  tariff: {{use: chongqing/2021-14, base: 0.6}}
"""
    lines = replay(tmp_path, asked, rows)
    for rate in ("peak", "flat", "valley"):
        assert [*figures(lines, f"m.energy_{rate}_1d").values()] == [80, 80]
        assert [*figures(lines, f"m.energy_meter_{rate}_1d").values()] == [80, 80]
        assert [*figures(lines, f"m.rate_difference_{rate}_1d").values()] == [0, 0]
    hours = figures(lines, "m.rate_deviation_1h")
    assert [ts for ts, percent in hours.items() if percent > 1] == [
        f"2025-04-{day}T{hour:02}:00:00.000000Z" for day, hour in (("01", 23), ("02", 2), ("02", 8), ("02", 11),
                                                                  ("02", 13), ("02", 15))
    ]  # fmt: skip
    (told,) = [line["event"] for line in lines if "event" in line and line["event"]["kind"] == "rate_registers"]
    assert (told["facts"]["verdict"], told["facts"]["day"]) == ("differ", "2025-04-02")
    assert told["facts"]["other_rate_by_hour"] == 60


def test_demand_by_block_and_sliding(tmp_path: Path) -> None:
    begin, total = datetime(2025, 4, 1), 0.0
    rows: list[Row] = [(begin, "energy", 0.0)]
    for minute in range(45):
        total += 100 / 60 if 7 <= minute < 22 else 0.0
        rows.append((begin + timedelta(minutes=minute + 1), "energy", total))
    lines = replay(tmp_path, "energy: {tree: {m: []}, demand: {window: 15min}}\n", rows)
    assert max(figures(lines, "m.demand").values()) == pytest.approx(53.3333, abs=1e-3)
    assert max(figures(lines, "m.demand_sliding").values()) == pytest.approx(100.0, abs=1e-3)


@pytest.mark.parametrize(
    ("kvarh", "factor", "percent"), [(50_000.0, 0.89, 0.5), (20_000.0, 0.98, -0.75), (120_000.0, 0.64, 17.0)]
)
def test_power_factor_and_its_charge(tmp_path: Path, kvarh: float, factor: float, percent: float) -> None:
    begin, end, step = datetime(2025, 4, 1), datetime(2025, 4, 2), timedelta(hours=1)
    rows = steady("energy", begin, end, 100_000.0, step) + steady("reactive_energy", begin, end, kvarh, step)
    lines = replay(tmp_path, "energy: {tree: {m: []}}\n", rows)
    assert [*figures(lines, "m.power_factor_1d").values()] == [factor]
    assert [*figures(lines, "m.power_factor_adjustment_1d").values()] == [percent]


def test_voltage_unbalance(tmp_path: Path) -> None:
    begin = datetime(2025, 4, 1)
    rows: list[Row] = [
        (begin + timedelta(minutes=minute), f"voltage_{pair}", volts)
        for minute in range(4)
        for pair, volts in (("ab", 400.0), ("bc", 392.0), ("ca", 404.0))
    ]
    lines = replay(tmp_path, "energy: {tree: {m: []}}\n", rows)
    assert [*figures(lines, "m.voltage_unbalance").values()][-1] == pytest.approx(1.766, abs=5e-4)


def test_power_quality_of_a_day_is_judged_by_its_values_of_ten_minutes(tmp_path: Path) -> None:
    begin = datetime(2025, 4, 1)
    rows: list[Row] = []
    for number in range(2 * 288 + 1):
        at = begin + timedelta(minutes=5 * number)
        # On the first day 5 % of the time is beyond a limit, on the second more.
        is_high = number < 14 if at.day == 1 else number < 288 + 30
        rows += [(at, "thd", 6.0 if is_high else 2.0), (at, "hu5", 3.0)]
        rows += [(at, f"voltage_{pair}", volts) for pair, volts in (("ab", 400.0), ("bc", 392.0), ("ca", 404.0))]
    asked = """      thd: {at: holding/40, type: f32, unit: "%"}
      hu5: {at: holding/42, type: f32, unit: "%"}
energy:
  meters:
    m:
      power_quality: {limits: china/0.38kV, thd_voltage: m.thd, harmonics: {5: m.hu5}, max: {harmonics: {5: 2.5}},
                      voltage: [m.voltage_ab, m.voltage_bc, m.voltage_ca], nominal: 380}
"""
    lines = replay(tmp_path, asked, rows)
    assert [*figures(lines, "m.thd_voltage_p95_1d").values()] == [2.0, 6.0]
    assert [*figures(lines, "m.thd_voltage_outside_1d").values()] == pytest.approx([100 * 7 / 144, 100 * 15 / 144])
    assert [*figures(lines, "m.unbalance_p95_1d").values()] == pytest.approx([1.766] * 2, abs=1e-3)
    assert max(figures(lines, "m.voltage_deviation_10min").values()) == pytest.approx(100 * 24 / 380)
    told = [line["event"]["facts"] for line in lines if "event" in line and line["event"]["kind"] == "power_quality"]
    assert [(each["quantity"], each["day"], each["verdict"]) for each in told] == [
        ("harmonic_5", "2025-04-01", "exceeded"), ("thd_voltage", "2025-04-02", "exceeded"),
    ]  # fmt: skip
    assert "unverified" in told[0]["source"]


def test_coal_and_carbon_of_a_site_in_chongqing(tmp_path: Path) -> None:
    begin, end, step = datetime(2026, 3, 1), datetime(2026, 3, 2), timedelta(minutes=30)
    rows = steady("energy", begin, end, 12_000.0, step)
    rows += steady("gas", begin, end, 500.0, step) + steady("diesel", begin, end, 120.0, step)
    asked = """
energy:
  meters:
    m: {energy: m.energy}
    gas: {energy: m.gas, carrier: natural_gas_oil_field}
    diesel: {energy: m.diesel, carrier: diesel, density: 0.84}
    air: {energy: m.gas, carrier: compressed_air}
  processes: {melting: [m, gas], driving: {diesel: 0.5}}
  tariff: {prices: {flat: 0.5}, hours: [{rate: flat}]}
  area: 重庆
"""
    (tmp_path / "factors").mkdir()
    rate = "{carrier: electricity, unit: kWh, value: 0.3, valid_from: 2025-01-01, document: grid company}"
    own = f"set: grid-coal\npurpose: coal_equal\nfactors: [{rate}]\n"
    (tmp_path / "factors/grid-coal.yaml").write_text(own, "utf-8")
    lines = replay(tmp_path, asked, rows)
    assert [*figures(lines, "site.co2_1d").values()] == [pytest.approx(8091.8, abs=0.05)]
    assert [*figures(lines, "site.standard_coal_1d").values()] == [pytest.approx(2286.68, abs=0.005)]
    # The equal value differs for electricity alone; compressed air is made of what is counted already.
    equal = [*figures(lines, "site.standard_coal_equal_1d").values()]
    assert equal == [pytest.approx(2286.68 + 12_000 * (0.3 - 0.1229), abs=0.005)]
    scopes = [next(iter(figures(lines, f"site.co2_scope{scope}_1d").values())) for scope in (1, 2)]
    assert scopes == [pytest.approx(1082.5 + 312.1, abs=0.1), pytest.approx(6697.2)]
    assert [*figures(lines, "melting.energy_electricity_1d").values()] == [12_000]
    assert [*figures(lines, "melting.energy_natural_gas_oil_field_1d").values()] == [500]
    assert [*figures(lines, "melting.cost_1d").values()] == [pytest.approx(6_000)]
    assert [*figures(lines, "melting.co2_1d").values()] == [pytest.approx(6697.2 + 1082.51, abs=0.01)]
    assert [*figures(lines, "driving.energy_1d").values()] == [pytest.approx(120 * 0.84 / 2)]
    told = {
        line["event"]["facts"]["factor"]
        for line in lines
        if "event" in line and line["event"]["kind"] == "factor_in_use"
    }
    assert "grid-co2/electricity/co2/重庆/2025-12-31" in told


@pytest.mark.skipif(not STEEL.is_file(), reason=f"{STEEL} is not there")
def test_a_steel_plants_totals_by_rate_are_those_of_pandas(tmp_path: Path) -> None:
    import pandas

    with gzip.open(STEEL, "rt") as file:
        usage = [float(row["Usage_kWh"]) for row in csv.DictReader(file)]
    first = 96 * 26  # the file begins with New Year; from here a sharp month and one that is not
    usage, begin = usage[first : first + 96 * 10], datetime(2018, 1, 27)
    register, total = [(begin, "energy", 0.0)], 0.0
    for number, energy in enumerate(usage):
        total += energy
        register.append((begin + timedelta(minutes=15 * (number + 1)), "energy", round(total, 2)))
    asked = "energy: {tree: {m: []}, tariff: {use: chongqing/2021-14, base: 0.6}}\n"
    lines = replay(tmp_path, asked, register)

    frame = pandas.DataFrame(
        {"at": [at for at, *_ in register[:-1]], "energy": np.diff([value for *_, value in register])}
    )
    hour, month = frame["at"].dt.hour, frame["at"].dt.month
    frame["rate"] = "flat"
    frame.loc[hour < 8, "rate"] = "valley"
    frame.loc[((hour >= 11) & (hour < 17)) | ((hour >= 20) & (hour < 22)), "rate"] = "peak"
    frame.loc[month.isin([1, 7, 8, 12]) & (hour >= 12) & (hour < 14), "rate"] = "sharp"
    whole_days = frame["at"].dt.date < register[-1][0].date()
    expected = frame[whole_days].groupby("rate")["energy"].sum()
    ours = defaultdict[str, float](float)
    for rate in ("valley", "flat", "peak", "sharp"):
        ours[rate] = sum(figures(lines, f"m.energy_{rate}_1d").values())
    for rate, value in expected.items():
        assert ours[str(rate)] == pytest.approx(value, rel=1e-9)


def test_electricity_that_is_given_back_is_neither_bought_nor_billed(tmp_path: Path) -> None:
    begin = datetime(2026, 3, 2)
    config = """
energy:
  meters: {m: {energy: m.energy}, given_back: {energy: m.energy_export}}
  sums: {net: {of: {m: 1, given_back: -1}}}
  tariff: {prices: {flat: 1}, hours: [{rate: flat}]}
  area: 重庆
"""
    devices = "      energy_export: {at: holding/20, type: f64, unit: kWh}\n"
    end, step = begin + timedelta(days=1, minutes=30), timedelta(minutes=30)
    rows = steady("energy", begin, end, 245.0, step) + steady("energy_export", begin, end, 49.0, step)
    lines = replay(tmp_path, devices + config, rows)
    day = "2026-03-01T16:00:00.000000Z"
    assert figures(lines, "net.energy_1d")[day] == pytest.approx(192.0)
    assert figures(lines, "site.co2_1d")[day] == pytest.approx(240 * 0.5581)
    assert not figures(lines, "given_back.cost_1d")
    assert figures(lines, "m.cost_1d")[day] == pytest.approx(240.0)
