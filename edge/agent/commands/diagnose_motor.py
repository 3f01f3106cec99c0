"""`yulink diagnose --motor`: a recorded phase current, judged by the lines beside the supply's."""

import argparse
import json
import math
from typing import Any

from edge.agent.commands.diagnose import full_scale
from edge.agent.commands.waveform_file import Recording
from edge.analytics.condition.bearing.bearings import bearing
from edge.analytics.condition.motor.current import CurrentSpectrum, Motor, NotDiagnosable, current_spectrum
from edge.core.errors import WrongInput
from edge.core.language import say
from edge.core.section import CURRENT_UNITS

EXAMPLE = "supply=50,rpm=1480,rated=42"
KEYS = ("supply", "rpm", "rated")


def motor_of(given: str, orders: dict[str, float]) -> Motor:
    """Return the name plate written as `supply=50,rpm=1480,rated=42` (Hz, rpm, A).

    Raises:
        WrongInput: something is missing, or it is no induction motor.
    """
    hint = say("write e.g. {example}", example=f"--motor {EXAMPLE}")
    try:
        parts = {key.strip(): float(value) for key, _, value in (part.partition("=") for part in given.split(","))}
    except ValueError:
        raise WrongInput(say("{given!r} is no name plate of a motor", given=given), hint) from None
    if sorted(parts) != sorted(KEYS) or not all(0 < value < math.inf for value in parts.values()):
        raise WrongInput(say("{given!r} is no name plate of a motor", given=given), hint)
    motor = Motor(parts["supply"], parts["rpm"], parts["rated"], orders)
    if motor.pole_pairs < 1 or not 0 < motor.rated_slip <= 0.1:
        words = say(
            "{rpm:g} rpm is no rated speed of an induction motor at {hz:g} Hz", rpm=motor.rpm, hz=motor.supply_hz
        )
        raise WrongInput(words, hint)
    return motor


def run(arguments: argparse.Namespace, recording: Recording, rate_hz: float, notes: list[str]) -> int:
    """Print what the current shows. Returns 0 whatever that is. `--rpm` is the measured speed, if there is one."""
    motor = motor_of(arguments.motor, bearing(arguments.bearing).orders if arguments.bearing else {})
    factor = 1.0
    if recording.counts_max is not None:
        if arguments.full_scale is None:
            words = say("samples are counts, and the load is not known")
            raise WrongInput(words, say("add --full-scale: what the largest means in A"))
        value, unit = full_scale(arguments.full_scale, CURRENT_UNITS, "40 A")
        factor = value * CURRENT_UNITS[unit or "A"] / recording.counts_max
    else:
        notes.append(say("samples are taken as A"))
        if arguments.full_scale is not None:
            notes.append(say("samples are no counts: --full-scale is not used"))
    rpm = math.nan if arguments.rpm is None else arguments.rpm
    block, found = recording.samples * factor, None
    try:
        found = current_spectrum(block, rate_hz, motor, rpm)
        shown = as_json(found, notes)
    except NotDiagnosable as error:
        shown = {"verdict": "not_diagnosable", "reason": error.code, "lines": {}, "notes": notes}
    if arguments.picture:
        from edge.agent.commands.diagnose_picture import draw_motor

        draw_motor(arguments.picture, arguments.file.name, block, rate_hz, found)
    print(json.dumps(shown, ensure_ascii=False) if arguments.json else _text(shown))
    return 0


def as_json(found: CurrentSpectrum, notes: list[str]) -> dict[str, Any]:
    """Return what was found as the published object."""
    return {
        "verdict": "judged", "reason": None, "supply_hz": found.supply_hz, "current_rms_a": found.rms_a,
        "load": found.load, "slip": found.slip, "slip_doubt": found.slip_doubt, "slip_from": found.slip_from,
        "lines": {
            name: {
                "hz": round(line.hz, 3), "expected_hz": round(line.expected_hz, 3), "level_db": round(line.level_db, 2),
                "floor_db": round(line.floor_db, 2), "is_visible": line.is_visible,
            }
            for name, line in found.lines.items()
        },
        "notes": notes,
    }  # fmt: skip


def _text(shown: dict[str, Any]) -> str:
    if shown["verdict"] != "judged":
        return "\n".join([f"not_diagnosable: {shown['reason']}", "", *shown["notes"]])
    rows = [
        say(
            "supply {hz:.3f} Hz, {current:.3g} A, {load:.0%} of rated; slip {slip:.2%} ± {doubt:.2%}, from {source}",
            hz=shown["supply_hz"], current=shown["current_rms_a"], load=shown["load"], slip=shown["slip"],
            doubt=shown["slip_doubt"], source=shown["slip_from"],
        ),
        "",
    ]  # fmt: skip
    for name, line in shown["lines"].items():
        mark = "*" if line["is_visible"] else " "
        rows.append(f"  {name:19} {line['hz']:9.3f} Hz {line['level_db']:7.1f} dB {mark}  ({line['floor_db']:.1f} dB)")
    rows += ["", say("* more than noise; in brackets the level of the surroundings, both below the supply's line")]
    rows.append(say("healthy cages mostly lie below -50 dB, broken bars above -40 dB: a convention, no standard"))
    return "\n".join([*rows, *shown["notes"]])
