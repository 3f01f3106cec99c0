"""The forecast of the next quarter hour."""

import numpy as np

from edge.analytics.energy.load_forecast import LEAST, QUARTERS_OF_DAY, LoadForecast


def day(slot: int) -> float:
    """Return a plant's day: nights of 5, mornings of 40, afternoons of 25."""
    return 5.0 if slot < 32 else 40.0 if slot < 56 else 25.0


def test_what_repeats_is_foreseen_though_persistence_misses_every_change() -> None:
    forecast = LoadForecast()
    generator = np.random.default_rng(3)
    ours, persistence, last = [], [], 0.0
    for place in range(14 * QUARTERS_OF_DAY):
        slot = place % QUARTERS_OF_DAY
        value = day(slot) + float(generator.normal(0, 0.5))
        expected = forecast.next()
        if expected is not None and place > 7 * QUARTERS_OF_DAY:
            ours.append(abs(expected - value))
            persistence.append(abs(last - value))
        forecast.push(slot, value)
        last = value
    assert np.mean(ours) < 0.6 * np.mean(persistence)


def test_too_little_history_gives_no_forecast() -> None:
    forecast = LoadForecast()
    for place in range(LEAST - 1):
        forecast.push(place % QUARTERS_OF_DAY, 1.0)
    assert forecast.next() is None
    forecast.push(0, 1.0)
    assert forecast.next() == 1.0


def test_a_state_goes_on_as_if_nothing_had_been() -> None:
    forecast, other = LoadForecast(), LoadForecast()
    for place in range(3 * QUARTERS_OF_DAY):
        forecast.push(place % QUARTERS_OF_DAY, day(place % QUARTERS_OF_DAY))
    other.restore(forecast.state())
    for each in (forecast, other):
        each.push(0, 5.0)
    assert other.next() == forecast.next()
    assert other.state() == forecast.state()
