"""The forecast of the next quarter hour."""

import numpy as np

from edge.analytics.energy.load_forecast import LEAST, QUARTERS_OF_DAY, LoadForecast


def day(slot: int) -> float:
    """Return a plant's day: nights of 5, mornings of 40, afternoons of 25."""
    return 5.0 if slot < 32 else 40.0 if slot < 56 else 25.0


def test_what_repeats_is_foreseen_though_persistence_misses_every_change() -> None:
    forecast = LoadForecast()
    generator = np.random.default_rng(3)
    misses = []
    for place in range(50 * QUARTERS_OF_DAY):
        slot = place % QUARTERS_OF_DAY
        value = day(slot) + float(generator.normal(0, 0.05))
        expected = forecast.next()
        if expected is not None and place > 43 * QUARTERS_OF_DAY and slot in (0, 32, 56):
            misses.append(abs(expected - value))
        forecast.push(slot, value)
    assert len(misses) == 20
    assert max(misses) < 5, "persistence misses each of them by 15 at least"


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
