"""From decoded values to batches: which tag a client handle means, its kind, and what is new."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from drivers.opcua.decode import NO_TIME, Run, Values
from drivers.opcua.parts import PARTS_MAX, kind_of_part, parts, pick, waveform
from drivers.opcua.values import NOTHING, kind_of_number, parts_of, row
from edge.core.batch import Batch, Lane, Waveform
from edge.core.catalogue import Tag, ValueKind
from edge.core.quality import StatusCode, bad_mask, is_bad

_OVERFLOW, _OVERFLOW_BITS = 0x0480, 0x0C80
"""InfoType DataValue with the overflow bit: rows before this one were dropped by the server (OPC 10000-4, 7.39.1)."""
_GONE = int(StatusCode.BAD_NODE_ID_UNKNOWN)
_FORMED = -1
"""Code of a handle whose values take a form of their own."""
_CODES = {kind: code for code, kind in enumerate(ValueKind)}
_OF_CODE = tuple(ValueKind)
_NUMBERS = (ValueKind.BOOL, ValueKind.INT64, ValueKind.UINT64, ValueKind.FLOAT64)
_NATURAL = {1: ValueKind.BOOL, 9: ValueKind.UINT64, 10: ValueKind.FLOAT64, 11: ValueKind.FLOAT64} | dict.fromkeys(
    range(2, 9), ValueKind.INT64
)

Rows = tuple[
    npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[Any], npt.NDArray[np.uint32]
]
"""Columns place, handle, ts, value and status of rows of one lane."""


@dataclass(slots=True)
class Picked:
    """A tag that is a part of a value, or whose number has words."""

    steps: tuple[str, ...]
    words: Mapping[int, str]


@dataclass(slots=True)
class Parts:
    """A value that becomes a tag for each of its parts: `tag_of` names and interns them when they first come."""

    tag_of: Callable[[str, Any], Tag]
    handles: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class Wave:
    """A tag whose values are waveforms."""

    rate: float
    full_scale: float


class Items:
    """The tags of a session by client handle, 0, 1, 2, …, and the last row of each.

    A handle of a value with parts has no row of its own; its parts have handles that no server knows.

    waveforms   those that came and were not taken yet
    overflows   (handle, last row before, first row after): where the server dropped rows between
    gone        handles whose node the server does not know any more
    left_out    parts of a value that were too many to become tags
    moment      monotonic time of what is being added
    """

    def __init__(self, decode: Callable[[Any], Any] = lambda value: value) -> None:
        self.tags: list[Tag | None] = []
        self.forms: dict[int, Picked | Parts | Wave] = {}
        self.waveforms: list[Waveform] = []
        self.overflows: list[tuple[int, int, int]] = []
        self.gone: set[int] = set()
        self.left_out = 0
        self.moment = 0.0
        self._decode = decode
        self._repeated: list[int] = []
        self._asked = np.empty(0, np.bool_)  # its last row was read: a notification of the same repeats nothing
        self._bands: list[float] = []
        self._reported = np.empty(0)
        self._ids = np.empty(0, np.int32)
        self._kinds = np.empty(0, np.int8)
        self._last_ts = np.empty(0, np.int64)
        self._last_status = np.empty(0, np.uint32)
        self._last_value: dict[Lane, npt.NDArray[Any]] = {}

    def add(self, tag: Tag | None, form: Picked | Parts | Wave | None = None, band: float = 0.0) -> int:
        """Append a tag, or None for a value with parts, and return its handle. `band`: the server's dead-band."""
        self.tags.append(tag)
        self._bands.append(band)
        handle = len(self.tags) - 1
        if form is not None:
            self.forms[handle] = form
        return handle

    def change(self, handle: int, tag: Tag | None, form: Picked | Parts | Wave | None) -> None:
        """Make a handle mean another tag: the kind of its values is known now."""
        self.tags[handle] = tag
        self.forms.pop(handle, None)
        if form is not None:
            self.forms[handle] = form
        if handle < len(self._ids):
            self._ids[handle] = tag.id if tag else 0
            self._kinds[handle] = self._code(handle)
            self._last_ts[handle] = NO_TIME

    def _code(self, handle: int) -> int:
        tag = self.tags[handle]
        return _FORMED if handle in self.forms or tag is None else _CODES[tag.kind]

    def _grow(self) -> None:
        n, more = len(self.tags), len(self.tags) - len(self._ids)
        if not more:
            return
        self._ids = np.array([tag.id if tag else 0 for tag in self.tags], np.int32)
        self._kinds = np.array([self._code(handle) for handle in range(n)], np.int8)
        self._last_ts = np.append(self._last_ts, np.full(more, NO_TIME))
        self._reported = np.append(self._reported, np.full(more, self.moment))
        self._last_status = np.append(self._last_status, np.zeros(more, np.uint32))
        self._asked = np.append(self._asked, np.zeros(more, np.bool_))
        for lane in Lane:
            values = np.zeros(n, lane.dtype)
            if lane in self._last_value:
                values[: n - more] = self._last_value[lane]
            self._last_value[lane] = values

    def batches(
        self, values: Values, now: int, *, late: bool = False, changed: bool = False, read: bool = False
    ) -> list[Batch]:
        """Return one batch a lane of what is new, in the message's order; `now` (ns) where a value has no time.

        A value of another type than its tag's is converted, or is BadTypeMismatch. Unknown handles are left out.
        `late` values are older than what came before; they are all returned, and change nothing of the last rows.
        With `changed`, a row is new only when value or status differ, beyond the dead-band, whatever its time.
        `read`: the gateway has asked for them, so what repeats is not the server's doing.
        """
        self._grow()
        lanes: dict[Lane, list[Rows]] = {}
        rest = list(values.rest)
        for run in values.runs:
            self._place(run, now, lanes, rest)
        rest.sort(key=lambda one: one[0])
        for lane, rows in list(self._one_by_one(rest, now)):
            lanes.setdefault(lane, []).append(rows)
        self._grow()  # parts that were not known before
        return [batch for lane, parts in lanes.items() if len(batch := self._new(lane, parts, late, changed, read))]

    def _place(self, run: Run, now: int, lanes: dict[Lane, list[Rows]], rest: list[tuple[int, int, Any]]) -> None:
        """Put a run's rows into the lanes of their tags; those that need a conversion of their own into `rest`."""
        known = run.handle < len(self._ids)
        kinds = self._kinds[np.where(known, run.handle, 0)] if len(self._ids) else np.zeros(len(run), np.int8)
        ts = np.where(run.ts == NO_TIME, now, run.ts)
        left = known.copy()
        for code in np.unique(kinds[known]).tolist():
            if code == _FORMED:
                continue
            kind = _OF_CODE[code]
            if kind not in _NUMBERS or not (run.type == 0 or kind is _NATURAL[run.type] or kind is ValueKind.FLOAT64):
                continue
            mine = known & (kinds == code)
            left &= ~mine
            every = bool(mine.all())
            status = run.status if every else run.status[mine]
            value = run.value if every else run.value[mine]
            value = value.astype(np.int64) if kind.lane is Lane.INT else value.astype(np.float64)
            if run.type == 0:
                status = np.where(bad_mask(status), status, np.uint32(StatusCode.BAD_NOT_SUPPORTED))
            if (bad := bad_mask(status)).any():
                value = np.where(bad, np.array(NOTHING.get(kind, 0), value.dtype), value)
            columns = (run.place, run.handle, ts) if every else (run.place[mine], run.handle[mine], ts[mine])
            lanes.setdefault(kind.lane, []).append((*columns, value, status))
        for at in np.flatnonzero(left).tolist():
            value = run.value[at].item() if run.type else None
            rest.append((int(run.place[at]), int(run.handle[at]), (int(ts[at]), value, int(run.status[at]))))

    def _one_by_one(self, rest: Iterable[tuple[int, int, Any]], now: int) -> Iterable[tuple[Lane, Rows]]:
        lanes: dict[Lane, list[tuple[int, int, int, Any, int]]] = {}
        for at, given, data in rest:
            if given >= len(self.tags):
                continue
            form = self.forms.get(given)
            for handle, each in [(given, data)] if form is None else self._formed(given, form, data, now):
                if (tag := self.tags[handle]) is not None and tag.kind is not ValueKind.WAVEFORM:
                    lanes.setdefault(tag.kind.lane, []).append((at, handle, *row(each, tag.kind, now)))
        for lane, rows in lanes.items():
            places, handles, times, contents, statuses = zip(*rows, strict=True)
            column = np.empty(len(rows), lane.dtype)
            column[:] = contents
            yield lane, (np.array(places), np.array(handles), np.array(times), column, np.array(statuses, np.uint32))

    def _formed(
        self, handle: int, form: Picked | Parts | Wave, data: Any, now: int
    ) -> list[tuple[int, tuple[int, Any, int]]]:
        """Return the scalar rows of a value: the part that was picked, or all its parts."""
        kind = None if isinstance(data, tuple) or data.Value is None else kind_of_number(data.Value.VariantType)
        ts, value, status = data if isinstance(data, tuple) else parts_of(data, now)
        tag = self.tags[handle]
        if isinstance(form, Wave):
            if tag is not None:
                self._note(handle, ts, status)
                self.waveforms.append(waveform(tag.id, ts, value, status, form.rate, form.full_scale))
            return []
        value = self._decode(value)
        if isinstance(form, Picked):
            try:
                value = pick(value, form.steps) if value is not None else None
            except LookupError:
                return [(handle, (ts, None, int(StatusCode.BAD_OUT_OF_RANGE)))]
            return [(handle, (ts, form.words.get(value, value) if isinstance(value, int) else value, status))]
        if value is None or is_bad(status):
            if status == _GONE:
                self.gone.add(handle)
            return [(each, (ts, None, status)) for each in form.handles.values()]
        rows = []
        found = parts(value)
        for name, part in islice(found, PARTS_MAX):
            if name not in form.handles:
                form.handles[name] = self.add(form.tag_of(name, kind_of_part(part, kind)))
            rows.append((form.handles[name], (ts, part, status)))
        self.left_out = max(self.left_out, sum(1 for _ in found))
        present = {each for each, _ in rows}
        gone = int(StatusCode.BAD_OUT_OF_RANGE)  # an array that has become shorter
        return rows + [(each, (ts, None, gone)) for each in form.handles.values() if each not in present]

    def take_repeated(self) -> list[int]:
        """Return the tag ids of readings that came again, once."""
        taken, self._repeated = self._repeated, []
        return taken

    def take_waveforms(self) -> list[Waveform]:
        """Return the waveforms that came, once."""
        taken, self.waveforms = self.waveforms, []
        return taken

    def last_ts(self, handle: int) -> int | None:
        """Return the time of a tag's last row, ns; None when there is none."""
        self._grow()
        return None if self._last_ts[handle] == NO_TIME else int(self._last_ts[handle])

    def reported(self, handle: int) -> float:
        """Return the monotonic time of a tag's last report."""
        self._grow()
        return float(self._reported[handle])

    def own(self, handle: int) -> list[int]:
        """Return the handles whose rows a value gives: its own, or those of its parts."""
        form = self.forms.get(handle)
        return list(form.handles.values()) if isinstance(form, Parts) else [handle] if handle >= 0 else []

    def _note(self, handle: int, ts: int, status: int) -> None:
        """Notice what a row says beyond its value: rows before it were dropped, or its node is gone."""
        if status == _GONE:
            self.gone.add(handle)
        elif status & _OVERFLOW_BITS == _OVERFLOW and (last := int(self._last_ts[handle])) != NO_TIME:
            self.overflows.append((handle, last, ts))

    def _new(self, lane: Lane, parts: list[Rows], late: bool, changed: bool, read: bool) -> Batch:
        """Join parts in the message's order, without rows that repeat their tag's last one."""
        place, handle, ts, value, status = (
            parts[0] if len(parts) == 1 else map(np.concatenate, zip(*parts, strict=True))
        )
        if len(parts) > 1:
            order = np.argsort(place, kind="stable")
            handle, ts, value, status = handle[order], ts[order], value[order], status[order]
        if late:
            return Batch.of(lane, self._ids[handle], ts, value, status)
        for at in np.flatnonzero((status == _GONE) | (status & _OVERFLOW_BITS == _OVERFLOW)).tolist():
            self._note(int(handle[at]), int(ts[at]), int(status[at]))
        last = self._last_value[lane]
        same = (changed | (self._last_ts[handle] == ts)) & (self._last_status[handle] == status)
        if same.any():
            equal = last[handle] == value
            if lane is Lane.FLOAT:
                equal |= np.isnan(last[handle]) & np.isnan(value)
            if changed and lane is not Lane.TEXT:
                equal |= np.abs(last[handle] - value) <= np.array(self._bands)[handle]
            keep = ~(same & equal)
            if not changed and not read:
                again = handle[~keep]
                self._repeated += self._ids[again[~self._asked[again]]].tolist()
                self._asked[again] = False
            handle, ts, value, status = handle[keep], ts[keep], value[keep], status[keep]
        self._last_ts[handle], self._last_status[handle], last[handle] = ts, status, value
        self._reported[handle] = self.moment
        self._asked[handle] = read or changed
        return Batch.of(lane, self._ids[handle], ts, value, status)

    def repeat(self, handles: npt.NDArray[np.int64], now: int) -> list[Batch]:
        """Return the last row of each of these tags again, as of `now`: the sign of life of what does not change."""
        self._grow()
        handles = handles[self._last_ts[handles] != NO_TIME]
        self._reported[handles] = self.moment
        batches = []
        for lane in Lane:
            mine = handles[[self._lane(handle) is lane for handle in handles.tolist()]]
            if len(mine):
                values, status = self._last_value[lane][mine], self._last_status[mine]
                batches.append(Batch.of(lane, self._ids[mine], now, values, status))
        return batches

    def _lane(self, handle: int) -> Lane | None:
        tag = self.tags[handle]
        return None if tag is None or tag.kind is ValueKind.WAVEFORM else tag.kind.lane
