"""The one place that knows pymodbus: it builds requests and takes frames apart. What is an answer is judged here.

The library changes its interface in minor releases, its client has swallowed cancellation, and its receiver gives up a
whole buffer for one wrong byte. So only its frames and messages are used, which neither wait nor keep state; bytes are
carried by `drivers.modbus.link`. An answer is accepted only when transaction (where there is one), unit, function and
length are those of the request.
"""

import random
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

from pymodbus.framer.rtu import FramerRTU
from pymodbus.framer.socket import FramerSocket
from pymodbus.pdu import DecodePDU, ModbusPDU
from pymodbus.pdu.bit_message import ReadCoilsRequest, ReadDiscreteInputsRequest
from pymodbus.pdu.register_message import ReadHoldingRegistersRequest, ReadInputRegistersRequest

from drivers.modbus.plan import Request
from edge.core.language import say

_REQUESTS: dict[str, type[ModbusPDU]] = {
    "coil": ReadCoilsRequest,
    "discrete": ReadDiscreteInputsRequest,
    "holding": ReadHoldingRegistersRequest,
    "input": ReadInputRegistersRequest,
}
_MBAP_LENGTHS = range(3, 255)
EXCEPTION = 0x80


class WrongAnswer(Exception):
    """What came is not an answer to the request. The connection is still good."""


class OutOfStep(WrongAnswer):
    """Where frames begin is not known any more: the connection must be made anew."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Data bytes of an answer, or the exception code with which the device refused (0: it did not)."""

    payload: bytes
    exception: int = 0


class Framing(Protocol):
    """Builds one request at a time and finds its answer in what is received."""

    strays: int
    """Frames and pieces that belonged to no request and were dropped."""

    def request(self, unit: int, request: Request) -> bytes:
        """Return the frame to send. What was asked before is forgotten: its answer is a stray from now on."""

    def take(self, received: bytearray) -> Answer | None:
        """Return the answer and remove it and all before it; None while it is not complete.

        Raises:
            WrongAnswer: it will not come any more.
        """

    def drop(self, received: bytearray) -> None:
        """Remove what is left over from before a request, as far as frames are known by themselves."""


@dataclass(slots=True)
class _Asked:
    unit: int
    function: int
    payload_bytes: int
    transaction: int = 0

    def judge(self, unit: int, pdu: bytes) -> Answer:
        """Return the answer in a frame that claims to be one."""
        if unit != self.unit:
            raise WrongAnswer(say("unit {other} answered for unit {unit}", other=unit, unit=self.unit))
        if len(pdu) == 2 and pdu[0] == self.function | EXCEPTION:
            return Answer(b"", pdu[1])
        if pdu[0] != self.function:
            raise WrongAnswer(
                say("function {other} was answered to function {function}", other=pdu[0], function=self.function)
            )
        if len(pdu) != 2 + self.payload_bytes or pdu[1] != self.payload_bytes:
            raise WrongAnswer(
                say("{count} bytes were answered, {asked} asked for", count=len(pdu) - 2, asked=self.payload_bytes)
            )
        return Answer(pdu[2:])


class TcpFraming:
    """MBAP frames (Messaging on TCP/IP 1.0b, 3.1.3): a late answer is known by its transaction id."""

    def __init__(self) -> None:
        self.strays = 0
        self._framer = FramerSocket(DecodePDU(False))
        self._transaction = random.randrange(0xFFFF)  # a new connection does not begin where the last one did
        self._asked = _Asked(0, 0, 0)

    def request(self, unit: int, request: Request) -> bytes:
        self._transaction = self._transaction % 0xFFFF + 1
        frame = _tcp_frame(unit, request)
        self._asked = _Asked(unit, frame[7], request.payload_bytes, self._transaction)
        return self._transaction.to_bytes(2, "big") + frame[2:]

    def take(self, received: bytearray) -> Answer | None:
        while len(received) >= 6:
            length = int.from_bytes(received[4:6], "big")
            if received[2:4] != b"\0\0" or length not in _MBAP_LENGTHS:
                raise OutOfStep(say("what came is no Modbus TCP frame: {bytes}", bytes=bytes(received[:8]).hex(" ")))
            if len(received) < 6 + length:
                return None
            frame = bytes(received[: 6 + length])
            del received[: 6 + length]
            _, unit, transaction, pdu = self._framer.decode(frame)
            if transaction == self._asked.transaction:
                self._asked.transaction = -1  # answered, whatever was in it: a second answer is a stray
                return self._asked.judge(unit, pdu)
            self.strays += 1
        return None

    def drop(self, received: bytearray) -> None:
        self._asked.transaction = -1
        try:
            self.take(received)
        except OutOfStep:
            return  # the next request finds it out


class RtuFraming:
    """RTU frames: nothing marks their beginning, so the one expected is looked for at every byte.

    A late answer of the same unit, function and length cannot be told from the right one: after a time-out the line
    leaves that unit alone until its answer is surely past.
    """

    def __init__(self) -> None:
        self.strays = 0
        self._framer = FramerRTU(DecodePDU(False))
        self._asked = _Asked(0, 0, 0)

    def request(self, unit: int, request: Request) -> bytes:
        frame = _rtu_frame(unit, request)
        self._asked = _Asked(unit, frame[1], request.payload_bytes)
        return frame

    def take(self, received: bytearray) -> Answer | None:
        asked = self._asked
        place = received.find(asked.unit)
        while 0 <= place <= len(received) - 5:
            function = received[place + 1]
            if function == asked.function and received[place + 2] == asked.payload_bytes:
                size = 5 + asked.payload_bytes
            else:
                size = 5 if function == asked.function | EXCEPTION else 0
            if size and len(received) >= place + size:
                _, unit, _, pdu = self._framer.decode(bytes(received[place : place + size]))
                if pdu:
                    self.strays += place > 0
                    del received[: place + size]
                    return asked.judge(unit, pdu)
            place = received.find(asked.unit, place + 1)
        return None

    def drop(self, received: bytearray) -> None:
        self.strays += bool(received)
        received.clear()


# The same is asked again and again: the frames of requests are kept, with 0 in the place of the transaction id.


@lru_cache(1024)
def _tcp_frame(unit: int, request: Request) -> bytes:
    return FramerSocket(DecodePDU(False)).buildFrame(_message(unit, request))


@lru_cache(1024)
def _rtu_frame(unit: int, request: Request) -> bytes:
    return FramerRTU(DecodePDU(False)).buildFrame(_message(unit, request))


def _message(unit: int, request: Request) -> ModbusPDU:
    return _REQUESTS[request.table](dev_id=unit, transaction_id=0, address=request.address, count=request.count)
