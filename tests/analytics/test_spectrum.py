"""Velocity and displacement by integration: fixtures of known sines."""

import numpy as np
import pytest

from edge.analytics.condition.bearing.diagnosis import STANDARD_GRAVITY
from edge.analytics.condition.signal.spectrum import band_rms, order_rms, power_spectrum, velocity_band

RATE = 25600.0


def velocity_mm_s(hz: float, drift_g: float = 0.0) -> float:
    t = np.arange(int(RATE)) / RATE
    block = STANDARD_GRAVITY * (np.sin(2 * np.pi * hz * t) + drift_g * t)
    return 1e3 * band_rms(*power_spectrum(block, RATE), 10, 1000, integrate=1)


def test_one_g_at_159_155_hz_is_6_934_mm_s() -> None:
    assert velocity_mm_s(159.155) == pytest.approx(6.9343, rel=0.001)


@pytest.mark.parametrize("hz", [12.3, 29.5, 159.155, 987.0])
@pytest.mark.parametrize("drift", [0.0, 0.2])
def test_a_sine_has_its_velocity_within_a_half_percent(hz: float, drift: float) -> None:
    true = 1e3 * STANDARD_GRAVITY / (2 * np.pi * hz) / np.sqrt(2)
    assert velocity_mm_s(hz, drift) == pytest.approx(true, rel=0.005)


def test_what_lies_outside_the_band_does_not_count() -> None:
    assert velocity_mm_s(5.0) < 0.02 * 1e3 * STANDARD_GRAVITY / (2 * np.pi * 5.0)
    assert velocity_mm_s(1500.0) < 1e-3


def test_slow_machines_are_measured_from_2_hz_with_displacement() -> None:
    assert velocity_band(599) == (2.0, 1000.0)
    assert velocity_band(600) == (10.0, 1000.0)
    t = np.arange(int(8 * RATE)) / RATE
    micrometres = 50.0
    block = micrometres * 1e-6 * (2 * np.pi * 5) ** 2 * np.sin(2 * np.pi * 5 * t)
    found = 1e6 * band_rms(*power_spectrum(block, RATE), *velocity_band(300), integrate=2)
    assert found == pytest.approx(micrometres / np.sqrt(2), rel=0.01)


def test_the_power_of_all_bins_is_the_mean_square() -> None:
    for size in (999, 1000):
        block = np.random.default_rng(3).normal(size=size)
        _, power = power_spectrum(block, RATE)
        window = np.hanning(size + 1)[:-1]
        weighted = np.sum(((block - block.mean()) * window) ** 2) / np.sum(window**2)
        assert power.sum() == pytest.approx(weighted, rel=1e-12)


def test_orders_are_told_apart() -> None:
    t = np.arange(int(4 * RATE)) / RATE
    block = 3 * np.sin(2 * np.pi * 25 * t) + 1 * np.sin(2 * np.pi * 50 * t)
    frequencies, power = power_spectrum(block, RATE)
    found = [order_rms(frequencies, power, 25, order) * np.sqrt(2) for order in (1, 2, 3)]
    assert found == [pytest.approx(3, rel=1e-3), pytest.approx(1, rel=1e-3), pytest.approx(0, abs=1e-3)]
    empty = np.zeros(1)
    assert np.isnan(band_rms(*power_spectrum(empty, RATE), 10, 1000))


def test_a_long_block_is_averaged_in_parts_and_keeps_its_power(monkeypatch: pytest.MonkeyPatch) -> None:
    block = np.random.default_rng(1).normal(size=9000) + 3 * np.sin(np.arange(9000) / 7)
    whole = band_rms(*power_spectrum(block, RATE), 0, RATE / 2)
    monkeypatch.setattr("edge.analytics.condition.signal.spectrum.SPECTRUM_SAMPLES_MAX", 2000)
    frequencies, power = power_spectrum(block, RATE)
    assert frequencies.size == power.size == 901
    assert band_rms(frequencies, power, 0, RATE / 2) == pytest.approx(whole, rel=0.02)
    assert frequencies[np.argmax(power)] == pytest.approx(RATE / 7 / (2 * np.pi), abs=RATE / 1800)
