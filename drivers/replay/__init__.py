"""Replay of recorded rows from a CSV file: the smallest driver, and the tutorial's example (see `docs/drivers.md`)."""

from typing import Any

from drivers.api import DeviceContext, Driver, DriverSpec
from drivers.replay.section import ReplaySection


def _create(section: Any, context: DeviceContext) -> Driver:
    from drivers.replay.driver import ReplayDriver

    return ReplayDriver(section, context)


def _simulate() -> Any:
    from drivers.replay.sim import simulate

    return simulate()


SPEC = DriverSpec(
    kind="replay",
    title="Replay of a CSV file",
    section=ReplaySection,
    create=_create,
    simulate={"csv": _simulate},
)
