"""What a device has taught: registers it refuses, how much it takes at once, where a request must not reach across.

A request that fails for good is taken apart once, by halves, until it is known which registers are to blame. From then
on the plan goes around them. All that was learned is doubted: after a pause that doubles up to a day it is tried again,
by one request, because devices get other firmware, or are exchanged.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from drivers.modbus.plan import Barriers, Request, Span, plan_requests
from drivers.modbus.section import Limits, Table

RETRY_MAX_S = 86_400.0
Ask = Callable[[Request], Awaitable[int]]
"""Asks a request and returns 0, the exception code, or `client.UNANSWERED`. Raises `Enough` when all are spent."""


class Enough(Exception):
    """No more requests may be spent now; the search goes on at the next poll."""


@dataclass(slots=True)
class Refusal:
    """Why a register cannot be read, and when it is tried again."""

    code: int
    retry_at: float
    pause: float


@dataclass(frozen=True, slots=True)
class Lesson:
    """Something learned of requests: a barrier at an address of a table; without one the limit of registers, or bits.

    The limit of bits goes by the table "coil", that of registers by "holding".
    """

    table: Table
    address: int | None = None


@dataclass(slots=True)
class Doubt:
    """When a lesson is tried again."""

    retry_at: float
    pause: float

    def again(self, now: float) -> None:
        """Put it off for twice as long as the last time."""
        self.pause = min(self.pause * 2, RETRY_MAX_S)
        self.retry_at = now + self.pause


@dataclass(slots=True)
class Known:
    """All that is known of one device beyond its configuration. Survives sessions; see `memory` for restarts.

    refused       (table, address) → why
    unsupported   tables of which no address can be read → why
    barriers      (table, address): no request may reach from before it to it
    cuts          barriers of a search that goes on at the next poll
    healed        cuts that were taken away after a search; one that is needed again is a barrier
    taken_max     most registers (False) or bits (True) that a request has been answered with in a search
    readable      tables of which something has been read
    doubts        barriers and limits → when they are tried again
    """

    limits: Limits
    refused: dict[tuple[Table, int], Refusal] = field(default_factory=dict)
    unsupported: dict[Table, Refusal] = field(default_factory=dict)
    barriers: set[tuple[Table, int]] = field(default_factory=set)
    cuts: set[tuple[Table, int]] = field(default_factory=set)
    healed: set[tuple[Table, int]] = field(default_factory=set)
    registers_max: int = 125
    bits_max: int = 2000
    taken_max: dict[bool, int] = field(default_factory=lambda: {False: 0, True: 0})
    readable: set[Table] = field(default_factory=set)
    doubts: dict[Lesson, Doubt] = field(default_factory=dict)

    def longest(self, bits: bool) -> int:
        """Return how many registers, or bits, one request may carry."""
        return min(self.limits.bits, self.bits_max) if bits else min(self.limits.registers, self.registers_max)

    @property
    def limits_now(self) -> Limits:
        """What the planner has to keep: the configured limits, or narrower ones that were found."""
        return self.limits.model_copy(update={"registers": self.longest(False), "bits": self.longest(True)})

    @property
    def barriers_now(self) -> Barriers:
        """Where no request may reach across: found barriers, and both sides of each refused register."""
        return (
            self.barriers | self.cuts | {(table, address + side) for table, address in self.refused for side in (0, 1)}
        )

    def refusal(self, span: Span) -> Refusal | None:
        """Return why a span cannot be read, None when nothing speaks against it."""
        if (whole := self.unsupported.get(span.table)) is not None:
            return whole
        places = ((span.table, address) for address in range(span.address, span.end))
        return next((self.refused[place] for place in places if place in self.refused), None) if self.refused else None

    def due(self, spans: Sequence[Span], now: float) -> Span | None:
        """Return a refused span that should be tried again, None when none is due."""
        if not self.refused and not self.unsupported:
            return None
        return next((span for span in spans if (why := self.refusal(span)) and why.retry_at <= now), None)

    def retried(self, span: Span, code: int, now: float) -> None:
        """Take note of what a refused span answered when it was tried again."""
        why = self.refusal(span)
        if why is None:
            return
        if code:
            why.pause = min(why.pause * 2, RETRY_MAX_S)
            why.retry_at = now + why.pause
            return
        self.unsupported.pop(span.table, None)
        for address in range(span.address, span.end):
            self.refused.pop((span.table, address), None)

    def doubt(self, now: float, pause: float) -> None:
        """Plan when each lesson is tried again, the new ones after the first pause."""
        lessons = [Lesson(table, address) for table, address in sorted(self.barriers)]
        lessons += [Lesson("holding")] * (self.registers_max < self.limits.registers)
        lessons += [Lesson("coil")] * (self.bits_max < self.limits.bits)
        self.doubts = {lesson: self.doubts.get(lesson) or Doubt(now + pause, pause) for lesson in lessons}

    def trial(self, spans: Sequence[Span], now: float) -> tuple[Lesson, Request] | None:
        """Return a lesson that should be tried again with the request that tries it, None when none is due."""
        for lesson, doubt in self.doubts.items():
            if doubt.retry_at <= now:
                if (request := self._without(lesson, spans)) is not None:
                    return lesson, request
                doubt.again(now)  # by the present plan it makes no difference
        return None

    def _without(self, lesson: Lesson, spans: Sequence[Span]) -> Request | None:
        """Return the first request that this lesson alone forbids; or that all do, as they may hide each other."""
        readable = [span for span in spans if self.refusal(span) is None]
        for forgotten in ([lesson], list(self.doubts)):
            limits, barriers = self.limits_now, set(self.barriers_now)
            for each in forgotten:
                if each.address is not None:
                    barriers.discard((each.table, each.address))
                else:
                    kind = "bits" if each.table == "coil" else "registers"
                    limits = limits.model_copy(update={kind: getattr(self.limits, kind)})
            for request in plan_requests(readable, limits, barriers):
                if self._forbids(lesson, request):
                    return request
        return None

    def _forbids(self, lesson: Lesson, request: Request) -> bool:
        if lesson.address is None:
            bits = lesson.table == "coil"
            return request.is_bits is bits and request.count > self.longest(bits)
        return request.table == lesson.table and request.address < lesson.address < request.address + request.count

    def tried(self, lesson: Lesson, request: Request, code: int, now: float) -> list[Lesson]:
        """Take note of what a trial was answered. What is no longer so is forgotten, and returned."""
        if code:
            self.doubts[lesson].again(now)
            return []
        gone = [each for each in self.doubts if self._forbids(each, request)]
        pause = self.doubts[lesson].pause
        for each in gone:
            del self.doubts[each]
            if each.address is not None:
                self.barriers.discard((each.table, each.address))
            elif each.table == "coil":
                self.bits_max = request.count
            else:
                self.registers_max = request.count
        self.doubt(now - pause, pause)  # a limit may have risen further: that is tried at once
        return gone

    def cut(self, table: Table, address: int) -> None:
        """Keep requests from reaching across an address until the search is done."""
        (self.barriers if (table, address) in self.healed else self.cuts).add((table, address))

    def heal(self) -> bool:
        """Take the cuts away, now that nothing fails any more. Tell whether there were any."""
        self.healed |= self.cuts
        had = bool(self.cuts)
        self.cuts.clear()
        return had

    def refuse_table(self, table: Table, code: int, now: float, pause: float) -> None:
        """Take note that a device does not know a table's function."""
        self.unsupported[table] = Refusal(code, now + pause, pause)


