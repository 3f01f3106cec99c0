"""The ledger's sums, through random orders of storing, sending, confirming, dropping and starting again."""

import asyncio
import sqlite3
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from buffer.ledger import _COLUMNS, BEFORE_UPLINK, HOURS_MAX
from buffer.log import Log, open_log
from buffer.quarantine_view import retry_at_next_start
from edge.core.batch import Batch, Lane
from edge.core.catalogue import ValueKind
from edge.core.clock import VirtualClock
from edge.core.codec import decode
from edge.core.delivery import Parcel
from edge.core.ledger import COUNTS, HOUR_NS, Line, Plan, Tally, Way
from edge.core.quality import StatusCode
from tests.buffer.support import event, waveform

DEVICES = ("plc-1", "pump-3", "cnc-7")
BRAINS = ("brain", "second")
HOUR_S = 3600.0


def poll(log: Log, device: str, rows: int, quality: int = 0) -> Batch:
    tag = log.catalogue.intern(device, "value", ValueKind.INT64)
    return Batch.of(Lane.INT, [tag.id] * rows, 0, list(range(rows)), quality)


class LedgerMachine(RuleBasedStateMachine):
    """The model: what was read, bad, filtered, due and stored by (hour, device). What waits is counted anew from the
    segments' bodies and the parcels' states; it must be what the ledger says is neither committed nor dropped."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "log.sqlite3"
        self.clock = VirtualClock()
        self.model: dict[str, Counter[tuple[int, str]]] = {name: Counter() for name in COUNTS}
        self.out: dict[str, set[tuple[int, int]]] = {name: set() for name in BRAINS}
        self.dropped = False
        self.log: Log
        self.open(BRAINS)

    def run(self, coroutine: Any) -> Any:
        return self.loop.run_until_complete(coroutine)

    def open(self, brains: tuple[str, ...], only: tuple[str, ...] = ()) -> None:
        self.brains = brains
        consumers = {brain: only if brain == "second" else () for brain in brains}
        self.context = open_log(self.path, self.clock, consumers=consumers, commit_interval_s=0.0001)
        self.log = self.run(self.context.__aenter__())
        self.out = {name: set() for name in BRAINS}

    def count(self, name: str, device: str, rows: int) -> None:
        self.model[name][self.clock.now() // HOUR_NS, device] += rows

    @rule(device=st.sampled_from(DEVICES), rows=st.integers(1, 30), filtered=st.integers(0, 5), bad=st.booleans())
    def read(self, device: str, rows: int, filtered: int, bad: bool) -> None:
        read = rows + filtered
        tally = Tally(device, due=read + 1, read=read, bad=read * bad, filtered=filtered, watched_ms=9, connected_ms=7)
        self.run(self.log.put(poll(self.log, device, rows, StatusCode.BAD_TIMEOUT * bad), tally))
        self.run(self.log.flush())
        for name in COUNTS:
            self.count(name, device, rows if name == "stored" else getattr(tally, name))

    @rule(device=st.sampled_from(DEVICES), rows=st.integers(1, 30))
    def derive(self, device: str, rows: int) -> None:
        """Rows that no driver read: together with others in one transaction, and a waveform and an event with them."""
        wave = self.log.catalogue.intern(device, "shape", ValueKind.WAVEFORM)
        self.run(self.log.append([poll(self.log, device, rows), event("1"), waveform(wave.id, 0)]))
        for name in ("due", "read", "stored"):
            self.count(name, device, rows + 1)

    @rule(device=st.sampled_from(DEVICES), due=st.integers(1, 9))
    def owe(self, device: str, due: int) -> None:
        self.log.catalogue.intern(device, "value", ValueKind.INT64)
        self.run(self.log.put(None, Tally(device, due=due)))
        self.run(self.log.flush())
        self.count("due", device, due)

    @rule(seconds=st.sampled_from([1.0, 11.0, 70.0, 700.0, HOUR_S, 5 * HOUR_S]))
    def wait(self, seconds: float) -> None:
        self.run(self.clock.advance(seconds))

    @rule(seconds=st.sampled_from([-7200.0, 86_400.0]))
    def clock_is_set(self, seconds: float) -> None:
        self.clock.step_wall(seconds)

    @rule(brain=st.sampled_from(BRAINS), rows_max=st.integers(1, 60))
    def next(self, brain: str, rows_max: int) -> None:
        if brain in self.brains and (parcel := self.run(self.log.outbox(brain).next(rows_max))) is not None:
            self.out[brain].add((parcel.epoch, parcel.seq))
            assert parcel.uplink == brain
            if any(isinstance(record, Batch) for record in parcel.records):
                assert (parcel.hour, 0) in {(hour, 0) for hour, _ in self.model["stored"]}

    @rule(brain=st.sampled_from(BRAINS), data=st.data(), what=st.sampled_from(["sent", "again", "confirm"]))
    def tell(self, brain: str, data: st.DataObject, what: str) -> None:
        if brain in self.brains and self.out[brain]:
            known = sorted(self.out[brain], key=lambda identity: identity[1])
            epoch, seq = known[data.draw(st.integers(0, len(known) - 1))]
            self.run(getattr(self.log.outbox(brain), what)(epoch, [seq]))
            if what != "sent":
                self.out[brain].discard((epoch, seq))

    @rule()
    def prune(self) -> None:
        self.run(self.log.prune())

    @rule()
    def fill_up(self) -> None:
        """The disk's share is used up: what may be thinned is thinned, and all that may go, goes."""
        limits = self.log.retention.limits
        self.log.retention.limits = replace(limits, bytes_max=1)
        self.run(self.log.prune())
        self.log.retention.limits = limits
        self.dropped = True

    @rule(
        brains=st.sampled_from([BRAINS, ("brain",), ("second",)]),
        only=st.sampled_from([(), ("plc-1.*",), ("*.value",), ("pump-3.shape", "cnc-7.*")]),
    )
    def reopen(self, brains: tuple[str, ...], only: tuple[str, ...]) -> None:
        """Another set of uplinks, and another filter for one of them."""
        self.run(self.context.__aexit__(None, None, None))
        self.open(brains, only)

    @precondition(lambda self: any(self.model["stored"].values()))
    @invariant()
    def the_sums_close(self) -> None:
        lines = self.run(self.log.ledger(0, 2**40))
        assert [broken for line in lines for broken in line.broken()] == []
        for name in COUNTS:
            told = {(line.hour, line.device): getattr(line, name) for line in lines}
            assert +Counter(told) == +self.model[name], name
        for brain in self.brains:
            told = {(line.hour, line.device): line.waiting(brain) for line in lines}
            assert +Counter(told) == self.held(brain)
            if not self.dropped:
                assert {reason for line in lines for reason in line.uplinks[brain].dropped} <= {BEFORE_UPLINK}

    def held(self, brain: str) -> Counter[tuple[int, str]]:
        db = sqlite3.connect(self.path)
        try:
            found = db.execute(
                "SELECT position, hour, data FROM segment JOIN body USING (position) WHERE kind <> 4 AND NOT EXISTS"
                " (SELECT 1 FROM parcel WHERE consumer = ? AND state = 2 AND priority > 1 AND position"
                " BETWEEN first AND last)",
                (brain,),
            ).fetchall()
        finally:
            db.close()
        waiting: Counter[tuple[int, str]] = Counter()
        for position, hour, body in found:
            record = self.log.outbox(brain).selection.at(position).of(decode(body))
            tags = [] if record is None else record.tag.tolist() if isinstance(record, Batch) else [record.tag]  # type: ignore[union-attr]
            for tag in tags:
                waiting[hour, self.log.catalogue[tag].device] += 1
        return waiting

    def teardown(self) -> None:
        self.run(self.context.__aexit__(None, None, None))
        self.loop.close()
        self.folder.cleanup()


