"""A run of the log cut for a parcel: its columns on file, what it covers, and what is in no parcel yet."""

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any, Protocol

from buffer.vault import Vault
from edge.core.batch import Batch, Record
from edge.core.catalogue import Catalogue
from edge.core.delivery import Identity, Priority

WHOLE = 0  # the priority of parcels of format 1, which hold events and data together

COLUMNS = "epoch, seq, first, last, rows, bytes, priority, part, parts, instead_of, notice, held"
INTO_PARCEL = f"INTO parcel (consumer, state, historical, {COLUMNS}) VALUES ({', '.join('?' * 15)})"

ROW_BYTES = 8  # about what a row takes in the log, where a segment's rows are not all wanted
EPOCH_BITS = 53  # what a JSON number holds exactly in every language


class Source(Protocol):
    """The log, as far as parcels need it."""

    catalogue: Catalogue
    vault: Vault

    async def records(
        self, first: int, last: int, *, events: bool = True, data: bool = True
    ) -> list[tuple[int, Record | None]]:
        """Return what lies at these positions."""


def new_epoch() -> int:
    """Draw the number of an epoch."""
    return secrets.randbits(EPOCH_BITS - 1) + 1


class State(IntEnum):
    """Where a parcel stands on its way to the brain."""

    NEW = 0
    SENT = 1
    COMMITTED = 2
    REPLACED = 3


@dataclass(slots=True)
class Cut:
    """A parcel as the log knows it: positions, not content. `part` of `parts`: a piece of what was too large whole."""

    epoch: int
    seq: int
    first: int
    last: int
    rows: int
    stored_bytes: int
    priority: int
    part: int = 0
    parts: int = 1
    instead_of: tuple[Identity, ...] = ()
    notice: str = ""
    held: int = 0
    sent: bool = False
    corrupt: set[int] | None = None
    replayed: bool = False

    @classmethod
    def read(cls, row: Sequence[Any], *, replayed: bool = False) -> "Cut":
        """Return a parcel from the columns `COLUMNS`."""
        cut = cls(*row[:7])
        cut.part, cut.parts, instead_of, cut.notice, cut.held = row[7:12]
        cut.instead_of = tuple((epoch, seq) for epoch, seq in json.loads(instead_of or "[]"))
        cut.replayed = replayed
        return cut

    def columns(self) -> tuple[Any, ...]:
        """Return the values of `COLUMNS`."""
        return (
            *(self.epoch, self.seq, self.first, self.last, self.rows, self.stored_bytes, self.priority),
            *(self.part, self.parts, json.dumps(self.instead_of) if self.instead_of else "", self.notice, self.held),
        )

    def row(self, consumer: str) -> tuple[Any, ...]:
        """Return the values that `INTO_PARCEL` takes."""
        state = State.SENT if self.sent else State.NEW
        return (consumer, int(state), self.lane is Priority.BACKLOG, *self.columns())

    @property
    def identity(self) -> tuple[int, int]:
        """The parcel's epoch and sequence number."""
        return self.epoch, self.seq

    @property
    def lane(self) -> Priority:
        """With what urgency it goes; what is sent again from history is backlog."""
        return Priority.BACKLOG if self.replayed else Priority(self.priority or Priority.BACKLOG)

    def holds(self, position: int, *, event: bool) -> bool:
        """Tell whether what lies at a position is in this parcel."""
        return self.covers(event=event) and self.first <= position <= self.last

    def covers(self, *, event: bool) -> bool:
        """Tell whether the parcel covers events, or data, between its positions."""
        return self.priority in ((WHOLE, Priority.EVENT) if event else (WHOLE, Priority.LIVE, Priority.BACKLOG))


@dataclass(slots=True)
class Uncut:
    """What is in no parcel yet, counted."""

    rows: int = 0
    stored_bytes: int = 0

    def add(self, rows: int, stored_bytes: int) -> None:
        """Count more, or with negative numbers fewer."""
        self.rows = max(self.rows + rows, 0)
        self.stored_bytes = max(self.stored_bytes + stored_bytes, 0)


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What a limit took from one position, for those who count what waits. `record`: the rows; None where corrupt."""

    position: int
    rows: int
    stored_bytes: int
    event: bool
    record: Record | None


@dataclass(slots=True)
class Taken:
    """What a cut takes up to `last`: whether it makes a parcel, and whether nothing is left in the range.

    `rows_passed` are for others, but had been counted as waiting.
    """

    last: int
    parcel: bool = False
    rows: int = 0
    rows_passed: int = 0
    stored_bytes: int = 0
    exhausted: bool = True
    hour: int = 0


def holes(known: Sequence[int], first: int, last: int) -> list[tuple[int, int]]:
    """Return the ranges of `first` to `last` that hold none of the known numbers, which are in order."""
    holes = []
    for number_ in [*known, last + 1]:
        if number_ > first:
            holes.append((first, number_ - 1))
        first = number_ + 1
    return holes


def length_of(rows: int, part: int, parts: int) -> int:
    """Return how many of a batch's rows `part_of` gives."""
    return rows * (part + 1) // parts - rows * part // parts


def part_of(record: Record, part: int, parts: int) -> Record:
    """Return one of `parts` about equal pieces of a batch; what cannot be divided is returned whole."""
    if not isinstance(record, Batch):
        return record
    return record.take(slice(len(record) * part // parts, len(record) * (part + 1) // parts))


def halves_of(cut: Cut, ends: Sequence[tuple[int, int]]) -> list[Cut]:
    """Return two cuts with about half of a cut's rows each; none when it is a single row.

    `ends` are (position, rows) of what it covers, without positions that have no rows.
    """
    halves: list[Cut] = []
    half = sum(rows for _, rows in ends) / 2
    if len(ends) > 1:
        seen = 0
        for position, rows in ends[:-1]:
            seen += rows
            if seen >= half or position == ends[-2][0]:
                halves = [replace(cut, last=position, rows=seen), replace(cut, first=position + 1)]
                halves[1].rows = max(round(half * 2) - seen, 0)
                break
    elif ends and length_of(ends[0][1], cut.part, cut.parts) > 1:
        halves = [replace(cut, part=2 * cut.part + n, parts=2 * cut.parts) for n in (0, 1)]
        for piece in halves:
            piece.rows = length_of(ends[0][1], piece.part, piece.parts)
    for piece in halves:
        piece.instead_of, piece.stored_bytes = (*cut.instead_of, cut.identity), cut.stored_bytes // 2
    return halves
