"""Parquet files as the brain's store: whole, once, and readable by everybody's tools."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow.parquet as pq
import pytest

from edge.core.errors import YulinkError
from tests.contract.golden import GATEWAY
from tests.uplink.fleet import TAGS, Gateway
from tests.uplink.test_store import CATALOGUE, FIRST, THIRD
from uplink.receiver import parquet as parquet_module
from uplink.receiver.message import Arrived
from uplink.receiver.parquet import ParquetStore


async def test_pandas_and_polars_read_what_was_written(tmp_path: Path) -> None:
    store = ParquetStore(tmp_path / "lake")
    await store.open()
    await store.commit([CATALOGUE, FIRST, THIRD, FIRST], 1)
    assert list((tmp_path / "lake").glob("reading")) == []
    await store.close()
    files = [*(tmp_path / "lake").rglob("*.parquet")]
    assert sorted(str(file.parent.relative_to(tmp_path / "lake")) for file in files) == [
        f"{kind}/gateway=chongqing%2Fplant-1/day=2026-01-01" for kind in ("event", "gap", "reading", "waveform")
    ]
    frame = pd.read_parquet(tmp_path / "lake" / "reading", dtype_backend="pyarrow")
    assert len(frame) == 43
    assert set(frame.gateway) == {GATEWAY}
    total = frame[frame.tag == "total"]
    assert total.unsigned.tolist() == [2**63 - 1, 2**63, 2**64 - 1, 0, 1]
    assert frame[frame.tag == "recipe"].text.tolist() == ["RUN", "RUN", "法兰-7", "", "RUN"]
    assert frame[frame.tag == "ratio"].value.tolist() == [1 / 3, 2 / 3, 1e300, 5e-324, -0.0]
    assert frame[frame.tag == "flow"].revision.tolist() == [0, 0, 2, 1, 0, 0, 0, 0]
    assert frame[frame.tag == "count"].integer.tolist().count(-(2**63)) == 1
    lazy = pl.scan_parquet(tmp_path / "lake" / "reading" / "**" / "*.parquet", hive_partitioning=True)
    found = lazy.filter(pl.col("tag") == "level").sort("ts").collect()
    assert found["gateway"].to_list() == [GATEWAY] * 9
    assert sorted(found["seq"].to_list()) == [1] * 5 + [3] * 4
    wave = pq.read_table(next((tmp_path / "lake" / "waveform").rglob("*.parquet"))).to_pylist()
    assert wave[0]["int16_samples"] == list(range(-8, 8))
    event = pq.read_table(next((tmp_path / "lake" / "event").rglob("*.parquet"))).to_pylist()
    assert json.loads(event[0]["facts"]) == {"hint": "check the cable"}


async def test_what_waits_becomes_files_when_it_is_time_and_stops_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet_module, "ROWS_MAX", 3 * TAGS)
    gateway = Gateway("t/g", 1)
    store = ParquetStore(tmp_path, every_s=3600)
    await store.open()
    await store.commit([Arrived(*message) for message in gateway.plain(2)], 1)
    await store.settle()
    assert not [*tmp_path.rglob("*.parquet")]
    await store.commit([Arrived(*gateway.batch(seq)) for seq in range(3, 8)], 1)
    await store.settle()
    assert len([*tmp_path.rglob("*.parquet")]) == 3
    assert len(pd.read_parquet(tmp_path / "reading")) == 7 * TAGS
    await store.close()
    assert len([*tmp_path.rglob("*.parquet")]) == 3


WORKER = """
import asyncio, sys
from pathlib import Path
from tests.uplink.fleet import Gateway
from uplink.receiver.message import Arrived
from uplink.receiver.parquet import ParquetStore
async def main():
    store = ParquetStore(Path(sys.argv[1]), every_s=0)
    await store.open()
    gateway = Gateway("t/g", 1)
    await store.commit([Arrived(*gateway.catalogue())], 1)
    for seq in range(1, 100_000):
        await store.commit([Arrived(*gateway.batch(seq))], 1)
        await store.settle()
        print(seq, flush=True)
asyncio.run(main())
"""


async def test_killed_at_any_instant_nothing_is_lost_or_twice(tmp_path: Path) -> None:
    told = 0
    for round_ in range(3):
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", WORKER, str(tmp_path)), stdout=asyncio.subprocess.PIPE
        )
        assert child.stdout is not None
        for _ in range(15 + 7 * round_):
            last = int(await child.stdout.readline())
        child.send_signal(signal.SIGKILL)
        rest = (await child.stdout.read()).split()
        await child.wait()
        told = max(told, int(rest[-1]) if rest else last)
    store = ParquetStore(tmp_path)
    await store.open()
    await store.close()
    frame = pd.read_parquet(tmp_path / "reading")
    counted = frame.groupby("seq").size()
    assert counted.tolist() == [TAGS] * len(counted)
    assert counted.index.tolist() == list(range(1, len(counted) + 1))
    assert len(counted) >= told


async def test_files_written_but_not_yet_forgotten_are_written_again_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The instant between the files and the database, held still."""
    store = ParquetStore(tmp_path, every_s=0)
    await store.open()
    await store.commit([CATALOGUE, FIRST], 1)
    written: list[Any] = []

    def die(self: ParquetStore, *arguments: Any) -> None:
        write(self, *arguments)
        written.append(arguments[:4])
        raise OSError("no space left")

    write = ParquetStore._write
    monkeypatch.setattr(ParquetStore, "_write", die)
    await store.settle()
    assert written
    await store.commit([THIRD], 1)  # comes after the plan, so it is no part of those files
    monkeypatch.undo()
    await store.close()
    assert len(pd.read_parquet(tmp_path / "reading")) == 43
    assert len([*(tmp_path / "reading").rglob("*.parquet")]) == 2


async def test_a_folder_that_cannot_be_written_is_refused_and_so_is_a_second_receiver(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = ParquetStore(tmp_path / "file" / "lake")
    with pytest.raises(YulinkError, match="cannot be written"):
        await store.open()
    await store.close()
    first, second = ParquetStore(tmp_path), ParquetStore(tmp_path)
    await first.open()
    with pytest.raises(YulinkError, match="in use by process"):
        await second.open()
    await second.close()
    await first.close()


def test_without_its_package_the_command_says_what_to_install(tmp_path: Path) -> None:
    hidden = "import sys; sys.modules['pyarrow'] = None; from edge.agent.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", hidden, "receive", "--mqtt", "mqtt://127.0.0.1:1", "--parquet", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, env=os.environ | {"LC_ALL": "C.UTF-8"})
    assert done.returncode == 1
    assert "--parquet needs the package pyarrow" in done.stderr
    assert "pip install 'yulink[brain]'" in done.stderr
