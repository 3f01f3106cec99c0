"""`yulink receive`: subscribe, open, verify, de-duplicate, store, acknowledge, print."""

import asyncio
import json
import logging
import random
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge.core.clock import Clock
from edge.core.errors import Disconnected
from edge.core.language import say
from uplink.receiver.store import Arrived, Outcome, Store, gateway_of, kind_of
from uplink.seal import BadSeal, Opener, UnknownKey, is_sealed
from uplink.session import Access, MqttSession, Received, open_session

GROUP_MAX = 200
TOPICS = ("key", "catalog/#", "data/#", "event", "gap")

log = logging.getLogger("yulink.receiver")


@dataclass(slots=True)
class ReceiverCounters:
    """Totals since the start. `repeated`: the very same envelope came again, by redelivery or by replay."""

    opened: int = 0
    repeated: int = 0
    refused: int = 0


class Receiver:
    """The brain's end. `run` is its one task.

    The broker gets its PUBACK, and the gateway its acknowledgement, after the message is durable here. With an
    `opener` only what was sealed for us by an authentic gateway is taken; everything else is set aside.
    """

    def __init__(
        self, access: Access, store: Path, clock: Clock, *, jsonl: bool = False, opener: Opener | None = None
    ) -> None:
        self._access = access
        self._path = store
        self._clock = clock
        self._jsonl = jsonl
        self._opener = opener
        self._asked: dict[str, float] = {}
        self.counters = ReceiverCounters()

    async def run(self) -> None:
        """Receive until cancelled, reconnecting with back-off."""
        store = Store(self._path)
        last_error = ""
        try:
            with ThreadPoolExecutor(1, "receiver store") as thread:
                self._learn_again(store)
                if self._jsonl:
                    await self._in(thread, self._print, store)
                while True:
                    try:
                        async with open_session(self._access, ("5", "3.1.1")) as (session, _):
                            for topic in TOPICS:
                                await session.subscribe(f"v1/+/+/{topic}")
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

    def _learn_again(self, store: Store) -> None:
        """Take in the announcements that were stored: a message may come before its key is announced anew."""
        if self._opener is not None:
            for topic, payload in store.announcements():
                try:
                    self._opener.learn(topic, payload)
                except BadSeal:  # for a key that we have no more
                    continue

    async def _serve(self, session: MqttSession, store: Store, thread: ThreadPoolExecutor) -> None:
        while True:
            group = await self._group(session)
            quarantined = store.counters.quarantined
            opened, refused = self._open(session, group, store)
            outcome = await self._in(thread, store.commit, opened, self._clock.now(), refused)
            for message in group:
                session.acknowledge(message)
            self._answer(session, outcome)
            if store.counters.quarantined > quarantined:
                log.error(say("{count} messages cannot be read and were set aside", count=store.counters.quarantined))
            if self._jsonl:
                await self._in(thread, self._print, store)

    def _open(
        self, session: MqttSession, group: Sequence[Received], store: Store
    ) -> tuple[list[Arrived], list[tuple[str, bytes, str]]]:
        """Return what may be stored, and what may not with the reason."""
        opened: list[Arrived] = []
        refused: list[tuple[str, bytes, str]] = []
        for message in group:
            topic, payload = message.topic, message.payload
            if not payload:  # somebody deleted what the broker retained
                continue
            try:
                if kind_of(topic) == "key":
                    if self._opener is not None:
                        self._opener.learn(topic, payload)
                        opened.append(Arrived(topic, payload))
                elif self._opener is None:
                    if is_sealed(payload):
                        raise BadSeal(say("sealed, and we have no key"), say("start `yulink receive` with --key"))
                    opened.append(Arrived(topic, payload))
                else:
                    plain = self._opener.open(topic, payload)
                    self.counters.opened += 1
                    self.counters.repeated += plain.repeated
                    opened.append(Arrived(topic, plain.plain, sealed=True))
            except UnknownKey:
                self._ask(session, gateway_of(topic))
            except BadSeal as error:
                self.counters.refused += 1
                refused.append((topic, payload, str(error)))
        return opened, refused

    def _answer(self, session: MqttSession, outcome: Outcome) -> None:
        for gateway, acknowledgement in outcome.acknowledgements:
            topic = f"v1/{gateway}/ack"
            payload: bytes | None = json.dumps(acknowledgement).encode()
            if self._opener is not None and payload is not None:
                payload = self._opener.seal_ack(gateway, topic, payload)
            if payload is not None:
                session.publish(topic, payload)
        for gateway in outcome.catalogues_needed:
            self._ask(session, gateway)

    def _ask(self, session: MqttSession, gateway: str) -> None:
        """Ask a gateway, at most once a second, to announce its key and catalogue again."""
        now = self._clock.monotonic()
        if gateway and now - self._asked.get(gateway, -1e9) >= 1.0:
            self._asked[gateway] = now
            session.publish(f"v1/{gateway}/cmd/announce", b"")

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
