"""Variables that a server refuses: each is tried again apart from the others, ever more seldom."""

from collections.abc import Iterable

from drivers.opcua.variables import Item
from edge.core.clock import Clock

RETRY_FIRST_S, RETRY_MAX_S = 2.0, 60.0


class Refused:
    """The refused items of one model, and when each is tried again."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._due: dict[Item, float] = {}
        self._delay: dict[Item, float] = {}

    def __len__(self) -> int:
        return len(self._due)

    def put(self, items: Iterable[Item]) -> None:
        """Set items apart, each for twice as long as the last time. One that is here already stays as it is."""
        now = self._clock.monotonic()
        for item in items:
            if item not in self._due:
                self._delay[item] = min(RETRY_MAX_S, 2 * self._delay.get(item, RETRY_FIRST_S / 2))
                self._due[item] = now + self._delay[item]

    def take_due(self) -> list[Item]:
        """Return the items whose time has come; they are not here any more."""
        now = self._clock.monotonic()
        due = [item for item, when in self._due.items() if when <= now]
        for item in due:
            del self._due[item]
        return due

    def settle(self, items: Iterable[Item]) -> None:
        """Forget how long these had to wait, unless they were put here again."""
        for item in items:
            if item not in self._due:
                self._delay.pop(item, None)
