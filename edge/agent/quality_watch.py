"""Counts the readings in the log by tag and day, and tells of each day when it is over; see `docs/quality.md`.

A follower of the log in the core: what it counted, its position and its state are committed together.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np

from buffer.follower import Follower
from buffer.quality_days import COUNTS, days, gaps, storing
from edge.agent.day_counts import DayCounts, Rows, Watched, date_of, local_day, midnight, packed, unpacked
from edge.agent.quality_report import Figures, Gap, counts_of, report
from edge.core.batch import Batch, Event, Lane, Record, Waveform
from edge.core.catalogue import Catalogue, ValueKind
from edge.core.clock import Clock
from edge.core.language import say

FOLLOWER = "quality"
STEP_S = 60.0
PATIENCE_NS = 90 * 10**9
"""Nothing for so long is a gap though it has not ended: what came in the last minute is not counted yet."""
LEFT_OUT_MAX = 200_000
GRACE_NS = 600 * 10**9
AGAIN_NS = 3_600 * 10**9
STEP_MIN_NS = 10**9
TOLD_DAYS = 40
PART_TAGS = 300
_DERIVED = ("completeness", "validity", "timeliness", "uniqueness", "online")

log = logging.getLogger("yulink.quality")

RuleState = dict[int, list[int | float]]
"""What the rules of a device keep of earlier readings, by tag id."""

Tell = Callable[[str, Mapping[str, Any], int], Event]
"""Makes the event of a device's day, from its facts and the time."""


