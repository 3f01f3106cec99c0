"""What was set aside in a log that another process may be writing, or nobody; and another try while nobody does."""

import sqlite3
from collections.abc import AsyncIterator, Collection, Iterable
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from pathlib import Path

from buffer import quarantine
from buffer.cuts import new_epoch
from buffer.fetch import Fetch
from buffer.quarantine import Quarantined
from buffer.schema import hold, number, open_writer
from buffer.view import check_is_there, open_view
from edge.core.batch import Batch, Event, Record
from edge.core.catalogue import Catalogue
from edge.core.errors import CorruptSegment, LogError, WrongInput
from edge.core.language import say

_uplink_of = attrgetter("uplink")


@dataclass(frozen=True, slots=True)
class Content:
    """An entry with what it holds. `records` is None where the disk damaged them; `catalogue` names their tags."""

    entry: Quarantined
    records: list[Record] | None
    catalogue: Catalogue
    retrying: bool

    @property
    def devices(self) -> list[str]:
        """The devices its rows are of; of an event, its source."""
        found = set[str]()
        for record in self.records or ():
            if isinstance(record, Event):
                found.add(record.source)
            else:
                tags = set(record.tag.tolist()) if isinstance(record, Batch) else {record.tag}
                found.update(self.catalogue[tag].device for tag in tags)
        return sorted(found)


async def read_quarantine(path: Path, uplink: str | None = None, *secrets: str | None) -> AsyncIterator[Content]:
    """Yield all that is set aside, of one uplink or of all, oldest first, without touching the log.

    `secrets` are the log's own and the one of before, as `open_log` takes them.

    Raises:
        WrongInput: the log knows no uplink of this name.
        LogError: there is no log, or it cannot be read; or it is sealed and the secret is not its own.
    """
    async with open_view(path, *secrets) as view:
        await _check(view.fetch, uplink)
        held = {int(held) for (held,) in await view.fetch("SELECT held FROM parcel WHERE held AND state < 2")}
        for entry in await quarantine.listed(view.fetch, uplink):
            records: list[Record] | None
            try:
                records = (await quarantine.find(view.fetch, view.vault, entry.id))[1]
            except CorruptSegment:
                records = None
            yield Content(entry, records, view.catalogue, entry.id in held)


async def retry_at_next_start(
    path: Path, now: int, uplink: str | None = None, ids: Collection[int] | None = None
) -> list[Quarantined]:
    """Make parcels of what is set aside, for the next start of the agent, and return the entries.

    `uplink` and `ids` limit it, None to all. What is on its way already is left out. Needs no secret, as nothing is
    opened. The parcels of an uplink are an epoch of their own, begun at `now`, in nanoseconds since 1970 UTC.

    Raises:
        WrongInput: the log knows no uplink of this name.
        LogError: there is no log, another process has it, or it is damaged.
    """
    check_is_there(path)
    with hold(path):
        try:
            async with open_writer(path) as db:
                await db.execute("BEGIN IMMEDIATE")
                await _check(db.execute_fetchall, uplink)
                trying = {
                    int(row[0]) for row in await db.execute_fetchall("SELECT held FROM parcel WHERE held AND state < 2")
                }
                chosen = [
                    entry
                    for entry in await quarantine.listed(db.execute_fetchall, uplink)
                    if entry.id not in trying and (ids is None or entry.id in ids)
                ]
                for name, entries in groupby(sorted(chosen, key=_uplink_of), _uplink_of):
                    epoch, cut = new_epoch(), await number(db, "SELECT cut FROM consumer WHERE name = ?", (name,))
                    await db.execute("INSERT INTO epoch VALUES (?, ?)", (epoch, now))
                    parcels = [quarantine.again(entry, cut) for entry in entries]
                    for seq, parcel in enumerate(parcels, 1):
                        parcel.epoch, parcel.seq = epoch, seq
                    await quarantine.put_parcels(db, name, parcels)
                await db.execute("COMMIT")
                return chosen
        except sqlite3.Error as error:
            raise LogError(
                say("the log {path} cannot be written: {error}", path=path, error=error),
                hint=say("start the agent once: it mends a damaged log"),
            ) from error


async def _check(fetch: Fetch, uplink: str | None) -> None:
    names = [str(name) for (name,) in await fetch("SELECT name FROM consumer ORDER BY name", ())]
    if uplink is not None and uplink not in names:
        raise unknown_uplink(uplink, names)


def unknown_uplink(uplink: str, names: Iterable[str]) -> WrongInput:
    """Return the error for a name that no uplink has."""
    listed = ", ".join(names) or say("none")
    return WrongInput(say("there is no uplink {name!r}", name=uplink), say("uplinks: {names}", names=listed))
