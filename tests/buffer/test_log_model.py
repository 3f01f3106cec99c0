"""Random actions on the real log beside an obvious model of it, with restarts in between."""

import asyncio
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from buffer.log import Log, open_log
from edge.core.batch import Event
from edge.core.clock import VirtualClock
from edge.core.delivery import Parcel, Priority
from tests.buffer.support import event, numbered, values


def contents(parcel: Parcel) -> list[int]:
    """What a parcel holds: values of data, which are ≥ 0, or numbers of events, which are < 0."""
    return values(parcel.records) + [int(record.message) for record in parcel.records if isinstance(record, Event)]


class LogMachine(RuleBasedStateMachine):
    """The model: `written` and `events` are what was appended; `parcels` what each identity holds, how urgent it is
    and was when it was cut; sets say where each stands. `live_from` is the first row that is not backlog."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = tempfile.TemporaryDirectory()
        self.clock = VirtualClock()
        self.written: list[int] = []
        self.events: list[int] = []
        self.parcels: dict[tuple[int, int], list[int]] = {}
        self.urgency: dict[tuple[int, int], Priority] = {}
        self.born: dict[tuple[int, int], Priority] = {}
        self.committed: set[tuple[int, int]] = set()
        self.out: set[tuple[int, int]] = set()
        self.log: Log
        self.open()

    def pick(self, data: st.DataObject, among: set[tuple[int, int]]) -> tuple[int, int]:
        """Draw by order of birth: epochs are random numbers, and a test's choices must repeat."""
        known = [identity for identity in self.parcels if identity in among]
        return known[data.draw(st.integers(0, len(known) - 1))]

    def run(self, coroutine: Any) -> Any:
        return self.loop.run_until_complete(coroutine)

    def open(self) -> None:
        self.context = open_log(Path(self.folder.name) / "log.sqlite3", self.clock, commit_interval_s=0.0001)
        self.log = self.run(self.context.__aenter__())

    @rule(rows=st.integers(1, 30))
    def append(self, rows: int) -> None:
        self.run(self.log.append([numbered(len(self.written), rows)]))
        self.written += range(len(self.written), len(self.written) + rows)

    @rule()
    def happen(self) -> None:
        number = -len(self.events) - 1
        self.run(self.log.append([event(str(number))]))
        self.events.append(number)

    @rule(seconds=st.sampled_from([1.0, 11.0]))
    def wait(self, seconds: float) -> None:
        self.run(self.clock.advance(seconds))

    @rule(rows_max=st.integers(1, 60), priority=st.none() | st.sampled_from(Priority))
    def next(self, rows_max: int, priority: Priority | None) -> None:
        parcel = self.run(self.log.outbox().next(rows_max, priority))
        cut = {row for rows in self.parcels.values() for row in rows}
        left = [row for row in [*self.written, *self.events] if row not in cut]
        waiting = [known for known in self.parcels if known not in self.committed | self.out]
        if parcel is None:
            assert not [known for known in waiting if priority in (None, self.urgency[known])]
            assert priority is not None or not left
            assert priority is not Priority.EVENT or not [row for row in left if row < 0]
            return
        identity, rows = (parcel.epoch, parcel.seq), contents(parcel)
        assert not parcel.gaps
        assert rows
        assert priority in (None, parcel.priority)
        assert parcel.historical is (parcel.priority is Priority.BACKLOG)
        if identity in self.parcels:
            same = [known for known in waiting if self.urgency[known] is parcel.priority]
            assert identity == min(same, key=lambda known: abs(self.parcels[known][0]))
            assert rows == self.parcels[identity]
        else:
            assert not set(rows) & cut, "nothing is in two parcels"
            assert {row < 0 for row in rows} == {parcel.priority is Priority.EVENT}, "events and data travel apart"
            order = [abs(row) for row in rows]
            assert order == sorted(order)
            if parcel.priority is not Priority.LIVE:  # what is older and of the same kind went before
                older = [row for row in left if (row < 0) is (rows[0] < 0) and abs(row) < order[0]]
                assert not older
            in_epoch = [seq for epoch, seq in self.parcels if epoch == parcel.epoch]
            assert parcel.seq == max(in_epoch, default=0) + 1
            self.parcels[identity] = rows
            self.urgency[identity] = self.born[identity] = parcel.priority
        if priority is None:
            assert not [known for known in waiting if self.urgency[known] < parcel.priority]
            assert parcel.priority is Priority.EVENT or not [row for row in left if row < 0]
        self.out.add(identity)

    @precondition(lambda self: self.out)
    @rule(data=st.data())
    def sent(self, data: st.DataObject) -> None:
        epoch, seq = self.pick(data, self.out)
        self.run(self.log.outbox().sent(epoch, [seq]))

    @precondition(lambda self: self.out)
    @rule(data=st.data())
    def again(self, data: st.DataObject) -> None:
        epoch, seq = self.pick(data, self.out)
        self.run(self.log.outbox().again(epoch, [seq]))
        self.out.discard((epoch, seq))

    @precondition(lambda self: self.parcels)
    @rule(data=st.data())
    def acknowledge(self, data: st.DataObject) -> None:
        epoch, _ = self.pick(data, set(self.parcels))
        seqs = [seq for known, seq in self.parcels if known == epoch]
        through = data.draw(st.integers(0, max(seqs)))
        missing = data.draw(st.none() | st.integers(1, max(seqs)))
        ranges = [(missing, missing)] if missing else []
        self.run(self.log.outbox().committed(epoch, through, ranges))
        again = (epoch, missing) if missing and missing <= through else None
        if again in self.committed:  # the brain has lost it: it comes again from history
            self.committed.discard(again)
            self.urgency[again] = Priority.BACKLOG
        if again:
            self.out.discard(again)
        self.committed |= {(epoch, seq) for seq in range(1, through + 1) if seq != missing}
        self.out -= self.committed

    @rule()
    def prune(self) -> None:
        self.run(self.log.prune())

    @rule()
    def reopen(self) -> None:
        self.run(self.context.__aexit__(None, None, None))
        self.open()
        self.out.clear()
        self.urgency = dict(self.born)

    @invariant()
    def backlog_is_what_is_not_committed(self) -> None:
        committed = sum(len(self.parcels[identity]) for identity in self.committed)
        assert self.log.outbox().backlog().rows == len(self.written) + len(self.events) - committed

    @rule()
    def drain(self) -> None:
        """Whatever happened before: everything that was appended is in exactly one parcel."""
        while (parcel := self.run(self.log.outbox().next(20))) is not None:
            identity = (parcel.epoch, parcel.seq)
            assert self.parcels.setdefault(identity, contents(parcel)) == contents(parcel)
            self.urgency[identity] = parcel.priority
            self.born.setdefault(identity, parcel.priority)
            self.out.add(identity)
        told = sorted(row for rows in self.parcels.values() for row in rows)
        assert told == sorted([*self.written, *self.events])

    def teardown(self) -> None:
        self.run(self.context.__aexit__(None, None, None))
        self.loop.close()
        self.folder.cleanup()


TestLogModel = LogMachine.TestCase
TestLogModel.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
