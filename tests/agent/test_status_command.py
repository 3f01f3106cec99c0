from typing import Any

from edge.agent.status_command import render


def test_an_uplink_that_is_connected_and_refused_says_so() -> None:
    counts = ("disk_bytes", "disk_free_bytes", "disk_free_min", "rows_dropped_total", "rows_thinned_total")
    log: dict[str, Any] = dict.fromkeys((*counts, "segments_corrupt_total"), 0) | {
        "damaged_files": [],
        "last_error": "",
        "outage_s": None,
    }
    backlog = {"rows": 7, "quarantined": 0}
    uplinks = [
        {"name": name, "connected": connected, "last_error": error, "backlog": backlog}
        for name, connected, error in (("brain", True, ""), ("json", True, "a topic is denied"), ("far", False, "gone"))
    ]
    status = {"site": "a/b", "uptime_s": 1, "rss_mb": {"core": 1}, "devices": [], "log": log, "uplinks": uplinks}
    assert render(status).splitlines()[-3:] == [
        "uplink brain: connected; 7 rows wait to be confirmed",
        "uplink json: connected, but a topic is denied; 7 rows wait to be confirmed",
        "uplink far: not connected: gone; 7 rows wait to be confirmed",
    ]
