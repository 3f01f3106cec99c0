"""The commands by hand: simulate, check, read, run, status; with good and bad input, and their exit codes."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support import until

SITE = "chongqing/plant-1"


def yulink(folder: Path, *arguments: object, language: str = "C.UTF-8") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "edge.agent.cli", *map(str, arguments)],
        cwd=folder,
        env={**os.environ, "LC_ALL": language, "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=60,
    )


@contextmanager
def simulated(folder: Path, *arguments: str) -> Iterator[dict[str, Any]]:
    """`yulink simulate … --json` as a process, and what it printed."""
    process = subprocess.Popen(
        [sys.executable, "-m", "edge.agent.cli", "simulate", *arguments, "--json"],
        cwd=folder,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )
    assert process.stdout is not None
    try:
        yield json.loads(process.stdout.readline())
    finally:
        process.terminate()
        assert process.wait(15) == 0
        process.stdout.close()


def configure(folder: Path, listing: dict[str, Any]) -> Path:
    (folder / "secrets").mkdir(exist_ok=True)
    for name, text in listing["secrets"].items():
        (folder / "secrets" / name).touch(0o600)
        (folder / "secrets" / name).write_text(text)
    file = folder / "plant.yaml"
    file.write_text(json.dumps({"site": SITE, "devices": listing["devices"]}, ensure_ascii=False), "utf-8")
    return file


def test_a_plant_is_simulated_checked_and_read(tmp_path: Path) -> None:
    with simulated(tmp_path, "demo") as listing:
        configure(tmp_path, listing)
        checked = yulink(tmp_path, "check", "plant.yaml", "--json")
        assert (checked.returncode, checked.stderr) == (0, "")
        answer = json.loads(checked.stdout)
        assert (answer["problems"], answer["unreached"]) == ([], {})
        assert set(answer["plan"]["plc-1"]) == {
            "requests_per_cycle", "registers_per_cycle", "cycle_ms_estimated", "cycle_ms_asked",
        }  # fmt: skip
        for device, settings in listing["devices"].items():
            read = yulink(tmp_path, "read", "plant.yaml", device, "--json")
            assert (read.returncode, read.stderr) == (0, "")
            rows = json.loads(read.stdout)["tags"]
            assert {row["quality"] for row in rows} == {"0x00000000"}
            assert all(row["raw"] and row["value"] is not None for row in rows)
            assert len(rows) >= len(settings["tags"])
        table = yulink(tmp_path, "read", "plant.yaml", "plc-1", "level", "recipe").stdout.splitlines()
        assert [line.split()[0] for line in table] == ["level", "recipe"]
        assert table[0].split()[2:4] == ["%", "Good"]
        assert "input/0 = 0x" in table[0]


def test_wrong_input_ends_with_2_and_a_failure_with_1_and_each_says_what_to_do(tmp_path: Path) -> None:
    with simulated(tmp_path, "plc") as listing:
        configure(tmp_path, listing)
        cases = {
            ("read", "plant.yaml", "plc-2"): (2, "did you mean 'plc-1'"),
            ("read", "plant.yaml", "plc-1", "levl"): (2, "tags: level"),
            ("read", "nothing.yaml", "plc-1"): (2, "nothing.yaml"),
            ("simulate", "plant"): (2, "scenarios: demo, cnc"),
            ("simulate", "plc", "--fault", "plc-1:freeze"): (2, "plc-1:freeze@10s+5s"),
            ("simulate", "meter", "--fault", "incomer:freeze@1s+1s"): (2, "cannot have the fault"),
            ("receive", "--mqtt", "http://broker"): (2, "mqtts://host"),
            ("status",): (1, "yulink run"),
        }
        for arguments, (code, words) in cases.items():
            done = yulink(tmp_path, *arguments)
            assert (done.returncode, done.stdout) == (code, ""), arguments
            assert words in done.stderr, arguments
            assert "Traceback" not in done.stderr
    gone = yulink(tmp_path, "read", "plant.yaml", "plc-1")
    assert gone.returncode == 1
    assert "cannot be reached: Connection refused" in gone.stderr
    assert "help: check address" in gone.stderr
    chinese = yulink(tmp_path, "read", "plant.yaml", "plc-1", language="zh_CN.UTF-8")
    assert "帮助" in chinese.stderr
    unreached = yulink(tmp_path, "check", "plant.yaml")
    assert unreached.returncode == 1
    assert "plc-1: not reached" in unreached.stdout


def test_faults_come_on_request(tmp_path: Path) -> None:
    faults = ("--fault", "plc-1:exception-6@0s+60s", "--fault", "cnc-07:clock@0s+60s")
    with simulated(tmp_path, "demo", *faults) as listing:
        configure(tmp_path, listing)
        read = yulink(tmp_path, "read", "plant.yaml", "plc-1", "--json")
        assert read.returncode == 1
        assert {row["quality"] for row in json.loads(read.stdout)["tags"]} == {"0x80040000"}


async def test_a_running_agent_tells_its_state_until_it_drains(tmp_path: Path) -> None:
    with simulated(tmp_path, "plc") as listing:
        configure(tmp_path, listing)
        agent = subprocess.Popen(
            [sys.executable, "-m", "edge.agent.cli", "run", "plant.yaml", "--data-dir", "data"],
            cwd=tmp_path,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env=os.environ | {"LC_ALL": "C.UTF-8"},
        )
        try:
            await until((tmp_path / "data" / "yulink.sock").exists, 20)
            await until(lambda: "connected " in yulink(tmp_path, "status", "--data-dir", "data").stdout, 20)
            status = json.loads(yulink(tmp_path, "status", "--data-dir", "data", "--json").stdout)
            assert (status["site"], status["uplink"]) == (SITE, None)
            assert [device["state"] for device in status["devices"]] == ["connected"]
            second = yulink(tmp_path, "run", "plant.yaml", "--data-dir", "data")
            assert second.returncode == 1
            assert f"in use by process {agent.pid}" in second.stderr
        finally:
            agent.send_signal(signal.SIGTERM)
            _, errors = agent.communicate(timeout=15)
        assert agent.returncode == 0, errors
        assert "plc-1: connected" in errors


@pytest.mark.parametrize("text", ["", "site: [", "nothing: 1", "site: chongqing/plant-1\ndevices: {a: 1}"])
def test_a_wrong_configuration_starts_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "plant.yaml").write_text(text)
    done = yulink(tmp_path, "run", "plant.yaml", "--data-dir", "data")
    assert done.returncode == 2
    assert "plant.yaml:" in done.stderr
    assert not (tmp_path / "data").exists()