@dataclass(slots=True)
class Search:
    """Takes one failed request apart. `run` may be cut short by `Enough`; what is found by then is kept."""

    known: Known
    spans: Sequence[Span]
    ask: Ask
    now: float
    pause: float

    async def run(self, request: Request, code: int) -> None:
        """Find out why a request failed with `code`, asking parts of it."""
        spans = [span for span in self.spans if span.table == request.table]
        self.spans = sorted(spans, key=lambda span: (span.address, span.end))
        await self._split(request, code)

    async def _holds(self, request: Request) -> bool:
        """Ask a part; when it fails, take it apart. Tell whether none of its registers is to blame."""
        code = await self.ask(request)
        if code == 0:
            taken = self.known.taken_max
            taken[request.is_bits] = max(taken[request.is_bits], request.count)
            return True
        return await self._split(request, code)

    async def _split(self, request: Request, code: int) -> bool:
        known, table = self.known, request.table
        if request.count == 1:
            known.refused[table, request.address] = Refusal(code, self.now + self.pause, self.pause)
            return False
        left, right = self._halves(request)
        try:
            held = [await self._holds(part) for part in (left, right)]
        except Enough:
            known.cut(table, right.address)  # the next poll asks both halves by themselves
            raise
        if not all(held):
            return False
        try:
            await self._explain(request, left, right)
        except Enough:
            known.cut(table, right.address)
            raise
        return True

    def _halves(self, request: Request) -> tuple[Request, Request]:
        """Cut between two values near the middle, or where there is one value in its middle; without the gap."""
        middle = request.address + request.count // 2
        end = request.address + request.count
        inner = [span for span in self.spans if span.address < end and span.end > request.address]
        cuts = [span.address for span in inner if request.address < span.address < end]
        cuts = [cut for cut in cuts if not any(span.address < cut < span.end for span in inner)]
        cut = min(cuts, key=lambda each: abs(each - middle), default=middle)
        before = max((span.end for span in inner if span.address < cut), default=cut)
        return (
            Request(request.table, request.address, min(before, cut) - request.address),
            Request(request.table, cut, end - cut),
        )

    async def _explain(self, whole: Request, left: Request, right: Request) -> None:
        """Both halves can be read and the whole cannot: too long, or something between them."""
        known, bits = self.known, whole.is_bits
        inside = range(whole.address + 1, whole.address + whole.count)
        if whole.count > known.longest(bits) or any((whole.table, place) in known.barriers for place in inside):
            return  # what was found in a part explains it
        gap_from = left.address + left.count
        gap = Request(whole.table, gap_from, right.address - gap_from) if right.address > gap_from else None
        within_limit = whole.count <= known.taken_max[bits]
        if within_limit or (gap is not None and await self.ask(gap)):
            known.barriers.add((whole.table, right.address))
            return
        low, high = max(left.count, right.count, min(known.taken_max[bits], whole.count - 1)), whole.count
        while high - low > 1:
            middle = (low + high) // 2
            if await self.ask(Request(whole.table, whole.address, middle)):
                high = middle
            else:
                low = middle
        if bits:
            known.bits_max = low
        else:
            known.registers_max = low
        known.taken_max[bits] = max(known.taken_max[bits], low)
