"""The message of the contract: what goes in comes out, in every lane, and nothing else is taken for a message."""

import hashlib
import math
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.core.batch import Batch, Lane, Waveform
from edge.core.catalogue import Tag, ValueKind
from edge.core.delivery import Gap, Parcel
from edge.core.zstd import compress
from tests.core.strategies import INT64, events
from uplink import batch_pb2 as pb
from uplink import generate
from uplink.catalogue import Equipment, decode_catalogue, encode_catalogue
from uplink.encode import BadMessage, decode, encode, series
from uplink.tables import DOUBLE, SINGLE

START = 1_767_225_600_000_000_000
DECIMAL = st.builds(lambda number, places: number / 10**places, st.integers(-(10**9), 10**9), st.integers(0, 6))
VALUES: dict[Lane, st.SearchStrategy[Any]] = {
    Lane.FLOAT: st.one_of(st.floats(), DECIMAL, st.floats(width=32)),
    Lane.INT: INT64,
    Lane.TEXT: st.text(st.characters(codec="utf-8"), max_size=8),
}
TIMES = st.one_of(
    INT64,
    st.integers(0, 20).map(lambda n: START + n * 10**9),
    st.integers(0, 20_000).map(lambda n: START + n * 10**6),
)


REVISIONS = st.sampled_from([0, 0, 0, 1, 2**32 - 1])


@st.composite
def readings(draw: st.DrawFn) -> list[tuple[int, Lane, int, Any, int, int]]:
    """Rows (tag, lane, ts, value, quality, revision); tags keep their lane; some polls give many tags one time."""
    rows: list[tuple[int, Lane, int, Any, int, int]] = []
    lanes = draw(st.lists(st.sampled_from(list(Lane)), min_size=1, max_size=6))
    for _ in range(draw(st.integers(0, 12))):
        ts = draw(TIMES)
        for tag in draw(st.lists(st.integers(0, len(lanes) - 1), max_size=8, unique=True)):
            quality = draw(st.sampled_from([0, 0, 0x40000000, 0x80310000]))
            rows.append((7 * tag + 1, lanes[tag], ts, draw(VALUES[lanes[tag]]), quality, draw(REVISIONS)))
    return rows


def batches(rows: list[tuple[int, Lane, int, Any, int, int]], cut: int) -> tuple[Batch, ...]:
    made = []
    for part in (rows[:cut], rows[cut:]):
        for lane in Lane:
            if chosen := [row for row in part if row[1] is lane]:
                tags, _, times, values, qualities, revisions = zip(*chosen, strict=True)
                made.append(Batch.of(lane, tags, times, values, qualities, revisions))
    return tuple(made)


def same(one: Any, other: Any) -> bool:
    if isinstance(one, float):
        return struct.pack("d", one) == struct.pack("d", float(other))
    return bool(one == other)


@given(readings(), st.integers(0, 50), st.booleans())
def test_rows_come_back_in_order_with_time_value_quality_and_revision(
    rows: list[tuple[int, Lane, int, Any, int, int]], cut: int, historical: bool
) -> None:
    message = decode(encode(Parcel(7, 9, batches(rows, cut), (), historical), "a/b", 42))
    header = (message.gateway, message.epoch, message.seq, message.historical, message.catalogue)
    assert header == ("a/b", 7, 9, historical, 42)
    found = {}
    for one in series(message):
        assert one.tag not in found, "a tag stands in one table only"
        value = one.value if isinstance(one.value, list) else one.value.tolist()
        found[one.tag] = list(zip(one.ts.tolist(), value, one.quality.tolist(), one.revision.tolist(), strict=True))
    assert found.keys() == {row[0] for row in rows}
    for tag, got in found.items():
        expected = [row[2:] for row in rows if row[0] == tag]
        assert [(row[0], *row[2:]) for row in got] == [(row[0], *row[2:]) for row in expected]
        assert all(same(was[1], came[1]) for was, came in zip(expected, got, strict=True))


