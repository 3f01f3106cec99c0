"""Configuration of analytics: derived tags, alarms, and how the worker runs."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from edge.analytics.condition.process.section import WatchSection
from edge.analytics.condition.process.spc_section import SpcSection
from edge.analytics.energy.baseline_section import BaselineSection
from edge.analytics.energy.section import EnergySection
from edge.analytics.production.section import Production, Shift
from edge.analytics.products.section import ProductsSection
from edge.core.data_class import DataClassName
from edge.core.section import Duration, Pause, Section, Size

SeverityName = Literal["info", "low", "medium", "high", "critical"]
"""How urgent an alarm is, on the OPC UA scale: 100, 300, 500, 700, 900."""


class DerivedTag(Section):
    """A tag that is made of others: an expression, or keys with it as `of`."""

    of: Annotated[str, Field(examples=["cnc-07.load > 80 and spindle.running"])]
    """The expression, e.g. `avg(pump-3.temperature, 5min)`. What can be written is in `docs/analytics.md`."""

    unit: str | None = None
    """Unit of the value. Default: that of the tags it is made of, where it keeps that."""

    data_class: DataClassName = Field("telemetry", alias="class")
    """How dear its readings are when the disk is full, as for a device's tags."""

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, given: Any) -> Any:
        return {"of": given} if isinstance(given, str) else given


class Alarm(Section):
    """A condition that somebody must know of."""

    when: Annotated[str, Field(examples=["cnc-07.spindle_temp > 75"])]
    """The condition, an expression that is true or false."""

    after: Pause = Field(0.0, alias="for")
    """How long the condition must hold without a break before the alarm stands."""

    clear_for: Pause = 30.0
    """How long it must not hold before the alarm is over; so a chattering input is one alarm."""

    deadband: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    """How far behind its limit a value must go back for that, in the unit of the tag: 75 with 2 ends below 73."""

    latch: bool = False
    """Whether it stands until it is acknowledged, even when its condition is over."""

    severity: SeverityName = "medium"
    """How urgent it is."""

    message: str = ""
    """What to do, in your words; told with the alarm."""


class Analytics(Section):
    """How the analytics worker runs. It is started when something asks for it: derived tags, alarms."""

    wait: Pause = 1.0
    """How long a reading may be overtaken by others before it counts as late; derived values come so much later."""

    memory: Size = 256e6
    """How much memory the worker may take; above, it is started again and goes on where it was. It needs 40 MB for
    derived tags, about 165 MB for waveforms of eight sensors and fifty meters."""

    flood: Annotated[int, Field(ge=1)] = 10
    """More alarms than this within `flood_time` are a flood: those below high severity are held back until it ends."""

    flood_time: Duration = 600.0
    """See `flood`."""


class AnalyticsSections(Section):
    """What the configuration has of analytics at its top level."""

    energy: EnergySection | None = None
    """Energy, cost and carbon: meters and their tree, tariff, demand."""

    shifts: Mapping[str, Shift] = {}
    """The plant's shifts, of which planned time is made: `{early: '06:00', late: '14:00', night: '22:00'}`."""

    production: Mapping[str, Production] = {}
    """Machines: their states, parts and figures such as OEE."""

    products: ProductsSection | None = None
    """Energy, cost, coal and CO2 by product: who makes what, and by what shared meters are divided."""

    baselines: Mapping[str, BaselineSection] = {}
    """Energy baselines, by name: what energy a meter would have used before, and what is saved against that."""

    watch: Mapping[str, WatchSection] = {}
    """Process values that are watched together, by name: what was usual is learned, and what departs from it told."""

    spc: Mapping[str, SpcSection] = {}
    """Control charts of values of parts, by name."""

    derived: Mapping[str, DerivedTag] = {}
    """Tags made of other tags, by `device.tag`: an expression, or keys with `of`, `unit` and `class`."""

    alarms: Mapping[str, Alarm] = {}
    """Alarms by their name."""

    analytics: Analytics = Analytics()
    """How the analytics worker runs."""
