"""Arrays, structures and enumerations: a part picked by its path, or all parts as scalars with their names."""

import dataclasses
from collections.abc import Iterator, Sequence
from enum import Enum
from typing import Any

import numpy as np
from asyncua import ua

from edge.core.batch import Waveform
from edge.core.catalogue import ValueKind
from edge.core.quality import StatusCode, is_bad

PARTS_MAX = 1000
_SCALARS = (ua.LocalizedText, ua.QualifiedName, ua.NodeId, ua.StatusCode, ua.DataValue, ua.ExtensionObject, bytes, str)


def is_composite(value: Any) -> bool:
    """Tell whether a value is an array or a structure, and so has parts."""
    return isinstance(value, list | tuple | dict) or (
        dataclasses.is_dataclass(value) and not isinstance(value, _SCALARS)
    )


def parts(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the scalars of a value with their names: `0`, `1`, … of an array, `Position.X` of a structure."""
    if isinstance(value, ua.Variant):
        yield from parts(value.Value, path)
    elif is_composite(value):
        for name, each in _members(value):
            yield from parts(each, f"{path}.{name}" if path else name)
    else:
        yield path, value


def _members(value: Any) -> list[tuple[str, Any]]:
    """Return elements by index or fields by name."""
    if isinstance(value, list | tuple):
        return [(str(index), each) for index, each in enumerate(value)]
    if isinstance(value, dict):
        return list(value.items())
    names = [field.name for field in dataclasses.fields(value)]
    return [(name, getattr(value, name)) for name in names if name not in ("Encoding", "TypeId", "data_type")]


def pick(value: Any, steps: Sequence[str]) -> Any:
    """Return the part at a path such as ("Axes", "0", "Load"). Raises LookupError when there is none."""
    for step in steps:
        if isinstance(value, ua.Variant):
            value = value.Value
        if not is_composite(value):
            raise LookupError(step)
        value = dict(_members(value))[step]
    return value


def kind_of_part(value: Any, variant: ValueKind | None) -> ValueKind:
    """Return the kind of a scalar part; `variant` is that of the elements of an array of a built-in type."""
    if isinstance(value, ua.UInt64):
        return ValueKind.UINT64
    if isinstance(value, Enum) or (isinstance(value, int) and not isinstance(value, bool)):
        return variant if variant in (ValueKind.UINT64, ValueKind.INT64) else ValueKind.INT64
    if isinstance(value, bool):
        return ValueKind.BOOL
    return ValueKind.FLOAT64 if isinstance(value, float) else ValueKind.TEXT


def waveform(tag: int, ts: int, value: Any, status: int, rate: float, full_scale: float) -> Waveform:
    """Return an array as a waveform: 16-bit integers with their scale, anything else as physical values.

    Wider integers become physical values too; those whose scale nobody knows are counts of bad quality.
    """
    given = value if isinstance(value, list) and not is_bad(status) else []
    samples = np.asarray(given, np.float64)
    if samples.ndim != 1:
        samples, status = samples[:0].reshape(-1), int(StatusCode.BAD_TYPE_MISMATCH)
    fits = len(samples) and bool(np.abs(samples).max() <= 32767)
    counts = bool(len(samples)) and isinstance(given[0], int)
    if fits and (counts or (full_scale and (samples == np.rint(samples)).all())):
        return Waveform(tag, ts, rate, full_scale, np.ascontiguousarray(samples, np.int16), status)
    if counts and full_scale:
        samples = samples * (full_scale / 32768)
    elif counts:
        status = int(StatusCode.BAD_CONFIGURATION_ERROR)
    return Waveform(tag, ts, rate, full_scale, np.ascontiguousarray(samples, np.float32), status)
