"""Control charts over many channels at once: EWMA, CUSUM and run rules, one step a call.

Every chart takes z: the value in robust standard deviations from its baseline. A channel whose z is NaN stands still:
a bad reading is neither evidence for a fault nor against one.
"""

import math
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from edge.analytics.kernels import kernel

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

EWMA_WEIGHT = 0.1
EWMA_LIMIT = 2.814
"""Average run length 500 in control. Source: Lucas & Saccucci, Technometrics 32 (1990) 1, Table 3."""

CUSUM_SLACK = 0.5
CUSUM_LIMIT = 5.0
"""Average run length 465 in control, 10.4 after a shift of one standard deviation, two-sided (Montgomery, SQC)."""

EWMA_STATE = 2
CUSUM_STATE = 2
RUNS_STATE = 9

NELSON = 0b0_1111_1111
WESTERN_ELECTRIC = 0b1_0011_0001
RULES = (
    "one beyond 3 sigma",
    "nine in a row on one side",
    "six in a row rising or falling",
    "fourteen in a row alternating",
    "two of three beyond 2 sigma on one side",
    "four of five beyond 1 sigma on one side",
    "fifteen in a row within 1 sigma",
    "eight in a row beyond 1 sigma",
    "eight in a row on one side",
)
"""Names of the bits of `run_rules`. Nelson's are 1 to 8 in his order (J. Quality Technology 16 (1984) 237);
Western Electric's are the first, fifth, sixth and last (Statistical Quality Control Handbook, 1956)."""


def ewma_limit(run_length: float) -> float:
    """Return the limit of an EWMA that alarms in control once in at least so many values, `run_length` above 1.

    It is the one of independent values; neighbouring averages resemble each other, so the true run is longer: by half
    at 500 values and a weight of 0.1, by less the longer the run.
    """
    return NormalDist().inv_cdf(1 - 0.5 / run_length)


def cusum_limit(slack: float, run_length: float) -> float:
    """Return the limit of two cumulative sums that alarm in control once in so many values.

    Source: Siegmund, Sequential Analysis (1985), 2.56; within 3 % of the run length of Montgomery's tables.
    """
    exponent = 1.0
    for _ in range(50):
        exponent = math.log(4 * slack**2 * run_length + exponent + 1)
    return exponent / (2 * slack) - 1.166


def ewma_numpy(z: F64, weight: float, limit: float, state: F64, alarm: NDArray[np.bool_]) -> None:
    """Do what `ewma` does, with numpy alone."""
    seen = np.isfinite(z)
    state[seen, 0] += weight * (z[seen] - state[seen, 0])
    state[seen, 1] += 1
    spread = np.sqrt(weight / (2 - weight) * (1 - (1 - weight) ** (2 * state[:, 1])))
    alarm[:] = seen & (np.abs(state[:, 0]) > limit * spread)


@kernel("void(f8[::1], f8, f8, f8[:, ::1], b1[::1])", ewma_numpy)
def ewma(z: F64, weight: float, limit: float, state: F64, alarm: NDArray[np.bool_]) -> None:
    """Take one value a channel into its exponentially weighted moving average.

    Args:
        z: (channels,) f64.
        weight: of the newest value, above 0, at most 1.
        limit: in standard deviations of the average, exact from the first value on.
        state: (channels, 2) f64, average and number of values; zeros at the start.
        alarm: (channels,) bool out: the average is beyond its limit now.
    """
    for channel in range(z.size):
        alarm[channel] = False
        if not np.isfinite(z[channel]):
            continue
        state[channel, 0] += weight * (z[channel] - state[channel, 0])
        state[channel, 1] += 1
        spread = np.sqrt(weight / (2 - weight) * (1 - (1 - weight) ** (2 * state[channel, 1])))
        alarm[channel] = abs(state[channel, 0]) > limit * spread


def cusum_numpy(z: F64, slack: float, limit: float, state: F64, alarm: NDArray[np.bool_]) -> None:
    """Do what `cusum` does, with numpy alone."""
    seen = np.isfinite(z)
    state[seen, 0] = np.maximum(0.0, state[seen, 0] + z[seen] - slack)
    state[seen, 1] = np.maximum(0.0, state[seen, 1] - z[seen] - slack)
    alarm[:] = seen & (state.max(axis=1) > limit)


@kernel("void(f8[::1], f8, f8, f8[:, ::1], b1[::1])", cusum_numpy)
def cusum(z: F64, slack: float, limit: float, state: F64, alarm: NDArray[np.bool_]) -> None:
    """Take one value a channel into its two cumulative sums.

    Args:
        z: (channels,) f64.
        slack: half the shift that is looked for, in standard deviations.
        limit: decision interval, in standard deviations.
        state: (channels, 2) f64, upper and lower sum; zeros at the start.
        alarm: (channels,) bool out: a sum is beyond its limit now.
    """
    for channel in range(z.size):
        alarm[channel] = False
        if not np.isfinite(z[channel]):
            continue
        state[channel, 0] = max(0.0, state[channel, 0] + z[channel] - slack)
        state[channel, 1] = max(0.0, state[channel, 1] - z[channel] - slack)
        alarm[channel] = state[channel, 0] > limit or state[channel, 1] > limit


