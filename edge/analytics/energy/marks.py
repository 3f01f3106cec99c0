"""What was made of a reading, and what happened in an interval. Plain numbers for the kernels, a flag for the rest."""

from enum import IntFlag

COUNTED = 1  # the reading is taken as true
GAP = 2  # longer than the limit since the one before: what lies between is interpolated
ROLLED = 4  # the register went over its end
RESET = 8  # it began again; what it counted after its last reading and before is not known
JUMP = 16  # it climbed faster than the meter can: nothing is counted
GLITCH = 32  # it left the line and came back: the reading is left out
FIXED = 64  # from the configuration: the last reading before an exchange
REBASED = 128  # the first reading of another meter in the same place
RATIO = 256  # here the transformer ratio changed: the reading is interpolated
MISSING = 512  # the interval lies outside what has been read


class Mark(IntFlag):
    """What happened in an interval. An interval with one of these is not a plain difference of two readings."""

    GAP = GAP
    ROLLED = ROLLED
    RESET = RESET
    JUMP = JUMP
    GLITCH = GLITCH
    EXCHANGED = REBASED
    RATIO = RATIO
    MISSING = MISSING


DOUBTFUL = Mark.GAP | Mark.RESET | Mark.JUMP | Mark.GLITCH | Mark.MISSING
"""With one of these a figure is uncertain; a roll-over, an exchange and a new ratio are accounted for exactly."""
