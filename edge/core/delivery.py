"""What the log and the uplink agree on: parcels, their identity, and who may forget them when.

A parcel is a run of the log cut once and for ever: its identity (epoch, seq) and its content are durable
before it is first sent, so a resend after any crash is the same parcel and the brain can drop the repeat.
An epoch is a random number drawn for each consumer at every start of the agent; `seq` counts 1, 2, 3 … inside it
without holes. A restored or copied database therefore never gives an old identity to new content.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

from edge.core.batch import Record
from edge.core.catalogue import Catalogue, Tag


@dataclass(frozen=True, slots=True)
class Gap:
    """Rows that were read but cannot be delivered any more, and why. A gap is itself delivered.

    rows        how many; 0 when the damage leaves even that unknown
    ts_min      of the rows, nanoseconds since 1970 UTC
    ts_max
    reason      "thinned", "log full", "corrupt segment" or "log damaged"
    data_class  the word of their class; "" when unknown
    tags        (tag id, rows) of each tag, by id; empty for events and when unknown
    """

    rows: int
    ts_min: int
    ts_max: int
    reason: str
    data_class: str = ""
    tags: tuple[tuple[int, int], ...] = ()


class Priority(IntEnum):
    """What goes first. Each has its own order; between them nothing waits for what is less urgent."""

    EVENT = 1
    LIVE = 2
    BACKLOG = 3


@dataclass(frozen=True, slots=True)
class Parcel:
    """One message's content and identity.

    historical  it is backlog: its rows may be older than rows already sent
    hour        the hour of the ledger in which all its data was stored; 0 when that is unknown
    uplink      the name of the consumer it was cut for
    """

    epoch: int
    seq: int
    records: tuple[Record, ...]
    gaps: tuple[Gap, ...] = ()
    historical: bool = False
    priority: Priority = Priority.LIVE
    hour: int = 0
    uplink: str = ""


@dataclass(frozen=True, slots=True)
class Backlog:
    """What the brain has not confirmed yet; `parcels_sent` of it the broker has taken."""

    rows: int
    stored_bytes: int
    parcels_sent: int
    historical_rows: int = 0


class Outbox(Protocol):
    """One consumer's side of the log: new → sent → committed → prunable. Used by one task.

    Every method that changes a state returns when the change is durable.
    """

    catalogue: Catalogue

    def selects(self, tag: Tag) -> bool:
        """Tell whether any reading of a tag may be in a parcel."""

    async def wait(self) -> None:
        """Return when there may be something `ready`. Safe to cancel."""

    async def changed(self) -> None:
        """Return when something new came into the log. Safe to cancel."""

    def ready(self, priority: Priority) -> bool:
        """Tell whether `next` has something of this priority."""

    def uncut_rows(self, priority: Priority) -> int:
        """Return about how many rows of this priority are in no parcel yet."""

    async def next(self, rows_max: int, priority: Priority | None = None) -> Parcel | None:
        """Return the oldest parcel in state new; if there is none, cut one of at most `rows_max` rows.

        Without a priority the most urgent that is ready. Returns None when everything is sent. The parcel stays "new"
        until `sent`, but is not returned again in this run unless `again` says so. One record larger than `rows_max`
        is a parcel of its own. Safe to cancel.
        """

    async def sent(self, epoch: int, seqs: Sequence[int]) -> None:
        """Record that the broker took these parcels. That is not delivery."""

    async def committed(self, epoch: int, through: int, missing: Sequence[tuple[int, int]] = ()) -> int:
        """Record the brain's acknowledgement: all of `epoch` up to `through` but for the ranges `missing`.

        `missing` ranges (first, last, both included) go back to new and are sent again.
        Returns the number of parcels committed by this call.
        """

    async def confirm(self, epoch: int, seqs: Sequence[int]) -> int:
        """Record delivery of exactly these parcels; for consumers that count the broker's word as delivery."""

    async def again(self, epoch: int, seqs: Sequence[int]) -> None:
        """Put parcels back to new: the connection was lost, or no acknowledgement came in time."""

    def backlog(self) -> Backlog:
        """Return a snapshot of what is not committed."""
