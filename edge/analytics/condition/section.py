"""`machine:` of a device: what stands there, by which standard it is judged, when it runs. Pure: no numpy."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag

from edge.analytics.condition.bearing.bearings import Bearing, bearing, find, geometry_problem, known_names, near_names
from edge.analytics.condition.cutting.chatter_section import ChatterSection
from edge.analytics.condition.cutting.operations_section import Operations
from edge.analytics.condition.motor.section import MotorSection
from edge.analytics.condition.names import REVOLUTIONS_MIN, SAMPLES_MAX, SAMPLES_MIN, is_path
from edge.analytics.condition.severity import LIMITS, Limits
from edge.analytics.condition.turning.section import Tacho, no_tag
from edge.core.errors import Problem
from edge.core.language import say
from edge.core.section import Angle, Duration, Length, Power, Section, refuse

ACCELERATION_UNITS = {"g": 9.80665, "mg": 9.80665e-3, "m/s2": 1.0, "m/s²": 1.0, "mm/s2": 1e-3, "mm/s²": 1e-3}
"""Units of a waveform, with their factor to m/s²."""

VELOCITY_UNITS = {"mm/s": 1.0, "m/s": 1e3, "in/s": 25.4}
"""Units of a velocity value, with their factor to mm/s."""

BEARING_S = 10.0
HOP_SHARE_MIN = 0.1
"""Blocks that overlap by more cost work and tell nothing new."""

BORDER_KW = 200.0
GROUP_KW = {1: (300.0, 50e3), 2: (15.0, 300.0)}
"""Rated power of the machine groups of ISO 20816-3, clause 5."""


class Dimensions(Section):
    """A bearing by its dimensions, from the data sheet."""

    balls: int
    """Number of rolling elements, of one row."""

    ball: Length
    """Their diameter, e.g. `7.94 mm`."""

    pitch: Length
    """Diameter of the circle through their centres."""

    angle: Angle = 0.0
    """Contact angle, e.g. `15 deg`."""

    def bearing(self) -> Bearing:
        """Return the geometry."""
        return Bearing(
            f"{self.balls} × {self.ball:g} mm / {self.pitch:g} mm", self.balls, self.ball, self.pitch, self.angle
        )


def _with_unit(given: Any) -> Any:
    if isinstance(given, int | float) and not isinstance(given, bool):
        refuse(say("{given} has no unit", given=given), say("write the tag's, e.g. {example}", example=f"{given} A"))
    return given


class Running(Section):
    """How it is known that the machine runs. While it does not, nothing is learned and nothing is alarmed."""

    tag: str
    """A tag of this device, or of another as `device.tag`, e.g. of the PLC that drives it: true or false, or a value
    with `above`."""

    above: Annotated[str, BeforeValidator(_with_unit, json_schema_input_type=str)] | None = None
    """It runs while the value is above this, with the tag's unit: `4 A`. It stops below nine tenths of it."""

    hold: Annotated[Duration, Field(alias="for")] = 120.0
    """How long it must run before it is judged: starting is no state to judge. Less only for machines that are up to
    speed at once, or that run for less than minutes."""

    def limit(self, unit: str) -> float | None:
        """Return `above` as a number, None without one.

        Raises:
            ValueError: it is not a number with this unit.
        """
        if self.above is None:
            return None
        number, _, written = self.above.strip().partition(" ")
        if written.strip() != unit:
            raise ValueError(unit)
        return float(number)


class Cutting(Running):
    """How it is known that the tool cuts: a tag of this device, or of another as `device.tag`, true or false, or a
    value with `above`."""

    hold: Annotated[Duration, Field(alias="for")] = 0.2
    """How long it must cut before vibration is judged: an entry into the cut is no state to judge."""


def _designation(given: Any) -> Any:
    """Take `6205` unquoted, which YAML reads as a number."""
    return str(given) if isinstance(given, int) and not isinstance(given, bool) else given


def _form(given: Any) -> str:
    return "[dimensions]" if isinstance(given, Mapping | Dimensions) else "[name]"


def _known(given: str | Dimensions) -> str | Dimensions:
    if isinstance(given, Dimensions):
        if problem := geometry_problem(given.balls, given.ball, given.pitch, given.angle):
            refuse(problem, say("check the data sheet: numbers in mm and degrees"))
        return given
    if find(given) is None:
        near = ", ".join(near_names(given))
        found = (
            say("did you mean {name}?", name=near) if near else say("known: {names}", names=", ".join(known_names()))
        )
        example = "{balls: 9, ball: 7.94 mm, pitch: 39.04 mm, angle: 0 deg}"
        refuse(
            say("the bearing {name!r} is not in the catalogue", name=given),
            f"{found} · {say('or give its dimensions: {example}', example=example)}",
        )
    return given


