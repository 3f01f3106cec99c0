"""How fast the backlog may go: a share of what the link is measured to carry."""

from edge.core.clock import Clock

FIRST_ESTIMATE_BYTES_S = 64_000.0
LOOK_S = 0.25
SMOOTHING = 0.3


class BacklogShare:
    """Goodput, measured as bytes acknowledged per second in which something was on its way, and a bucket filled by a
    share of it. `share` is from 0 to 1.
    """

    def __init__(self, share: float, clock: Clock) -> None:
        self._share = share
        self._clock = clock
        self.goodput_bytes_s = FIRST_ESTIMATE_BYTES_S
        self.on_their_way = 0
        self._busy_since = 0.0
        self._busy_s = 0.0
        self._acknowledged = 0
        self._tokens = 0.0
        self._filled_at = clock.monotonic()

    def published(self) -> None:
        """Count a message that was handed to the link."""
        if not self.on_their_way:
            self._busy_since = self._clock.monotonic()
        self.on_their_way += 1

    def acknowledged(self, size: int) -> None:
        """Count a message's PUBACK; `size` in bytes, 0 when it failed."""
        now = self._clock.monotonic()
        self.on_their_way = max(self.on_their_way - 1, 0)
        self._acknowledged += size
        self._busy_s += now - self._busy_since
        self._busy_since = now
        if self._busy_s >= LOOK_S or (not self.on_their_way and self._busy_s >= LOOK_S / 5):
            self.goodput_bytes_s += SMOOTHING * (self._acknowledged / self._busy_s - self.goodput_bytes_s)
            self._busy_s, self._acknowledged = 0.0, 0

    def reset(self) -> None:
        """Forget what was on its way: the connection is gone."""
        self.on_their_way, self._busy_s, self._acknowledged = 0, 0.0, 0

    def wait_s(self) -> float:
        """Return how long until the next message of the backlog may go; 0 when it may now."""
        now = self._clock.monotonic()
        rate = max(self._share * self.goodput_bytes_s, 1.0)
        self._tokens = min(self._tokens + rate * (now - self._filled_at), rate)
        self._filled_at = now
        return 0.0 if self._tokens > -1.0 else -self._tokens / rate

    def spend(self, size: int) -> None:
        """Take a message of the backlog from the bucket; it may fall below zero, and then has to fill first."""
        self._tokens -= size
