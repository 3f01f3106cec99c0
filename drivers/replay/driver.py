"""A recording played as if it were a device."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from drivers.api import DeviceContext, Session
from drivers.replay.recording import Row, read_recording
from drivers.replay.section import ReplaySection
from edge.core.batch import Batch, Lane
from edge.core.catalogue import Tag, ValueKind

IDLE_S = 5.0
ROWS_PER_READ_MAX = 10_000


class ReplayDriver:
    """Implements `drivers.api.Driver`. The file is read, and checked whole, when it is made. Raises ConfigError."""

    def __init__(self, section: ReplaySection, context: DeviceContext) -> None:
        self.section = section
        self.context = context
        self.tags: dict[str, Tag] = {
            name: context.catalogue.intern(context.device, name, ValueKind(tag.type), tag.unit)
            for name, tag in section.tags.items()
        }
        kinds = {tag.column or name: (name, ValueKind(tag.type)) for name, tag in section.tags.items()}
        self.rows = read_recording(Path(section.replay), context.device, kinds)

    @property
    def tag_ids(self) -> Sequence[int]:
        """Ids of all its tags."""
        return [tag.id for tag in self.tags.values()]

    @property
    def read_deadline(self) -> float:
        """A session answers at least every five seconds."""
        return 3 * IDLE_S

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Session]:
        """Begin the recording; there is nothing to open."""
        yield ReplaySession(self)


class ReplaySession:
    """Implements `drivers.api.Session`: event time runs with the monotonic clock, times `speed`."""

    def __init__(self, driver: ReplayDriver) -> None:
        self._driver = driver
        self._clock = driver.context.clock
        self._next = 0
        self._shift = 0
        self._began = self._clock.monotonic()

    async def read(self) -> list[Batch]:
        """Wait until rows are due and return them, at most 10,000; nothing after five quiet seconds."""
        rows, section = self._driver.rows, self._driver.section
        if self._next == len(rows) and section.repeat:
            self._next, self._began = 0, self._clock.monotonic()
            self._shift += rows[-1].ts - rows[0].ts + round(self._driver.context.every * 1e9)
        if self._next == len(rows):
            await self._clock.sleep(IDLE_S)
            return []
        wait_s = self._due(rows[self._next]) - self._clock.monotonic()
        await self._clock.sleep(min(max(wait_s, 0), IDLE_S))
        if wait_s > IDLE_S:
            return []
        now, first = self._clock.monotonic(), self._next
        end = first + 1
        while end < min(len(rows), first + ROWS_PER_READ_MAX) and self._due(rows[end]) <= now:
            end += 1
        self._next = end
        return self._batches(rows[first:end])

    def _due(self, row: Row) -> float:
        speed = self._driver.section.speed
        return self._began + ((row.ts - self._driver.rows[0].ts) / 1e9 / speed if speed else 0.0)

    def _batches(self, rows: Sequence[Row]) -> list[Batch]:
        lanes: dict[Lane, list[Row]] = {}
        for row in rows:
            lanes.setdefault(self._driver.tags[row.tag].kind.lane, []).append(row)
        return [
            Batch.of(
                lane,
                [self._driver.tags[row.tag].id for row in each],
                [row.ts + self._shift for row in each],
                [row.value for row in each],
                [row.quality for row in each],
            )
            for lane, each in lanes.items()
        ]