class Blocks(Section):
    """How long the blocks are that waveforms are cut into, and joined to where they follow each other without a gap."""

    trend: Duration = 1.0
    """Of the blocks whose features are told."""

    bearing: Duration | None = None
    """Of the blocks in which a bearing's lines are looked for: 8 s and more resolve them well. Default: 10 s, or 20
    turns of a slow shaft."""

    trend_hop: Duration | None = None
    """How far a block for trends begins behind the one before. Default: its length, so none overlap."""

    bearing_hop: Duration | None = None
    """The same for bearing lines. More than the length leaves samples out, e.g. `10min`: a look now and then."""

    def lengths(self, rpm: float) -> dict[str, tuple[float, float]]:
        """Return length and hop of each purpose in seconds."""
        bearing = max(BEARING_S, REVOLUTIONS_MIN * 60 / rpm) if self.bearing is None else self.bearing
        return {"trend": (self.trend, self.trend_hop or self.trend), "bearing": (bearing, self.bearing_hop or bearing)}

    def problems(self, rpm: float, rates: Mapping[str, float]) -> Iterator[Problem]:
        """Yield what cannot be with this speed and these tags' rates."""
        lengths = self.lengths(rpm)
        for purpose, (length, hop) in lengths.items():
            if hop < HOP_SHARE_MIN * length:
                words = say("a hop of {hop:g} s is below a tenth of the block of {length:g} s", hop=hop, length=length)
                hint = say("write {example} or more", example=f"{HOP_SHARE_MIN * length:g}s")
                yield Problem((f"{purpose}_hop",), words, hint)
        seconds = REVOLUTIONS_MIN * 60 / rpm
        if lengths["bearing"][0] < seconds:
            turns = lengths["bearing"][0] * rpm / 60
            words = say("{turns:.1f} turns are too few for bearing lines", turns=turns)
            yield Problem(("bearing",), words, say("write {example} or more", example=f"{math.ceil(seconds)}s"))
        for tag, rate in rates.items():
            if self.trend * rate < SAMPLES_MIN:
                words = say("a block of {tag} has {count:.0f} samples", tag=tag, count=self.trend * rate)
                example = f"{math.ceil(SAMPLES_MIN / rate * 1000)}ms"
                yield Problem(("trend",), words, say("write {example} or more", example=example))
            for purpose, (length, _) in lengths.items():
                if length * rate > SAMPLES_MAX and getattr(self, purpose) is not None:
                    words = say("a block of {tag} has {count:.0f} samples", tag=tag, count=length * rate)
                    example = f"{math.floor(SAMPLES_MAX / rate)}s"
                    yield Problem((purpose,), words, say("write {example} or less", example=example))


