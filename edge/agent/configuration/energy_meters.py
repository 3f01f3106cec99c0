"""From `meters:` of the configuration to how each meter is read, or to what is wrong with it."""

import difflib
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from edge.analytics.energy.section import EnergySection, Meter
from edge.analytics.energy.tariff_rules import Rate
from edge.core.language import say

if TYPE_CHECKING:
    from edge.agent.configuration.settings import Device

UNITS = {
    "electricity": ("kWh", {"kWh": 1.0, "Wh": 1e-3, "MWh": 1e3}, {"kW": 1.0, "W": 1e-3, "MW": 1e3}),
    "heat": ("MJ", {"MJ": 1.0, "GJ": 1e3, "kWh": 3.6, "MWh": 3600.0}, {"kW": 3.6, "MW": 3600.0}),
    "m3": ("m3", {"m3": 1.0, "m³": 1.0, "L": 1e-3}, {"m3/h": 1.0, "m³/h": 1.0, "L/min": 0.06}),
    "t": ("t", {"t": 1.0, "kg": 1e-3, "m3": 1.0, "m³": 1.0}, {"t/h": 1.0, "kg/h": 1e-3, "m3/h": 1.0, "m³/h": 1.0}),
    "kg": ("kg", {"kg": 1.0, "t": 1e3}, {"kg/h": 1.0, "t/h": 1e3}),
}
_UNIT_OF = {"steam_low_pressure": "t", "fresh_water": "t", "softened_water": "t", "deaerated_water": "t"}
_M3 = ("natural_gas", "compressed_air", "oxygen", "carbon_dioxide", "nitrogen", "acetylene")
MADE_HERE = ("compressed_air", "softened_water", "deaerated_water")
"""Working media (耗能工质) that plants make of energy that is counted already."""

_ENERGY_NAMES = ("energy_import", "energy", "energy_total", "total_energy", "active_energy", "active_energy_import")
_REACTIVE_NAMES = ("reactive_energy_import", "reactive_energy")

Wrong = Callable[..., None]
"""Takes the place in the section, the message, a hint, and `on="key"` where the key is what is wrong."""


