"""What drivers may ask of the log."""

from collections.abc import Sequence
from dataclasses import dataclass

from buffer.log import Log


@dataclass(frozen=True, slots=True)
class InLog:
    """Implements `drivers.api.Kept`."""

    log: Log

    async def durable(self) -> None:
        """Return when all that was put is on disk."""
        await self.log.flush()

    async def held(self, tag: int, times: Sequence[int]) -> set[int]:
        """Return those of the times at which a waveform of the tag is in the log."""
        return await self.log.waveforms_at(tag, times)
