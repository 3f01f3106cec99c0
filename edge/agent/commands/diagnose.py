"""`yulink diagnose`: the judgement of one recorded waveform, as text, JSON and a picture."""

import argparse
import json
import math
import re
from collections.abc import Collection
from typing import Any

from edge.agent.commands.waveform_file import Recording, read_recording
from edge.analytics.condition.bearing.bearings import bearing, known_names
from edge.analytics.condition.bearing.diagnosis import STANDARD_GRAVITY, Diagnosis, diagnose
from edge.analytics.condition.bearing.lines import P_FALSE_ALARM, P_FLOOR
from edge.analytics.condition.severity import LIMITS, Limits
from edge.analytics.condition.turning.tacho import NoSpeed, Track, tacho_track
from edge.core.errors import WrongInput
from edge.core.language import say

TOLD_FROM = 1e-3
"""From this difference it is told that the file and the command line do not agree."""

UNITS = {"g": STANDARD_GRAVITY, "mg": STANDARD_GRAVITY / 1e3, "m/s2": 1.0, "mm/s2": 1e-3}


def run(arguments: argparse.Namespace) -> int:
    """Print the diagnosis. Returns 0 whatever the verdict is."""
    recording = read_recording(arguments.file, arguments.channel)
    notes: list[str] = []
    rate = _given("--rate", arguments.rate, recording.rate_hz, "12000", notes)
    if arguments.motor is not None:
        from edge.agent.commands.diagnose_motor import run as run_motor

        return run_motor(arguments, recording, rate, notes)
    track = _track(arguments, rate) if arguments.tacho is not None else None
    if track is None:
        rpm = _given("--rpm", arguments.rpm, recording.rpm, "1480", notes)
    else:
        slowest, mean, fastest = (60 * hz for hz in track.hz())
        rpm = mean
    if not arguments.bearing:
        raise WrongInput(
            say("the bearing is missing"), say("add --bearing NAME, one of: {names}", names=", ".join(known_names()))
        )
    geometry = bearing(arguments.bearing)
    notes += geometry.caveats()
    if len(recording.channels) > 1 and arguments.channel is None:
        notes.append(say("channel {name} of {names}", name=recording.channel, names=", ".join(recording.channels)))
    factor, si = _scale(recording, arguments, notes)
    samples = recording.samples
    samples *= factor  # in place: a file of minutes fits a small box
    if track is not None:
        words = say(
            "lines over the angle of the shaft, {slowest:.0f} to {fastest:.0f} rpm; pulses missing {missing}, "
            "too many {additional}",
            slowest=slowest, fastest=fastest, missing=track.missing, additional=track.additional,
        )  # fmt: skip
        notes.append(words)
    try:
        result = diagnose(samples, rate, rpm, geometry.orders, si=si, limits=_limits(arguments), track=track)
    except NoSpeed as error:
        raise WrongInput(str(error), _tacho_hint()) from error
    notes += result.notes
    if arguments.picture:
        from edge.agent.commands.diagnose_picture import draw

        draw(arguments.picture, arguments.file.name, samples, rate, rpm, result)
    shown = as_json(result, notes)
    print(json.dumps(shown, ensure_ascii=False) if arguments.json else _text(shown))
    return 0


def _given(option: str, given: float | None, found: float | None, example: str, notes: list[str]) -> float:
    value = found if given is None else given
    if value is None:
        raise WrongInput(
            say("{option} is missing, and the file does not tell it", option=option),
            say("write e.g. {example}", example=f"{option} {example}"),
        )
    if not math.isfinite(value) or value <= 0:
        raise WrongInput(say("{option} must be above zero, not {value:g}", option=option, value=value))
    if given is not None and found is not None and abs(found / given - 1) > TOLD_FROM:
        notes.append(
            say("{option} {given:g} is taken, not {found:g} as the file says", option=option, given=given, found=found)
        )
    return value


def _track(arguments: argparse.Namespace, rate_hz: float) -> Track:
    """Return the turns that the tacho's channel of the same file shows."""
    pulses = read_recording(arguments.file, arguments.tacho)
    if arguments.pulses < 1:
        raise WrongInput(say("{option} must be above zero, not {value:g}", option="--pulses", value=arguments.pulses))
    try:
        return tacho_track(pulses.samples, rate_hz, arguments.pulses)
    except NoSpeed as error:
        words = say("channel {name}: {reason}", name=pulses.channel, reason=error)
        raise WrongInput(words, _tacho_hint()) from error


