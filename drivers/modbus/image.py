"""Decoding of a poll: the bytes of all answers in one buffer, every value taken from it by its absolute address."""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from drivers.modbus.client import reason_of, status_of
from drivers.modbus.known import Known
from drivers.modbus.plan import Request, Span, plan_requests, span_of
from drivers.modbus.section import Limits, ModbusTag, Table, parse_address
from drivers.modbus.types import Order, byte_places, text_places
from edge.core.batch import Batch, Lane, Waveform
from edge.core.catalogue import ValueKind
from edge.core.quality import StatusCode, is_bad


def kind_of(tag: ModbusTag) -> ValueKind:
    """Return what a tag's values are."""
    return ValueKind(tag.value_kind())


def element_names(name: str, tag: ModbusTag) -> list[str]:
    """Return the names under which a tag's values are catalogued: `load`, or `load[0]`, `load[1]` … for an array."""
    value_type = tag.value_type
    if not value_type.array or tag.rate is not None:
        return [name]
    return [f"{name}[{place}]" for place in range(value_type.count)]


@dataclass(slots=True)
class _Numbers:
    """Values that one numpy expression decodes: places int64[n, width] in the buffer, rows int64[n] in their lane."""

    dtype: str
    lane: Lane
    places: list[list[int]] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    scale: list[float] = field(default_factory=list)
    offset: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Long:
    """What several requests carry and must be of one moment: a waveform, or a value wider than a request may be.

    homes     numbers of the requests, in order
    witness   what is read again afterwards: it shows whether the device changed its registers meanwhile
    guard     `witness` is a register of its own, to be read before as well
    """

    homes: tuple[int, ...]
    witness: tuple[Request, ...]
    guard: bool


class _Finder:
    """Finds the requests that carry a span: one, or for a long array several in a row; or its place in the refused."""

    def __init__(self, requests: Sequence[Request], refused: Sequence[Span]) -> None:
        self._requests = requests
        self._refused = {span: len(requests) + place for place, span in enumerate(refused)}
        self._begins: dict[Table, tuple[list[int], list[int]]] = {}
        for number, request in enumerate(requests):
            self._begins.setdefault(request.table, ([], []))[1].append(number)
        for begins, numbers in self._begins.values():
            numbers.sort(key=lambda number: requests[number].address)
            begins += [requests[number].address for number in numbers]

    def homes(self, span: Span) -> list[int]:
        """Return the numbers of the parts, in order."""
        if span in self._refused:
            return [self._refused[span]]
        begins, numbers = self._begins[span.table]
        place = bisect_right(begins, span.address)
        while place:  # requests overlap where long arrays and single values do: look back for those that hold it whole
            place -= 1
            homes = [numbers[place]]
            reached = begins[place] + self._requests[homes[0]].count
            while span.address < reached < span.end and homes[-1] + 1 < len(self._requests):
                follower = self._requests[homes[-1] + 1]
                if (follower.table, follower.address) != (span.table, reached):
                    break
                homes.append(homes[-1] + 1)
                reached += follower.count
            if reached >= span.end:
                return homes
        raise AssertionError(f"the plan does not cover {span}")


