"""Forecast of the next quarter hour on a steel plant's year, against persistence, in order of time.

The last fifth of the file is held back: each of its quarter hours is forecast from those before it, as on the box.

    python -m benchmarks.bench_forecast [--data ../shared/data]
"""

import argparse
import csv
import gzip
import sys
import time
from pathlib import Path

import numpy as np

from edge.analytics.energy.load_forecast import HISTORY, QUARTERS_OF_DAY, LoadForecast

FILE = "steel_energy/steel_energy_first80.csv.gz"


def main() -> None:
    """Print mean absolute error and root mean square of both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    file = parser.parse_args().data / FILE
    if not file.is_file():
        print(f"skipped: {file} is not there")
        sys.exit(0)
    with gzip.open(file, "rt") as lines:
        usage = np.array([float(row["Usage_kWh"]) for row in csv.DictReader(lines)])
    held_back = len(usage) - len(usage) // 5
    forecast, errors, naive = LoadForecast(), [], []
    begin = time.process_time()
    for place, value in enumerate(usage.tolist()):
        if place >= held_back:
            errors.append((forecast.next() or 0.0) - value)
            naive.append(usage[place - 1] - value)
        if place >= held_back - HISTORY:
            forecast.push(place % QUARTERS_OF_DAY, value)
    each = (time.process_time() - begin) / len(errors) * 1e3
    for name, found in (("analogues", np.array(errors)), ("persistence", np.array(naive))):
        print(f"{name:12} MAE {np.abs(found).mean():6.3f} kWh   RMSE {np.sqrt((found**2).mean()):6.3f} kWh")
    print(f"{np.abs(naive).mean() / np.abs(errors).mean():.2f} x better than persistence; {each:.2f} ms CPU a forecast")


if __name__ == "__main__":
    main()
