"""Feeds the log to the analytics worker and commits what it returns, each segment's outcome exactly once.

Nothing the worker does can hold up devices, log or uplink: it is another process, and its answer is awaited in a task
of its own. What kills it again and again is found by halving, set aside, told as an event, and passed by.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np

from buffer.aggregates import by_level
from buffer.follower import Follower, Stored
from edge.agent.worker_link import Answer, WorkerDied, WorkerLink, worker_started
from edge.analytics.wire import NOTED
from edge.core.batch import Batch, Event, Record, Severity, Waveform
from edge.core.catalogue import Catalogue, ValueKind
from edge.core.clock import Clock
from edge.core.data_class import DataClass
from edge.core.interval import Level
from edge.core.language import say

FOLLOWER = "analytics"
PORTION = 500
STATE_EVERY_S = 5.0
STATE_BYTES_A_SECOND = 50_000
REST_S, REST_MAX_S = 0.25, 5.0
DEATHS_AT_FAULT_MAX = 3
DEATHS_MAX = 100
PROBE_DEATHS_MAX = 10
KILLERS_MAX = 5
SHOWN_MAX = 8
BACKOFF_FIRST_S = 0.1
BACKOFF_MAX_S = 60.0

log = logging.getLogger("yulink.analytics")


@dataclass(frozen=True, slots=True)
class DerivedTag:
    """A tag that analytics make, the paths of what it is made of, and the level of its intervals if it has any."""

    device: str
    name: str
    kind: ValueKind
    unit: str
    inputs: tuple[str, ...]
    data_class: DataClass
    level: Level | None = None

    @property
    def path(self) -> str:
        """Device and name as users write them."""
        return f"{self.device}.{self.name}"


@dataclass(slots=True)
class AnalyticsHealth:
    """What people ask about the worker. Counters since the start of the agent."""

    state: str = "starting"
    reason: str = ""
    pid: int | None = None
    restarts_total: int = 0
    rows_derived_total: int = 0
    events_total: int = 0
    rows_set_aside_total: int = 0
    position: int = 0
    behind: int = 0
    rss_mb_max: float = 0.0
    derived_tags: list[str] = field(default_factory=list)
    views: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Step:
    """What the worker does at a time: take the records that were stored at a log time, or none: time goes on to it.

    `position` is how far the log is done afterwards.
    """

    position: int
    at: int
    records: Sequence[Record]


@dataclass(frozen=True, slots=True)
class _Convict:
    """A step that kills the worker, alone and again and again."""

    step: _Step
    reason: str


class Analytics:
    """Runs the worker for ever. One task.

    ready  called each time a worker has begun, with the tags it makes
    note   called with each event that came into the log from here
    """

    def __init__(
        self,
        plan: Mapping[str, Any],
        follower: Follower,
        catalogue: Catalogue,
        clock: Clock,
        kernels: Path,
        ready: Callable[[Sequence[DerivedTag]], None],
        note: Callable[[Event], None],
    ) -> None:
        self._plan = plan
        self._follower = follower
        self._catalogue = catalogue
        self._clock = clock
        self._kernels = kernels
        self._ready = ready
        self._note = note
        self._finishing = asyncio.Event()
        self._changed = asyncio.Event()
        self._link: WorkerLink | None = None
        self._warm = False
        self._inputs: frozenset[str] = frozenset()
        self._levels: dict[int, Level] = {}
        self._wanted = np.empty(0, np.int32)
        self._known_id = 0
        self._portion = PORTION
        self._careful_until = 0
        self._sent: list[_Step] = []
        self._is_stated = True
        self._deaths = self._deaths_at_fault = 0
        self._convict: _Convict | None = None
        self._troubled = False
        self.health = AnalyticsHealth(position=follower.position)

    def memory_mb(self) -> float | None:
        """Return the worker's resident memory in megabytes, None while there is none."""
        return self._link.memory_mb() if self._link is not None else None

    def change(self, plan: Mapping[str, Any]) -> None:
        """Go on under another plan; what is the same in both keeps its state."""
        if plan != self._plan:
            self._plan = plan
            self._changed.set()

    def finish(self) -> None:
        """Let `run` return when all that is in the log has its outcome there too."""
        self._finishing.set()

    async def run(self) -> None:
        """Serve the worker until `finish`, or until cancelled: what it has not committed it will do again."""
        backoff_s = BACKOFF_FIRST_S
        while True:
            began_at = self._follower.position
            try:
                if self._convict is not None:
                    await self._isolate(self._convict)
                    self._convict = None
                self._changed.clear()
                async with self._life() as link:
                    await self._serve(link)
                if not self._changed.is_set():
                    return
                continue
            except WorkerDied as death:
                progressed = self._follower.position > began_at
                backoff_s = BACKOFF_FIRST_S if progressed or death.warm else min(backoff_s * 2, BACKOFF_MAX_S)
                await self._mourn(death)
            if self._finishing.is_set():
                backoff_s = BACKOFF_FIRST_S
            await self._clock.sleep(backoff_s)

    def _life(self) -> AbstractAsyncContextManager[WorkerLink]:
        warm, self._warm = self._warm, False
        return worker_started(self._kernels, self._plan["memory_mb"], warm=warm)

    async def _begin(self, link: WorkerLink) -> None:
        """Bring a new worker to the committed position."""
        if self._follower.state is None:
            await self._lose_state("the key it was sealed with is gone")
        ready = await link.hello(self._plan, self._follower.state or b"")
        tags = [
            DerivedTag(
                device,
                name,
                ValueKind(kind),
                unit,
                tuple(inputs),
                DataClass(data_class),
                Level(level) if level else None,
            )
            for device, name, kind, unit, inputs, data_class, level in ready["outputs"]
        ]
        self._ready(tags)
        ids = {tag.path: self._catalogue.intern(tag.device, tag.name, tag.kind, tag.unit).id for tag in tags}
        await link.name_outputs(ids)
        self._levels = {ids[tag.path]: tag.level for tag in tags if tag.level is not None}
        self._inputs = frozenset(ready["inputs"])
        self._known_id, self._wanted = 0, np.empty(0, np.int32)
        await self._tell_tags(link)
        self.health.derived_tags = [tag.path for tag in tags]
        if ready["lost"]:
            await self._lose_state(ready["lost"])
        elif ready["anew"]:
            names = ", ".join(ready["anew"])
            await self._tell("analytics_begun_anew", Severity.INFO, f"settings changed: {names} begin anew")
            await self._commit(link)

    async def _serve(self, link: WorkerLink) -> None:
        await self._begin(link)
        self._link = link
        try:
            await self._follow(link)
        finally:
            self._link = None
            self.health.pid = None

    async def _follow(self, link: WorkerLink) -> None:
        """Feed segment after segment from the committed position on."""
        self.health.state, self.health.reason, self.health.pid = "running", "", link.pid
        position, wake = self._follower.position, (await link.ask(state=False)).wake
        stated_s, self._is_stated = self._clock.monotonic(), True
        while not self._changed.is_set():
            found = await self._follower.read(position, self._portion)
            self.health.position, self.health.behind = position, self._follower.last - position
            if found:
                await self._tell_tags(link)
                position = found[-1].position
                steps = list(self._steps(found))
            elif wake is not None and wake <= (now := self._follower.now()):
                steps = [_Step(position, now, ())]
            elif self._finishing.is_set():
                break
            else:
                await self._wait(position, wake)
                continue
            if steps:
                due = self._clock.monotonic() - stated_s > STATE_EVERY_S
                stated_s = self._clock.monotonic() if due else stated_s
                self._sent = steps
                for step in steps:
                    await self._do(link, step)
                before = self._follower.state
                wake = await self._take(link, position, state=due or self._deaths > 0 or self._careful_until > 0)
                self._sent = []
                if self._follower.state is not before and position >= self._follower.last:
                    await self._rest(len(self._follower.state or b"") / STATE_BYTES_A_SECOND)
                if position >= self._careful_until:
                    self._deaths = self._deaths_at_fault = 0
                    self._portion, self._careful_until, self._troubled = PORTION, 0, False
        await self._take(link, position, state=True)

    def _steps(self, found: Sequence[Stored]) -> Iterator[_Step]:
        """Yield what the worker is to do about stored records: a step for each transaction with something of use."""
        for at, group in groupby(found, attrgetter("stored")):
            together = list(group)
            records = [record for each in together if (record := self._of_use(each.record)) is not None]
            if records:
                yield _Step(together[-1].position, at, records)

    @staticmethod
    async def _do(link: WorkerLink, step: _Step) -> None:
        if step.records:
            await link.send(step.records, step.at)
        else:
            await link.pass_time(step.at)

    async def _take(self, link: WorkerLink, position: int, *, state: bool) -> int | None:
        """Commit what came of all that was sent; return when the worker wants to be called next."""
        answer = await link.ask(state=state)
        self.health.views = answer.view
        self.health.rss_mb_max = max(self.health.rss_mb_max, link.memory_mb())
        self._is_stated = bool(answer.state)
        if answer.state:
            await self._commit_answer(position, answer)
        if link.over_memory():
            raise WorkerDied("took too much memory", at_fault=True)
        return answer.wake

    async def _commit_answer(self, position: int, answer: Answer, events: Sequence[Event] = ()) -> None:
        records = [*answer.records, *events]
        batches = [record for record in answer.records if isinstance(record, Batch)]
        await self._follower.commit(position, answer.state, records, by_level(batches, self._levels))
        for record in records:
            if isinstance(record, Event):
                self.health.events_total += 1
                self._note(record)
            else:
                self.health.rows_derived_total += len(record) if isinstance(record, Batch) else 1

    async def _commit(self, link: WorkerLink) -> None:
        await self._commit_answer(self._follower.position, await link.ask(state=True))

    async def _tell(self, kind: str, severity: Severity, message: str, **facts: str | int | float) -> None:
        """Put an event into the log, without any progress."""
        event = Event(self._clock.now(), "gateway", kind, severity, message, facts)
        follower = self._follower
        await follower.commit(follower.position, follower.state or b"", [event])
        self._note(event)

    async def _wait(self, position: int, wake: int | None) -> None:
        """Return when something new is in the log, the worker wants to be called, or all is to be finished."""
        pause_s = None if wake is None else max((wake - self._follower.now()) / 1e9, 0.001)
        waiting = [
            asyncio.ensure_future(self._follower.wait(position)),
            asyncio.ensure_future(self._finishing.wait()),
            asyncio.ensure_future(self._changed.wait()),
        ]
        try:
            await asyncio.wait(waiting, timeout=pause_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waiting:
                each.cancel()
            await asyncio.wait(waiting)

    async def _rest(self, seconds: float) -> None:
        """Let more come together before the state is written again: flash wears out by writing."""
        with suppress(TimeoutError):
            async with asyncio.timeout(min(max(seconds, REST_S), REST_MAX_S)):
                await self._finishing.wait()

    async def _tell_tags(self, link: WorkerLink) -> None:
        if self._known_id == self._catalogue.last_id:
            return
        new = [tag for tag in self._catalogue.since(self._known_id) if tag.path in self._inputs]
        self._known_id = self._catalogue.last_id
        self._wanted = np.append(self._wanted, np.array([tag.id for tag in new], np.int32))
        await link.tell_tags(new)

    def _of_use(self, record: Record | None) -> Record | None:
        """Return what of a record the worker reads, None for nothing."""
        match record:
            case Event():
                return record if record.source == "gateway" and record.kind in NOTED else None
            case Waveform():
                return record if record.tag in self._wanted else None
            case Batch():
                mine = np.isin(record.tag, self._wanted)
                return record if mine.all() else record.take(mine) if mine.any() else None
        return None

    # What comes of a worker's death.

    async def _mourn(self, death: WorkerDied) -> None:
        """Make the next portion smaller, and convict a segment that killed alone and often enough."""
        if death.warm:
            self._warm = True
            return
        self.health.state, self.health.reason = "restarting", death.message
        self.health.restarts_total += 1
        self._deaths += 1
        self._deaths_at_fault += death.at_fault
        log.warning(say("the analytics worker ended: {reason}; it is started again", reason=death.message))
        too_often = self._deaths_at_fault >= DEATHS_AT_FAULT_MAX or self._deaths >= DEATHS_MAX
        if self._sent:
            self._careful_until = self._sent[-1].position
            self._portion = max(min(len(self._sent), self._portion) // 2, 1)
            if len(self._sent) == 1 and self._is_stated and too_often:
                self._convict = _Convict(self._sent[0], death.message)
        elif self._deaths_at_fault >= DEATHS_AT_FAULT_MAX and self._follower.state and await self._begins_without():
            await self._lose_state(death.message)
        elif too_often and not self._troubled:
            self._troubled = True
            log.error(say("the analytics worker cannot be kept running: {reason}", reason=death.message))
            await self._tell("analytics_failing", Severity.HIGH, f"analytics do not run: {death.message}")
        if too_often and (self._convict is not None or not self._sent):
            self._deaths = self._deaths_at_fault = 0
        self._sent = []

    async def _begins_without(self) -> bool:
        """Tell whether a worker without the state begins: else it is not the state that is at fault."""
        try:
            async with self._life() as link:
                await link.hello(self._plan, b"")
                return True
        except WorkerDied as death:
            self._warm = death.warm
            return False

    async def _lose_state(self, reason: str) -> None:
        """Begin anew at the present position. The old state is kept in the log's file, beside."""
        await self._follower.set_aside()
        log.error(say("the state of analytics cannot be used: {reason}; they begin anew", reason=reason))
        self._follower.state = b""
        message = f"analytics begin anew, their state cannot be used: {reason}"
        await self._tell("analytics_state_lost", Severity.HIGH, message)

    async def _isolate(self, convict: _Convict) -> None:
        """Find the rows that kill, set them aside, and go on behind the step.

        A step releases rows that came before as well, so it is the released items that are halved.
        """
        step = convict.step
        counted = await self._survives(step, [])
        if counted is None:  # it dies without any row: if one begins without the state, that kills
            if await self._begins_without():
                await self._lose_state(convict.reason)
            return
        answer = await self._without_killers(step, counted.items) or counted
        rows, shown = len(answer.set_aside), answer.set_aside[:SHOWN_MAX]
        self.health.rows_set_aside_total += rows
        tags = ", ".join(dict.fromkeys(path for path, _ in shown))
        message = f"{rows} rows of {tags} kill analytics and were set aside: {convict.reason}"
        facts: dict[str, str | int | float | bool | None] = {
            "position": step.position,
            "rows": rows,
            "tags": tags,
            "ts": shown[0][1] if shown else None,
            "reason": convict.reason,
        }
        event = Event(self._clock.now(), "gateway", "analytics_set_aside", Severity.HIGH, message, facts)
        log.error(
            say(
                "{rows} rows of {tags} kill the analytics worker; they were set aside: {reason}",
                rows=rows,
                tags=tags,
                reason=convict.reason,
            )
        )
        await self._commit_answer(step.position, answer, [event])

    async def _without_killers(self, step: _Step, items: int) -> Answer | None:
        """Return what comes of a step without the few items that kill; None where no single ones do."""
        kept = list(range(items))
        for _ in range(KILLERS_MAX):
            found = await self._killer(step, kept)
            if found is None:
                return None
            kept.remove(found)
            if (answer := await self._survives(step, kept)) is not None:
                return answer
        return None

    async def _killer(self, step: _Step, items: list[int]) -> int | None:
        """Return one of the items that kills when it comes alone, by halving; None where none does."""
        while len(items) > 1:
            half = items[: len(items) // 2]
            items = half if await self._survives(step, half) is None else items[len(items) // 2 :]
        return items[0] if items and await self._survives(step, items) is None else None

    async def _survives(self, step: _Step, items: Sequence[int]) -> Answer | None:
        """Return what comes of a step at the committed position with some of its items; None if that kills.

        A kill from outside tells nothing.
        """
        for _ in range(PROBE_DEATHS_MAX):
            try:
                async with self._life() as link:
                    await self._begin(link)
                    await link.keep(_ranges(items))
                    await self._do(link, step)
                    return await link.ask(state=True)
            except WorkerDied as death:
                self._warm = death.warm
                if death.at_fault:
                    return None
        return None


def _ranges(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """Return ascending numbers as ranges: first, and the one behind the last."""
    ranges: list[tuple[int, int]] = []
    for number in numbers:
        if ranges and ranges[-1][1] == number:
            ranges[-1] = ranges[-1][0], number + 1
        else:
            ranges.append((number, number + 1))
    return ranges
