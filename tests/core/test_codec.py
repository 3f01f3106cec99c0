import struct
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.core.batch import Batch, Lane, Record
from edge.core.codec import decode, encode
from edge.core.errors import CorruptSegment
from tests.core.strategies import batches, events, waveforms

RECORDS = batches() | waveforms() | events()


@given(RECORDS)
def test_every_record_comes_back_equal(record: Record) -> None:
    assert decode(encode(record)) == record


@given(batches(Lane.FLOAT))
def test_doubles_come_back_bit_for_bit(batch: Batch) -> None:
    back = decode(encode(batch))
    assert isinstance(back, Batch)
    assert back.value.tobytes() == batch.value.tobytes()


@pytest.mark.parametrize("lane", Lane)
@pytest.mark.parametrize("rows", [0, 1, 1_000_000])
def test_no_row_one_row_and_a_million_rows(lane: Lane, rows: int) -> None:
    random = np.random.default_rng(rows)
    values: Any = {
        Lane.FLOAT: random.normal(size=rows),
        Lane.INT: random.integers(-(2**63), 2**63 - 1, rows),
        Lane.TEXT: [f"程序-{n}" for n in range(rows)],
    }[lane]
    batch = Batch.of(lane, np.arange(rows), np.arange(rows) * 1_000_000, values, random.integers(0, 2**32, rows))
    assert decode(encode(batch)) == batch


@given(RECORDS, st.data())
def test_one_flipped_bit_is_noticed(record: Record, data: st.DataObject) -> None:
    stored = bytearray(encode(record))
    position = data.draw(st.integers(0, len(stored) * 8 - 1))
    stored[position // 8] ^= 1 << position % 8
    with pytest.raises(CorruptSegment):
        decode(bytes(stored))


@given(RECORDS, st.data())
def test_a_cut_segment_is_noticed(record: Record, data: st.DataObject) -> None:
    stored = encode(record)
    with pytest.raises(CorruptSegment):
        decode(stored[: data.draw(st.integers(0, len(stored) - 1))])


@given(st.binary(max_size=64))
def test_any_body_with_a_true_checksum_is_a_record_or_corrupt(body: bytes) -> None:
    """A checksum protects against decay, not against a program's mistake: nothing else may come out."""
    for kind in range(6):
        head = struct.pack("<2sBBII", b"YS", 1, kind, 3, len(body))
        stored = head + struct.pack("<I", zlib.crc32(body, zlib.crc32(head))) + body
        try:
            decode(stored)
        except CorruptSegment:
            continue


def test_a_later_version_is_refused_not_guessed() -> None:
    stored = bytearray(encode(Batch.empty(Lane.INT)))
    stored[2] = 2
    with pytest.raises(CorruptSegment, match="version 1"):
        decode(bytes(stored))
