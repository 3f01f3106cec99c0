"""A connected Modbus device: what it delivers, tells and is asked."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from drivers.modbus import SPEC
from drivers.modbus.driver import ModbusDriver
from drivers.modbus.session import ModbusSession
from edge.core.batch import Batch, Event
from edge.core.catalogue import Catalogue
from simulators.modbus import Server, Unit, serve_tcp
from tests.drivers.support import make_driver

Rows = dict[str, tuple[Any, int]]


class Device:
    """A connected driver, what it delivers and tells."""

    def __init__(self, driver: ModbusDriver, catalogue: Catalogue, session: ModbusSession, server: Server) -> None:
        self.driver, self.catalogue, self.session, self.server = driver, catalogue, session, server
        self.events: list[Event] = []

    async def poll(self) -> Rows:
        rows: Rows = {}
        for record in await self.session.read():
            if isinstance(record, Event):
                self.events.append(record)
            elif isinstance(record, Batch):
                for tag, value, quality in zip(
                    record.tag.tolist(), record.value.tolist(), record.quality.tolist(), strict=True
                ):
                    rows[self.catalogue[tag].name] = (self.catalogue[tag].present(value), quality)
        return rows

    async def asked(self) -> list[tuple[int, int, int, int]]:
        """The requests of one poll."""
        before = len(self.server.requests)
        await self.poll()
        return self.server.requests[before:]


@asynccontextmanager
async def connected(
    unit: Unit, tags: dict[str, Any], *, server: Server | None = None, data_dir: Path | None = None, **limits: Any
) -> AsyncIterator[Device]:
    """Connect to a unit on a server of its own, or on one that runs already."""
    async with AsyncExitStack() as serving:
        if server is None:
            server = await serving.enter_async_context(serve_tcp({1: unit}))
        section = {"modbus": server.url, "every": "10ms", "limits": {"timeout": "60ms", **limits}, "tags": tags}
        driver, catalogue = make_driver(SPEC, section, data_dir=data_dir)
        assert isinstance(driver, ModbusDriver)
        async with driver.connect() as session:
            assert isinstance(session, ModbusSession)
            yield Device(driver, catalogue, session, server)


def words(count: int) -> dict[str, Any]:
    return {f"w{place}": {"at": f"holding/{place}"} for place in range(count)}


def full(count: int) -> Unit:
    unit = Unit()
    unit.put("holding", 0, "u16", [1000 + place for place in range(count)])
    return unit


def good(rows: Rows) -> dict[str, Any]:
    return {name: value for name, (value, quality) in rows.items() if not quality}