TestLedger = LedgerMachine.TestCase
TestLedger.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)


async def deliver(log: Log, brain: str = "brain") -> None:
    outbox = log.outbox(brain)
    while (parcel := await outbox.next(1000)) is not None:
        await outbox.sent(parcel.epoch, [parcel.seq])
        await outbox.confirm(parcel.epoch, [parcel.seq])


async def test_a_line_is_told_after_its_hour_and_again_when_it_has_changed(tmp_path: Path) -> None:
    clock = VirtualClock()
    async with open_log(tmp_path / "log.sqlite3", clock, commit_interval_s=0.001) as log:
        await log.append([poll(log, "plc-1", 5)])
        assert await log.untold(clock.now()) == []
        await clock.advance(HOUR_S + 61)
        (line,) = await log.untold(clock.now())
        assert (line.stored, line.waiting("brain")) == (5, 5)
        await log.tell(replace(event("-1"), ts=clock.now()), [line])
        assert await log.untold(clock.now()) == []
        await deliver(log)
        (again,) = await log.untold(clock.now())
        assert again.revision > line.revision
        assert again.uplinks == {"brain": Way(sent=5, committed=5, late=5)}
        await log.tell(replace(event("-2"), ts=clock.now()), [again])
        assert await log.untold(clock.now()) == []


