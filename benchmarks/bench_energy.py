"""Energy aggregation: 10 million readings of 1,000 registers to quarter hours, against pandas and polars.

All three are given the same columns (meter, instant, register) in order of time and return the energy of every meter
and quarter hour. pandas and polars take the straightforward way: the climb from reading to reading (after a reset
what it shows), summed by meter and quarter hour. That is less than what `Meters` does: it splits at the edges, knows
roll-over, glitch, leap and gap, and takes late readings. Times are CPU seconds of one thread.

    python -m benchmarks.bench_energy [--rows 10000000] [--meters 1000]
"""

import argparse
import os
import time

os.environ.setdefault("POLARS_MAX_THREADS", "1")

import numpy as np
import pandas
import polars

from edge.analytics.energy.meters import MILLIONTHS, Meters
from edge.analytics.energy.spec import MeterSpec

QUARTER_NS = 900 * 10**9
MINUTE_NS = 60 * 10**9
CHUNK = 50_000
BEGIN = 1_750_000_000 * 10**9 // QUARTER_NS * QUARTER_NS


def columns(rows: int, meters: int, step_s: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return meter, instant and register, all meters at each instant in turn."""
    each = rows // meters
    generator = np.random.default_rng(7)
    climbs = np.round(generator.uniform(0, 0.02 * step_s, (each, meters)), 3)
    register = np.round(np.cumsum(climbs, axis=0) + np.arange(meters) * 10, 3)
    ts = BEGIN + np.repeat((np.arange(each) * step_s * 1e9).astype(np.int64), meters)
    return np.tile(np.arange(meters, dtype=np.int32), each), ts, register.reshape(-1)


def with_meters(
    meter: np.ndarray, ts: np.ndarray, register: np.ndarray, cell: int = QUARTER_NS
) -> tuple[float, float, float]:
    """Return CPU seconds, the sum of all energies, and seconds of the measuring alone."""
    count = int(meter.max()) + 1
    begin = time.process_time()
    meters = Meters([MeterSpec(str(number)) for number in range(count)], gap=10**15, cell=cell)
    total, measuring, done = 0.0, 0.0, BEGIN
    which = np.arange(count, dtype=np.int32)
    for place in range(0, len(ts), CHUNK):
        part = slice(place, place + CHUNK)
        meters.take(meter[part], ts[part], register[part])
        upto = int(ts[min(place + CHUNK, len(ts)) - 1]) // QUARTER_NS * QUARTER_NS
        if upto > done:
            start = time.process_time()
            energy, _ = meters.measure(which, np.arange(done, upto + 1, QUARTER_NS, dtype=np.int64))
            measuring += time.process_time() - start
            total += energy.sum() / MILLIONTHS
            done = upto
    energy, _ = meters.measure(which, np.array([done, int(ts[-1])], np.int64))
    total += energy.sum() / MILLIONTHS
    return time.process_time() - begin, total, measuring


def with_pandas(meter: np.ndarray, ts: np.ndarray, register: np.ndarray) -> tuple[float, float]:
    """Return CPU seconds and the sum of all energies."""
    begin = time.process_time()
    frame = pandas.DataFrame({"meter": meter, "quarter": ts // QUARTER_NS, "register": register})
    climb = frame.groupby("meter")["register"].diff()
    frame["energy"] = climb.where(climb >= 0, frame["register"]).where(climb.notna(), 0.0)
    energy = frame.groupby(["meter", "quarter"])["energy"].sum()
    return time.process_time() - begin, float(energy.sum())


def with_polars(meter: np.ndarray, ts: np.ndarray, register: np.ndarray) -> tuple[float, float]:
    """Return CPU seconds and the sum of all energies."""
    begin = time.process_time()
    frame = polars.DataFrame({"meter": meter, "quarter": ts // QUARTER_NS, "register": register})
    climb = polars.col("register").diff().over("meter")
    energy = (
        frame.with_columns(
            polars.when(climb.is_null())
            .then(0.0)
            .when(climb < 0)
            .then(polars.col("register"))
            .otherwise(climb)
            .alias("energy")
        )
        .group_by("meter", "quarter")
        .agg(polars.col("energy").sum())
    )
    return time.process_time() - begin, float(energy["energy"].sum())


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--meters", type=int, default=1000)
    parser.add_argument("--repeat", type=int, default=3)
    asked = parser.parse_args()
    with_meters(*columns(20_000, 100, 1.0))  # compiles
    print(f"{asked.rows:,} readings of {asked.meters:,} registers, CPU ns a reading, best of {asked.repeat}")
    for step in (1.0, 10.0, 60.0):
        data = columns(asked.rows, asked.meters, step)
        ours = min(with_meters(*data) for _ in range(asked.repeat))
        fine = min(with_meters(*data, cell=MINUTE_NS) for _ in range(asked.repeat))
        panda = min(with_pandas(*data) for _ in range(asked.repeat))
        polar = min(with_polars(*data) for _ in range(asked.repeat))
        exact = sum(data[2][-asked.meters :] - data[2][: asked.meters])
        for name, found in (("ours", ours[1]), ("pandas", panda[1]), ("polars", polar[1])):
            assert abs(found - exact) < 1e-6 * exact, (name, found, exact)
        a_row = 1e9 / asked.rows
        print(
            f"a reading every {step:>4.0f} s: Yulink {ours[0] * a_row:6.1f} (measuring {ours[2] * a_row:4.1f}; "
            f"keeping minutes {fine[0] * a_row:5.1f}), "
            f"pandas {panda[0] * a_row:6.1f} ({panda[0] / ours[0]:5.1f} x), "
            f"polars {polar[0] * a_row:6.1f} ({polar[0] / ours[0]:4.1f} x)"
        )


if __name__ == "__main__":
    main()
