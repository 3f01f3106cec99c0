"""Modbus TCP, RTU over TCP and serial RTU. Importing this does not import the protocol's library."""

from typing import Any

from drivers.api import DeviceContext, Driver, DriverSpec
from drivers.modbus.plan import summarise
from drivers.modbus.section import ModbusSection


def _create(section: Any, context: DeviceContext) -> Driver:
    from drivers.modbus.driver import ModbusDriver

    return ModbusDriver(section, context)


def _simulate(variant: str) -> Any:
    from drivers.modbus.sim import simulate

    return simulate(variant)


SPEC = DriverSpec(
    kind="modbus",
    title="Modbus TCP, RTU over TCP and serial RTU",
    section=ModbusSection,
    create=_create,
    plan=summarise,
    simulate={
        "tcp": lambda: _simulate("tcp"),
        "rtu_over_tcp": lambda: _simulate("rtu_over_tcp"),
        "serial": lambda: _simulate("serial"),
    },
)
