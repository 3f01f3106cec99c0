"""Recorded waveforms in files of other programs: wav, npy, npz, mat, csv."""

import csv
import difflib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.core.errors import WrongInput
from edge.core.language import say

SAMPLES_MIN = 256
CHANNELS_MAX = 64
FILE_BYTES_MAX = 2 << 30
INSTALL = 'pip install "yulink[diagnose]"'

F64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Recording:
    """One channel of a file. `rate_hz`, `rpm`, `unit` and `counts_max` only where the file itself says so.

    counts_max  what the largest whole number is, for samples that are bare counts
    """

    samples: F64
    channel: str
    channels: tuple[str, ...]
    rate_hz: float | None = None
    rpm: float | None = None
    unit: str = ""
    counts_max: float | None = None


def read_recording(path: Path, channel: str | None) -> Recording:
    """Return a channel of a recorded file; the first where none is named.

    Raises:
        WrongInput: no such file or channel, or nothing in it that is a waveform.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise WrongInput(
            say("{file}: {ending!r} is not a format of recordings", file=path, ending=path.suffix),
            say("formats: {names}", names=", ".join(_READERS)),
        )
    if not path.is_file():
        near = (
            difflib.get_close_matches(path.name, [p.name for p in path.parent.glob("*")], 1)
            if path.parent.is_dir()
            else []
        )
        raise WrongInput(
            say("there is no file {file}", file=path), say("did you mean {name}?", name=near[0]) if near else ""
        )
    if path.stat().st_size > FILE_BYTES_MAX:
        raise WrongInput(say("{file} is above 2 GiB", file=path), say("cut it into pieces of a few minutes"))
    try:
        channels, facts = reader(path)
    except WrongInput:
        raise
    except (ValueError, OSError, EOFError, KeyError, NotImplementedError, UnicodeDecodeError) as error:
        raise WrongInput(
            say("{file} cannot be read: {error}", file=path, error=error), say("is it a whole file of its kind?")
        ) from error
    long = {name: samples for name, samples in channels.items() if samples.size >= SAMPLES_MIN}
    if not long:
        raise WrongInput(
            say("{file} holds no waveform of at least {count} samples", file=path, count=SAMPLES_MIN),
            say("a waveform is one long row of numbers"),
        )
    name = _choose(path, long, channel)
    samples = long[name]
    counts_max = None
    if np.issubdtype(samples.dtype, np.integer) and "step" not in facts:
        counts_max = float(np.iinfo(samples.dtype).max)
    unit = facts.get("unit", "") or _unit_in(name)
    return Recording(
        np.ascontiguousarray(samples, dtype=np.float64) * facts.get("step", 1.0),
        name, tuple(long), facts.get("rate"), facts.get("rpm"), unit, counts_max,
    )  # fmt: skip


def _choose(path: Path, channels: dict[str, Any], wanted: str | None) -> str:
    names = list(channels)
    if wanted is None:
        return names[0]
    if wanted in channels:
        return wanted
    if wanted.isdecimal() and int(wanted) < len(names):
        return names[int(wanted)]
    inside = [name for name in names if wanted.lower() in name.lower()]
    if len(inside) == 1:
        return inside[0]
    near = inside or difflib.get_close_matches(wanted, names, 3)
    raise WrongInput(
        say("{file} has no single channel {name!r}", file=path, name=wanted),
        say("did you mean {name}?", name=", ".join(near)) if near else say("channels: {names}", names=", ".join(names)),
    )


def _unit_in(name: str) -> str:
    match = re.search(r"[_\s(\[](mg|g|m/s2|m/s\^2|m/s²|mm/s2)[)\]]?$", name)
    return match[1].replace("^", "").replace("²", "2") if match else ""


def _columns(name: str, array: NDArray[Any]) -> dict[str, NDArray[Any]]:
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


def _facts(scalars: dict[str, Any]) -> dict[str, Any]:
    """Return what a file says of itself: rate in Hz, speed in rpm, the size of a count."""
    facts: dict[str, Any] = {}
    for name, value in scalars.items():
        plain = name.lower().rpartition(".")[2]
        if plain in ("fs", "sr", "rate_hz", "sample_rate", "samplerate", "sampling_rate", "fs_hz"):
            facts["rate"] = float(value)
        elif plain.endswith("rpm"):
            facts["rpm"] = float(value)
        elif plain in ("step", "scale"):
            facts["step"] = float(value)
    return facts


def _collect(items: dict[str, Any]) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    channels: dict[str, NDArray[Any]] = {}
    scalars: dict[str, Any] = {}
    for name, value in items.items():
        array = np.asarray(value)
        if array.size == 1 and array.dtype.kind in "fiu":
            scalars[name] = array.ravel()[0]
        else:
            channels |= _columns(name, array)
    return channels, _facts(scalars)


def _npy(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    return _columns(path.stem, np.load(path, allow_pickle=False)), {}


def _npz(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    with np.load(path, allow_pickle=False) as archive:
        return _collect({name: archive[name] for name in archive.files})


def _mat(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    scipy_io = _scipy("scipy.io", path)
    items: dict[str, Any] = {}
    for name, value in scipy_io.loadmat(path, squeeze_me=True, struct_as_record=False).items():
        if name.startswith("__"):
            continue
        fields = getattr(value, "_fieldnames", None)
        items |= {f"{name}.{key}": getattr(value, key) for key in fields} if fields else {name: value}
    channels, facts = _collect(items)
    # Two records in one file are told apart by its name only: X098_DE_time does not belong to 99.mat.
    own = {name: row for name, row in channels.items() if path.stem.isdecimal() and f"X{int(path.stem):03d}" in name}
    return own or channels, facts


def _wav(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    wavfile = _scipy("scipy.io.wavfile", path)
    rate, data = wavfile.read(path)
    if data.dtype == np.uint8:
        data = data.astype(np.int16) - 128
    channels = {f"{number}": column for number, column in enumerate(data.T if data.ndim == 2 else [data])}
    return channels, {"rate": float(rate)}


def _csv(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    text = path.read_text("utf-8-sig")
    first = next((line for line in text.splitlines() if line.strip()), "")
    rows = text.splitlines()
    separator = max(";\t,", key=first.count)
    decimal_comma = separator == ";" and "." not in (rows[len(rows) // 2] if rows else "")
    if not first.count(separator):
        separator = " "
    names = [cell.strip() for cell in next(csv.reader([first], delimiter=separator), [])]
    has_header = any(_number(cell, decimal_comma) is None for cell in names)
    body = text[text.index(first) + len(first) :] if has_header else text
    if decimal_comma:
        body = body.replace(",", ".")
    lines = [line for line in body.splitlines() if line.strip()]
    try:
        table = np.loadtxt(lines, delimiter=None if separator == " " else separator, ndmin=2)
    except ValueError as error:
        raise WrongInput(
            say("{file}: not all cells are numbers: {error}", file=path, error=error),
            say("one header line at most, then numbers; an empty cell is written nan"),
        ) from error
    if not has_header or len(names) != table.shape[1]:
        names = [str(number) for number in range(table.shape[1])]
    channels = dict(zip(names, table.T, strict=True))
    facts: dict[str, Any] = {}
    for name in names:
        if re.match(r"(time|t|ts|seconds|时间)(?![a-z])", name.lower()) and (rate := _rate_of(channels[name])):
            facts["rate"] = rate
            del channels[name]
            break
    return channels, facts


def _number(cell: str, decimal_comma: bool) -> float | None:
    try:
        return float(cell.replace(",", ".") if decimal_comma else cell)
    except ValueError:
        return None


def _rate_of(times: F64) -> float | None:
    """Return the rate of an even column of seconds."""
    steps = np.diff(times)
    if not steps.size or not np.all(steps > 0) or steps.max() > 1.5 * steps.min():
        return None
    return float(steps.size / (times[-1] - times[0]))


def _scipy(module: str, path: Path) -> Any:
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise WrongInput(
            say("{ending} files are read with scipy, which is not installed", ending=path.suffix),
            say("install it: {command}", command=INSTALL),
        ) from error


_READERS = {".wav": _wav, ".npy": _npy, ".npz": _npz, ".mat": _mat, ".csv": _csv, ".txt": _csv}
