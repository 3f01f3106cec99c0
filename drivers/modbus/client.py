"""The one place that knows pymodbus. It changes its interface in minor releases, so it stays behind this adapter.

Retries and reconnection of the library are off: the supervisor owns both. Each request runs in a task of its own
under our own deadline, because the library has swallowed cancellation.
"""

import asyncio
import logging
from typing import Any

from pymodbus.client import AsyncModbusSerialClient, AsyncModbusTcpClient
from pymodbus.exceptions import ModbusException
from pymodbus.framer import FramerType
from pymodbus.pdu import ExceptionResponse, ModbusPDU
from pymodbus.pdu.bit_message import (
    ReadCoilsRequest,
    ReadCoilsResponse,
    ReadDiscreteInputsRequest,
    ReadDiscreteInputsResponse,
)
from pymodbus.pdu.register_message import (
    ReadHoldingRegistersRequest,
    ReadHoldingRegistersResponse,
    ReadInputRegistersRequest,
    ReadInputRegistersResponse,
)

from drivers.modbus.plan import Request
from drivers.modbus.section import Endpoint
from edge.core.errors import Disconnected
from edge.core.language import say
from edge.core.quality import StatusCode

logging.getLogger("pymodbus.logging").setLevel(logging.CRITICAL)

EXCEPTIONS: dict[int, StatusCode] = {
    1: StatusCode.BAD_NOT_SUPPORTED,  # illegal function
    2: StatusCode.BAD_CONFIGURATION_ERROR,  # illegal data address
    3: StatusCode.BAD_OUT_OF_RANGE,  # illegal data value: mostly too many registers
    4: StatusCode.BAD_DEVICE_FAILURE,  # server device failure
    5: StatusCode.BAD_WAITING_FOR_INITIAL_DATA,  # acknowledge: the device needs time
    6: StatusCode.BAD_RESOURCE_UNAVAILABLE,  # server device busy
    8: StatusCode.BAD_DEVICE_FAILURE,  # memory parity error
    10: StatusCode.BAD_NO_COMMUNICATION,  # gateway path unavailable
    11: StatusCode.BAD_NO_COMMUNICATION,  # gateway target failed to respond
}
"""Modbus exception code (Application Protocol 1.1b3, 7) → OPC UA StatusCode; any other is BadCommunicationError."""


class BlockFailed(Exception):
    """One request failed and the connection is still good. `status` marks the values in it."""

    def __init__(self, status: StatusCode, text: str) -> None:
        super().__init__(text)
        self.status = status


def _raw(response: type[ModbusPDU]) -> type[ModbusPDU]:
    """Return the response type with a decoder that keeps the data bytes: ours decodes them by the plan."""

    class Raw(response):  # type: ignore[misc, valid-type]
        payload = b""

        def decode(self, data: bytes) -> None:
            self.payload = data[1 : 1 + data[0]] if data else b""

    return Raw


_RAW_RESPONSES = [
    _raw(response)
    for response in (
        ReadCoilsResponse,
        ReadDiscreteInputsResponse,
        ReadHoldingRegistersResponse,
        ReadInputRegistersResponse,
    )
]
_REQUESTS: dict[str, tuple[type[ModbusPDU], int]] = {
    "coil": (ReadCoilsRequest, 1),
    "discrete": (ReadDiscreteInputsRequest, 2),
    "holding": (ReadHoldingRegistersRequest, 3),
    "input": (ReadInputRegistersRequest, 4),
}


