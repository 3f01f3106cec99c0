"""The ledger of a log that another process may be writing, or nobody."""

import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from buffer.ledger import Ledger, lines
from buffer.schema import APPLICATION_ID, VERSION, number, open_reader
from buffer.vault import Vault
from edge.core.catalogue import Catalogue, Tag, ValueKind
from edge.core.errors import LogError
from edge.core.language import say
from edge.core.ledger import Line


async def read_ledger(path: Path, first: int, last: int, secret: str | None = None) -> list[Line]:
    """Return the lines of the hours `first` to `last`, both included, without touching the log.

    Raises:
        LogError: there is none, or it cannot be read; or it is sealed and the secret is not its own.
    """
    if not path.is_file():
        raise LogError(say("there is no log at {path}", path=path), hint=say("name the agent's --data-dir"))
    vault = Vault(secret)
    try:
        async with open_reader(path) as db:
            made = await number(db, "PRAGMA application_id"), await number(db, "PRAGMA user_version")
            if made != (APPLICATION_ID, VERSION):
                raise LogError(
                    say("{path} is no log of this version of Yulink", path=path),
                    hint=say("start the agent once: it brings an older log up to date"),
                )
            vault.learn([(int(row[0]), row[1]) for row in await db.execute_fetchall("SELECT id, wrapped FROM key")])

            async def fetch(query: str, parameters: tuple[Any, ...]) -> Iterable[Any]:
                return await db.execute_fetchall(query, parameters)

            tags = []
            for tag, device, name, kind, unit in await fetch("SELECT id, device, name, kind, unit FROM tag", ()):
                tags.append(Tag(tag, *vault.show(tag, device, name, unit)[:2], ValueKind(kind), unit))
            ledger = Ledger(Catalogue(tags), vault)
            await db.execute("BEGIN")  # one state of the log for all that follows
            await ledger.load(fetch)
            consumers = [str(row[0]) for row in await fetch("SELECT name FROM consumer ORDER BY name", ())]
            return await lines(fetch, ledger, consumers, first, last)
    except sqlite3.Error as error:
        raise LogError(say("the log {path} cannot be read: {error}", path=path, error=error)) from error
