"""Which figures an account has: device, name, unit and inputs of each. Pure: a check asks it too."""

from collections.abc import Iterator, Sequence

from edge.analytics.energy.factors import Purpose
from edge.analytics.energy.plan import ELECTRICITY, EnergyPlan, Metered, Process
from edge.analytics.energy.tariff_rules import RATES
from edge.core.interval import Level

SUMMED = (Level.QUARTER, Level.HOUR, Level.SHIFT, Level.DAY, Level.MONTH)
"""Levels that energy is given for besides the minute."""

STATED = (Level.SHIFT, Level.DAY, Level.MONTH)
"""Levels for which cost, rates, coal and CO2 are stated."""

BILLED = (Level.DAY, Level.MONTH)
"""Levels for which the power factor is given, and what the meter's own registers by rate show."""

COMPARED = (Level.HOUR, *BILLED)
"""Levels for which those are compared with the tariff."""

COAL, COAL_EQUAL, CO2 = "standard_coal", "standard_coal_equal", "co2"
"""Coal by the equivalent value (当量值) and by the equal value (等价值), never mixed, and CO2; kg."""

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
    for process in plan.processes:
        yield from _of_process(plan, process, levels)
    bought = tuple(meter.tag for meter in plan.meters if meter.is_bought)
    for level in stated_of(plan):
        for name in (*weights_of(plan), "co2_scope1", "co2_scope2"):
            yield SITE, f"{name}_{level}", "kg", bought


def stated_of(plan: EnergyPlan) -> list[Level]:
    """Return the levels for which cost, coal and CO2 are stated; there are shifts only where they are configured."""
    return [level for level in STATED if level is not Level.SHIFT or plan.shifts]


def has_equal_value(plan: EnergyPlan) -> bool:
    """Whether the plant has given a coal rate of the grid, so that coal by the equal value can be stated."""
    return any(row.purpose is Purpose.COAL_EQUAL for row in plan.factors)


def weights_of(plan: EnergyPlan) -> list[str]:
    """Return the names of the figures in kg."""
    return [COAL, COAL_EQUAL, CO2] if has_equal_value(plan) else [COAL, CO2]


def carriers_of(plan: EnergyPlan, process: Process) -> dict[str, str]:
    """Return what flows through the meters of a process, and how the figures of its energy begin."""
    carriers = {meter.name: meter.carrier for meter in plan.meters}
    found = list(dict.fromkeys(carriers[part.meter] for part in process.parts))
    return {carrier: "energy" if len(found) == 1 else f"energy_{carrier}" for carrier in found}


def _of_process(plan: EnergyPlan, process: Process, levels: Sequence[Level]) -> Iterator[Figure]:
    meters = {meter.name: meter for meter in plan.meters}
    own = [meters[part.meter] for part in process.parts]
    tags = tuple(meter.tag for meter in own)
    for carrier, name in carriers_of(plan, process).items():
        here = [meter for meter in own if meter.carrier == carrier]
        for level in levels:
            yield process.name, f"{name}_{level}", here[0].unit, tuple(meter.tag for meter in here)
    for level in stated_of(plan):
        for name in weights_of(plan):
            yield process.name, f"{name}_{level}", "kg", tags
        if plan.editions and any(meter.carrier == ELECTRICITY for meter in own):
            yield process.name, f"cost_{level}", plan.currency, tags


def _of_meter(plan: EnergyPlan, meter: Metered, levels: Sequence[Level]) -> Iterator[Figure]:
    own = (meter.tag,)
    for level in (Level.MINUTE, *levels):
        yield meter.name, f"energy_{level}", meter.unit, own
    if meter.rates:
        registers = tuple(register.tag for register in meter.rates.values())
        for level in COMPARED:
            yield meter.name, f"rate_deviation_{level}", "%", (meter.tag, *registers)
    if meter.power:
        for level in (Level.HOUR, Level.DAY):
            yield meter.name, f"power_deviation_{level}", "%", (meter.tag, meter.power[0])
    if meter.voltages:
        yield meter.name, "voltage_unbalance", "%", meter.voltages
    for level in stated_of(plan):
        for name in weights_of(plan):
            yield meter.name, f"{name}_{level}", "kg", own
        if meter.reactive and level in BILLED:
            yield meter.name, f"power_factor_{level}", "", (meter.tag, meter.reactive)
            yield meter.name, f"power_factor_adjustment_{level}", "%", (meter.tag, meter.reactive)
        for rate, register in meter.rates.items() if level in BILLED else ():
            yield meter.name, f"energy_meter_{rate}_{level}", meter.unit, (register.tag,)
            yield meter.name, f"rate_difference_{rate}_{level}", meter.unit, (meter.tag, register.tag)
        if meter.tariff and plan.editions:
            for rate in RATES:
                yield meter.name, f"energy_{rate}_{level}", meter.unit, own
            yield meter.name, f"cost_{level}", plan.currency, own
    if meter.tariff and plan.editions and plan.bill:
        yield meter.name, f"bill_{Level.MONTH}", plan.currency, own
