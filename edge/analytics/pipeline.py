"""All operators of a gateway, one after the other, over the readings of its log in event time."""

import hashlib
import struct
import zlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from graphlib import CycleError, TopologicalSorter
from typing import Any, TypeAlias

import cbor2
import numpy as np

from edge.analytics.operator import EMPTY, NEVER, Derived, Operator, Reading, Rows
from edge.analytics.sequencer import Sequencer
from edge.core.batch import Batch, Event, Lane, Record, Waveform
from edge.core.catalogue import Tag, ValueKind
from edge.core.errors import YulinkError
from edge.core.zstd import compress, decompress

GATEWAY = "gateway"
STARTED, CLOCK_STEP = "gateway_started", "clock_step"
CLOCK_STEP_MIN_NS = 60 * 10**9
"""A start whose clock differs by less from the one before only took a while."""

STATE_VERSION = 1
_HEAD = struct.Struct("<2sBxI")


Keep: TypeAlias = Sequence[tuple[int, int]]
"""Numbers of the items of a step that operators see, as ranges: first, and the one behind the last."""


class BadState(YulinkError):
    """A stored state is cut, changed, or of another version. The worker begins anew, and an event says so."""


class BadOperatorState(YulinkError):
    """An operator cannot take up its state. It begins anew, the others go on."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name} cannot take up its state: {reason}")
        self.name = name


@dataclass(slots=True)
class Outcome:
    """What came of one step: derived readings as (path of the output, reading), blocks, and events.

    items      how many rows, blocks and events of the gateway the step released to the operators
    set_aside  of them, those that were kept from the operators, as (path, source time)
    """

    readings: list[tuple[str, Reading]] = field(default_factory=list)
    waveforms: list[tuple[str, Waveform]] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    items: int = 0
    set_aside: list[tuple[str, int]] = field(default_factory=list)

    def add(self, more: "Outcome") -> None:
        """Put what came of a later step behind."""
        self.items += more.items
        self.set_aside += more.set_aside
        self.readings += more.readings
        self.waveforms += more.waveforms
        self.events += more.events


@dataclass(slots=True)
class _Placed:
    """An operator, and which of its inputs stands where among all: `local[slot]` is its own slot or -1."""

    operator: Operator
    local: Any
    feeds: list[int]  # for each output its place among all inputs, -1 for what nobody reads


class Pipeline:
    """Takes records in the order of the log. What one transaction stored is one step, so killing changes nothing.

    inputs  paths of the tags that are wanted of the log, in order
    """

    def __init__(self, operators: Sequence[Operator], wait_ns: int) -> None:
        ordered = _in_order(operators)
        made = {output.path for operator in ordered for output in operator.outputs}
        self._paths = sorted({path for operator in ordered for path in operator.inputs})
        self.inputs = [path for path in self._paths if path not in made]
        self.outputs = {output.path: output for operator in ordered for output in operator.outputs}
        self._place = {path: place for place, path in enumerate(self._paths)}
        self._operators = [self._placed(operator) for operator in ordered]
        self._sequencer = Sequencer(len(self._paths), wait_ns)
        self._tags: dict[int, tuple[int, ValueKind]] = {}
        self._ids = np.empty(0, np.int32)
        self._slots = np.empty(0, np.int32)
        self._unsigned = np.empty(0, np.bool_)

    def _placed(self, operator: Operator) -> _Placed:
        local = np.full(len(self._paths), -1, np.int32)
        for slot, path in enumerate(operator.inputs):
            local[self._place[path]] = slot
        return _Placed(operator, local, [self._place.get(output.path, -1) for output in operator.outputs])

    @property
    def now(self) -> int:
        """Event time."""
        return self._sequencer.now

    def learn(self, tags: Iterable[Tag]) -> None:
        """Take up what ids in the log mean. A tag that comes back with another kind or unit has another id."""
        wanted = set(self.inputs)
        for tag in tags:
            if tag.path in wanted:
                self._tags[tag.id] = self._place[tag.path], tag.kind
        known = sorted(self._tags.items())
        self._ids = np.array([tag for tag, _ in known], np.int32)
        self._slots = np.array([slot for _, (slot, _) in known], np.int32)
        self._unsigned = np.array([kind is ValueKind.UINT64 for _, (_, kind) in known], np.bool_)

    def take(self, records: Sequence[Record], stored: int | None, keep: Keep | None = None) -> Outcome:
        """Take what was stored at a log time, all of it, and return what follows from it.

        `keep` says which of the items that it releases the operators see; None is all.
        """
        events = []
        for record in records:
            match record:
                case Event():
                    self._note(record, stored)
                    events.append(record)
                case Waveform():
                    known = self._tags.get(record.tag)
                    if known is not None:
                        self._sequencer.add(replace(EMPTY, waveforms=[(known[0], record)]), stored)
                case Batch():
                    self._sequencer.add(self._rows(record), stored)
        return self._run(events, keep)

    def pass_time(self, log_now: int, keep: Keep | None = None) -> Outcome:
        """Let event time go on to this log time, up to which nothing more had come."""
        self._sequencer.pass_time(log_now)
        return self._run(keep=keep)

    def play(self, batches: Sequence[Batch], now: int) -> Outcome:
        """Take all that a recording has up to `now`, which is event time afterwards: nothing earlier will come."""
        for batch in batches:
            self._sequencer.add(self._rows(batch), None)
        self._sequencer.settle(now)
        return self._run()

    def wake(self) -> int | None:
        """Return the log time at which `pass_time` has something to do, None when it never has."""
        dues = [self._sequencer.due(), *(placed.operator.due() for placed in self._operators)]
        earliest = min((due for due in dues if due is not None), default=None)
        return None if earliest is None or self._sequencer.newest == NEVER else self._sequencer.log_time(earliest)

    def _rows(self, batch: Batch) -> Rows:
        if not len(self._ids) or not len(batch):
            return EMPTY
        place = np.minimum(np.searchsorted(self._ids, batch.tag), len(self._ids) - 1)
        mine = self._ids[place] == batch.tag
        if not mine.any():
            return EMPTY
        place, batch = place[mine], batch.take(mine)
        n = len(batch)
        value, exact, text = np.full(n, np.nan), np.zeros(n, np.int64), np.full(n, None, object)
        if batch.lane is Lane.FLOAT:
            value[:] = batch.value
        elif batch.lane is Lane.INT:
            exact[:] = batch.value
            value = np.where(self._unsigned[place], exact.view(np.uint64).astype(np.float64), exact.astype(np.float64))
        else:
            text[:] = batch.value
        return Rows(self._slots[place], batch.ts, batch.ts, value, exact, text, batch.quality, np.zeros(n, np.bool_))

    def _note(self, event: Event, stored: int | None) -> None:
        """Follow the gateway's clock."""
        if event.source != GATEWAY or stored is None:
            return
        by = 0
        if event.kind == STARTED:
            by = self._sequencer.set_clock(event.ts - stored)
            by = by if abs(by) >= CLOCK_STEP_MIN_NS else 0
        elif event.kind == CLOCK_STEP:
            by = round(float(event.facts.get("step_s") or 0.0) * 1e9)
            self._sequencer.step_clock(by)
        if by:
            self._sequencer.shift(by)
            for placed in self._operators:
                placed.operator.shift(by)

    def _run(self, events: Sequence[Event] = (), keep: Keep | None = None) -> Outcome:
        rows, now = self._sequencer.release(), self._sequencer.now
        outcome = Outcome(items=len(rows) + len(rows.waveforms) + len(events))
        if keep is not None:
            rows, events = self._kept(rows, events, keep, outcome)
        for placed in self._operators:
            operator = placed.operator
            mine = _select(rows, placed.local, events)
            due = operator.due()
            if not len(mine) and not mine.waveforms and not events and (due is None or due > now):
                continue
            derived = operator.push(mine, now)
            paths = [output.path for output in operator.outputs]
            outcome.readings += [(paths[reading.output], reading) for reading in derived.readings]
            outcome.waveforms += [(paths[output], wave) for output, wave in derived.waveforms]
            outcome.events += derived.events
            rows = _merged(rows, _fed(placed.feeds, operator.outputs, derived))
        outcome.readings.sort(key=lambda each: (settled(each[1]), each[0]))
        outcome.events.sort(key=lambda event: event.ts)
        return outcome

    def _kept(self, rows: Rows, events: Sequence[Event], keep: Keep, outcome: Outcome) -> tuple[Rows, Sequence[Event]]:
        """Return the items whose numbers lie in the ranges; of the others, note what they were."""
        kept = np.zeros(outcome.items, np.bool_)
        for first, last in keep:
            kept[first:last] = True
        n, m = len(rows), len(rows.waveforms)
        gone = [
            (self._paths[slot], ts) for slot, ts in zip(rows.slot[~kept[:n]], rows.ts[~kept[:n]].tolist(), strict=True)
        ]
        gone += [
            (self._paths[slot], wave.ts) for number, (slot, wave) in enumerate(rows.waveforms) if not kept[n + number]
        ]
        gone += [(event.source, event.ts) for number, event in enumerate(events) if not kept[n + m + number]]
        outcome.set_aside += gone
        waves = [wave for number, wave in enumerate(rows.waveforms) if kept[n + number]]
        waves_at = [at for number, at in enumerate(rows.waveforms_at) if kept[n + number]]
        left = [event for number, event in enumerate(events) if kept[n + m + number]]
        return replace(rows.take(kept[:n]), waveforms=waves, waveforms_at=waves_at), left

    def view(self) -> dict[str, Any]:
        """Return what the operators show, by their names."""
        views = {placed.operator.name: placed.operator.view() for placed in self._operators}
        return {name: view for name, view in views.items() if view is not None}

    def state(self) -> bytes:
        """Return everything that the next step depends on: versioned, with a checksum."""
        whole = {
            "paths": self._paths,
            "sequencer": self._sequencer.state(),
            "operators": {
                placed.operator.name: [_fingerprint(placed.operator), placed.operator.state()]
                for placed in self._operators
            },
        }
        body = compress(cbor2.dumps(whole, canonical=True), 1)
        return _HEAD.pack(b"YA", STATE_VERSION, zlib.crc32(body)) + body

    def restore(self, data: bytes, without: Collection[str] = ()) -> list[str]:
        """Take a state up, at once after being made; return the names of what begins anew.

        An operator whose settings changed begins anew, as does one that is new, which is not told. One that is gone
        is forgotten, and those in `without` begin anew. Readings that were held back go to those who read their tags.

        Raises:
            BadState: these bytes are not a whole state of this version.
            BadOperatorState: one operator cannot take its own up.
        """
        whole = _unpacked(data)
        anew: list[str] = []
        try:
            slots = {old: self._place[path] for old, path in enumerate(whole["paths"]) if path in self._place}
            for placed in self._operators:
                operator = placed.operator
                fingerprint, state = whole["operators"].get(operator.name, (None, None))
                if fingerprint == _fingerprint(operator) and operator.name not in without:
                    anew += _restored(operator, state)
                elif fingerprint is not None:
                    anew.append(operator.name)
            self._sequencer.restore(whole["sequencer"], slots)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise BadState(f"a state of analytics cannot be taken up: {error!r}") from error
        return anew


