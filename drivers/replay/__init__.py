"""Replay of recorded rows from a CSV file: the smallest driver, and the tutorial's example (see `docs/drivers.md`)."""

from drivers.api import DriverSpec
from drivers.replay.driver import ReplayDriver
from drivers.replay.section import ReplaySection
from drivers.replay.sim import simulate

SPEC = DriverSpec(
    kind="replay",
    title="Replay of a CSV file",
    section=ReplaySection,
    create=ReplayDriver,
    simulate={"csv": simulate},
)
