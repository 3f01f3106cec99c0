"""What a running agent says of the machines that it watches: zones, faults, alarms that stand, what is not judged."""

from collections.abc import Iterator, Mapping
from typing import Any

from edge.core.language import say

FAULTS = {
    "outer_race": lambda: say("outer race"),
    "inner_race": lambda: say("inner race"),
    "ball": lambda: say("ball"),
    "cage": lambda: say("cage"),
}


def standing(views: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line for each machine at which a fault or an alarm stands. `views`: by the operators' names."""
    for device, view in _of_machines(views):
        faults = [f"{FAULTS[fault]()} ({tag})" for tag, fault in (view.get("faults") or {}).items()]
        parts = [say("bearing fault: {faults}", faults=", ".join(faults))] if faults else []
        if alarmed := view.get("alarmed"):
            parts.append(say("alarm: {names}", names=", ".join(alarmed)))
        if parts:
            yield f"{device}: {'; '.join(parts)}"


def zones(views: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line for each machine that a standard judges: its zones."""
    for device, view in _of_machines(views):
        if known := view.get("zones"):
            yield f"{device}: " + ", ".join(
                say("zone {zone} ({tag})", zone=zone, tag=tag) for tag, zone in sorted(known.items())
            )


def not_judged(views: Mapping[str, Any]) -> Iterator[str]:
    """Yield which waveforms of watched machines cannot be judged, and why."""
    for device, view in _of_machines(views):
        for tag, reason in (view.get("not_judged") or {}).items():
            yield say("{device}.{tag} is not judged: {reason}", device=device, tag=tag, reason=reason)


def _of_machines(views: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield device and view of each operator that watches one; its name is what it watches, then the device."""
    for name, view in views.items():
        if isinstance(view, Mapping):
            yield name.partition(" ")[2] or name, view
