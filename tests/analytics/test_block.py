"""The features of one second in one call: against its numpy twin and the slow definitions; its transforms."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.analytics.condition.bearing.bearings import bearing
from edge.analytics.condition.signal import block as b
from edge.analytics.condition.signal import fourier as ft
from edge.analytics.condition.signal.spectrum import band_rms, power_spectrum
from tests import naive

ORDERS = bearing("6205").orders


@settings(max_examples=40, deadline=None)
@given(st.sampled_from([1, 2, 4, 5, 10, 20, 64, 100, 250, 640, 2560]), st.integers(0, 2**31))
@pytest.mark.parametrize("way", [ft.transform, ft.transform_numpy])
def test_a_transform_is_the_definition(way: object, length: int, seed: int) -> None:
    x = np.random.default_rng(seed).normal(size=(2, length))
    work = np.zeros((4, length + ft.PAD))
    work[:2, :length] = x
    passes = ft.radices(length)
    way(work[:2], work[2:], passes, ft.twiddles(length))  # type: ignore[operator]
    real, imaginary = work[0 if passes.size % 2 == 0 else 2 :, :length][:2]
    expected = naive.transform(x[0] + 1j * x[1]) if length <= 64 else np.fft.fft(x[0] + 1j * x[1])
    np.testing.assert_allclose(real + 1j * imaginary, expected, atol=1e-12 * length)


@pytest.mark.parametrize(("length", "expected"), [(1, True), (25600, True), (48, False), (0, False), (7, False)])
def test_lengths_of_twos_and_fives(length: int, expected: bool) -> None:
    assert ft.is_suitable(length) == expected


def measured(
    samples: np.ndarray[tuple[int], np.dtype[np.float64]], rate: float = 25600.0, teeth: int = 31
) -> dict[str, float]:
    made = b.plan(samples.size, rate, 1480.0, ORDERS, (0.1 * rate, 0.3 * rate), teeth)
    out = np.empty(b.SIZE)
    b.features(samples, made, out)
    return dict(zip(b.FEATURES, out.tolist(), strict=True))


def twin(
    samples: np.ndarray[tuple[int], np.dtype[np.float64]], rate: float = 25600.0, teeth: int = 31
) -> dict[str, float]:
    made = b.plan(samples.size, rate, 1480.0, ORDERS, (0.1 * rate, 0.3 * rate), teeth)
    out = np.empty(b.SIZE)
    b._features_numpy(
        samples, made.integers, made.reals, made.spans, made.lines, made.passes, made.turns, made.unpack,
        made.band_passes, made.band_turns, made.line_passes, made.line_turns, made.line_unpack,
        made.work, made.work_band, made.work_lines, made.power, out,
    )  # fmt: skip
    return dict(zip(b.FEATURES, out.tolist(), strict=True))


@pytest.mark.parametrize("size", [250, 2560, 12800, 25600])
@pytest.mark.parametrize("offset", [0.0, 1e3])
def test_the_kernel_and_numpy_give_the_same(size: int, offset: float) -> None:
    samples = np.random.default_rng(size).gamma(2.0, size=size) + offset
    kernel, numpy = measured(samples), twin(samples)
    for name in b.FEATURES:
        assert kernel[name] == pytest.approx(numpy[name], rel=1e-7 if offset else 1e-9, abs=1e-12, nan_ok=True), name


def test_it_is_what_the_slow_functions_say() -> None:
    samples = np.random.default_rng(1).normal(size=25600) + np.sin(2 * np.pi * 24.667 * np.arange(25600) / 25600)
    found = measured(samples)
    shape = naive.moments(samples.tolist())
    expected = dict(zip(b.FEATURES[:3], shape[:3], strict=True))
    expected |= dict(zip(b.FEATURES[3:9], shape[3:], strict=True))
    frequencies, power = power_spectrum(samples, 25600.0)
    expected["velocity_rms"] = band_rms(frequencies, power, 10, 1000, integrate=1)
    expected["displacement_rms"] = band_rms(frequencies, power, 10, 1000, integrate=2)
    expected["band_rms"] = band_rms(frequencies, power, 1000, 10000)
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-9), name
    assert found["order_1"] == pytest.approx(1 / np.sqrt(2), rel=0.05)


def test_an_impact_a_turn_of_the_outer_race_shows_in_its_line() -> None:
    t = np.arange(25600) / 25600
    hz = ORDERS["bpfo"] * 1480 / 60
    modulated = (1 + np.cos(2 * np.pi * hz * t)) * np.sin(2 * np.pi * 5000 * t)
    samples = modulated + 0.1 * np.random.default_rng(2).normal(size=t.size)
    found = measured(samples)
    assert found["bpfo"] > max(found["bpfi"], found["bsf2"], found["ftf"]) + 6
    assert found["highest_hz"] == pytest.approx(hz, abs=1.5)
    assert found["envelope_rms"] == pytest.approx(np.sqrt(np.mean(modulated**2)), rel=0.01)


def test_a_gear_shows_its_mesh_and_sidebands() -> None:
    t, shaft = np.arange(25600) / 25600, 1480 / 60
    samples = (1 + 0.4 * np.cos(2 * np.pi * shaft * t)) * np.sin(2 * np.pi * 31 * shaft * t)
    found = measured(samples)
    assert found["mesh"] == pytest.approx(1 / np.sqrt(2), rel=0.01)
    assert found["mesh_sidebands"] == pytest.approx(np.sqrt(2) * 0.2, rel=0.02)
    assert np.isnan(measured(samples, teeth=0)["mesh"])


@pytest.mark.parametrize("size", [999, 1001, 8192, 10000])
def test_any_length_gives_the_same_features(size: int) -> None:
    samples = np.sin(2 * np.pi * 159.155 * np.arange(size) / 6400) * 9.80665
    found = measured(samples, rate=6400.0)
    assert found["velocity_rms"] == pytest.approx(6.9343e-3, rel=0.003)
    assert found["rms"] == pytest.approx(samples.std())


def test_a_missing_sample_makes_all_else_missing() -> None:
    samples = np.random.default_rng(3).normal(size=2560)
    samples[::10] = np.nan
    for found in (measured(samples), twin(samples)):
        assert found.pop("missing") == pytest.approx(0.1)
        assert all(np.isnan(value) for value in found.values())
    assert measured(np.full(2560, 3.0))["rms"] == 0
    assert np.isnan(measured(np.full(2560, 3.0))["kurtosis"])


def test_a_plan_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        b.plan(10, 1000.0, 1480.0, {}, (100.0, 300.0))
    with pytest.raises(ValueError, match="band"):
        b.plan(1000, 1000.0, 1480.0, {}, (100.0, 600.0))
