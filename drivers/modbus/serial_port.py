"""Opening a serial port for ourselves alone, and saying what mends it when that fails."""

import contextlib
import errno
import grp
import os
import pwd
from pathlib import Path

import serial

from drivers.modbus.endpoint import Endpoint
from edge.core.errors import Disconnected
from edge.core.language import say

BY_ID = Path("/dev/serial/by-id")
PORTS_SHOWN_MAX = 8


def open_port(endpoint: Endpoint) -> serial.Serial:
    """Return the open port, locked against every other program that asks for the lock.

    Raises:
        Disconnected: it is not there, not allowed, or in use; the hint is the command or the step that mends it.
    """
    try:
        return serial.Serial(
            endpoint.path,
            baudrate=endpoint.baud,
            bytesize=endpoint.bits,
            parity=endpoint.parity,
            stopbits=endpoint.stop_bits,
            timeout=0,
            exclusive=True,
        )
    except (OSError, serial.SerialException, ValueError) as error:
        raise Disconnected(*_why(endpoint.path, _errno(error), error)) from error


def _errno(error: Exception) -> int:
    number = getattr(error, "errno", None)
    cause = getattr(error, "__context__", None)
    return number or getattr(cause, "errno", None) or 0


def _why(path: str, number: int, error: Exception) -> tuple[str, str]:
    """Return message and hint for a port that could not be opened."""
    match number:
        case errno.ENOENT | errno.ENXIO | errno.ENODEV:
            there = ", ".join(serial_ports()[:PORTS_SHOWN_MAX])
            hint = (
                say("ports here: {ports}", ports=there) if there else say("no serial port is here: is it plugged in?")
            )
            return say("there is no serial port {path}", path=path), hint
        case errno.EACCES | errno.EPERM:
            group, user = _group(path), _user()
            return (
                say("user {user} may not use the serial port {path}", user=user, path=path),
                say(
                    "sudo usermod -aG {group} {user}, then log in again or restart the service", group=group, user=user
                ),
            )
        case errno.EBUSY | errno.EAGAIN:
            holder = holder_of(path)
            return (
                say("the serial port {path} is in use by {holder}", path=path, holder=holder or say("another program")),
                say(
                    "end that program, or let it use another port: two masters on one line destroy each other's frames"
                ),
            )
        case _:
            return say("the serial port {path} cannot be opened: {reason}", path=path, reason=error), say(
                "check the port's name and its settings, e.g. ?9600-8N1"
            )


def serial_ports() -> list[str]:
    """Return this machine's serial ports, under the names that survive replugging where there are such."""
    lasting = sorted(str(link) for link in BY_ID.glob("*")) if BY_ID.is_dir() else []
    known = {os.path.realpath(link) for link in lasting}
    plain = [str(port) for kind in ("ttyUSB*", "ttyACM*", "ttyAMA*", "ttymxc*") for port in Path("/dev").glob(kind)]
    return lasting + sorted(port for port in plain if port not in known)


def holder_of(path: str) -> str:
    """Return name and number of another process that has the port open, "" when that cannot be seen."""
    device = os.path.realpath(path)
    for process in Path("/proc").glob("[0-9]*"):
        if process.name == str(os.getpid()):
            continue
        with contextlib.suppress(OSError):
            if any(os.path.realpath(entry) == device for entry in (process / "fd").iterdir()):
                return f"{(process / 'comm').read_text().strip()} ({process.name})"
    return ""


def _group(path: str) -> str:
    with contextlib.suppress(OSError, KeyError):
        return grp.getgrgid(os.stat(path).st_gid).gr_name
    return "dialout"


def _user() -> str:
    with contextlib.suppress(KeyError):
        return pwd.getpwuid(os.geteuid()).pw_name
    return str(os.geteuid())
