"""What condition monitoring finds in real recordings. Thresholds are the product's: nothing is
tuned to a record or a collection.

    python benchmarks/score_condition.py --data ../shared/data
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from edge.agent.configuration.loader import load
from edge.analytics.condition.bearing.bearings import bearing
from edge.analytics.condition.bearing.diagnosis import STANDARD_GRAVITY, diagnose
from edge.analytics.condition.watch import operators_of
from edge.analytics.operator import Rows
from edge.core.batch import Waveform
from tests.analytics.recordings import LEARNED_S, Recorded, cwru, judged, mfpt, skab

QUIET = ("none", "not_diagnosable")

RIG = """
site: lab/rigs
devices:
  rig:
    modbus: tcp://192.168.10.40
    tags:
      running: {at: coil/0}
      de: {at: holding/0, type: "f32[2560]", rate: 25.6 kHz, unit: mg, every: 10min}
    machine:
      standard: none
      rpm: 1500
      bearing: {balls: 13, ball: 3.5 mm, pitch: 25.6 mm}
      running: {tag: running}
"""
RIG_EVERY_NS = 600 * 10**9
"""A rig with one bearing that is worn out, and how far its blocks lie apart."""


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
    """Print when a run to failure gives its first alarm of the worker's operator, as a machine that is configured.

    The rig took 0.1 s every ten seconds and wore a bearing out in hours; a baseline takes a day of running. So each
    block is given as that of a sensor which sends one every ten minutes: 86 hours of a machine.
    """
    with TemporaryDirectory() as folder:
        config = Path(folder, "rig.yaml")
        config.write_text(RIG)
        analytics = load(config).analytics
    assert analytics is not None
    (part,) = analytics["parts"]
    (machine,) = part["settings"]["machines"]
    for file in sorted((data / "femto").glob("*.npz")):
        with np.load(file) as archive:
            blocks, rate = archive["acc_mg"].astype(np.float32), float(archive["fs"])
        (operator,) = operators_of(machine)
        slot, gate = (list(operator.inputs).index(path) for path in ("rig.de", "rig.running"))
        found = [*operator.push(Rows.of([gate], [0], [1.0]), 0).events]
        for place, block in enumerate(blocks, 1):
            wave = Waveform(0, place * RIG_EVERY_NS, rate, 0.0, block)
            rows = replace(Rows.of([], [], []), waveforms=[(slot, wave)], waveforms_at=[wave.ts])
            found += operator.push(rows, wave.ts + RIG_EVERY_NS // 2).events
        alarms = [event for event in found if event.kind == "condition_alarm"]
        share = "never"
        if alarms:
            first = alarms[0]
            share = f"at {first.ts / RIG_EVERY_NS / len(blocks):.0%} of its life, {first.facts['rule']}"
        print(f"FEMTO {file.stem}: first alarm {share}; a block every ten minutes of {len(blocks) / 6:.0f} hours")


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