def _tacho_hint() -> str:
    return say("without --tacho, and with --rpm, the speed is taken as steady")


def full_scale(given: str, units: Collection[str], example: str) -> tuple[float, str]:
    """Return `8 g`, `8g` or `8` as number and unit, which may be none.

    Raises:
        WrongInput: it is no number above zero, or has another unit than these.
    """
    match = re.fullmatch(r"\s*(\d*\.?\d+(?:[eE][-+]?\d+)?)\s*(\S*)\s*", given.replace("²", "2"))
    value, written = (float(match[1]), match[2]) if match else (math.nan, "")
    if not 0 < value < math.inf or (written and written not in units):
        words = say("--full-scale {given!r} is no number with one of the units {units}", given=given,
                    units=", ".join(units))  # fmt: skip
        raise WrongInput(words, say("write e.g. {example}", example=f"--full-scale '{example}'"))
    return value, written


def _scale(recording: Recording, arguments: argparse.Namespace, notes: list[str]) -> tuple[float, bool]:
    """Return the factor to m/s², and whether it is known."""
    scale = None if arguments.full_scale is None else full_scale(arguments.full_scale, UNITS, "8 g")
    written = scale[1] if scale else ""
    if written and arguments.unit and written != arguments.unit:
        words = say("--full-scale is in {unit}, and --unit says {other}", unit=written, other=arguments.unit)
        raise WrongInput(words, say("leave --unit out"))
    unit = written or arguments.unit or recording.unit
    if not unit:
        unit = "g"
        notes.append(say("no unit is given: samples are taken as g; say --unit m/s2 where they are not"))
    factor = UNITS[unit]
    if recording.counts_max is None:
        if arguments.full_scale is not None:
            notes.append(say("samples are no counts: --full-scale is not used"))
        return factor, True
    if scale is not None:
        return factor * scale[0] / recording.counts_max, True
    notes.append(
        say("samples are counts: amplitudes are shares of full scale; say --full-scale to have g, mm/s and a zone")
    )
    return factor / recording.counts_max, False


def _limits(arguments: argparse.Namespace) -> Limits | None:
    if arguments.group is None and arguments.support is None:
        return None
    found = LIMITS.get(("iso20816-3", arguments.group or "", arguments.support or ""))
    if found is None:
        raise WrongInput(
            say("a zone needs both --group and --support"),
            say("write e.g. {example}", example="--group 2 --support rigid"),
        )
    return found


def as_json(result: Diagnosis, notes: list[str]) -> dict[str, Any]:
    """Return the diagnosis as the published object. What could not be measured is null."""
    return {
        "features": {name: _finite(value) for name, value in result.features.items()},
        "lines": {
            name: {
                "hz": round(line.hz, 3),
                "found_hz": round(line.found_hz, 3),
                "level_db": round(line.level_db, 2),
                "harmonics_db": [round(level, 1) for level in line.harmonics],
                "band_hz": [round(edge, 1) for edge in line.band],
                "p_false_alarm": max(line.chance, P_FLOOR),
            }
            for name, line in result.lines.items()
        },
        "verdict": {
            "fault": result.verdict.fault,
            "evidence": result.verdict.evidence,
            "p_false_alarm": result.verdict.p_false_alarm,
        },
        "zone": result.zone,
        "notes": notes,
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _text(shown: dict[str, Any]) -> str:
    verdict = shown["verdict"]
    rows = [f"{verdict['fault']}: {verdict['evidence']}"]
    if verdict["p_false_alarm"] is not None:
        rows.append(say("chance of a false alarm: at most {chance:.0e}", chance=verdict["p_false_alarm"]))
    if shown["zone"]:
        rows.append(say("zone {zone}", zone=shown["zone"]))
    rows.append("")
    for name, line in shown["lines"].items():
        low, high = line["band_hz"]
        row = f"  {name:5} {line['hz']:9.2f} Hz {line['level_db']:6.1f} dB   {low:.0f}–{high:.0f} Hz"
        if line["p_false_alarm"] <= P_FALSE_ALARM:
            row += "   " + say("found at {hz:.2f} Hz", hz=line["found_hz"])
        rows.append(row)
    rows.append("")
    rows += [f"  {name:22} {'-' if value is None else f'{value:.5g}'}" for name, value in shown["features"].items()]
    rows += ["", *shown["notes"]] if shown["notes"] else []
    return "\n".join(rows)