class MachineSection(Section):
    """The machine behind a device: bearing, shaft and support, for condition monitoring.

    Waveforms of acceleration and values in mm/s of the device are judged.
    """

    standard: Literal["iso20816-3", "iso10816-7", "none"]
    """`iso20816-3` for machines above 15 kW, `iso10816-7` for pumps; `none` where neither holds, as for machine tool
    spindles: then it is compared with its own baseline only."""

    rpm: Annotated[float, Field(gt=0, le=200_000)]
    """Speed of the shaft in turns a minute, as on the name plate."""

    group: Literal[1, 2] | None = None
    """Machine group of ISO 20816-3: 1 above 300 kW, 2 from 15 to 300 kW."""

    category: Literal["I", "II"] | None = None
    """Category of ISO 10816-7: I for pumps that must be reliable or safe, II for others."""

    support: Literal["rigid", "flexible"] | None = None
    """`rigid` where the lowest natural frequency of machine and support is at least 1.25 times the shaft's."""

    power: Power | None = None
    """Rated power, e.g. `22 kW`."""

    speed: str | None = None
    """A tag of this device, or of another as `device.tag`, with the measured speed in rpm, for a shaft of changing
    speed."""

    bearing: Annotated[
        Annotated[str, Tag("[name]")] | Annotated[Dimensions, Tag("[dimensions]")],
        Discriminator(_form),
        BeforeValidator(_designation, json_schema_input_type=str | int | Dimensions),
        AfterValidator(_known),
    ] | None = None  # fmt: skip
    """By name from the catalogue, `6205` or `SKF 6205-2RS`, or by dimensions."""

    teeth: Annotated[int, Field(ge=5, le=1000)] | None = None
    """Teeth of the gear on this shaft: its mesh and the sidebands around it are measured."""

    running: Running | None = None
    """How it is known that the machine runs. Default: the device's tag `running`, where it has one."""

    blocks: Blocks = Blocks()
    """How waveforms are cut into blocks."""

    tacho: Tacho | None = None
    """Order tracking for a shaft of changing speed: its orders and its bearing are measured over the angle."""

    cutting: Cutting | None = None
    """How it is known that the tool cuts."""

    motor: MotorSection | None = None
    """An induction motor by its phase current."""

    chatter: ChatterSection | None = None
    """Chatter of the tool, on waveforms of acceleration."""

    operations: Operations | None = None
    """Tool wear by the spindle's load, compared run by run with the same operation."""

    def gate(self, tags: Mapping[str, Any]) -> Running | None:
        """Return what tells that the machine runs."""
        return self.running or (Running(tag="running") if "running" in tags else None)

    def geometry(self) -> Bearing | None:
        """Return the bearing."""
        if self.bearing is None:
            return None
        return self.bearing.bearing() if isinstance(self.bearing, Dimensions) else bearing(self.bearing)

    def limits(self) -> Limits | None:
        """Return the standard's borders; None where no standard holds."""
        match self.standard:
            case "iso20816-3":
                return LIMITS.get((self.standard, str(self.group), self.support or ""))
            case "iso10816-7":
                size = "to 200 kW" if (self.power or 0.0) <= BORDER_KW else "above 200 kW"
                return LIMITS.get((self.standard, self.category or "", size))
        return None

    def problems(self, tags: Mapping[str, Any]) -> Iterator[Problem]:
        """Yield what is missing or contradicts, at paths below this section, tags at `("..", "tags", …)`."""
        needed = {"iso20816-3": ("group", "support"), "iso10816-7": ("category", "power"), "none": ()}[self.standard]
        for key in needed:
            if getattr(self, key) is None:
                yield Problem(
                    (), say('{standard} needs "{key}"', standard=self.standard, key=key), _CHOICES[key](), on="key"
                )
        for key in {"group", "category"} - set(needed):
            if getattr(self, key) is not None:
                yield Problem((key,), say('{standard} has no "{key}"', standard=self.standard, key=key), on="key")
        if self.standard == "iso20816-3" and self.group and self.power:
            low, high = GROUP_KW[self.group]
            if not low <= self.power <= high:
                words = say("{power:g} kW is not in group {group}", power=self.power, group=self.group)
                yield Problem(("power",), words, _CHOICES["group"]())
        rates = {
            source.tag: tags[source.tag].rate
            for source in sources(tags)
            if source.is_waveform and tags[source.tag].rate is not None  # else the files tell it
        }
        for problem in self.blocks.problems(self.rpm, rates):
            yield replace(problem, path=("blocks", *problem.path))
        yield from self._tag_problems(tags)

    def _other_waveforms(self) -> set[str | None]:
        """Return the tags whose waveforms are no acceleration."""
        return {self.tacho.tag if self.tacho else None, *(self.motor.current if self.motor else ())}

    def _tag_problems(self, tags: Mapping[str, Any]) -> Iterator[Problem]:
        for name, tag in tags.items():
            unit = unit_of(tag)
            if name in self._other_waveforms():
                continue
            if tag.value_kind() == "waveform" and unit not in ACCELERATION_UNITS:
                words = say("a waveform of a machine needs its unit, not {unit!r}", unit=unit)
                yield Problem(
                    ("..", "tags", name), words, say("one of: {choices}", choices=", ".join(_WRITTEN)), on="key"
                )
            elif tag.lacks_full_scale:
                words = say("{tag} has integers, and nothing says what they mean", tag=name)
                example = f"full_scale: 8 {unit}" if hasattr(tag, "full_scale_quantity") else "full_scale: 8"
                hint = say("add {example}: what the largest sample means", example=example)
                yield Problem(("..", "tags", name), words, hint, on="key")
        if self.speed is not None and not is_path(self.speed) and self.speed not in tags:
            yield Problem(("speed",), *no_tag(self.speed, tags))
        if self.tacho is not None:
            has_waves = any(source.is_waveform for source in sources(tags))
            yield from (replace(each, path=("tacho", *each.path)) for each in self.tacho.problems(tags, has_waves))
        if self.operations is not None:
            found = self.operations.problems(tags)
            yield from (replace(each, path=("operations", *each.path)) for each in found)
        if self.chatter is not None:
            has_waves = any(source.is_waveform for source in sources(tags))
            yield from (replace(each, path=("chatter", *each.path)) for each in self.chatter.problems(tags, has_waves))
        if self.motor is not None:
            for each in self.motor.problems(tags, self.rpm):
                yield each if each.path[:1] == ("..",) else replace(each, path=("motor", *each.path))
        for key in ("operations", "chatter"):
            if getattr(self, key) is not None and self.cutting is None:
                words = say("{key} needs to know when the tool cuts", key=key)
                hint = say("add {example}", example="cutting: {tag: NAME, above: 5 %}")
                yield Problem((key,), words, hint, on="key")
        if self.cutting is not None:
            yield from _gate_problems("cutting", self.cutting, tags)
        gate = self.gate(tags)
        if gate is None:
            words = say("nothing tells when the machine runs")
            hint = say("add {example}, or its standstill is taken for a change", example="running: {tag: NAME}")
            yield Problem((), words, hint, severity="warning", on="key")
        else:
            yield from _gate_problems("running", gate, tags)


