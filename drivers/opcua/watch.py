"""A subscription that answers and yet tells nothing: found by comparing it with what the server says when asked."""

from collections.abc import Iterable, Sequence

from drivers.opcua.subscription import Subscription
from drivers.opcua.variables import Item

DOUBT_S = 5.0
"""After so long without values a subscription is compared with a Read."""
ASKED_MAX = 50
GRACE_S = 1.0


class Watch:
    """Judges the subscriptions of one session. Times are monotonic seconds.

    A value that a Read gives and a subscription has not told puts that subscription in doubt. It must tell something
    within three of its slowest intervals, else it is dead.
    """

    def __init__(self) -> None:
        self._doubted: Subscription | None = None
        self._since = 0.0
        self._turn = 0

    def dead(self, now: float) -> Subscription | None:
        """Return the subscription that did not say what it was waited for."""
        one = self._doubted
        if one is not None and one.told > self._since:
            self._doubted = one = None
        return one if one is not None and now - self._since > GRACE_S + 3 * one.slowest else None

    def ask(
        self, subscriptions: Iterable[Subscription], items: Sequence[Item], now: float
    ) -> tuple[Subscription, list[Item]] | None:
        """Return a quiet subscription and some of its items to be read, other ones each time; None when none is."""
        quiet = [one for one in subscriptions if one.items and now - one.told > max(DOUBT_S, 3 * one.slowest)]
        if not quiet or self._doubted is not None:
            return None
        self._turn += 1
        one = quiet[self._turn % len(quiet)]
        mine = [item for item in items if item.handle in one.items]
        start = self._turn * ASKED_MAX % max(1, len(mine))
        return one, (mine[start:] + mine[:start])[:ASKED_MAX]

    def doubt(self, subscription: Subscription, now: float) -> None:
        """Note that a Read gave what this subscription has not told."""
        self._doubted, self._since = subscription, now
