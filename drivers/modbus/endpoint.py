"""Where a Modbus device is reached: the URL in the configuration, taken apart."""

import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

TCP_PORT = 502
TLS_PORT = 802

SCHEMES = ("tcp", "tls", "rtu+tcp", "rtu", "dtu")
FORMS = "tcp://host, tls://host, rtu+tcp://host:port, rtu:/dev/serial/by-id/NAME?9600-8N1, dtu:0.0.0.0:5020"

_SERIAL = re.compile(r"(\d+)(?:-([5-8])([NEOMS])(1|2|1\.5))?")
_RENUMBERED = re.compile(r"/dev/tty(USB|ACM)\d+")

Transport = Literal["tcp", "tls", "rtu+tcp", "serial", "dtu"]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A host and port with MBAP or RTU framing, a serial line, or a port that modems (4G DTUs) dial.

    `registration` are the bytes with which the modem of this device says who it is.
    """

    transport: Transport
    host: str = ""
    port: int = 0
    path: str = ""
    baud: int = 0
    bits: int = 8
    parity: str = "N"
    stop_bits: float = 1
    registration: bytes = b""

    @property
    def line(self) -> str:
        """What devices share: one serial line, one connection to a host, or one modem."""
        match self.transport:
            case "serial":
                return f"serial:{self.path}"
            case "dtu":
                return f"{self.address} {self.registration.hex()}"
            case _:
                return self.address

    @property
    def address(self) -> str:
        """The endpoint as people write it."""
        match self.transport:
            case "serial":
                return f"rtu:{self.path}?{self.settings}"
            case "dtu":
                return f"dtu:{self.host}:{self.port}"
            case _:
                host = f"[{self.host}]" if ":" in self.host else self.host
                return f"{self.transport}://{host}:{self.port}"

    @property
    def settings(self) -> str:
        """The serial settings as people write them, e.g. `9600-8N1`."""
        return f"{self.baud}-{self.bits}{self.parity}{self.stop_bits:g}"

    @property
    def has_transactions(self) -> bool:
        """Tell whether frames carry a transaction id (MBAP), so that a late answer is known by it."""
        return self.transport in ("tcp", "tls")

    @property
    def is_renumbered(self) -> bool:
        """Tell whether the port's name depends on the order of plugging in."""
        return _RENUMBERED.fullmatch(self.path) is not None

    @property
    def character_s(self) -> float:
        """Seconds that one character takes on a serial line, 0 elsewhere."""
        if self.transport != "serial":
            return 0.0
        return (1 + self.bits + (self.parity != "N") + self.stop_bits) / self.baud

    @property
    def silence_s(self) -> float:
        """Seconds of silence between two frames: 3.5 characters, 1.75 ms above 19,200 baud (Serial Line 1.02, 2.5)."""
        if self.transport != "serial":
            return 0.0
        return 0.00175 if self.baud > 19_200 else 3.5 * self.character_s


def parse_url(url: str, registration: bytes = b"") -> Endpoint | None:
    """Return the endpoint written as `url`, None when it is none."""
    if url.startswith("rtu:/") and not url.startswith("rtu://"):
        path, _, settings = url.removeprefix("rtu:").partition("?")
        match = _SERIAL.fullmatch(settings or "9600-8N1")
        if match is None or int(match[1]) == 0:
            return None
        baud, bits, parity, stop = match.groups()
        return Endpoint("serial", "", 0, path, int(baud), int(bits or 8), parity or "N", float(stop or 1))
    try:
        dials = url.startswith("dtu:") and not url.startswith("dtu://")
        parts = urlsplit(url.replace("dtu:", "dtu://", 1) if dials else url)
        port = parts.port
    except ValueError:
        return None
    plain = not (parts.path.strip("/") or parts.query or parts.fragment or parts.username)
    if parts.scheme not in ("tcp", "tls", "rtu+tcp", "dtu") or not parts.hostname or not plain or port == 0:
        return None
    match parts.scheme:
        case "tcp":
            return Endpoint("tcp", parts.hostname, port or TCP_PORT)
        case "tls":
            return Endpoint("tls", parts.hostname, port or TLS_PORT)
        case "rtu+tcp":
            return Endpoint("rtu+tcp", parts.hostname, port) if port else None
        case _:
            return Endpoint("dtu", parts.hostname, port, registration=registration) if port and dials else None


def parse_registration(text: str) -> bytes | None:
    """Return the bytes written as text, or as `hex:86 7A …`; None when the digits are wrong or nothing is there."""
    if not text.startswith("hex:"):
        return text.encode() or None
    try:
        return bytes.fromhex(text.removeprefix("hex:")) or None
    except ValueError:
        return None
