"""Parcels as JSON messages. What a JSON number cannot hold exactly is a string: integers beyond 2⁵³, NaN, ∞."""

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from edge.core.batch import Batch, Event, Waveform
from edge.core.catalogue import Catalogue, Tag, ValueKind
from edge.core.clock import iso8601
from edge.core.delivery import Gap, Parcel
from edge.core.quality import KEEPS_VALUE, is_bad, is_good
from uplink.plain.section import JsonSection

INTEGER_MAX = 2**53 - 1
LIST_BYTES_MAX = 128_000

_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)


class Message(NamedTuple):
    """What is to be published with QoS 1. `retain`: the broker keeps it."""

    topic: str
    payload: bytes
    retain: bool = False


@dataclass(slots=True)
class _Names:
    """Where a tag's readings go, and what their fields are called."""

    tag: Tag
    topic: str
    fields: dict[str, str]
    fixed: dict[str, str]


class Renderer:
    """Makes messages and sends none. `left_out_total` counts records that the configuration leaves out."""

    def __init__(self, section: JsonSection, site: str, catalogue: Catalogue) -> None:
        self._section = section
        self._catalogue = catalogue
        self._names = section.names()
        tenant, _, gateway = site.partition("/")
        self._site = site
        self._places = {"site": site, "tenant": tenant, "gateway": gateway}
        self._known: dict[int, _Names] = {}
        self._last_ts, self._last_text = 0, iso8601(0)
        self.left_out_total = 0

    def topic(self, template: str, **places: str) -> str:
        """Return a topic of a template."""
        return template.format(**self._places, **places)

    def messages(self, parcel: Parcel, bytes_max: int = LIST_BYTES_MAX) -> list[Message]:
        """Return what tells a parcel, each tag's readings in their order. A list of objects has at most `bytes_max`."""
        batches = [record for record in parcel.records if isinstance(record, Batch)]
        objects = self._long(batches) if self._section.shape == "long" else self._wide(batches)
        mark: dict[str, Any] = {}
        if parcel.historical and (name := self._names.get("historical")):
            mark = {name: True}
        rendered = ((topic, _json(fields | mark)) for topic, fields in objects)
        retain = self._section.retain and not parcel.historical
        messages = self._grouped(rendered, retain, min(bytes_max, LIST_BYTES_MAX))
        historical = {"historical": True} if parcel.historical else {}
        for record in parcel.records:
            if isinstance(record, Waveform):
                self._add(messages, self._section.waveform_topic, self._waveform(record) | historical)
            elif isinstance(record, Event):
                self._add(messages, self._section.event_topic, self._event(record) | historical, device=record.source)
        for gap in parcel.gaps:
            self._add(messages, self._section.gap_topic, self._gap(gap))
        return messages

    def _add(self, messages: list[Message], template: str | None, fields: dict[str, Any], **places: str) -> None:
        if template is None:
            self.left_out_total += 1
            return
        places = places or {key: str(fields.get(key, "")) for key in ("device", "tag")}
        messages.append(Message(self.topic(template, **places), _json(fields)))

    def _grouped(self, rendered: Iterable[tuple[str, bytes]], retain: bool, bytes_max: int) -> list[Message]:
        if not self._section.together:
            return [Message(topic, payload, retain) for topic, payload in rendered]
        lists: dict[str, list[list[bytes]]] = {}
        sizes: dict[str, int] = {}
        for topic, payload in rendered:
            size = sizes.get(topic, bytes_max) + len(payload) + 1
            if size > bytes_max:
                lists.setdefault(topic, []).append([])
                size = len(payload) + 2
            lists[topic][-1].append(payload)
            sizes[topic] = size
        return [Message(topic, b"[" + b",".join(each) + b"]", retain) for topic, some in lists.items() for each in some]

    def _long(self, batches: Iterable[Batch]) -> Iterator[tuple[str, dict[str, Any]]]:
        for names, ts, value, quality, revision in self._rows(batches):
            fields, tag = names.fields, names.tag
            told: dict[str, Any] = dict(names.fixed)
            if "ts" in fields:
                told[fields["ts"]] = self._time(ts)
            told[fields["value"]] = _value(tag, value, quality)
            if quality in KEEPS_VALUE:
                told["raw"] = _value(tag, value, 0)
            if "quality" in fields:
                told[fields["quality"]] = self._quality(quality)
            if revision:
                told["revision"] = revision
            yield names.topic, told

    def _wide(self, batches: Iterable[Batch]) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield an object a device and time; a tag that comes twice at one time begins another."""
        objects: dict[tuple[str, int, int], tuple[str, dict[str, Any]]] = {}
        count: dict[tuple[int, int], int] = {}
        for names, ts, value, quality, revision in self._rows(batches):
            fields, tag = names.fields, names.tag
            again = count[tag.id, ts] = count.get((tag.id, ts), -1) + 1
            key = (tag.device, ts, again)
            if key not in objects:
                told: dict[str, Any] = dict(names.fixed)
                if "ts" in fields:
                    told[fields["ts"]] = self._time(ts)
                objects[key] = (names.topic, told)
            told = objects[key][1]
            told[fields["value"]] = _value(tag, value, quality)
            if quality in KEEPS_VALUE:
                told[f"{fields['value']}_raw"] = _value(tag, value, 0)
            if "unit" in fields and tag.unit:
                told[fields["unit"]] = tag.unit
            if "quality" in fields and quality and not (self._section.quality == "word" and is_good(quality)):
                told[fields["quality"]] = self._quality(quality)
            if revision:
                told[f"{fields['value']}_revision"] = revision
        yield from objects.values()

    def _rows(self, batches: Iterable[Batch]) -> Iterator[tuple[_Names, int, Any, int, int]]:
        for batch in batches:
            columns = batch.tag, batch.ts, batch.value, batch.quality, batch.revisions()
            for tag, ts, value, quality, revision in zip(*(column.tolist() for column in columns), strict=True):
                yield self._of(tag), ts, value, quality, revision

    def _of(self, tag_id: int) -> _Names:
        if tag_id not in self._known:
            tag = self._catalogue[tag_id]
            fields = {key: name.format(device=tag.device, tag=tag.name) for key, name in self._names.items()}
            facts = {"gateway": self._site, "device": tag.device}
            if self._section.shape == "long":
                facts |= {"tag": tag.name} | ({"unit": tag.unit} if tag.unit else {})
            fixed = {fields[key]: fact for key, fact in facts.items() if key in fields}
            topic = self.topic(self._section.topic, device=tag.device, tag=tag.name)
            self._known[tag_id] = _Names(tag, topic, fields, fixed)
        return self._known[tag_id]

    def _time(self, ts: int) -> str | int:
        match self._section.time:
            case "ms":
                return ts // 1_000_000
            case "us":
                return ts // 1_000
        if ts != self._last_ts:  # readings of one poll share their time
            self._last_ts, self._last_text = ts, iso8601(ts)
        return self._last_text

    def _quality(self, code: int) -> str:
        if self._section.quality == "hex":
            return f"0x{code:08X}"
        return "good" if is_good(code) else "bad" if is_bad(code) else "uncertain"

    def _waveform(self, wave: Waveform) -> dict[str, Any]:
        """Return a block; a sample's value is `samples[k] × scale`."""
        tag = self._catalogue[wave.tag]
        raw = wave.samples.dtype == np.int16
        # A float32's own shortest digits, not those of the float64 beside it.
        samples = wave.samples.tolist() if raw else wave.samples.astype(str).astype(np.float64).tolist()
        return {
            "gateway": self._site,
            "device": tag.device,
            "tag": tag.name,
            "ts": self._time(wave.ts),
            "rate_hz": _number(wave.rate_hz),
            "unit": tag.unit,
            "quality": self._quality(wave.quality),
            "scale": _number(wave.full_scale / 32768) if raw else 1.0,
            "samples": samples if raw else [_number(sample) for sample in samples],
        }

    def _event(self, event: Event) -> dict[str, Any]:
        return {
            "gateway": self._site,
            "ts": self._time(event.ts),
            "source": event.source,
            "kind": event.kind,
            "severity": int(event.severity),
            "text": event.message,
            "facts": _exact(event.facts),
        }

    def _gap(self, gap: Gap) -> dict[str, Any]:
        named = {self._catalogue[tag].path if tag in self._catalogue else str(tag): rows for tag, rows in gap.tags}
        return {
            "gateway": self._site,
            "rows": gap.rows,
            "from": self._time(gap.ts_min),
            "to": self._time(gap.ts_max),
            "reason": gap.reason,
            "class": gap.data_class,
            "tags": named,
        }


def _value(tag: Tag, value: Any, quality: int) -> Any:
    if is_bad(quality):
        return None
    if tag.kind is ValueKind.TEXT:
        return value
    return _number(tag.present(value))


def _number(value: Any) -> Any:
    """Return what stands for a number in JSON without loss, whoever reads it."""
    if isinstance(value, float):
        if math.isfinite(value):
            return value
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, int) and abs(value) > INTEGER_MAX:
        return str(value)
    return value


def _exact(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _number(value) for key, value in facts.items()}


def _json(fields: Mapping[str, Any]) -> bytes:
    """Return JSON in UTF-8; a device may have sent half a surrogate pair."""
    return _ENCODER.encode(fields).encode("utf-8", "replace")
