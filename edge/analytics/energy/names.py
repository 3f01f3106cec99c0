"""Which figures an account has: device, name, unit and inputs of each. Pure: a check asks it too."""

from collections.abc import Iterator, Sequence

from edge.analytics.energy.plan import EnergyPlan, Metered
from edge.analytics.energy.tariff_rules import RATES
from edge.core.interval import Level

SUMMED = (Level.QUARTER, Level.HOUR, Level.SHIFT, Level.DAY, Level.MONTH)
"""Levels that energy is given for besides the minute."""

STATED = (Level.DAY, Level.MONTH)
"""Levels for which cost, rates, coal, CO2 and power factor are stated."""

COAL, CO2 = "standard_coal", "co2"
SITE = "site"
Figure = tuple[str, str, str, tuple[str, ...]]
"""Device, name, unit and the paths of the tags it is made of."""


def figures_of(plan: EnergyPlan) -> Iterator[Figure]:
    """Yield all figures in a fixed order; one may come twice."""
    levels = [level for level in SUMMED if level is not Level.SHIFT or plan.shifts]
    tags = {meter.name: meter.tag for meter in plan.meters}
    for meter in plan.meters:
        yield from _of_meter(plan, meter, levels)
    for demand in plan.demand:
        for name in ("demand", "demand_sliding", "demand_forecast", "demand_max_1mo"):
            yield demand.meter, name, "kW", (tags[demand.meter],)
        yield demand.meter, "energy_forecast_15min", "kWh", (tags[demand.meter],)
    for virtual in plan.virtual:
        for level in levels:
            yield (
                virtual.name,
                f"{virtual.tag}_{level}",
                virtual.unit,
                tuple(tags[part.meter] for part in virtual.parts),
            )
    for level in STATED:
        for name in (COAL, CO2):
            yield SITE, f"{name}_{level}", "kg", tuple(tags.values())


def _of_meter(plan: EnergyPlan, meter: Metered, levels: Sequence[Level]) -> Iterator[Figure]:
    own = (meter.tag,)
    for level in (Level.MINUTE, *levels):
        yield meter.name, f"energy_{level}", meter.unit, own
    if meter.power:
        yield meter.name, "power_deviation_1h", "%", (meter.tag, meter.power[0])
    if meter.voltages:
        yield meter.name, "voltage_unbalance", "%", meter.voltages
    for level in STATED:
        for name in (COAL, CO2):
            yield meter.name, f"{name}_{level}", "kg", own
        if meter.reactive:
            yield meter.name, f"power_factor_{level}", "", (meter.tag, meter.reactive)
            yield meter.name, f"power_factor_adjustment_{level}", "%", (meter.tag, meter.reactive)
        if meter.tariff and plan.editions:
            for rate in RATES:
                yield meter.name, f"energy_{rate}_{level}", meter.unit, own
            yield meter.name, f"cost_{level}", plan.currency, own
    if meter.tariff and plan.editions and plan.bill:
        yield meter.name, f"bill_{Level.MONTH}", plan.currency, own
