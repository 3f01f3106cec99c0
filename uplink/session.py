"""The one place that knows paho-mqtt: a connection to a broker as an asyncio object.

paho runs its network loop in a thread of its own; everything it reports is handed over to the event loop. It never
reconnects by itself: whoever opened the session does.
"""

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edge.core.errors import Disconnected
from edge.core.language import say
from uplink.section import parse_url

CONNECT_DEADLINE_S = 10.0
RECEIVED_MAX = 1000
SESSION_EXPIRY_S = 7 * 86400
NO_MATCHING_SUBSCRIBERS = 0x10
_UNSUPPORTED_VERSION = 0x84

Version = Literal["5", "3.1.1"]


@dataclass(frozen=True, slots=True)
class Will:
    """What the broker publishes with QoS 1 when the connection is lost."""

    topic: str
    payload: bytes
    retain: bool = False


@dataclass(frozen=True, slots=True)
class Access:
    """How a broker is reached. Certificate and name of the broker are always verified."""

    url: str
    ca: Path | None = None
    identity: Path | None = None
    client_id: str = ""
    keepalive_s: int = 15
    clean_start: bool = True
    manual_ack: bool = False
    window: int = 20
    will: Will | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """What the live connection is, read from its socket and from the broker's answer."""

    protocol: str
    tls: str
    cipher: str
    receive_max: int
    packet_bytes_max: int


@dataclass(frozen=True, slots=True)
class Received:
    """A message that arrived; `mid` is what `acknowledge` wants."""

    topic: str
    payload: bytes
    mid: int


