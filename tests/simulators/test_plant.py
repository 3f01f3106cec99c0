"""The plant's physics: believable, repeatable, and consistent with itself."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulators.plant.machines import ALARMS, PROGRAMS, STEP_S, Plant, ProgramState
from simulators.plant.vibration import BPFO_ORDERS, RATE_HZ, SHAFT_HZ, velocity_rms_mm_s, waveform


@given(st.integers(0, 1000))
@settings(max_examples=10)
def test_the_same_seed_gives_the_same_history_and_another_seed_another(seed: int) -> None:
    one, other, different = Plant(seed), Plant(seed), Plant(seed + 1)
    one.advance(60)
    for second in range(1, 61):
        other.advance(second)
    different.advance(60)
    assert one.cnc == other.cnc
    assert one.plc == other.plc
    assert one.meter == other.meter
    assert one.meter != different.meter


@given(st.integers(0, 1000))
@settings(max_examples=10)
def test_the_energy_register_is_the_integral_of_the_power_shown(seed: int) -> None:
    plant = Plant(seed)
    start, joules = plant.meter.import_kwh, 0.0
    for step in range(1, 601):
        plant.advance(step * STEP_S)
        joules += plant.meter.power_w * STEP_S
    assert plant.meter.import_kwh - start == pytest.approx(joules / 3.6e6, abs=1e-8)  # the register is a double


def test_counters_only_rise_and_states_follow_each_other_legally() -> None:
    plant = Plant(3)
    states, parts, bottles = [], [], []
    for step in range(1, 12_000):
        plant.advance(step * STEP_S)
        states.append(plant.cnc.state)
        parts.append(plant.cnc.parts)
        bottles.append(plant.plc.bottles)
        assert (plant.cnc.alarm in ALARMS) == (plant.cnc.state is ProgramState.INTERRUPTED)
        assert plant.cnc.program in PROGRAMS
        assert 20 <= plant.cnc.spindle_temperature_c <= 70
        assert 0 <= plant.plc.level_percent <= 100
    assert parts == sorted(parts)
    assert parts[-1] > 20
    assert bottles == sorted(bottles)
    moves = {(a, b) for a, b in itertools.pairwise(states) if a is not b}
    assert moves == {
        (ProgramState.WAITING, ProgramState.RUNNING),
        (ProgramState.RUNNING, ProgramState.WAITING),
        (ProgramState.RUNNING, ProgramState.INTERRUPTED),
        (ProgramState.INTERRUPTED, ProgramState.RUNNING),
    }


def test_a_grown_defect_shows_in_the_envelope_at_the_outer_races_frequency() -> None:
    block = np.concatenate([waveform(1, 2400 + n * 2048 / RATE_HZ) for n in range(8)])
    spectrum = np.fft.rfft(block)
    frequency = np.fft.rfftfreq(len(block), 1 / RATE_HZ)
    spectrum[(frequency < 1500) | (frequency > 3000)] = 0
    envelope = np.abs(np.fft.irfft(spectrum)) ** 2
    lines = np.abs(np.fft.rfft(envelope - envelope.mean()))
    searched = (frequency > 20) & (frequency < 200)
    found = frequency[searched][lines[searched].argmax()]
    assert found == pytest.approx(BPFO_ORDERS * SHAFT_HZ, abs=RATE_HZ / len(block))
    assert velocity_rms_mm_s(waveform(1, 2400)) > 0
    assert np.std(waveform(1, 2400)) > 1.5 * np.std(waveform(1, 0))
