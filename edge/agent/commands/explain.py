"""`yulink explain`: by what a device's machine is judged, in numbers a vibration analyst can check."""

import argparse
import difflib
import json
from typing import Any

from edge.agent.commands.explain_watch import explain_watch, watch_text, watches_of
from edge.agent.configuration.loader import load
from edge.agent.configuration.settings import Device
from edge.analytics.condition.bearing.lines import block_needed, level_needed
from edge.analytics.condition.cutting.chatter import BAND_HZ, INDEX_LIMIT, LEVEL_DB, TURNS_MIN, VARIANCE_LIMIT
from edge.analytics.condition.motor.current import LOAD_MIN, Motor
from edge.analytics.condition.motor.section import MotorSection
from edge.analytics.condition.names import SAMPLES_MAX, order_name
from edge.analytics.condition.section import MachineSection, Source, sources
from edge.analytics.condition.severity import CRITERION_II_SHARE, TRIP_FACTOR
from edge.analytics.condition.signal.spectrum import velocity_band
from edge.analytics.condition.turning.section import Tacho
from edge.core.errors import WrongInput
from edge.core.language import say


def run(arguments: argparse.Namespace) -> int:
    """Print the explanation of one device, or of one watch."""
    settings = load(arguments.config)
    watches = {each["name"]: each for each in watches_of(settings.analytics)}
    devices = settings.devices
    device = devices.get(arguments.device)
    if arguments.device in watches and (device is None or device.machine is None):
        explained = explain_watch(watches[arguments.device])
        print(json.dumps(explained, ensure_ascii=False) if arguments.json else watch_text(explained))
        return 0
    if device is None:
        near = difflib.get_close_matches(arguments.device, devices, 1)
        raise WrongInput(
            say("there is no device {device!r} in {config}", device=arguments.device, config=arguments.config),
            say("did you mean {name!r}?", name=near[0]) if near else say("devices: {names}", names=", ".join(devices)),
        )
    if device.machine is None:
        watched = [name for name, other in devices.items() if other.machine is not None]
        raise WrongInput(
            say("{device} has no `machine:`", device=device.name),
            say("devices that have: {names}", names=", ".join(watched) or say("none")),
        )
    found = explanation(device, device.machine)
    print(json.dumps(found, ensure_ascii=False) if arguments.json else _text(found))
    return 0


def explanation(device: Device, machine: MachineSection) -> dict[str, Any]:
    """Return zones, fault frequencies and what blocks are needed, with units in the names."""
    shaft = machine.rpm / 60
    low, high = velocity_band(machine.rpm)
    found: dict[str, Any] = {
        "device": device.name, "standard": machine.standard, "rpm": machine.rpm, "shaft_hz": shaft,
        "velocity_band_hz": [low, high], "zones": None, "bearing": None, "lines": {}, "blocks": [],
    }  # fmt: skip
    if limits := machine.limits():
        _, b_c, c_d = limits.velocity
        found["zones"] = {
            "clause": limits.clause,
            "velocity_mm_s": limits.velocity,
            "displacement_um": limits.displacement,
            "alarm_above_baseline_mm_s": CRITERION_II_SHARE * b_c,
            "alarm_max_mm_s": TRIP_FACTOR * b_c,
            "trip_max_mm_s": TRIP_FACTOR * c_d,
        }
    if machine.teeth:
        found["lines"]["mesh"] = {"order": machine.teeth, "hz": machine.teeth * shaft}
    geometry = machine.geometry()
    if geometry is not None:
        found["bearing"] = geometry.name
        found["bearing_caveats"] = geometry.caveats()
        found["lines"] |= {name: {"order": order, "hz": order * shaft} for name, order in geometry.orders.items()}
        seconds, rate = block_needed(geometry.orders, shaft)
        found["needed"] = {"seconds": seconds, "rate_hz": rate}
    judged = sources(device.section.tags)
    found["velocities"] = [source.tag for source in judged if not source.is_waveform]
    waves = [source for source in judged if source.is_waveform]
    found["blocks"] = [_block(device, machine, source, found.get("needed")) for source in waves]
    if machine.tacho is not None:
        found["tracking"] = _tracking(machine, machine.tacho, shaft, found["blocks"])
    if machine.motor is not None:
        found["motor"] = _motor(machine.motor, machine.rpm)
    if machine.chatter is not None:
        found["chatter"] = _chatter(machine, shaft)
    if machine.operations is not None:
        found["operations"] = machine.operations.plan(device.section.tags)
    gate = machine.gate(device.section.tags)
    found["speed"] = machine.speed
    found["running"] = None if gate is None else {"tag": gate.tag, "above": gate.above, "for_s": gate.hold}
    return found


