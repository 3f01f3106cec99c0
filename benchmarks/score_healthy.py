"""False alarms of machines that are well, per machine-month with the upper end of its confidence: noises of several
colours, loads, temperatures and weather, changing speeds, starts and stops, outliers. New seeds give new machines.

    python benchmarks/score_healthy.py --days 30 --machines 10 --seed 1
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter
from scipy.stats import chi2

from edge.analytics.condition.process.section import WatchSection
from edge.analytics.condition.process.section import plan as plan_watch
from edge.analytics.condition.process.watch import ProcessWatch
from edge.analytics.condition.section import Running
from edge.analytics.condition.severity import LIMITS
from edge.analytics.condition.watch import MachineWatch
from edge.analytics.operator import Operator, Rows

F64 = NDArray[np.float64]
Random = np.random.Generator
S = 10**9
DAY = 86_400
MONTH_DAYS = 30


def coloured(random: Random, n: int, memory: float) -> F64:
    """Return noise of spread 1 whose neighbours correlate by `memory`; pink for a memory of 1."""
    if memory < 1:
        noise: F64 = lfilter([np.sqrt(1 - memory**2)], [1, -memory], random.normal(size=n + 5000))[5000:]
        return noise
    frequencies = np.fft.rfftfreq(n)
    frequencies[0] = frequencies[1]
    lines = random.normal(size=frequencies.size) + 1j * random.normal(size=frequencies.size)
    pink = np.fft.irfft(lines / np.sqrt(frequencies), n)
    return np.asarray((pink - pink.mean()) / pink.std())


def changing(random: Random, n: int, levels: Sequence[float], steps: float) -> F64:
    """Return levels that hold for so many steps on average."""
    out, at = np.empty(n), 0
    while at < n:
        lasts = int(random.exponential(steps)) + 5
        out[at : at + lasts] = random.choice(levels)
        at += lasts
    return out


def starting(random: Random, n: int, step_s: int) -> NDArray[np.bool_]:
    """Return when a machine runs that is started and stopped several times a day."""
    runs, at = np.ones(n, bool), 0
    while at < n:
        on, off = int(random.uniform(3, 8) * 3600 / step_s), int(random.uniform(0.2, 2.5) * 3600 / step_s)
        runs[at + on : at + on + off] = False
        at += on + off
    return runs


def lagging(values: F64, steps: float) -> F64:
    """Return values as something warm follows them."""
    out: F64 = lfilter([1 / steps], [1, 1 / steps - 1], values, zi=[values[0] * (1 - 1 / steps)])[0]
    return out


# -------------------------------------------------------------------- velocities, a reading every ten seconds

VELOCITY_STEP_S = 10
VELOCITY_KINDS = (
    "steady",
    "white",
    "pink",
    "load",
    "load by day",
    "shifts",
    "hall",
    "weather",
    "speed",
    "starts",
    "two levels",
)


def velocity(kind: str, random: Random, days: int) -> tuple[F64, NDArray[np.bool_], F64]:
    """Return velocity, whether it runs, and speed."""
    n = days * DAY // VELOCITY_STEP_S
    hour, day = 3600 // VELOCITY_STEP_S, DAY // VELOCITY_STEP_S
    at = np.arange(n)
    memory = {"white": 0.0, "pink": 1.0}.get(kind, float(random.choice([0.5, 0.9, 0.95, 0.99])))
    gain, speed, runs = np.ones(n), np.full(n, 1480.0), np.ones(n, bool)
    daily = np.sin(2 * np.pi * at / day + random.uniform(0, 6))
    if kind == "load":
        gain = 0.5 + changing(random, n, [0.35, 0.5, 0.65], 1.5 * hour)
    elif kind == "load by day":
        gain = 0.5 + changing(random, n, [0.35, 0.5, 0.65], day)
    elif kind == "shifts":
        gain = np.where(at // day % 7 >= 5, 0.85, np.array([0.9, 1.0, 1.1])[at // (day // 3) % 3])
    elif kind == "two levels":
        gain = changing(random, n, [0.85, 1.2], hour)
    elif kind == "hall":
        gain = 1 + 0.08 * daily
    elif kind == "weather":
        gain = 1 + 0.04 * daily + 0.05 * coloured(random, n, float(np.exp(-1 / (3 * day))))
    elif kind == "speed":
        share = np.clip(0.8 + 0.15 * coloured(random, n, float(np.exp(-1 / (3 * hour)))), 0.5, 1)
        speed, gain = np.round(1480 * share, 1), share**2
    if kind in ("load", "speed", "starts"):
        runs = starting(random, n, VELOCITY_STEP_S)
    noise = coloured(random, n, memory)
    value = np.maximum(gain * (1 + random.uniform(0.04, 0.12) * noise) * (1 + 0.02 * daily), 0.1)
    outliers = random.random(n) < 1e-3
    value = np.where(outliers, value * random.choice([3.0, 5.0], n), value) * random.uniform(0.3, 1.3)
    for start in np.flatnonzero(np.diff(runs.astype(int)) == 1) + 1:
        ending = value[start : start + 12]
        ending *= np.linspace(2.5, 1, len(ending))
    return np.where(runs, value, 0.02), runs, speed


def machine(number: int, has_zones: bool, has_speed: bool, hold_s: float) -> MachineWatch:
    """Return the product's operator of a machine of group 2 on a rigid support, or one that no standard judges."""
    limits = LIMITS["iso20816-3", "2", "rigid"]
    return MachineWatch({
        "device": f"m{number}", "rpm": 1480.0, "speed": "rpm" if has_speed else None, "tacho": None,
        "clause": limits.clause if has_zones else "", "velocity_mm_s": list(limits.velocity) if has_zones else None,
        "displacement_um": None, "orders": {}, "teeth": None, "waveforms": {}, "velocities": {"velocity": 1.0},
        "running": {"tag": "running", "above": None, "hold_ns": round(hold_s * S)},
    })  # fmt: skip


