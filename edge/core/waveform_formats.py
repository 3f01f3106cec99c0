"""Recorded waveforms as other programs write them: wav, npy, npz, csv. From bytes to channels, without scipy."""

import io
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edge.core.errors import WrongInput
from edge.core.language import say
from edge.core.waveform_table import rate_of, read_table

CHANNELS_MAX = 64
PCM, FLOAT, EXTENSIBLE = 1, 3, 0xFFFE
GARBAGE = (
    ValueError, TypeError, EOFError, LookupError, ArithmeticError, NotImplementedError, SyntaxError, MemoryError,
    OSError, struct.error, zlib.error, zipfile.BadZipFile,
)  # fmt: skip
"""What readers of foreign files raise when a file is not of its kind."""

Channels: TypeAlias = dict[str, NDArray[Any]]


@dataclass(slots=True)
class Facts:
    """What a file says of itself; None and "" where it does not.

    rate_hz  samples a second
    rpm      of the shaft
    step     what one count means
    ts       when the first sample was taken, ns since 1970
    is_utc   whether that is UTC; else it is the recorder's local time
    """

    rate_hz: float | None = None
    rpm: float | None = None
    step: float | None = None
    ts: int | None = None
    is_utc: bool = True


@dataclass(slots=True)
class Decoded:
    """The channels of a file, each (n,) of the file's own number format: integers are counts of their full range."""

    channels: Channels
    facts: Facts = field(default_factory=Facts)


def decode(name: str, data: bytes, unpacked_max: float = 4 << 30) -> Decoded:
    """Return what a file holds; its format is that of its name's ending. `unpacked_max` bounds what an archive holds.

    Raises:
        WrongInput: no known ending, or not a whole file of that kind.
    """
    ending = "." + name.rpartition(".")[2].lower()
    reader = FORMATS.get(ending)
    if reader is None:
        raise WrongInput(
            say("{file}: {ending!r} is not a format of recordings", file=name, ending=ending),
            say("formats: {names}", names=", ".join(FORMATS)),
        )
    try:
        if ending == ".npz":
            _check_archive(data, unpacked_max)
        return reader(name, data)
    except GARBAGE as error:
        raise WrongInput(
            say("{file} cannot be read: {error}", file=name, error=error), say("is it a whole file of its kind?")
        ) from error


def unit_in(channel: str) -> str:
    """Return the unit that a channel's name ends with, as `DE [g]` or `acc_m/s2` do; "" for none."""
    match = re.search(r"[_\s(\[](mg|g|m/s2|m/s\^2|m/s²|mm/s2)[)\]]?$", channel)
    return match[1].replace("^", "").replace("²", "2") if match else ""


def columns(name: str, array: NDArray[Any]) -> Channels:
    """Return the channels of an array: itself, or its rows or columns, whichever are few and long."""
    array = np.squeeze(array)
    if array.dtype.kind not in "fiu" or array.ndim not in (1, 2):
        return {}
    if array.ndim == 1:
        return {name: array}
    if array.shape[0] > array.shape[1]:
        array = array.T
    if array.shape[0] > CHANNELS_MAX:
        return {}
    return {f"{name}[{number}]": row for number, row in enumerate(array)}


def collect(items: Mapping[str, Any]) -> Decoded:
    """Return the channels among named arrays, and the facts among named single values."""
    found = Decoded({})
    for name, value in items.items():
        array = np.asarray(value)
        if array.size == 1 and array.dtype.kind in "fiuUM":
            _note(found.facts, name.lower().rpartition(".")[2], array.ravel()[0])
        else:
            found.channels |= columns(name, array)
    return found


def _note(facts: Facts, name: str, value: Any) -> None:
    if name in ("ts", "t0", "start", "start_time", "timestamp"):
        facts.ts, facts.is_utc = _moment(value)
    elif isinstance(value, np.str_ | np.datetime64):
        return
    elif name in ("fs", "sr", "rate_hz", "sample_rate", "samplerate", "sampling_rate", "fs_hz"):
        facts.rate_hz = float(value)
    elif name.endswith("rpm"):
        facts.rpm = float(value)
    elif name in ("step", "scale"):
        facts.step = float(value)


