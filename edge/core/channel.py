"""A bounded channel between tasks. Its bound counts rows, because a batch may hold one or a million."""

import asyncio
from collections import deque
from collections.abc import Sized
from dataclasses import dataclass
from typing import Generic, TypeVar

from edge.core.errors import Closed

T = TypeVar("T", bound=Sized)


@dataclass(frozen=True, slots=True)
class ChannelStatistics:
    """A snapshot: what waits now, and what has passed since the start."""

    items: int
    rows: int
    rows_max: int
    rows_sent_total: int


class Channel(Generic[T]):
    """First in, first out, for one loop. Many senders, one receiver.

    A sender waits while the channel is full, so a slow consumer slows its producers and nothing grows.
    An item larger than the whole bound is taken when the channel is empty.
    """

    def __init__(self, rows_max: int) -> None:
        self._rows_max = rows_max
        self._items: deque[T] = deque()
        self._rows = 0
        self._rows_sent = 0
        self._closed = False
        self._room = asyncio.Event()
        self._filled = asyncio.Event()
        self._rows_wanted = 0
        self._plenty = asyncio.Event()

    async def send(self, item: T) -> None:
        """Put an item in, waiting for room. Cancelled while waiting, the item was not sent.

        Raises:
            Closed: the channel was closed before the item found room.
        """
        while not self._closed and not self._has_room(item):
            self._room.clear()
            self._plenty.set()
            await self._room.wait()
        if self._closed:
            raise Closed("the channel is closed")
        self._items.append(item)
        self._rows += len(item)
        self._rows_sent += len(item)
        self._filled.set()
        if self._rows >= self._rows_wanted:
            self._plenty.set()

    def _has_room(self, item: T) -> bool:
        return not self._items or self._rows + len(item) <= self._rows_max

    async def receive(self) -> T:
        """Take the oldest item, waiting for one. Cancelled while waiting, nothing was taken.

        Raises:
            Closed: the channel is closed and empty.
        """
        while (item := self.receive_nowait()) is None:
            if self._closed:
                raise Closed("the channel is closed")
            self._filled.clear()
            await self._filled.wait()
        return item

    def receive_nowait(self) -> T | None:
        """Take the oldest item, or None when there is none at this moment."""
        if not self._items:
            return None
        item = self._items.popleft()
        self._rows -= len(item)
        self._room.set()
        if not self._items:
            self._plenty.clear()
        return item

    async def wait_rows(self, rows: int) -> None:
        """Return when so many rows wait, a sender waits for room, somebody hurries, or the channel is closed."""
        self._rows_wanted = rows
        if self._rows < rows and not self._closed:
            await self._plenty.wait()

    def hurry(self) -> None:
        """Let `wait_rows` return, until all that is inside now is taken: it is urgent."""
        self._plenty.set()

    def close(self) -> None:
        """Refuse further items. What is inside can still be received."""
        self._closed = True
        self._room.set()
        self._plenty.set()
        self._filled.set()

    def statistics(self) -> ChannelStatistics:
        """Return a snapshot of the fill."""
        return ChannelStatistics(len(self._items), self._rows, self._rows_max, self._rows_sent)
