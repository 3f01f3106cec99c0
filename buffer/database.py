"""The log's file with its two connections, which may all be replaced while the log is open."""

import asyncio
import os
import sqlite3
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, closing, suppress
from pathlib import Path
from typing import Any, TypeVar

import aiosqlite

from buffer.salvage import is_damage, put_in_place
from buffer.schema import open_reader, open_writer

T = TypeVar("T")


class Damaged(sqlite3.DatabaseError):
    """A reader met damage; raised in the writer's task, which alone replaces the file."""

    sqlite_errorcode = sqlite3.SQLITE_CORRUPT


class Database:
    """One file. `db` belongs to the writer; everyone else reads through `read`."""

    db: aiosqlite.Connection
    reader: aiosqlite.Connection

    def __init__(self, path: Path) -> None:
        self.path = path
        self.generation = 0
        self.heal: Callable[[int], Awaitable[None]] | None = None
        """Called by a reader that met damage, with the generation it met it in; returns when the file is replaced."""
        self._open = AsyncExitStack()
        self._identity = (0, 0)
        self._usable = asyncio.Event()
        self._idle = asyncio.Event()
        self._reading = 0

    async def open(self) -> None:
        """Open both connections. Raises LogError, and sqlite3.DatabaseError where the file is damaged."""
        try:
            self.db = await self._open.enter_async_context(open_writer(self.path))
            self.reader = await self._open.enter_async_context(open_reader(self.path))
        except BaseException:
            await self.close()
            raise
        found = self.path.stat()
        self._identity = (found.st_dev, found.st_ino)
        self._usable.set()

    async def close(self) -> None:
        """Close both. The reader first: it must not be the last, which checkpoints."""
        self._usable.clear()
        while self._reading:
            self._idle.clear()
            await self._idle.wait()
        closing_now, self._open = self._open, AsyncExitStack()
        await closing_now.aclose()

    async def read(self, query: str, parameters: Sequence[object] = ()) -> list[Any]:
        """Return all rows of a query. Where the file is damaged it is replaced first, and the query runs again."""
        while True:
            await self._usable.wait()
            generation = self.generation
            self._reading += 1
            try:
                return list(await self.reader.execute_fetchall(query, parameters))
            except sqlite3.DatabaseError as error:
                if self.heal is None or not is_damage(error):
                    raise
            finally:
                self._reading -= 1
                if not self._reading:
                    self._idle.set()
            await self.heal(generation)

    async def replace(self, work: Callable[[], T]) -> T:
        """Close the file, do blocking work in a thread, open what lies there then, and return the work's result."""
        with suppress(sqlite3.Error):
            await self.close()
        try:
            return await asyncio.to_thread(work)
        finally:
            self.generation += 1
            await self.open()

    def is_detached(self) -> bool:
        """Tell whether the file that is open no longer lies at its path: someone removed or replaced it."""
        try:
            found = os.stat(self.path)
        except FileNotFoundError:
            return True
        return (found.st_dev, found.st_ino) != self._identity

    async def reattach(self) -> None:
        """Write what is open to its path again, and move aside what lies there. Used by the writer's task."""
        rescue = self.path.with_name(self.path.name + ".rescue")
        rescue.unlink(missing_ok=True)
        with closing(sqlite3.connect(rescue, isolation_level=None, check_same_thread=False)) as target:
            await self.db.backup(target)
        aside = self.path.with_name(f"{self.path.name}.found-{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}")

        def exchange() -> None:
            if not self.path.exists():  # then these are of the file that was removed, and the copy has what they hold
                for end in ("-wal", "-shm"):
                    self.path.with_name(self.path.name + end).unlink(missing_ok=True)
            put_in_place(rescue, self.path, aside)

        await self.replace(exchange)
