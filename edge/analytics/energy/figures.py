"""The figures of the account: which there are, and how one is given out."""

from edge.analytics.energy.meters import Mark
from edge.analytics.operator import Derived, Output, Reading
from edge.core.catalogue import ValueKind
from edge.core.data_class import DataClass
from edge.core.quality import StatusCode

DOUBTFUL = Mark.GAP | Mark.RESET | Mark.JUMP | Mark.GLITCH | Mark.MISSING
"""With one of these a figure is uncertain; a roll-over, an exchange and a new ratio are accounted for exactly."""

PLAIN = Mark(0)


class Figures:
    """The tags of the account.

    outputs  in the order in which they were declared
    tick     event time at which figures are given out now
    """

    def __init__(self) -> None:
        self.outputs: list[Output] = []
        self.tick = 0
        self._place: dict[tuple[str, str], int] = {}

    def declare(self, device: str, name: str, unit: str, inputs: tuple[str, ...]) -> None:
        """Say that there is a figure, made of these tags."""
        self._place[device, name] = len(self.outputs)
        self.outputs.append(Output(device, name, ValueKind.FLOAT64, unit, inputs, DataClass.ENERGY))

    def give(
        self, out: Derived, device: str, name: str, ts: int, value: float, mark: Mark = PLAIN, revision: int = 0
    ) -> None:
        """Give one out for the interval that begins at `ts`."""
        quality = StatusCode.UNCERTAIN if mark & DOUBTFUL else StatusCode.GOOD
        out.readings.append(Reading(self._place[device, name], ts, float(value), quality, revision, self.tick))
