"""Recordings dropped into a folder, an agent that is killed, and an alarm at the brain with its raw samples."""

import asyncio
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from buffer.log import open_log
from buffer.schema import WAVEFORM_KIND
from edge.analytics.condition.bearing.bearings import bearing
from edge.core.batch import Waveform
from edge.core.clock import SystemClock, iso8601
from edge.core.data_class import DataClass
from simulators.broker import start_broker
from simulators.pki import make_pki
from tests.analytics.test_diagnosis import RATE, RPM, strokes
from tests.drivers.test_files import names, wav
from tests.support import until
from tests.system.test_ledger import brain, told, uplink_settings
from tests.uplink.support import SITE

FULL_SCALE = 100.0


def configured(folder: Path, uplink: dict[str, Any] | None, **more: Any) -> Path:
    (folder / "waves").mkdir(exist_ok=True)
    pump = {
        "files": str(folder / "waves"), "every": "50ms", "settle": "0ms", "time": "%Y%m%d_%H%M%S",
        "timezone": "UTC", "tags": {"de": {"full_scale": f"{FULL_SCALE} m/s2"}}, **more,
    }  # fmt: skip
    file = folder / "plant.yaml"
    file.write_text(json.dumps({"site": SITE, "devices": {"pump-3": pump}} | ({"uplink": uplink} if uplink else {})))
    return file


def drop(folder: Path, moment: datetime, samples: Any) -> None:
    """Rename a recording into the folder, as a careful recorder does."""
    name = f"DE_{moment:%Y%m%d_%H%M%S}.wav"
    (folder / name).write_bytes(wav(samples, 1, 16, round(RATE)))
    (folder / name).rename(folder / "waves" / name)


@asynccontextmanager
async def agent(file: Path) -> AsyncIterator[subprocess.Popen[bytes]]:
    """An agent as a process, killed at the end; its worker computes without machine code, which starts sooner."""
    command = [sys.executable, "-m", "edge.agent.cli", "run", str(file), "--data-dir", str(file.parent / "data")]
    with (file.parent / "run.log").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | {"NUMBA_DISABLE_JIT": "1"})
    try:
        yield process
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


@pytest.mark.timeout(180)
async def test_through_a_kill_each_recording_counts_once_and_an_alarm_reaches_the_brain_with_its_samples(
    tmp_path: Path, program: Callable[[str], str]
) -> None:
    program("mosquitto")
    seed = random.randrange(2**32)
    print("seed", seed)
    chance, pki = random.Random(seed), make_pki(tmp_path / "pki")
    machine = {"standard": "none", "rpm": RPM, "bearing": "6205", "blocks": {"bearing": "4s"}}
    began = datetime.fromtimestamp(SystemClock().now() // 10**9 - 7200, UTC)
    blocks = [
        np.round(strokes(bearing("6205").orders["bpfo"], 4.0, 3.0, seed) / FULL_SCALE * 32768).astype(np.int16)
        for seed in range(3)
    ]
    moments = [datetime.fromtimestamp(began.timestamp() + 600 * number, UTC) for number in range(3)]
    verdicts = "SELECT 1 FROM sample JOIN tag ON tag.key = sample.tag WHERE name = 'de_fault'"
    alarm = "SELECT ts, text, facts FROM event WHERE kind = 'condition_alarm'"
    evidence = (
        "SELECT device, name, ts, rate_hz, full_scale, unit, int16_samples FROM waveform"
        " JOIN tag ON tag.key = waveform.tag WHERE name LIKE '%evidence'"
    )
    async with start_broker(tmp_path, pki, kind="mosquitto") as broker, brain(broker.url, pki, tmp_path):
        file = configured(tmp_path, uplink_settings(broker.url, pki), machine=machine)
        for block, moment in list(zip(blocks, moments, strict=True))[:2]:
            drop(tmp_path, moment, block)
        async with agent(file):
            await until(lambda: told(tmp_path, verdicts), 60)
            await asyncio.sleep(chance.uniform(0, 0.5))  # the instant of death is the random input of this test
        drop(tmp_path, moments[2], blocks[2])
        async with agent(file):
            await until(lambda: told(tmp_path, alarm) and told(tmp_path, evidence), 60)
    ((ts, text, given),) = told(tmp_path, alarm)
    facts = json.loads(given)
    assert (facts["rule"], facts["fault"], facts["unit"]) == ("bearing", "outer_race", "dB")
    assert facts["value"] > facts["limit"] > 10
    assert "ISO 13373-3" in facts["clause"]
    assert (facts["from"], facts["to"]) == (iso8601(ns(moments[0])), iso8601(ns(moments[-1]) + 4 * 10**9))
    assert "pump-3.de_bpfo shows a fault: outer_race" in text
    assert ts == ns(moments[-1]) + 4 * 10**9
    ((device, name, begin, rate, full_scale, unit, samples),) = told(tmp_path, evidence)
    assert (f"{device}.{name}", iso8601(begin)) == (f"pump-3.{facts['evidence']}", facts["evidence_ts"])
    assert (rate, full_scale, unit) == (RATE, FULL_SCALE, "m/s2")
    assert np.array_equal(np.frombuffer(samples, "<i2"), blocks[-1])
    found: Counter[tuple[str, int]] = Counter()
    async with open_log(tmp_path / "data" / "log.sqlite3", SystemClock()) as log:
        after = 0
        while records := await log.read(after):
            waves = [record for _, record in records if isinstance(record, Waveform)]
            found.update((log.catalogue[wave.tag].name, wave.ts) for wave in waves)
            after = records[-1][0]
    assert found == Counter([*(("de", ns(moment)) for moment in moments), (name, begin)])
    assert classes(tmp_path)[WAVEFORM_KIND] == DataClass.ALARM, "the samples go last when the disk is full"
    assert names(tmp_path / "waves") == [f"done/DE_{moment:%Y%m%d_%H%M%S}.wav" for moment in moments]


def classes(folder: Path) -> dict[int, int]:
    db = sqlite3.connect(f"file:{folder / 'data' / 'log.sqlite3'}?mode=ro", uri=True)
    try:
        return dict(db.execute("SELECT kind, max(class) FROM segment GROUP BY kind").fetchall())
    finally:
        db.close()


def ns(moment: datetime) -> int:
    return round(moment.timestamp()) * 10**9
