"""The database's tables, and opening it the one way `FORMAT.md` allows."""

import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import aiosqlite

from buffer import aggregates, ledger, quality_days
from edge.core import lock
from edge.core.errors import LogError
from edge.core.language import say

APPLICATION_ID = 0x59554C4B
WAVEFORM_KIND, EVENT_KIND = 3, 4  # of a segment, as the codec numbers them
VERSION = 7

FOLLOWER = """
CREATE TABLE IF NOT EXISTS follower (name TEXT PRIMARY KEY, position INTEGER NOT NULL, state BLOB NOT NULL)
    WITHOUT ROWID;
"""
"""A table that format 5 gained: an older program does not know it and misreads nothing."""

_TABLES = (
    """
CREATE TABLE tag (id INTEGER PRIMARY KEY, device TEXT NOT NULL, name TEXT NOT NULL, kind TEXT NOT NULL,
    unit TEXT NOT NULL);
CREATE UNIQUE INDEX tag_copy ON tag (id, device, name, kind, unit);
CREATE TABLE segment (position INTEGER PRIMARY KEY, kind INTEGER NOT NULL, rows INTEGER NOT NULL,
    bytes INTEGER NOT NULL, ts_min INTEGER NOT NULL, ts_max INTEGER NOT NULL, stored INTEGER NOT NULL,
    class INTEGER NOT NULL DEFAULT 2, thinned INTEGER NOT NULL DEFAULT 0,
    hour INTEGER NOT NULL DEFAULT 0, devices BLOB);
CREATE TABLE body (position INTEGER PRIMARY KEY, data BLOB NOT NULL);
CREATE TABLE consumer (name TEXT PRIMARY KEY, cut INTEGER NOT NULL, event_cut INTEGER NOT NULL,
    away INTEGER NOT NULL DEFAULT 1) WITHOUT ROWID;
CREATE TABLE backlog (consumer TEXT NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,
    PRIMARY KEY (consumer, first)) WITHOUT ROWID;
CREATE INDEX segment_event ON segment (position) WHERE kind = 4;
CREATE TABLE epoch (epoch INTEGER PRIMARY KEY, started INTEGER NOT NULL);
CREATE TABLE parcel (consumer TEXT NOT NULL, epoch INTEGER NOT NULL, seq INTEGER NOT NULL, first INTEGER NOT NULL,
    last INTEGER NOT NULL, rows INTEGER NOT NULL, bytes INTEGER NOT NULL, state INTEGER NOT NULL,
    historical INTEGER NOT NULL, priority INTEGER NOT NULL, part INTEGER NOT NULL DEFAULT 0,
    parts INTEGER NOT NULL DEFAULT 1, instead_of TEXT NOT NULL DEFAULT '', notice TEXT NOT NULL DEFAULT '',
    held INTEGER NOT NULL DEFAULT 0, handed INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (consumer, epoch, seq)) WITHOUT ROWID;
CREATE INDEX parcel_waiting ON parcel (consumer, first) WHERE state < 2;
CREATE INDEX parcel_last ON parcel (last);
CREATE TABLE key (id INTEGER PRIMARY KEY, first INTEGER NOT NULL, wrapped BLOB NOT NULL);
CREATE TABLE gap (id INTEGER PRIMARY KEY, first INTEGER NOT NULL, last INTEGER NOT NULL, rows INTEGER NOT NULL,
    ts_min INTEGER NOT NULL, ts_max INTEGER NOT NULL, reason TEXT NOT NULL, class INTEGER NOT NULL, tags BLOB NOT NULL);
CREATE INDEX gap_last ON gap (last);
CREATE TABLE selection (consumer TEXT NOT NULL, first INTEGER NOT NULL, patterns TEXT NOT NULL,
    PRIMARY KEY (consumer, first)) WITHOUT ROWID;
CREATE TABLE quarantine (id INTEGER PRIMARY KEY, consumer TEXT NOT NULL, epoch INTEGER NOT NULL, seq INTEGER NOT NULL,
    since INTEGER NOT NULL, reason TEXT NOT NULL, rows INTEGER NOT NULL, ts_min INTEGER NOT NULL,
    ts_max INTEGER NOT NULL, instead_of TEXT NOT NULL, data BLOB NOT NULL, hour INTEGER NOT NULL DEFAULT 0,
    sent INTEGER NOT NULL DEFAULT 0);
"""
    + ledger.TABLES
    + ledger.FIRST
    + FOLLOWER
    + aggregates.TABLES
    + quality_days.TABLES
)

