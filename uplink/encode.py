"""A parcel to the bytes of one message and back: `contract/v1/batch.proto` in a Zstandard frame."""

import itertools
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from google.protobuf.message import DecodeError

from edge.core.batch import Batch, Event, Lane, Record, Waveform
from edge.core.catalogue import Catalogue, Tag, ValueKind
from edge.core.delivery import Parcel
from edge.core.errors import YulinkError
from edge.core.zstd import ZstdDecompressor, ZstdError, compress
from uplink import batch_pb2 as pb

MESSAGE_BYTES_MAX = 64 << 20
_ZSTD_LEVEL = 3
_KINDS = {
    ValueKind.BOOL: pb.BOOL,
    ValueKind.INT64: pb.INT64,
    ValueKind.UINT64: pb.UINT64,
    ValueKind.FLOAT64: pb.FLOAT64,
    ValueKind.TEXT: pb.TEXT,
    ValueKind.WAVEFORM: pb.WAVEFORM,
}


class BadMessage(YulinkError):
    """The bytes are not a message of this contract."""


def encode(parcel: Parcel, catalogue: Catalogue, gateway: str) -> bytes:
    """Return the message's payload."""
    message = pb.Batch(gateway=gateway, epoch=parcel.epoch, seq=parcel.seq, historical=parcel.historical)
    for lane in Lane:
        if batches := [record for record in parcel.records if isinstance(record, Batch) and record.lane is lane]:
            _add_series(message, Batch.concat(batches), catalogue)
    for record in parcel.records:
        if not isinstance(record, Batch):
            _add_single(message, record, catalogue)
    for gap in parcel.gaps:
        message.gaps.add(rows=gap.rows, ts_min=gap.ts_min, ts_max=gap.ts_max, reason=gap.reason)
    return compress(message.SerializeToString(), _ZSTD_LEVEL)


def _add_series(message: pb.Batch, batch: Batch, catalogue: Catalogue) -> None:
    order = np.argsort(batch.tag, kind="stable")
    tags = batch.tag[order]
    starts = np.flatnonzero(np.diff(tags, prepend=-1))
    for start, end in itertools.pairwise([*starts.tolist(), len(tags)]):
        rows = order[start:end]
        series = message.series.add(tag=_tag(catalogue[int(tags[start])]))
        series.ts_delta.extend(_deltas(batch.ts[rows]))
        match batch.lane:
            case Lane.FLOAT:
                series.floats.extend(batch.value[rows].tolist())
            case Lane.INT:
                series.integers.extend(_deltas(batch.value[rows]))
            case Lane.TEXT:
                series.texts.extend(text.encode("utf-8", "replace").decode() for text in batch.value[rows])
        _add_quality(series, batch.quality[rows])


def _deltas(column: npt.NDArray[Any]) -> list[int]:
    """Return first value and differences, modulo 2⁶⁴ so that they always fit."""
    with np.errstate(over="ignore"):
        deltas: list[int] = np.diff(column.view(np.uint64), prepend=np.uint64(0)).view(np.int64).tolist()
    return deltas


def _add_quality(series: pb.Series, quality: npt.NDArray[np.uint32]) -> None:
    starts = np.flatnonzero(np.diff(quality.astype(np.int64), prepend=-1))
    for start, end in itertools.pairwise([*starts.tolist(), len(quality)]):
        series.quality.add(code=int(quality[start]), count=end - start)


def _add_single(message: pb.Batch, record: Record, catalogue: Catalogue) -> None:
    match record:
        case Waveform():
            wave = message.waveforms.add(
                tag=_tag(catalogue[record.tag]),
                ts=record.ts,
                rate_hz=record.rate_hz,
                full_scale=record.full_scale,
                quality=record.quality,
            )
            if record.samples.dtype == np.int16:
                wave.int16_samples = record.samples.astype("<i2").tobytes()
            else:
                wave.float32_samples = record.samples.astype("<f4").tobytes()
        case Event():
            message.events.add(
                ts=record.ts,
                source=_clean(record.source),
                kind=_clean(record.kind),
                severity=int(record.severity),
                message=_clean(record.message),
                facts_json=json.dumps(dict(record.facts)),
            )


def _clean(text: str) -> str:
    """A device may send half a surrogate pair; protobuf takes Unicode only."""
    return text.encode("utf-8", "replace").decode()


def _tag(tag: Tag) -> pb.Tag:
    return pb.Tag(id=tag.id, device=tag.device, name=tag.name, kind=_KINDS[tag.kind], unit=tag.unit)


def decode(payload: bytes) -> pb.Batch:
    """Return the message in a payload.

    Raises:
        BadMessage: not a Zstandard frame, too large, or not a batch.
    """
    unpacker = ZstdDecompressor()
    try:
        plain = unpacker.decompress(payload, max_length=MESSAGE_BYTES_MAX)
        if not unpacker.eof:
            raise BadMessage("the compressed message is cut off or above 64 MiB")
        message = pb.Batch.FromString(plain)
    except (ZstdError, DecodeError) as error:
        raise BadMessage(f"not a message of this contract: {error}") from error
    if not message.gateway or not message.epoch or not message.seq:
        raise BadMessage("a message without gateway, epoch or seq")
    for series in message.series:
        rows = len(series.ts_delta)
        if {len(series.floats) + len(series.integers) + len(series.texts), sum(q.count for q in series.quality)} != {
            rows
        }:
            raise BadMessage("the columns of a series differ in length")
    return message


def times(series: pb.Series) -> list[int]:
    """Return the times of a series, ns since 1970 UTC."""
    return _sums(series.ts_delta)


def values(series: pb.Series) -> list[bool | int | float | str]:
    """Return the values of a series as the tag's own Python type."""
    if series.tag.kind == pb.FLOAT64:
        return list(series.floats)
    if series.tag.kind == pb.TEXT:
        return list(series.texts)
    integers = _sums(series.integers)
    if series.tag.kind == pb.BOOL:
        return [bool(value) for value in integers]
    return [value % 2**64 for value in integers] if series.tag.kind == pb.UINT64 else list(integers)


def qualities(series: pb.Series) -> Iterator[int]:
    """Yield the StatusCode of each row of a series."""
    for run in series.quality:
        yield from itertools.repeat(run.code, run.count)


def _sums(deltas: Any) -> list[int]:
    total: list[int] = np.cumsum(np.array(deltas, np.int64).view(np.uint64)).view(np.int64).tolist()
    return total
