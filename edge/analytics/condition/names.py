"""Which tags condition monitoring makes of a machine: name, kind, unit and source. Pure: a check asks it too."""

from collections.abc import Iterator, Mapping
from typing import Any

ACCELERATION, VELOCITY = "m/s2", "mm/s"
FEATURES = {
    "acceleration_rms": ACCELERATION,
    "acceleration_peak": ACCELERATION,
    "crest_factor": "",
    "kurtosis": "",
    "skewness": "",
    "velocity_rms": VELOCITY,
    "displacement_rms": "um",
    "band_rms_1_10_khz": ACCELERATION,
    "order_1": ACCELERATION,
    "order_2": ACCELERATION,
    "orders_3_10": ACCELERATION,
    "subsynchronous": ACCELERATION,
    "envelope_rms": ACCELERATION,
}
"""Unit of each feature of a waveform."""

GEAR_FEATURES = {"mesh": ACCELERATION, "mesh_sidebands": ""}
"""Besides, where a gear sits on the shaft."""

OPERATION_FEATURES = ("mean", "rms", "peak", "ripple")
"""Of a load in one run of an operation, in its unit."""

MOTOR_LINES = ("rotor_bars_lower", "rotor_bars_upper", "eccentricity_lower", "eccentricity_upper")
"""Lines beside the supply's in a motor's current."""

REMAINING = ("remaining_low", "remaining", "remaining_high")
SLOW_BELOW_RPM = 600.0
"""Below this speed the standards look at displacement too."""

REVOLUTIONS_MIN = 20.0
"""A block of fewer turns does not resolve a bearing's lines from the shaft's."""

SAMPLES_MIN, SAMPLES_MAX = 64, 1 << 20
"""Of a block of samples; at most 10 s at 102.4 kHz, two or four megabytes."""

NUMBER, TEXT, WAVEFORM = "float64", "text", "waveform"
Figure = tuple[str, str, str, str]
"""Name, kind of the value (see `edge.core.catalogue.ValueKind`), unit and the tag of the device that it is made of."""


def is_path(tag: str) -> bool:
    """Whether it is `device.tag`, and not a tag of the machine's own device."""
    return "." in tag


def path_of(device: str, tag: str) -> str:
    """Return the path of a tag that a machine of this device reads."""
    return tag if is_path(tag) else f"{device}.{tag}"


def is_slow(machine: Mapping[str, Any]) -> bool:
    """Whether the standard looks at the displacement of this machine."""
    return machine["displacement_um"] is not None and machine["rpm"] < SLOW_BELOW_RPM


def figures_of(machine: Mapping[str, Any]) -> Iterator[Figure]:
    """Yield the tags of one machine of the plan that `MachineWatch` makes, in a fixed order."""
    has_zones = machine["velocity_mm_s"] is not None
    features = FEATURES | (GEAR_FEATURES if machine["teeth"] else {})
    for tag in machine["velocities"]:
        yield from _judged(tag, tag, has_zones)
    for tag in machine["waveforms"]:
        for name, unit in features.items():
            yield f"{tag}_{name}", NUMBER, unit, tag
        yield from _judged(tag, f"{tag}_velocity_rms", has_zones)
        if is_slow(machine):
            yield from _judged(tag, f"{tag}_displacement_rms", has_zones)
        for line in machine["orders"]:
            yield f"{tag}_{line}", NUMBER, "dB", tag
        if machine["orders"]:
            yield f"{tag}_fault", TEXT, "", tag
            yield f"{tag}_bearing_evidence", WAVEFORM, ACCELERATION, tag
        yield f"{tag}_dkw", NUMBER, "", tag
        yield f"{tag}_sensor", TEXT, "", tag
        yield f"{tag}_evidence", WAVEFORM, ACCELERATION, tag


def order_name(order: float) -> str:
    """Return the feature of a tracked order: 2.5 gives `tracked_order_2_5`."""
    return f"tracked_order_{order:g}".replace(".", "_")