async def test_while_something_waits_a_correction_comes_once_an_hour(tmp_path: Path) -> None:
    clock = VirtualClock()
    async with open_log(tmp_path / "log.sqlite3", clock, commit_interval_s=0.001) as log:
        for _ in range(3):
            await log.append([poll(log, "plc-1", 5)])
        await clock.advance(HOUR_S + 61)
        await log.tell(replace(event("-1"), ts=clock.now()), await log.untold(clock.now()))
        parcel = await log.outbox().next(5)
        assert parcel is not None
        await log.outbox().confirm(parcel.epoch, [parcel.seq])
        parcel = await log.outbox().next(5)
        assert parcel is not None
        await log.outbox().confirm(parcel.epoch, [parcel.seq])
        assert await log.untold(clock.now()) == []
        await clock.advance(HOUR_S)
        (line,) = await log.untold(clock.now())
        assert 0 < line.waiting("brain") < 15


async def test_what_was_told_survives_a_new_start_and_what_was_not_is_told_then(tmp_path: Path) -> None:
    clock = VirtualClock()
    path = tmp_path / "log.sqlite3"
    async with open_log(path, clock) as log:
        await log.append([poll(log, "plc-1", 5)])
        await clock.advance(HOUR_S + 61)
        (line,) = await log.untold(clock.now())
    async with open_log(path, clock) as log:
        assert await log.untold(clock.now()) == [line]
        await log.tell(replace(event("-1"), ts=clock.now()), [line])
    async with open_log(path, clock) as log:
        assert await log.untold(clock.now()) == []


