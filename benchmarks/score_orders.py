"""Bearings judged over the angle of the shaft: the recordings of steady speed as if a tacho told it, and simulated ones
whose speed wavers, with faults and without. Thresholds are the product's.

    python benchmarks/score_orders.py --data ../shared/data
"""

import argparse
import sys
from pathlib import Path

import numpy as np

from edge.analytics.condition.bearing.bearings import bearing
from edge.analytics.condition.bearing.diagnosis import STANDARD_GRAVITY, diagnose
from edge.analytics.condition.turning.tacho import Track, tacho_track
from tests.analytics.recordings import Recorded, cwru, mfpt
from tests.analytics.test_orders import RATE, wavering

QUIET = ("none", "not_diagnosable")


def recorded(name: str, records: list[Recorded]) -> None:
    """Print how many calls are right, over time and over the angle."""
    for way in ("time", "angle"):
        right = visible = wrong = called = healthy = 0
        for record in records:
            orders = bearing(record.bearing).orders
            seconds = np.arange(0, record.samples.size / record.rate_hz, 60 / record.rpm)
            track = Track(seconds, np.arange(seconds.size, dtype=np.float64)) if way == "angle" else None
            found = diagnose(record.samples * STANDARD_GRAVITY, record.rate_hz, record.rpm, orders, track=track)
            call = found.verdict.fault
            can_be_seen = record.fault != "none" and (not record.grade or record.grade.startswith("Y"))
            visible += can_be_seen
            right += can_be_seen and call == record.fault
            wrong += record.fault != "none" and call not in QUIET and (call != record.fault or not can_be_seen)
            healthy += record.fault == "none"
            called += record.fault == "none" and call not in QUIET
        print(
            f"{name} over the {way:5}: {right} of {visible} right, {wrong} wrong, {called} of {healthy} healthy called"
        )


def simulated(count: int) -> None:
    """Print calls on a shaft whose speed wavers by 30 %, with a fault that slips, and without."""
    geometry = bearing("6205").orders
    for family, fault in (("bpfo", "outer_race"), ("bpfi", "inner_race"), (None, "none")):
        calls = {"tacho": [], "steady speed": []}  # type: dict[str, list[str]]
        for seed in range(count):
            samples, tacho = wavering(geometry[family] if family else None, seed)
            track = tacho_track(tacho, RATE, 1)
            found = diagnose(samples, RATE, 60 * track.hz()[1], geometry, track=track)
            calls["tacho"].append(found.verdict.fault)
            calls["steady speed"].append(diagnose(samples, RATE, 1480.0, geometry).verdict.fault)
        told = ", ".join(
            f"{sum(each == fault for each in found)} right, {sum(each not in (fault, *QUIET) for each in found)} wrong "
            f"with {way}" for way, found in calls.items()
        )  # fmt: skip
        print(f"wavering speed, {fault}: of {count} {told}")


def main() -> int:
    """Print all scores."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--count", type=int, default=40)
    arguments = parser.parse_args()
    simulated(arguments.count)
    if not arguments.data.is_dir():
        print(f"no recordings in {arguments.data}: the rest is not scored")
        return 0
    recorded("CWRU", list(cwru(arguments.data)))
    recorded("MFPT", list(mfpt(arguments.data)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