def velocities(kind: str, seed: int, days: int, hold_s: float) -> Iterator[tuple[int, float]]:
    """Yield false alarms and days of a machine with zones and of one without."""
    for has_zones in (True, False):
        value, runs, speed = velocity(kind, np.random.default_rng(seed), days)
        names = ["running", "rpm", "velocity"] if kind == "speed" else ["running", "velocity"]
        columns = {"running": runs.astype(float), "rpm": speed, "velocity": value}
        operator = machine(seed, has_zones, kind == "speed", hold_s)
        paths = [f"m{seed}.{name}" for name in names]
        yield alarms(operator, paths, np.stack([columns[name] for name in names], axis=1), VELOCITY_STEP_S), days


# -------------------------------------------------------------------- process values, a row a minute

PROCESS_STEP_S = 60
PROCESS_KINDS = ("steady", "load", "speed", "starts", "weather")


def process(kind: str, random: Random, days: int) -> tuple[F64, NDArray[np.bool_], F64]:
    """Return temperatures, current, flow, pressure and voltage of a pump, whether it runs, and its speed."""
    n = days * DAY // PROCESS_STEP_S
    at = np.arange(n)
    hall = 22 + 3 * np.sin(2 * np.pi * at / 1440 + random.uniform(0, 6))
    if kind == "weather":
        hall += 3 * coloured(random, n, float(np.exp(-1 / 4320)))
    runs = starting(random, n, PROCESS_STEP_S) if kind in ("starts", "weather") else np.ones(n, bool)
    load = np.full(n, 0.8)
    if kind == "speed":
        load = np.clip(0.75 + 0.12 * coloured(random, n, float(np.exp(-1 / 180))), 0.4, 1)
    elif kind != "steady":
        load = changing(random, n, [0.4, 0.7, 1.0], 90)
    speed = np.where(runs, 0.6 + 0.4 * load if kind == "speed" else 1.0, 0.0)
    load = np.where(runs, load + 0.02 * coloured(random, n, 0.8), 0.0)

    def noise(spread: float) -> F64:
        return spread * coloured(random, n, float(random.choice([0.0, 0.5, 0.9, 0.97])))

    rows = np.stack([
        hall + lagging(30 * load + 5 * speed, 40) + noise(0.3), hall + lagging(18 * speed + 6 * load, 90) + noise(0.2),
        20 * load * speed + 2 * speed + noise(0.2), 50 * speed * (1 - 0.2 * load) + noise(0.5),
        4 * speed**2 * (1 - 0.25 * load) + noise(0.03), 400 - 2 * load + noise(1.0),
    ], axis=1)  # fmt: skip
    outliers = random.random(rows.shape) < 2e-4
    return np.where(outliers, rows * random.choice([0.2, 3], rows.shape), rows), runs, 1500 * speed


