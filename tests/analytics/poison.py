"""An operator that dies, hangs or grows on certain values, for the tests of what becomes of the worker then."""

import os
import signal
from collections.abc import Mapping, Sequence
from typing import Any

from edge.analytics.operator import Derived, Operator, Rows
from tests.analytics.operators import Total

RAISES, CRASHES, GROWS = 555, 666, 777


class Poisoned(Total):
    """Adds up, unless a value is poison. Two rows of 111 in one push are poison too, one alone is not."""

    KIND = "poisoned"

    def push(self, rows: Rows, now: int) -> Derived:
        values = rows.exact.tolist()
        if RAISES in values:
            raise RuntimeError("what a value")
        if CRASHES in values or values.count(111) > 1:
            os.kill(os.getpid(), signal.SIGSEGV)
        if GROWS in values:
            self.held = bytearray(os.urandom(1 << 20) * 400)
            signal.pause()
        return super().push(rows, now)


def make(settings: Mapping[str, Any]) -> Sequence[Operator]:
    return [Poisoned()]
