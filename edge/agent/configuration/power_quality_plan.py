"""From `power_quality` of meters to the worker's plan, or to what is wrong with it."""

import difflib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from edge.agent.configuration.energy_data import data_files
from edge.analytics.energy.power_quality_section import PowerQuality, PowerQualityMax
from edge.analytics.energy.section import EnergySection
from edge.analytics.expression.check import Known, Type
from edge.core.errors import Problem
from edge.core.language import say

FOLDER = "power-quality"
_HZ = 50.0

Tell = Callable[[Problem], None]


def plan(
    section: EnergySection | None, energy: Mapping[str, Any] | None, timezone: str, folder: Path, tell: Tell
) -> dict[str, Any] | None:
    """Return the settings of the part `power_quality`, None where no meter asks for it."""
    given = {name: each.power_quality for name, each in section.meters.items()} if section else {}
    voltages = {each["name"]: each["voltages"] for each in (energy or {"meters": []})["meters"]}
    found: list[dict[str, Any]] = []
    for name, asked in given.items():
        if asked is not None:
            found += _Meter(name, asked, voltages.get(name) or (), folder, tell).quantities()
    return {"timezone": timezone, "quantities": found} if found else None


def check(
    settings: Mapping[str, Any] | None,
    look_up: Callable[[str], Known | None],
    known: Callable[[], list[str]],
    tell: Tell,
) -> None:
    """Check the tags of all quantities."""
    for quantity in settings["quantities"] if settings else ():
        for number, path in enumerate(quantity["paths"]):
            place = ("energy", "meters", quantity["meter"], "power_quality", *quantity["key"])
            tag = look_up(path)
            if tag is None:
                near = difflib.get_close_matches(path, known(), 1, 0.6)
                hint = say('did you mean "{near}"?', near=near[0]) if near else say("write device.tag")
                several = len(quantity["paths"]) > 1
                tell(Problem((*place, number) if several else place, say("there is no tag {path!r}", path=path), hint))
            elif tag.type not in (Type.NUMBER, Type.ANY):
                message = say("a limit needs a number, {path} is {found}", path=path, found=tag.type.words)
                tell(Problem(place, message))


class _Meter:
    def __init__(self, name: str, given: PowerQuality, voltages: Any, folder: Path, tell: Tell) -> None:
        self._name, self._given, self._voltages, self._folder, self._tell = name, given, voltages, folder, tell
        self._place = ("energy", "meters", name, "power_quality")
        self._table, self._source = self._read()

    def _wrong(self, place: tuple[str, ...], message: str, hint: str = "", *, on: str = "value") -> None:
        self._tell(Problem((*self._place, *place), message, hint, on="key" if on == "key" else "value"))

    def _read(self) -> tuple[dict[str, float], str]:
        """Return the limits of the named level, and where they come from."""
        name = self._given.limits
        if name is None:
            return {}, "configuration"
        tables: dict[str, Any] = {}
        for each, path in data_files(FOLDER, self._folder).items():
            try:
                content = YAML(typ="safe").load(path)
                for key, limits in content["limits"].items():
                    checked = PowerQualityMax(**limits).model_dump(exclude_none=True)
                    tables[f"{each}/{key}"] = checked, f"{content['document']}; {content['confidence']}"
            except (OSError, YAMLError, ValueError, KeyError, TypeError, AttributeError) as error:
                message = say("{file} cannot be read: {error}", file=path.name, error=str(error)[:200])
                self._wrong(("limits",), message)
        if name not in tables:
            near = difflib.get_close_matches(name, tables, 2, 0.5)
            hint = say("did you mean {near}?", near=say(" or ").join(near)) if near else ""
            hint = hint or say("there are: {names}", names=", ".join(tables))
            self._wrong(("limits",), say("there is no {name!r} in {folder}", name=name, folder=FOLDER), hint)
            return {}, ""
        found: tuple[dict[str, float], str] = tables[name]
        return found

    def _limit(self, key: str, own: float | None) -> float | None:
        return own if own is not None else self._table.get(key)

    def quantities(self) -> list[dict[str, Any]]:
        """Return what is judged, each with its limits."""
        given, own = self._given, self._given.max
        found = []
        if given.unbalance or self._voltages:
            path = given.unbalance or f"{self._name}.voltage_unbalance"
            limit = self._limit("unbalance", own.unbalance)
            short = self._limit("unbalance_short", own.unbalance_short)
            found.append(self._quantity("unbalance", ("unbalance",), [path], high=limit, short=short))
        if given.thd_voltage:
            limit = self._limit("thd_voltage", own.thd_voltage)
            found.append(self._quantity("thd_voltage", ("thd_voltage",), given.thd_voltage, high=limit))
        for order, paths in given.harmonics.items():
            kind = "odd" if order % 2 else "even"
            limit = own.harmonics.get(order, self._limit(kind, getattr(own, kind)))
            found.append(self._quantity(f"harmonic_{order}", ("harmonics", str(order)), paths, high=limit))
        if given.voltage and given.nominal:
            above, below = self._limit("above", own.above), self._limit("below", own.below)
            low = None if below is None else -below
            found.append(self._quantity("voltage_deviation", ("voltage",), given.voltage, high=above, low=low,
                                        nominal=given.nominal, per=given.nominal / 100))  # fmt: skip
        if given.frequency:
            limit = self._limit("frequency", own.frequency)
            low = None if limit is None else -limit
            found.append(self._quantity("frequency_deviation", ("frequency",), [given.frequency], high=limit, low=low,
                                        nominal=_HZ, unit="Hz"))  # fmt: skip
        if not found:
            self._wrong((), say("no quantity to judge"), say("write e.g. {example}", example="thd_voltage: x.thd_a"),
                        on="key")  # fmt: skip
        return found

    def _quantity(
        self,
        name: str,
        key: tuple[str, ...],
        paths: Any,
        *,
        high: float | None,
        low: float | None = None,
        short: float | None = None,
        nominal: float = 0.0,
        per: float = 1.0,
        unit: str = "%",
    ) -> dict[str, Any]:
        if high is None and low is None:
            hint = say("write it under `max`, or name a table with `limits`")
            self._wrong(
                key if getattr(self._given, key[0]) else (), say("no limit of {name}", name=name), hint, on="key"
            )
        return {
            "meter": self._name, "name": name, "key": list(key), "paths": list(paths), "high": high, "low": low,
            "short": short, "nominal": nominal, "per": per, "unit": unit, "share": self._given.share,
            "source": self._source,
        }  # fmt: skip
