"""How often chatter is called in simulated milling, stable and unstable: thresholds are the product's.

Speeds, depths, natural frequencies and teeth are drawn at random, and so are sensor noise (5 to 50 % of the
vibration), an error of the told speed (within 0.3 %), and slow wavering of the real one (0.02 %).

    python benchmarks/score_chatter.py --cases 600
"""

import argparse
import sys

import numpy as np

from edge.analytics.condition.cutting.chatter import chatter
from tests.analytics.mill import mill


def main() -> int:
    """Print the rates."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=600)
    arguments = parser.parse_args()
    rng = np.random.default_rng(20)
    counts = {True: [0, 0, 0], False: [0, 0, 0]}
    strong = [0, 0]
    for teeth in (1, 2, 3, 4, 5):
        n = arguments.cases // 5
        rpm, natural = rng.uniform(2500, 14000, n), rng.uniform(400, 1800, n)
        depth = rng.uniform(0.1, 5, n) * 2 / teeth
        for cut in mill(rpm, depth, natural, teeth=teeth, seed=teeth):
            block = cut.acceleration
            noise = rng.uniform(0.05, 0.5) * block.std()
            time = np.arange(block.size) + 2e-4 * cut.rate_hz * np.sin(np.arange(block.size) * 5 / cut.rate_hz) / 5
            block = np.interp(time, np.arange(block.size), block) + noise * rng.normal(size=block.size)
            found = chatter(block, cut.rate_hz, cut.rpm * (1 + rng.uniform(-0.003, 0.003)), teeth)
            place = 2 if found is None else int(found.is_chatter)
            counts[cut.stable][place] += 1
            if found is not None and not cut.stable and found.index > 0.5:
                strong[found.is_chatter] += 1
    quiet, false, refused = counts[True]
    print(f"stable cuts: {false} of {quiet + false} called chatter, {refused} not judged")
    missed, right, refused = counts[False]
    share = right / (missed + right)
    print(f"unstable cuts: {right} of {missed + right} called chatter ({share:.0%}), {refused} not judged")
    print(f"  of those with half the power out of step: {strong[1]} of {sum(strong)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