_CREATE = f"BEGIN; {_TABLES} PRAGMA application_id={APPLICATION_ID}; PRAGMA user_version={VERSION}; COMMIT;"

_UPGRADES = {
    # Parcels of format 1 hold events and data together: priority 0. Their consumers have cut both to the same place.
    1: """
        ALTER TABLE parcel ADD COLUMN priority INTEGER NOT NULL DEFAULT 0;
        ALTER TABLE consumer ADD COLUMN event_cut INTEGER NOT NULL DEFAULT 0;
        UPDATE consumer SET event_cut = cut;
        CREATE TABLE backlog (consumer TEXT NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,
            PRIMARY KEY (consumer, first)) WITHOUT ROWID;
        CREATE INDEX segment_event ON segment (position) WHERE kind = 4;
    """,
    # Parcels of format 2 are whole, stand for themselves alone, and lie between their positions.
    2: """
        ALTER TABLE parcel ADD COLUMN part INTEGER NOT NULL DEFAULT 0;
        ALTER TABLE parcel ADD COLUMN parts INTEGER NOT NULL DEFAULT 1;
        ALTER TABLE parcel ADD COLUMN instead_of TEXT NOT NULL DEFAULT '';
        ALTER TABLE parcel ADD COLUMN notice TEXT NOT NULL DEFAULT '';
        ALTER TABLE parcel ADD COLUMN held INTEGER NOT NULL DEFAULT 0;
        CREATE TABLE selection (consumer TEXT NOT NULL, first INTEGER NOT NULL, patterns TEXT NOT NULL,
            PRIMARY KEY (consumer, first)) WITHOUT ROWID;
        CREATE TABLE quarantine (id INTEGER PRIMARY KEY, consumer TEXT NOT NULL, epoch INTEGER NOT NULL,
            seq INTEGER NOT NULL, since INTEGER NOT NULL, reason TEXT NOT NULL, rows INTEGER NOT NULL,
            ts_min INTEGER NOT NULL, ts_max INTEGER NOT NULL, instead_of TEXT NOT NULL, data BLOB NOT NULL);
    """,
    # Gaps of format 3 know neither class nor tags.
    3: """
        CREATE UNIQUE INDEX tag_copy ON tag (id, device, name, kind, unit);
        ALTER TABLE segment ADD COLUMN class INTEGER NOT NULL DEFAULT 2;
        ALTER TABLE segment ADD COLUMN thinned INTEGER NOT NULL DEFAULT 0;
        UPDATE segment SET class = 7 WHERE kind = 4;
        CREATE TABLE key (id INTEGER PRIMARY KEY, first INTEGER NOT NULL, wrapped BLOB NOT NULL);
        ALTER TABLE gap RENAME TO gap_3;
        CREATE TABLE gap (id INTEGER PRIMARY KEY, first INTEGER NOT NULL, last INTEGER NOT NULL, rows INTEGER NOT NULL,
            ts_min INTEGER NOT NULL, ts_max INTEGER NOT NULL, reason TEXT NOT NULL, class INTEGER NOT NULL,
            tags BLOB NOT NULL);
        INSERT INTO gap (first, last, rows, ts_min, ts_max, reason, class, tags)
            SELECT first, last, rows, ts_min, ts_max, reason, 0, x'' FROM gap_3 ORDER BY first;
        DROP TABLE gap_3;
        CREATE INDEX gap_last ON gap (last);
    """,
    # What format 4 stored is in no ledger: it begins with the upgrade.
    4: """
        ALTER TABLE segment ADD COLUMN hour INTEGER NOT NULL DEFAULT 0;
        ALTER TABLE segment ADD COLUMN devices BLOB;
        ALTER TABLE consumer ADD COLUMN away INTEGER NOT NULL DEFAULT 1;
        ALTER TABLE parcel ADD COLUMN handed INTEGER NOT NULL DEFAULT 0;
    """
    + ledger.TABLES,
    # What format 5 set aside is of no hour, and of no device does it know since when in its first hour it was there.
    5: """
        ALTER TABLE quarantine ADD COLUMN hour INTEGER NOT NULL DEFAULT 0;
        ALTER TABLE quarantine ADD COLUMN sent INTEGER NOT NULL DEFAULT 0;
    """
    + ledger.FIRST
    + "INSERT INTO ledger_first SELECT device, min(hour), 0 FROM ledger GROUP BY device;",
    # Batches of format 6 have no revisions, and what intervals amounted to lies in them alone.
    6: aggregates.TABLES,
}
"""Format → the statements that make the next one of it."""


