"""A file's bytes as the waveforms of tags. Pure."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from drivers.files.names import MTIME, RECORDED, UNREAD, finder
from drivers.files.section import FilesSection, FilesTag
from edge.core.batch import Waveform
from edge.core.errors import WrongInput
from edge.core.language import say
from edge.core.quality import StatusCode
from edge.core.waveform_formats import Decoded, decode, unit_in

PIECE_SAMPLES = 1 << 16
"""A longer recording becomes several waveforms that follow each other, so that none is too large for a message."""

RATE_SHARE = 1e-3


def waveforms(
    name: str, data: bytes, modified_ns: int, section: FilesSection, tags: Mapping[str, int]
) -> tuple[list[Waveform], list[WrongInput]]:
    """Return the waveforms of the tags that a file holds, and what is wrong with the others.

    Args:
        modified_ns: when the file was last written.
        tags: name → id, those whose pattern the name fits.
    """
    try:
        found = _decoded(name, data, section.max)
    except WrongInput as error:
        return [], [error]
    good: list[Waveform] = []
    wrong: list[WrongInput] = []
    for tag, number in tags.items():
        try:
            good += _of_tag(name, found, modified_ns, section, section.tags[tag], number)
        except WrongInput as error:
            wrong.append(error)
    return good, wrong


def _decoded(name: str, data: bytes, bytes_max: float) -> Decoded:
    if name.lower().endswith(UNREAD):
        raise WrongInput(
            say("{file}: MATLAB files are not read by the agent", file=name),
            say(
                "write wav, npy, npz or csv; {command} converts", command="numpy.savez(FILE, **scipy.io.loadmat(FILE))"
            ),
        )
    return decode(name, data, 4 * bytes_max)


def _of_tag(
    name: str, found: Decoded, modified_ns: int, section: FilesSection, tag: FilesTag, number: int
) -> Iterator[Waveform]:
    channel, raw = _channel(name, found, tag.channel)
    rate = _rate(name, found.facts.rate_hz, tag.rate)
    unit = tag.unit or tag.full_scale_quantity[1]
    if (said := unit_in(channel)) and unit and said != unit.replace("²", "2"):
        raise WrongInput(
            say("{file}: {channel} is in {said}, not in {unit}", file=name, channel=channel, said=said, unit=unit),
            say("correct `unit` of the tag"),
        )
    samples, full_scale, status = _values(raw, tag, found.facts.step)
    begin = _begin(name, found, modified_ns, round(len(samples) * 1e9 / rate), section)
    for first in range(0, len(samples), PIECE_SAMPLES):
        piece = samples[first : first + PIECE_SAMPLES].copy()
        yield Waveform(number, begin + round(first * 1e9 / rate), rate, full_scale, piece, status)


def _channel(name: str, found: Decoded, wanted: str) -> tuple[str, NDArray[Any]]:
    names = list(found.channels)
    if wanted in found.channels:
        chosen = wanted
    elif wanted.isdecimal() and int(wanted) < len(names):
        chosen = names[int(wanted)]
    else:
        hint = (
            say("channels: {names}", names=", ".join(names)) if names else say("a waveform is one long row of numbers")
        )
        raise WrongInput(say("{file} has no channel {channel!r}", file=name, channel=wanted), hint)
    raw = found.channels[chosen]
    if not raw.size:
        raise WrongInput(say("{file} has no samples", file=name))
    return chosen, raw


def _rate(name: str, said: float | None, given: float | None) -> float:
    if said is not None and given is not None and abs(said - given) > RATE_SHARE * given:
        raise WrongInput(
            say("{file} says {said:g} Hz, the configuration {given:g} Hz", file=name, said=said, given=given),
            say("correct `rate` of the tag, or remove it"),
        )
    rate = given if said is None else said
    if rate is None or not 0 < rate < 1e9:
        raise WrongInput(say("{file} does not say its rate", file=name), say("add rate: 25.6 kHz to the tag"))
    return rate


def _values(raw: NDArray[Any], tag: FilesTag, step: float | None) -> tuple[NDArray[Any], float, int]:
    """Return samples, full scale and quality: 16-bit integers with their full scale, anything else as values.

    Integers whose scale nobody knows are counts: of 16 bits without full scale, wider ones of bad quality.
    """
    full_scale, _ = tag.full_scale_quantity
    scale = tag.scale if tag.scale != 1.0 or step is None else step
    is_plain = scale == 1.0
    if raw.dtype.kind in "iu" and is_plain:
        if raw.dtype == np.int16:
            return np.ascontiguousarray(raw), full_scale, int(StatusCode.GOOD)
        if not full_scale:
            return np.ascontiguousarray(raw, np.float32), 0.0, int(StatusCode.BAD_CONFIGURATION_ERROR)
        scale = full_scale / (float(np.iinfo(raw.dtype).max) + 1)
    elif full_scale and is_plain:
        scale = full_scale
    return np.ascontiguousarray(raw * scale, np.float32), full_scale, int(StatusCode.GOOD)


def _begin(name: str, found: Decoded, modified_ns: int, duration_ns: int, section: FilesSection) -> int:
    zone = ZoneInfo(section.timezone) if section.timezone else None
    if section.time == MTIME:
        return modified_ns - duration_ns
    if section.time == RECORDED:
        ts = found.facts.ts
        if ts is None:
            raise WrongInput(
                say("{file} does not say when it was recorded", file=name), say("write time: mtime, or its form")
            )
        if found.facts.is_utc or zone is None:
            return ts
        local = datetime.fromtimestamp(ts // 10**9, UTC).replace(tzinfo=zone)
        return int(local.timestamp()) * 10**9 + ts % 10**9
    form = finder(section.time)
    ts = form.find(name, zone) if form else None
    if ts is None:
        raise WrongInput(
            say("{file}: there is no time {form} in the name", file=name, form=section.time), say("correct `time`")
        )
    return ts
