"""The stream between many bridges and many writers: NATS JetStream, replicated, each message in it once.

A message is published below `yulink.in.` by the remainder of its gateway's name, so that a stream can be split later
without touching gateways, bridges or writers. Its id is gateway/epoch/seq, which the stream does not take twice within
two minutes; its topic travels as a header, its payload as it came, sealed.
"""

import asyncio
import ssl
import zlib
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import nats
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DiscardPolicy, RetentionPolicy, StorageType, StreamConfig
from nats.js.errors import NotFoundError

from edge.core.errors import Disconnected
from edge.core.language import say
from uplink.encode import BadMessage, decode
from uplink.receiver.message import gateway_of, kind_of
from uplink.seal import BadSeal, is_sealed, number_of

STREAM, CONSUMER = "YULINK", "writers"
SUBJECTS = "yulink.in.*"
REPEATED = "yulink.repeated"
"""Not kept: a gateway sent again what the stream holds already, so it may have missed its acknowledgement."""
TOPIC_HEADER = "Yulink-Topic"
PARTITIONS = 64
DUPLICATE_WINDOW_S = 120.0
ACK_WAIT_S = 10.0
PENDING_MAX = 20_000
CONNECT_DEADLINE_S = 5.0
CANCEL_AGAIN_S = 0.1

ERRORS = (nats.errors.Error, OSError, TimeoutError)
"""What using the stream may raise while it has no leader or no server is there."""


@dataclass(frozen=True, slots=True)
class StreamAccess:
    """How the stream's servers are reached."""

    servers: tuple[str, ...]
    ca: Path | None = None
    identity: Path | None = None
    replicas: int = 3


@asynccontextmanager
async def open_stream(access: StreamAccess) -> AsyncIterator[tuple[Client, JetStreamContext]]:
    """Connect to the first server that answers; the client changes over to another when that one is lost.

    Raises:
        Disconnected: none answers, or the stream cannot be made.
    """
    client = Client()
    try:
        await _within_deadline(
            client.connect(
                list(access.servers),
                tls=_tls_context(access),
                max_reconnect_attempts=-1,
                reconnect_time_wait=0.2,  # type: ignore[arg-type]
                error_cb=_ignore,
            )
        )
        stream = client.jetstream()
        await _ensure(stream, access.replicas)
    except ERRORS as error:
        await client.close()
        raise Disconnected(
            say(
                "the stream at {servers} cannot be used: {error}",
                servers=", ".join(access.servers),
                error=words_of(error),
            ),
            say("do all its servers run, and does --replicas fit their number?"),
        ) from error
    try:
        yield client, stream
    finally:
        await client.close()


async def _within_deadline(connect: Coroutine[Any, Any, None]) -> None:
    """Connect, or raise TimeoutError: by itself the client would try for ever, and say nothing.

    It has been seen to swallow a cancellation while servers refuse it, and to go on; so it is cancelled until it ends.
    """
    connecting = asyncio.create_task(connect, name="stream connects")
    try:
        await asyncio.wait([connecting], timeout=CONNECT_DEADLINE_S)
        if not connecting.done():
            raise TimeoutError
        await connecting
    finally:
        while not connecting.done():
            connecting.cancel()
            await asyncio.wait([connecting], timeout=CANCEL_AGAIN_S)


def words_of(error: Exception) -> str:
    """Return what an error says; many of this library's say nothing but their name."""
    return say("no answer") if isinstance(error, TimeoutError) else str(error) or type(error).__name__


async def _ignore(error: Exception) -> None:
    """The client reports each lost connection; what it means shows where the stream is used."""


async def _ensure(stream: JetStreamContext, replicas: int) -> None:
    """Make stream and consumer where there are none; what an operator has made otherwise stays."""
    try:
        await stream.stream_info(STREAM)
    except NotFoundError:
        await stream.add_stream(
            StreamConfig(
                name=STREAM,
                subjects=[SUBJECTS],
                retention=RetentionPolicy.WORK_QUEUE,  # a message goes when a writer has it in the database
                discard=DiscardPolicy.NEW,  # a full stream refuses: the gateways keep what it does not take
                storage=StorageType.FILE,
                num_replicas=replicas,
                duplicate_window=DUPLICATE_WINDOW_S,
            )
        )
    try:
        await stream.consumer_info(STREAM, CONSUMER)
    except NotFoundError:
        await stream.add_consumer(
            STREAM,
            ConsumerConfig(
                durable_name=CONSUMER, ack_policy=AckPolicy.EXPLICIT, ack_wait=ACK_WAIT_S, max_ack_pending=PENDING_MAX
            ),
        )


def subject_of(topic: str) -> str:
    """Return the subject of a gateway's messages."""
    return f"yulink.in.{zlib.crc32(gateway_of(topic).encode()) % PARTITIONS}"


def identity_of(topic: str, payload: bytes) -> str:
    """Return the message id: gateway/epoch/seq; of what has no number, a digest.

    A sealed message tells its number in the header that its seal protects. Who changes it on the way cannot hide a
    message longer than the stream remembers ids: the gateway sends again what is not acknowledged.
    """
    if kind_of(topic) not in ("key", "catalog", "health"):
        try:
            if is_sealed(payload):
                number = number_of(payload)
            else:
                message = decode(payload)
                number = (message.epoch, message.seq)
            if number is not None:
                return "{}/{}/{}".format(gateway_of(topic), *number)
        except (BadMessage, BadSeal):  # a writer will set it aside
            pass
    return sha256(topic.encode() + b"\0" + payload).hexdigest()


def epoch_of(identity: str) -> tuple[str, int] | None:
    """Return (gateway, epoch) of a message id; None of a digest."""
    gateway, _, number = identity.rpartition("/")[0].rpartition("/")
    return (gateway, int(number)) if gateway and number.isdecimal() else None


def _tls_context(access: StreamAccess) -> ssl.SSLContext | None:
    if access.ca is None:
        return None
    context = ssl.create_default_context(cafile=access.ca)
    if access.identity is not None:
        context.load_cert_chain(access.identity)
    return context
