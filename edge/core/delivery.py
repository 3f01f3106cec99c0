"""What the log and the uplink agree on: parcels, their identity, and who may forget them when.

A parcel is a run of the log cut once and for ever: its identity (epoch, seq) and its content are durable
before it is first sent, so a resend after any crash is the same parcel and the brain can drop the repeat.
An epoch is a random number drawn for each consumer at every start of the agent; `seq` counts 1, 2, 3 … inside it
without holes. A restored or copied database therefore never gives an old identity to new content.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol, TypeAlias

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


Identity: TypeAlias = tuple[int, int]
"""(epoch, seq)"""


@dataclass(frozen=True, slots=True)
class Parcel:
    """One message's content and identity.

    historical  it is backlog: its rows may be older than rows already sent
    hour        the hour of the ledger in which all its data was stored; 0 when that is unknown
    uplink      the name of the consumer it was cut for
    instead_of  it carries rows of these parcels, which could not pass; who holds one of them whole needs this no more
    gone        (epoch, first, last): these parcels will never come, or never again
    """

    epoch: int
    seq: int
    records: tuple[Record, ...]
    gaps: tuple[Gap, ...] = ()
    historical: bool = False
    priority: Priority = Priority.LIVE
    hour: int = 0
    uplink: str = ""
    instead_of: tuple[Identity, ...] = ()
    gone: tuple[tuple[int, int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Backlog:
    """What the brain has not confirmed yet; `parcels_sent` of it the broker has taken.

    `quarantined` messages are set aside besides.
    """

    rows: int
    stored_bytes: int
    parcels_sent: int
    historical_rows: int = 0
    quarantined: int = 0


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

    def ready_rows(self, priority: Priority) -> int:
        """Return about how many rows of this priority `next` could give out; a parcel without rows counts as one."""

    async def next(self, rows_max: int, priority: Priority | None = None) -> Parcel | None:
        """Return the oldest parcel in state new; if there is none, cut one of at most `rows_max` rows.

        Without a priority the most urgent that is ready. Returns None when everything is sent. The parcel stays "new"
        until `sent`, but is not returned again in this run unless `again` says so. One record larger than `rows_max`
        is a parcel of its own. Safe to cancel.
        """

    async def sent(self, epoch: int, seqs: Sequence[int]) -> None:
        """Record that the broker took these parcels. That is not delivery."""

    async def committed(
        self,
        epoch: int,
        through: int,
        missing: Sequence[tuple[int, int]] = (),
        on_their_way: Collection[int] = (),
    ) -> int:
        """Record the brain's acknowledgement: all of `epoch` up to `through` but for the ranges `missing`.

        `missing` ranges (first, last, both included) go back to new and are sent again, but for the seqs that are known
        to be on their way. What was committed long ago and is missing now comes again from history; for what is no
        longer there, a parcel comes that says so. Returns the number of parcels committed by this call.
        """

    async def recall(self, epoch: int, first: int, last: int) -> int:
        """Put committed parcels of an epoch, `first` to `last`, back to new, some hundred at a time.

        For what is no longer there, a parcel comes that says so. Returns the seq to go on with, 0 when nothing is left.
        """

    async def replay(self, ts_min: int, ts_max: int, after: int = 0) -> int:
        """Put committed parcels with rows of this time back to new, some hundred behind the position `after`.

        Returns the position to go on behind, 0 when nothing is left.
        """

    async def split(self, epoch: int, seq: int) -> list[Identity]:
        """Replace a parcel that cannot pass by two with half of its rows each; none when it is a single row."""

    async def quarantine(self, epoch: int, seq: int, reason: str) -> int:
        """Set a parcel's rows aside and put a parcel with their gap in its place. Returns the rows."""

    async def confirm(self, epoch: int, seqs: Sequence[int]) -> int:
        """Record delivery of exactly these parcels; for consumers that count the broker's word as delivery."""

    async def again(self, epoch: int, seqs: Sequence[int]) -> None:
        """Put parcels back to new: the connection was lost, or no acknowledgement came in time."""

    def backlog(self) -> Backlog:
        """Return a snapshot of what is not committed."""

    async def oldest(self) -> int | None:
        """Return when the oldest of what is not committed was stored, ns since 1970 UTC; None when nothing waits.

        Any task may ask.
        """
