"""A plant with the JSON view, and somebody who listens."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from buffer.log import Log, open_log
from edge.core.catalogue import ValueKind
from simulators.broker import Broker
from simulators.pki import Pki
from tests.uplink.support import CLOCK, SITE
from uplink.api import UplinkContext
from uplink.plain.section import JsonSection
from uplink.plain.uplink import JsonUplink
from uplink.session import Access, Received, open_session


def section_of(broker: Broker, pki: Pki, **settings: Any) -> JsonSection:
    identity = str(pki.issue("gateway", common_name=SITE))
    return JsonSection.model_validate(
        {"json": broker.url, "identity": identity, "ca": str(pki.ca), "latency": "20ms", **settings}
    )


@asynccontextmanager
async def open_view(folder: Path, section: JsonSection) -> AsyncIterator[tuple[Log, JsonUplink]]:
    """A log with a tag `plc-1.count` and a view that is not running yet."""
    async with open_log(
        folder / "log.sqlite3", CLOCK, consumers={section.name: section.only}, commit_interval_s=0.01
    ) as log:
        log.catalogue.intern("plc-1", "count", ValueKind.INT64, "pcs")
        yield log, JsonUplink(section, UplinkContext(SITE, log.outbox(section.name), CLOCK, dict, log.put))


class Listener:
    """What came by each topic, in order."""

    def __init__(self) -> None:
        self.messages: list[Received] = []

    def of(self, topic: str) -> list[Any]:
        """The payloads of a topic."""
        return [json.loads(each.payload) for each in self.messages if each.topic == topic]

    def values(self, topic: str = f"{SITE}/plc-1") -> list[int]:
        return [each["value"] for each in self.of(topic)]


@asynccontextmanager
async def listening(broker: Broker, pki: Pki) -> AsyncIterator[Listener]:
    """Subscribe to all of the gateway's view while the block runs."""
    listener = Listener()
    access = Access(broker.url, pki.ca, pki.issue("listener"), client_id="listener")
    async with open_session(access, ("5",)) as (session, _):
        await session.subscribe(f"{SITE}/#")

        async def take() -> None:
            while True:
                listener.messages.append(await session.received.get())

        taking = asyncio.create_task(take())
        try:
            yield listener
        finally:
            taking.cancel()
            await asyncio.wait([taking])
