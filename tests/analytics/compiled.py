"""An operator with a kernel, for the tests of where compiled code is kept."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edge.analytics.kernels import kernel
from edge.analytics.operator import Derived, Operator, Output, Reading, Rows
from edge.core.catalogue import ValueKind


@kernel("void(float64[::1], float64[::1])")
def square(values: Any, out: Any) -> None:
    """Write the square of each value."""
    for place in range(len(values)):
        out[place] = values[place] * values[place]


class Squares(Operator):
    """Gives the square of each reading."""

    KIND = "squares"

    def __init__(self) -> None:
        self.name = "squares"
        self.inputs = ["press.count"]
        self.outputs = [Output("press", "square", ValueKind.FLOAT64, "", ("press.count",))]

    def push(self, rows: Rows, now: int) -> Derived:
        out = np.empty(len(rows))
        square(np.ascontiguousarray(rows.value), out)
        return Derived([Reading(0, ts, value) for ts, value in zip(rows.at.tolist(), out.tolist(), strict=True)])


def make(settings: Mapping[str, Any]) -> Sequence[Operator]:
    return [Squares()]