class Image:
    """The read plan of one group of tags with its decoding worked out in advance.

    `requests` are to be read in order; `buffer` takes answer k at `starts[k]`; `decode` then gives the records.
    A failed request spoils exactly the values that lie in it, wherever they stand in the configuration. What the
    device is known to refuse is not asked for and comes with the reason.
    """

    def __init__(
        self,
        tags: Mapping[str, ModbusTag],
        ids: Mapping[str, int],
        order: Order,
        limits: Limits,
        known: Known | None = None,
    ) -> None:
        known = known or Known(limits)
        spans = list(dict.fromkeys(span_of(tag) for tag in tags.values()))
        refused = [(span, why) for span in spans if (why := known.refusal(span)) is not None]
        left_out = {span for span, _ in refused}
        asked = [span for span in spans if span not in left_out]
        self.spans = spans
        self.requests: list[Request] = plan_requests(asked, known.limits_now, known.barriers_now)
        self.refused: dict[Span, int] = {span: why.code for span, why in refused}
        self._refused_status = [status_of(why.code) for _, why in refused]
        self._parts = [*self.requests, *(Request(span.table, span.address, span.count) for span, _ in refused)]
        sizes = [request.payload_bytes for request in self._parts]
        self.starts: list[int] = np.cumsum([0, *sizes]).tolist()[:-1]
        self.buffer = np.zeros(sum(sizes), np.uint8)
        self._tags: dict[Lane, list[int]] = {lane: [] for lane in Lane}
        self._homes: dict[Lane, list[list[int]]] = {lane: [] for lane in Lane}
        self._numbers: dict[tuple[str, Lane], _Numbers] = {}
        self._bits: list[tuple[int, int, int]] = []
        self._texts: list[tuple[int, list[int], str]] = []
        self._waveforms: list[tuple[int, ModbusTag, list[int], npt.NDArray[np.int64]]] = []
        self._origins: dict[str, tuple[ModbusTag, int]] = {}
        self._finder = _Finder(self.requests, list(self.refused))
        for name, tag in tags.items():
            self._origins |= {element: (tag, self._homes_of(tag)[0]) for element in element_names(name, tag)}
            self._place(name, tag, ids, tag.order or order)
        self.longs = [long for tag in tags.values() if (long := self._long_of(tag)) is not None]
        parts = {home for long in self.longs for home in long.homes}
        self.singles = [number for number in range(len(self.requests)) if number not in parts]
        self._compile()

    def _long_of(self, tag: ModbusTag) -> Long | None:
        homes = self._homes_of(tag)
        whole = tag.rate is not None or not tag.value_type.array
        if (len(homes) < 2 and tag.guard is None) or not whole or homes[0] >= len(self.requests):
            return None
        if (guard := parse_address(tag.guard or "")) is not None:
            return Long(tuple(homes), (Request(guard.table, guard.number, 1),), True)
        again = homes[:1] if tag.rate is not None else homes[:-1]
        return Long(tuple(homes), tuple(self.requests[home] for home in again), False)

    def is_refused(self, tag: ModbusTag) -> bool:
        """Tell whether a tag is not asked for because the device refuses it."""
        return span_of(tag) in self.refused

    def holds(self, long: Long, answers: Sequence[bytes]) -> bool:
        """Tell whether the witness of a long value without guard still reads as it did."""
        kept = [
            bytes(self.buffer[self.starts[home] : self.starts[home] + len(answer)])
            for home, answer in zip(long.homes, answers, strict=False)
        ]
        return kept == list(answers)

    def _place(self, name: str, tag: ModbusTag, ids: Mapping[str, int], order: Order) -> None:
        span, value_type = span_of(tag), tag.value_type
        homes = self._homes_of(tag)
        request, start = self._parts[homes[0]], self.starts[homes[0]]
        if request.is_bits:
            for place, element in enumerate(element_names(name, tag)):
                bit = span.address - request.address + place
                row = self._row(Lane.INT, ids[element], homes)
                self._bits.append((row, start + bit // 8, bit % 8))
            return
        base = start + 2 * (span.address - request.address)
        if tag.bit is not None:
            high, low = byte_places(2, order)
            place = low if tag.bit < 8 else high
            self._bits.append((self._row(Lane.INT, ids[name], homes), base + place, tag.bit % 8))
        elif value_type.name == "string":
            places = [base + place for place in text_places(value_type.width, order)]
            self._texts.append((self._row(Lane.TEXT, ids[name], homes), places, tag.encoding))
        else:
            width = value_type.width
            pattern = byte_places(width, order)
            elements = [[base + n * width + place for place in pattern] for n in range(value_type.count)]
            if tag.rate is not None:
                self._waveforms.append((ids[name], tag, homes, np.array(elements, np.int64)))
                return
            lane = kind_of(tag).lane
            numbers = self._numbers.setdefault((value_type.dtype, lane), _Numbers(value_type.dtype, lane))
            for element, places in zip(element_names(name, tag), elements, strict=True):
                numbers.places.append(places)
                numbers.rows.append(self._row(lane, ids[element], homes))
                numbers.scale.append(tag.scale)
                numbers.offset.append(tag.offset)

    def _homes_of(self, tag: ModbusTag) -> list[int]:
        return self._finder.homes(span_of(tag))

    def _row(self, lane: Lane, tag_id: int, homes: list[int]) -> int:
        self._tags[lane].append(tag_id)
        self._homes[lane].append(homes)
        return len(self._tags[lane]) - 1

    def _compile(self) -> None:
        self._tag_columns = {lane: np.array(tags, np.int32) for lane, tags in self._tags.items()}
        self._lanes = [lane for lane, tags in self._tags.items() if tags]
        self._home_columns = {
            lane: np.array([homes[0] for homes in rows], np.int64) for lane, rows in self._homes.items()
        }
        self._long = [
            (lane, row, homes) for lane, rows in self._homes.items() for row, homes in enumerate(rows) if len(homes) > 1
        ]
        self._kernels = [
            (
                numbers.dtype,
                numbers.lane,
                _run(np.array(numbers.places, np.int64)),
                _run(np.array(numbers.rows, np.int64)),
                np.array(numbers.scale),
                np.array(numbers.offset),
                any(scale != 1.0 for scale in numbers.scale) or any(numbers.offset),
            )
            for numbers in self._numbers.values()
        ]
        self._bit_rows, self._bit_places, self._bit_shifts = (
            np.array(column, np.int64) for column in (zip(*self._bits, strict=True) if self._bits else ([], [], []))
        )

    def registers(self) -> dict[str, str]:
        """Return per value its address and the raw bytes of the last answer, e.g. `holding/40 = 0x0102 0x0304`."""
        shown = {}
        for name, (tag, home) in self._origins.items():
            span, request = span_of(tag), self._parts[home]
            if span in self.refused:
                code = self.refused[span]
                shown[name] = f"{tag.address}: {reason_of(code)}"
                continue
            count = min(span.count, 8)
            if request.is_bits:
                first = span.address - request.address
                bits = [self.buffer[self.starts[home] + bit // 8] >> bit % 8 & 1 for bit in range(first, first + count)]
                words = " ".join(map(str, bits))
            else:
                start = self.starts[home] + 2 * (span.address - request.address)
                data = bytes(self.buffer[start : start + 2 * count])
                words = " ".join(f"0x{data[place : place + 2].hex().upper()}" for place in range(0, len(data), 2))
            shown[name] = f"{tag.address} = {words}{' …' if span.count > count else ''}"
        return shown

    def fill(self, request: int, payload: bytes) -> None:
        """Put the data bytes of an answer into the buffer. Their number must be the request's `payload_bytes`."""
        start = self.starts[request]
        self.buffer[start : start + len(payload)] = np.frombuffer(payload, np.uint8)

    def decode(self, ts: int, statuses: Sequence[int]) -> list[Batch | Waveform]:
        """Return at most one batch a lane, and the waveforms. `statuses[k]` is the StatusCode of request k."""
        statuses = [*statuses, *self._refused_status]
        status, spoilt = np.array(statuses, np.uint32), any(statuses)
        records: list[Batch | Waveform] = []
        for lane in self._lanes:
            quality = status[self._home_columns[lane]] if spoilt else np.zeros(len(self._tag_columns[lane]), np.uint32)
            for long_lane, row, homes in self._long:
                if long_lane is lane:
                    quality[row] = max(statuses[home] for home in homes)
            values = self._values(lane, quality)
            if spoilt or lane is Lane.TEXT:
                self._blank(lane, values, quality)
            # The tag column is shared by every poll; ts and quality are this one's.
            records.append(Batch(self._tag_columns[lane], np.full(len(quality), ts, np.int64), values, quality))
        records += self._read_waveforms(ts, statuses)
        return records

    def _values(self, lane: Lane, quality: npt.NDArray[np.uint32]) -> npt.NDArray[np.generic]:
        if lane is Lane.TEXT:
            return self._read_texts(quality)
        values = np.empty(len(quality), lane.dtype)
        for dtype, kernel_lane, places, rows, scale, offset, scaled in self._kernels:
            if kernel_lane is lane:
                raw = self.buffer[places].view(dtype).ravel()
                values[rows] = raw * scale + offset if scaled else raw
        if lane is Lane.INT and len(self._bit_rows):
            values[self._bit_rows] = self.buffer[self._bit_places] >> self._bit_shifts & 1
        return values

    def _read_texts(self, quality: npt.NDArray[np.uint32]) -> npt.NDArray[np.generic]:
        texts = np.full(len(quality), "", object)
        for row, places, encoding in self._texts:
            raw = bytes(self.buffer[places]).split(b"\0", 1)[0]
            try:
                texts[row] = raw.decode(encoding).rstrip()
            except UnicodeDecodeError:
                quality[row] = max(int(quality[row]), StatusCode.BAD_DECODING_ERROR)
        return texts

    @staticmethod
    def _blank(lane: Lane, values: npt.NDArray[np.generic], quality: npt.NDArray[np.uint32]) -> None:
        """A bad row has no value: NaN, 0 or the empty text stands in its place."""
        bad = (quality & np.uint32(0x80000000)) != 0
        if bad.any():
            nothing: Any = {Lane.FLOAT: np.nan, Lane.INT: 0, Lane.TEXT: ""}[lane]
            values[bad] = nothing

    def _read_waveforms(self, ts: int, statuses: Sequence[int]) -> Iterable[Waveform]:
        for tag_id, tag, homes, places in self._waveforms:
            status = max(statuses[home] for home in homes)
            raw = np.ascontiguousarray(self.buffer[places]).view(tag.value_type.dtype).ravel()
            if is_bad(status):
                samples: npt.NDArray[np.generic] = np.empty(0, np.int16)
            elif tag.value_type.name == "i16" and not tag.scaled:
                samples = raw.astype(np.int16)
            else:
                scale = tag.scale
                if tag.full_scale is not None and not tag.scaled and raw.dtype.kind in "iu":
                    scale = tag.full_scale_quantity[0] / (float(np.iinfo(raw.dtype).max) + 1)
                samples = (raw * scale + tag.offset).astype(np.float32)
            assert tag.rate is not None
            yield Waveform(tag_id, ts, tag.rate, tag.full_scale_quantity[0], samples, status)


def _run(places: npt.NDArray[np.int64]) -> npt.NDArray[np.int64] | slice:
    """Return a slice where places follow one another, which numpy takes without a look at each."""
    flat = places.ravel()
    return slice(int(flat[0]), int(flat[-1]) + 1) if (np.diff(flat) == 1).all() else places