def _moment(value: Any) -> tuple[int | None, bool]:
    """Return a time, written as ISO 8601, seconds or nanoseconds since 1970, in ns, and whether it is UTC."""
    if isinstance(value, np.datetime64):
        return int(value.astype("datetime64[ns]").astype(np.int64)), True
    if isinstance(value, str):
        when = datetime.fromisoformat(value)
        is_utc = when.tzinfo is not None
        return round((when if is_utc else when.replace(tzinfo=UTC)).timestamp() * 1e6) * 1000, is_utc
    if 1e8 < value < 1e11:
        return round(float(value) * 1e9), True
    return int(value) if 1e17 < value < 9e18 else None, True


def _npy(name: str, data: bytes) -> Decoded:
    if data[:6] != b"\x93NUMPY":
        raise ValueError("no array of numpy")
    return Decoded(columns(name.rpartition(".")[0], np.load(io.BytesIO(data), allow_pickle=False)))


def _check_archive(data: bytes, unpacked_max: float) -> None:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        if (size := sum(each.file_size for each in archive.infolist())) > unpacked_max:
            raise ValueError(f"{size / 1e6:.0f} MB when unpacked")


def _npz(name: str, data: bytes) -> Decoded:
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        return collect({each: archive[each] for each in archive.files})


def _wav(name: str, data: bytes) -> Decoded:
    """Read RIFF WAVE: integers of 8 to 32 bits or floats; the time is that of a `bext` chunk (EBU Tech 3285)."""
    if data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        raise ValueError("no RIFF WAVE")
    place, form, facts = 12, b"", Facts()
    while place + 8 <= len(data):
        kind, size = data[place : place + 4], struct.unpack_from("<I", data, place + 4)[0]
        body = memoryview(data)[place + 8 : place + 8 + size]
        if kind == b"fmt ":
            form = bytes(body)
        elif kind == b"bext":
            facts.ts, facts.is_utc = _origination(bytes(body[320:338])), False
        elif kind == b"data":
            if len(body) < size:
                raise ValueError(f"{len(body)} of {size} bytes are there")
            return _pcm(form, body, facts)
        place += 8 + size + size % 2
    raise ValueError("no samples")


def _origination(text: bytes) -> int | None:
    """Return a date and a time of day, `2026-01-31` and `08:00:00`; the separators may be any."""
    digits = re.fullmatch(rb"(\d{4}).(\d\d).(\d\d)(\d\d).(\d\d).(\d\d)", text)
    if digits is None:
        return None
    return int(datetime(*map(int, digits.groups()), tzinfo=UTC).timestamp()) * 10**9  # type: ignore[arg-type,misc]


def _pcm(form: bytes, body: memoryview, facts: Facts) -> Decoded:
    tag, count, rate, _, _, bits = struct.unpack_from("<HHIIHH", form)
    if tag == EXTENSIBLE:
        tag = struct.unpack_from("<H", form, 24)[0]
    if not 1 <= count <= CHANNELS_MAX or not rate:
        raise ValueError(f"{count} channels at {rate} Hz")
    body = body[: len(body) // (count * bits // 8) * (count * bits // 8)]
    if tag == FLOAT and bits in (32, 64):
        samples: NDArray[Any] = np.frombuffer(body, f"<f{bits // 8}")
    elif tag == PCM and bits == 8:
        samples = (np.frombuffer(body, np.uint8).astype(np.int16) - 128) << 8
    elif tag == PCM and bits in (16, 32):
        samples = np.frombuffer(body, f"<i{bits // 8}")
    elif tag == PCM and bits == 24:
        wide = np.zeros((len(body) // 3, 4), np.uint8)
        wide[:, 1:] = np.frombuffer(body, np.uint8).reshape(-1, 3)
        samples = wide.view("<i4").ravel()
    else:
        raise NotImplementedError(f"samples of {bits} bits, coding {tag}")
    facts.rate_hz = float(rate)
    return Decoded({str(number): row for number, row in enumerate(samples.reshape(-1, count).T)}, facts)


def _csv(name: str, data: bytes) -> Decoded:
    table = read_table(name, data)
    found = Decoded({**table.columns})
    if table.time is not None:
        times = found.channels.pop(table.time)
        found.facts.rate_hz = rate_of(times)
        found.facts.ts, _ = _moment(float(times[0]))
        found.facts.is_utc = table.is_utc
    return found


FORMATS: Mapping[str, Callable[[str, bytes], Decoded]] = {
    ".wav": _wav, ".npy": _npy, ".npz": _npz, ".csv": _csv, ".txt": _csv,
}  # fmt: skip
"""By a name's ending."""
