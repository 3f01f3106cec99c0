"""OPC UA. Importing this does not import the protocol's library."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from drivers.api import Browsed, BrowseWish, DeviceContext, Driver, DriverSection, DriverSpec
from drivers.opcua.section import OpcUaSection


def _create(section: Any, context: DeviceContext) -> Driver:
    from drivers.opcua.driver import OpcUaDriver

    return OpcUaDriver(section, context)


def _simulate(variant: str) -> Any:
    from drivers.opcua.sim import simulate

    return simulate(variant)


async def _browse(target: DriverSection | Mapping[str, Any], context: DeviceContext, wish: BrowseWish) -> Browsed:
    from drivers.opcua.browse import browse

    return await browse(target, context, wish)


def _own(data_dir: Path) -> Any:
    from drivers.opcua.own_certificate import OwnCertificates

    return [(own.certificate, own.file) for own in OwnCertificates(data_dir).known() if own.file is not None]


SPEC = DriverSpec(
    kind="opcua",
    title="OPC UA",
    section=OpcUaSection,
    create=_create,
    simulate={
        "none": lambda: _simulate("none"),
        "sign": lambda: _simulate("sign"),
        "sign_and_encrypt": lambda: _simulate("sign_and_encrypt"),
        "poll": lambda: _simulate("poll"),
    },
    security=lambda section: section.security,
    schemes=("opc.tcp",),
    browse=_browse,
    own=_own,
)
