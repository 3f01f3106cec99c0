"""Random writing, delivery, limits, ageing, restarts and damage: every row is delivered once, or told of as lost.

`test_log_model.py` watches every step of a log that loses nothing; this keeps an account of rows by tag.
"""

import asyncio
import os
import random
import sqlite3
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from buffer.log import Log, open_log
from edge.core.batch import Batch, Event, Lane
from edge.core.catalogue import ValueKind
from edge.core.clock import VirtualClock
from edge.core.data_class import DataClass
from edge.core.delivery import Priority
from tests.buffer.support import event

CLASSES = [each for each in DataClass if each is not DataClass.EVENT]
LIMIT = 500_000


class LossMachine(RuleBasedStateMachine):
    """The account: `written` rows by tag, `got` and `told` by the brain; events by number."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "log.sqlite3"
        self.clock = VirtualClock()
        self.written: Counter[int] = Counter()
        self.got: Counter[int] = Counter()
        self.told: Counter[int] = Counter()
        self.dropped: Counter[str] = Counter()
        self.events = self.events_got = self.events_told = 0
        self.unknown = False
        self.known: set[tuple[int, int]] = set()
        self.log: Log

    @initialize(sealed=st.booleans())
    def begin(self, sealed: bool) -> None:
        self.secret = "a secret of the model" if sealed else None
        self.open()

    def run(self, coroutine: Any) -> Any:
        return self.loop.run_until_complete(coroutine)

    def open(self) -> None:
        self.context = open_log(
            self.path, self.clock, commit_interval_s=0.0001, bytes_max=LIMIT, secret=self.secret, keep_s=1200
        )
        self.log = self.run(self.context.__aenter__())
        self.tags: dict[DataClass, int] = {}
        for each in CLASSES:
            self.log.classes.tell(each.word, {"t": each})
            self.tags[each] = self.log.catalogue.intern(each.word, "t", ValueKind.TEXT).id

    def close(self) -> None:
        self.run(self.context.__aexit__(None, None, None))

    @rule(data_class=st.sampled_from(CLASSES), rows=st.integers(1, 300))
    def write(self, data_class: DataClass, rows: int) -> None:
        tag = self.tags[data_class]
        words = [os.urandom(60).hex() for _ in range(rows)]
        ts = self.clock.now() + np.arange(rows)
        self.run(self.log.append([Batch.of(Lane.TEXT, np.full(rows, tag), ts, words)]))
        self.written[tag] += rows

    @rule(numbers=st.integers(1, 20), rows=st.integers(1, 200))
    def write_all(self, numbers: int, rows: int) -> None:
        """Readings of all classes in one batch: the log parts them."""
        tags = np.tile(list(self.tags.values()), rows)
        self.run(self.log.append([Batch.of(Lane.INT, tags, self.clock.now(), np.arange(len(tags)) * numbers)]))
        self.written.update(tags.tolist())

    @rule()
    def happen(self) -> None:
        self.run(self.log.append([event("x")]))
        self.events += 1

    @rule(seconds=st.sampled_from([1.0, 11.0, 700.0]))
    def wait(self, seconds: float) -> None:
        self.run(self.clock.advance(seconds))

    @rule(hours=st.sampled_from([-30, 5]))
    def set_clock(self, hours: int) -> None:
        self.clock.step_wall(hours * 3600)

    @rule(rows_max=st.integers(1, 400), priority=st.none() | st.sampled_from(Priority), answered=st.booleans())
    def deliver(self, rows_max: int, priority: Priority | None, answered: bool) -> None:
        outbox = self.log.outbox()
        parcel = self.run(outbox.next(rows_max, priority))
        if parcel is None:
            return
        if not answered:
            self.run(outbox.sent(parcel.epoch, [parcel.seq]))
            self.run(outbox.again(parcel.epoch, [parcel.seq]))
            return
        assert (parcel.epoch, parcel.seq) not in self.known
        self.known.add((parcel.epoch, parcel.seq))
        for record in parcel.records:
            if isinstance(record, Batch):
                self.got.update(record.tag.tolist())
            else:
                assert isinstance(record, Event)
                self.events_got += 1
        for gap in parcel.gaps:
            self.told.update(dict(gap.tags))
            self.dropped[gap.data_class] += gap.rows
            self.unknown = self.unknown or gap.reason in ("log damaged", "corrupt segment")
            if gap.data_class == "event":
                self.events_told += gap.rows
        self.run(outbox.confirm(parcel.epoch, [parcel.seq]))

    @rule()
    def prune(self) -> None:
        self.run(self.log.prune())

    @rule()
    def reopen(self) -> None:
        self.close()
        self.open()

    @precondition(lambda self: self.written)
    @rule(page=st.integers(0, 10**6), seed=st.integers(0, 2**32))
    def spoil_a_body(self, page: int, seed: int) -> None:
        """Random bytes over a page of the bodies while the agent is off; names and what was delivered stay sound."""
        self.close()
        with sqlite3.connect(self.path) as db:
            (root,) = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'body'").fetchone()
        db.close()
        with self.path.open("r+b") as file:
            file.seek((root - 1) * 4096)
            file.write(random.Random(seed).randbytes(4096))
        self.open()

    @invariant()
    def nothing_comes_twice_and_the_limit_holds(self) -> None:
        for tag, rows in (self.got + self.told).items():
            assert rows <= self.written[tag]
        assert self.events_got + self.events_told <= self.events
        if hasattr(self, "log"):
            size = self.path.stat().st_size
            assert size <= LIMIT * 1.1 + 400_000

    def teardown(self) -> None:
        for _ in range(10_000):
            before = sum(self.got.values()), len(self.known)
            self.deliver(1000, None, answered=True)
            if before == (sum(self.got.values()), len(self.known)):
                break
        assert self.run(self.log.outbox().next(1000)) is None
        if not self.unknown:
            assert self.got + self.told == self.written
        assert (
            sum(self.got.values()) + self.events_got + sum(self.dropped.values())
            == sum(self.written.values()) + self.events
        ), "rows delivered and rows told as lost are all that was written, damaged ones too"
        protected = {each.word for each in CLASSES if each.is_protected} | {"event"}
        if not self.unknown and self.written.total() < 1500:
            assert not protected & set(self.dropped)
        assert self.log.outbox().backlog().rows == 0
        self.close()
        self.loop.close()
        self.folder.cleanup()


TestLossModel = LossMachine.TestCase
TestLossModel.settings = settings(max_examples=15, stateful_step_count=40, deadline=None)
