"""From `energy:` of the configuration to the plan of the energy account, or to what is wrong with it."""

import difflib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from edge.agent.configuration.energy_data import DataPlanner, bill_of, listed
from edge.agent.configuration.energy_meters import UNITS, MeterPlanner, unit_key
from edge.analytics.energy.section import EnergySection, Meter
from edge.core.errors import Problem
from edge.core.language import say

if TYPE_CHECKING:
    from edge.agent.configuration.settings import Device

ROOT_KEY = "energy"
METERS_MAX = 1000

Tell = Callable[[Problem], None]


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
        self._meters = MeterPlanner(section, devices, self._zone, self._wrong)
        self._data = DataPlanner(section, folder, self._zone, self._wrong)

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
        meters = [found for name, place in names.items() if (found := self._meters.meter(name, place, name in below))]
        editions, tariff = self._data.tariff()
        curve = self._data.curve(tariff) if tariff and tariff.curve else []
        for meter in meters:
            meter["tariff"] = bool(meter["tariff"] and editions)
        raw = {
            "timezone": self._timezone,
            "meters": meters,
            "virtual": self._virtual(names),
            "processes": self._processes(names),
            "editions": editions,
            "events": self._data.events(editions),
            "calendar": self._data.calendar(),
            "demand": self._demand(names),
            "shifts": dict(self._shifts),
            "factors": self._data.factors(),
            "area": self._section.area,
            "factor_set": self._section.factors or "",
            "curve": curve,
            "currency": tariff.currency if tariff else "",
            "bill": bill_of(tariff),
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
        for demand in listed(self._section.demand):
            if demand.meter:
                names.setdefault(demand.meter, ("demand", "meter"))
        return names

    def _check_tree(self) -> None:
        """Tell meters that hang below two others, or below themselves: their energy would count twice."""
        above = dict[str, str]()
        for parent, children in self._section.tree.items():
            for number, child in enumerate(children):
                place, other = ("tree", parent, number), above.setdefault(child, parent)
                if other != parent or child in children[:number]:
                    message = say("{name} hangs below {other} already", name=child, other=other)
                    self._wrong(place, message, say("a meter hangs below one other, once"))
        for parent in self._section.tree:
            name, seen = parent, set[str]()
            while name in above and name not in seen:
                seen.add(name)
                name = above[name]
            if name == parent and seen:
                self._wrong(("tree", parent), say("{name} hangs below itself", name=parent), say("take it out"))
                return

    def _virtual(self, names: Mapping[str, Any]) -> list[dict[str, Any]]:
        found = []
        self._check_tree()
        for parent, children in self._section.tree.items():
            parts = [[parent, 1.0], *([child, -1.0] for child in dict.fromkeys(children))]
            unit = UNITS[unit_key(self._section.meters.get(parent, Meter()).carrier)][0]
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
            unit = UNITS[unit_key(min(carriers, default="electricity"))][0]
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
        for number, demand in enumerate(listed(self._section.demand)):
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
