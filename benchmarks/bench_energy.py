"""Energy aggregation: 10 million readings of 1,000 registers to quarter hours, against pandas and polars.

All three are given the same columns (meter, instant, register) in order of time and return the energy of every meter
and quarter hour. pandas and polars take the straightforward way: the climb from reading to reading (after a reset
what it shows), summed by meter and quarter hour. That is less than what `Meters` does: it splits at the edges, knows
roll-over, glitch, leap and gap, and takes late readings. Times are CPU seconds of one thread. pandas and polars take
fresh memory from the system at their first pass, which costs pandas most of its time, and have it at the next: both
are printed. The floor is a bare loop that splits each climb at the edges and knows nothing else.

    python -m benchmarks.bench_energy [--rows 10000000] [--meters 1000]
"""

import argparse
import os
import time
from functools import partial

os.environ.setdefault("POLARS_MAX_THREADS", "1")

import numpy as np
import pandas
import polars
from numba import njit

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


def with_meters(meter: np.ndarray, ts: np.ndarray, register: np.ndarray, cell: int = QUARTER_NS) -> tuple[float, float]:
    """Return CPU seconds and the sum of all energies."""
    count = int(meter.max()) + 1
    begin = time.process_time()
    meters = Meters([MeterSpec(str(number)) for number in range(count)], gap=10**15, cell=cell)
    total, done = 0.0, BEGIN
    which = np.arange(count, dtype=np.int32)
    for place in range(0, len(ts), CHUNK):
        part = slice(place, place + CHUNK)
        meters.take(meter[part], ts[part], register[part])
        upto = int(ts[min(place + CHUNK, len(ts)) - 1]) // QUARTER_NS * QUARTER_NS
        if upto > done:
            energy, _ = meters.measure(which, np.arange(done, upto + 1, QUARTER_NS, dtype=np.int64))
            total += energy.sum() / MILLIONTHS
            done = upto
    energy, _ = meters.measure(which, np.array([done, int(ts[-1])], np.int64))
    total += energy.sum() / MILLIONTHS
    return time.process_time() - begin, total


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


@njit("float64[:,:](int32[:], int64[:], float64[:], int64, int64, int64)")
def bare(
    meter: np.ndarray, ts: np.ndarray, register: np.ndarray, meters: int, begin: int, cells: int
) -> np.ndarray:  # pragma: no cover - compiled
    """Return the energy of each meter and quarter hour, each climb split at the edges in proportion to time."""
    energy = np.zeros((meters, cells))
    last_ts = np.full(meters, -1, np.int64)
    last = np.zeros(meters)
    for row in range(len(ts)):
        which, now = meter[row], ts[row]
        if last_ts[which] >= 0:
            climb, was = register[row] - last[which], last_ts[which]
            cell, end = (was - begin) // QUARTER_NS, (now - begin) // QUARTER_NS
            while cell < end:
                edge = begin + (cell + 1) * QUARTER_NS
                part = climb * ((edge - was) / (now - was)) if now > was else climb
                energy[which, cell] += part
                climb, was, cell = climb - part, edge, cell + 1
            energy[which, cell] += climb
        last_ts[which], last[which] = now, register[row]
    return energy


def with_a_bare_loop(meter: np.ndarray, ts: np.ndarray, register: np.ndarray) -> tuple[float, float]:
    """Return CPU seconds and the sum of all energies."""
    begin = time.process_time()
    cells = int((ts[-1] - BEGIN) // QUARTER_NS) + 1
    energy = bare(meter, ts, register, int(meter.max()) + 1, BEGIN, cells)
    return time.process_time() - begin, float(energy.sum())


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--meters", type=int, default=1000)
    parser.add_argument("--repeat", type=int, default=3)
    asked = parser.parse_args()
    small = columns(20_000, 100, 1.0)  # what is compiled or loaded at first use is no part of the comparison
    for each in (with_meters, with_a_bare_loop, with_pandas, with_polars):
        each(*small)
    print(
        f"{asked.rows:,} readings of {asked.meters:,} registers, CPU ns a reading: first pass, best of {asked.repeat}"
    )
    for step in (1.0, 10.0, 60.0):
        data = columns(asked.rows, asked.meters, step)
        exact = sum(data[2][-asked.meters :] - data[2][: asked.meters])
        found = {
            name: [run(*data) for _ in range(asked.repeat)]
            for name, run in (
                ("pandas", with_pandas),
                ("polars", with_polars),
                ("Yulink", with_meters),
                ("keeping minutes", partial(with_meters, cell=MINUTE_NS)),
                ("floor", with_a_bare_loop),
            )
        }
        ours = min(run[0] for run in found["Yulink"])
        print(f"a reading every {step:.0f} s")
        for name, runs in found.items():
            assert all(abs(run[1] - exact) < 1e-6 * exact for run in runs), (name, runs, exact)
            first, best = runs[0][0], min(run[0] for run in runs)
            nanoseconds = [seconds * 1e9 / asked.rows for seconds in (first, best)]
            print(
                f"  {name:<16} {nanoseconds[0]:7.1f} {nanoseconds[1]:7.1f} ns"
                f"   {first / ours:5.1f} x, {best / ours:5.1f} x Yulink's best"
            )


if __name__ == "__main__":
    main()
