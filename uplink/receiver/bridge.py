"""`yulink bridge`: from the MQTT broker into the stream. Any number run beside each other and share the messages.

It holds no key and opens nothing. The broker gets its PUBACK after the replicas of the stream have the message; whoever
dies before that, the broker still has it.
"""

import asyncio
import logging
import random

from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.api import Header

from edge.core.clock import Clock
from edge.core.errors import Disconnected
from edge.core.language import say
from uplink.receiver.service import TOPICS, group_of
from uplink.receiver.stream import (
    ERRORS,
    REPEATED,
    TOPIC_HEADER,
    StreamAccess,
    identity_of,
    open_stream,
    subject_of,
    words_of,
)
from uplink.session import Access, MqttSession, Received, open_session

GROUP = "$share/yulink-bridge"
PUBLISH_DEADLINE_S = 5.0
RETRY_S = 0.2

log = logging.getLogger("yulink.bridge")


class Bridge:
    """One worker. `run` is its one task. `access` is a lasting session with an id of its own and manual PUBACKs."""

    def __init__(self, access: Access, stream: StreamAccess, clock: Clock) -> None:
        self._access = access
        self._stream = stream
        self._clock = clock
        self._is_refused = False
        self.bridged = 0
        self.repeated = 0

    async def run(self) -> None:
        """Carry messages until cancelled, reconnecting with back-off to either side."""
        last_error = ""
        while True:
            try:
                async with (
                    open_stream(self._stream) as (client, stream),
                    open_session(self._access, ("5",)) as (session, _),
                ):
                    for topic in TOPICS:
                        await session.subscribe(f"{GROUP}/v1/+/+/{topic}")
                    log.info(say("bridging from {url}", url=self._access.url))
                    last_error = ""
                    while True:
                        await self._carry(await group_of(session), session, client, stream)
            except Disconnected as error:
                if str(error) != last_error:
                    log.warning(say("bridge: {error}", error=error))
                last_error = str(error)
            await self._clock.sleep(random.uniform(0.05, 1.0))

    async def _carry(
        self, group: list[Received], session: MqttSession, client: Client, stream: JetStreamContext
    ) -> None:
        async with asyncio.TaskGroup() as tasks:
            for message in group:
                if message.payload:
                    tasks.create_task(self._put(message, client, stream), name="bridge puts")
        for message in group:  # in the order in which they came, as MQTT wants it
            session.acknowledge(message)

    async def _put(self, message: Received, client: Client, stream: JetStreamContext) -> None:
        """Publish until the stream has it. While it cannot take it, the broker keeps what comes behind."""
        identity = identity_of(message.topic, message.payload)
        headers = {Header.MSG_ID.value: identity, TOPIC_HEADER: message.topic}
        while True:
            try:
                taken = await stream.publish(
                    subject_of(message.topic), message.payload, timeout=PUBLISH_DEADLINE_S, headers=headers
                )
                break
            except ERRORS as error:
                if not self._is_refused:
                    self._is_refused = True
                    log.warning(say("the stream does not take messages: {error}; trying again", error=words_of(error)))
                await self._clock.sleep(RETRY_S)
        if self._is_refused:
            self._is_refused = False
            log.info(say("the stream takes messages again"))
        self.bridged += 1
        if taken.duplicate:
            self.repeated += 1
            await client.publish(REPEATED, identity.encode())
