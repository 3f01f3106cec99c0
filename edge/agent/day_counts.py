"""What came of each tag's readings on each of the plant's days, counted over whole columns; and the gaps between them.

Pure: what it gives depends on what it was given, not on a clock, and its state is all it knows. So a follower of the
log that commits both together counts everything once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import cbor2
import numpy as np
import numpy.typing as npt

from edge.agent.gap_finder import NEVER, GapFinder
from edge.agent.plausibility import CODES
from edge.core.quality import UNREACHED

COUNTS = ("expected", "received", "good", "timely", "duplicate", *CODES)
"""What is counted of a tag's day; behind the duplicates, how many readings broke each rule."""

_PLACE = {name: number for number, name in enumerate(COUNTS)}
_UNREACHED = np.array(sorted(UNREACHED), np.uint32)
_NS = 10**9
_EPOCH = date(1970, 1, 1)
LATE_MAX_NS, EARLY_MAX_NS = 8 * 86_400 * _NS, 3_600 * _NS
"""A reading that claims to be older, or so far ahead, is of the day on which it came: its clock cannot be right."""

OWED_MAX_NS = 40 * 86_400 * _NS
"""What was owed while nobody counted for longer than this is not counted: a clock may have been wrong by years."""


class Watched(NamedTuple):
    """A tag that is to be counted. A reading is owed each `every_ns`; 0 for one that reports by itself."""

    tag: int
    device: str
    every_ns: int


class Gap(NamedTuple):
    """A time without readings, ns since 1970 UTC: of a tag, or of its whole device. `end` is not part of it."""

    begin: int
    end: int
    tag: int
    whole: bool


def day_of(when: date) -> int:
    """Return the number of a day, 0 for 1 January 1970."""
    return (when - _EPOCH).days


def date_of(day: int) -> date:
    """Return the date of a day's number."""
    return _EPOCH + timedelta(days=day)


def midnight(zone: ZoneInfo, day: int) -> int:
    """Return when a day begins in a time zone, ns since 1970 UTC."""
    local = datetime.combine(date_of(day), datetime.min.time(), zone)
    return int(local.astimezone(UTC).timestamp()) * _NS


