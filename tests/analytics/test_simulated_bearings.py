"""What no recording tells: any bearing, speed and plant; name plates that are off; faults that look like others."""

import numpy as np
import pytest

from edge.analytics.condition.bearing.bearings import Bearing, bearing
from edge.analytics.condition.bearing.diagnosis import Diagnosis, diagnose
from edge.analytics.condition.bearing.lines import P_FALSE_ALARM
from edge.analytics.condition.bearing.shaft import measured_speed
from tests.analytics.simulated_bearings import FAULTS, Simulated, record

QUIET = ("none", "not_diagnosable")


def judge(record: Simulated, name_plate: float = 1.0) -> Diagnosis:
    return diagnose(record.samples, record.rate_hz, record.rpm * name_plate, record.bearing.orders)


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_named_on_any_machine(fault: str) -> None:
    for seed in range(3):
        drawn = record(np.random.default_rng([1, seed]), fault, share_db=3.0, revolutions=100)
        found = judge(drawn)
        assert found.verdict.fault == fault, seed
        line = found.lines[FAULTS[fault]]
        bin_hz = drawn.rate_hz / drawn.samples.size
        assert line.found_hz == pytest.approx(line.hz * (1 + drawn.slip), rel=0.006, abs=bin_hz), seed


@pytest.mark.parametrize("name_plate", [0.99, 0.996, 1.013])
def test_a_healthy_machine_is_quiet_where_the_name_plate_is_off(name_plate: float) -> None:
    """Lines of the shaft must not pass as those of a bearing whose orders are near whole numbers."""
    near_whole = Bearing("near whole", 8, 7.4, 31.0)
    assert near_whole.orders["bpfo"] == pytest.approx(3.045, abs=0.001)
    for seed in range(3):
        drawn = record(np.random.default_rng([2, seed]), bearing=near_whole, revolutions=120)
        assert judge(drawn, name_plate).verdict.fault in QUIET, seed


@pytest.mark.parametrize("name_plate", [0.985, 1.0, 1.02])
def test_a_fault_is_found_where_the_name_plate_is_off(name_plate: float) -> None:
    drawn = record(np.random.default_rng(3), "inner_race", share_db=3.0, bearing=bearing("6205"))
    assert judge(drawn, name_plate).verdict.fault == "inner_race"


def test_the_speed_is_read_off_the_lines_of_the_shaft() -> None:
    drawn = record(np.random.default_rng(4), revolutions=100, rpm=1500)
    spectrum = np.abs(np.fft.rfft(drawn.samples - drawn.samples.mean()))
    step = drawn.rate_hz / drawn.samples.size
    for given in (1465, 1500, 1530):
        assert measured_speed(spectrum, [spectrum], step, given / 60) == pytest.approx(25.0, abs=0.05 * step)
    noise = np.abs(np.fft.rfft(np.random.default_rng(5).normal(size=drawn.samples.size)))
    assert measured_speed(noise, [noise], step, 25.0) is None


def test_a_line_that_shaft_or_mains_would_hide_is_not_called_absent() -> None:
    whole = Bearing("whole", 8, 7.75, 31.0)
    assert whole.orders["bpfo"] == 3.0
    found = judge(record(np.random.default_rng(6), bearing=whole, revolutions=40))
    assert found.verdict.fault == "not_diagnosable"
    assert "BPFO" in found.verdict.evidence


def test_two_families_at_one_frequency_are_told_apart_by_their_sidebands() -> None:
    near = Bearing("near", 17, 13.0, 123.0)
    assert near.orders["bsf2"] == pytest.approx(near.orders["bpfi"], rel=0.005)
    for fault in ("ball", "inner_race"):
        drawn = record(np.random.default_rng(7), fault, share_db=5.0, bearing=near, slip=0.0, revolutions=150)
        found = judge(drawn)
        assert found.verdict.fault == fault
        assert "sidebands" in found.verdict.evidence


def test_the_skirt_of_a_strong_line_of_the_shaft_is_not_a_line_of_the_bearing() -> None:
    """In noise that is much louder once a turn, bins beside 4 × the shaft stand up to a few bins away from it."""
    beside = Bearing("beside", 9, 4.2, 38.0)
    assert beside.orders["bpfo"] == pytest.approx(4.003, abs=0.001)
    for seed in range(3):
        rng = np.random.default_rng([8, seed])
        drawn = record(rng, bearing=beside, revolutions=130, rpm=1450 + 3 * seed)
        turn = np.arange(drawn.samples.size) / drawn.rate_hz * drawn.rpm / 60
        loud = drawn.samples * (1 + 0.9 * np.cos(2 * np.pi * 4.0035 * turn))
        line = diagnose(loud, drawn.rate_hz, drawn.rpm, beside.orders).lines["bpfo"]
        assert line.chance > P_FALSE_ALARM, seed


def test_a_bearing_whose_order_is_nearly_whole_is_not_taken_for_the_shaft() -> None:
    """The outer race of a 6203 strikes 3.053 times a turn: each third multiple of a speed 1.8 % higher."""
    for seed in (0, 1):
        rng = np.random.default_rng([11, seed])
        drawn = record(
            rng, "outer_race", share_db=5, bearing=bearing("6203"), lines=False, slip=0.0, revolutions=150
        )  # fmt: skip
        found = judge(drawn)
        assert found.verdict.fault == "outer_race"
        assert not any("rpm" in note for note in found.notes)
