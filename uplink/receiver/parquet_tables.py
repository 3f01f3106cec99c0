"""The tables of the Parquet files: readings, waveforms, events, gaps, ledger lines; each by gateway and day."""

import json
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from edge.core.ledger import COUNTS
from uplink import batch_pb2 as pb
from uplink.receiver.books import DISCREPANCY
from uplink.receiver.columns import Column, Readings, joined

DAY_NS = 86_400 * 10**9

_TEXT = pa.dictionary(pa.int32(), pa.string())
_COMMON = [("epoch", pa.int64()), ("seq", pa.int64()), ("historical", pa.bool_())]
_TIME = pa.timestamp("ns", "UTC")
_WAY = ("sent", "committed", "late", "withheld")
_SCHEMAS = {
    "reading": pa.schema(
        [
            *(("device", _TEXT), ("tag", _TEXT), ("ts", _TIME), ("value", pa.float64()), ("integer", pa.int64())),
            *(("unsigned", pa.uint64()), ("text", pa.string()), ("unit", _TEXT), ("quality", pa.uint32()), *_COMMON),
            ("revision", pa.uint32()),
        ]
    ),
    "waveform": pa.schema(
        [
            *(("device", _TEXT), ("tag", _TEXT), ("ts", _TIME), ("rate_hz", pa.float64())),
            *(("full_scale", pa.float64()), ("unit", _TEXT), ("quality", pa.uint32())),
            *(("int16_samples", pa.list_(pa.int16())), ("float32_samples", pa.list_(pa.float32())), *_COMMON),
        ]
    ),
    "event": pa.schema(
        [
            *(("ts", _TIME), ("source", pa.string()), ("kind", pa.string()), ("severity", pa.int32())),
            *(("text", pa.string()), ("facts", pa.string()), *_COMMON),
        ]
    ),
    "gap": pa.schema(
        [
            *(
                ("rows", pa.int64()),
                ("ts", _TIME),
                ("until", _TIME),
                ("reason", pa.string()),
                ("data_class", pa.string()),
            ),
            *(("tags", pa.list_(pa.int64())), ("tag_rows", pa.list_(pa.int64())), *_COMMON),
        ]
    ),
    # Each line of a ledger as often as it was told anew; of one (uplink, ts, device) the highest revision holds.
    "ledger": pa.schema(
        [
            *(("ts", _TIME), ("device", pa.string()), ("uplink", pa.string()), ("revision", pa.int64())),
            *((name, pa.int64()) for name in (*COUNTS, "before_ms", *_WAY, "dropped", "arrived")),
            *(("verified", pa.bool_()), ("discrepancies", pa.list_(pa.string()))),
            *(("line", pa.string()), ("signature", pa.string())),
        ]
    ),
}


Compared: TypeAlias = tuple[int, int, dict[str, Any], dict[str, Any]]
"""A line of a ledger: its hour and when it was told, both in nanoseconds, what was found, and of which message."""


def readings_of(messages: Sequence[tuple[pb.Batch, Readings]], tags: Sequence[tuple[int, str, str, str]]) -> pa.Table:
    """Return all readings as one table, by tag and time."""
    parts = []
    keys = np.array([key for key, *_ in tags], np.int64)
    for values in ("floats", "integers", "texts"):
        places, column = joined([(place, getattr(readings, values)) for place, (_, readings) in enumerate(messages)])
        if not len(column):
            continue
        tag = np.searchsorted(keys, column.key).astype(np.int32)
        named = {
            name: pa.DictionaryArray.from_arrays(tag, pa.array([facts[at] for facts in tags]))
            for at, name in ((1, "device"), (2, "tag"), (3, "unit"))
        }
        common = {
            "epoch": np.array([message.epoch for message, _ in messages], np.int64)[places],
            "seq": np.array([message.seq for message, _ in messages], np.int64)[places],
            "historical": np.array([message.historical for message, _ in messages], np.bool_)[places],
        }
        facts = {"ts": pa.array(column.ts, _TIME), "quality": column.quality, **named, **common, **_values(column)}
        facts["revision"] = column.revision
        schema = _SCHEMAS["reading"]
        table = pa.table(
            {name: facts.get(name, pa.nulls(len(column), schema.field(name).type)) for name in schema.names}
        )
        parts.append(table.cast(schema).take(np.lexsort((column.revision, column.ts, column.key))))
    return pa.concat_tables(parts).unify_dictionaries() if parts else _SCHEMAS["reading"].empty_table()


