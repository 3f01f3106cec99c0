"""An open Modbus device: polls its groups of tags, each at its own interval, and finds out what it cannot read."""

import asyncio
import math
import zlib
from collections import Counter
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from drivers.modbus.client import UNANSWERED, WRONG, BlockFailed, reason_of, status_of
from drivers.modbus.image import Image, Long
from drivers.modbus.known import Enough, Lesson, Search
from drivers.modbus.line import Line
from drivers.modbus.plan import Request, Span, plan_requests
from drivers.modbus.section import ADDRESSES, Table
from edge.core.batch import Event, Record, Severity
from edge.core.errors import Disconnected
from edge.core.language import say
from edge.core.quality import StatusCode

if TYPE_CHECKING:
    from drivers.modbus.driver import ModbusDriver

BUSY_FIRST_S = 0.02
SEARCH_MAX = 64
SEARCH_SILENCES_MAX = 2
REPLANS_MAX = 3
STARVED_INTERVALS = 3
NAMES_SHOWN_MAX = 20

_BUSY = (5, 6)
_GONE = (UNANSWERED, WRONG, 10, 11)
_PATIENCE = {2: 1, 3: 1, 1: 1, UNANSWERED: 2}
"""How many polls in a row a request may fail so before its registers are searched; three for all others."""


@dataclass(slots=True)
class _Group:
    """Tags of one interval. `poll` is the poll under way; a faster group may go in between its requests."""

    every: float
    names: Sequence[str]
    due: float
    image: Image
    is_stale: bool = False
    poll: AsyncGenerator[None, None] | None = None
    records: list[Record] = field(default_factory=list)
    failures: Counter[Request] = field(default_factory=Counter)


