"""What every operator must do, as a function over how it is made: the same from any cut and after any restart."""

import random
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import replace

import cbor2
import numpy as np

from edge.analytics.operator import Derived, Operator, Rows


def check_operator(make: Callable[[], Operator], rows: Rows, end: int, *, seed: int = 0, rounds: int = 10) -> Derived:
    """Feed an operator the same rows whole, cut anywhere, and restarted anywhere; return what it gives.

    Args:
        make: makes the operator anew.
        rows: what it shall read, in order of `at`, without events.
        end: event time at the end, not before the last row.

    Raises:
        AssertionError: the outcomes differ, a state is not a pure function of what was pushed, or a reading is of an
            output that is not there.
    """
    chance = random.Random(seed)
    whole = _drive(make, rows, _times(rows, end), chance, restarts=0.0)
    outputs = len(make().outputs)
    for reading in whole.readings:
        assert 0 <= reading.output < outputs, reading
    for _ in range(rounds):
        times = _times(rows, end)
        cuts = sorted({*times, *chance.sample(range(times[0], end + 1), 20)})
        again = _drive(make, rows, cuts, chance, restarts=0.3)
        assert repr(again.readings) == repr(whole.readings)
        assert again.events == whole.events
        assert again.waveforms == whole.waveforms
    return whole


def _times(rows: Rows, end: int) -> list[int]:
    """Return the event times at which rows and waveforms come, and the end."""
    return [*np.unique(np.append(rows.at, np.array(rows.waveforms_at, np.int64))).tolist(), end]


def _drive(
    make: Callable[[], Operator], rows: Rows, cuts: list[int], chance: random.Random, restarts: float
) -> Derived:
    """Push what lies up to each cut, now and then leaving several out, so that they come as one push."""
    operator, out, done, waves_done = make(), Derived(), 0, 0
    for place, now in enumerate(cuts):
        if restarts and place < len(cuts) - 1 and chance.random() < 0.3:
            continue
        last = int(np.searchsorted(rows.at, now, side="right"))
        waves = bisect_right(rows.waveforms_at, now)
        due = operator.due()
        if last > done or waves > waves_done or (due is not None and due <= now):
            part = slice(waves_done, waves)
            mine = replace(
                rows.take(slice(done, last)), waveforms=rows.waveforms[part], waveforms_at=rows.waveforms_at[part]
            )
            _collect(out, operator.push(mine, now))
        done, waves_done = last, waves
        if chance.random() < restarts:
            state = cbor2.dumps(operator.state(), canonical=True)
            assert state == cbor2.dumps(operator.state(), canonical=True), "a state is not the same twice"
            operator = make()
            operator.restore(cbor2.loads(state))
            assert state == cbor2.dumps(operator.state(), canonical=True), "a state changes when it is taken up"
    return out


def _collect(out: Derived, more: Derived) -> None:
    out.readings += more.readings
    out.waveforms += more.waveforms
    out.events += more.events
