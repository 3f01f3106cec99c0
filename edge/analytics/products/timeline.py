"""What a machine made when: its product and whether it ran, over time, from readings in order."""

from collections.abc import Iterator, Sequence
from typing import Any

from edge.analytics.operator import NEVER

KEPT_MAX = 500
"""Changes of product kept a machine: energy of a longer silence of its meter finds only those."""


class Timeline:
    """One machine. Products are what its tag says; "" while it says nothing or is bad."""

    def __init__(self) -> None:
        self.product = ""
        self.runs = False
        self._since = NEVER
        self._changes: list[tuple[int, str]] = []

    def name(self, ts: int, product: str) -> None:
        """Take note of what is made from `ts` on."""
        if product != self.product or not self._changes:
            self.product = product
            self._changes.append((ts, product))
            del self._changes[:-KEPT_MAX]

    def pass_time(self, to: int) -> tuple[int, int] | None:
        """Let time pass and return the span that ran, None for none."""
        begin, self._since = self._since, max(to, self._since)
        return (begin, to) if self.runs and NEVER < begin < to else None

    def shares(self, begin: int, end: int) -> Iterator[tuple[str, int]]:
        """Yield what was made between two instants and for how many ns; time before the first change is of ""."""
        product, at = "", begin
        for ts, following in self._changes:
            if ts >= end:
                break
            if ts > at:
                yield product, ts - at
                at = ts
            product = following
        yield product, end - at

    def shift(self, by: int) -> None:
        """Move what is waited for."""
        if self._since != NEVER:
            self._since += by

    def state(self) -> list[Any]:
        """Return everything as CBOR types."""
        return [self.product, self.runs, self._since, [list(each) for each in self._changes]]

    def restore(self, state: Sequence[Any]) -> None:
        """Take a state up."""
        self.product, self.runs, self._since, changes = state
        self._changes = [(ts, product) for ts, product in changes]
