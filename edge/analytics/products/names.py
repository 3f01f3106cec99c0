"""Which figures products have: device, name, unit and inputs of each. Pure: a check asks it too."""

from collections.abc import Iterator, Mapping
from typing import Any

from edge.analytics.energy.names import stated_of, weights_of
from edge.analytics.energy.plan import ELECTRICITY, EnergyPlan, read_plan

OTHER, NONE = "other_products", "no_product"
"""What is made of none of the products that are configured, and energy at a time at which nothing was made."""

Figure = tuple[str, str, str, tuple[str, ...]]


def products_of(settings: Mapping[str, Any]) -> list[str]:
    """Return the names that figures stand under."""
    return [*settings["made"], OTHER, NONE]


def meters_of(settings: Mapping[str, Any]) -> list[str]:
    """Return the meters whose energy is given to products: those of machines, then those that are shared."""
    return list(dict.fromkeys([*(each["meter"] for each in settings["machines"]), *settings["shared"]]))


def energies_of(plan: EnergyPlan, meters: list[str]) -> dict[str, str]:
    """Return what flows through those meters, and how the figures of its energy begin."""
    carriers = {meter.name: meter.carrier for meter in plan.meters}
    found = list(dict.fromkeys(carriers[name] for name in meters))
    return {carrier: "energy" if len(found) == 1 else f"energy_{carrier}" for carrier in found}


def inputs_of(settings: Mapping[str, Any]) -> list[str]:
    """Return the paths of all tags that are read."""
    paths = {f"{name}.energy_1min" for name in meters_of(settings)}
    for each in settings["machines"]:
        paths |= {each[key] for key in ("product", "state") if each[key]}
        paths |= {counter["tag"] for counter in each["parts"].values()}
    return sorted(paths)


def figures_of(settings: Mapping[str, Any]) -> Iterator[Figure]:
    """Yield all figures of products, in a fixed order."""
    plan, inputs, meters = read_plan(settings["energy"]), tuple(inputs_of(settings)), meters_of(settings)
    units = {meter.carrier: meter.unit for meter in plan.meters}
    energies = energies_of(plan, meters)
    for product in products_of(settings):
        for level in stated_of(plan):
            for carrier, name in energies.items():
                yield product, f"{name}_{level}", units[carrier], inputs
            for name in weights_of(plan):
                yield product, f"{name}_{level}", "kg", inputs
            if plan.editions and ELECTRICITY in energies:
                yield product, f"cost_{level}", plan.currency, inputs
            yield product, f"parts_{level}", "", inputs
            if ELECTRICITY in energies and product not in (OTHER, NONE):
                yield product, f"kwh_per_part_{level}", "kWh", inputs
            if product not in (OTHER, NONE):
                yield product, f"co2_per_part_{level}", "kg", inputs