def _gate_problems(key: str, gate: Running, tags: Mapping[str, Any]) -> Iterator[Problem]:
    if is_path(gate.tag):
        return  # it is told where the tags of all devices are known
    if gate.tag not in tags:
        yield Problem((key, "tag"), *no_tag(gate.tag, tags))
        return
    unit = unit_of(tags[gate.tag])
    try:
        gate.limit(unit)
    except ValueError:
        words = say("{given!r} is not a value in {unit!r}", given=gate.above, unit=unit)
        yield Problem((key, "above"), words, say("write e.g. {example}", example=f"4 {unit}".strip()))


_WRITTEN = ("g", "mg", "m/s2", "mm/s2")
_CHOICES = {
    "group": lambda: say("group: 1 above 300 kW, 2 from 15 to 300 kW; smaller machines: standard: none"),
    "support": lambda: say("add support: rigid, or support: flexible"),
    "category": lambda: say("add category: I, for pumps that must be reliable or safe, or II"),
    "power": lambda: say("add power: its rated power, e.g. 22 kW"),
}


def unit_of(tag: Any) -> str:
    """Return the unit of a tag's section; of a waveform whose full scale carries it, that one."""
    return tag.unit or str(getattr(tag, "full_scale_quantity", (0.0, ""))[1])


def plan(device: str, machine: MachineSection, tags: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the worker needs to know of a machine, as JSON types. Gates by tags of other devices are added where
    these are known."""
    limits, geometry, gate = machine.limits(), machine.geometry(), machine.gate(tags)
    found = sources(tags)
    return {
        "device": device,
        "rpm": machine.rpm,
        "speed": machine.speed,
        "clause": limits.clause if limits else "",
        "velocity_mm_s": list(limits.velocity) if limits else None,
        "displacement_um": list(limits.displacement) if limits and limits.displacement else None,
        "orders": geometry.orders if geometry else {},
        "teeth": machine.teeth,
        "running": _gate_plan(gate, tags),
        "cutting": _gate_plan(machine.cutting, tags),
        "motor": machine.motor.plan(tags) if machine.motor else None,
        "chatter": machine.chatter.plan() if machine.chatter and machine.cutting else None,
        "operations": machine.operations.plan(tags) if machine.operations and machine.cutting else None,
        "tracking": machine.tacho.plan(tags) if machine.tacho else None,
        "velocities": {source.tag: source.factor for source in found if not source.is_waveform},
        "waveforms": {source.tag: source.factor for source in found if source.is_waveform},
        "blocks": {purpose: list(each) for purpose, each in machine.blocks.lengths(machine.rpm).items()},
        "joined": [source.tag for source in found if source.is_waveform and tags[source.tag].is_stream],
    }


def _gate_plan(gate: Running | None, tags: Mapping[str, Any]) -> dict[str, Any] | None:
    if gate is None or gate.tag not in tags:
        return None  # told where tags are checked, or one of another device
    try:
        return gate_plan(gate, unit_of(tags[gate.tag]))
    except ValueError:
        return None  # it is told where tags are checked


def gate_plan(gate: Running, unit: str) -> dict[str, Any]:
    """Return what the worker needs to know of a gate whose tag has this unit.

    Raises:
        ValueError: `above` is not a number with this unit.
    """
    return {"tag": gate.tag, "above": gate.limit(unit), "hold_ns": round(gate.hold * 1e9)}


@dataclass(frozen=True, slots=True)
class Source:
    """A tag that tells of the machine: a waveform or a velocity, with its factor to m/s² or mm/s."""

    tag: str
    factor: float
    is_waveform: bool


def sources(tags: Mapping[str, Any]) -> list[Source]:
    """Return the tags of a device that are judged."""
    found = []
    for name, tag in tags.items():
        unit = unit_of(tag)
        if tag.value_kind() == "waveform" and unit in ACCELERATION_UNITS:
            found.append(Source(name, ACCELERATION_UNITS[unit], True))
        elif tag.value_kind() != "waveform" and unit in VELOCITY_UNITS:
            found.append(Source(name, VELOCITY_UNITS[unit], False))
    return found
