"""Which figures a machine has: name, kind, unit and inputs of each. Pure: a check asks it too."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from edge.analytics.production.terms import OTHER, UNKNOWN
from edge.core.interval import Level

LEVELS = (Level.SHIFT, Level.DAY, Level.MONTH)
"""Levels that figures are given for."""

NUMBER, TEXT = "float64", "text"
Figure = tuple[str, str, str, tuple[str, ...]]
"""Name, kind of the value (see `edge.core.catalogue.ValueKind`), unit and the paths of the tags it is made of."""


def levels_of(settings: Mapping[str, Any]) -> list[Level]:
    """Return the levels of a machine; there are shifts only where they are configured."""
    return [level for level in LEVELS if level is not Level.SHIFT or settings["shifts"]]


def programmes_of(settings: Mapping[str, Any]) -> dict[str, str]:
    """Return the programmes that have figures of their own, those with a cycle, and how their names say them."""
    if not settings["programme"]:
        return {}
    return {each: re.sub(r"[^\w-]+", "_", each) for each in settings["cycles"] if each != OTHER}


def roles_of(settings: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return what each tag is for besides the states: `parts`, `good`, `scrap`, `energy`, `reasons`, `programme`."""
    roles: dict[str, list[str]] = {}
    for key in ("parts", "good", "scrap", "energy", "reasons"):
        if settings[key] is not None:
            roles.setdefault(settings[key]["tag"], []).append(key)
    if settings["programme"]:
        roles.setdefault(settings["programme"], []).append("programme")
    return roles


def inputs_of(settings: Mapping[str, Any]) -> list[str]:
    """Return the paths of all tags that a machine reads."""
    return sorted({*settings["watched"], *settings["reads"], *roles_of(settings)})


def figures_of(settings: Mapping[str, Any]) -> Iterator[Figure]:
    """Yield all figures of one machine of the plan, in a fixed order."""
    number, states = NUMBER, tuple(settings["watched"])
    counters = {what: (settings[what]["tag"],) for what in ("parts", "good", "scrap") if settings[what]}
    parts = counters.get("parts", ())
    everything = (*states, *(path for paths in counters.values() for path in paths))
    yield "state", TEXT, "", states
    if parts:
        yield "cycle_time_last", number, "s", (*states, *parts)
    for level in levels_of(settings):
        for state in [*(rule["state"] for rule in settings["states"]), UNKNOWN]:
            yield f"state_seconds_{state}_{level}", number, "s", states
        yield f"planned_seconds_{level}", number, "s", states
        yield f"availability_{level}", number, "", states
        for name, unit in (("micro_stops", ""), ("stops", ""), ("mtbf", "h"), ("mttr", "min")):
            yield f"{name}_{level}", number, unit, states
        for what, paths in counters.items():
            yield f"parts_{level}" if what == "parts" else f"parts_{what}_{level}", number, "", paths
        if parts:
            yield f"cycle_time_{level}", number, "s", (*states, *parts)
            if len(counters) > 1:
                yield f"quality_{level}", number, "", tuple(path for paths in counters.values() for path in paths)
            if settings["cycles"]:
                yield f"effectiveness_{level}", number, "", (*states, *parts)
                yield f"oee_{level}", number, "", everything
        if settings["energy"]:
            used = (settings["energy"]["tag"],)
            if parts:
                yield f"kwh_per_part_{level}", number, "kWh", (*used, *parts)
            for slug in programmes_of(settings).values() if parts else ():
                yield f"kwh_per_part_of_{slug}_{level}", number, "kWh", (*used, *parts, settings["programme"])
                yield f"parts_of_{slug}_{level}", number, "", (*parts, settings["programme"])
            yield f"idle_energy_share_{level}", number, "", (*used, *states)
            yield f"base_load_{level}", number, "kW", used
