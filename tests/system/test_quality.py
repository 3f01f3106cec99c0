"""What a device says wrongly reaches the brain with its code, and with what the device said."""

import asyncio
import json
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from buffer import quality_days
from edge.agent.app import LOG_NAME
from edge.agent.cli import main
from edge.core.clock import SystemClock
from edge.core.quality import describe
from simulators.broker import start_broker
from simulators.faults import SteppedClock
from simulators.modbus import serve_tcp
from simulators.pki import make_pki
from tests.support import until
from tests.system.test_ledger import at_work, brain, has_read, machine, plant, told, uplink_settings
from tests.uplink.support import SITE
from uplink.receiver.lines import reading
from uplink.seal import BadSeal
from uplink.statement import QUALITY_KIND, Signer, check, quality_statement

S = 10**9
COUNTED = "SELECT count(*) FROM reading"
READINGS = "SELECT gateway, device, tag, ts, value, unit, quality, kind FROM reading ORDER BY ts"


def recording(now: int) -> tuple[str, list[tuple[float, str]]]:
    """A recording that ends now, and what must become of each reading."""
    frozen = "UncertainLastUsableValue"
    steps: list[tuple[float, float, str]] = [
        (-60, 20.0, "Good"), (-59, float("nan"), "BadOutOfRange"), (-58, 20.5, "Good"),
        (-57, 151.0, "BadOutOfRange"), (-56, 80.0, "UncertainSensorNotAccurate"), (-55, 21.0, "Good"),
        (-54, 22.0, "Good"), (-50, 22.0, "Good"), (-44, 22.0, frozen), (-43, 22.5, "Good"),
        (3500, 23.0, "BadInvalidTimestamp"),
    ]  # fmt: skip
    lines = [f"{now + round(at * S)},oven,temperature,{value}" for at, value, _ in steps]
    return "\n".join(["ts,device,tag,value", *lines]) + "\n", [(value, words) for _, value, words in steps]


async def test_nan_spike_frozen_value_and_clock_jump_reach_the_brain_with_their_code_and_the_raw_value(
    tmp_path: Path,
) -> None:
    text, expected = recording(time.time_ns())
    (tmp_path / "r.csv").write_text(text)
    pki = make_pki(tmp_path / "pki")
    tag = {"unit": "degC", "valid": [-40, 150], "max_rate": "60 K/min", "frozen_after": "8s", "heartbeat": "1s"}
    oven = {"replay": str(tmp_path / "r.csv"), "speed": 0, "clock_tolerance": "10min", "tags": {"temperature": tag}}
    async with start_broker(tmp_path / "broker", pki) as broker, brain(broker.url, pki, tmp_path):
        settings: dict[str, Any] = {"site": SITE, "devices": {"oven": oven}, "uplink": uplink_settings(broker.url, pki)}
        file = tmp_path / "plant.yaml"
        file.write_text(json.dumps(settings))
        async with at_work(file, tmp_path / "data", SystemClock()) as agent:
            await until(lambda: told(tmp_path, COUNTED) == [(len(expected),)], 20)
            (flags,) = [device["flags"] for device in agent.describe()["devices"]]
    found = [reading(*row) for row in told(tmp_path, READINGS)]
    assert [describe(int(row["quality"], 16)) for row in found] == [words for _, words in expected]
    bad = [row for row in found if int(row["quality"], 16) & 0x80000000]
    assert [(row["value"], row["raw"]) for row in bad] == [(None, "NaN"), (None, 151.0), (None, 23.0)]
    assert [row["value"] for row in found if row not in bad] == [20.0, 20.5, 80.0, 21.0, 22.0, 22.0, 22.0, 22.5]
    assert flags == {"unit": 0, "range": 2, "rate": 1, "frozen": 1, "clock": 1}


async def test_a_device_that_is_read_is_counted_while_the_agent_runs_and_over_a_restart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = SteppedClock()
    arguments = ["quality", str(tmp_path / "plant.yaml"), "--data-dir", str(tmp_path / "data"), "--json"]
    async with serve_tcp({1: machine()}) as server:
        file = plant(tmp_path, {"press": server.port})
        before = 0
        for _ in range(2):
            async with at_work(file, tmp_path / "data", clock) as agent:
                await has_read(agent, "press", 10)
                watch = agent._quality
                assert watch is not None
                watch._hurry.set()  # as after a minute
                await until(lambda: days_of(tmp_path, 1) > 0)
                assert await asyncio.to_thread(main, arguments) == 0
                assert '"device": "press"' in capsys.readouterr().out
            health = next(each for each in agent.describe()["devices"])
            assert days_of(tmp_path, 1) == health["values_read"] + before
            before = days_of(tmp_path, 1)
            assert days_of(tmp_path, 2) == before, "what a dead-band left out was good and is counted"


def days_of(folder: Path, column: int) -> int:
    """The sum of a column of what was counted."""
    with closing(sqlite3.connect(folder / "data" / LOG_NAME)) as db:
        ((count,),) = db.execute(f"SELECT ifnull(sum({quality_days.COUNTS[column]}), 0) FROM quality_day")
    return int(count)


def test_a_day_that_was_told_is_signed_and_one_byte_spoils_it(tmp_path: Path) -> None:
    pki = make_pki(tmp_path / "pki")
    signer = Signer(SITE, pki.issue("gateway", common_name=SITE))
    (authority,) = x509.load_pem_x509_certificates(pki.ca.read_bytes())
    tags = {"temperature": [1440, 1260, 1260, 1260, 0, 0, 0, 0, 0, 0]}
    day = {"day": "2026-01-31", "timezone": "Asia/Shanghai", "revision": 0, "online": 0.875, "part": 1, "parts": 1}
    day |= {"columns": quality_days.COUNTS, "tags": tags, "gaps": []}
    told = quality_statement("oven", day, SITE, time.time_ns(), signer)
    text, signature = str(told.facts["quality"]), str(told.facts["signature"])
    assert told.message == "oven, 2026-01-31: 1 tags, 0 gaps, online 87.50 %"
    schema = json.loads((Path(__file__).parents[2] / "contract/v1/schemas/quality.schema.json").read_text("utf-8"))
    assert set(schema["required"]) == set(schema["properties"]) == set(json.loads(text))
    assert [each["const"] for each in schema["properties"]["columns"]["prefixItems"]] == json.loads(text)["columns"]
    check(SITE, text, signature, [authority], purpose=QUALITY_KIND)
    for wrong, purpose in ((text.replace("1260", "1440", 1), QUALITY_KIND), (text, "ledger")):
        with pytest.raises(BadSeal):
            check(SITE, wrong, signature, [authority], purpose=purpose)
