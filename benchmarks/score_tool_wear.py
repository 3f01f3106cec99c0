"""What the spindle's load tells of tool wear in real recordings, beside what one reaches without looking. Settings are
the product's; nothing is tuned to a recording. What is scored was never in what is learned: a whole tool, or a whole
experiment, is left out, never rows.

    python benchmarks/score_tool_wear.py --data ../shared/data
"""

import argparse
import csv
import gzip
import sys
from itertools import groupby
from pathlib import Path

import numpy as np

from edge.analytics.condition.cutting.operation_watch import OperationWatch
from edge.analytics.condition.cutting.operations import Wear
from edge.analytics.operator import Rows

S = 10**9
HOW = {
    "load": {"load": ""}, "name": ["operation"], "tool": None, "changed": None, "changed_is_bool": False,
    "rise": 0.3, "runs": 8, "pause_ns": 2 * S, "shortest_ns": 2 * S,
}  # fmt: skip
MACHINE = {"device": "m", "cutting": {"tag": "cuts", "above": None, "hold_ns": 1}, "operations": HOW}
PASS_S = 5
LOADS = ("Iu_s_RMS", "TV2.S_MEAN", "TV2.Z_MEAN", "CV3.Z_MEAN", "F_f_MEAN")
"""Current of the spindle's motor, the control's own values of spindle and feed axis, and a force sensor beside them."""

Told = dict[str, list[tuple[int, float]]]


