"""Read and Publish responses straight from their bytes into columns: the protocol's hot path.

Values of a fixed size are found by one pass over their headers and gathered by numpy; asyncua makes ten objects for
each. Whatever has another form (texts, arrays, structures, nested variants) is decoded by asyncua, value by value.
Encoding: OPC 10000-6, 5.2.2.17 (DataValue) and 5.2.2.16 (Variant).
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua.ua_binary import struct_from_binary

READ_RESPONSE = 634
PUBLISH_RESPONSE = 829
_DATA_CHANGE = b"\x01\x00\x2b\x03\x01"
"""NodeId of DataChangeNotification's binary encoding, and "has a body"."""

_NATIVE = {1: "?", 2: "i1", 3: "u1", 4: "<i2", 5: "<u2", 6: "<i4", 7: "<u4", 8: "<i8", 9: "<u8", 10: "<f4", 11: "<f8"}
"""Built-in types of a fixed size by their number in a Variant, as numpy writes them."""

_VALUE, _STATUS, _SOURCE, _SERVER, _SOURCE_PICOS, _SERVER_PICOS = 1, 2, 4, 8, 16, 32
_I32 = struct.Struct("<i").unpack_from
_U32 = struct.Struct("<I").unpack_from
_FILETIME_1970 = 116_444_736_000_000_000
_FILETIME_MAX = 2_650_467_744_000_000_000 - 1
_Decoded = TypeVar("_Decoded")
NO_TIME = np.iinfo(np.int64).min
"""Stands for a missing time stamp."""


@dataclass(frozen=True, slots=True)
class Run:
    """Values of one built-in type, as columns of equal length n.

    place   int64[n]   where each stood in the message: rows of several runs are ordered by it
    handle  int64[n]   client handle, or the position in a Read
    type    number of the built-in type; 0 when there is no value
    value   native dtype[n]; zeros when there is no value
    ts      int64[n]   ns since 1970 UTC of the source, else the server, else `NO_TIME`; whole microseconds
    status  uint32[n]
    """

    place: npt.NDArray[np.int64]
    handle: npt.NDArray[np.int64]
    type: int
    value: npt.NDArray[Any]
    ts: npt.NDArray[np.int64]
    status: npt.NDArray[np.uint32]

    def __len__(self) -> int:
        return len(self.place)


@dataclass(slots=True)
class Values:
    """Decoded values: runs of columns, and the rest as (place, handle, DataValue or its (time, value, status))."""

    runs: list[Run] = field(default_factory=list)
    rest: list[tuple[int, int, ua.DataValue | tuple[int, Any, int]]] = field(default_factory=list)

    def __len__(self) -> int:
        return sum(map(len, self.runs)) + len(self.rest)


@dataclass(slots=True)
class Notification:
    """What a Publish response says. `other` are events and changes of the subscription's own state."""

    subscription: int
    sequence: int
    available: list[int]
    more: bool
    values: Values
    other: list[Any]
    acknowledged: list[int] = field(default_factory=list)

    @property
    def keeps_alive(self) -> bool:
        """Whether it holds nothing; such a message announces the next sequence number and is not acknowledged."""
        return not len(self.values) and not self.other


class _Unusual(Exception):
    """The message has a form that only asyncua reads."""


class _Shape:
    """A DataValue's layout of a fixed size, known by its mask and its variant's type."""

    def __init__(self, mask: int, type_: int, handled: bool) -> None:
        fields: list[tuple[str, str]] = [("handle", "<u4")] if handled else []
        fields.append(("mask", "u1"))
        if mask & _VALUE:
            fields += [("type", "u1"), ("value", _NATIVE[type_])]
        for bit, name, form in (
            (_STATUS, "status", "<u4"),
            (_SOURCE, "source", "<i8"),
            (_SOURCE_PICOS, "source_picos", "<u2"),
            (_SERVER, "server", "<i8"),
            (_SERVER_PICOS, "server_picos", "<u2"),
        ):
            if mask & bit:
                fields.append((name, form))
        self.type = type_ if mask & _VALUE else 0
        self.dtype = np.dtype(fields)
        self.size = self.dtype.itemsize
        self.reach = np.arange(self.size)
        self.stamp = "source" if mask & _SOURCE else "server" if mask & _SERVER else ""
        self.has_status = bool(mask & _STATUS)
        self.handled = handled

    def gather(self, data: npt.NDArray[np.uint8], places: list[int], order: npt.NDArray[np.int64]) -> Run:
        at = np.array(places, np.int64)
        rows = data[at[:, None] + self.reach].view(self.dtype).reshape(-1)
        n = len(at)
        value = rows["value"] if self.type else np.zeros(n)
        if self.type == 1:
            value = rows["value"].view(np.uint8) != 0
        return Run(
            at,
            rows["handle"].astype(np.int64) if self.handled else order,
            self.type,
            value,
            _nanoseconds(rows[self.stamp]) if self.stamp else np.full(n, NO_TIME),
            rows["status"].astype(np.uint32) if self.has_status else np.zeros(n, np.uint32),
        )