class MeterPlanner:
    """Finds the tags of meters."""

    def __init__(self, section: EnergySection, devices: Mapping[str, "Device"], zone: ZoneInfo, wrong: Wrong) -> None:
        self._section, self._devices, self._zone, self._wrong = section, devices, zone, wrong

    def meter(self, name: str, place: tuple[str | int, ...], is_below: bool) -> dict[str, Any] | None:
        """Return a meter as the plan has it, None if it is wrong, which is told."""
        given = self._section.meters.get(name, Meter())
        base, registers, powers = _units(given)
        path = given.energy or self._find_energy(name, place, registers, powers)
        if path is None:
            return None
        at = (*place, "energy") if given.energy else place
        unit = self._unit(path, at)
        if unit is None:
            return None
        if unit not in registers and unit not in powers:
            hint = say("units here: {units}", units=", ".join([*registers, *powers]))
            self._wrong(at, say("{path} is in {unit!r}, which is no {carrier}", path=path, unit=unit,
                                carrier=given.carrier), hint)  # fmt: skip
            return None
        integrate = unit not in registers
        factor = powers[unit] if integrate else registers[unit]
        if given.gas is not None:
            factor *= 273.15 / (273.15 + given.gas.temperature) * given.gas.pressure / 101.325
        comes_in = not is_below and "export" not in path.rpartition(".")[2]
        billed = comes_in if given.billed is None else given.billed
        meter: dict[str, Any] = {
            "name": name,
            "carrier": given.carrier,
            "unit": base,
            "tag": path,
            "integrate": integrate,
            "per": factor * given.ratio,
            "modulus": given.rolls_over_at or 0.0,
            "top": given.max / 3600 / (factor * given.ratio) if given.max and not integrate else None,
            "changes": self._changes(given, factor),
            "tariff": given.carrier == "electricity" and billed,
            "bought": given.bought if given.bought is not None else comes_in and given.carrier not in MADE_HERE,
            "class": given.accuracy,
            "level": given.level or min(self._depth(name) + 1, 3),
            "calibrated_until": given.calibrated_until.isoformat() if given.calibrated_until else None,
        }
        self._companions(name, place, given, meter)
        return meter

    def _depth(self, name: str) -> int:
        """Return how many meters a meter hangs below."""
        depth, seen = 0, {name}
        while above := [parent for parent, below in self._section.tree.items() if name in below and parent not in seen]:
            name, depth = above[0], depth + 1
            seen.add(name)
        return depth

    def _changes(self, given: Meter, factor: float) -> list[dict[str, Any]]:
        changes = [
            {"ts": instant(self._zone, each.at), "per": each.ratio * factor if each.ratio else None, "end": each.end,
             "start": each.start}
            for each in given.exchanges
        ]  # fmt: skip
        changes += [{"ts": instant(self._zone, each.at), "per": each.ratio * factor} for each in given.ratios]
        return sorted(changes, key=lambda change: int(change["ts"] or 0))

    def _companions(self, name: str, place: tuple[str | int, ...], given: Meter, meter: dict[str, Any]) -> None:
        tags = self._devices[name].section.tags if name in self._devices else {}
        reactive = given.reactive or next(
            (f"{name}.{each}" for each in _REACTIVE_NAMES if each in tags and tags[each].unit == "kvarh"), None
        )
        if reactive and given.carrier == "electricity" and not meter["integrate"]:
            if given.reactive and self._unit(reactive, (*place, "reactive")) is None:
                return
            meter["reactive"] = reactive
        self._rates(name, place, given, meter)
        if given.power:
            unit = self._unit(given.power, (*place, "power"))
            powers = UNITS["electricity"][2]
            if unit is not None and unit not in powers:
                hint = say("units here: {units}", units=", ".join(powers))
                self._wrong((*place, "power"), say("{path} is no power", path=given.power), hint)
            elif unit is not None:
                meter["power"] = {"tag": given.power, "per": powers[unit] * given.ratio}
        voltages = list(given.voltages or ())
        if not voltages and all(f"voltage_{pair}" in tags for pair in ("ab", "bc", "ca")):
            voltages = [f"{name}.voltage_{pair}" for pair in ("ab", "bc", "ca")]
        for number, path in enumerate(given.voltages or ()):
            self._unit(path, (*place, "voltages", number))
        meter["voltages"] = voltages

    def _rates(self, name: str, place: tuple[str | int, ...], given: Meter, meter: dict[str, Any]) -> None:
        """Add the meter's own registers by rate, those that are written or those that its device has."""
        tags = self._devices[name].section.tags if name in self._devices else {}
        found = {str(rate): path for rate, path in given.rates.items()}
        if self._section.tariff is None:
            if found:
                hint = say("add `tariff`")
                self._wrong((*place, "rates"), say("there is no tariff to compare with"), hint, on="key")
            return
        for each_rate in () if found else Rate:
            rate = str(each_rate)
            own = next((each for each in (f"energy_{rate}", f"energy_import_{rate}") if each in tags), None)
            if own is not None and tags[own].unit in UNITS["electricity"][1]:
                found[rate] = f"{name}.{own}"
        if meter["integrate"] or given.carrier != "electricity" or not found:
            return
        base = self._unit(meter["tag"], place)
        for rate, path in found.items():
            at = (*place, "rates", rate) if given.rates else place
            unit = self._unit(path, at)
            if unit is not None and unit != base:
                self._wrong(at, say("{path} is in {unit!r}, the meter in {base!r}", path=path, unit=unit, base=base))
        meter["rates"] = {
            rate: {"tag": path, "changes": self._rate_changes(given, Rate(rate), meter["per"] / given.ratio)}
            for rate, path in found.items()
        }
        device, _, tag = next(iter(found.values())).partition(".")
        section = self._devices[device].section.tags.get(tag) if device in self._devices else None
        if section is not None:
            meter["every_s"] = section.every or self._devices[device].section.every or self._devices[device].every
        is_float = str(getattr(section, "type", "f")).startswith("f")
        meter["resolution"] = 0.0 if is_float else abs(getattr(section, "scale", 0.0)) * meter["per"]

    def _rate_changes(self, given: Meter, rate: Rate, factor: float) -> list[dict[str, Any]]:
        """Return what happened to a register by rate; where its readings at an exchange are missing, it was reset."""
        changes = [
            {"ts": instant(self._zone, each.at), "per": each.ratio * factor if each.ratio else None,
             "end": each.rates[rate].end, "start": each.rates[rate].start}
            for each in given.exchanges if rate in each.rates
        ]  # fmt: skip
        changes += [{"ts": instant(self._zone, each.at), "per": each.ratio * factor} for each in given.ratios]
        return sorted(changes, key=lambda change: int(change["ts"] or 0))

    def _find_energy(
        self, name: str, place: tuple[str | int, ...], registers: Mapping[str, float], powers: Mapping[str, float]
    ) -> str | None:
        """Return the tag of a device that is its register, or its power where there is none."""
        if name not in self._devices:
            near = difflib.get_close_matches(name, self._devices, 1, 0.6)
            hint = say('did you mean "{near}"?', near=near[0]) if near else say("write its `energy` under `meters`")
            self._wrong(place, say("there is no device {name!r}", name=name), hint)
            return None
        tags = self._devices[name].section.tags
        for units, names in ((registers, _ENERGY_NAMES), (powers, ("power", "active_power", "total_power"))):
            fitting = [tag for tag, section in tags.items() if section.unit in units]
            known = [tag for tag in names if tag in fitting]
            if known or len(fitting) == 1:
                return f"{name}.{(known or fitting)[0]}"
            if fitting:
                listed = ", ".join(f"{name}.{tag}" for tag in fitting[:4])
                hint = say("write which under `meters`: {listed}", listed=listed)
                self._wrong(place, say("{name} has several energies", name=name), hint)
                return None
        listed = ", ".join([*registers, *powers])
        hint = say("give one of its tags a unit ({units}), or write `energy` under `meters`", units=listed)
        self._wrong(place, say("{name} has no tag with an energy", name=name), hint)
        return None

    def _unit(self, path: str, place: tuple[str | int, ...]) -> str | None:
        """Return a tag's unit, None if there is no such tag, which is told."""
        device, _, name = path.partition(".")
        if device in self._devices and name in self._devices[device].section.tags:
            return self._devices[device].section.tags[name].unit
        known = [f"{each}.{tag}" for each, one in self._devices.items() for tag in one.section.tags]
        near = difflib.get_close_matches(path, known, 1, 0.6)
        hint = say('did you mean "{near}"?', near=near[0]) if near else say("write device.tag")
        self._wrong(place, say("there is no tag {path!r}", path=path), hint)
        return None


def instant(zone: ZoneInfo, when: datetime) -> int:
    """Return a time in ns since 1970 UTC; without an offset it is the plant's."""
    local = when if when.tzinfo else when.replace(tzinfo=zone)
    return int(local.timestamp()) * 10**9


def _units(meter: Meter) -> tuple[str, dict[str, float], dict[str, float]]:
    """Return the unit a meter's figures are in, and the units of registers and powers with their factor to it."""
    base, registers, powers = UNITS[unit_key(meter.carrier)]
    if base == "kg" and meter.density is not None:
        by_volume = {"L": meter.density, "m3": 1e3 * meter.density, "m³": 1e3 * meter.density}
        return base, registers | by_volume, powers | {"L/h": meter.density}
    return base, registers, powers


def unit_key(carrier: str) -> str:
    """Return the row of `UNITS` for what flows."""
    if carrier in UNITS:
        return carrier
    if carrier.startswith(_M3):
        return "m3"
    return _UNIT_OF.get(carrier, "kg")
