"""Half-space trees: how unlike everything seen lately a row of values is. Advisory: it names no cause.

Source: Tan, Ting & Liu, "Fast anomaly detection for streaming data", IJCAI 2011.
"""

import zlib
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.analytics.kernels import kernel

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

TREES = 25
DEPTH = 8
WINDOW = 250
SIZE_LIMIT_SHARE = 0.1
SIGMAS = 6.0
"""Rows come in robust standard deviations; what lies farther out than this counts as this far out."""


@lru_cache(maxsize=64)
def grow(dimensions: int, seed: int = 1) -> tuple[I64, F64]:
    """Return for each node of each tree which value it asks, and where it parts; the children of n are 2n+1, 2n+2.

    The same arrays each time: they are only read.
    """
    random = np.random.default_rng(seed)
    nodes = 2**DEPTH - 1
    asked = random.integers(0, dimensions, (TREES, nodes))
    parted = np.empty((TREES, nodes))
    for tree in range(TREES):
        centre = random.uniform(0, 1, dimensions)
        reach = 2 * np.maximum(centre, 1 - centre)
        bounds = {0: (centre - reach, centre + reach)}
        for node in range(nodes):
            low, high = bounds.pop(node)
            value = asked[tree, node]
            parted[tree, node] = middle = (low[value] + high[value]) / 2
            left_high, right_low = high.copy(), low.copy()
            left_high[value] = right_low[value] = middle
            bounds[2 * node + 1], bounds[2 * node + 2] = (low, left_high), (right_low, high)
    return asked, parted


def scaled(z: F64) -> F64:
    """Return rows of standard deviations as values from 0 to 1."""
    return np.clip(0.5 + z / (2 * SIGMAS), 0.0, 1.0)


def novelty_numpy(row: F64, asked: I64, parted: F64, reference: I64, latest: I64, size_limit: float, out: F64) -> None:
    """Do what `novelty` does, with numpy alone: all trees go down together."""
    trees, inner = asked.shape
    every = np.arange(trees)
    node = np.zeros(trees, np.int64)
    score, open_ = np.zeros(trees), np.ones(trees, bool)
    depth = 0
    while True:
        latest[every, node] += 1
        mass = reference[every, node]
        ends = open_ & ((mass <= size_limit) | (node >= inner))
        score[ends] = mass[ends] * 2.0**depth
        open_ &= ~ends
        if node[0] >= inner:
            break
        node = 2 * node + np.where(row[asked[every, node]] < parted[every, node], 1, 2)
        depth += 1
    out[0] = score.sum()


@kernel("void(f8[::1], i8[:, ::1], f8[:, ::1], i8[:, ::1], i8[:, ::1], f8, f8[::1])", novelty_numpy)
def novelty(row: F64, asked: I64, parted: F64, reference: I64, latest: I64, size_limit: float, out: F64) -> None:
    """Score a row against the last full window, and count it into the present one.

    Args:
        row: (values,) f64 from 0 to 1, see `scaled`; no NaN.
        asked, parted: the trees of `grow`, (trees, inner nodes).
        reference: (trees, all nodes) i64, rows of the last window in each node.
        latest: the same of the present window; counted up.
        size_limit: rows in a node below which the trees go no deeper.
        out: (1,) f64 out: mass where the row ends, summed over the trees. Low is new.
    """
    total = 0.0
    inner = asked.shape[1]
    for tree in range(asked.shape[0]):
        node, weight = 0, 1.0
        is_open = True
        while True:
            latest[tree, node] += 1
            mass = reference[tree, node]
            if is_open and (mass <= size_limit or node >= inner):
                total += mass * weight
                is_open = False
            if node >= inner:
                break
            node = 2 * node + (1 if row[asked[tree, node]] < parted[tree, node] else 2)
            weight *= 2.0
    out[0] = total


class HalfSpaceTrees:
    """The trees of one machine with their two windows."""

    def __init__(self, dimensions: int, seed: int = 1, window: int = WINDOW) -> None:
        self._asked, self._parted = grow(dimensions, seed)
        self._window = window
        self._reference = np.zeros((TREES, 2 ** (DEPTH + 1) - 1), np.int64)
        self._latest = np.zeros_like(self._reference)
        self._count = 0
        self._is_ready = False
        self._out = np.empty(1)

    def feed(self, z: F64) -> float:
        """Return how familiar a row is, as a share of the most familiar place; NaN until a window is full."""
        limit = SIZE_LIMIT_SHARE * self._window
        novelty(scaled(z), self._asked, self._parted, self._reference, self._latest, limit, self._out)
        self._count += 1
        score = float(self._out[0]) / (TREES * self._window * 2.0**DEPTH) if self._is_ready else float("nan")
        if self._count == self._window:
            self._reference, self._latest = self._latest, np.zeros_like(self._latest)
            self._count, self._is_ready = 0, True
        return score

    def state(self) -> Mapping[str, Any]:
        """Return it as CBOR types; no node holds more rows than a window, which fits two bytes."""
        windows = [each.astype(np.uint16).tobytes() for each in (self._reference, self._latest)]
        return {
            "windows": [zlib.compress(each, 1) for each in windows],
            "count": self._count,
            "is ready": self._is_ready,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up what `state` told."""
        for array, kept in zip((self._reference, self._latest), state["windows"], strict=True):
            array.ravel()[:] = np.frombuffer(zlib.decompress(kept), np.uint16)
        self._count, self._is_ready = state["count"], state["is ready"]
