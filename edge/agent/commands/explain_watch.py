"""`yulink explain` of a watch: how process values are judged together, in times and rows."""

from collections.abc import Iterator, Mapping
from typing import Any

from edge.analytics.condition.gate import CONFIRM
from edge.analytics.condition.process.names import figures_of
from edge.analytics.condition.process.section import AVERAGED
from edge.core.language import say


def watches_of(analytics: Mapping[str, Any] | None) -> Iterator[Mapping[str, Any]]:
    """Yield the watches of a plan."""
    for part in analytics["parts"] if analytics else ():
        if part["kind"] == "process":
            yield from part["settings"]["watches"]


def explain_watch(watch: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a watch reads, how long it learns, and how soon it can alarm, with units in the names."""
    every, learn = watch["every_ns"] / 1e9, watch["learn_ns"] / 1e9
    running = watch["running"]
    return {
        "watch": watch["name"],
        "tags": list(watch["tags"]),
        "rules": watch["rules"],
        "running": running and {"tag": running["tag"], "above": running["above"], "for_s": running["hold_ns"] / 1e9},
        "speed": watch["speed"],
        "state": watch["state"],
        "refuses": watch["zones"],
        "learn_s": learn,
        "rows": round(learn / (every * AVERAGED)),
        "row_s": every * AVERAGED,
        "alarm_after_s": every * AVERAGED * CONFIRM,
        "max_age_s": watch["max_age_ns"] / 1e9,
        "makes": [f"{watch['name']}.{name}" for name, *_ in figures_of(watch)],
    }


def watch_text(found: Mapping[str, Any]) -> str:
    """Return the explanation as people read it."""
    rows = [say("{watch}: {count} values are watched together", watch=found["watch"], count=len(found["tags"]))]
    rows += [f"  {path}" for path in found["tags"]]
    rows.append(say("rules: {names}", names=", ".join(found["rules"])))
    running = found["running"]
    if running is None:
        rows.append(say("runs always, as far as is known"))
    else:
        above = f" > {running['above']:g}" if running["above"] is not None else ""
        rows.append(
            say("judged from {seconds:g} s after {what} on", what=running["tag"] + above, seconds=running["for_s"])
        )
    rows += [say("learned apart by {path}", path=path) for path in (found["speed"], found["state"]) if path]
    if found["refuses"]:
        rows.append(say("learns nothing while one of these is C or D: {names}", names=", ".join(found["refuses"])))
    rows += [
        say("a row every {seconds:g} s; a value counts for {age:g} s", seconds=found["row_s"], age=found["max_age_s"]),
        say("learns {rows} rows, {hours:.3g} h of running", rows=found["rows"], hours=found["learn_s"] / 3600),
        say("an alarm comes {seconds:g} s after a fault at the earliest", seconds=found["alarm_after_s"]),
        say("makes: {names}", names=", ".join(found["makes"])),
    ]
    return "\n".join(rows)