KEPT = 0xFFFF
ALTERNATING = 0b0101_0101_0101_0101


def run_rules_numpy(z: F64, previous: F64, state: I64, fired: I64) -> None:
    """Do what `run_rules` does, with numpy alone."""
    fired[:] = 0
    seen = np.flatnonzero(np.isfinite(z))
    x, w = z[seen], state[seen]
    newest = [x > 0, x < 0, x > 1, x < -1, x > 2, x < -2, x > previous[seen], x < previous[seen]]
    w[:, :8] = ((w[:, :8] << 1) | np.stack(newest, axis=1)) & KEPT
    w[:, 8] += 1
    state[seen], previous[seen] = w, x
    found = (np.abs(x) > 3).astype(np.int64)
    for side in range(2):
        twos, fours = w[:, 4 + side] & 7, w[:, 2 + side] & 31
        up, down = w[:, 6 + side] & 0x1FFF, w[:, 7 - side] & 0x1FFF
        rules = (
            (1, w[:, side] & 0x1FF == 0x1FF),
            (2, up & 0x1F == 0x1F),
            (3, (up == ALTERNATING & 0x1FFF) & (down == (ALTERNATING << 1) & 0x1FFF)),
            (4, (np.bitwise_count(twos) >= 2) & (twos & 1 == 1)),
            (5, (np.bitwise_count(fours) >= 4) & (fours & 1 == 1)),
            (8, w[:, side] & 0xFF == 0xFF),
        )
        for bit, fires in rules:
            found |= fires.astype(np.int64) << bit
    outer = w[:, 2] | w[:, 3]
    found |= ((w[:, 8] >= 15) & (outer & 0x7FFF == 0)).astype(np.int64) << 6
    found |= (outer & 0xFF == 0xFF).astype(np.int64) << 7
    fired[seen] = found


@kernel("void(f8[::1], f8[::1], i8[:, ::1], i8[::1])", run_rules_numpy)
def run_rules(z: F64, previous: F64, state: I64, fired: I64) -> None:
    """Take one value a channel into its runs, and tell which rules fire with it.

    Args:
        z: (channels,) f64.
        previous: (channels,) f64, the value before; NaN at the start. Updated.
        state: (channels, 9) i64, windows of bits, newest lowest: above and below 0, 1 and 2 sigma, rising, falling,
            and the number of values; zeros at the start.
        fired: (channels,) i64 out, a bit for each of `RULES`; mask with `NELSON` or `WESTERN_ELECTRIC`.
    """
    for channel in range(z.size):
        fired[channel] = 0
        x = z[channel]
        if not np.isfinite(x):
            continue
        window = state[channel]
        level = 0.0
        for pair in range(0, 6, 2):
            window[pair] = ((window[pair] << 1) | (1 if x > level else 0)) & KEPT
            window[pair + 1] = ((window[pair + 1] << 1) | (1 if x < -level else 0)) & KEPT
            level += 1.0
        window[6] = ((window[6] << 1) | (1 if x > previous[channel] else 0)) & KEPT
        window[7] = ((window[7] << 1) | (1 if x < previous[channel] else 0)) & KEPT
        window[8] += 1
        previous[channel] = x
        found = 1 if abs(x) > 3.0 else 0
        for side in range(2):
            twos = window[4 + side] & 7
            fours = window[2 + side] & 31
            many = 0
            for bit in range(3):
                many += (twos >> bit) & 1
            some = 0
            for bit in range(5):
                some += (fours >> bit) & 1
            if window[side] & 0x1FF == 0x1FF:
                found |= 1 << 1
            if window[6 + side] & 0x1F == 0x1F:
                found |= 1 << 2
            if window[6 + side] & 0x1FFF == ALTERNATING & 0x1FFF and (
                window[7 - side] & 0x1FFF == (ALTERNATING << 1) & 0x1FFF
            ):
                found |= 1 << 3
            if many >= 2 and twos & 1:
                found |= 1 << 4
            if some >= 4 and fours & 1:
                found |= 1 << 5
            if window[side] & 0xFF == 0xFF:
                found |= 1 << 8
        outer = window[2] | window[3]
        if window[8] >= 15 and outer & 0x7FFF == 0:
            found |= 1 << 6
        if outer & 0xFF == 0xFF:
            found |= 1 << 7
        fired[channel] = found