class ModbusSession:
    """Implements `drivers.api.Session` and `Inspectable`."""

    def __init__(self, driver: "ModbusDriver", line: Line) -> None:
        self._driver = driver
        self._line = line
        self._clock = driver.context.clock
        self._known = driver.known
        self._counters = driver.counters
        self._events: list[Event] = []
        self._began = self._clock.monotonic()
        self._groups = [
            _Group(every, names, self._began, self._make_image(names)) for every, names in driver.groups.items()
        ]
        self._spans = list(dict.fromkeys(span for group in self._groups for span in group.image.spans))
        self._hello: Span | None = None
        self._in_doubt = not line.has_transactions
        self._trouble = ""

    def _make_image(self, names: Sequence[str]) -> Image:
        driver, section = self._driver, self._driver.section
        tags = {name: section.tags[name] for name in names}
        return Image(tags, driver.ids, section.order, section.limits, driver.known)

    async def close(self) -> None:
        """End the polls under way."""
        for group in self._groups:
            if group.poll is not None:
                await group.poll.aclose()

    # Scheduling

    async def read(self) -> list[Record]:
        """Wait until a group has been read and return it. Cancelling loses at most the polls under way.

        Raises:
            Disconnected: the unit does not answer, or the connection is gone.
        """
        while True:
            group = await self._wait_group()
            if group.poll is None:
                group.poll = self._poll(group)
            try:
                await anext(group.poll)
            except StopAsyncIteration:
                group.poll = None
                self._reschedule(group)
                events, self._events = self._events, []
                return [*events, *group.records]

    async def _wait_group(self) -> _Group:
        """Return the group whose next request goes out: the fastest that is due.

        So an overloaded device loses cycles of its slow groups first. One that has missed three is let through.
        """
        while True:
            now = self._clock.monotonic()
            due = [group for group in self._groups if group.due <= now]
            if due:
                starved = [group for group in due if group.due + STARVED_INTERVALS * group.every <= now]
                return max(starved, key=lambda group: now - group.due) if starved else due[0]
            await self._clock.sleep(min(group.due for group in self._groups) - now)

    def _reschedule(self, group: _Group) -> None:
        """Set the next due time on the grid of the interval. What was missed is skipped and counted, never queued.

        After its first poll a group goes over to a grid of its own, so that devices do not all ask at once.
        """
        now = self._clock.monotonic()
        if group.due == self._began:
            name = f"{self._driver.context.device} {group.every}"
            group.due += (zlib.crc32(name.encode()) / 2**32 - 1) * group.every
        missed = math.floor((now - group.due) / group.every)
        self._counters["overruns_total"] += max(missed - (group.due < self._began), 0)
        group.due += (missed + 1) * group.every

    # Polling

    async def _poll(self, group: _Group) -> AsyncGenerator[None, None]:
        """Read a group, yielding between its requests; leave its records in it."""
        await self._try_again(group)
        for _ in range(REPLANS_MAX):
            if group.is_stale:
                group.image, group.is_stale = self._make_image(group.names), False
            image = group.image
            codes = [0] * len(image.requests)
            for place, number in enumerate(image.singles):
                if place:
                    yield
                codes[number] = await self._read_into(image, number)
            torn: set[int] = set()
            for long in image.longs:
                async for _ in self._read_long(image, long, codes, torn):
                    yield
            if not image.requests:
                await self._prove_alive()
            if not await self._search_failed(group, codes):
                break
        statuses = [status_of(code) if code else StatusCode.GOOD for code in codes]
        for home in torn:
            statuses[home] = max(statuses[home], StatusCode.UNCERTAIN)
        group.records = list(image.decode(self._clock.now(), statuses))

    async def _read_into(self, image: Image, number: int) -> int:
        code, payload = await self._ask(image.requests[number])
        if code == 0:
            image.fill(number, payload)
            self._known.readable.add(image.requests[number].table)
        return code

    async def _read_long(
        self, image: Image, long: Long, codes: list[int], torn: set[int]
    ) -> AsyncGenerator[None, None]:
        """Read what several requests carry; when the device changed it meanwhile, once more."""
        for _ in range(2):
            before = [await self._ask(request) for request in long.witness] if long.guard else []
            for home in long.homes:
                codes[home] = await self._read_into(image, home)
                yield
            if any(codes[home] for home in long.homes):
                return
            after = [await self._ask(request) for request in long.witness]
            if before == after if long.guard else image.holds(long, [payload for _, payload in after]):
                return
        torn.update(long.homes)
        self._counters["torn_total"] += 1

    async def _ask(self, request: Request) -> tuple[int, bytes]:
        """Exchange, and where nothing useful comes see whether the unit lives and answers in step."""
        code, payload = await self._exchange(request)
        if code in _GONE:
            await self._prove_alive()
        return code, payload

    async def _exchange(self, request: Request) -> tuple[int, bytes]:
        """Return 0 and the data bytes, or why there are none. A busy device is asked again within the time-out."""
        section, counters = self._driver.section, self._counters
        limits = section.limits
        pause, until = BUSY_FIRST_S, self._clock.monotonic() + limits.timeout
        while True:
            counters["requests_total"] += 1
            try:
                return 0, await self._line.read(section.id, request, limits.timeout, limits.pause)
            except TimeoutError:
                counters["timeouts_total"] += 1
                self._in_doubt = not self._line.has_transactions
                self._trouble = say("unit {unit} does not answer", unit=section.id)
                return UNANSWERED, b""
            except BlockFailed as error:
                counters["exceptions_total" if error.code else "wrong_answers_total"] += 1
                self._trouble = say("unit {unit}: {reason}", unit=section.id, reason=error)
                if error.code not in _BUSY or self._clock.monotonic() + pause > until:
                    return error.code or WRONG, b""
                counters["busy_retries_total"] += 1
            await self._clock.sleep(pause)
            pause *= 2

    async def greet(self) -> None:
        """See that the unit answers. Raises Disconnected."""
        self._line.check(self._driver.section.id)
        await self._prove_alive()

    async def _prove_alive(self) -> None:
        """Ask for one value that was answered before, or for the next in turn: is it the unit that is silent?

        Where answers do not name their request, the one to an earlier question might come now, and all others after it
        a question late. So a second question follows, whose answer has another length.

        Raises:
            Disconnected: the unit is silent, or not in step.
        """
        driver, limits = self._driver, self._driver.section.limits
        span = self._hello or self._spans[driver.hello_turn % len(self._spans)]
        first = plan_requests([span], self._known.limits_now)[0]
        code, _ = await self._exchange(first)
        if code not in _GONE and self._in_doubt:
            code, _ = await self._exchange(_of_other_length(first))
        if code not in _GONE:
            self._hello, self._in_doubt = span, False
            return
        driver.hello_turn += 1
        self._line.note_silence(driver.section.id, limits.timeout)
        raise Disconnected(self._trouble, _hint(code))

    # What cannot be read

    async def _search_failed(self, group: _Group, codes: Sequence[int]) -> bool:
        """Search the requests that failed too often; tell whether the group should be read again by a new plan."""
        found, goes_on = False, False
        for request, code in zip(group.image.requests, codes, strict=True):
            if not code or code in _BUSY or code in (10, 11):
                group.failures.pop(request, None)
                continue
            group.failures[request] += 1
            if group.failures[request] >= _PATIENCE.get(code, 3):
                del group.failures[request]
                found = True
                goes_on = not await self._search(group, request, code) or goes_on
        if not found and not group.failures:
            found = self._known.heal()
        if found:
            for each in self._groups:
                each.is_stale = True
        return found and not goes_on

    async def _search(self, group: _Group, request: Request, code: int) -> bool:
        """Take one failed request apart and tell what was found. Returns False when there is more to do next time."""
        known, now = self._known, self._clock.monotonic()
        refused, limits = set(known.refused), known.limits_now
        asked = silences = 0

        async def ask(part: Request) -> int:
            nonlocal asked, silences
            if asked >= SEARCH_MAX or silences >= SEARCH_SILENCES_MAX:
                raise Enough
            asked += 1
            answer, _ = await self._ask(part)
            silences += answer in _GONE
            return answer

        complete = True
        try:
            if code == 1 and request.table not in known.readable:
                known.refuse_table(request.table, code, now, known.limits.retry)
            else:
                await Search(known, group.image.spans, ask, now, known.limits.retry).run(request, code)
        except Enough:
            complete = False
        self._tell_refused(group, request, set(known.refused) - refused, code)
        if known.limits_now != limits:
            self._tell_limit(known.longest(request.is_bits), request.is_bits)
        known.doubt(now, known.limits.retry)
        await self._learned()
        return complete

    async def _learned(self) -> None:
        self._counters["registers_refused"] = len(self._known.refused)
        await asyncio.to_thread(self._driver.memory.keep, self._known)

    async def _try_again(self, group: _Group) -> None:
        """Try one thing again of what was learned, when it is time: a value that was refused, a limit or a barrier."""
        known, now = self._known, self._clock.monotonic()
        if (span := known.due(group.image.spans, now)) is not None:
            await self._try_refused(span)
        elif (trial := known.trial(group.image.spans, now)) is not None:
            lesson, request = trial
            code, _ = await self._ask(request)
            gone = known.tried(lesson, request, code, self._clock.monotonic())
            for each in gone:
                self._tell_forgotten(each)
            if gone:
                await self._changed()

    async def _changed(self) -> None:
        """Have all groups planned anew."""
        for each in self._groups:
            each.is_stale = True
        await self._learned()

    def _tell_forgotten(self, lesson: Lesson) -> None:
        known, device = self._known, self._driver.context.device
        facts: dict[str, str | int]
        if lesson.address is None:
            bits = lesson.table == "coil"
            what, longest = ("bits" if bits else "registers"), known.longest(bits)
            message, facts = f"{device} takes {longest} {what} a request now", {what: longest}
        else:
            place = f"{lesson.table}/{lesson.address}"
            message, facts = f"{device}: a request may reach across {place} now", {"address": place}
        self._tell("limit_lifted", Severity.INFO, message, facts)

    async def _try_refused(self, span: Span) -> None:
        known = self._known
        code = 0
        for request in plan_requests([span], known.limits_now):
            code = code or (await self._ask(request))[0]
        known.retried(span, code, self._clock.monotonic())
        if code == 0:
            message = f"{self._driver.context.device}: {span.table}/{span.address} can be read again"
            self._tell("registers_returned", Severity.INFO, message, {"address": f"{span.table}/{span.address}"})
            await self._changed()

    def _tell_refused(self, group: _Group, request: Request, places: set[tuple[Table, int]], code: int) -> None:
        image = self._make_image(group.names)
        if not image.refused or (not places and request.table not in self._known.unsupported):
            return
        tags = self._driver.section.tags
        names = [name for name in group.names if image.is_refused(tags[name])]
        first = next(iter(image.refused))
        message = (
            f"{self._driver.context.device}: {len(names)} tags cannot be read, "
            f"the first at {first.table}/{first.address}: {reason_of(image.refused[first])}"
        )
        shown = ", ".join(names[:NAMES_SHOWN_MAX]) + (" …" if len(names) > NAMES_SHOWN_MAX else "")
        facts: dict[str, str | int] = {
            "tags": shown,
            "code": code,
            "hint": "check address and type with `yulink probe`",
        }
        self._tell("registers_refused", Severity.LOW, message, facts)

    def _tell_limit(self, longest: int, bits: bool) -> None:
        what = "bits" if bits else "registers"
        message = f"{self._driver.context.device} takes at most {longest} {what} a request"
        hint = (
            f"kept for the next start; with limits: {{{what}: {longest}}} a new gateway need not search for it either"
        )
        self._tell("limit_learned", Severity.INFO, message, {what: longest, "hint": hint})

    def _tell(self, kind: str, severity: Severity, message: str, facts: Mapping[str, str | int]) -> None:
        self._events.append(Event(self._clock.now(), self._driver.context.device, kind, severity, message, facts))

    def raw(self) -> Mapping[str, str]:
        """Return per tag the registers behind its last value."""
        return {name: text for group in self._groups for name, text in group.image.registers().items()}


def _of_other_length(request: Request) -> Request:
    """Return a request for the same place whose answer has another length, and that no device minds more."""
    step = 8 if request.is_bits else 1
    if request.count > step:
        return Request(request.table, request.address, request.count - step)
    address = min(request.address, ADDRESSES - request.count - step)
    return Request(request.table, address, request.count + step)


def _hint(code: int) -> str:
    match code:
        case 10 | 11:
            return say("the gateway answers, not the device behind it: check the unit id and that line")
        case _ if code == WRONG:
            return say("noise, a wrong speed or parity, another master on the line, or a wrong `id`?")
        case _:
            return say("check the unit id, the wiring and the line settings")