class Client:
    """One connection: a TCP socket or an open serial port. One request at a time; `Line` sees to that."""

    def __init__(self, endpoint: Endpoint, timeout_s: float) -> None:
        self._endpoint = endpoint
        common: dict[str, Any] = {"timeout": timeout_s, "retries": 0, "reconnect_delay": 0}
        if endpoint.transport == "serial":
            self._client: AsyncModbusSerialClient | AsyncModbusTcpClient = AsyncModbusSerialClient(
                endpoint.path,
                baudrate=endpoint.baud,
                bytesize=endpoint.bits,
                parity=endpoint.parity,
                stopbits=endpoint.stop_bits,  # type: ignore[arg-type]
                **common,
            )
        else:
            framer = FramerType.SOCKET if endpoint.transport == "tcp" else FramerType.RTU
            self._client = AsyncModbusTcpClient(endpoint.host, port=endpoint.port, framer=framer, **common)
        for response in _RAW_RESPONSES:
            self._client.register(response)

    async def open(self, deadline_s: float) -> None:
        """Connect once. Raises Disconnected with the reason; cancelling leaves nothing open."""
        connecting = asyncio.ensure_future(self._client.connect())
        try:
            await asyncio.wait([connecting], timeout=deadline_s)
        except BaseException:
            # A serial port whose opening is broken off stays open and locked: let it finish, which is quick.
            await asyncio.wait([connecting], timeout=1 if self._endpoint.transport == "serial" else 0)
            connecting.cancel()
            await asyncio.wait([connecting], timeout=1)
            self.close()
            raise
        if not connecting.done():
            connecting.cancel()
            await asyncio.wait([connecting], timeout=1)
        connected, reason = False, ""
        if connecting.done() and not connecting.cancelled():
            if (error := connecting.exception()) is None:
                connected = bool(connecting.result())
            elif isinstance(error, OSError | ModbusException):
                reason = str(error)
            else:
                raise error
        if not connected:
            self.close()
            raise self._unreachable(reason)

    def _unreachable(self, reason: str) -> Disconnected:
        if self._endpoint.transport == "serial":
            return Disconnected(
                say("the serial port {path} cannot be opened", path=self._endpoint.path),
                say("is it plugged in, free, and may you use it? sudo usermod -aG dialout $USER, then log in again"),
            )
        address = f"{self._endpoint.host}:{self._endpoint.port}"
        return Disconnected(
            say("{address} does not answer", address=address), reason or say("check address, cable, power and firewall")
        )

    @property
    def connected(self) -> bool:
        """Tell whether the connection stands."""
        return bool(self._client.connected)

    def close(self) -> None:
        """Close at once."""
        self._client.close()

    async def read(self, unit: int, request: Request, timeout_s: float) -> bytes:
        """Return the data bytes of the answer, exactly `request.payload_bytes` of them.

        Cancelling abandons the request; the caller must then close or drain the line.

        Raises:
            BlockFailed: the device refused with an exception, or answered something else than was asked.
            TimeoutError: no valid answer in time.
            Disconnected: the connection is gone.
        """
        make, function = _REQUESTS[request.table]
        pdu = make(address=request.address, count=request.count, dev_id=unit)
        asking = asyncio.ensure_future(self._client.execute(False, pdu))
        try:
            await asyncio.wait([asking], timeout=timeout_s)
        finally:
            asking.cancel()
            await asyncio.wait([asking], timeout=1)
        if asking.cancelled() or not asking.done():
            raise TimeoutError
        if (error := asking.exception()) is not None:
            if not self.connected:
                raise Disconnected(say("the connection was cut")) from error
            if isinstance(error, ModbusException):
                raise TimeoutError from error
            raise error
        return self._payload(asking.result(), request, function)

    @staticmethod
    def _payload(response: Any, request: Request, function: int) -> bytes:
        where = f"{request.table}/{request.address}+{request.count}"
        if isinstance(response, ExceptionResponse):
            code = int(response.exception_code)
            status = EXCEPTIONS.get(code, StatusCode.BAD_COMMUNICATION_ERROR)
            raise BlockFailed(status, say("{where}: exception {code}", where=where, code=code))
        if response.function_code != function or len(response.payload) != request.payload_bytes:
            raise BlockFailed(
                StatusCode.BAD_COMMUNICATION_ERROR, say("{where}: the answer is not to this request", where=where)
            )
        return bytes(response.payload)
