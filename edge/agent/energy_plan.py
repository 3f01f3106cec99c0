"""From `energy:` of the configuration to the plan of the energy account, or to what is wrong with it."""

import csv
import difflib
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from edge.analytics.energy.factors import FactorSet
from edge.analytics.energy.section import EnergySection, Hours, Meter, TariffSection
from edge.analytics.energy.tariff_rules import HourRule, Rate, uncovered
from edge.analytics.energy.working_calendar import DayType
from edge.core.errors import Problem
from edge.core.language import say

if TYPE_CHECKING:
    from edge.agent.settings import Device

ROOT_KEY = "energy"
METERS_MAX = 1000
DATA_FOLDERS = ("tariffs", "calendars", "factors")

_UNITS = {
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

Tell = Callable[[Problem], None]


def data_files(kind: str, folder: Path) -> dict[str, Path]:
    """Return the files of tariffs, calendars or factors by name: the plant's own, then those shipped."""
    packed, shipped = Path(__file__).parent / kind, Path(__file__).parents[2] / "config" / kind
    found: dict[str, Path] = {}
    for base in (folder / kind, packed if packed.is_dir() else shipped):
        for file in sorted(base.rglob("*.yaml")):
            found.setdefault(str(file.relative_to(base).with_suffix("")), file)
    return found


def plan(
    section: EnergySection,
    devices: Mapping[str, "Device"],
    timezone: str,
    shifts: Mapping[str, int],
    folder: Path,
    tell: Tell,
) -> dict[str, Any] | None:
    """Return the settings of the part `energy`, JSON types; None if it is wrong, which is told at its places.

    `shifts` are the minutes of the day at which shifts begin and end.
    """
    return _Planner(section, devices, timezone, shifts, folder, tell).plan()


class _Planner:
    def __init__(
        self,
        section: EnergySection,
        devices: Mapping[str, "Device"],
        timezone: str,
        shifts: Mapping[str, int],
        folder: Path,
        tell: Tell,
    ) -> None:
        self._section, self._devices, self._folder = section, devices, folder
        self._zone = ZoneInfo(timezone)
        self._timezone, self._shifts = timezone, shifts
        self._tell = tell
        self._failed = False

    def _wrong(self, path: Sequence[str | int], message: str, hint: str = "", *, on: str = "value") -> None:
        self._failed = True
        self._tell(Problem((ROOT_KEY, *path), message, hint, on="key" if on == "key" else "value"))

    def plan(self) -> dict[str, Any] | None:
        names = self._names()
        if not names:
            self._wrong((), say("no meters"), say("write them under `meters`, or in `tree`"), on="key")
            return None
        if len(names) > METERS_MAX:
            self._wrong(("meters",), say("more than {count} meters", count=METERS_MAX), on="key")
            return None
        below = {child for children in self._section.tree.values() for child in children}
        meters = [found for name, place in names.items() if (found := self._meter(name, place, name in below))]
        editions, tariff = self._tariff()
        curve = self._curve(tariff) if tariff and tariff.curve else []
        for meter in meters:
            meter["tariff"] = bool(meter["tariff"] and editions)
        raw = {
            "timezone": self._timezone,
            "meters": meters,
            "virtual": self._virtual(names),
            "processes": self._processes(names),
            "editions": editions,
            "calendar": self._calendar(),
            "demand": self._demand(names),
            "shifts": dict(self._shifts),
            "factors": self._factors(),
            "area": self._section.area,
            "factor_set": self._section.factors or "",
            "curve": curve,
            "currency": tariff.currency if tariff else "",
            "bill": _bill(tariff),
            "standard": round(100 * tariff.power_factor) if tariff else 90,
            "late_s": self._section.late,
        }
        return None if self._failed else raw

    def _names(self) -> dict[str, tuple[str | int, ...]]:
        """Return every meter with the place at which it is first named."""
        names: dict[str, tuple[str | int, ...]] = {name: ("meters", name) for name in self._section.meters}
        for parent, children in self._section.tree.items():
            names.setdefault(parent, ("tree", parent))
            for number, child in enumerate(children):
                names.setdefault(child, ("tree", parent, number))
        for demand in _listed(self._section.demand):
            if demand.meter:
                names.setdefault(demand.meter, ("demand", "meter"))
        return names

    # ------------------------------------------------------------------ meters

    def _meter(self, name: str, place: tuple[str | int, ...], is_below: bool) -> dict[str, Any] | None:
        given = self._section.meters.get(name, Meter())
        base, registers, powers = _units(given)
        path = given.energy or self._find_energy(name, place, registers, powers)
        if path is None:
            return None
        at = (*place, ROOT_KEY) if given.energy else place
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
            "tariff": given.carrier == "electricity" and (not is_below if given.billed is None else given.billed),
            "bought": given.bought if given.bought is not None else not is_below and given.carrier not in MADE_HERE,
            "class": given.accuracy,
            "calibrated_until": given.calibrated_until.isoformat() if given.calibrated_until else None,
        }
        self._companions(name, place, given, meter)
        return meter

    def _changes(self, given: Meter, factor: float) -> list[dict[str, Any]]:
        changes = [
            {"ts": self._instant(each.at), "per": each.ratio * factor if each.ratio else None, "end": each.end,
             "start": each.start}
            for each in given.exchanges
        ]  # fmt: skip
        changes += [{"ts": self._instant(each.at), "per": each.ratio * factor} for each in given.ratios]
        return sorted(changes, key=lambda change: int(change["ts"] or 0))

    def _instant(self, when: datetime) -> int:
        local = when if when.tzinfo else when.replace(tzinfo=self._zone)
        return int(local.timestamp()) * 10**9

    def _companions(self, name: str, place: tuple[str | int, ...], given: Meter, meter: dict[str, Any]) -> None:
        tags = self._devices[name].section.tags if name in self._devices else {}
        reactive = given.reactive or next(
            (f"{name}.{each}" for each in _REACTIVE_NAMES if each in tags and tags[each].unit == "kvarh"), None
        )
        if reactive and given.carrier == "electricity" and not meter["integrate"]:
            if given.reactive and self._unit(reactive, (*place, "reactive")) is None:
                return
            meter["reactive"] = reactive
        if given.power:
            unit = self._unit(given.power, (*place, "power"))
            powers = _UNITS["electricity"][2]
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

    def _virtual(self, names: Mapping[str, Any]) -> list[dict[str, Any]]:
        found = []
        for parent, children in self._section.tree.items():
            if parent in children:
                self._wrong(("tree", parent), say("{name} hangs below itself", name=parent), say("take it out"))
            parts = [[parent, 1.0], *([child, -1.0] for child in dict.fromkeys(children))]
            unit = _UNITS[_unit_key(self._section.meters.get(parent, Meter()).carrier)][0]
            found.append({"name": parent, "tag": "residual", "unit": unit, "parent": parent, "parts": parts})
        for name, virtual in self._section.sums.items():
            for part in virtual.of:
                if part not in names:
                    near = difflib.get_close_matches(part, names, 1, 0.6)
                    hint = say('did you mean "{near}"?', near=near[0]) if near else say("write it under `meters`")
                    self._wrong(
                        ("sums", name, "of", part), say("there is no meter {name!r}", name=part), hint, on="key"
                    )
            carriers = {self._section.meters.get(part, Meter()).carrier for part in virtual.of}
            if len(carriers) > 1:
                listed = ", ".join(sorted(carriers))
                self._wrong(("sums", name), say("{listed} cannot be added", listed=listed), on="key")
            unit = _UNITS[_unit_key(min(carriers, default="electricity"))][0]
            found.append(
                {"name": name, "tag": ROOT_KEY, "unit": unit, "parts": [list(each) for each in virtual.of.items()]}
            )
        return found

    def _processes(self, names: Mapping[str, Any]) -> list[dict[str, Any]]:
        found = []
        for name, shares in self._section.processes.items():
            place = ("processes", name)
            if not shares:
                hint = say("write e.g. {example}", example=f"{name}: [{', '.join(list(names)[:2])}]")
                self._wrong(place, say("a process of no meters"), hint, on="key")
            if name in names or name in self._section.sums:
                self._wrong(place, say("there is a meter {name!r} already", name=name), say("choose another name"),
                            on="key")  # fmt: skip
            for part in shares:
                self._known_meter(part, names, place)
            found.append({"name": name, "parts": [list(each) for each in shares.items()]})
        return found

    def _known_meter(self, name: str, names: Mapping[str, Any], place: tuple[str | int, ...]) -> None:
        if name not in names:
            near = difflib.get_close_matches(name, names, 1, 0.6)
            hint = say('did you mean "{near}"?', near=near[0]) if near else say("write it under `meters`")
            self._wrong(place, say("there is no meter {name!r}", name=name), hint)

    def _demand(self, names: Mapping[str, Any]) -> list[dict[str, Any]]:
        found = []
        for number, demand in enumerate(_listed(self._section.demand)):
            place = ("demand", number) if isinstance(self._section.demand, Sequence) else ("demand",)
            tops = [
                name for name in self._section.tree if not any(name in below for below in self._section.tree.values())
            ]
            meter = demand.meter or next(iter(tops or names), None)
            if demand.window % 60 or not 60 <= demand.window <= 7200:
                hint = say("write whole minutes, 1min to 120min")
                self._wrong((*place, "window"), say("a demand window of {window} s", window=f"{demand.window:g}"), hint)
            elif meter is not None:
                window, sliding = round(demand.window / 60), demand.method == "sliding"
                found.append({"meter": meter, "window": window, "sliding": sliding, "limit": demand.limit})
        return found

    # ------------------------------------------------------------------ data files

    def _read(self, kind: str, name: str, place: tuple[str | int, ...]) -> dict[str, Any] | None:
        files = data_files(kind, self._folder)
        if name not in files:
            near = difflib.get_close_matches(name, files, 2, 0.5)
            hint = say("did you mean {near}?", near=say(" or ").join(near)) if near else ""
            hint = hint or say("there are: {names}", names=", ".join(files))
            self._wrong(place, say("there is no {name!r} in {folder}", name=name, folder=kind), hint)
            return None
        try:
            content: dict[str, Any] = YAML(typ="safe").load(files[name])
        except (OSError, YAMLError) as error:
            self._wrong(place, say("{file} cannot be read: {error}", file=files[name].name, error=str(error)[:200]))
            return None
        return content

    def _calendar(self) -> dict[str, Any]:
        content = self._read("calendars", self._section.calendar, ("calendar",)) or {"years": {}}
        return {
            "years": {
                str(year): {
                    "holidays": {name: str(span) for name, span in each.get("holidays", {}).items()},
                    "workdays": [str(day) for day in each.get("workdays", ())],
                }
                for year, each in content["years"].items()
            }
        }

    def _factors(self) -> list[dict[str, Any]]:
        files = data_files("factors", self._folder)
        contents = [content for name in files if (content := self._read("factors", name, ("factors",))) is not None]
        try:
            rows = FactorSet.of(contents).rows
        except (ValueError, KeyError, TypeError) as error:
            self._wrong(("factors",), say("a factor file is wrong: {error}", error=error))
            return []
        sets = {content["set"] for content in contents}
        if self._section.factors and self._section.factors not in sets:
            hint = say("there are: {names}", names=", ".join(sorted(sets)))
            self._wrong(("factors",), say("there is no factor set {name!r}", name=self._section.factors), hint)
        carriers = {meter.carrier for meter in self._section.meters.values()} | {"electricity"}
        return [
            {
                "id": row.id, "carrier": row.carrier, "purpose": str(row.purpose), "value": row.value, "unit": row.unit,
                "area": row.area, "scope": row.scope, "valid_from": row.valid_from.isoformat(),
                "valid_to": row.valid_to.isoformat() if row.valid_to else None, "document": row.document,
                "confidence": str(row.confidence),
            }
            for row in rows
            if row.carrier in carriers and row.area in ("", self._section.area)
        ]  # fmt: skip

    def _tariff(self) -> tuple[list[dict[str, Any]], TariffSection | None]:
        given = self._section.tariff
        if given is None:
            return [], None
        listed = [TariffSection.model_validate({"use": given})] if isinstance(given, str) else _listed(given)
        editions: list[dict[str, Any]] = []
        for number, each in enumerate(listed):
            place = ("tariff",) if isinstance(given, str | TariffSection) else ("tariff", number)
            editions += self._editions(each, place, is_name=isinstance(given, str))
        return editions, listed[-1] if listed else None

    def _curve(self, tariff: TariffSection) -> list[tuple[int, float]]:
        """Return the list of prices as (from, price), in order of time."""
        place = ("tariff", "curve")
        file = self._folder / str(tariff.curve)
        found: dict[int, float] = {}
        extra = sum(tariff.fixed.values()) + tariff.fund
        try:
            with file.open(encoding="utf-8-sig", newline="") as lines:
                for number, row in enumerate(csv.reader(lines), 1):
                    if (number == 1 and row[:1] == ["from"]) or not row:
                        continue
                    try:
                        when, price = self._instant(datetime.fromisoformat(row[0])), float(row[1])
                    except (ValueError, IndexError):
                        hint = say("write e.g. {example}", example="2026-07-01T00:15,0.412")
                        message = say("{file}:{line} is no price", file=file.name, line=number)
                        self._wrong(place, message, hint)
                        return []
                    found[when] = round(price + extra, 10)
        except (OSError, UnicodeDecodeError) as error:
            self._wrong(place, say("{file} cannot be read: {error}", file=file.name, error=str(error)[:200]))
        return sorted(found.items())

    def _editions(self, given: TariffSection, place: tuple[str | int, ...], *, is_name: bool) -> list[dict[str, Any]]:
        begin = given.begins or date(2000, 1, 1)
        if given.use is None:
            rules = [_rule(hours) for hours in given.hours]
            return self._edition(given, place, begin, rules, {}, "")
        content = self._read("tariffs", given.use, place if is_name else (*place, "use"))
        if content is None:
            return []
        found: list[dict[str, Any]] = []
        for each in content["editions"]:
            rules = [_rule(Hours(**hours)) for hours in each["hours"]]
            own = max(begin, each["valid_from"])
            document = content.get("about", {}).get("document", "")
            found += self._edition(given, place, own, rules, each.get("ratios", {}), document)
        return found

    def _edition(
        self,
        given: TariffSection,
        place: tuple[str | int, ...],
        begin: date,
        rules: Sequence[dict[str, Any]],
        ratios: Mapping[str, float],
        document: str,
    ) -> list[dict[str, Any]]:
        if not rules:
            hint = say("write `hours`, or `use` a tariff that is shipped")
            self._wrong(place, say("the tariff has no hours"), hint, on="key")
            return []
        bare = uncovered([_hour_rule(rule) for rule in rules])
        if bare:
            hint = say("write a last line without `at`: {example}", example="{rate: flat}")
            self._wrong((*place, "hours") if given.hours else place, say("no rate holds at {when}", when=bare), hint)
        rates = {rule["rate"] for rule in rules}
        prices = {str(rate): price for rate, price in given.prices.items()}
        if given.base is not None:
            prices = {rate: given.base * ratios.get(rate, 1.0) for rate in rates} | prices
        missing = sorted(rates - set(prices))
        if prices and missing:
            listed = ", ".join(missing)
            self._wrong(
                (*place, "prices"), say("no price for {rates}", rates=listed), say("write one for each"), on="key"
            )
        extra = sum(given.fixed.values()) + given.fund
        prices = {rate: round(price + extra, 10) for rate, price in prices.items()}
        return [{"valid_from": begin.isoformat(), "rules": list(rules), "prices": prices, "document": document}]


