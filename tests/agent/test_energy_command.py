"""`yulink energy`: kept figures as a table, CSV and JSON lines."""

import asyncio
import json
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from buffer.log import open_log
from edge.agent.app import LOG_NAME
from edge.agent.cli import main
from edge.core.batch import Batch, Event, Lane, Severity
from edge.core.catalogue import ValueKind
from edge.core.clock import SystemClock
from edge.core.interval import Level, level_of

CONFIG = "site: chongqing/plant-1\ntimezone: Asia/Shanghai\ndevices: {}\n"
DAYS = [int(datetime(2026, 1, day, tzinfo=ZoneInfo("Asia/Shanghai")).timestamp()) * 10**9 for day in range(1, 5)]


METERS = """
site: chongqing/plant-1
timezone: Asia/Shanghai
devices:
  incomer: {modbus: 'tcp://127.0.0.1:1', tags: {energy: {at: holding/0, type: f64, unit: kWh}}}
energy: {tree: {incomer: []}}
"""


@pytest.fixture
def plant(tmp_path: Path) -> list[str]:
    """Arguments for a plant that has kept four days of two meters, one of them corrected."""
    (tmp_path / "plant.yaml").write_text(CONFIG)
    asyncio.run(_keep(tmp_path / LOG_NAME))
    return ["--data-dir", str(tmp_path), "--from", "2026-01-02", "--to", "2026-01-04", str(tmp_path / "plant.yaml")]


async def _keep(path: Path) -> None:
    async with open_log(path, SystemClock(), followers=["analytics"]) as log:
        ids = [log.catalogue.intern(name, "energy_1d", ValueKind.FLOAT64, "kWh").id for name in ("incomer", "press")]
        batch = Batch.of(Lane.FLOAT, ids * 4, [ts for ts in DAYS for _ in ids], [float(n) for n in range(8)])
        again = Batch.of(Lane.FLOAT, ids[:1], DAYS[1:2], [22.5], 0x40000000, [3])
        await log.append([batch])
        follower = log.followers["analytics"]
        for each in (batch, again):
            await follower.commit(follower.position, b"", [], [(Level.DAY, each)])
        facts = {"document": "No. 14"}
        events = [
            Event(DAYS[2], "incomer", "tariff_in_use", Severity.INFO, "by No. 14", facts),
            Event(DAYS[1], "press", "register_reset", Severity.MEDIUM, "began again", {}),
            Event(DAYS[1], "press", "alarm_raised", Severity.HIGH, "hot", {}),
            Event(DAYS[3], "incomer", "tariff_in_use", Severity.INFO, "later", {}),
        ]
        await log.append(events)


def test_days_of_a_meter_are_the_plants_days(plant: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["energy", *plant, "--csv"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "begin,device,tag,value,unit,quality,revision",
        "2026-01-02T00:00:00+08:00,incomer,energy_1d,22.5,kWh,0x40000000,3",
        "2026-01-02T00:00:00+08:00,press,energy_1d,3.0,kWh,0x00000000,0",
        "2026-01-03T00:00:00+08:00,incomer,energy_1d,4.0,kWh,0x00000000,0",
        "2026-01-03T00:00:00+08:00,press,energy_1d,5.0,kWh,0x00000000,0",
    ]
    assert main(["energy", *plant, "incomer", "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["device"], line["value"], line["revision"]) for line in lines] == [
        ("incomer", 22.5, 3),
        ("incomer", 4.0, 0),
    ]
    assert main(["energy", *plant, "press"]) == 0
    assert [line.split() for line in capsys.readouterr().out.splitlines()][1:] == [
        ["2026-01-02", "00:00", "press", "energy_1d", "3", "kWh", "Good"],
        ["2026-01-03", "00:00", "press", "energy_1d", "5", "kWh", "Good"],
    ]
    assert main(["energy", *plant, "--level", "1h"]) == 0
    assert capsys.readouterr().out == "there are no figures of this level for this time\n"


def test_wrong_words_say_what_to_write(plant: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["energy", *plant, "incomr"]) == 2
    assert capsys.readouterr().err == "error: the log has nothing of 'incomr'\nhelp: did you mean 'incomer'?\n"
    assert main(["energy", *plant, "--to", "yesterday"]) == 2
    assert "--to yesterday is not a time" in capsys.readouterr().err
    assert main(["energy", *plant, "--to", "2026-01-01"]) == 2
    assert "--to is not after --from" in capsys.readouterr().err


def test_the_register_of_meters_comes_from_the_configuration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "plant.yaml").write_text(
        "site: chongqing/plant-1\ndevices:\n  incomer: {use: eastron/sdm630, modbus: tcp://127.0.0.1:1}\n"
        "  cnc-07: {use: eastron/sdm630, modbus: tcp://127.0.0.1:2}\nenergy:\n  tree: {incomer: [cnc-07]}\n"
        "  meters: {incomer: {class: 0.5, calibrated_until: 2027-03-01}}\n",
        "utf-8",
    )
    assert main(["energy", str(tmp_path / "plant.yaml"), "--meters", "--csv"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "meter,carrier,level,class,calibrated_until,reads,below,bought,billed",
        "incomer,electricity,1,0.5,2027-03-01,incomer.energy_import,,True,False",
        "cnc-07,electricity,2,1.0,,cnc-07.energy_import,incomer,False,False",
    ]


def test_what_ends_the_name_of_a_figure_is_its_level() -> None:
    names = {"energy_1min": "1min", "cost_1mo": "1mo", "energy_shift": "shift", "demand_max_1mo": "1mo"}
    assert {name: level_of(name) for name in names} == names
    assert [level_of(name) for name in ("demand", "energy_forecast_15min", "voltage_unbalance")] == [None] * 3


def test_a_figure_names_the_tags_it_was_made_of(plant: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    Path(plant[-1]).write_text(METERS)
    assert main(["energy", *plant, "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["inputs"] for line in lines if line["device"] == "incomer"] == [["incomer.energy"]] * 2
    assert [line["inputs"] for line in lines if line["device"] == "press"] == [[]] * 2  # no longer configured


def test_events_say_what_figures_rest_on(plant: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["energy", *plant, "--events"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "2026-01-02 00:00:00  press: began again",
        "2026-01-03 00:00:00  incomer: by No. 14",
    ]
    assert main(["energy", *plant, "incomer", "--events", "--json"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["event"]["facts"] == {"document": "No. 14"}
    assert main(["energy", *plant, "press", "--events", "--csv"]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == [
        "2026-01-02T00:00:00+08:00,press,register_reset,500,began again,{}"
    ]
