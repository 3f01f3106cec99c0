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
