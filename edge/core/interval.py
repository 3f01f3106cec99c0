"""How long the intervals are that aggregates are given for."""

from enum import StrEnum


class Level(StrEnum):
    """How long an interval is; the text ends the names of its tags."""

    MINUTE = "1min"
    QUARTER = "15min"
    HOUR = "1h"
    SHIFT = "shift"
    DAY = "1d"
    MONTH = "1mo"


def level_of(name: str) -> Level | None:
    """Return the level of a figure's intervals by the end of its name; None for what is shown at an instant."""
    end = name.rpartition("_")[2]
    return Level(end) if end in list(Level) and "_forecast_" not in name else None
