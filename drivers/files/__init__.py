"""Waveforms that arrive as files in a folder: wav, npy, npz, csv."""

from typing import Any

from drivers.api import DeviceContext, Driver, DriverSpec
from drivers.files.section import FilesSection


def _create(section: Any, context: DeviceContext) -> Driver:
    from drivers.files.driver import FilesDriver

    return FilesDriver(section, context)


def _simulate() -> Any:
    from drivers.files.sim import simulate

    return simulate()


SPEC = DriverSpec(
    kind="files",
    title="Waveforms as files in a folder",
    section=FilesSection,
    create=_create,
    simulate={"folder": _simulate},
)
