"""The figures of the account as tags, and how one is given out."""

from collections.abc import Sequence

from edge.analytics.energy.marks import DOUBTFUL, Mark
from edge.analytics.energy.names import figures_of
from edge.analytics.energy.plan import EnergyPlan
from edge.analytics.operator import Derived, Output, Reading
from edge.core.catalogue import ValueKind
from edge.core.data_class import DataClass
from edge.core.interval import level_of
from edge.core.quality import StatusCode

_PLAIN = Mark(0)


class Figures:
    """Gives figures out.

    tick  event time at which they are given out now
    """

    def __init__(self, outputs: Sequence[Output]) -> None:
        self.tick = 0
        self._place = {(output.device, output.name): place for place, output in enumerate(outputs)}

    def give(
        self, out: Derived, device: str, name: str, ts: int, value: float, mark: Mark = _PLAIN, revision: int = 0
    ) -> None:
        """Give one out for the interval that begins at `ts`."""
        quality = StatusCode.UNCERTAIN if mark & DOUBTFUL else StatusCode.GOOD
        out.readings.append(Reading(self._place[device, name], ts, float(value), quality, revision, self.tick))


def outputs_of(plan: EnergyPlan) -> list[Output]:
    """Return all tags of an account, in a fixed order."""
    found: dict[tuple[str, str], Output] = {}
    for device, name, unit, inputs in figures_of(plan):
        found[device, name] = Output(device, name, ValueKind.FLOAT64, unit, inputs, DataClass.ENERGY, level_of(name))
    return list(found.values())