def _restored(operator: Operator, state: Mapping[str, Any]) -> Sequence[str]:
    try:
        return operator.restore(state)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise BadOperatorState(operator.name, repr(error)) from error


def settled(reading: Reading) -> int:
    """Return the event time at which a derived reading was settled."""
    return reading.ts if reading.at == NEVER else reading.at


def _unpacked(data: bytes) -> Mapping[str, Any]:
    if len(data) < _HEAD.size:
        raise BadState("a state of analytics is cut short")
    magic, version, crc = _HEAD.unpack_from(data)
    body = data[_HEAD.size :]
    if magic != b"YA" or version != STATE_VERSION or zlib.crc32(body) != crc:
        raise BadState("a state of analytics is damaged, or of another version")
    whole: Mapping[str, Any] = cbor2.loads(decompress(body))
    return whole


def _fingerprint(operator: Operator) -> str:
    words = f"{operator.KIND} {operator.VERSION} {operator.fingerprint}"
    return hashlib.sha256(words.encode()).hexdigest()[:16]


def _in_order(operators: Sequence[Operator]) -> list[Operator]:
    """Return the operators so that each stands behind those it reads from; where it is free, in the order given."""
    makers = {output.path: operator.name for operator in operators for output in operator.outputs}
    by_name = {operator.name: operator for operator in operators}
    if len(by_name) < len(operators):
        raise ValueError("two operators have one name")
    sorter = TopologicalSorter({
        operator.name: [makers[path] for path in operator.inputs if makers.get(path, operator.name) != operator.name]
        for operator in operators
    })  # fmt: skip
    try:
        return [by_name[name] for name in sorter.static_order()]
    except CycleError as error:
        raise ValueError(f"operators read from each other in a circle: {error.args[1]}") from error


def _select(rows: Rows, local: Any, events: Sequence[Event]) -> Rows:
    slots = local[rows.slot]
    mine = slots >= 0
    waves = [(int(local[slot]), wave) for slot, wave in rows.waveforms if local[slot] >= 0]
    waves_at = [at for (slot, _), at in zip(rows.waveforms, rows.waveforms_at, strict=True) if local[slot] >= 0]
    chosen = rows.take(mine)
    return replace(chosen, slot=slots[mine], waveforms=waves, waveforms_at=waves_at, events=events)


def _fed(feeds: Sequence[int], outputs: Sequence[Any], derived: Derived) -> Rows:
    """Return what other operators read of an operator's readings."""
    read = [each for each in derived.readings if feeds[each.output] >= 0]
    if not read:
        return EMPTY
    return Rows.of(
        [feeds[each.output] for each in read],
        [each.ts for each in read],
        [each.value for each in read],
        [each.quality for each in read],
        [settled(each) for each in read],
    )


def _merged(rows: Rows, more: Rows) -> Rows:
    if not len(more):
        return rows
    both = Rows.concat([rows, more])
    ordered = both.take(np.lexsort((both.slot, both.at)))
    return replace(ordered, waveforms=both.waveforms, waveforms_at=both.waveforms_at)
