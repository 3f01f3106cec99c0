"""What condition monitoring finds in real recordings and on a healthy plant. Thresholds are the product's: nothing is
tuned to a record or a collection.

    python benchmarks/score_condition.py --data ../shared/data
"""

import argparse
import sys
from pathlib import Path

import numpy as np

from edge.analytics.condition.baseline import Baseline
from edge.analytics.condition.bearings import bearing
from edge.analytics.condition.diagnosis import STANDARD_GRAVITY, diagnose
from edge.analytics.condition.gate import Confirmed
from edge.analytics.condition.severity import LIMITS
from edge.analytics.condition.watch import MachineWatch
from edge.analytics.operator import Rows
from tests.analytics.recordings import LEARNED_S, Recorded, cwru, judged, mfpt, skab

QUIET = ("none", "not_diagnosable")
MACHINES = 20
S = 10**9


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


def healthy_plant(hours: int) -> None:
    """Print false alarms of machines that are well: correlated noise, a daily cycle, stops, rare outliers."""
    limits = LIMITS["iso20816-3", "2", "rigid"]
    settings = {
        "rpm": 1480.0, "speed": None, "clause": limits.clause, "velocity_mm_s": list(limits.velocity),
        "displacement_um": None, "orders": {}, "teeth": None, "waveforms": {}, "velocities": {"velocity": 1.0},
        "running": {"tag": "running", "above": None, "hold_ns": 30 * S},
    }  # fmt: skip
    alarms = 0
    for number in range(MACHINES):
        random = np.random.default_rng(number)
        n = hours * 360
        noise = np.zeros(n)
        steps = random.normal(size=n)
        for i in range(1, n):
            noise[i] = 0.95 * noise[i - 1] + np.sqrt(1 - 0.95**2) * steps[i]
        day = np.sin(2 * np.pi * np.arange(n) / 8640 + random.uniform(0, 6))
        value = random.uniform(0.4, 1.2) * (1 + 0.06 * noise + 0.05 * day)
        value[random.random(n) < 1e-3] *= 3
        runs = (np.arange(n) // 360 + number) % 9 != 0
        value = np.where(runs, value, 0.02)
        watch = MachineWatch({"device": f"m{number}", **settings})
        slot = [watch.inputs.index(f"m{number}.{tag}") for tag in ("running", "velocity")] * n
        at = np.repeat(10 * S * np.arange(1, n + 1), 2).tolist()
        rows = Rows.of(slot, at, np.stack([runs.astype(float), value], axis=1).ravel().tolist())
        alarms += sum(event.kind == "condition_alarm" for event in watch.push(rows, at[-1]).events)
    rate = alarms / (MACHINES * hours / 24 / 30)
    print(f"healthy plant: {alarms} false alarms of {MACHINES} machines in {hours} h: {rate:.2f} a machine-month")


def main() -> int:
    """Print all scores."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--hours", type=int, default=168)
    arguments = parser.parse_args()
    healthy_plant(arguments.hours)
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
