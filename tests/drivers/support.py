"""A driver from raw settings, and its values by name."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from drivers.api import Counting, DeviceContext, Driver, DriverSpec, Session, Shared
from edge.core.batch import Batch, Event, Record
from edge.core.cancelling import check_cancelled
from edge.core.catalogue import Catalogue
from edge.core.clock import Clock, SystemClock
from edge.core.errors import Disconnected
from edge.core.quality import is_bad


def make_driver(
    spec: DriverSpec,
    settings: Mapping[str, Any],
    *,
    device: str = "machine",
    secrets: Mapping[str, str] | None = None,
    shared: Shared | None = None,
    clock: Clock | None = None,
    data_dir: Path | None = None,
) -> tuple[Driver, Catalogue]:
    """The driver of a section as YAML would give it, and the catalogue that names its tags."""
    catalogue = Catalogue()
    section = spec.section.model_validate(settings)
    assert not [problem for problem in section.problems() if problem.severity == "error"]
    known = secrets or {}
    context = DeviceContext(
        device,
        0.05,
        catalogue,
        clock or SystemClock(),
        lambda name: known[name],
        Shared() if shared is None else shared,
        data_dir,
    )
    return spec.create(section, context), catalogue


async def read_rows(session: Session, catalogue: Catalogue) -> dict[str, tuple[Any, int, int]]:
    """One read as {tag: (value, quality, ts)}."""
    rows: dict[str, tuple[Any, int, int]] = {}
    for record in await session.read():
        if isinstance(record, Batch):
            for tag, ts, value, quality in zip(
                record.tag.tolist(), record.ts.tolist(), record.value.tolist(), record.quality.tolist(), strict=True
            ):
                rows[catalogue[tag].name] = (catalogue[tag].present(value), quality, ts)
    return rows


class Follower:
    """Follows a driver as the agent does: connects, reads, connects again when it is lost. Keeps all that came.

    rows     (tag, value, quality, ts) in their order
    losses   why sessions ended
    """

    def __init__(self, driver: Driver, catalogue: Catalogue) -> None:
        self.driver = driver
        self.rows: list[tuple[str, Any, int, int]] = []
        self.events: list[Event] = []
        self.losses: list[Disconnected] = []
        self.session: Session | None = None
        self._catalogue = catalogue
        self._came = asyncio.Event()

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            check_cancelled()
            try:
                async with asyncio.timeout(20), AsyncExitStack() as stack:
                    self.session = session = await stack.enter_async_context(self.driver.connect())
                    stack = stack.pop_all()
                async with stack:
                    while True:
                        async with asyncio.timeout(self.driver.read_deadline):
                            records = await session.read()
                        self._take(records)
                        self._came.set()
            except (Disconnected, TimeoutError) as error:
                self.losses.append(error if isinstance(error, Disconnected) else Disconnected("no answer"))
                self._came.set()
                await asyncio.sleep(0.05)

    def _take(self, records: Sequence[Record]) -> None:
        for record in records:
            if isinstance(record, Event):
                self.events.append(record)
            elif isinstance(record, Batch):
                columns = (record.tag.tolist(), record.value.tolist(), record.quality.tolist(), record.ts.tolist())
                for tag, value, quality, ts in zip(*columns, strict=True):
                    known = self._catalogue[tag]
                    self.rows.append((known.name, known.present(value), quality, ts))

    async def until(self, condition: Callable[[], bool], within: float = 30.0) -> None:
        """Wait until what has come fulfils a condition. Raises AssertionError, with what has come, when it does not."""
        try:
            async with asyncio.timeout(within):
                while not condition():
                    self._came.clear()
                    await self._came.wait()
        except TimeoutError:
            raise AssertionError(f"{self.rows[-20:]} {self.losses[-3:]} {self.events[-3:]}") from None

    def last(self) -> dict[str, tuple[Any, int]]:
        """The last (value, quality) of each tag."""
        return {name: (value, quality) for name, value, quality, _ in self.rows}

    def good(self, name: str) -> list[Any]:
        """All good values of a tag, in their order."""
        return [value for tag, value, quality, _ in self.rows if tag == name and not is_bad(quality)]

    @property
    def counters(self) -> Mapping[str, int]:
        """The driver's counters."""
        assert isinstance(self.driver, Counting)
        return self.driver.counters


@asynccontextmanager
async def following(spec: DriverSpec, settings: Mapping[str, Any], **more: Any) -> AsyncIterator[Follower]:
    """Follow the device of a section while the block runs."""
    follower = Follower(*make_driver(spec, settings, **more))
    task = asyncio.create_task(follower.run())
    try:
        yield follower
    finally:
        task.cancel()
        await asyncio.wait({task})
        if not task.cancelled():
            task.result()