def processes(kind: str, seed: int, days: int, hold_s: float) -> Iterator[tuple[int, float]]:
    """Yield false alarms and days of a watch with its defaults, judged half an hour after a start, after it learned."""
    rows, runs, speed = process(kind, np.random.default_rng(seed), days)
    tags = [f"m.v{number}" for number in range(rows.shape[1])]
    section = WatchSection.model_validate({
        "tags": tags, "running": {"tag": "m.on", "for": "30min"}, "speed": "m.rpm" if kind == "speed" else None,
    })  # fmt: skip
    operator = ProcessWatch(plan_watch("m", section, {}, []))
    paths = [*tags, "m.on", *(["m.rpm"] if kind == "speed" else [])]
    columns = [rows, runs.astype(float)[:, None], *([np.round(speed)[:, None]] if kind == "speed" else [])]
    judged = max(0.0, days - section.learning / DAY / max(0.1, float(runs.mean())))
    yield alarms(operator, paths, np.concatenate(columns, axis=1), PROCESS_STEP_S), judged


def alarms(operator: Operator, paths: Sequence[str], rows: F64, step_s: int) -> int:
    """Feed rows and return how many alarms begin."""
    steps, width = rows.shape
    slots = [list(operator.inputs).index(path) for path in paths] * steps
    at = np.repeat(step_s * S * np.arange(1, steps + 1), width).tolist()
    events = operator.push(Rows.of(slots, at, rows.ravel().tolist()), at[-1]).events
    return sum(event.kind in ("condition_alarm", "process_alarm") for event in events)


def score(
    title: str,
    kinds: Sequence[str],
    run: Callable[[str, int, int, float], Iterator[tuple[int, float]]],
    a: argparse.Namespace,
) -> None:
    """Print alarms and months of each kind, and the rate of all."""
    alarms_all, months_all = 0, 0.0
    for place, kind in enumerate(kinds):
        found = [
            each
            for number in range(a.machines)
            for each in run(kind, a.seed * 10_000 + 100 * place + number, a.days, a.hold)
        ]
        count, months = sum(each for each, _ in found), sum(days for _, days in found) / MONTH_DAYS
        print(f"  {title} {kind:12} {count:3} alarms in {months:6.1f} machine-months", flush=True)
        alarms_all, months_all = alarms_all + count, months_all + months
    upper = float(chi2.ppf(0.95, 2 * alarms_all + 2)) / 2 / months_all
    print(
        f"{title}: {alarms_all / months_all:.3f} false alarms a machine-month, below {upper:.3f} with 95 % confidence"
    )


def main() -> int:
    """Print all rates."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--machines", type=int, default=2, help="of each kind")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--for", type=float, default=Running(tag="running").hold, dest="hold", metavar="S",
                        help="seconds from a start on that a machine is judged; default: the product's")  # fmt: skip
    arguments = parser.parse_args()
    score("machine:", VELOCITY_KINDS, velocities, arguments)
    score("watch:", PROCESS_KINDS, processes, arguments)
    return 0


if __name__ == "__main__":
    sys.exit(main())
