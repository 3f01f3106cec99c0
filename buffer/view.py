"""A log that another process may be writing, or nobody: looked into without touching it."""

import sqlite3
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiosqlite

from buffer.schema import APPLICATION_ID, EVENT_KIND, VERSION, number, open_reader
from buffer.vault import Vault
from edge.core.batch import Event
from edge.core.catalogue import Catalogue, Tag, ValueKind
from edge.core.errors import CorruptSegment, LogError
from edge.core.language import say

_EVENTS_MAX = 1000
"""How many are fetched at once."""


@dataclass(frozen=True, slots=True)
class View:
    """One state of a log, as it was when the view was opened."""

    vault: Vault
    catalogue: Catalogue
    _db: aiosqlite.Connection

    async def fetch(self, query: str, parameters: tuple[Any, ...] = ()) -> Iterable[Any]:
        """Run a query and return all rows."""
        return await self._db.execute_fetchall(query, parameters)

    async def events(self, after: int) -> list[tuple[int, Event | None]]:
        """Return the next events behind a position, with theirs; None for one that is corrupt. Empty at the end."""
        found = list[tuple[int, Event | None]]()
        for position, body in await self.fetch(
            "SELECT position, data FROM segment LEFT JOIN body USING (position)"
            f" WHERE position > ? AND kind = {EVENT_KIND} ORDER BY position LIMIT {_EVENTS_MAX}",
            (after,),
        ):
            try:
                record = self.vault.read(position, body or b"")
            except CorruptSegment:
                record = None
            found.append((position, record if isinstance(record, Event) else None))
        return found


@asynccontextmanager
async def open_view(path: Path, *secrets: str | None) -> AsyncIterator[View]:
    """Open the log at `path` for reading alone. `secrets` are its own and the one of before, as `open_log` takes them.

    Raises:
        LogError: there is none, or it cannot be read; or it is sealed and the secret is not its own.
    """
    check_is_there(path)
    vault = Vault(*secrets)
    try:
        async with open_reader(path) as db:
            made = await number(db, "PRAGMA application_id"), await number(db, "PRAGMA user_version")
            if made != (APPLICATION_ID, VERSION):
                raise LogError(
                    say("{path} is no log of this version of Yulink", path=path),
                    hint=say("start the agent once: it brings an older log up to date"),
                )
            await db.execute("BEGIN")  # one state of the log for all that follows
            keys = [(int(row[0]), row[1]) for row in await db.execute_fetchall("SELECT id, wrapped FROM key")]
            if keys and not any(secrets):
                raise LogError(
                    say("the log {path} is encrypted", path=path),
                    hint=say("name the configuration too: its `log: encrypt` names the secret"),
                )
            vault.learn(keys)
            tags = []
            for tag, *hidden, kind in await db.execute_fetchall("SELECT id, device, name, unit, kind FROM tag"):
                device, name, unit = vault.show(tag, hidden[0], hidden[1], hidden[2])
                tags.append(Tag(tag, device, name, ValueKind(kind), unit))
            yield View(vault, Catalogue(tags), db)
    except sqlite3.Error as error:
        raise LogError(say("the log {path} cannot be read: {error}", path=path, error=error)) from error


def check_is_there(path: Path) -> None:
    """Raise LogError where there is no log."""
    if not path.is_file():
        raise LogError(say("there is no log at {path}", path=path), hint=say("name the agent's --data-dir"))
