"""What the bearing verdict does on simulated machines that it has never seen: is its bound on false alarms honest, and
from which strength is each fault named?

    python benchmarks/score_simulated_bearings.py --healthy 3000 --faulty 50
"""

import argparse
import sys
from collections import Counter

import numpy as np

from edge.analytics.condition.bearing.diagnosis import Diagnosis, diagnose
from tests.analytics.simulated_bearings import FAULTS, record

QUIET = ("none", "not_diagnosable")
SAMPLES_MAX = 150_000
BOUNDS = (0.1, 0.01, 0.001)
STRENGTHS_DB = (-20, -14, -8, -2, 4)


def judged(seed: list[int], fault: str, share_db: float, *, lines: bool, speed_off: float) -> Diagnosis:
    """Return the diagnosis of one machine: 6.4 to 25.6 kHz, 600 to 3600 rpm, 40 to 250 turns."""
    rng = np.random.default_rng(seed)
    rate, rpm = float(rng.choice([6400, 12800, 25600])), float(rng.uniform(600, 3600))
    turns = min(float(rng.uniform(40, 250)), SAMPLES_MAX / rate * rpm / 60)
    drawn = record(rng, fault, share_db=share_db, rate_hz=rate, rpm=rpm, revolutions=turns, lines=lines)
    return diagnose(drawn.samples, rate, rpm * (1 + speed_off * rng.uniform(-1, 1)), drawn.bearing.orders)


def main() -> int:
    """Print both tables. Returns 1 where more healthy machines than claimed are called."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--healthy", type=int, default=300)
    parser.add_argument("--faulty", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1, help="another one draws other machines")
    arguments = parser.parse_args()
    dishonest, seed = 0, arguments.seed
    plants = (
        ("coloured noise alone", False, 0.0),
        ("shaft, gear, mains, modulated noise", True, 0.0),
        ("the same, speed off by up to 1 %", True, 0.01),
    )
    for kind, (name, lines, off) in enumerate(plants):
        calls: Counter[str] = Counter()
        chances = []
        for place in range(arguments.healthy):
            found = judged([seed, kind, place], "none", 0.0, lines=lines, speed_off=off)
            calls["called" if found.verdict.fault not in QUIET else found.verdict.fault] += 1
            chances.append(min((line.chance for line in found.lines.values()), default=1.0))
        beyond = ", ".join(f"p ≤ {bound:g}: {np.mean(np.array(chances) <= bound):.4f}" for bound in BOUNDS)
        print(f"healthy, {name}: {dict(calls)}; share of records with a line of {beyond}", flush=True)
        dishonest += calls["called"] / arguments.healthy > BOUNDS[-1]
    print(f"{'fault':12} " + " ".join(f"{share:>13} dB" for share in STRENGTHS_DB) + "   right/missed/wrong")
    for fault in FAULTS:
        cells = []
        for share in STRENGTHS_DB:
            named = Counter(
                judged([seed + 1, place], fault, share, lines=True, speed_off=0.01).verdict.fault
                for place in range(arguments.faulty)
            )
            missed = named["none"] + named["not_diagnosable"]
            cells.append(f"{named[fault]:>8}/{missed}/{named.total() - named[fault] - missed}".rjust(16))
        print(f"{fault:12} " + " ".join(cells), flush=True)
    return 1 if dishonest else 0


if __name__ == "__main__":
    sys.exit(main())