async def test_a_parcel_never_holds_data_of_two_hours(tmp_path: Path) -> None:
    clock = VirtualClock()
    async with open_log(tmp_path / "log.sqlite3", clock, commit_interval_s=0.001) as log:
        for _ in range(3):
            await log.append([poll(log, "plc-1", 5)])
            await clock.advance(HOUR_S)
        hours = [parcel.hour for _ in range(3) if (parcel := await log.outbox().next(1000)) is not None]
        assert hours == [clock.now() // HOUR_NS - ago for ago in (3, 2, 1)]


async def test_a_corrupt_segment_counts_as_dropped_and_the_rest_as_committed(tmp_path: Path) -> None:
    clock = VirtualClock()
    path = tmp_path / "log.sqlite3"
    async with open_log(path, clock, commit_interval_s=0.001) as log:
        await log.append([poll(log, "plc-1", 5)])
        await log.append([poll(log, "plc-1", 3)])
    db = sqlite3.connect(path)
    db.execute("UPDATE body SET data = zeroblob(40) WHERE position = 1")
    db.commit()
    db.close()
    async with open_log(path, clock) as log:
        await deliver(log)
        (line,) = await log.ledger(0, 2**40)
        assert line.uplinks["brain"] == Way(sent=8, committed=3, dropped={"corrupt segment": 5})
        assert line.waiting("brain") == 0


@pytest.mark.parametrize("sent_before", [False, True])
@pytest.mark.parametrize("running", [False, True])
async def test_what_was_set_aside_counts_as_dropped_until_another_try_arrives(
    tmp_path: Path, sent_before: bool, running: bool
) -> None:
    """Whatever was sent before, and however often a try fails: in the end the sums are those of rows that just went."""
    path, clock = tmp_path / "log.sqlite3", VirtualClock()
    read = Tally("plc-1", due=10, read=10, watched_ms=1000, connected_ms=1000)

    async def way(log: Log) -> Way:
        (line,) = await log.ledger(0, 2**40)
        assert line.broken() == []
        return line.uplinks["brain"]

    async def again(log: Log) -> Parcel:
        while (parcel := await log.outbox().next(100)) is not None:
            if parcel.records:
                return parcel
        pytest.fail("nothing goes again")

    async with open_log(path, clock, commit_interval_s=0.001) as log:
        outbox = log.outbox()
        await log.put(poll(log, "plc-1", 10), read)
        await log.flush()
        first = await again(log)
        if sent_before:
            await outbox.sent(first.epoch, [first.seq])
        await outbox.quarantine(first.epoch, first.seq, "too large")
        assert await way(log) == Way(10 * sent_before, 0, 0, 0, {"set aside": 10})
        await clock.advance(HOUR_S)
        await outbox.retry()
        second = await again(log)
        assert second.hour == first.hour, "the brain counts it where it was stored"
        await outbox.sent(second.epoch, [second.seq])
        await outbox.quarantine(second.epoch, second.seq, "still too large")
        assert await way(log) == Way(10, 0, 0, 0, {"set aside": 10})
        if running:
            await outbox.retry()
    if not running:
        assert len(await retry_at_next_start(path, clock.now())) == 1
    async with open_log(path, clock, commit_interval_s=0.001) as log:
        third = await again(log)
        await log.outbox().sent(third.epoch, [third.seq])
        assert await log.outbox().confirm(third.epoch, [third.seq]) == 1
        assert await log.outbox().confirm(third.epoch, [third.seq]) == 0
        assert await way(log) == Way(10, 10, 10, 0, {})
        assert log.outbox().backlog().quarantined == 0


async def test_the_first_hour_of_a_device_begins_when_it_comes(tmp_path: Path) -> None:
    """What was before that is no "box off"; after a start, or in later hours, all of it is."""
    path, clock = tmp_path / "log.sqlite3", VirtualClock()
    await clock.advance(HOUR_S - clock.now() // 10**9 % 3600 + 900)
    hour = clock.now() // HOUR_NS
    for _ in range(2):
        async with open_log(path, clock, commit_interval_s=0.001) as log:
            await clock.advance(600)
            await log.put(None, Tally("plc-1", watched_ms=600_000, connected_ms=600_000))
            await log.flush()
            await log.put(None, Tally("plc-1"))  # nothing to count
        await clock.advance(300)
    async with open_log(path, clock, commit_interval_s=0.001) as log:
        await clock.advance(3600)
        await log.put(None, Tally("plc-1", watched_ms=600_000))
        await log.flush()
        first, second = await log.ledger(0, 2**40)
    assert (first.hour, first.before_ms, first.box_off_ms(clock.now())) == (hour, 900_000, 1_500_000)
    assert (second.before_ms, second.box_off_ms((hour + 2) * HOUR_NS)) == (0, 3_000_000)
    assert Line.of_json(first.as_json()) == first
    assert "before_ms" not in second.as_json()


@pytest.mark.parametrize("secret", [None, "correct horse battery staple"])
async def test_a_device_without_a_tag_is_counted_and_stays_the_same_when_it_gets_one(
    tmp_path: Path, secret: str | None
) -> None:
    clock = VirtualClock()
    path = tmp_path / "log.sqlite3"
    for _ in range(2):
        async with open_log(path, clock, commit_interval_s=0.001, secret=secret) as log:
            await log.put(None, Tally("press-9", due=60, watched_ms=60_000))
    async with open_log(path, clock, commit_interval_s=0.001, secret=secret) as log:
        await log.put(poll(log, "press-9", 5), Tally("press-9", due=5, read=5, watched_ms=100, connected_ms=100))
        await log.flush()
        (line,) = await log.ledger(0, 2**40)
        assert (line.device, line.due, line.read, line.stored, line.watched_ms) == ("press-9", 125, 5, 5, 120_100)
        await deliver(log)
        ((line),) = await log.ledger(0, 2**40)
        assert line.uplinks["brain"].committed == 5
    assert (b"press-9" in b"".join(each.read_bytes() for each in tmp_path.iterdir())) is (secret is None)


async def test_the_ledger_keeps_400_days(tmp_path: Path) -> None:
    clock = VirtualClock()
    async with open_log(tmp_path / "log.sqlite3", clock, commit_interval_s=0.001) as log:
        start = clock.now() // HOUR_NS

        async def fill(db: Any) -> None:
            await db.executemany(
                f"INSERT INTO ledger (hour, device, revision, {_COLUMNS}) VALUES (?, 1, 1, 0, 0, 0, 0, 0, 0, 0)",
                [(start + hour,) for hour in range(HOURS_MAX + 3)],
            )

        await log._writer.do(fill)
        clock.step_wall(86_400 * 365 * 70)  # a clock that has jumped ahead costs no line
        await log.prune()
        lines = await log.ledger(0, 2**40)
        assert [lines[0].hour, len(lines)] == [start + 3, HOURS_MAX]


def test_a_plan_owes_every_poll_of_its_grid_once() -> None:
    plan = Plan([(1.0, 10), (60.0, 3)], start=100.0)
    assert plan.due(100.0) == 13
    assert plan.due(100.9) == 0
    assert plan.due(159.5) == 590
    assert plan.due(160.0) == 13


@pytest.mark.parametrize("wrong", [-1, 1.5, "1", True, None])
def test_a_line_that_is_none_is_refused(wrong: object) -> None:
    line = Line(1, "plc-1", 1, 0, 5, 1, 2, 3, 0, 0, {"brain": Way(3, 1, 1, 1, {"log full": 1})})
    assert Line.of_json(line.as_json()) == line
    assert line.broken() == []
    with pytest.raises((ValueError, TypeError)):
        Line.of_json(line.as_json() | {"stored": wrong})


def test_sums_that_do_not_close_are_named() -> None:
    line = Line(1, "plc-1", 1, 0, 5, 6, 2, 4, 1, 2, {"brain": Way(5, 6, 7)})
    assert line.broken() == [
        "read = filtered + stored",
        "bad <= read",
        "connected_ms <= watched_ms",
        "brain: stored = withheld + committed + dropped + waiting",
        "brain: committed <= sent <= stored",
        "brain: late <= committed",
    ]