def local_day(zone: ZoneInfo, ts: int) -> int:
    """Return the number of the day on which an instant falls in a time zone."""
    return day_of(datetime.fromtimestamp(ts // _NS, UTC).astimezone(zone).date())


_COLUMNS = ("tag", "ts", "quality", "stored")


@dataclass(slots=True)
class Rows:
    """Readings as columns: tag, source time, StatusCode, and when each was stored; times in ns since 1970 UTC."""

    tag: list[npt.NDArray[np.int32]] = field(default_factory=list)
    ts: list[npt.NDArray[np.int64]] = field(default_factory=list)
    quality: list[npt.NDArray[np.uint32]] = field(default_factory=list)
    stored: list[npt.NDArray[np.int64]] = field(default_factory=list)

    def add(self, tag: npt.NDArray[Any], ts: npt.NDArray[Any], quality: npt.NDArray[Any], stored: int) -> None:
        """Add readings that were stored, or left out, at one time."""
        self.tag.append(tag)
        self.ts.append(ts)
        self.quality.append(quality)
        self.stored.append(np.full(len(tag), stored, np.int64))

    def until(self, stored: int) -> "Rows":
        """Take away and return what was added first, as far as it was not stored later."""
        count = next(
            (place for place, when in enumerate(self.stored) if when[:1].max(initial=0) > stored), len(self.stored)
        )
        taken = Rows(*(getattr(self, name)[:count] for name in _COLUMNS))
        for name in _COLUMNS:
            del getattr(self, name)[:count]
        return taken

    def __len__(self) -> int:
        return sum(map(len, self.tag))


class DayCounts:
    """Counts readings. `timely_ns`: one that is stored later than that after its source time is not timely.

    counts  by day, what was counted since the last `clear`: float64[tags, len(COUNTS)]
    gaps    found since the last `clear`
    """

    def __init__(self, zone: ZoneInfo, timely_ns: int) -> None:
        self._zone = zone
        self.timely_ns = timely_ns
        self._slots: dict[int, int] = {}
        self._ids = np.empty(0, np.int32)  # ascending, and the slot of each
        self._slot_of = np.empty(0, np.intp)
        self._devices: dict[str, int] = {}
        self._device = np.empty(0, np.intp)  # of each slot
        self._upto = np.empty(0, np.int64)  # what is owed is counted until then; NEVER for what is not watched
        self._every = np.empty(0, np.int64)
        self._tags = GapFinder()
        self._wholes = GapFinder()
        self.counts: dict[int, npt.NDArray[np.float64]] = {}
        self.gaps: list[Gap] = []

    def watch(self, tags: Sequence[Watched], now: int) -> None:
        """Say what is to be counted from now on; what is owed until now counts as it was."""
        self.pass_time(now)
        wanted = {each.tag: each for each in tags}
        for each in tags:
            if each.tag not in self._slots:
                self._add(each.tag, each.device)
        self._every = np.zeros(len(self._slots), np.int64)
        watched = np.zeros(len(self._slots), np.bool_)
        for tag, slot in self._slots.items():
            if tag in wanted:
                self._every[slot], watched[slot] = wanted[tag].every_ns, True
        self._upto = np.where(watched, np.where(self._upto == NEVER, now, self._upto), NEVER)
        self._tags.expect(self._every, watched, now)
        fastest = np.zeros(len(self._devices), np.int64)
        members = np.bincount(self._device[watched], minlength=len(self._devices))
        for slot in np.flatnonzero(watched & (self._every > 0)).tolist():
            device, every = self._device[slot], self._every[slot]
            fastest[device] = every if not fastest[device] else min(fastest[device], every)
        self._wholes.expect(fastest, members > 0, now, -(-members // 2))

    def _add(self, tag: int, device: str) -> None:
        slot = self._slots[tag] = len(self._slots)
        number = self._devices.setdefault(device, len(self._devices))
        self._device = np.append(self._device, number)
        self._upto = np.append(self._upto, NEVER)
        self._every = np.append(self._every, np.int64(0))
        at = int(np.searchsorted(self._ids, tag))
        self._ids, self._slot_of = np.insert(self._ids, at, tag), np.insert(self._slot_of, at, slot)

    def pass_time(self, now: int) -> None:
        """Count what was owed until `now`, whether the gateway was at work or not."""
        owing = np.flatnonzero((self._upto != NEVER) & (self._upto < now))
        if not len(owing):
            return
        since = max(int(self._upto[owing].min()), now - OWED_MAX_NS)
        first = local_day(self._zone, since)
        for day in range(first, local_day(self._zone, now) + 1):
            begin, end = midnight(self._zone, day), midnight(self._zone, day + 1)
            spans = np.minimum(end, now) - np.maximum(np.maximum(self._upto[owing], since), begin)
            some = (spans > 0) & (self._every[owing] > 0)
            slots = owing[some]
            self._of(day)[slots, 0] += spans[some] / self._every[slots]
        self._upto[owing] = now

    def shift(self, by: int) -> None:
        """Move every time that is kept by so many ns: the clock was set."""
        self._upto = np.where(self._upto == NEVER, NEVER, self._upto + by)
        self._tags.shift(by)
        self._wholes.shift(by)

    def repeat(self, tag: int, times: int, now: int) -> None:
        """Count readings of a tag that came again."""
        if tag in self._slots:
            self._of(local_day(self._zone, now))[self._slots[tag], _PLACE["duplicate"]] += times

    def take(self, rows: Rows) -> None:
        """Count readings, in the order in which they came. Tags that are not watched are passed over."""
        if not len(rows) or not len(self._ids):
            return
        tag, ts = np.concatenate(rows.tag), np.concatenate(rows.ts)
        quality, stored = np.concatenate(rows.quality), np.concatenate(rows.stored)
        at = np.minimum(np.searchsorted(self._ids, tag), len(self._ids) - 1)
        mine = (self._ids[at] == tag) & (self._upto[self._slot_of[at]] != NEVER)
        slot, ts, quality, stored = self._slot_of[at[mine]], ts[mine], quality[mine], stored[mine]
        if not len(slot):
            return
        strange = (ts < stored - LATE_MAX_NS) | (ts > stored + EARLY_MAX_NS)
        ts = np.where(strange, stored, ts)
        came = ~np.isin(quality, _UNREACHED) if quality.any() else np.ones(len(ts), np.bool_)
        self._count(slot, ts, quality, stored, came)
        self._find_gaps(slot, ts, stored, came)

    def _count(
        self,
        slot: npt.NDArray[np.intp],
        ts: npt.NDArray[np.int64],
        quality: npt.NDArray[np.uint32],
        stored: npt.NDArray[np.int64],
        came: npt.NDArray[np.bool_],
    ) -> None:
        first, last = local_day(self._zone, int(ts.min())), local_day(self._zone, int(ts.max()))
        for day in range(first, last + 1):
            begin, end = midnight(self._zone, day), midnight(self._zone, day + 1)
            today = came & (ts >= begin) & (ts < end)
            if not today.any():
                continue
            kinds = {"received": today, "good": today & (quality >> 30 == 0)}
            kinds["timely"] = today & (stored - ts <= self.timely_ns)
            if len(doubted := np.flatnonzero(today & (quality != 0))):
                for rule, code in CODES.items():
                    kinds[rule] = np.zeros(len(ts), np.bool_)
                    kinds[rule][doubted] = quality[doubted] == code
            counts = self._of(day)
            for name, chosen in kinds.items():
                counts[:, _PLACE[name]] += np.bincount(slot[chosen], minlength=len(self._slots))

    def _find_gaps(
        self,
        slot: npt.NDArray[np.intp],
        ts: npt.NDArray[np.int64],
        stored: npt.NDArray[np.int64],
        came: npt.NDArray[np.bool_],
    ) -> None:
        wholes = self._wholes.take(self._device[slot], ts, stored, came)
        tag_of = {number: min(tag for tag, slot in self._slots.items() if self._device[slot] == number)
                  for number in {place for place, _, _ in wholes}}  # fmt: skip
        self.gaps += [Gap(begin, end, tag_of[place], True) for place, begin, end in wholes]
        ids = {place: tag for tag, place in self._slots.items()}
        for place, begin, end in self._tags.take(slot, ts, stored, came):
            slack = max(int(self._every[place]), 5 * _NS)
            device = self._device[place]
            if not any(at == device and b - slack <= begin and end <= e + slack for at, b, e in wholes):
                self.gaps.append(Gap(begin, end, ids[place], False))

    def open_gaps(self, now: int, patience_ns: int) -> list[tuple[str, int]]:
        """Return the devices of which nothing came for longer than `patience_ns` and since when."""
        names = list(self._devices)
        return [(names[place], begin) for place, begin in self._wholes.open(now, patience_ns)]

    def _of(self, day: int) -> npt.NDArray[np.float64]:
        counts = self.counts.get(day)
        if counts is None or len(counts) < len(self._slots):
            grown = np.zeros((len(self._slots), len(COUNTS)))
            if counts is not None:
                grown[: len(counts)] = counts
            counts = self.counts[day] = grown
        return counts

    def rows(self) -> list[tuple[Any, ...]]:
        """Return what was counted since the last `clear`, as (day, tag, *COUNTS), without what is all zero."""
        ids = list(self._slots)
        found = []
        for day, counts in sorted(self.counts.items()):
            for slot in np.flatnonzero(counts.any(axis=1)).tolist():
                expected, *whole = counts[slot].tolist()
                found.append((day, ids[slot], expected, *map(int, whole)))
        return found

    def every(self) -> dict[int, int]:
        """Return by tag id at which interval in ns a reading is owed, without those that owe none."""
        return {tag: int(self._every[slot]) for tag, slot in self._slots.items() if self._every[slot]}

    def clear(self) -> None:
        """Forget what was counted: it is on file."""
        self.counts, self.gaps = {}, []

    def state(self) -> dict[str, Any]:
        """Return all it knows but for the counts, as CBOR types."""
        return {
            "ids": list(self._slots),
            "devices": list(self._devices),
            "device": self._device.tolist(),
            "upto": self._upto.tolist(),
            "every": self._every.tolist(),
            "tags": self._tags.state(),
            "wholes": self._wholes.state(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up a state. Called before anything else."""
        self._devices = {name: number for number, name in enumerate(state["devices"])}
        for tag, number in zip(state["ids"], state["device"], strict=True):
            self._add(tag, state["devices"][number])
        self._upto = np.array(state["upto"], np.int64)
        self._every = np.array(state["every"], np.int64)
        self._tags.restore(state["tags"])
        self._wholes.restore(state["wholes"])


def packed(state: Mapping[str, Any]) -> bytes:
    """Return a state as bytes."""
    return cbor2.dumps(state)


def unpacked(data: bytes) -> dict[str, Any]:
    """Return the state in bytes that `packed` gave. Raises ValueError for others."""
    try:
        found: dict[str, Any] = cbor2.loads(data)
    except cbor2.CBORError as error:
        raise ValueError(str(error)) from error
    return found
