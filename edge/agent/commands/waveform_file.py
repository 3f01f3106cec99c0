"""Recorded waveforms in files, for `yulink diagnose`: what `edge.core.waveform_formats` reads, and MATLAB's."""

import difflib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.core.errors import WrongInput
from edge.core.language import say
from edge.core.waveform_formats import FORMATS, GARBAGE, Channels, Decoded, collect, decode, unit_in

SAMPLES_MIN = 256
FILE_BYTES_MAX = 2 << 30
INSTALL = 'pip install "yulink[diagnose]"'

F64 = NDArray[np.float64]
MATLAB = ".mat"


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
    if path.suffix.lower() not in (*FORMATS, MATLAB):
        raise WrongInput(
            say("{file}: {ending!r} is not a format of recordings", file=path, ending=path.suffix),
            say("formats: {names}", names=", ".join([*FORMATS, MATLAB])),
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
        found = _mat(path) if path.suffix.lower() == MATLAB else decode(path.name, path.read_bytes())
    except GARBAGE as error:
        raise WrongInput(
            say("{file} cannot be read: {error}", file=path, error=error), say("is it a whole file of its kind?")
        ) from error
    facts = found.facts
    long = {name: samples for name, samples in found.channels.items() if samples.size >= SAMPLES_MIN}
    if not long:
        raise WrongInput(
            say("{file} holds no waveform of at least {count} samples", file=path, count=SAMPLES_MIN),
            say("a waveform is one long row of numbers"),
        )
    name = _choose(path, long, channel)
    samples = long[name]
    counts_max = None
    if np.issubdtype(samples.dtype, np.integer) and facts.step is None:
        counts_max = float(np.iinfo(samples.dtype).max)
    wide = np.array(samples, dtype=np.float64)
    wide *= facts.step or 1.0
    return Recording(
        wide, name, tuple(long), facts.rate_hz, facts.rpm, unit_in(name), counts_max,
    )  # fmt: skip


def _choose(path: Path, channels: Channels, wanted: str | None) -> str:
    names = list(channels)
    if wanted is None:
        return next((name for name, row in channels.items() if _shakes(row)), names[0])
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


def _shakes(row: NDArray[Any]) -> bool:
    """Whether a channel may be a vibration: no clock, no counter, no value that stands still."""
    up = int(np.count_nonzero(row[1:] > row[:-1]))
    down = int(np.count_nonzero(row[1:] < row[:-1]))
    return min(up, down) > row.size // 20


def _mat(path: Path) -> Decoded:
    scipy_io = _scipy("scipy.io", path)
    items: dict[str, Any] = {}
    with path.open("rb") as file:
        if file.read(19) == b"MATLAB 7.3 MAT-file":
            raise WrongInput(
                say("{file} is of MATLAB 7.3, which is not read", file=path),
                say("in MATLAB: save('{file}', '-v7'), or write a .csv or .npz", file=path.name),
            )
    read = scipy_io.loadmat(path, squeeze_me=True, struct_as_record=False)
    # Two records in one file are told apart by their names only: neither X098_DE_time nor X098RPM belongs to 99.mat.
    own = f"X{int(path.stem):03d}" if path.stem.isdecimal() else ""
    if not any(own in name for name in read):
        own = ""
    for name, value in read.items():
        if name.startswith("__") or (own and own not in name and re.match(r"X\d{3}", name)):
            continue
        fields = getattr(value, "_fieldnames", None)
        items |= {f"{name}.{key}": getattr(value, key) for key in fields} if fields else {name: value}
    return collect(items)


def _scipy(module: str, path: Path) -> Any:
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise WrongInput(
            say("{ending} files are read with scipy, which is not installed", ending=path.suffix),
            say("install it: {command}", command=INSTALL),
        ) from error
