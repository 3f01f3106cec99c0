"""Sparkplug payloads from readings: types, quality and null as Sparkplug B 3.0, chapter 6, has them."""

import json
import math
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf.message import DecodeError

from edge.core.catalogue import Tag, ValueKind
from edge.core.quality import StatusCode, is_bad, is_good
from uplink.sparkplug.sparkplug_b_pb2 import Payload

INT32: Final = 3
INT64: Final = 4
UINT64: Final = 8
DOUBLE: Final = 10
BOOLEAN: Final = 11
STRING: Final = 12

# Integers are 64 bits wide whatever the device's register is: stock hosts disagree about the narrow ones.
DATATYPES = {
    ValueKind.BOOL: BOOLEAN,
    ValueKind.INT64: INT64,
    ValueKind.UINT64: UINT64,
    ValueKind.FLOAT64: DOUBLE,
    ValueKind.TEXT: STRING,
}
QUALITY_BAD: Final = 0
QUALITY_GOOD: Final = 192
QUALITY_STALE: Final = 500
BDSEQ: Final = "bdSeq"
REBIRTH: Final = "Node Control/Rebirth"

_STALE = {
    StatusCode.BAD_NO_COMMUNICATION,
    StatusCode.BAD_NOT_CONNECTED,
    StatusCode.BAD_WAITING_FOR_INITIAL_DATA,
    StatusCode.BAD_OUT_OF_SERVICE,
}


@dataclass(frozen=True, slots=True)
class Reading:
    """One value of a tag. `ts` in nanoseconds since 1970 UTC, `quality` an OPC UA StatusCode."""

    ts: int
    value: Any
    quality: int

    @property
    def sparkplug_quality(self) -> int:
        """Sparkplug's three: 192 good, 500 stale (uncertain, or not connected), 0 bad."""
        if is_good(self.quality):
            return QUALITY_GOOD
        return QUALITY_BAD if is_bad(self.quality) and self.quality not in _STALE else QUALITY_STALE

    @property
    def is_null(self) -> bool:
        """Whether there is no value to send: it is bad."""
        return is_bad(self.quality)

    def equals(self, other: "Reading") -> bool:
        """Tell whether a host would see no difference but the time."""
        if self.sparkplug_quality != other.sparkplug_quality or self.is_null != other.is_null:
            return False
        if self.is_null or self.value == other.value:
            return True
        return isinstance(self.value, float) and math.isnan(self.value) and math.isnan(other.value)


def set_value(metric: Payload.Metric, datatype: int, value: Any) -> None:
    """Put a value into the field that its type demands; negative integers as two's complement."""
    match datatype:
        case 10:
            metric.double_value = value
        case 11:
            metric.boolean_value = bool(value)
        case 12:
            metric.string_value = value
        case 3:
            metric.int_value = value & 0xFFFF_FFFF
        case _:
            metric.long_value = value & 0xFFFF_FFFF_FFFF_FFFF


def set_quality(metric: Payload.Metric, quality: int) -> None:
    """Add the property Quality, an Int32."""
    metric.properties.keys.append("Quality")
    metric.properties.values.add(type=INT32, int_value=quality)


def set_reading(metric: Payload.Metric, tag: Tag, reading: Reading) -> None:
    """Put a tag's reading into a metric: alias, time, and value or null."""
    metric.alias = tag.id
    metric.timestamp = max(reading.ts, 0) // 1_000_000
    if reading.is_null:
        metric.is_null = True
    else:
        set_value(metric, DATATYPES[tag.kind], reading.value)


def parse(data: bytes) -> Payload | None:
    """Return the payload in a message; None when it is none."""
    try:
        return Payload.FromString(data)
    except DecodeError:
        return None


def asks_rebirth(data: bytes) -> bool:
    """Tell whether an NCMD asks for births."""
    payload = parse(data)
    return payload is not None and any(metric.name == REBIRTH and metric.boolean_value for metric in payload.metrics)


@dataclass(frozen=True, slots=True)
class HostState:
    """What a STATE message says; `timestamp` in ms since 1970 UTC."""

    online: bool
    timestamp: int


def host_state(data: bytes) -> HostState | None:
    """Return what a STATE message says; None when it is not one of Sparkplug 3.0."""
    try:
        state = json.loads(data)
    except (ValueError, RecursionError):
        return None
    if not isinstance(state, dict):
        return None
    online, timestamp = state.get("online"), state.get("timestamp")
    if not isinstance(online, bool) or not isinstance(timestamp, int) or isinstance(timestamp, bool):
        return None
    return HostState(online, timestamp)
