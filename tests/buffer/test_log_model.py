"""Random actions on the real log beside an obvious model of it, with restarts in between."""

import asyncio
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from buffer.log import Log, open_log
from edge.core.clock import SystemClock
from tests.buffer.support import numbered, values


class LogMachine(RuleBasedStateMachine):
    """The model: `written` is what was appended; `parcels` what each identity holds; sets say where each stands."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = tempfile.TemporaryDirectory()
        self.written: list[int] = []
        self.parcels: dict[tuple[int, int], list[int]] = {}
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
        self.context = open_log(Path(self.folder.name) / "log.sqlite3", SystemClock(), commit_interval_s=0.0001)
        self.log = self.run(self.context.__aenter__())

    @rule(rows=st.integers(1, 30))
    def append(self, rows: int) -> None:
        self.run(self.log.append([numbered(len(self.written), rows)]))
        self.written += range(len(self.written), len(self.written) + rows)

    @rule(rows_max=st.integers(1, 60))
    def next(self, rows_max: int) -> None:
        parcel = self.run(self.log.outbox().next(rows_max))
        cut = [row for rows in self.parcels.values() for row in rows]
        waiting = set(self.parcels) - self.committed - self.out
        if parcel is None:
            assert not waiting
            assert sorted(cut) == self.written
            return
        identity, rows = (parcel.epoch, parcel.seq), values(parcel.records)
        assert not parcel.gaps
        assert rows
        if identity in self.parcels:
            assert identity == min(waiting, key=lambda known: self.parcels[known][0])
            assert rows == self.parcels[identity]
        else:
            assert not waiting
            assert rows == self.written[len(cut) : len(cut) + len(rows)]
            in_epoch = [seq for epoch, seq in self.parcels if epoch == parcel.epoch]
            assert parcel.seq == max(in_epoch, default=0) + 1
            self.parcels[identity] = rows
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
        for seq in range(1, through + 1):
            if seq != missing:
                self.committed.add((epoch, seq))
            elif (epoch, seq) not in self.committed:
                self.out.discard((epoch, seq))
        self.out -= self.committed

    @rule()
    def prune(self) -> None:
        self.run(self.log.prune())

    @rule()
    def reopen(self) -> None:
        self.run(self.context.__aexit__(None, None, None))
        self.open()
        self.out.clear()

    @invariant()
    def backlog_is_what_is_not_committed(self) -> None:
        committed = sum(len(self.parcels[identity]) for identity in self.committed)
        assert self.log.outbox().backlog().rows == len(self.written) - committed

    def teardown(self) -> None:
        self.run(self.context.__aexit__(None, None, None))
        self.loop.close()
        self.folder.cleanup()


TestLogModel = LogMachine.TestCase
TestLogModel.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)
