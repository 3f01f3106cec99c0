"""Segment codec: one record to bytes and back. The same bytes lie in the log and cross the worker's socket.

Layout, little-endian; see `buffer/FORMAT.md` for the database around it:

    offset size  field
    0      2     magic "YS"
    2      1     version, 1
    3      1     kind: 0 float, 1 int, 2 text batch, 3 waveform, 4 event; 5, 6, 7 the same batches with revisions
    4      4     rows (samples for a waveform)
    8      4     size of the plain body in bytes
    12     4     CRC-32 of everything from offset 16 on, continued from the CRC-32 of bytes 0 to 11
    16     …     body, zstd-compressed when that made it shorter (then it is not `size` long)
"""

import json
import struct
import zlib
from typing import Any

import numpy as np

from edge.core.batch import Batch, Event, Lane, Record, Severity, Waveform
from edge.core.errors import CorruptSegment
from edge.core.zstd import ZstdError, compress, decompress

VERSION = 1
BODY_BYTES_MAX = 1 << 30
_ZSTD_LEVEL = 1
_HEADER = struct.Struct("<2sBBIII")
_WAVEFORM = struct.Struct("<iqddIB")
_KIND_WAVEFORM = 3
_KIND_EVENT = 4
_REVISED = 5  # more than the lane


def encode(record: Record) -> bytes:
    """Return the record as bytes. Raises ValueError above 1 GiB."""
    kind, body = _plain(record)
    if len(body) > BODY_BYTES_MAX:
        raise ValueError(f"a record of {len(body)} bytes is above the limit of {BODY_BYTES_MAX}")
    packed = compress(body, _ZSTD_LEVEL)
    stored = packed if len(packed) < len(body) else body
    head = _HEADER.pack(b"YS", VERSION, kind, len(record), len(body), 0)[:12]
    return head + struct.pack("<I", zlib.crc32(stored, zlib.crc32(head))) + stored


def decode(data: bytes) -> Record:
    """Return the record in `data`, equal to what `encode` was given.

    Raises:
        CorruptSegment: the bytes are cut, changed, or of a later version.
    """
    if len(data) < _HEADER.size:
        raise CorruptSegment(f"a segment of {len(data)} bytes is shorter than its header")
    magic, version, kind, rows, size, crc = _HEADER.unpack_from(data)
    if magic != b"YS" or version != VERSION:
        raise CorruptSegment(f"not a segment of version {VERSION}: it begins with {data[:3].hex(' ')}")
    stored = memoryview(data)[_HEADER.size :]
    if zlib.crc32(stored, zlib.crc32(data[:12])) != crc:
        raise CorruptSegment("the checksum of a segment does not match")
    if size > BODY_BYTES_MAX:
        raise CorruptSegment(f"a segment claims a body of {size} bytes")
    try:
        body = bytes(stored) if len(stored) == size else decompress(stored)
        if len(body) != size:
            raise CorruptSegment(f"a segment's body has {len(body)} bytes instead of {size}")
        return _record(kind, rows, body)
    except (ZstdError, struct.error, ValueError, KeyError, TypeError) as error:
        raise CorruptSegment(f"a segment cannot be read: {error}") from error


def _plain(record: Record) -> tuple[int, bytes]:
    match record:
        case Batch():
            columns = (record.ts.tobytes(), record.tag.tobytes(), record.quality.tobytes())
            if record.revision is None:
                return int(record.lane), b"".join((*columns, _values(record)))
            return _REVISED + int(record.lane), b"".join((*columns, record.revision.tobytes(), _values(record)))
        case Waveform():
            is_float = record.samples.dtype == np.float32
            head = _WAVEFORM.pack(record.tag, record.ts, record.rate_hz, record.full_scale, record.quality, is_float)
            return _KIND_WAVEFORM, head + record.samples.tobytes()
        case Event():
            return _KIND_EVENT, json.dumps(
                [record.ts, record.source, record.kind, int(record.severity), record.message, dict(record.facts)],
                ensure_ascii=False,
            ).encode("utf-8", "surrogatepass")


def _values(batch: Batch) -> bytes:
    if batch.lane is not Lane.TEXT:
        return batch.value.tobytes()
    texts = [text.encode("utf-8", "surrogatepass") for text in batch.value]
    return np.array([len(text) for text in texts], np.uint32).tobytes() + b"".join(texts)


def _record(kind: int, rows: int, body: bytes) -> Record:
    if kind == _KIND_WAVEFORM:
        tag, ts, rate_hz, full_scale, quality, is_float = _WAVEFORM.unpack_from(body)
        samples = np.frombuffer(body, np.float32 if is_float else np.int16, rows, _WAVEFORM.size)
        return Waveform(tag, ts, rate_hz, full_scale, samples, quality)
    if kind == _KIND_EVENT:
        ts, source, name, severity, message, facts = json.loads(body.decode("utf-8", "surrogatepass"))
        return Event(ts, source, name, Severity(severity), message, facts)
    lane = Lane(kind - _REVISED if kind >= _REVISED else kind)
    ts = np.frombuffer(body, np.int64, rows, 0)
    tag = np.frombuffer(body, np.int32, rows, 8 * rows)
    quality = np.frombuffer(body, np.uint32, rows, 12 * rows)
    if kind < _REVISED:
        return Batch(tag, ts, _read_values(lane, rows, body, 16 * rows), quality)
    revision = np.frombuffer(body, np.uint32, rows, 16 * rows)
    return Batch(tag, ts, _read_values(lane, rows, body, 20 * rows), quality, revision)


def _read_values(lane: Lane, rows: int, body: bytes, start: int) -> Any:
    if lane is not Lane.TEXT:
        return np.frombuffer(body, lane.dtype, rows, start)
    ends = np.frombuffer(body, np.uint32, rows, start).cumsum(dtype=np.int64) + start + 4 * rows
    texts = np.empty(rows, object)
    begin = start + 4 * rows
    for row, end in enumerate(ends.tolist()):
        texts[row] = body[begin:end].decode("utf-8", "surrogatepass")
        begin = end
    if begin != len(body):
        raise ValueError("text lengths do not add up")
    return texts
