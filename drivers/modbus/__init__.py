"""Modbus over TCP, TLS, serial lines and modems that dial in. Importing this does not import the protocol's library."""

from collections.abc import Sequence
from typing import Any

from drivers.api import DeviceContext, Driver, DriverSpec, Probe, Scan
from drivers.modbus.endpoint import SCHEMES
from drivers.modbus.plan import summarise
from drivers.modbus.section import ModbusSection


def _create(section: Any, context: DeviceContext) -> Driver:
    from drivers.modbus.driver import ModbusDriver

    return ModbusDriver(section, context)


async def _probe(url: str, unit: int, at: str, timeout_s: float, expected: float | None) -> Probe:
    from drivers.modbus.probe import probe

    return await probe(url, unit, at, timeout_s, expected)


def _scan(where: str, units: Sequence[int], port: int | None, per_second: float, timeout_s: float) -> Scan | None:
    from drivers.modbus.scan import scan

    return scan(where, units, port, per_second, timeout_s)


def _simulate(variant: str) -> Any:
    from drivers.modbus.sim import simulate

    return simulate(variant)


SPEC = DriverSpec(
    kind="modbus",
    title="Modbus TCP, TLS, RTU over TCP, serial RTU, and modems that dial in",
    section=ModbusSection,
    create=_create,
    plan=summarise,
    simulate={
        "tcp": lambda: _simulate("tcp"),
        "rtu_over_tcp": lambda: _simulate("rtu_over_tcp"),
        "serial": lambda: _simulate("serial"),
        "tls": lambda: _simulate("tls"),
        "dtu": lambda: _simulate("dtu"),
    },
    security=lambda section: "TLS, mutual" if section.tls else "none",
    schemes=SCHEMES,
    probe=_probe,
    scan=_scan,
)