class MqttSession:
    """A connected session. Get it from `open_session`. Used by tasks of one event loop."""

    def __init__(self, access: Access, version: Version) -> None:
        parsed = parse_url(access.url)
        assert parsed is not None
        self._host, self._port, self._tls = parsed
        self._access = access
        self._loop = asyncio.get_running_loop()
        self._connected: asyncio.Future[tuple[int, str, Any]] = self._loop.create_future()
        self._pubacks: dict[int, asyncio.Future[int]] = {}
        self._early_pubacks: dict[int, int] = {}
        self._subscribed: dict[int, asyncio.Future[list[int]]] = {}
        self._unsubscribed: dict[int, asyncio.Future[None]] = {}
        self.received: asyncio.Queue[Received] = asyncio.Queue(RECEIVED_MAX)
        self.lost: asyncio.Future[str] = self._loop.create_future()
        """Done, with the reason, when the connection is gone."""
        self._version = version
        protocol = MQTTProtocolVersion.MQTTv5 if version == "5" else MQTTProtocolVersion.MQTTv311
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=access.client_id,
            protocol=protocol,
            clean_session=None if version == "5" else access.clean_start,
            reconnect_on_failure=False,
            manual_ack=access.manual_ack,
        )
        self._client.connect_timeout = CONNECT_DEADLINE_S
        self._client.max_inflight_messages_set(100)
        self._context = _tls_context(access) if self._tls else None
        if self._context is not None:
            self._client.tls_set_context(self._context)
        if access.will is not None:
            self._client.will_set(access.will.topic, access.will.payload, qos=1, retain=access.will.retain)
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_publish = self._on_publish
        self._client.on_subscribe = self._on_subscribe
        self._client.on_unsubscribe = self._on_unsubscribe
        self._client.on_message = self._on_message

    # paho calls these in its thread; each hands its facts over.

    def _on_connect(self, client: Any, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        self._tell(self._set, self._connected, (int(reason.value), str(reason), properties))

    def _on_disconnect(self, client: Any, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        self._tell(self._set, self.lost, str(reason))

    def _on_publish(self, client: Any, data: Any, mid: int, reason: Any, properties: Any) -> None:
        self._tell(self._puback, mid, int(reason.value))

    def _on_subscribe(self, client: Any, data: Any, mid: int, reasons: Any, properties: Any) -> None:
        self._tell(self._suback, mid, [int(reason.value) for reason in reasons])

    def _on_unsubscribe(self, client: Any, data: Any, mid: int, reasons: Any, properties: Any) -> None:
        self._tell(self._unsuback, mid)

    def _on_message(self, client: Any, data: Any, message: Any) -> None:
        self._tell(self._arrived, Received(message.topic, message.payload, message.mid))

    def _tell(self, function: Any, *arguments: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the event loop is closed: nobody listens any more
            self._loop.call_soon_threadsafe(function, *arguments)

    @staticmethod
    def _set(future: "asyncio.Future[Any]", value: Any) -> None:
        if not future.done():
            future.set_result(value)

    def _puback(self, mid: int, reason: int) -> None:
        if future := self._pubacks.pop(mid, None):
            self._set(future, reason)
        else:
            self._early_pubacks[mid] = reason

    def _suback(self, mid: int, reasons: list[int]) -> None:
        self._set(self._subscribed.setdefault(mid, self._loop.create_future()), reasons)

    def _unsuback(self, mid: int) -> None:
        self._set(self._unsubscribed.setdefault(mid, self._loop.create_future()), None)

    def _arrived(self, message: Received) -> None:
        try:
            self.received.put_nowait(message)
        except asyncio.QueueFull:
            self._set(self.lost, "more messages arrived than are taken")

    async def connect(self) -> Facts:
        """Connect and wait for the broker's CONNACK: with TLS 1.3 only that proves that our certificate was accepted.

        Raises:
            Disconnected: refused or unreachable, with the reason.
        """
        properties = None
        if self._version == "5" and not self._access.clean_start:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.SessionExpiryInterval = SESSION_EXPIRY_S
        clean = {"clean_start": self._access.clean_start} if self._version == "5" else {}
        opening = asyncio.create_task(
            asyncio.to_thread(
                self._client.connect,
                self._host,
                self._port,
                self._access.keepalive_s,
                properties=properties,
                **clean,  # type: ignore[arg-type]
            )
        )
        try:
            await asyncio.shield(opening)
        except asyncio.CancelledError:
            await asyncio.wait([opening], timeout=CONNECT_DEADLINE_S + 1)
            raise
        except (OSError, ValueError) as error:
            raise Disconnected(_words(error, self._host, self._port), _hint(error)) from error
        self._client.loop_start()
        waiting: set[asyncio.Future[Any]] = {self._connected, self.lost}
        await asyncio.wait(waiting, timeout=CONNECT_DEADLINE_S, return_when=asyncio.FIRST_COMPLETED)
        if not self._connected.done():
            reason = self.lost.result() if self.lost.done() else say("no answer")
            raise RefusedSession(
                say("the broker ended the connection: {reason}", reason=reason),
                say("does it know our certificate, and we its authority?"),
            )
        code, words, answer = self._connected.result()
        if code:
            unsupported = code in (_UNSUPPORTED_VERSION, 1)
            make = RefusedSession if unsupported else Disconnected
            raise make(say("the broker refused: {reason}", reason=words), say("check identity and access rules"))
        return self._facts(answer)

    def _facts(self, answer: Any) -> Facts:
        sock = self._client.socket()
        tls, cipher = "none", ""
        if isinstance(sock, ssl.SSLSocket):
            tls, cipher = sock.version() or "none", (sock.cipher() or ("",))[0]
        return Facts(
            protocol=f"MQTT {self._version}",
            tls=tls,
            cipher=cipher,
            receive_max=getattr(answer, "ReceiveMaximum", 65_535) if answer else 65_535,
            packet_bytes_max=getattr(answer, "MaximumPacketSize", 256 << 20) if answer else 256 << 20,
        )

    async def subscribe(self, topic: str) -> None:
        """Subscribe with QoS 1. Raises Disconnected when the broker refuses it or is gone."""
        _, mid = self._client.subscribe(topic, qos=1)
        granted = self._subscribed.setdefault(mid or 0, self._loop.create_future())
        answered: set[asyncio.Future[Any]] = {granted, self.lost}
        await asyncio.wait(answered, timeout=CONNECT_DEADLINE_S, return_when=asyncio.FIRST_COMPLETED)
        if not granted.done() or any(code >= 0x80 for code in granted.result()):
            raise Disconnected(
                say("the broker refuses the subscription to {topic}", topic=topic), say("check the access rules")
            )
        self._subscribed.pop(mid or 0, None)

    def publish(self, topic: str, payload: bytes, *, retain: bool = False, qos: int = 1) -> "asyncio.Future[int]":
        """Send and return a future of the PUBACK's reason code (0 in MQTT 3.1.1); with QoS 0, of having been sent."""
        info = self._client.publish(topic, payload, qos=qos, retain=retain)
        future: asyncio.Future[int] = self._loop.create_future()
        if info.mid in self._early_pubacks:
            future.set_result(self._early_pubacks.pop(info.mid))
        else:
            self._pubacks[info.mid] = future
        return future

    async def unsubscribe(self, topic: str, deadline_s: float = CONNECT_DEADLINE_S) -> None:
        """End a subscription, or ask for the answer alone: it says that the broker has seen all that was sent before.

        Raises:
            Disconnected: no answer in time, or the connection is gone.
        """
        _, mid = self._client.unsubscribe(topic)
        done = self._unsubscribed.setdefault(mid or 0, self._loop.create_future())
        answered: set[asyncio.Future[Any]] = {done, self.lost}
        await asyncio.wait(answered, timeout=deadline_s, return_when=asyncio.FIRST_COMPLETED)
        self._unsubscribed.pop(mid or 0, None)
        if self.lost.done() and not done.done():
            raise Disconnected(say("the connection was lost: {reason}", reason=self.lost.result()))
        if not done.done():
            raise Disconnected(
                say("the broker does not acknowledge"), say("is the link dead or the broker overloaded?")
            )

    def acknowledge(self, message: Received) -> None:
        """Send the PUBACK of a message that arrived, where acknowledging is manual."""
        self._client.ack(message.mid, 1)

    def wire_bytes(self) -> int:
        """Return the bytes the broker's TCP has acknowledged on this connection, TLS included; 0 where unknown."""
        sock = self._client.socket()
        if not isinstance(sock, socket.socket) or not hasattr(socket, "TCP_INFO"):
            return 0
        with contextlib.suppress(OSError, struct.error):
            info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 136)
            return int(struct.unpack_from("=Q", info, 120)[0])
        return 0

    async def close(self) -> None:
        """Disconnect and end paho's thread, within about a second."""
        self._client.disconnect()
        await asyncio.to_thread(self._client.loop_stop)
        if self._context is not None and self._context.last is not None:
            self._context.last.close()
        # Session and client hold each other; without that both end here, and with them the client's own sockets.
        self._client.on_connect = self._client.on_disconnect = self._client.on_publish = None
        self._client.on_subscribe = self._client.on_unsubscribe = self._client.on_message = None
        open_futures: list[asyncio.Future[Any]] = [
            *self._pubacks.values(),
            *self._subscribed.values(),
            *self._unsubscribed.values(),
        ]
        for future in (*open_futures, self.lost, self._connected):
            future.cancel()


class RefusedSession(Disconnected):
    """The broker did not accept the session; another protocol version may do."""


class _Context(ssl.SSLContext):
    """A client's context that can close the socket it wrapped last: paho leaves it open when a handshake fails."""

    last: ssl.SSLSocket | None = None

    def wrap_socket(self, *arguments: Any, **named: Any) -> ssl.SSLSocket:
        self.last = super().wrap_socket(*arguments, **named)
        return self.last


def _tls_context(access: Access) -> _Context:
    context = _Context(ssl.PROTOCOL_TLS_CLIENT)  # verifies certificate and name
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if access.ca is None:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    else:
        context.load_verify_locations(access.ca)
    if access.identity is not None:
        context.load_cert_chain(access.identity)
    return context


def _words(error: Exception, host: str, port: int) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return say("the broker's certificate is not accepted: {reason}", reason=error.verify_message)
    return say("the broker {host}:{port} cannot be reached: {error}", host=host, port=port, error=error)


def _hint(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return say("check `ca`, the name in `mqtt`, the certificate's dates and this machine's clock")
    return say("check address, firewall and whether the broker runs")


@asynccontextmanager
async def open_session(access: Access, versions: tuple[Version, ...]) -> AsyncIterator[tuple[MqttSession, Facts]]:
    """Connect with the first of the versions that the broker accepts; close when the block ends.

    Raises:
        Disconnected: none was accepted, or the broker cannot be reached.
    """
    for version in versions:
        try:
            session = MqttSession(access, version)
        except (OSError, ssl.SSLError) as error:
            raise Disconnected(
                say("certificate files cannot be used: {error}", error=error), say("check `ca` and `identity`")
            ) from error
        try:
            try:
                facts = await session.connect()
            except RefusedSession:
                if version != versions[-1]:
                    continue
                raise
            yield session, facts
            return
        finally:
            await session.close()
