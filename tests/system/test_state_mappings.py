"""The ready mappings of `config/states`, each by a trace of what its machine would say, through `yulink replay`."""

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from tests.system.test_production_replay import Row, replay

ROOT = Path(__file__).parents[2]
BEGIN = datetime.fromisoformat("2026-03-02T08:00:00+08:00")
Trace = list[tuple[dict[str, object], str]]

TEXTS, NUMBERS = "string[40]", "u16"
CASES: dict[str, tuple[str, str, Trace]] = {
    "opcua-machinery": (
        TEXTS,
        "",
        [
            ({"item_state": "Executing", "operation_mode": "Processing"}, "running"),
            ({"item_state": "NotExecuting", "operation_mode": "Processing"}, "idle"),
            ({"item_state": "NotExecuting", "operation_mode": "Setup"}, "setup"),
            ({"item_state": "OutOfService", "operation_mode": "None"}, "fault"),
            ({"item_state": "OutOfService", "operation_mode": "Maintenance"}, "maintenance"),
            ({"item_state": "NotAvailable", "operation_mode": "None"}, "off"),
            ({"item_state": "?", "operation_mode": "None"}, "unknown"),
        ],
    ),
    "opcua-machinetool": (
        NUMBERS,
        "",
        [
            ({"operation_mode": 1, "channel_state": 0}, "running"),
            ({"operation_mode": 1, "channel_state": 1}, "idle"),
            ({"operation_mode": 2, "channel_state": 2}, "setup"),
            ({"operation_mode": 4, "channel_state": 2}, "maintenance"),
            ({"operation_mode": 0, "channel_state": 2}, "idle"),
        ],
    ),
    "mtconnect": (
        TEXTS,
        "",
        [
            ({"execution": "ACTIVE", "controller_mode": "AUTOMATIC"}, "running"),
            ({"execution": "WAIT", "controller_mode": "AUTOMATIC"}, "starved"),
            ({"execution": "READY", "controller_mode": "MANUAL"}, "setup"),
            ({"execution": "FEED_HOLD", "controller_mode": "AUTOMATIC"}, "idle"),
            ({"execution": "UNAVAILABLE", "controller_mode": "UNAVAILABLE"}, "unknown"),
        ],
    ),
    "siemens-840d": (
        NUMBERS,
        "",
        [
            ({"program_status": 3, "mode": 2}, "running"),
            ({"program_status": 2, "mode": 2}, "idle"),
            ({"program_status": 5, "mode": 0}, "setup"),
        ],
    ),
    "fanuc": (
        NUMBERS,
        "parameters: {run_start: 4}",
        [
            ({"run": 4, "alarm": 0, "emergency": 0}, "running"),
            ({"run": 3, "alarm": 0, "emergency": 0}, "idle"),
            ({"run": 4, "alarm": 1, "emergency": 0}, "fault"),
            ({"run": 0, "alarm": 0, "emergency": 1}, "fault"),
        ],
    ),
    "current-clamp": (
        NUMBERS,
        "parameters: {idle_above: 5, running_above: 20}",
        [({"current": 30}, "running"), ({"current": 10}, "idle"), ({"current": 0}, "off")],
    ),
}


def test_every_shipped_mapping_has_a_trace() -> None:
    assert {file.stem for file in (ROOT / "config" / "states").glob("*.yaml")} == set(CASES)


@pytest.mark.parametrize("mapping", CASES)
def test_a_mapping_says_what_its_machine_does(tmp_path: Path, mapping: str) -> None:
    kind, parameters, trace = CASES[mapping]
    tags = "".join(
        f"\n      {tag}: {{at: holding/{place * 40}, type: '{kind}'}}" for place, tag in enumerate(trace[0][0])
    )
    config = f"""
site: chongqing/plant-1
devices:
  cnc:
    modbus: tcp://127.0.0.1:1
    every: 10s
    tags:{tags}
production:
  cnc:
    use: {mapping}
    {parameters}
"""
    rows: list[Row] = []
    for number, (said, _) in enumerate(trace):
        at = BEGIN + timedelta(seconds=10 * number)
        rows += [(at, "cnc", tag, value) for tag, value in said.items()]  # type: ignore[misc]
    rows.append((BEGIN + timedelta(seconds=10 * len(trace)), "cnc", *next(iter(trace[-1][0].items()))))  # type: ignore[arg-type]
    lines = replay(tmp_path, config, rows)
    states = [line["value"] for line in lines if line.get("tag") == "state"]
    assert [state for state in states if states.index(state) or state != "unknown"][: len(trace)] == [
        state for place, (_, state) in enumerate(trace) if not place or trace[place - 1][1] != state
    ]
