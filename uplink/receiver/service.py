"""`yulink receive`: from the broker into a store, acknowledged after its commit, printed on request."""

import asyncio
import logging
import random
from typing import Any

from edge.core.clock import Clock
from edge.core.errors import Disconnected
from edge.core.language import say
from uplink.receiver.reception import ReceiverCounters, Reception, Store
from uplink.seal import Opener
from uplink.session import Access, MqttSession, Received, open_session

GROUP_MAX = 200
SETTLE_EVERY_S = 1.0
TOPICS = ("key", "catalog/#", "data/#", "event", "gap", "health")

log = logging.getLogger("yulink.receiver")


class Receiver:
    """The brain's end on one machine. `run` is its one task.

    The broker gets its PUBACK, and the gateway its acknowledgement, after the message is durable in the store.
    """

    def __init__(self, access: Access, store: Store, clock: Clock, *, opener: Opener | None = None) -> None:
        self._access = access
        self._store = store
        self._clock = clock
        self._reception = Reception(store, clock, opener)

    @property
    def counters(self) -> ReceiverCounters:
        """Totals since the start."""
        return self._reception.counters

    async def run(self) -> None:
        """Receive until cancelled, reconnecting with back-off.

        Raises:
            YulinkError: the store cannot be used.
        """
        try:
            last_error = ""
            while True:
                try:
                    await self._store.open()
                    await self._store.settle()
                    async with open_session(self._access, ("5", "3.1.1")) as (session, _):
                        for topic in TOPICS:
                            await session.subscribe(f"v1/+/+/{topic}")
                        log.info(say("receiving from {url}", url=self._access.url))
                        last_error = ""
                        await self._serve(session)
                except Disconnected as error:
                    if str(error) != last_error:
                        log.warning(say("receiver: {error}", error=error))
                    last_error = str(error)
                await self._clock.sleep(random.uniform(0.05, 1.0))
        finally:
            await self._store.close()

    async def _serve(self, session: MqttSession) -> None:
        while True:
            group = await group_of(session, SETTLE_EVERY_S)
            if not group:
                await self._store.settle()
                continue
            quarantined = self._store.counters.quarantined
            taken = await self._reception.take([(message.topic, message.payload) for message in group])
            for message in group:
                session.acknowledge(message)
            for topic, payload in taken.replies:
                session.publish(topic, payload)
            if self._store.counters.quarantined > quarantined:
                log.error(
                    say("{count} messages cannot be read and were set aside", count=self._store.counters.quarantined)
                )
            await self._store.settle()


async def group_of(session: MqttSession, wait_s: float | None = None) -> list[Received]:
    """Return what has arrived, waiting for at least one message, or for so long. Raises Disconnected."""
    taking = asyncio.create_task(session.received.get())
    try:
        awaited: set[asyncio.Future[Any]] = {taking, session.lost}
        await asyncio.wait(awaited, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
        if not taking.done() and not session.lost.done():
            return []
        if not taking.done():
            raise Disconnected(say("the connection was lost: {reason}", reason=session.lost.result()))
        group = [taking.result()]
    finally:
        taking.cancel()
        await asyncio.wait([taking])
    while len(group) < GROUP_MAX and not session.received.empty():
        group.append(session.received.get_nowait())
    return group
