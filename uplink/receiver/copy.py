"""Readings as PostgreSQL's binary COPY, made a column at a time."""

import struct
from collections import Counter
from collections.abc import Sequence
from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt

from uplink import batch_pb2 as pb
from uplink.receiver.columns import Column, Readings, joined

_HEAD = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_END = struct.pack(">h", -1)
_FIELDS = 8
_NULL = -1


def _layout(*columns: tuple[str, str]) -> tuple[np.dtype[Any], dict[str, int]]:
    """Return the dtype of a row and what stands in it whatever the values: field count and lengths. "" is a NULL."""
    fields, constant = [("count", ">i2")], {"count": _FIELDS}
    for name, kind in columns:
        fields.append((f"{name} bytes", ">i4"))
        constant[f"{name} bytes"] = np.dtype(kind).itemsize if kind else _NULL
        if kind:
            fields.append((name, kind))
    return np.dtype(fields), constant


_FIRST = ("tag", ">i8"), ("ts", ">i8")
_LAST = ("quality", ">i8"), ("message", ">i8"), ("revision", ">i8")
_FLOATS = _layout(*_FIRST, ("value", ">f8"), ("whole", ""), ("text", ""), *_LAST)
_INTEGERS = _layout(*_FIRST, ("value", ">f8"), ("whole", ">i8"), ("text", ""), *_LAST)


def rows_of(messages: Sequence[tuple[int, Readings]]) -> tuple[BytesIO | None, Counter[int]]:
    """Return the rows of `sample` for messages, given as (id, readings), as a binary COPY stream; None without any.

    A (tag, ts) that comes again among them is written once, with the last value of its highest revision; how many
    readings a message replaced in this way, or had to give up for a higher revision, is returned by its id.
    """
    floats = joined([(key, readings.floats) for key, readings in messages])
    integers = joined([(key, readings.integers) for key, readings in messages])
    texts = joined([(key, readings.texts) for key, readings in messages])
    repeats: Counter[int] = Counter()
    parts = [_HEAD]
    for (dtype, constant), column_of in ((_FLOATS, floats), (_INTEGERS, integers)):
        message, column, kept = _last_of_each(*column_of, repeats)
        rows = np.empty(int(kept.sum()), dtype)
        for name, value in constant.items():
            rows[name] = value
        values = np.asarray(column.value)[kept]
        rows["tag"], rows["ts"], rows["value"] = column.key[kept], column.ts[kept], values
        rows["quality"], rows["message"] = column.quality[kept], message[kept]
        rows["revision"] = column.revision[kept]
        if "whole" in (dtype.names or ()):
            rows["value"] = np.where((column.kind[kept] == pb.UINT64) & (values < 0), values + 2.0**64, values)
            rows["whole"] = values
        parts.append(rows.tobytes())
    message, column, kept = _last_of_each(*texts, repeats)
    for place in np.flatnonzero(kept).tolist():
        text = str(column.value[place]).replace("\0", "\N{SYMBOL FOR NULL}").encode()
        parts.append(
            struct.pack(">hiqiqiii", _FIELDS, 8, column.key[place], 8, column.ts[place], _NULL, _NULL, len(text))
            + text
            + struct.pack(">iqiqiq", 8, column.quality[place], 8, message[place], 8, column.revision[place])
        )
    if len(floats[1]) + len(integers[1]) + len(texts[1]) == 0:
        return None, repeats
    return BytesIO(b"".join([*parts, _END])), repeats


def _last_of_each(
    message: npt.NDArray[np.int64], column: Column, repeats: Counter[int]
) -> tuple[npt.NDArray[np.int64], Column, npt.NDArray[np.bool_]]:
    """Return what was given and which readings are the last of their (tag, ts); count what they replace."""
    order = np.lexsort((column.revision, column.ts, column.key))  # stable: of equal ones the last is the last that came
    key, ts = column.key[order], column.ts[order]
    again = (key[1:] == key[:-1]) & (ts[1:] == ts[:-1])
    kept = np.ones(len(order), np.bool_)
    kept[order[:-1]] = ~again
    repeats.update(message[order[1:]][again].tolist())
    return message, column, kept
