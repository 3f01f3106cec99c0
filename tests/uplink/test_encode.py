"""The message of the contract: what goes in comes out, in every lane, and nothing else is taken for a message."""

import math
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.core.batch import Batch, Lane, Waveform
from edge.core.catalogue import Catalogue, ValueKind
from edge.core.delivery import Gap, Parcel
from tests.core.strategies import INT64, events
from uplink import generate
from uplink.encode import BadMessage, decode, encode, qualities, times, values

KINDS = [ValueKind.BOOL, ValueKind.INT64, ValueKind.UINT64, ValueKind.FLOAT64, ValueKind.TEXT]
VALUES: dict[ValueKind, st.SearchStrategy[Any]] = {
    ValueKind.BOOL: st.integers(0, 1),
    ValueKind.INT64: INT64,
    ValueKind.UINT64: INT64,
    ValueKind.FLOAT64: st.floats(),
    ValueKind.TEXT: st.text(st.characters(codec="utf-8")),
}
CATALOGUE = Catalogue()
TAGS = {kind: CATALOGUE.intern("plc-1", f"tag_{kind}", kind, "kW") for kind in KINDS}
WAVE = CATALOGUE.intern("pump-3", "waveform", ValueKind.WAVEFORM, "g")
ROWS = st.sampled_from(KINDS).flatmap(
    lambda kind: st.tuples(st.just(kind), INT64, VALUES[kind], st.integers(0, 2**32 - 1))
)


def same(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return struct.pack("d", one) == struct.pack("d", other)
    return bool(one == other)


@given(st.lists(ROWS, max_size=40), st.booleans())
def test_rows_come_back_in_order_with_time_value_and_quality(rows: list[tuple[Any, ...]], historical: bool) -> None:
    batches = []
    for lane in Lane:
        chosen = [row for row in rows if row[0].lane is lane]
        if chosen:
            kinds, *columns = zip(*chosen, strict=True)
            batches.append(Batch.of(lane, [TAGS[kind].id for kind in kinds], *columns))
    message = decode(encode(Parcel(7, 9, tuple(batches), (), historical), CATALOGUE, "a/b"))
    assert (message.gateway, message.epoch, message.seq, message.historical) == ("a/b", 7, 9, historical)
    found = {
        series.tag.name: list(zip(times(series), values(series), qualities(series), strict=True))
        for series in message.series
    }
    for kind in KINDS:
        expected = [(ts, TAGS[kind].present(value), quality) for k, ts, value, quality in rows if k is kind]
        got = found.get(f"tag_{kind}", [])
        assert len(got) == len(expected)
        for (when, value, code), (got_ts, got_value, got_quality) in zip(expected, got, strict=True):
            assert (when, code) == (got_ts, got_quality)
            assert same(value, got_value)


@given(events(), st.integers(0, 50))
def test_waveforms_events_and_gaps_travel_whole(event: Any, samples: int) -> None:
    short = Waveform(WAVE.id, 5, 6400.0, 8.0, np.arange(samples, dtype=np.int16), 3)
    single = Waveform(WAVE.id, 5, 25600.0, 0.0, np.linspace(0, 1, samples, dtype=np.float32))
    gap = Gap(10, -5, 2**62, "log full")
    message = decode(encode(Parcel(1, 1, (short, single, event), (gap,)), CATALOGUE, "a/b"))
    first, second = message.waveforms
    assert np.frombuffer(first.int16_samples, "<i2").tolist() == short.samples.tolist()
    assert np.frombuffer(second.float32_samples, "<f4").tolist() == single.samples.tolist()
    assert (first.ts, first.rate_hz, first.full_scale, first.quality) == (5, 6400.0, 8.0, 3)
    assert (message.events[0].ts, message.events[0].severity) == (event.ts, event.severity)
    assert (message.gaps[0].rows, message.gaps[0].ts_min, message.gaps[0].reason) == (10, -5, "log full")


def test_a_hundred_thousand_rows_and_an_empty_parcel() -> None:
    rows = 100_000
    batch = Batch.of(Lane.FLOAT, [TAGS[ValueKind.FLOAT64].id] * rows, np.arange(rows), np.arange(rows) / 7)
    (series,) = decode(encode(Parcel(1, 2, (batch,)), CATALOGUE, "a/b")).series
    assert times(series) == list(range(rows))
    assert values(series) == [n / 7 for n in range(rows)]
    assert not decode(encode(Parcel(1, 3, ()), CATALOGUE, "a/b")).series


def test_special_floats_keep_their_bits() -> None:
    special = [math.nan, math.inf, -math.inf, -0.0, 5e-324, 1.7976931348623157e308]
    batch = Batch.of(Lane.FLOAT, [TAGS[ValueKind.FLOAT64].id] * 6, 0, special)
    (series,) = decode(encode(Parcel(1, 2, (batch,)), CATALOGUE, "a/b")).series
    assert [struct.pack("d", value) for value in values(series)] == [struct.pack("d", value) for value in special]


@given(st.binary(max_size=100))
def test_anything_else_is_a_bad_message(payload: bytes) -> None:
    with pytest.raises(BadMessage):
        decode(payload)


@given(st.data())
def test_a_cut_message_is_a_bad_message(data: st.DataObject) -> None:
    batch = Batch.of(Lane.INT, [TAGS[ValueKind.INT64].id] * 50, range(50), range(50))
    payload = encode(Parcel(1, 2, (batch,)), CATALOGUE, "a/b")
    with pytest.raises(BadMessage):
        decode(payload[: data.draw(st.integers(0, len(payload) - 1))])


def test_the_generated_code_is_that_of_the_contract() -> None:
    assert generate.stale() == []
    assert (Path(generate.ROOT) / "contract" / "v1" / "batch.proto").exists()