def _block(device: Device, machine: MachineSection, source: Source, needed: dict[str, float] | None) -> dict[str, Any]:
    """Return what is told of one tag's waveforms, and of the blocks that they are cut into or joined to."""
    tag: Any = device.section.tags[source.tag]
    shaft = machine.rpm / 60
    block: dict[str, Any] = {"tag": source.tag, "rate_hz": tag.rate, "joined": tag.is_stream}
    samples = getattr(getattr(tag, "value_type", None), "count", None)
    if samples:
        block |= {"samples": samples, **_length(samples / tag.rate, shaft)}
    for purpose, (length, hop) in machine.blocks.lengths(machine.rpm).items():
        seconds = length if tag.rate is None else min(length, SAMPLES_MAX / tag.rate)
        if samples and not tag.is_stream:
            seconds = min(seconds, samples / tag.rate)
        block[purpose] = {**_length(seconds, shaft), "hop_s": hop}
    if needed:
        seconds = block["bearing"]["seconds"]
        block["level_needed_db"] = level_needed(seconds * shaft)
        block["long_enough"] = seconds >= needed["seconds"]
        if tag.rate is not None:  # else each file tells it
            block["samples_needed"] = int(-(-needed["seconds"] * tag.rate // 1))
            block["quick_enough"] = tag.rate >= needed["rate_hz"]
    return block


def _length(seconds: float, shaft: float) -> dict[str, float]:
    return {"seconds": seconds, "resolution_hz": 1 / seconds, "turns": seconds * shaft}


def _tracking(machine: MachineSection, tacho: Tacho, shaft: float, blocks: list[dict[str, Any]]) -> dict[str, Any]:
    """Return which orders are tracked, in Hz at the rated speed, and how finely each block resolves them."""
    orders = {order_name(order): order for order in tacho.orders}
    orders |= {"tracked_mesh": float(machine.teeth)} if machine.teeth else {}
    return {
        "tag": tacho.tag, "pulses": tacho.pulses, "follow_percent": tacho.follow,
        "orders": {name: {"order": order, "hz": order * shaft} for name, order in orders.items()},
        "resolution_orders": {
            each["tag"]: 1 / int(each["bearing"]["turns"]) for each in blocks if each["bearing"]["turns"] >= 1
        },
    }  # fmt: skip


def _text(found: dict[str, Any]) -> str:
    rows = [
        say("{device}: {rpm:g} rpm, shaft {hz:.3f} Hz", device=found["device"], rpm=found["rpm"], hz=found["shaft_hz"])
    ]
    rows += ["", *_zone_rows(found)]
    if found["lines"]:
        rows += ["", say("bearing {name}", name=found["bearing"]) if found["bearing"] else say("gear")]
        rows += [f"  {name:5} {line['order']:9.4f} ×  {line['hz']:9.3f} Hz" for name, line in found["lines"].items()]
    rows += [f"  {words}" for words in found.get("bearing_caveats", ())]
    if needed := found.get("needed"):
        words = say(
            "  a block needs {seconds:.2f} s at {rate:.0f} Hz at least",
            seconds=needed["seconds"], rate=needed["rate_hz"],
        )  # fmt: skip
        rows.append(words)
    rows += ["", *(row for block in found["blocks"] for row in _block_rows(block))] if found["blocks"] else []
    if "tracking" in found:
        rows += ["", *_tracking_rows(found["tracking"])]
    if "motor" in found:
        rows += ["", *_motor_rows(found["motor"])]
    if "chatter" in found:
        rows += ["", *_chatter_rows(found["chatter"])]
    if "operations" in found:
        rows += ["", *_operation_rows(found["operations"])]
    gate = found["running"]
    rows += ["", say("runs always, as far as is known") if gate is None else _gate_row(gate)]
    rows += [say("its speed is that of {tag}", tag=found["speed"])] if found["speed"] else []
    return "\n".join(rows)


def _zone_rows(found: dict[str, Any]) -> list[str]:
    zones = found["zones"]
    if zones is None:
        return [say("no zones: it is compared with its own baseline")]
    band = found["velocity_band_hz"]
    rows = [
        say("zones of {clause}, velocity RMS {low:g}–{high:g} Hz", clause=zones["clause"], low=band[0], high=band[1]),
        "  A ≤ {:g} < B ≤ {:g} < C ≤ {:g} < D mm/s".format(*zones["velocity_mm_s"]),
    ]
    if zones["displacement_um"] and band[0] < 10:
        rows.append("  A ≤ {:g} < B ≤ {:g} < C ≤ {:g} < D µm".format(*zones["displacement_um"]))
    rows.append(
        say(
            "  alarm {step:g} mm/s above its baseline, {alarm:g} at most; trip {trip:g} at most",
            step=zones["alarm_above_baseline_mm_s"],
            alarm=zones["alarm_max_mm_s"],
            trip=zones["trip_max_mm_s"],
        )
    )
    if found["velocities"]:
        rows.append(say("  judged: {tags}", tags=", ".join(found["velocities"])))
    return rows


def _block_rows(block: dict[str, Any]) -> list[str]:
    if "samples" not in block:
        rate = say("the rate of each file") if block["rate_hz"] is None else f"{block['rate_hz']:g} Hz"
        rows = [f"{block['tag']}: {rate}"]
    else:
        rows = [
            say(
                "{tag}: {samples} samples at {rate:g} Hz: {seconds:.2f} s, {turns:.1f} turns, resolution {step:.3f} Hz",
                tag=block["tag"],
                samples=block["samples"],
                rate=block["rate_hz"],
                seconds=block["seconds"],
                turns=block["turns"],
                step=block["resolution_hz"],
            )
        ]
    words = say(
        "  features of blocks of {seconds:.2f} s, {turns:.1f} turns, resolution {resolution_hz:.3f} Hz",
        **block["trend"],
    )
    rows.append(words)
    if "long_enough" in block:
        words = say(
            "  bearing lines of blocks of {seconds:.2f} s, {turns:.1f} turns, resolution {resolution_hz:.3f} Hz",
            **block["bearing"],
        )
        rows.append(words)
    if block["joined"]:
        rows.append(say("  waveforms that follow each other without a gap are joined"))
    if block.get("long_enough") is False:
        words = say("  too short for bearing lines: {count} samples are needed", count=block["samples_needed"])
        rows.append(words)
    elif "level_needed_db" in block:
        rows.append(say("  a fault shows from {level:.1f} dB", level=block["level_needed_db"]))
    if block.get("quick_enough") is False:
        rows.append(say("  too slow for bearing lines"))
    return rows


def _tracking_rows(tracking: dict[str, Any]) -> list[str]:
    if tracking["tag"] is None:
        rows = [
            say("orders by the shaft's own line, within {share:g} % of its speed", share=tracking["follow_percent"])
        ]
    else:
        rows = [say("orders by the tacho {tag}: {count} pulses a turn", tag=tracking["tag"], count=tracking["pulses"])]
    for name, line in tracking["orders"].items():
        rows.append(f"  {name:18} {line['order']:9.4f} ×  {line['hz']:9.3f} Hz")
    for tag, step in tracking["resolution_orders"].items():
        rows.append(say("  {tag}: resolution {step:.4f} orders at the rated speed", tag=tag, step=step))
    return rows


def _motor(motor: MotorSection, rpm: float) -> dict[str, Any]:
    """Return where lines lie in the current at the rated load, and by what they are judged."""
    plate = Motor(motor.supply, rpm, motor.rated)
    slip, shaft = plate.rated_slip, rpm / 60
    places = {
        "rotor_bars_lower": motor.supply * (1 - 2 * slip), "rotor_bars_upper": motor.supply * (1 + 2 * slip),
        "eccentricity_lower": motor.supply - shaft, "eccentricity_upper": motor.supply + shaft,
    }  # fmt: skip
    return {
        "currents": list(motor.current), "pole_pairs": plate.pole_pairs, "rated_slip": slip, "rated_a": motor.rated,
        "supply_hz": motor.supply, "least_a": LOAD_MIN * motor.rated, "lines_hz": places, "seconds": motor.window,
        "resolution_hz": 1 / motor.window, "bars_db": [motor.bars, motor.bars_broken],
    }  # fmt: skip


def _motor_rows(how: dict[str, Any]) -> list[str]:
    bars, broken = how["bars_db"]
    rows = [
        say(
            "motor: {count} pole pairs, rated slip {slip:.2%}, {rated:g} A at {supply:g} Hz; from {least:g} A on",
            count=how["pole_pairs"], slip=how["rated_slip"], rated=how["rated_a"], supply=how["supply_hz"],
            least=how["least_a"],
        )
    ]  # fmt: skip
    rows += [f"  {name:19} {hz:9.3f} Hz" for name, hz in how["lines_hz"].items()]
    words = say(
        "  blocks of {seconds:g} s, resolution {step:.3f} Hz; rotor bars: alarm from {bars:g} dB, urgent {broken:g} dB",
        seconds=how["seconds"], step=how["resolution_hz"], bars=bars, broken=broken,
    )  # fmt: skip
    return [*rows, words]


def _chatter(machine: MachineSection, shaft: float) -> dict[str, Any]:
    """Return what chatter is judged by, at the rated speed."""
    assert machine.chatter is not None
    teeth = machine.chatter.plan()["teeth"]
    return {
        "teeth": machine.chatter.teeth, "tooth_hz": teeth * shaft if teeth else None,
        "seconds_least": TURNS_MIN / shaft,
        "index_above": INDEX_LIMIT, "variance_above": VARIANCE_LIMIT, "level_db": LEVEL_DB, "band_hz": list(BAND_HZ),
    }  # fmt: skip


def _chatter_rows(how: dict[str, Any]) -> list[str]:
    low, high = how["band_hz"]
    return [
        say("chatter of a tool with {teeth} teeth, {low:g}–{high:g} Hz", teeth=how["teeth"], low=low, high=high)
        + (say(", a tooth each {hz:.3f} Hz at the rated speed", hz=how["tooth_hz"]) if how["tooth_hz"] else ""),
        say(
            "  index and variance above {limit:g}, a line of {level:g} dB; blocks of {least:.2f} s at least",
            limit=how["index_above"], level=how["level_db"], least=how["seconds_least"],
        ),
    ]  # fmt: skip


def _operation_rows(how: dict[str, Any]) -> list[str]:
    rows = [
        say(
            "tool wear by {loads}, for each {names}",
            loads=", ".join(how["load"]), names=" + ".join([*how["name"], *([how["tool"]] if how["tool"] else [])]),
        ),
        say(
            "  an alarm: the mean of three runs {rise:g} % above that of the first {runs}, or below half of it",
            rise=100 * how["rise"], runs=how["runs"],
        ),
    ]  # fmt: skip
    if how["changed"]:
        rows.append(say("  a tool is new when {tag} changes", tag=how["changed"]))
    else:
        rows.append(say("  nothing tells when a tool is new"))
    return rows


def _gate_row(gate: dict[str, Any]) -> str:
    if gate["above"] is None:
        return say("runs while {tag} is true, judged after {seconds:g} s", tag=gate["tag"], seconds=gate["for_s"])
    return say(
        "runs while {tag} is above {limit}, judged after {seconds:g} s",
        tag=gate["tag"], limit=gate["above"], seconds=gate["for_s"],
    )  # fmt: skip