def _values(column: Column) -> dict[str, Any]:
    """Return the value columns: `value` is every number, `integer` and `unsigned` the exact ones."""
    if isinstance(column.value, list):
        return {"text": pa.array(column.value, pa.string())}
    if column.value.dtype == np.float64:
        return {"value": pa.array(column.value)}
    unsigned = column.kind == pb.UINT64
    bits = column.value.view(np.uint64)
    return {
        "value": np.where(unsigned, bits.astype(np.float64), column.value.astype(np.float64)),
        "integer": pa.array(column.value, mask=unsigned),
        "unsigned": pa.array(bits, mask=~unsigned),
    }


def waveform_tags(messages: Sequence[tuple[pb.Batch, Readings]]) -> set[int]:
    """Return the ids of the tags that have waveforms."""
    return {wave.tag for message, _ in messages for wave in message.waveforms}


def singles(
    messages: Sequence[tuple[pb.Batch, Readings]],
    keys: dict[int, int | None],
    tags: Sequence[tuple[int, str, str, str]],
    lines: Sequence[Compared],
) -> Iterator[tuple[str, pa.Table]]:
    """Yield the tables of waveforms, events, gaps and lines of the ledger."""
    named = {key: {"device": device, "tag": name, "unit": unit} for key, device, name, unit in tags}
    rows: dict[str, list[dict[str, Any]]] = {"waveform": [], "event": [], "gap": [], "ledger": []}
    for message, _ in messages:
        common = {"epoch": message.epoch, "seq": message.seq, "historical": message.historical}
        facts: dict[str, Any]
        for wave in message.waveforms:
            facts = {"ts": wave.ts, "rate_hz": wave.rate_hz, "full_scale": wave.full_scale, "quality": wave.quality}
            samples = {
                "int16_samples": np.frombuffer(wave.int16_samples, "<i2") if wave.int16_samples else None,
                "float32_samples": np.frombuffer(wave.float32_samples, "<f4") if wave.float32_samples else None,
            }
            rows["waveform"].append(common | facts | samples | named[keys[wave.tag] or 0])
        for e in message.events:
            facts = {"ts": e.ts, "source": e.source, "kind": e.kind, "severity": e.severity}
            rows["event"].append(common | facts | {"text": e.message, "facts": e.facts_json})
        for gap in message.gaps:
            facts = {"ts": gap.ts_min, "until": gap.ts_max, "rows": gap.rows, "reason": gap.reason}
            of = {"data_class": gap.data_class, "tags": list(gap.tags), "tag_rows": list(gap.tag_rows)}
            rows["gap"].append(common | facts | of)
    for hour_ts, told_ts, compared, common in lines:
        line = json.loads(compared["text"])
        way = line["uplinks"].get(compared["uplink"], {})
        counts = {name: line[name] for name in ("device", "revision", *COUNTS)} | {name: way.get(name) for name in _WAY}
        facts = {"ts": hour_ts, "uplink": compared["uplink"], "dropped": sum(way.get("dropped", {}).values())}
        facts["before_ms"] = line.get("before_ms", 0)
        kept = {name: compared[name] for name in ("arrived", "verified", "signature")}
        wrong = {"line": compared["text"], "discrepancies": compared["wrong"]}
        rows["ledger"].append(counts | facts | kept | wrong)
        if compared["wrong"]:
            severity, text, of = compared["event"]
            event = {"ts": told_ts, "source": line["device"], "kind": DISCREPANCY, "severity": severity}
            rows["event"].append(common | event | {"text": text, "facts": of})
    for kind, found in rows.items():
        yield kind, pa.Table.from_pylist(found, _SCHEMAS[kind])


def by_day(table: pa.Table) -> Iterator[tuple[str, pa.Table]]:
    """Yield the days, UTC, that occur in a table with their rows."""
    days = table["ts"].cast(pa.int64()).to_numpy() // DAY_NS
    for day in np.flatnonzero(np.bincount(days - days.min())) + days.min() if len(days) else ():
        # A clock that was wrong by centuries is data, too.
        name = f"{np.datetime64(int(day), 'D')}"
        yield name, table.filter(pa.array(days == day))