@asynccontextmanager
async def open_writer(path: Path) -> AsyncIterator[aiosqlite.Connection]:
    """Open the one connection that writes and checkpoints, creating the tables in a new file.

    Raises:
        LogError: not a log, a later version, or not accessible. Nothing is deleted.
        sqlite3.DatabaseError: damaged.
    """
    try:
        db = await aiosqlite.connect(path, isolation_level=None)
    except sqlite3.OperationalError as error:
        raise _unusable(path, error) from error
    try:
        try:
            await db.execute("PRAGMA cell_size_check=ON")
            await db.execute("PRAGMA secure_delete=OFF")  # on in Debian's SQLite: it would write every freed page again
            await db.execute("PRAGMA auto_vacuum=INCREMENTAL")
            await db.execute("PRAGMA journal_mode=WAL")
            await db.execute("PRAGMA synchronous=FULL")
            await db.execute("PRAGMA wal_autocheckpoint=2000")
            await db.execute("PRAGMA journal_size_limit=67108864")
            await _prepare(db, path)
        except sqlite3.OperationalError as error:
            raise _unusable(path, error) from error
        yield db
    finally:
        await db.close()


def create(db: sqlite3.Connection) -> None:
    """Make the tables in a new database, through a plain connection."""
    db.executescript(_CREATE)


async def _prepare(db: aiosqlite.Connection, path: Path) -> None:
    application = await number(db, "PRAGMA application_id")
    version = await number(db, "PRAGMA user_version")
    tables = await number(db, "SELECT count(*) FROM sqlite_master")
    if not tables and not application:
        await db.executescript(_CREATE)
    elif application != APPLICATION_ID:
        raise LogError(
            say("{path} is a database, but not a Yulink log", path=path), hint=say("name another --data-dir")
        )
    elif version > VERSION:
        raise LogError(
            say(
                "{path} was written by a later version of Yulink (format {version}, this one reads {known})",
                path=path,
                version=version,
                known=VERSION,
            ),
            hint=say("install the later version again, or name another --data-dir"),
        )
    else:
        for old in range(version, VERSION):
            await db.executescript(f"BEGIN; {_UPGRADES[old]} PRAGMA user_version={old + 1}; COMMIT;")
        await db.execute(FOLLOWER)
        await db.executescript(quality_days.TABLES)


def _unusable(path: Path, error: sqlite3.Error) -> LogError:
    return LogError(
        say("the log {path} cannot be opened: {error}", path=path, error=error),
        hint=say("check the folder's permissions and free space; move a damaged file aside, do not delete it"),
    )


@asynccontextmanager
async def open_reader(path: Path) -> AsyncIterator[aiosqlite.Connection]:
    """Open a connection that can neither write nor checkpoint."""
    db = await aiosqlite.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
    try:
        yield db
    finally:
        await db.close()


async def number(db: aiosqlite.Connection, query: str, parameters: tuple[object, ...] = ()) -> int:
    """Return the first column of the first row as int, 0 when there is none."""
    async with db.execute(query, parameters) as cursor:
        row = await cursor.fetchone()
    return int(row[0] or 0) if row else 0


@contextmanager
def hold(path: Path) -> Iterator[None]:
    """Hold the log for this process alone.

    Raises:
        LogError: another process has it; the message names it.
    """
    with ExitStack() as held:
        try:
            held.enter_context(lock.hold(path))
        except lock.InUse as error:
            raise LogError(
                say("the log {path} is in use by process {pid}", path=path, pid=error.holder),
                hint=say("stop that process, or give this one another --data-dir"),
            ) from error
        except OSError as error:
            raise LogError(say("the log's lock {path} cannot be made: {error}", path=path, error=error)) from error
        yield
