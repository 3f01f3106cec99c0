"""One connection to a device or a bus, one request at a time. `Line` sees to the turns."""

import asyncio

from drivers.modbus.endpoint import Endpoint
from drivers.modbus.frame import Framing, OutOfStep, RtuFraming, TcpFraming, WrongAnswer
from drivers.modbus.link import Link
from drivers.modbus.plan import Request
from edge.core.clock import Clock
from edge.core.errors import Disconnected
from edge.core.language import say
from edge.core.quality import StatusCode

RTU_OVERHEAD_BYTES = 5

EXCEPTIONS: dict[int, StatusCode] = {
    1: StatusCode.BAD_NOT_SUPPORTED,  # illegal function
    2: StatusCode.BAD_CONFIGURATION_ERROR,  # illegal data address
    3: StatusCode.BAD_OUT_OF_RANGE,  # illegal data value: mostly too many registers
    4: StatusCode.BAD_DEVICE_FAILURE,  # server device failure
    5: StatusCode.BAD_WAITING_FOR_INITIAL_DATA,  # acknowledge: the device needs time
    6: StatusCode.BAD_RESOURCE_UNAVAILABLE,  # server device busy
    8: StatusCode.BAD_SENSOR_FAILURE,  # memory parity error
    10: StatusCode.BAD_NOT_CONNECTED,  # gateway path unavailable
    11: StatusCode.BAD_NO_COMMUNICATION,  # gateway target device failed to respond
}
"""Modbus exception code (Application Protocol 1.1b3, 7) → OPC UA StatusCode; any other is BadCommunicationError."""


UNANSWERED, WRONG = -1, -2
"""Stand for an exception code where a request is answered by silence, or by something else."""


def status_of(code: int) -> StatusCode:
    """Return the StatusCode of an exception code, or of `UNANSWERED`."""
    return StatusCode.BAD_TIMEOUT if code == UNANSWERED else EXCEPTIONS.get(code, StatusCode.BAD_COMMUNICATION_ERROR)


def reason_of(code: int) -> str:
    """Return in words why a register cannot be read."""
    match code:
        case _ if code == UNANSWERED:
            return say("no answer")
        case _ if code == WRONG:
            return say("the answer is to something else")
        case _:
            return say("exception {code}, {meaning}", code=code, meaning=meaning(code))


class BlockFailed(Exception):
    """One request failed and the connection is still good.

    status   marks the values in it
    code     the Modbus exception code, 0 when what came was no answer to the request
    """

    def __init__(self, status: StatusCode, text: str, code: int = 0) -> None:
        super().__init__(text)
        self.status = status
        self.code = code


class Client:
    """Sends requests over a link and waits for their answers."""

    def __init__(self, link: Link, endpoint: Endpoint, clock: Clock) -> None:
        self._link = link
        self._endpoint = endpoint
        self._clock = clock
        self._framing: Framing = TcpFraming() if endpoint.has_transactions else RtuFraming()
        self._silent_since = clock.monotonic()
        self._echoes: bool | None = None  # an RS-485 adapter that hears itself; known from the first answer on

    @property
    def is_open(self) -> bool:
        """Tell whether the connection stands."""
        return not self._link.is_lost

    @property
    def strays(self) -> int:
        """How many frames came that belonged to no request."""
        return self._framing.strays

    def close(self) -> None:
        """Close at once."""
        self._link.close()

    async def read(self, unit: int, request: Request, timeout_s: float) -> bytes:
        """Return the data bytes of the answer, exactly `request.payload_bytes` of them.

        An answer may take `timeout_s` to begin, and once more to be complete. Cancelling abandons the request; the
        caller must then leave the unit alone until its answer is past.

        Raises:
            BlockFailed: the device refused with an exception, or answered something else than was asked.
            TimeoutError: nothing came in time.
            Disconnected: the connection is gone, or out of step.
        """
        link, framing = self._link, self._framing
        framing.drop(link.received)
        frame = framing.request(unit, request)
        await self._keep_silence()
        link.write(frame)
        sending_s = len(frame) * self._endpoint.character_s
        arriving_s = (RTU_OVERHEAD_BYTES + request.payload_bytes) * self._endpoint.character_s
        loop = asyncio.get_running_loop()
        deadline = loop.time() + sending_s + timeout_s
        complete_by = deadline + arriving_s + timeout_s
        try:
            while True:
                await link.wait_more(deadline)
                if not self._is_echo(frame) and (answer := framing.take(link.received)) is not None:
                    break
                if link.is_lost:
                    raise Disconnected(say("the connection was cut"))
                if link.received:  # it has begun
                    deadline = complete_by
                if loop.time() >= deadline:
                    if link.received and not self._is_echo(frame, at_end=True):
                        raise WrongAnswer(say("what came is no answer: {bytes}", bytes=_shown(link.received)))
                    raise TimeoutError
        except OutOfStep as error:
            self.close()
            raise BlockFailed(StatusCode.BAD_COMMUNICATION_ERROR, _at(request, error)) from error
        except WrongAnswer as error:
            raise BlockFailed(StatusCode.BAD_COMMUNICATION_ERROR, _at(request, error)) from error
        finally:
            self._silent_since = self._clock.monotonic()
        if answer.exception:
            status = status_of(answer.exception)
            raise BlockFailed(status, _at(request, reason_of(answer.exception)), answer.exception)
        return answer.payload

    async def _keep_silence(self) -> None:
        """Leave the line silent for as long as marks the end of a frame."""
        if (left := self._silent_since + self._endpoint.silence_s - self._clock.monotonic()) > 0:
            await self._clock.sleep(left)

    def _is_echo(self, frame: bytes, at_end: bool = False) -> bool:
        """Take our own request out of what was received; tell whether only (a part of) it is there.

        Whether an adapter echoes is known after its first answer. A device's answer that looks like our request is
        possible (three bytes of coils), so a line that has never echoed is not searched for echoes.
        """
        received = self._link.received
        if self._endpoint.transport != "serial" or self._echoes is False:
            return False
        if len(received) < len(frame):
            return frame.startswith(received)
        if received.startswith(frame):
            del received[: len(frame)]
            self._echoes = True
            return not received
        if self._echoes is None and not at_end:
            self._echoes = False
        return False


def meaning(code: int) -> str:
    """Return what a Modbus exception code means."""
    match code:
        case 1:
            return say("illegal function")
        case 2:
            return say("illegal data address")
        case 3:
            return say("illegal data value")
        case 4:
            return say("server device failure")
        case 5:
            return say("acknowledge: it takes its time")
        case 6:
            return say("server device busy")
        case 8:
            return say("memory parity error")
        case 10:
            return say("gateway path unavailable")
        case 11:
            return say("the device behind the gateway does not respond")
        case _:
            return say("unknown")


def _at(request: Request, what: object) -> str:
    return f"{request.table}/{request.address}+{request.count}: {what}"


def _shown(received: bytearray) -> str:
    return bytes(received[:16]).hex(" ") + (" …" if len(received) > 16 else "")
