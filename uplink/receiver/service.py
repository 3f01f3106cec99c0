"""`yulink receive`: subscribe, verify, de-duplicate, store, acknowledge, print."""

import asyncio
import json
import logging
import random
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from edge.core.clock import Clock
from edge.core.errors import Disconnected
from edge.core.language import say
from uplink.receiver.store import Store
from uplink.session import Access, MqttSession, Received, open_session

GROUP_MAX = 200
BACKOFF_MAX_S = 5.0

log = logging.getLogger("yulink.receiver")


class Receiver:
    """The brain's end. `run` is its one task.

    The broker gets its PUBACK, and the gateway its acknowledgement, after the message is durable here.
    """

    def __init__(self, access: Access, store: Path, clock: Clock, *, jsonl: bool = False) -> None:
        self._access = access
        self._path = store
        self._clock = clock
        self._jsonl = jsonl

    async def run(self) -> None:
        """Receive until cancelled, reconnecting with back-off."""
        store = Store(self._path)
        last_error = ""
        try:
            with ThreadPoolExecutor(1, "receiver store") as thread:
                if self._jsonl:
                    await self._in(thread, self._print, store)
                while True:
                    try:
                        async with open_session(self._access, ("5", "3.1.1")) as (session, _):
                            await session.subscribe("v1/+/+/data/#")
                            log.info(say("receiving from {url}", url=self._access.url))
                            last_error = ""
                            await self._serve(session, store, thread)
                    except Disconnected as error:
                        if str(error) != last_error:
                            log.warning(say("receiver: {error}", error=error))
                        last_error = str(error)
                    await self._clock.sleep(random.uniform(0.05, 1.0))
        finally:
            store.close()

    async def _serve(self, session: MqttSession, store: Store, thread: ThreadPoolExecutor) -> None:
        while True:
            group = await self._group(session)
            arrived = [(message.topic, message.payload) for message in group]
            quarantined = store.counters.quarantined
            acknowledgements = await self._in(thread, store.commit, arrived, self._clock.now())
            for message in group:
                session.acknowledge(message)
            for gateway, acknowledgement in acknowledgements:
                session.publish(f"v1/{gateway}/ack", json.dumps(acknowledgement).encode())
            if store.counters.quarantined > quarantined:
                log.error(say("{count} messages cannot be read and were set aside", count=store.counters.quarantined))
            if self._jsonl:
                await self._in(thread, self._print, store)

    async def _group(self, session: MqttSession) -> list[Received]:
        """Return what has arrived, waiting for at least one message. Raises Disconnected."""
        taking = asyncio.create_task(session.received.get())
        try:
            awaited: set[asyncio.Future[Any]] = {taking, session.lost}
            await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)
            if not taking.done():
                raise Disconnected(say("the connection was lost: {reason}", reason=session.lost.result()))
            group = [taking.result()]
        finally:
            taking.cancel()
            await asyncio.wait([taking])
        while len(group) < GROUP_MAX and not session.received.empty():
            group.append(session.received.get_nowait())
        return group

    @staticmethod
    def _print(store: Store) -> None:
        """Print what is not printed yet; what is flushed but not marked when we die is printed again."""
        last = 0
        for key, line in store.unprinted():
            sys.stdout.write(line + "\n")
            last = key
        sys.stdout.flush()
        if last:
            store.mark_printed(last)

    @staticmethod
    async def _in(thread: ThreadPoolExecutor, function, *arguments):  # type: ignore[no-untyped-def]
        return await asyncio.get_running_loop().run_in_executor(thread, function, *arguments)