def _bill(tariff: TariffSection | None) -> dict[str, Any] | None:
    if tariff is None or not (tariff.fixed or tariff.fund or tariff.basic):
        return None
    basic = tariff.basic
    return {
        "fixed": dict(tariff.fixed),
        "fund": tariff.fund,
        "basic": {"price": basic.price, "capacity": basic.capacity, "contract": basic.contract} if basic else None,
    }


def _rule(hours: Hours) -> dict[str, Any]:
    return {
        "rate": str(hours.rate),
        "months": list(hours.months),
        "days": [str(day) for day in hours.days],
        "dates": [[list(first), list(last)] for first, last in hours.dates],
        "spans": [list(span) for span in hours.at],
        "event": hours.event,
    }


def _hour_rule(rule: Mapping[str, Any]) -> HourRule:
    spans = tuple((begin, end) for begin, end in rule["spans"])
    dates = tuple((tuple(first), tuple(last)) for first, last in rule["dates"])
    days = frozenset(DayType(day) for day in rule["days"])
    return HourRule(Rate(rule["rate"]), frozenset(rule["months"]), days, dates, spans, rule["event"])


def _listed(given: Any) -> Sequence[Any]:
    if given is None:
        return ()
    return given if isinstance(given, list | tuple) else [given]


def _units(meter: Meter) -> tuple[str, dict[str, float], dict[str, float]]:
    """Return the unit a meter's figures are in, and the units of registers and powers with their factor to it."""
    base, registers, powers = _UNITS[_unit_key(meter.carrier)]
    if base == "kg" and meter.density is not None:
        by_volume = {"L": meter.density, "m3": 1e3 * meter.density, "m³": 1e3 * meter.density}
        return base, registers | by_volume, powers | {"L/h": meter.density}
    return base, registers, powers


def _unit_key(carrier: str) -> str:
    if carrier in _UNITS:
        return carrier
    if carrier.startswith(_M3):
        return "m3"
    return _UNIT_OF.get(carrier, "kg")