def order_figures_of(machine: Mapping[str, Any]) -> Iterator[Figure]:
    """Yield the tags that order tracking makes of a machine of the plan, in a fixed order."""
    for tag in machine["waveforms"]:
        yield f"{tag}_tracking", TEXT, "", tag
        yield f"{tag}_rpm_min", NUMBER, "rpm", tag
        yield f"{tag}_rpm_max", NUMBER, "rpm", tag
        for order in machine["tracking"]["orders"]:
            yield f"{tag}_{order_name(order)}", NUMBER, ACCELERATION, tag
        if machine["teeth"]:
            yield f"{tag}_tracked_mesh", NUMBER, ACCELERATION, tag
        for line in machine["orders"]:
            yield f"{tag}_{line}", NUMBER, "dB", tag
        if machine["orders"]:
            yield f"{tag}_fault", TEXT, "", tag
        yield f"{tag}_tracked_evidence", WAVEFORM, ACCELERATION, tag


def operation_figures_of(machine: Mapping[str, Any]) -> Iterator[Figure]:
    """Yield the tags that are made of a machine's operations, in a fixed order."""
    how = machine["operations"]
    named = how["name"][0]
    yield "operation", TEXT, "", named
    if how["tool"]:
        yield "operation_tool", TEXT, "", how["tool"]
    yield "operation_duration", NUMBER, "s", named
    for tag, unit in how["load"].items():
        for feature in OPERATION_FEATURES:
            yield f"{tag}_operation_{feature}", NUMBER, unit, tag
        yield f"{tag}_wear", NUMBER, "%", tag
        yield f"{tag}_wear_trend", NUMBER, "%", tag
        yield f"{tag}_parts_left", NUMBER, "{part}", tag
        yield f"{tag}_operation_evidence", WAVEFORM, unit, tag


def chatter_figures_of(machine: Mapping[str, Any]) -> Iterator[Figure]:
    """Yield the tags that are made of a machine's cuts, in a fixed order."""
    for tag in machine["waveforms"]:
        yield f"{tag}_cut", TEXT, "", tag
        yield f"{tag}_chatter_index", NUMBER, "", tag
        yield f"{tag}_chatter_variance", NUMBER, "", tag
        yield f"{tag}_chatter_frequency", NUMBER, "Hz", tag
        yield f"{tag}_chatter_amplitude", NUMBER, ACCELERATION, tag
        yield f"{tag}_chatter_evidence", WAVEFORM, ACCELERATION, tag


def motor_figures_of(machine: Mapping[str, Any]) -> Iterator[Figure]:
    """Yield the tags that are made of a motor's current, in a fixed order."""
    for tag in machine["motor"]["currents"]:
        yield f"{tag}_motor", TEXT, "", tag
        yield f"{tag}_supply_frequency", NUMBER, "Hz", tag
        yield f"{tag}_slip", NUMBER, "%", tag
        yield f"{tag}_slip_doubt", NUMBER, "%", tag
        yield f"{tag}_slip_from", TEXT, "", tag
        yield f"{tag}_motor_load", NUMBER, "%", tag
        for line in (*MOTOR_LINES, *machine["orders"]):
            yield f"{tag}_{line}", NUMBER, "dB", tag
        yield f"{tag}_motor_evidence", WAVEFORM, "A", tag


def at_steady_speed(machine: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a machine of the plan without what is judged over the angle of its shaft instead."""
    return {**machine, "orders": {}} if machine.get("tracking") else machine


def all_figures_of(machine: Mapping[str, Any]) -> Iterator[Figure]:
    """Yield all tags that are made of a machine of the plan."""
    yield from figures_of(at_steady_speed(machine))
    if machine.get("tracking"):
        yield from order_figures_of(machine)
    if machine.get("chatter"):
        yield from chatter_figures_of(machine)
    if machine.get("motor"):
        yield from motor_figures_of(machine)
    if machine.get("operations"):
        yield from operation_figures_of(machine)


def _judged(source: str, name: str, has_zones: bool) -> Iterator[Figure]:
    if has_zones:
        yield f"{name}_zone", TEXT, "", source
        for each in REMAINING:
            yield f"{name}_{each}", NUMBER, "h", source
