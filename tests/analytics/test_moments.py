"""Moments and sensor health: against the definitions, scipy, and published values of real records."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from edge.analytics.condition.signal import moments as m
from tests import naive
from tests.analytics.recordings import cwru, needs_data

PUBLISHED_KURTOSIS = {106: 5.54, 210: 7.67, 119: 2.96, 223: 9.41, 131: 7.60, 235: 22.0}
"""Smith & Randall, MSSP 64 (2015), Table B2."""

WAYS = [m.moments, m.moments_numpy]
samples = st.floats(-1e3, 1e3, width=32) | st.just(float("nan")) | st.just(float("inf"))


def measured(way: object, block: NDArray[np.float64]) -> NDArray[np.float64]:
    out = np.full(m.SIZE, -1.0)
    way(block, out)  # type: ignore[operator]
    return out


@given(arrays.arrays(np.float64, st.integers(0, 60), elements=samples))
@pytest.mark.parametrize("way", WAYS)
def test_it_is_the_definition(way: object, block: NDArray[np.float64]) -> None:
    expected = naive.moments(block.tolist())
    out = measured(way, block)
    scale = np.nanmax(np.abs(expected[:3])) if np.isfinite(expected[0]) else 1.0
    np.testing.assert_allclose(out[:3], expected[:3], rtol=1e-9, atol=1e-9 * scale)
    np.testing.assert_array_equal(out[6:], expected[6:])
    if expected[1] > 1e-3 * scale:
        np.testing.assert_allclose(out[3:6], expected[3:6], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("offset", [0.0, 1e6])
@pytest.mark.parametrize("way", WAYS)
def test_it_agrees_with_scipy_also_far_from_zero(way: object, offset: float) -> None:
    from scipy import stats

    block = np.random.default_rng(1).gamma(2.0, size=5000)
    out = measured(way, block + offset)
    digits = 1e-12 if not offset else 1e-8  # what 1e6 leaves of the samples themselves
    assert out[m.KURTOSIS] == pytest.approx(stats.kurtosis(block, fisher=False), rel=digits)
    assert out[m.SKEWNESS] == pytest.approx(stats.skew(block), rel=digits)
    assert out[m.RMS] == pytest.approx(block.std(), rel=digits)


def test_health_tells_flat_clipped_and_missing() -> None:
    clean = np.random.default_rng(2).normal(size=1000)
    assert measured(m.moments, np.full(100, 3.3))[[m.FLAT, m.RMS]].tolist() == [1.0, 0.0]
    clipped = measured(m.moments, np.clip(clean, -1, 1))
    assert clipped[m.CLIPPED] == pytest.approx(np.mean(np.abs(clean) > 1))
    clean[::10] = np.nan
    assert measured(m.moments, clean)[[m.MISSING, m.CLIPPED]].tolist() == [pytest.approx(0.1), 0.0]


@needs_data
def test_the_published_kurtosis_of_real_records() -> None:
    found = {int(r.name[:3]): measured(m.moments, r.samples)[m.KURTOSIS] for r in cwru() if r.fault != "none"}
    assert PUBLISHED_KURTOSIS.keys() <= found.keys()
    for number, published in PUBLISHED_KURTOSIS.items():
        assert found[number] == pytest.approx(published, rel=0.003), number
