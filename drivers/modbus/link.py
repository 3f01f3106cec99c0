"""What carries bytes to a device: a TCP connection, plain or with TLS, or a serial port."""

import asyncio
import contextlib
import os
import ssl
import termios
from typing import Protocol

import serial

from drivers.modbus.endpoint import Endpoint
from drivers.modbus.serial_port import open_port
from edge.core.errors import Disconnected
from edge.core.language import say

RECEIVED_BYTES_MAX = 4096


class Link(Protocol):
    """An open way to a device or a bus. `received` grows by itself; whoever understands the bytes removes them."""

    received: bytearray

    @property
    def is_lost(self) -> bool:
        """Tell whether the other end, or the adapter, is gone."""

    def write(self, data: bytes) -> None:
        """Send. Raises Disconnected when the link is lost."""

    async def wait_more(self, until: float) -> None:
        """Wait until more is received, the link is lost, or the loop's time is `until`. Cancelling is safe."""

    def close(self) -> None:
        """Close at once, without waiting; closing twice is fine."""


class _Receiving:
    """The part of a link that takes bytes in.

    Its timer stays armed when an answer comes in time, and looks for the next deadline when it rings: a device that is
    polled often costs no timer a request.
    """

    def __init__(self) -> None:
        self.received = bytearray()
        self.is_lost = False
        self._waiter: asyncio.Future[None] | None = None
        self._until = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def _take(self, data: bytes) -> None:
        self.received += data
        if (surplus := len(self.received) - RECEIVED_BYTES_MAX) > 0:
            del self.received[:surplus]  # nobody asked for so much: it is noise
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _lose(self) -> None:
        self.is_lost = True
        if self._timer is not None:
            self._timer.cancel()
        self._wake()

    async def wait_more(self, until: float) -> None:
        if self.is_lost:
            return
        self._waiter = asyncio.get_running_loop().create_future()
        self._until = until
        if self._timer is None or self._timer.when() > until:
            self._arm()
        await self._waiter

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(self._until, self._ring)

    def _ring(self) -> None:
        self._timer = None
        if self._waiter is None or self._waiter.done():
            return
        if asyncio.get_running_loop().time() < self._until:
            self._arm()
        else:
            self._wake()


class TcpLink(_Receiving, asyncio.Protocol):
    """A TCP connection, ours or one that a modem opened."""

    _transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._take(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._lose()

    def write(self, data: bytes) -> None:
        if self.is_lost:
            raise Disconnected(say("the connection was cut"))
        self._transport.write(data)

    def close(self) -> None:
        self._lose()
        self._transport.abort()


class SerialLink(_Receiving):
    """An open serial port, read by the event loop: no thread, no polling."""

    def __init__(self, port: serial.Serial) -> None:
        super().__init__()
        self._port = port
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(port.fileno(), self._ready)

    def _ready(self) -> None:
        try:
            data = os.read(self._port.fileno(), RECEIVED_BYTES_MAX)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self._take(data)
        else:  # an adapter that was pulled out is readable for ever, and empty
            self._loop.remove_reader(self._port.fileno())
            self._lose()

    def write(self, data: bytes) -> None:
        try:
            sent = 0 if self.is_lost else os.write(self._port.fileno(), data)
        except OSError:
            sent = 0
        if sent != len(data):
            raise Disconnected(
                say("the serial port {path} is gone", path=self._port.name), say("is the adapter plugged in?")
            )

    def close(self) -> None:
        if self._port.is_open:
            self._loop.remove_reader(self._port.fileno())
            with contextlib.suppress(OSError, serial.SerialException, termios.error):
                self._port.reset_output_buffer()  # closing would wait for what a dead line never takes
            self._port.close()
        self._lose()


async def open_link(endpoint: Endpoint, timeout_s: float, tls: ssl.SSLContext | None, server_name: str | None) -> Link:
    """Open a connection or a serial port once. Cancelling leaves nothing open.

    Raises:
        Disconnected: with the reason and what mends it.
    """
    if endpoint.transport == "serial":
        return SerialLink(open_port(endpoint))
    hint = say("check address, cable, power and firewall")
    try:
        async with asyncio.timeout(timeout_s):
            _, link = await asyncio.get_running_loop().create_connection(
                TcpLink, endpoint.host, endpoint.port, ssl=tls, server_hostname=server_name if tls else None
            )
            return link
    except ssl.SSLCertVerificationError as error:
        reason = error.verify_message or error.reason or str(error)
        message = say("{address}: its certificate is refused: {reason}", address=endpoint.address, reason=reason)
        raise Disconnected(
            message, say("compare `tls.ca` and `tls.server_name` with the device's certificate")
        ) from error
    except ssl.SSLError as error:
        message = say("{address}: no TLS: {reason}", address=endpoint.address, reason=error.reason or error)
        raise Disconnected(
            message, say("is it a Modbus/TCP Security port, and does it know our certificate?")
        ) from error
    except TimeoutError as error:
        raise Disconnected(say("{address} does not answer", address=endpoint.address), hint) from error
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
        message = say("{address} cannot be reached: {reason}", address=endpoint.address, reason=reason)
        raise Disconnected(message, hint) from error
