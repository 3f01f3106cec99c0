"""What condition monitoring finds in real recordings. Thresholds are the product's: nothing is
tuned to a record or a collection.

    python benchmarks/score_condition.py --data ../shared/data
"""

import argparse
import sys
from pathlib import Path

import numpy as np

from edge.analytics.condition.bearing.bearings import bearing
from edge.analytics.condition.bearing.diagnosis import STANDARD_GRAVITY, diagnose
from edge.analytics.condition.gate import Confirmed
from edge.analytics.condition.statistics.baseline import Baseline
from tests.analytics.recordings import LEARNED_S, Recorded, cwru, judged, mfpt, skab

QUIET = ("none", "not_diagnosable")


def bearings(name: str, records: list[Recorded]) -> None:
    """Print how many calls are right: of what can be seen (published grade Y, or any without a grade), of the rest."""
    right = wrong = healthy_called = visible = healthy = 0
    for record in records:
        orders = bearing(record.bearing).orders
        found = diagnose(record.samples * STANDARD_GRAVITY, record.rate_hz, record.rpm, orders)
        call = found.verdict.fault
        can_be_seen = record.fault != "none" and (not record.grade or record.grade.startswith("Y"))
        visible += can_be_seen
        healthy += record.fault == "none"
        right += can_be_seen and call == record.fault
        healthy_called += record.fault == "none" and call not in QUIET
        wrong += record.fault != "none" and call not in QUIET and (call != record.fault or not can_be_seen)
        best = max(found.lines.values(), key=lambda line: line.level_db)
        print(f"  {record.name:26} {record.fault:11} {record.grade:4} {call:16} highest line {best.level_db:5.1f} dB")
    print(f"{name}: {right} of {visible} right, {wrong} wrong, {healthy_called} of {healthy} healthy called")


def pumps(data: Path) -> None:
    """Print both errors of `watch:` with its default rules on SKAB, with delay and Matthews' correlation.

    F1 alone proves nothing: it is 0.70 for `always alarm`.
    """
    called, true, delays = [], [], []
    for record in skab(data):
        alarm = judged(record)[LEARNED_S:]
        anomaly = record.anomaly[LEARNED_S:]
        called.append(alarm)
        true.append(anomaly)
        inside = np.flatnonzero(alarm & anomaly)
        delays.append(inside[0] - np.argmax(anomaly) if inside.size else np.nan)
        false, missed = np.mean(alarm[~anomaly]), np.mean(~alarm[anomaly])
        print(f"  {record.name:12} false alarms {false:6.1%}, missed {missed:6.1%}, delay {delays[-1]:4.0f} s")
    alarm, anomaly = np.concatenate(called), np.concatenate(true)
    tp, fp = float(np.sum(alarm & anomaly)), float(np.sum(alarm & ~anomaly))
    fn, tn = float(np.sum(~alarm & anomaly)), float(np.sum(~alarm & ~anomaly))
    mcc = (tp * tn - fp * fn) / np.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    f1, unseen = 2 * tp / (2 * tp + fp + fn), int(np.isnan(delays).sum())
    print(
        f"SKAB: false alarms {fp / (fp + tn):.1%}, missed {fn / (fn + tp):.1%}, F1 {f1:.3f}, MCC {mcc:.3f}, "
        f"median delay {np.nanmedian(delays):.0f} s, never seen {unseen} of {len(delays)}"
    )


def lives(data: Path) -> None:
    """Print when a run to failure gives its first alarm."""
    for file in sorted((data / "femto").glob("*.npz")):
        with np.load(file) as archive:
            rms = archive["acc_mg"].astype(float).std(axis=1)
        baseline, alarm, first = Baseline(), Confirmed(), None
        for place, value in enumerate(rms.tolist()):
            baseline.learn(value, is_well=not alarm.is_on)
            if baseline.is_ready and alarm.feed(value > baseline.high) and first is None:
                first = place
        share = "never" if first is None else f"at {first / len(rms):.0%} of its life"
        print(f"FEMTO {file.stem}: first alarm {share}")


def main() -> int:
    """Print all scores."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    arguments = parser.parse_args()
    if not arguments.data.is_dir():
        print(f"no recordings in {arguments.data}: the rest is not scored")
        return 0
    bearings("CWRU", list(cwru(arguments.data)))
    bearings("MFPT", list(mfpt(arguments.data)))
    pumps(arguments.data)
    lives(arguments.data)
    return 0


if __name__ == "__main__":
    sys.exit(main())
