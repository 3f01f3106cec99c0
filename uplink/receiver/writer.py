"""`yulink write`: from the stream into PostgreSQL, and the acknowledgement back to the gateway. Any number run at once.

The stream is told that a message is done after the database has committed it. Whoever dies in between leaves it in the
stream; the next one finds it in the database already and only acknowledges.
"""

import logging
import random
from collections.abc import Sequence
from contextlib import suppress

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext

from edge.core.clock import Clock
from edge.core.errors import Disconnected
from edge.core.language import say
from uplink.receiver.postgres import PostgresStore
from uplink.receiver.reception import Reception
from uplink.receiver.stream import CONSUMER, ERRORS, REPEATED, STREAM, TOPIC_HEADER, StreamAccess, epoch_of, open_stream
from uplink.seal import Opener
from uplink.session import Access, MqttSession, open_session

GROUP_MAX = 500
FETCH_S = 0.5
GATHER_S = 0.02
AGAIN_S = 1.0
DELIVERIES_MAX = 60
REPEATED_MAX = 10_000

log = logging.getLogger("yulink.writer")


class Writer:
    """One worker. `run` is its one task. `store` is shared with the other writers."""

    def __init__(
        self, access: Access, stream: StreamAccess, store: PostgresStore, clock: Clock, opener: Opener | None
    ) -> None:
        self._access = access
        self._stream = stream
        self._store = store
        self._clock = clock
        self._reception = Reception(store, clock, opener)
        self._repeated: set[tuple[str, int]] = set()

    async def run(self) -> None:
        """Write until cancelled, reconnecting with back-off.

        Raises:
            YulinkError: the database cannot be used.
        """
        last_error = ""
        try:
            while True:
                try:
                    await self._store.open()
                    async with (
                        open_stream(self._stream) as (client, stream),
                        open_session(self._access, ("5", "3.1.1")) as (session, _),
                    ):
                        log.info(say("writing from the stream {name}", name=STREAM))
                        last_error = ""
                        await self._serve(client, stream, session)
                except (Disconnected, *ERRORS) as error:
                    if str(error) != last_error:
                        log.warning(say("writer: {error}", error=error))
                    last_error = str(error)
                await self._clock.sleep(random.uniform(0.05, 1.0))
        finally:
            await self._store.close()

    async def _serve(self, client: Client, stream: JetStreamContext, session: MqttSession) -> None:
        await client.subscribe(REPEATED, queue=CONSUMER, cb=self._note_repeat)
        messages = await stream.pull_subscribe_bind(durable=CONSUMER, stream=STREAM)
        while not session.lost.done():
            group: list[Msg] = []
            with suppress(*ERRORS):  # nothing there, or no leader just now
                group += await messages.fetch(1, timeout=FETCH_S)
                group += await messages.fetch(GROUP_MAX - 1, timeout=GATHER_S)
            if group:
                await self._write(group, session)
            if self._repeated:
                epochs, self._repeated = self._repeated, set()
                for topic, payload in await self._reception.replies(await self._store.acknowledgements(epochs)):
                    session.publish(topic, payload)
        raise Disconnected(say("the connection was lost: {reason}", reason=session.lost.result()))

    async def _note_repeat(self, message: Msg) -> None:
        epoch = epoch_of(message.data.decode())
        if epoch is not None and len(self._repeated) < REPEATED_MAX:
            self._repeated.add(epoch)

    async def _write(self, group: Sequence[Msg], session: MqttSession) -> None:
        try:
            taken = await self._reception.take(
                [((each.headers or {}).get(TOPIC_HEADER, ""), each.data) for each in group]
            )
        except BaseException:
            with suppress(*ERRORS):
                for each in group:
                    await each.nak(delay=AGAIN_S)
            raise
        for place, each in enumerate(group):
            if place not in taken.left:
                await each.ack()
            elif each.metadata.num_delivered < DELIVERIES_MAX:
                await each.nak(delay=AGAIN_S)
            else:  # its key is lost for good; the gateway seals again what is not acknowledged
                await each.term()
        for topic, payload in taken.replies:
            session.publish(topic, payload)
