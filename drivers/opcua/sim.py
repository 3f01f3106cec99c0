"""Live simulated servers for the conformance suite."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from drivers.api import Simulated
from simulators.faults import fault_line
from simulators.opcua import Variable, serve_opcua

_VALUES: dict[str, tuple[str, Any]] = {
    "running": ("Boolean", True),
    "small": ("Int16", -123),
    "count": ("UInt32", 4_000_000_000),
    "exact": ("Int64", 2**53 + 1),
    "total": ("UInt64", 2**64 - 3),
    "load": ("Float", 0.5),
    "speed": ("Double", 1234.5678),
    "program": ("String", "法兰-7"),
}
_BAD_SENSOR_FAILURE = 0x808C0000


@asynccontextmanager
async def simulate(variant: str) -> AsyncIterator[Simulated]:
    """Yield a server without security, with "sign", with "sign_and_encrypt" and a password, or one to "poll"."""
    variables = [Variable(f"ns=2;s=Machine/{name}", value, kind) for name, (kind, value) in _VALUES.items()]
    section: dict[str, Any] = {
        "every": "50ms",
        "tags": {name: {"node": f"ns=2;s=Machine/{name}"} for name in _VALUES},
    }
    security = {"sign": "sign", "sign_and_encrypt": "sign+encrypt"}.get(variant, "none")
    section["security"] = security
    if variant == "sign_and_encrypt":
        section["login"] = {"user": "reader", "secret": "machine"}
    if variant == "poll":
        section["mode"] = "poll"
    users = {"reader": "corr3ct h0rse"}
    async with serve_opcua(
        variables, security=(security,), users=users, allow_anonymous="login" not in section
    ) as server:
        if security != "none":
            section["trust"] = server.sha256
        host, port = server.url.removeprefix("opc.tcp://").partition("/")[0].split(":")
        async with fault_line(host, int(port)) as line:
            section["opcua"] = f"opc.tcp://{line.host}:{line.port}/yulink"

            async def cut() -> None:
                line.refuse()
                line.cut()

            async def spoil(name: str) -> None:
                _, value = _VALUES[name]
                await server.write(f"ns=2;s=Machine/{name}", value, _BAD_SENSOR_FAILURE)

            async def garbage() -> None:
                line.garbage()

            async def restore() -> None:
                line.heal()
                for name, (_, value) in _VALUES.items():
                    await server.write(f"ns=2;s=Machine/{name}", value)

            yield Simulated(
                section,
                {name: value for name, (_, value) in _VALUES.items()},
                cut,
                spoil,
                garbage,
                restore,
                secrets={"machine": users["reader"]},
            )
