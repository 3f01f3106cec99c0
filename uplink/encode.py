"""A parcel to the bytes of one message and back: `contract/v1/batch.proto` in a Zstandard frame."""

import json
from collections.abc import Iterator

import numpy as np
from google.protobuf.message import DecodeError

from edge.core.batch import Batch, Event, Record, Waveform
from edge.core.delivery import Parcel
from edge.core.errors import YulinkError
from edge.core.zstd import ZstdDecompressor, ZstdError, compress
from uplink import batch_pb2 as pb
from uplink.tables import Series, add_tables, read_table

MESSAGE_BYTES_MAX = 64 << 20
_ZSTD_LEVEL = 3


class BadMessage(YulinkError):
    """The bytes are not a message of this contract."""


def encode(parcel: Parcel, gateway: str, catalogue: int = 0) -> bytes:
    """Return the message's payload. `catalogue` is the revision that names the parcel's tags."""
    message = pb.Batch(
        gateway=gateway,
        epoch=parcel.epoch,
        seq=parcel.seq,
        historical=parcel.historical,
        catalogue=catalogue,
        hour=parcel.hour,
        uplink=parcel.uplink,
    )
    add_tables(message, [record for record in parcel.records if isinstance(record, Batch)])
    for record in parcel.records:
        if not isinstance(record, Batch):
            _add_single(message, record)
    for epoch, seq in parcel.instead_of:
        message.instead_of.add(epoch=epoch, first=seq, last=seq)
    for epoch, first, last in parcel.gone:
        message.gone.add(epoch=epoch, first=first, last=last)
    for gap in parcel.gaps:
        message.gaps.add(
            rows=gap.rows,
            ts_min=gap.ts_min,
            ts_max=gap.ts_max,
            reason=gap.reason,
            data_class=gap.data_class,
            tags=[tag for tag, _ in gap.tags],
            tag_rows=[rows for _, rows in gap.tags],
        )
    return compress(message.SerializeToString(), _ZSTD_LEVEL)


def _add_single(message: pb.Batch, record: Record) -> None:
    match record:
        case Waveform():
            wave = message.waveforms.add(
                tag=record.tag,
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


def unpack(payload: bytes) -> bytes:
    """Return what a Zstandard frame holds.

    Raises:
        BadMessage: it is none, cut off, or holds more than 64 MiB.
    """
    unpacker = ZstdDecompressor()
    try:
        plain = unpacker.decompress(payload, max_length=MESSAGE_BYTES_MAX)
    except ZstdError as error:
        raise BadMessage(f"not a message of this contract: {error}") from error
    if not unpacker.eof:
        raise BadMessage("the compressed message is cut off or above 64 MiB")
    return plain


def decode(payload: bytes) -> pb.Batch:
    """Return the message in a payload. Raises BadMessage."""
    try:
        message = pb.Batch.FromString(unpack(payload))
    except DecodeError as error:
        raise BadMessage(f"not a message of this contract: {error}") from error
    if not message.gateway or not message.epoch or not message.seq:
        raise BadMessage("a message without gateway, epoch or seq")
    return message


def series(message: pb.Batch) -> Iterator[Series]:
    """Yield the series of every table. Raises BadMessage for a table whose columns do not fit together."""
    for table in message.tables:
        try:
            yield from read_table(table, message.texts)
        except (ValueError, OverflowError) as error:
            raise BadMessage(f"a table that cannot be read: {error}") from error
