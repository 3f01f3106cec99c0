"""Data classes: how dear a reading is when the disk cannot hold everything.

A class says what is given up first on this machine. `classification` (数据分级分类) says who may see a value, and is
only passed on. The two are independent: an energy total may be public, a diagnostic secret.
"""

from enum import IntEnum
from typing import Literal


class DataClass(IntEnum):
    """From what goes first to what goes last. Stored in the log: numbers are never reused."""

    DIAGNOSTICS = 1
    TELEMETRY = 2
    PRODUCTION = 3
    ENERGY = 4
    AUDIT = 5
    ALARM = 6
    EVENT = 7
    """Every event record, whatever it tells. No tag has it."""

    @property
    def word(self) -> str:
        """The class as it is written in the configuration and in messages."""
        return self.name.lower()

    @property
    def is_thinned(self) -> bool:
        """Tell whether old readings of this class may become fewer before any are dropped."""
        return self <= DataClass.TELEMETRY

    @property
    def is_protected(self) -> bool:
        """Tell whether the class is kept until the hard stop."""
        return self >= DataClass.ENERGY


DataClassName = Literal["diagnostics", "telemetry", "production", "energy", "audit", "alarm"]
"""A class by its word, for the configuration."""
