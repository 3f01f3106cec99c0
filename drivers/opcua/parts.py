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
_SCALARS = (ua.LocalizedText, ua.QualifiedName, ua.NodeId, ua.StatusCode, ua.DataValue, bytes, str)


def is_composite(value: Any) -> bool:
    """Tell whether a value is an array or a structure, and so has parts."""
    return isinstance(value, list | tuple) or (dataclasses.is_dataclass(value) and not isinstance(value, _SCALARS))


def parts(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the scalars of a value with their names: `0`, `1`, … of an array, `Position_X` of a structure."""
    if isinstance(value, ua.Variant):
        yield from parts(value.Value, path)
    elif isinstance(value, list | tuple):
        for index, each in enumerate(value):
            yield from parts(each, f"{path}_{index}")
    elif is_composite(value):
        for field in dataclasses.fields(value):
            if field.name not in ("Encoding", "TypeId", "data_type"):
                yield from parts(getattr(value, field.name), f"{path}_{field.name}")
    else:
        yield path.lstrip("_"), value


def pick(value: Any, steps: Sequence[str]) -> Any:
    """Return the part at a path such as ("Axes", "0", "Load"). Raises LookupError when there is none."""
    for step in steps:
        if isinstance(value, ua.Variant):
            value = value.Value
        if isinstance(value, list | tuple):
            if not step.isdigit() or int(step) >= len(value):
                raise LookupError(step)
            value = value[int(step)]
        elif is_composite(value) and any(field.name == step for field in dataclasses.fields(value)):
            value = getattr(value, step)
        else:
            raise LookupError(step)
    return value


def kind_of_part(value: Any, variant: ValueKind | None) -> ValueKind:
    """Return the kind of a scalar part; `variant` is that of the elements of an array of a built-in type."""
    if isinstance(value, Enum) or (isinstance(value, int) and not isinstance(value, bool)):
        return variant if variant in (ValueKind.UINT64, ValueKind.INT64) else ValueKind.INT64
    if isinstance(value, bool):
        return ValueKind.BOOL
    return ValueKind.FLOAT64 if isinstance(value, float) else ValueKind.TEXT


def waveform(tag: int, ts: int, value: Any, status: int, rate: float, full_scale: float) -> Waveform:
    """Return an array as a waveform: 16-bit integers with their scale, anything else as physical values."""
    samples = np.asarray(value if isinstance(value, list) and not is_bad(status) else [], np.float64)
    if samples.ndim != 1:
        samples, status = samples[:0].reshape(-1), int(StatusCode.BAD_TYPE_MISMATCH)
    whole = len(samples) and full_scale and (samples == np.rint(samples)).all() and np.abs(samples).max() <= 32767
    dtype: Any = np.int16 if whole else np.float32
    return Waveform(tag, ts, rate, full_scale, np.ascontiguousarray(samples, dtype), status)
