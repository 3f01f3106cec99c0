"""From `baselines:` of the configuration to the worker's plan, or to what is wrong with them."""

import difflib
from collections.abc import Callable, Collection, Mapping
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from edge.analytics.energy.baseline_section import AUTO, LEVELS, BaselineSection
from edge.analytics.expression.check import Known, Type
from edge.core.errors import Problem
from edge.core.language import say

ROOT_KEY = "baselines"

Tell = Callable[[Problem], None]


def plan(
    sections: Mapping[str, BaselineSection], energy: Mapping[str, Any] | None, timezone: str, tell: Tell
) -> list[dict[str, Any]]:
    """Return the settings of all baselines; a meter that is none is told. Their drivers are checked by `check`."""
    meters = {each["name"]: each["unit"] for each in (energy or {"meters": []})["meters"]}
    found = []
    for name, given in sections.items():
        if given.energy not in meters:
            near = difflib.get_close_matches(given.energy, meters, 1, 0.6)
            hint = say('did you mean "{near}"?', near=near[0]) if near else say("write it under `energy: meters`")
            tell(Problem((ROOT_KEY, name, "energy"), say("there is no meter {name!r}", name=given.energy), hint))
        found.append({
            "name": name,
            "timezone": timezone,
            "energy": f"{given.energy}.energy_{LEVELS[given.every]}",
            "unit": meters.get(given.energy, ""),
            "drivers": dict(given.drivers),
            "every": given.every,
            "from_ns": _instant(given.begin, timezone),
            "to_ns": _instant(given.to + timedelta(days=1), timezone),
        })  # fmt: skip
    return found


def check(
    baselines: list[dict[str, Any]],
    look_up: Callable[[str], Known | None],
    known: Callable[[], list[str]],
    figures: Collection[str],
    tell: Tell,
) -> None:
    """Check the drivers, and settle what of each counts. `figures` are tags with a value for each interval."""
    for settings in baselines:
        for path, use in settings["drivers"].items():
            place = (ROOT_KEY, settings["name"], "drivers", path)
            tag = look_up(path)
            if tag is None or path.partition(".")[0] == settings["name"]:
                near = difflib.get_close_matches(path, known(), 1, 0.6)
                hint = say('did you mean "{near}"?', near=near[0]) if near else say("write device.tag")
                tell(Problem(place, say("there is no tag {path!r}", path=path), hint, on="key"))
            elif tag.type not in (Type.NUMBER, Type.ANY):
                message = say("a driver is a number, {path} is {found}", path=path, found=tag.type.words)
                tell(Problem(place, message, on="key"))
            if use == AUTO:
                settings["drivers"][path] = "sum" if path in figures else "mean"


def _instant(day: date, timezone: str) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(timezone)).timestamp()) * 10**9