def _nanoseconds(filetime: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return ns since 1970 of 100-ns steps since 1601, in whole µs, clamped to the years 1601 to 9999 and to int64."""
    micros = np.clip(filetime, 0, _FILETIME_MAX) // 10 - _FILETIME_1970 // 10
    limit = np.iinfo(np.int64).max // 1000
    return np.clip(micros, -limit, limit).astype(np.int64) * 1000


_shapes: dict[tuple[bool, int], _Shape | None] = {}


def _shape(handled: bool, key: int) -> _Shape | None:
    """Return the layout for mask and type; None when asyncua must read the value."""
    mask, type_ = key >> 8, key & 0xFF
    known = mask < 0x40 and (not mask & _VALUE or type_ in _NATIVE)
    shape = _Shape(mask, type_, handled) if known else None
    _shapes[handled, key] = shape
    return shape


def decode_items(body: bytes, start: int, count: int, *, handled: bool) -> tuple[Values, int]:
    """Return `count` DataValues from `start`, each after its client handle when `handled`, and where they end.

    Raises:
        IndexError, ValueError, struct.error, or asyncua's: the bytes are not that.
    """
    head = 4 if handled else 0
    found: dict[int, tuple[_Shape, list[int], list[int]]] = {}
    known = found.get
    values = Values()
    p, end = start, len(body)
    for order in range(count):
        key = body[p + head] << 8 | body[p + head + 1]
        group = known(key)
        if group is None:
            shape = _shapes[handled, key] if (handled, key) in _shapes else _shape(handled, key)
            if shape is None:
                buffer = Buffer(body, p + head)
                data = struct_from_binary(ua.DataValue, buffer)
                values.rest.append((p, _U32(body, p)[0] if handled else order, data))
                p = buffer.cur_pos
                continue
            group = found[key] = (shape, [], [])
        group[1].append(p)
        group[2].append(order)
        p += group[0].size
    if p > end:
        raise IndexError("the message ends in the middle of a value")
    if found:
        octets = np.frombuffer(body, np.uint8)
        for shape, places, orders in found.values():
            values.runs.append(shape.gather(octets, places, np.array(orders, np.int64)))
    return values, p


def _header(body: bytes, expected: int) -> int:
    """Check type and header of a response; return where its parameters begin. Raises UaStatusCodeError, _Unusual."""
    if len(body) < 28 or body[0:2] != b"\x01\x00" or int.from_bytes(body[2:4], "little") != expected:
        raise _Unusual
    if status := _U32(body, 16)[0]:
        ua.StatusCode(ua.UInt32(status)).check()
    if body[20] or _I32(body, 21)[0] > 0 or body[25:28] != b"\x00\x00\x00":
        raise _Unusual
    return 28


def decode_read(body: bytes) -> Values:
    """Return the values of a Read response by their position in the request.

    Raises:
        ua.UaStatusCodeError: the service failed. ua.UaError and others of asyncua: the bytes are not a response.
    """
    return _or_slowly(_read, _read_slowly, body)


def decode_publish(body: bytes) -> Notification:
    """Return what a Publish response says. Raises as `decode_read`."""
    return _or_slowly(_publish, _publish_slowly, body)


def _or_slowly(fast: Callable[[bytes], _Decoded], slow: Callable[[bytes], _Decoded], body: bytes) -> _Decoded:
    try:
        return fast(body)
    except (_Unusual, IndexError, ValueError, struct.error):
        return slow(body)


def _read(body: bytes) -> Values:
    p = _header(body, READ_RESPONSE)
    values, _ = decode_items(body, p + 4, max(0, _I32(body, p)[0]), handled=False)
    return values


def _read_slowly(body: bytes) -> Values:
    response = struct_from_binary(ua.ReadResponse, Buffer(body))
    response.ResponseHeader.ServiceResult.check()
    return Values(rest=[(at, at, data) for at, data in enumerate(response.Results)])


def _publish(body: bytes) -> Notification:
    p = _header(body, PUBLISH_RESPONSE)
    subscription = _U32(body, p)[0]
    listed = max(0, _I32(body, p + 4)[0])
    available = list(struct.unpack_from(f"<{listed}I", body, p + 8))
    p += 8 + 4 * listed
    more, sequence = body[p] != 0, _U32(body, p + 1)[0]
    p += 13
    parts = max(0, _I32(body, p)[0])
    p += 4
    notification = Notification(subscription, sequence, available, more, Values(), [])
    for _ in range(parts):
        if body[p : p + 5] != _DATA_CHANGE:
            raise _Unusual
        end = p + 9 + _I32(body, p + 5)[0]
        values, _ = decode_items(body, p + 13, max(0, _I32(body, p + 9)[0]), handled=True)
        notification.values.runs += values.runs
        notification.values.rest += values.rest
        p = end
    results = max(0, _I32(body, p)[0])
    notification.acknowledged = list(struct.unpack_from(f"<{results}I", body, p + 4))
    return notification


def _publish_slowly(body: bytes) -> Notification:
    response = struct_from_binary(ua.PublishResponse, Buffer(body))
    response.ResponseHeader.ServiceResult.check()
    given = response.Parameters
    return of_message(
        given.NotificationMessage,
        given.SubscriptionId,
        list(given.AvailableSequenceNumbers or ()),
        given.MoreNotifications,
        [int(code.value) for code in given.Results or ()],
    )


def of_message(
    message: Any, subscription: int, available: list[int], more: bool = False, acknowledged: list[int] | None = None
) -> Notification:
    """Return the same for a message that asyncua has decoded, e.g. a republished one."""
    notification = Notification(subscription, message.SequenceNumber, available, more, Values(), [], acknowledged or [])
    for part in message.NotificationData or ():
        if isinstance(part, ua.DataChangeNotification):
            for item in part.MonitoredItems or ():
                rest = notification.values.rest
                rest.append((len(rest), int(item.ClientHandle), item.Value))
        else:
            notification.other.append(part)
    return notification
