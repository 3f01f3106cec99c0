"""Real recordings beside the checkout: never part of the project, and tests say when they are not there."""

import csv
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edge.analytics.condition.process.section import WatchSection, plan
from edge.analytics.condition.process.watch import ProcessWatch
from edge.analytics.operator import Rows

DATA = Path(os.environ.get("YULINK_DATA", Path(__file__).parents[3] / "shared" / "data"))
NICE_SHAFT_RPM = 1500.0
FAMILY = {"inner_race": "inner_race", "outer_race": "outer_race", "ball": "ball", "normal": "none"}

needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"no recordings in {DATA}")


@dataclass(frozen=True, slots=True)
class Recorded:
    """One record: acceleration in g, what is wrong with its bearing, the published grade of that (Y can be seen)."""

    name: str
    samples: NDArray[np.float64]
    rate_hz: float
    rpm: float
    bearing: str
    fault: str
    grade: str = ""
    kurtosis: float | None = None


def cwru(data: Path = DATA) -> Iterator[Recorded]:
    """Yield the records of the Case Western Reserve University Bearing Data Center."""
    from scipy.io import loadmat

    with (data / "cwru" / "INDEX.csv").open() as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        number, kurtosis = int(row["record"]), float(row["kurtosis_pearson"])
        common = ("6205", FAMILY[row["fault"]], row["sr2015_grade_DE_best"], kurtosis)
        if row["fault"] == "normal":
            samples = loadmat(data / "cwru" / "mat" / "Normal_0.mat")[f"X{number:03d}_DE_time"].ravel()
            yield Recorded(row["name"], samples, 48000.0, float(row["rpm_in_file"]), *common)
            continue
        (file_name,) = (data / "cwru" / "de12k_int16").glob(f"{number}_*.npz")
        with np.load(file_name) as archive:
            samples = archive["de"] * float(archive["step"])
        yield Recorded(f"{number} {row['name']}", samples, 12000.0, float(row["rpm_in_file"]), *common)


def mfpt(data: Path = DATA) -> Iterator[Recorded]:
    """Yield the records of the Society for Machinery Failure Prevention Technology."""
    from scipy.io import loadmat

    for file in sorted((data / "mfpt").glob("*.mat")):
        record = loadmat(file, squeeze_me=True, struct_as_record=False)["bearing"]
        fault = "inner_race" if "Inner" in file.stem else "outer_race" if "Outer" in file.stem else "none"
        yield Recorded(file.stem, np.asarray(record.gs, float), float(record.sr), NICE_SHAFT_RPM, "NICE", fault)
    for file in sorted((data / "mfpt").glob("*.npz")):
        with np.load(file) as archive:
            yield Recorded(file.stem, archive["gs"].astype(float), float(archive["fs"]), NICE_SHAFT_RPM, "NICE", "none")


@dataclass(frozen=True, slots=True)
class Process:
    """Process values of a rig, a row a second: the eight signals, and which rows are anomalous."""

    name: str
    rows: NDArray[np.float64]
    anomaly: NDArray[np.bool_]


def skab(data: Path = DATA) -> Iterator[Process]:
    """Yield the labelled runs of the Skoltech Anomaly Benchmark; the first 400 rows of each are healthy."""
    for file in sorted((data / "skab").glob("*/*.csv")):
        with file.open() as text:
            header = next(csv.reader(text, delimiter=";"))
            if "anomaly" not in header:
                continue
            table = np.array([[float(cell) for cell in row[1:]] for row in csv.reader(text, delimiter=";")])
        label = header.index("anomaly") - 1
        yield Process(f"{file.parent.name}/{file.stem}", table[:, :8], table[:, label] > 0)


SECOND = 10**9
LEARNED_S = 400


def judged(record: Process) -> NDArray[np.bool_]:
    """Return for each row of a run whether an alarm of the product's own watch stands, with its default rules.

    The rows are read a second apart, as the rig gave them, and the first 400 are learned, as the benchmark has it.
    """
    steps, width = record.rows.shape
    tags = [f"rig.{number}" for number in range(width)]
    section = WatchSection(tags=tags, learn=f"{LEARNED_S}s", every="1s")  # type: ignore[arg-type]
    operator = ProcessWatch(plan("rig", section, {}, []))
    at = np.repeat(np.arange(steps) * SECOND, width).tolist()
    slots = np.tile(np.arange(width), steps).tolist()
    events = operator.push(Rows.of(slots, at, record.rows.ravel().tolist()), steps * SECOND).events
    stands, standing, alarm = iter(events), set[tuple[str, str]](), np.zeros(steps, np.bool_)
    event = next(stands, None)
    for step in range(steps):
        while event is not None and event.ts <= (step + 1) * SECOND:
            alarms = {(str(event.facts.get("rule")), str(event.facts.get("tag")))}
            if event.kind == "process_alarm":
                standing |= alarms
            elif event.kind == "process_alarm_over":
                standing -= alarms
            event = next(stands, None)
        alarm[step] = bool(standing)
    return alarm