class QualityWatch:
    """Run by one task. `watched` returns what is to be counted, `repeated` what came again by tag id, `rules` the state
    of each device's rules.
    """

    def __init__(
        self,
        follower: Follower,
        catalogue: Catalogue,
        clock: Clock,
        zone: ZoneInfo,
        timely_s: float,
        watched: Callable[[], Sequence[Watched]],
        repeated: Callable[[], Mapping[int, int]],
        rules: Callable[[], Mapping[str, RuleState]],
        tell: Tell,
    ) -> None:
        self._follower = follower
        self._catalogue = catalogue
        self._clock = clock
        self._zone = zone
        self._watched, self._repeated, self._rules, self._tell = watched, repeated, rules, tell
        self._counts = DayCounts(zone, round(timely_s * 1e9))
        self._left_out = Rows()
        self._again: dict[int, int] = {}
        self._hurry = asyncio.Event()
        self._finishing = False
        self._looked: tuple[int, int] | None = None
        self._told: dict[int, list[int]] = {}  # day → revision, when
        self._touched: set[int] = set()
        self.kept: dict[str, RuleState] = {}
        """What the rules of each device kept when the last run ended."""
        self._restore()

    def _restore(self) -> None:
        if not self._follower.state:
            return
        try:
            state = unpacked(self._follower.state)
            self._counts.restore(state["counts"])
            self._told = state["told"]
            self._touched = set(state["touched"])
            self.kept = state["rules"]
        except (ValueError, KeyError, TypeError, IndexError):
            log.error(say("the state of data quality cannot be used: it begins anew"))
            self._counts = DayCounts(self._zone, self._counts.timely_ns)

    def leave_out(self, batches: Iterable[Batch]) -> None:
        """Take readings that came and do not go into the log. A kill loses those of the last minute."""
        now = self._clock.now()
        for batch in batches:
            self._left_out.add(batch.tag, batch.ts, batch.quality, now)
        if len(self._left_out) > LEFT_OUT_MAX:
            self._hurry.set()

    def finish(self) -> None:
        """Let `run` count what is there and return."""
        self._finishing = True
        self._hurry.set()

    async def run(self) -> None:
        """Count once a minute until `finish`."""
        while not self._finishing:
            sleeping = asyncio.ensure_future(self._clock.sleep(STEP_S))
            hurrying = asyncio.ensure_future(self._hurry.wait())
            try:
                await asyncio.wait([sleeping, hurrying], return_when=asyncio.FIRST_COMPLETED)
            finally:
                sleeping.cancel()
                hurrying.cancel()
                await asyncio.wait([sleeping, hurrying])
            self._hurry.clear()
            await self.step()

    async def step(self) -> None:
        """Count what has come since the last time, commit it, and tell of days that are over."""
        now = self._clock.now()
        self._heed_clock(now)
        offset = now - self._follower.now()  # log time goes on when the clock is set
        self._counts.watch(self._watched(), now)
        position = self._follower.position
        left_out, self._left_out = self._left_out, Rows()
        last = self._follower.last
        while position < last and (found := await self._follower.read(position)):
            rows = left_out.until(found[-1].stored + offset)
            for each in found:
                _add(rows, each.record, each.stored + offset)
            position = found[-1].position
            self._counts.take(rows)
        self._counts.take(left_out)
        for tag, times in self._repeated().items():
            self._counts.repeat(tag, times - self._again.get(tag, 0), now)
            self._again[tag] = times
        await self._commit(position)
        for day in sorted(self._touched):
            if self._is_due(day, now):
                await self._tell_day(day, now)

    def _heed_clock(self, now: int) -> None:
        """Where the clock was set since the last step, move what is waited for: no time has passed by that."""
        elapsed = round(self._clock.monotonic() * 1e9)
        if self._looked is not None:
            before, then = self._looked
            jump = now - before - (elapsed - then)
            if abs(jump) >= STEP_MIN_NS:
                self._counts.shift(jump)
        self._looked = now, elapsed

    async def _commit(self, position: int, records: Sequence[Record] = ()) -> None:
        rows, every = self._counts.rows(), self._counts.every()
        self._touched |= {row[0] for row in rows}
        for gap in self._counts.gaps:  # it may have been told while it lasted
            first, last = local_day(self._zone, gap.begin), local_day(self._zone, gap.end)
            self._touched |= set(range(max(first, last - TOLD_DAYS), last + 1))
        more = storing(rows, every, self._counts.gaps)
        await self._follower.commit(position, self._state(), records, more=more)
        self._counts.clear()

    def _state(self) -> bytes:
        told = dict(sorted(self._told.items())[-TOLD_DAYS:])
        return packed(
            {"counts": self._counts.state(), "told": told, "touched": sorted(self._touched), "rules": self._rules()}
        )

    def _is_due(self, day: int, now: int) -> bool:
        if now < midnight(self._zone, day + 1) + GRACE_NS:
            return False
        _, when = self._told.get(day, (0, now - AGAIN_NS))
        return now - when >= AGAIN_NS

    async def _tell_day(self, day: int, now: int) -> None:
        """Put what became of a day into the log: an event and derived readings of each device."""
        begin, end = midnight(self._zone, day), midnight(self._zone, day + 1)
        rows = await days(self._follower.fetch, day, day)
        still = dict(self._counts.open_gaps(now, PATIENCE_NS))
        found = report(rows, await gaps(self._follower.fetch, begin, end), still, self._catalogue, (begin, end))
        revision = self._told[day][0] + 1 if day in self._told else 0
        self._told[day] = [revision, now]
        self._touched.discard(day)
        counts = counts_of(rows, self._catalogue)
        told: list[Record] = []
        tags, values = [], []
        for device, one in found.items():
            facts = {"day": date_of(day).isoformat(), "timezone": str(self._zone), "revision": revision,
                     "online": one.online, "columns": COUNTS}  # fmt: skip
            told += [self._tell(device, facts | part, now) for part in _parts(counts[device], one.gaps)]
            for name, share in _shares(one.figures, one.online):
                tags.append(self._catalogue.intern(device, f"{name}_1d", ValueKind.FLOAT64, "%").id)
                values.append(100 * share)
        batch = Batch.of(Lane.FLOAT, tags, begin, values, 0, np.full(len(tags), revision, np.uint32))
        await self._commit(self._follower.position, [batch, *told] if tags else told)


def _parts(counts: Mapping[str, Sequence[float]], gaps: Sequence[Gap]) -> Iterator[dict[str, Any]]:
    """Yield what is told of a day, some tags and gaps at a time: an event has its limits."""
    names = list(counts)
    parts = max(1, -(-len(names) // PART_TAGS), -(-len(gaps) // PART_TAGS))
    for part in range(parts):
        chosen = slice(part * PART_TAGS, (part + 1) * PART_TAGS)
        tags = {name: counts[name] for name in names[chosen]}
        yield {"part": part + 1, "parts": parts, "tags": tags, "gaps": [gap.as_json() for gap in gaps[chosen]]}


def _shares(figures: Figures, online: float | None) -> list[tuple[str, float]]:
    shares = [(name, online if name == "online" else getattr(figures, name)) for name in _DERIVED]
    return [(name, share) for name, share in shares if share is not None]


def _add(rows: Rows, record: Record | None, stored: int) -> None:
    if isinstance(record, Batch):
        rows.add(record.tag, record.ts, record.quality, stored)
    elif isinstance(record, Waveform):
        one = np.array([record.tag], np.int32), np.array([record.ts], np.int64), np.array([record.quality], np.uint32)
        rows.add(*one, stored)
