"""A live simulated device of every type and order, for the conformance suite."""

import ssl
import struct
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from drivers.api import Simulated
from drivers.modbus.types import ORDERS
from simulators.modbus import Server, Unit, dial, free_port, serve_serial, serve_tcp
from simulators.pki import Pki, make_pki

_VALUES: dict[str, Any] = {
    "u16": 65_535,
    "i16": -12_345,
    "u32": 4_000_000_000,
    "i32": -2_000_000_000,
    "u64": 2**64 - 3,
    "i64": -(2**62) - 1,
    "f32": struct.unpack(">f", struct.pack(">f", 3.14159))[0],
    "f64": 2.718281828459045,
    "string[10]": "车间-7",
}
_REGISTRATION = "867012345678901"
_STEP = 40  # above the gap that the planner bridges, so each value has a request of its own


def _device() -> tuple[Unit, dict[str, Any], dict[str, Any], dict[str, tuple[str, int]]]:
    unit = Unit()
    tags: dict[str, Any] = {"running": {"at": "coil/3"}, "ready": {"at": "discrete/7"}}
    expected: dict[str, Any] = {"running": True, "ready": False}
    homes = {"running": ("coil", 3), "ready": ("discrete", 7)}
    unit.put("coil", 3, "bool", True)
    unit.put("discrete", 7, "bool", False)
    address = 0
    for kind, value in _VALUES.items():
        for order in ORDERS:
            name = f"{kind.partition('[')[0]}_{order.lower()}"
            table = "input" if order == "CDAB" else "holding"
            unit.put(table, address, kind, value, order)
            tags[name] = {"at": f"{table}/{address}", "type": kind, "order": order}
            expected[name], homes[name] = value, (table, address)
            address += _STEP
    unit.put("holding", address, "u16", 0b100000)
    tags["fault"] = {"at": f"holding/{address}", "bit": 5}
    expected["fault"], homes["fault"] = True, ("holding", address)
    unit.put("holding", address + _STEP, "i16", 215)
    tags["temperature"] = {"at": f"holding/{address + _STEP}", "type": "i16", "scale": 0.1, "unit": "degC"}
    expected["temperature"], homes["temperature"] = 21.5, ("holding", address + _STEP)
    return unit, tags, expected, homes


def _serve(variant: str, unit: Unit, pki: Pki) -> AbstractAsyncContextManager[Server]:
    match variant:
        case "serial":
            return serve_serial({1: unit}, baud=0)
        case "dtu":
            return dial({1: unit}, free_port(), _REGISTRATION.encode())
        case "tls":
            return serve_tcp({1: unit}, tls=server_context(pki))
        case _:
            return serve_tcp({1: unit}, framing="rtu" if variant == "rtu_over_tcp" else "tcp")


def server_context(pki: Pki) -> ssl.SSLContext:
    """Return what a Modbus/TCP Security device demands: a certificate of the same authority from whoever connects."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pki.issue("device", server=True))
    context.load_verify_locations(pki.ca)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


@asynccontextmanager
async def simulate(variant: str) -> AsyncIterator[Simulated]:
    """Yield the device over "tcp", "rtu_over_tcp", "serial", "tls" or "dtu"."""
    unit, tags, expected, homes = _device()

    async def cut() -> None:
        unit.silent = True
        server.cut()

    async def spoil(name: str) -> None:
        unit.exceptions[homes[name]] = 2

    async def garbage() -> None:
        unit.wrong = "garbage"

    async def restore() -> None:
        unit.silent, unit.wrong = False, None
        unit.exceptions.clear()

    with TemporaryDirectory() as folder:
        pki = make_pki(Path(folder))
        async with _serve(variant, unit, pki) as server:
            section = {"modbus": server.url, "every": "50ms", "limits": {"timeout": "150ms"}, "tags": tags}
            secrets = {}
            if variant == "tls":
                section["tls"] = {"ca": "authority", "identity": "gateway"}
                secrets = {"authority": pki.ca.read_text(), "gateway": pki.issue("gateway").read_text()}
            if variant == "dtu":
                section["registration"] = _REGISTRATION
            yield Simulated(section, expected, cut, spoil, garbage, restore, secrets)
