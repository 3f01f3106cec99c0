"""A Modbus device: polls its groups of tags, each at its own interval."""

import math
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

from drivers.api import DeviceContext, Session
from drivers.modbus.client import BlockFailed
from drivers.modbus.image import Image, element_names, kind_of
from drivers.modbus.line import Line
from drivers.modbus.plan import groups
from drivers.modbus.section import ModbusSection
from edge.core.batch import Batch, Lane, Waveform
from edge.core.errors import Disconnected
from edge.core.language import say
from edge.core.quality import StatusCode


@dataclass(slots=True)
class _Group:
    every: float
    image: Image
    due: float = 0.0


class ModbusDriver:
    """Implements `drivers.api.Driver`. All tag ids are known from the configuration."""

    def __init__(self, section: ModbusSection, context: DeviceContext) -> None:
        self.section = section
        self.context = context
        self.ids: dict[str, int] = {}
        for name, tag in section.tags.items():
            unit = tag.unit or (tag.full_scale_quantity[1] if tag.rate else "")
            for element in element_names(name, tag):
                self.ids[element] = context.catalogue.intern(context.device, element, kind_of(tag), unit).id
        self._groups = groups(section, context.every)

    @property
    def tag_ids(self) -> Sequence[int]:
        """Ids of all its values."""
        return list(self.ids.values())

    @property
    def read_deadline(self) -> float:
        """Three of the shortest intervals, and time for every request of a poll to fail."""
        requests = sum(len(group.image.requests) for group in self.make_groups())
        return 3 * min(self._groups) + (requests + 1) * (self.section.limits.timeout + self.section.limits.pause) + 5

    def make_groups(self) -> list[_Group]:
        """Return the groups with their read plans, all due at once."""
        section = self.section
        return [
            _Group(every, Image({name: section.tags[name] for name in names}, self.ids, section.order, section.limits))
            for every, names in self._groups.items()
        ]

    def connect(self) -> AbstractAsyncContextManager[Session]:
        """Open the line, or join it when another device has it open."""
        return self._connect()

    @asynccontextmanager
    async def _connect(self) -> AsyncIterator[Session]:
        context, limits = self.context, self.section.limits
        async with Line.share(context.shared, self.section.endpoint, context.clock, limits.timeout) as line:
            yield ModbusSession(self, line)


class ModbusSession:
    """Implements `drivers.api.Session` and `Inspectable`."""

    def __init__(self, driver: ModbusDriver, line: Line) -> None:
        self._driver = driver
        self._line = line
        self._clock = driver.context.clock
        self._groups = driver.make_groups()
        self.overruns = 0
        now = self._clock.monotonic()
        for group in self._groups:
            group.due = now

    async def read(self) -> list[Batch | Waveform]:
        """Wait for the next group that is due and read all that are. Cancelling loses at most this poll.

        Raises:
            Disconnected: not one request was answered, or the connection is gone.
        """
        now = self._clock.monotonic()
        next_due = min(group.due for group in self._groups)
        if next_due > now:
            await self._clock.sleep(next_due - now)
            now = self._clock.monotonic()
        due = [group for group in self._groups if group.due <= now]
        records: list[Batch | Waveform] = []
        answered = False
        for group in due:
            statuses = [await self._request(group.image, number) for number in range(len(group.image.requests))]
            answered = answered or any(status != StatusCode.BAD_TIMEOUT for status in statuses)
            records += group.image.decode(self._clock.now(), statuses)
        if not answered:
            raise Disconnected(
                say("unit {unit} does not answer", unit=self._driver.section.id),
                say("check the unit id, the wiring and the line settings"),
            )
        self._schedule(due)
        return _joined(records)

    async def _request(self, image: Image, number: int) -> int:
        section = self._driver.section
        try:
            payload = await self._line.read(
                section.id, image.requests[number], section.limits.timeout, section.limits.pause
            )
        except BlockFailed as error:
            return error.status
        except TimeoutError:
            if number == 0:  # a silent device costs the line one time-out, not one a request
                raise Disconnected(
                    say("unit {unit} does not answer", unit=section.id),
                    say("check the unit id, the wiring and the line settings"),
                ) from None
            return StatusCode.BAD_TIMEOUT
        image.fill(number, payload)
        return StatusCode.GOOD

    def _schedule(self, read: Sequence[_Group]) -> None:
        """Set the next due times on the grid of each interval. What was missed is skipped and counted, never queued."""
        now = self._clock.monotonic()
        for group in read:
            passed = math.floor((now - group.due) / group.every)
            self.overruns += passed
            group.due += (passed + 1) * group.every

    def raw(self) -> Mapping[str, str]:
        """Return per tag the registers behind its last value."""
        return {name: text for group in self._groups for name, text in group.image.registers().items()}


def _joined(records: Sequence[Batch | Waveform]) -> list[Batch | Waveform]:
    """Join the batches of several groups, so that one read gives at most one batch a lane."""
    lanes = [[record for record in records if isinstance(record, Batch) and record.lane is lane] for lane in Lane]
    waveforms = [record for record in records if isinstance(record, Waveform)]
    return [*(Batch.concat(batches) for batches in lanes if batches), *waveforms]