def watched(readings: list[tuple[float, str, float]]) -> tuple[Told, list[int]]:
    """Return all that the operator tells of (second, operation or nothing, load), and seconds of its alarms."""
    operator = OperationWatch(MACHINE)
    slots = {path.partition(".")[2]: slot for slot, path in enumerate(operator.inputs)}
    slot: list[int] = []
    at: list[int] = []
    values: list[float | str] = []
    for second, operation, load in readings:
        pairs: dict[str, float | str] = {"operation": operation, "load": load, "cuts": float(bool(operation))}
        for tag, value in pairs.items():
            slot.append(slots[tag])
            at.append(round(second * S))
            values.append(value)
    out = operator.push(Rows.of(slot, at, values), at[-1] + 60 * S)
    told: Told = {}
    for each in out.readings:
        if not isinstance(each.value, str):
            told.setdefault(operator.outputs[each.output].name, []).append((each.ts // S, float(each.value)))
    alarms = [event.ts // S for event in out.events if event.kind == "condition_alarm"]
    return told, alarms


def healthy_shop(parts: int) -> None:
    """Print false alarms of tools that do not wear: loads scatter by 6 %, wander by 5 %, a new tool each 200."""
    alarms = 0
    rng = np.random.default_rng(4)
    wear = Wear()
    wander = 0.0
    for part in range(parts):
        if part % 200 == 0:
            wear.renew()
        wander = 0.99 * wander + 0.05 * (1 - 0.99**2) ** 0.5 * rng.normal()
        mean = 30 * (1 + wander) * float(np.exp(0.06 * rng.normal()))
        began, _ = wear.feed(part, mean, HOW["runs"], HOW["rise"])  # type: ignore[arg-type]
        alarms += began and wear.worn.is_on
    print(f"tools that do not wear: {alarms} false alarms in {parts} parts")


def turning(data: Path) -> None:
    """Print what the load says of the flank wear of seven tools: each tool is left out once."""
    with gzip.open(data / "vicomtech_turning" / "tools_dev.csv.gz", "rt") as file:
        rows = list(csv.DictReader(file))
    tools = {tool: list(group) for tool, group in groupby(rows, key=lambda row: row["tool"])}
    for column in LOADS:
        pairs: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        first: list[float] = []
        for tool, its in tools.items():
            readings: list[tuple[float, str, float]] = []
            for number, row in enumerate(its):
                begin = number + (number // PASS_S) * 5  # short passes, with the tool out of the cut between
                readings.append((begin, "turning", float(row[column])))
                if number % PASS_S == PASS_S - 1 or number == len(its) - 1:
                    readings.append((begin + 1, "", float(row[column])))
            told, alarms = watched(readings)
            wear = np.array([float(row["Vb"]) for row in its])
            at = [int(second - second // (PASS_S + 5) * 5) for second, _ in told.get("load_wear", [])]
            ends = np.minimum(np.array(at, int) + PASS_S - 1, wear.size - 1)
            pairs[tool] = np.array([value for _, value in told.get("load_wear", [])]), wear[ends]
            first += [
                float(wear[min(int(second - second // (PASS_S + 5) * 5), wear.size - 1)]) for second in alarms[:1]
            ]
        errors, means, ranks = [], [], []
        for tool, (rise, wear) in pairs.items():
            others = [pair for other, pair in pairs.items() if other != tool and pair[0].size]
            x, y = (np.concatenate(part) for part in zip(*others, strict=True))
            if rise.size < 3:
                continue
            slope, offset = np.polyfit(x, y, 1)
            errors.append(float(np.abs(slope * rise + offset - wear).mean()))
            means.append(float(np.abs(y.mean() - wear).mean()))
            ranks.append(float(np.corrcoef(np.argsort(np.argsort(rise)), np.argsort(np.argsort(wear)))[0, 1]))
        at_alarm = ", ".join(f"{each:.0f}" for each in first) or "never"
        print(
            f"turning, {column:11} leave one tool out: mean error {np.mean(errors):.1f} um, mean predictor "
            f"{np.mean(means):.1f} um, Spearman median {np.median(ranks):.2f}; wear at the first alarm: {at_alarm} um "
            f"of {', '.join(f'{pair[1].max(initial=0):.0f}' for pair in pairs.values())}"
        )


def milling(data: Path) -> None:
    """Print whether a tool is called worn, from the loads of the other experiments' unworn tools alone."""
    runs: dict[str, tuple[str, dict[str, float]]] = {}
    for path in sorted((data / "umich_cnc_mill").glob("*.csv.gz")):
        with gzip.open(path, "rt") as file:
            rows = list(csv.DictReader(file))
        readings = [
            (number / 10, row["Machining_Process"] if row["Machining_Process"].startswith("Layer") else "",
             float(row["S1_OutputPower"]))
            for number, row in enumerate(rows)
        ]  # fmt: skip
        told, _ = watched(readings)
        names = [name for name, _ in groupby(readings, key=lambda each: each[1]) if name]
        means = dict(zip(names, (value for _, value in told["load_operation_mean"]), strict=False))
        runs[path.stem[11:13]] = rows[0]["tool_condition"], means
    right = 0
    calls = []
    for name, (truth, means) in runs.items():
        beyond = compared = 0
        for operation, mean in means.items():
            earlier = [
                other[operation] for each, (condition, other) in runs.items()
                if each != name and condition == "unworn" and operation in other
            ]  # fmt: skip
            normal, limit = Wear(earlier=earlier).reference(HOW["rise"])  # type: ignore[arg-type]
            compared += not np.isnan(normal)
            beyond += mean > limit
        call = "worn" if 2 * beyond > compared else "unworn"
        right += call == truth
        calls.append(f"{name} {truth} {beyond}/{compared}")
    unworn = sum(truth == "unworn" for truth, _ in runs.values())
    print(
        f"milling, spindle power, leave one experiment out: {right} of {len(runs)} right, the majority alone "
        f"{max(unworn, len(runs) - unworn)} ({'; '.join(calls)} operations above the limit)"
    )


def main() -> int:
    """Print all scores."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    arguments = parser.parse_args()
    healthy_shop(20_000)
    if not arguments.data.is_dir():
        print(f"no recordings in {arguments.data}: nothing is scored")
        return 0
    turning(arguments.data)
    milling(arguments.data)
    return 0


if __name__ == "__main__":
    sys.exit(main())
