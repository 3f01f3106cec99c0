"""A device at work in the agent, with everything that belongs to it."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from drivers.api import Driver, Repeating
from edge.agent.configuration.rules import owed_every
from edge.agent.configuration.settings import Device
from edge.agent.day_counts import Watched
from edge.agent.ingest import Ingest
from edge.agent.supervise import DeviceHealth
from edge.core.catalogue import Catalogue


@dataclass(slots=True)
class Running:
    """A device at work. `tell` puts what was counted of it into the log."""

    device: Device
    driver: Driver
    health: DeviceHealth
    task: asyncio.Task[None]
    tell: Callable[[], Awaitable[None]]
    ingest: Ingest

    def watched(self, catalogue: Catalogue) -> list[Watched]:
        """Return the device's tags, as far as they are known, and when each owes a reading."""
        tags = ((tag, self.device.section.tag_of(catalogue[tag].name)) for tag in self.driver.tag_ids)
        return [
            Watched(tag, self.device.name, round(1e9 * owed_every(self.device.section, settings, self.device.every)))
            for tag, settings in tags
            if settings is not None
        ]

    @property
    def repeated(self) -> Iterable[tuple[int, int]]:
        """Readings that came again, by tag id."""
        return self.driver.repeated.items() if isinstance(self.driver, Repeating) else ()
