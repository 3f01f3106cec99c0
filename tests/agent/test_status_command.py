from typing import Any

import pytest

from edge.agent.commands.status import render


def a_status(uplinks: list[dict[str, Any]], outage_s: float | None = None) -> dict[str, Any]:
    counts = ("disk_bytes", "disk_free_bytes", "disk_free_min", "rows_dropped_total", "rows_thinned_total")
    log: dict[str, Any] = dict.fromkeys((*counts, "segments_corrupt_total"), 0) | {
        "damaged_files": [],
        "last_error": "",
        "outage_s": outage_s,
    }
    return {"site": "a/b", "uptime_s": 1, "rss_mb": {"core": 1}, "devices": [], "log": log, "uplinks": uplinks}


@pytest.mark.parametrize(
    ("seconds", "hours"), [(None, "–"), (5_400.0, "1.5"), (259_200.0, "72"), (1e12, "99,999"), (0.0, "0.0")]
)
def test_the_hours_of_outage_that_find_room_are_told(seconds: float | None, hours: str) -> None:
    assert f"outage: room for {hours} h without the brain at the present rate" in render(a_status([], seconds))


def test_an_uplink_that_is_connected_and_refused_says_so() -> None:
    backlog = {"rows": 7, "quarantined": 0}
    uplinks = [
        {"name": name, "connected": connected, "last_error": error, "backlog": backlog}
        for name, connected, error in (("brain", True, ""), ("json", True, "a topic is denied"), ("far", False, "gone"))
    ]
    assert render(a_status(uplinks)).splitlines()[-3:] == [
        "uplink brain: connected; 7 rows wait to be confirmed",
        "uplink json: connected, but a topic is denied; 7 rows wait to be confirmed",
        "uplink far: not connected: gone; 7 rows wait to be confirmed",
    ]


def test_a_waveform_that_cannot_be_judged_is_told_with_its_reason() -> None:
    health = {"state": "running", "reason": "", "derived_tags": [], "rows_derived_total": 0, "behind": 0}
    views = {"condition pump-3": {"not_judged": {"de": "it has no full_scale"}}, "alarms": {}}
    status = a_status([]) | {"analytics": health | {"views": views}}
    assert "  pump-3.de is not judged: it has no full_scale" in render(status).splitlines()


def test_what_stands_at_a_machine_is_told() -> None:
    health = {"state": "running", "reason": "", "derived_tags": [], "rows_derived_total": 0, "behind": 0}
    views = {
        "condition pump-3": {
            "zones": {"de_velocity_rms": "B"},
            "faults": {"de": "outer_race"},
            "alarmed": ["de_acceleration_rms"],
        },
        "condition fan-1": {"zones": {}, "faults": {}, "alarmed": []},
        "production pump-3": None,
    }
    status = a_status([]) | {"analytics": health | {"views": views}}
    lines = render(status).splitlines()
    assert "  pump-3: bearing fault: outer race (de); alarm: de_acceleration_rms" in lines
    assert "  pump-3: zone B (de_velocity_rms)" in lines
    assert not any("fan-1" in line for line in lines)
