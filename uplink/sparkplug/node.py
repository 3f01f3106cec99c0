"""The edge node as its hosts see it: births, deaths, numbers, aliases. It makes messages and sends none."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from edge.core.batch import Batch, Event, Waveform
from edge.core.catalogue import Catalogue, Tag, ValueKind
from edge.core.delivery import Parcel
from edge.core.quality import StatusCode
from uplink.sparkplug.payload import (
    BDSEQ,
    BOOLEAN,
    DATATYPES,
    INT64,
    QUALITY_GOOD,
    REBIRTH,
    STRING,
    Reading,
    set_quality,
    set_reading,
)
from uplink.sparkplug.sparkplug_b_pb2 import Payload

NAMESPACE = "spBv1.0"
METRICS_MAX = 1000
SEQ_LIMIT = 256

# The node's own metrics lie above every tag id.
LOST_ALIAS = 1 << 32
EVENT_ALIAS = LOST_ALIAS + 1
LOST_NAME = "Gateway/Rows Lost"
EVENT_NAME = "Gateway/Event"

UNKNOWN = Reading(0, None, StatusCode.BAD_WAITING_FOR_INITIAL_DATA)
"""What a birth says of a tag that was not read yet."""

GATEWAY = "gateway"
_RETURNED = ("device_connected", "device_returned")


class Message(NamedTuple):
    """What is to be published, with QoS 0 and not retained."""

    topic: str
    payload: bytes


class _Step(NamedTuple):
    """One thing that happened to a device, in the order of time: a reading of a tag, or an event."""

    ts: int
    tag: Tag | None
    reading: Reading | None
    event: Event | None
    backlog: bool


@dataclass(slots=True)
class _Device:
    """`told`: the tags of its last birth. `is_lost` and since when, ns."""

    told: set[int] = field(default_factory=set)
    is_born: bool = False
    is_lost: bool = False
    lost_at: int = 0


class Node:
    """State of one edge node over all its sessions. All times in ns since 1970 UTC."""

    def __init__(
        self,
        group: str,
        node: str,
        catalogue: Catalogue,
        selects: Callable[[Tag], bool],
        *,
        historical_after_ns: int,
        datatype_in_data: bool = False,
        unchanged: bool = False,
    ) -> None:
        self._group, self._node = group, node
        self._catalogue = catalogue
        self._selects = selects
        self._historical_after_ns = historical_after_ns
        self._datatype_in_data = datatype_in_data
        self._unchanged = unchanged
        self._bdseq = -1
        self._seq = 0
        self._devices: dict[str, _Device] = {}
        self._last: dict[int, Reading] = {}
        self._event = UNKNOWN
        self._lost_rows = 0
        self.unchanged_total = 0
        self.waveforms_total = 0

    def topic(self, kind: str, device: str = "") -> str:
        """Return the topic of a kind of message, e.g. "NDATA"."""
        return f"{NAMESPACE}/{self._group}/{kind}/{self._node}" + (f"/{device}" if device else "")

    def connecting(self, now: int) -> Message:
        """Begin a session: return its NDEATH, for the will. bdSeq counts connections, 0 to 255."""
        self._bdseq = (self._bdseq + 1) % SEQ_LIMIT
        for device in self._devices.values():
            device.is_born = False
        return self.death(now)

    def death(self, now: int) -> Message:
        """Return the NDEATH of this session."""
        payload = Payload(timestamp=now // 1_000_000)
        payload.metrics.add(name=BDSEQ, timestamp=now // 1_000_000, datatype=INT64, long_value=self._bdseq)
        return Message(self.topic("NDEATH"), payload.SerializeToString())

    def births(self, now: int, devices: Iterable[str]) -> Iterator[Message]:
        """Yield NBIRTH, then a DBIRTH of each device that is not lost."""
        self._seq = -1
        ms = now // 1_000_000
        payload = self._payload(now)
        payload.metrics.add(name=BDSEQ, timestamp=ms, datatype=INT64, long_value=self._bdseq)
        payload.metrics.add(name=REBIRTH, timestamp=ms, datatype=BOOLEAN, boolean_value=False)
        lost = payload.metrics.add(name=LOST_NAME, alias=LOST_ALIAS, timestamp=ms, datatype=INT64)
        lost.long_value = self._lost_rows
        self._set_event(payload.metrics.add(name=EVENT_NAME, datatype=STRING), self._event, ms)
        yield Message(self.topic("NBIRTH"), payload.SerializeToString())
        for name in devices:
            self._devices.setdefault(name, _Device())
        for name, device in self._devices.items():
            device.is_born = False
            if not device.is_lost:
                yield self._birth(name, now)

    def renewed(self, now: int, devices: Iterable[str]) -> Iterator[Message]:
        """Yield a DBIRTH of every device that has new tags, or is new."""
        for name in devices:
            device = self._devices.setdefault(name, _Device())
            if not device.is_lost and {tag.id for tag in self._tags(name)} - device.told:
                yield self._birth(name, now)

    def _payload(self, now: int) -> Payload:
        self._seq = (self._seq + 1) % SEQ_LIMIT
        return Payload(timestamp=now // 1_000_000, seq=self._seq)

    def _tags(self, device: str) -> list[Tag]:
        known = (tag for tag in self._catalogue if tag.device == device and tag.kind is not ValueKind.WAVEFORM)
        extra = self._devices[device].told if device in self._devices else set()
        return [tag for tag in known if self._selects(tag) and (self._is_current(tag) or tag.id in extra)]

    def _is_current(self, tag: Tag) -> bool:
        return self._catalogue.find(tag.device, tag.name) is tag

    def _metric_name(self, tag: Tag) -> str:
        """Return the tag's name; of one that was replaced by another kind or unit, with its id."""
        return tag.name if self._is_current(tag) else f"{tag.name}@{tag.id}"

    def _birth(self, name: str, now: int, stale: bool = False) -> Message:
        """Return a DBIRTH with all tags and what is known of them; `stale`: it is born for its history alone."""
        device = self._devices[name]
        tags = self._tags(name)
        unknown = Reading(now, None, StatusCode.BAD_WAITING_FOR_INITIAL_DATA)
        readings = [(self._last.get(tag.id, unknown), tag) for tag in tags]
        if stale:
            readings = [(Reading(now, None, StatusCode.BAD_NO_COMMUNICATION), tag) for tag in tags]
        payload = self._payload(now)
        for reading, tag in sorted(readings, key=lambda each: each[0].ts):
            metric = payload.metrics.add(name=self._metric_name(tag), datatype=DATATYPES[tag.kind])
            set_reading(metric, tag, reading)
            set_quality(metric, reading.sparkplug_quality)
            if tag.unit:
                metric.properties.keys.append("engUnit")
                metric.properties.values.add(type=STRING, string_value=tag.unit)
        device.told = {tag.id for tag in tags}
        device.is_born = True
        return Message(self.topic("DBIRTH", name), payload.SerializeToString())

    def _death(self, name: str, now: int) -> Message:
        self._devices[name].is_born = False
        return Message(self.topic("DDEATH", name), self._payload(now).SerializeToString())

    def take(self, parcels: Sequence[Parcel], now: int) -> Iterator[Message]:
        """Yield the messages that tell what is in parcels: each device's readings and states in order of time."""
        by_device: dict[str, list[_Step]] = {}
        lost_rows = 0
        for parcel in parcels:
            for record in parcel.records:
                match record:
                    case Batch():
                        self._sort_in(record, parcel.historical, by_device)
                    case Event():
                        step = _Step(record.ts, None, None, record, parcel.historical)
                        by_device.setdefault(record.source, []).append(step)
                    case Waveform():
                        self.waveforms_total += 1
            lost_rows += sum(gap.rows for gap in parcel.gaps)
        events = [step.event for steps in by_device.values() for step in steps if step.event is not None]
        if events or lost_rows:
            yield self._node_data(sorted(events, key=lambda event: event.ts), lost_rows, now)
        for name, steps in by_device.items():
            if name != GATEWAY:
                # Stable: what was read at the moment of a loss comes before the loss.
                yield from self._device(name, sorted(steps, key=lambda step: (step.ts, step.event is not None)), now)

    def _sort_in(self, batch: Batch, historical: bool, by_device: dict[str, list[_Step]]) -> None:
        rows = zip(batch.tag.tolist(), batch.ts.tolist(), batch.value.tolist(), batch.quality.tolist(), strict=True)
        for tag_id, ts, value, quality in rows:
            tag = self._catalogue[tag_id]
            step = _Step(ts, tag, Reading(ts, value, quality), None, historical)
            by_device.setdefault(tag.device, []).append(step)

    def _node_data(self, events: Sequence[Event], lost_rows: int, now: int) -> Message:
        payload = self._payload(now)
        for event in events:
            text = json.dumps(
                {
                    "ts": event.ts // 1_000_000,
                    "source": event.source,
                    "kind": event.kind,
                    "severity": int(event.severity),
                    "message": event.message,
                    "facts": dict(event.facts),
                },
                ensure_ascii=False,
            )
            reading = Reading(event.ts, text, StatusCode.GOOD)
            metric = payload.metrics.add()
            if event.ts < self._event.ts or now - event.ts > self._historical_after_ns:
                metric.is_historical = True
            if event.ts >= self._event.ts:
                self._event = reading
            self._set_event(metric, reading, event.ts // 1_000_000)
            if self._datatype_in_data:
                metric.datatype = STRING
        if lost_rows:
            self._lost_rows += lost_rows
            metric = payload.metrics.add(alias=LOST_ALIAS, timestamp=now // 1_000_000, long_value=self._lost_rows)
            if self._datatype_in_data:
                metric.datatype = INT64
        return Message(self.topic("NDATA"), payload.SerializeToString())

    @staticmethod
    def _set_event(metric: Payload.Metric, event: Reading, ms: int) -> None:
        metric.alias = EVENT_ALIAS
        metric.timestamp = ms
        if event.is_null:
            metric.is_null = True
        else:
            metric.string_value = event.value

    def _device(self, name: str, steps: Sequence[_Step], now: int) -> Iterator[Message]:
        device = self._devices.setdefault(name, _Device())
        waiting: list[_Step] = []
        for step in steps:
            if step.event is None:
                waiting.append(step)
            elif step.event.kind == "device_lost":
                yield from self._data(name, waiting, now)
                waiting = []
                if step.ts >= device.lost_at:
                    device.is_lost, device.lost_at = True, step.ts
                    if device.is_born:
                        yield self._death(name, now)
            elif step.event.kind in _RETURNED and step.ts >= device.lost_at:
                yield from self._data(name, waiting, now)
                waiting = []
                device.is_lost = False
                if not device.is_born:
                    yield self._birth(name, now)
        yield from self._data(name, waiting, now)

    def _data(self, name: str, steps: Sequence[_Step], now: int) -> Iterator[Message]:
        """Yield readings as DDATA. A device that is lost is born for its history, and dead again."""
        device = self._devices[name]
        kept = [step for step in steps if self._is_news(device, step)]
        if not kept:
            return
        if device.is_lost and any(step.ts > device.lost_at and not _is_null(step) for step in kept):
            device.is_lost = False
        unborn = {step.tag.id for step in kept if step.tag is not None} - device.told
        device.told |= unborn
        if not device.is_born or unborn:
            yield self._birth(name, now, stale=device.is_lost)
        for start in range(0, len(kept), METRICS_MAX):
            yield self._data_message(name, kept[start : start + METRICS_MAX], now)
        if device.is_lost:
            yield self._death(name, now)

    def _is_news(self, device: _Device, step: _Step) -> bool:
        assert step.tag is not None
        assert step.reading is not None
        last = self._last.get(step.tag.id, UNKNOWN)
        if step.ts >= last.ts and last.equals(step.reading) and not self._unchanged:
            self._last[step.tag.id] = step.reading
            self.unchanged_total += 1
            return False
        if device.is_lost and step.ts >= device.lost_at and step.reading.is_null:
            self._last[step.tag.id] = step.reading  # its death has told it
            return False
        return True

    def _data_message(self, name: str, steps: Sequence[_Step], now: int) -> Message:
        payload = self._payload(now)
        for step in steps:
            tag, reading = step.tag, step.reading
            assert tag is not None
            assert reading is not None
            last = self._last.get(tag.id, UNKNOWN)
            metric = payload.metrics.add()
            set_reading(metric, tag, reading)
            if self._datatype_in_data:
                metric.datatype = DATATYPES[tag.kind]
            quality = reading.sparkplug_quality
            if quality != QUALITY_GOOD or last.sparkplug_quality != quality:
                set_quality(metric, quality)
            is_late = step.ts < last.ts
            if step.backlog or is_late or now - step.ts > self._historical_after_ns:
                metric.is_historical = True
            if not is_late:
                self._last[tag.id] = reading
        return Message(self.topic("DDATA", name), payload.SerializeToString())


def _is_null(step: _Step) -> bool:
    return step.reading is None or step.reading.is_null


def devices_of(catalogue: Catalogue, configured: Mapping[str, object], selects: Callable[[Tag], bool]) -> list[str]:
    """Return the devices to give birth to: the configured ones that have tags; all when none is configured."""
    known = dict.fromkeys(tag.device for tag in catalogue if tag.kind is not ValueKind.WAVEFORM and selects(tag))
    return [name for name in known if not configured or name in configured]
