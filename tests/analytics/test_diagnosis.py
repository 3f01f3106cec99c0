"""The verdict: on planted faults, on noise, on broken sensors, and on real records that nothing was tuned to."""

import numpy as np
import pytest
from numpy.typing import NDArray

from edge.analytics.condition.bearing.bearings import bearing
from edge.analytics.condition.bearing.diagnosis import STANDARD_GRAVITY, Diagnosis, diagnose
from edge.analytics.condition.bearing.lines import P_FALSE_ALARM
from tests.analytics.recordings import Recorded, cwru, mfpt, needs_data

RATE, RPM = 12000.0, 1770.0
GEOMETRY = bearing("6205")


def strokes(order: float, seconds: float = 6.0, size: float = 1.5, seed: int = 1) -> NDArray[np.float64]:
    """Return noise with a ringing stroke at each passing of a fault, the passings jittering as real ones do."""
    rng = np.random.default_rng(seed)
    block = rng.normal(size=int(seconds * RATE))
    period = 60 / RPM / order
    times = np.arange(period, seconds - 0.02, period)
    times += rng.normal(scale=0.005 * period, size=times.size)
    ring = np.arange(int(0.003 * RATE)) / RATE
    tone = size * np.exp(-ring / 8e-4) * np.sin(2 * np.pi * 3100 * ring)
    for start in (times * RATE).astype(int):
        block[start : start + ring.size] += tone
    return block


@pytest.mark.parametrize(("family", "fault"), [("bpfo", "outer_race"), ("bpfi", "inner_race"), ("bsf2", "ball")])
def test_a_planted_fault_is_named_with_its_evidence(family: str, fault: str) -> None:
    found = diagnose(strokes(GEOMETRY.orders[family], size=3.0), RATE, RPM, GEOMETRY.orders)
    assert found.verdict.fault == fault
    assert family.upper() in found.verdict.evidence
    assert found.verdict.p_false_alarm is not None
    assert found.verdict.p_false_alarm <= P_FALSE_ALARM
    assert found.lines[family].hz == pytest.approx(GEOMETRY.orders[family] * RPM / 60)


def test_noise_is_not_called() -> None:
    rng = np.random.default_rng(8)
    for draw in (rng.normal, rng.laplace) * 15:
        assert diagnose(draw(size=24000), RATE, RPM, GEOMETRY.orders).verdict.fault in ("none", "not_diagnosable")


def test_a_shaft_that_shakes_is_no_fault_of_the_bearing() -> None:
    t = np.arange(int(6 * RATE)) / RATE
    shaft = 2 * np.pi * RPM / 60 * t
    block = np.random.default_rng(2).normal(size=t.size) * (1 + 0.8 * np.cos(shaft) + 0.5 * np.cos(2 * shaft))
    assert diagnose(block, RATE, RPM, GEOMETRY.orders).verdict.fault not in ("outer_race", "inner_race", "ball", "cage")


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (np.zeros(60000), "flat"),
        (np.full(60000, np.nan), "missing"),
        (np.clip(np.random.default_rng(3).normal(size=60000), -1, 1), "clipped"),
        (np.random.default_rng(4).normal(size=3000), "too few"),
    ],
    ids=["flat", "missing", "clipped", "short"],
)
def test_what_cannot_be_judged_says_why(broken: NDArray[np.float64], words: str) -> None:
    verdict = diagnose(broken, RATE, RPM, GEOMETRY.orders).verdict
    assert verdict.fault == "not_diagnosable"
    assert words in verdict.evidence
    assert verdict.p_false_alarm is None


def judge(record: Recorded) -> Diagnosis:
    return diagnose(record.samples * STANDARD_GRAVITY, record.rate_hz, record.rpm, bearing(record.bearing).orders)


@needs_data
def test_cwru_most_that_can_be_seen_are_right_and_the_rest_is_not_called() -> None:
    right, wrong = 0, []
    for record in cwru():
        call = judge(record).verdict.fault
        if call == record.fault and record.grade.startswith("Y"):
            right += 1
        elif call not in ("none", "not_diagnosable"):
            wrong.append(record.name)
    assert right >= 16
    assert wrong == []


@needs_data
def test_mfpt_all_faults_are_right_and_no_healthy_record_is_called() -> None:
    calls = {record.name: (judge(record).verdict.fault, record.fault) for record in mfpt()}
    assert len(calls) == 7
    for name, (call, true) in calls.items():
        assert call == true if true != "none" else call in ("none", "not_diagnosable"), name
