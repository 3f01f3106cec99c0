"""From the configuration to the rules of a device's tags, and what of them cannot be."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from drivers.api import DriverSection, TagSection
from edge.core import units
from edge.core.errors import Problem
from edge.core.language import say

_NO_NUMBER = ("bool", "text", "waveform")


@dataclass(frozen=True, slots=True)
class TagRule:
    """What the configuration says of one tag: `valid` is (lowest, highest) in the tag's unit, times are in seconds.

    `rate` is the greatest change a second in the tag's unit, `unit` that unit.
    """

    deadband: float | None = None
    valid: tuple[float, float] | None = None
    heartbeat: float | None = None
    rate: float | None = None
    frozen_after: float | None = None
    clock_tolerance: float | None = None
    unit: str = ""


def rules_of(device: DriverSection, frozen_after: float | None, clock_tolerance: float | None) -> dict[str, TagRule]:
    """Return the rules of a device's tags by name, without those that have none. Times are the site's, in seconds."""
    found = {}
    for name, tag in device.tags.items():
        rule = TagRule(
            tag.deadband,
            tag.valid,
            device.heartbeat_of(tag),
            _rate(tag, device),
            _time(tag.frozen_after, device.frozen_after, frozen_after) if _may_freeze(tag, device) else None,
            _time(tag.clock_tolerance, device.clock_tolerance, clock_tolerance),
            tag.unit,
        )
        if rule.deadband or rule.valid or rule.rate or rule.frozen_after or rule.clock_tolerance:
            found[name] = rule
    return found


HEARTBEATS = 1.5
"""A device that reports by itself owes a reading in so many heartbeats: it need not be told at once."""


def owed_every(device: DriverSection, tag: TagSection, default: float) -> float:
    """Return in how many seconds a reading of a tag is owed, `default` being the device's; 0 where none is."""
    if device.is_polled(tag):
        return tag.every or default
    return HEARTBEATS * (device.heartbeat_of(tag) or 0.0)


def _time(*given: float | None) -> float | None:
    """Return the first that is given; None for `never`."""
    first = next((each for each in given if each is not None), None)
    return None if first == math.inf else first


def _may_freeze(tag: TagSection, device: DriverSection) -> bool:
    return tag.value_kind() not in _NO_NUMBER and (device.is_polled(tag) or device.heartbeat_of(tag) is not None)


def _rate(tag: TagSection, device: DriverSection) -> float | None:
    """Return the greatest change a second in the tag's unit, None where none is given for it."""
    given = tag.max_rate or device.max_rate
    if given is None:
        return None
    factor = units.factor(given.unit, tag.unit)
    return None if factor is None else given.per_second * factor


def problems(device: DriverSection) -> Iterator[Problem]:
    """Yield what is wrong with the rules of a device, at paths relative to it."""
    for name, tag in device.tags.items():
        if tag.max_rate is not None:
            yield from _rate_problems(("tags", name, "max_rate"), tag)
        if tag.frozen_after is not None and tag.frozen_after != math.inf:
            yield from _frozen_problems(("tags", name, "frozen_after"), tag, device)
        if tag.valid is not None and tag.valid[0] > tag.valid[1]:
            low, high = tag.valid
            yield Problem(
                ("tags", name, "valid"),
                say("no value lies between {low:g} and {high:g}", low=low, high=high),
                say("write the lowest first: [{high:g}, {low:g}]", low=low, high=high),
            )
    common = device.max_rate
    if common is not None and not any(units.factor(common.unit, tag.unit) for tag in device.tags.values()):
        yield Problem(
            ("max_rate",),
            say("no tag of this device is in {unit}", unit=common.unit or "1"),
            say("units here: {units}", units=", ".join(sorted({tag.unit for tag in device.tags.values() if tag.unit}))),
        )


def _rate_problems(path: tuple[str, ...], tag: TagSection) -> Iterator[Problem]:
    assert tag.max_rate is not None
    kind = tag.value_kind()
    if kind in _NO_NUMBER:
        yield Problem(path, say("only numbers have a rate of change"), say("remove `max_rate`"), on="key")
    elif units.factor(tag.max_rate.unit, tag.unit) is None:
        written = tag.unit or say("no unit")
        example = f"max_rate: 5 {tag.unit}/min" if tag.unit else f"unit: {tag.max_rate.unit}"
        yield Problem(
            path,
            say("the tag is in {unit}, its rate of change in {other}", unit=written, other=tag.max_rate.unit or "1"),
            say("write e.g. {example}", example=example),
        )


def _frozen_problems(path: tuple[str, ...], tag: TagSection, device: DriverSection) -> Iterator[Problem]:
    heartbeat = device.heartbeat_of(tag)
    if tag.value_kind() in _NO_NUMBER:
        yield Problem(path, say("only numbers can be frozen"), say("remove `frozen_after`"), on="key")
    elif not device.is_polled(tag) and heartbeat is None:
        yield Problem(
            path,
            say("the device tells changes only: that nothing changes is not seen"),
            say("add heartbeat: 1min, or shorter than `frozen_after`"),
        )