def test_tags_of_one_poll_share_a_timeline_and_decimals_are_integers() -> None:
    rows = 60
    ts = START + np.arange(rows) * 10**9
    parts = [Batch.of(Lane.FLOAT, [tag] * rows, ts, np.round(np.linspace(20, 30, rows), 2)) for tag in (3, 5, 9)]
    parts.append(Batch.of(Lane.FLOAT, [11] * rows, ts, np.float32(np.linspace(0, 1, rows)).astype(float)))
    parts.append(Batch.of(Lane.FLOAT, [12] * rows, ts, np.linspace(0, 1, rows)))
    (table,) = decode(encode(Parcel(1, 1, tuple(parts)), "a/b")).tables
    assert (len(table.times), table.time_unit) == (rows, 10**9)
    assert list(table.times[:2]) == [START // 10**9, 1]
    assert not any(table.times[2:])
    assert list(table.forms) == [2, 2, 2, SINGLE, DOUBLE]
    assert [(run.code, run.count) for run in table.quality] == [(0, 5 * rows)]


def test_a_steady_pace_with_jitter_is_kept_as_offsets_from_it() -> None:
    chance = np.random.default_rng(1)
    ts = START + np.arange(60) * 10**9 + chance.integers(0, 100, 60) * 10**6
    batch = Batch.of(Lane.INT, [1] * 60, ts, np.zeros(60, np.int64))
    (table,) = decode(encode(Parcel(1, 1, (batch,)), "a/b")).tables
    assert table.paces
    assert max(map(abs, table.times)) < 110
    (one,) = series(decode(encode(Parcel(1, 1, (batch,)), "a/b")))
    assert one.ts.tolist() == ts.tolist()


@given(events(), st.integers(0, 50))
def test_waveforms_events_and_gaps_travel_whole(event: Any, samples: int) -> None:
    short = Waveform(4, 5, 6400.0, 8.0, np.arange(samples, dtype=np.int16), 3)
    single = Waveform(4, 5, 25600.0, 0.0, np.linspace(0, 1, samples, dtype=np.float32))
    gap = Gap(10, -5, 2**62, "log full")
    message = decode(encode(Parcel(1, 1, (short, single, event), (gap,)), "a/b"))
    first, second = message.waveforms
    assert np.frombuffer(first.int16_samples, "<i2").tolist() == short.samples.tolist()
    assert np.frombuffer(second.float32_samples, "<f4").tolist() == single.samples.tolist()
    assert (first.tag, first.ts, first.rate_hz, first.full_scale, first.quality) == (4, 5, 6400.0, 8.0, 3)
    assert (message.events[0].ts, message.events[0].severity) == (event.ts, event.severity)
    assert (message.gaps[0].rows, message.gaps[0].ts_min, message.gaps[0].reason) == (10, -5, "log full")


def test_a_hundred_thousand_rows_and_an_empty_parcel() -> None:
    rows = 100_000
    batch = Batch.of(Lane.FLOAT, [1] * rows, np.arange(rows), np.arange(rows) / 7)
    (one,) = series(decode(encode(Parcel(1, 2, (batch,)), "a/b")))
    assert one.ts.tolist() == list(range(rows))
    assert one.value.tolist() == [n / 7 for n in range(rows)]  # type: ignore[union-attr]
    assert not list(series(decode(encode(Parcel(1, 3, ()), "a/b"))))


def test_special_floats_keep_their_bits() -> None:
    odd_nan = struct.unpack("d", struct.pack("Q", 0x7FF8_0000_DEAD_BEEF))[0]
    special = [math.nan, odd_nan, math.inf, -math.inf, -0.0, 5e-324, 1.7976931348623157e308, 2.0**53, 0.1 + 0.2]
    for chosen in (special, *([value] for value in special)):
        batch = Batch.of(Lane.FLOAT, [1] * len(chosen), 0, chosen)
        (one,) = series(decode(encode(Parcel(1, 2, (batch,)), "a/b")))
        assert [struct.pack("d", value) for value in one.value] == [struct.pack("d", value) for value in chosen]


@given(st.binary(max_size=100))
def test_anything_else_is_a_bad_message(payload: bytes) -> None:
    with pytest.raises(BadMessage):
        decode(payload)


@given(st.data())
def test_a_cut_message_is_a_bad_message(data: st.DataObject) -> None:
    batch = Batch.of(Lane.INT, [1] * 50, range(50), range(50))
    payload = encode(Parcel(1, 2, (batch,)), "a/b")
    with pytest.raises(BadMessage):
        decode(payload[: data.draw(st.integers(0, len(payload) - 1))])


SMALL = st.lists(st.integers(-3, 3), max_size=4)


@given(
    SMALL, st.integers(0, 4), SMALL, SMALL, st.lists(st.sampled_from([0, 2, 18, 19, 32, 64, 100]), max_size=4), SMALL
)
def test_any_table_is_series_or_a_bad_message(
    tags: list[int], rows: int, times: list[int], paces: list[int], forms: list[int], integers: list[int]
) -> None:
    message = pb.Batch(gateway="a/b", epoch=1, seq=1, texts=["a"])
    table = message.tables.add(tags=tags, rows=rows, times=times, forms=forms, integers=integers, time_unit=10**9)
    table.paces.extend(paces)
    table.starts.extend(paces)
    table.quality.add(code=0, count=len(tags) * rows)
    try:
        found = list(series(decode(compress(message.SerializeToString()))))
    except BadMessage:
        return
    assert sum(len(one.ts) for one in found) == len(tags) * rows


def test_the_generated_code_is_that_of_the_contract() -> None:
    assert generate.stale() == []
    assert (Path(generate.ROOT) / "contract" / "v1" / "batch.proto").exists()


def test_the_catalogue_tells_what_a_derived_tag_is_made_of() -> None:
    tags = [Tag(1, "pump-3", "temperature", ValueKind.FLOAT64, "degC"), Tag(2, "pump-3", "mean", ValueKind.FLOAT64)]
    equipment = Equipment("modbus", inputs={"mean": ("pump-3.temperature",)})
    told = decode_catalogue(encode_catalogue("chongqing/plant-1", "pump-3", tags, equipment, 1))
    assert [list(tag.inputs) for tag in told.tags] == [[], ["pump-3.temperature"]]


def test_the_catalogue_has_the_same_hash_until_something_of_the_device_changes() -> None:
    def told(unit: str, revision: int) -> pb.Catalogue:
        tags = [Tag(1, "pump-3", "temperature", ValueKind.FLOAT64, unit)]
        return decode_catalogue(encode_catalogue("chongqing/plant-1", "pump-3", tags, Equipment("modbus"), revision))

    first, later = told("degC", 1), told("degC", 7)
    assert (first.revision, later.revision, len(first.hash)) == (1, 7, 32)
    assert first.hash == later.hash != told("K", 7).hash
    digest = later.hash
    later.ClearField("revision")
    later.ClearField("hash")
    assert hashlib.sha256(later.SerializeToString(deterministic=True)).digest() == digest
