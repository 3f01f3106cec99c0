"""OPC UA values to rows: kind, value, quality and source time."""

from datetime import UTC, datetime, timedelta
from typing import Any

from asyncua import ua

from edge.core.catalogue import ValueKind
from edge.core.quality import StatusCode

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_MICROS_MAX = (2**63 - 1) // 1000

_KINDS = {
    ua.VariantType.Boolean: ValueKind.BOOL,
    ua.VariantType.SByte: ValueKind.INT64,
    ua.VariantType.Byte: ValueKind.INT64,
    ua.VariantType.Int16: ValueKind.INT64,
    ua.VariantType.UInt16: ValueKind.INT64,
    ua.VariantType.Int32: ValueKind.INT64,
    ua.VariantType.UInt32: ValueKind.INT64,
    ua.VariantType.Int64: ValueKind.INT64,
    ua.VariantType.UInt64: ValueKind.UINT64,
    ua.VariantType.Float: ValueKind.FLOAT64,
    ua.VariantType.Double: ValueKind.FLOAT64,
    ua.VariantType.String: ValueKind.TEXT,
    ua.VariantType.LocalizedText: ValueKind.TEXT,
    ua.VariantType.QualifiedName: ValueKind.TEXT,
    ua.VariantType.DateTime: ValueKind.TEXT,
    ua.VariantType.Guid: ValueKind.TEXT,
}

NOTHING: dict[ValueKind, Any] = {ValueKind.FLOAT64: float("nan"), ValueKind.TEXT: ""}
"""What stands in a bad row, by kind; 0 for the others."""


def kind_of(data: ua.DataValue) -> ValueKind | None:
    """Return the kind of a value; None when there is no value, or it is an array or a structure."""
    variant = data.Value
    if variant is None or variant.Value is None or isinstance(variant.Value, list | tuple):
        return None
    return _KINDS.get(variant.VariantType)


def kind_of_number(variant: Any) -> ValueKind | None:
    """Return the kind of a built-in type, also of the elements of an array."""
    return _KINDS.get(variant)


def kind_of_type(data_type: Any) -> ValueKind | None:
    """Return the kind of a DataType attribute's node id, where it names a built-in type."""
    if isinstance(data_type, ua.NodeId) and data_type.NamespaceIndex == 0 and isinstance(data_type.Identifier, int):
        try:
            return _KINDS.get(ua.VariantType(data_type.Identifier))
        except ValueError:
            return None
    return None


def row(data: ua.DataValue | tuple[int, Any, int], kind: ValueKind, now: int) -> tuple[int, Any, int]:
    """Return time (ns since 1970 UTC), lane value and StatusCode of one reading, or of its (time, value, status).

    The time is the source's, else the server's, else `now`. A value that does not fit the kind is BadTypeMismatch.
    """
    ts, value, status = data if isinstance(data, tuple) else parts_of(data, now)
    nothing = NOTHING.get(kind, 0)
    if status & 0x80000000 or value is None:
        return ts, nothing, status if status & 0x80000000 else int(StatusCode.BAD_NOT_SUPPORTED)
    try:
        return ts, convert(value, kind), status
    except (TypeError, ValueError, OverflowError):
        return ts, nothing, int(StatusCode.BAD_TYPE_MISMATCH)


def parts_of(data: ua.DataValue, now: int) -> tuple[int, Any, int]:
    """Return time (ns since 1970 UTC), value and StatusCode; its time is the source's, the server's, or `now`."""
    status = data.StatusCode.value if data.StatusCode is not None else int(StatusCode.GOOD)
    value = data.Value.Value if data.Value is not None else None
    return time_of(data.SourceTimestamp or data.ServerTimestamp, now), value, status


def convert(value: Any, kind: ValueKind) -> Any:
    """Return a value as its lane holds it. Raises TypeError or ValueError when it does not fit."""
    match kind:
        case ValueKind.TEXT:
            return text(value)
        case ValueKind.FLOAT64:
            return float(value)
        case ValueKind.BOOL:
            return int(bool(value))
        case _:
            number = int(value)
            if not -(2**63) <= number < (2**64 if kind is ValueKind.UINT64 else 2**63):
                raise ValueError(number)
            return number - 2**64 if number >= 2**63 else number


def text(value: Any) -> str:
    """Return a value as text: a localised text's words, a time in ISO 8601."""
    if isinstance(value, ua.LocalizedText):
        return value.Text or ""
    if isinstance(value, ua.QualifiedName):
        return value.Name or ""
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).isoformat()
    if isinstance(value, list | tuple | bytes):
        raise TypeError(type(value).__name__)
    return str(value)


def time_of(stamp: datetime | None, now: int) -> int:
    """Return a time stamp as ns since 1970 UTC, exact to the microsecond; `now` where there is none."""
    if stamp is None:
        return now
    aware = stamp if stamp.tzinfo else stamp.replace(tzinfo=UTC)
    micros = (aware - _EPOCH) // _MICROSECOND
    return max(-_MICROS_MAX, min(_MICROS_MAX, micros)) * 1000
