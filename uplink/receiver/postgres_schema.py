"""PostgreSQL's tables, and opening a connection to them with errors that say what to mend."""

from collections.abc import Sequence
from typing import Any

import asyncpg

from edge.core.errors import Disconnected, WrongInput, YulinkError
from edge.core.language import say

VERSION_MIN = 140_000  # multiranges
LOCK_WAIT_MS = 3000
"""How long the server may need to notice that the receiver before, or our own last connection, is gone."""
CONNECT_DEADLINE_S = 10.0
COMMAND_DEADLINE_S = 120.0

# `held` is what has arrived of an epoch, or will never come, as ranges of seq; `replaced` of it came in parts;
# `refused` arrived, but can never be stored. The row is locked while a message of the epoch is stored, so however many
# writers there are, an acknowledgement never tells of more or less than what is committed.
# `ts` is in nanoseconds; PostgreSQL's own time has microseconds, and two readings may lie closer together.
_TABLES = """
CREATE SCHEMA IF NOT EXISTS yulink;
CREATE TABLE IF NOT EXISTS yulink.tag (key bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, gateway text NOT NULL,
    id bigint NOT NULL, device text NOT NULL, name text NOT NULL, kind smallint NOT NULL, unit text NOT NULL,
    ucum text NOT NULL, path text NOT NULL, classification text NOT NULL, protocol text NOT NULL, UNIQUE (gateway, id));
CREATE TABLE IF NOT EXISTS yulink.message (id bigint GENERATED ALWAYS AS IDENTITY UNIQUE, gateway text NOT NULL,
    epoch bigint NOT NULL, seq bigint NOT NULL, rows bigint NOT NULL, replaced bigint NOT NULL DEFAULT 0,
    bytes bigint NOT NULL, received bigint NOT NULL, historical boolean NOT NULL, sealed boolean NOT NULL,
    PRIMARY KEY (gateway, epoch, seq));
CREATE TABLE IF NOT EXISTS yulink.progress (gateway text NOT NULL, epoch bigint NOT NULL,
    held int8multirange NOT NULL DEFAULT '{}', PRIMARY KEY (gateway, epoch));
ALTER TABLE yulink.progress ADD COLUMN IF NOT EXISTS replaced int8multirange NOT NULL DEFAULT '{}';
ALTER TABLE yulink.progress ADD COLUMN IF NOT EXISTS refused int8multirange NOT NULL DEFAULT '{}';
CREATE TABLE IF NOT EXISTS yulink.sample (tag bigint NOT NULL, ts bigint NOT NULL, value double precision,
    whole bigint, text text, quality bigint NOT NULL, message bigint NOT NULL, PRIMARY KEY (tag, ts));
ALTER TABLE yulink.sample ADD COLUMN IF NOT EXISTS revision bigint NOT NULL DEFAULT 0;
CREATE TABLE IF NOT EXISTS yulink.waveform (tag bigint NOT NULL, ts bigint NOT NULL, rate_hz double precision NOT NULL,
    full_scale double precision NOT NULL, quality bigint NOT NULL, int16_samples bytea, float32_samples bytea,
    message bigint NOT NULL, PRIMARY KEY (tag, ts));
CREATE TABLE IF NOT EXISTS yulink.event (gateway text NOT NULL, ts bigint NOT NULL, source text NOT NULL,
    kind text NOT NULL, severity integer NOT NULL, text text NOT NULL, facts text NOT NULL, message bigint NOT NULL);
CREATE INDEX IF NOT EXISTS event_ts ON yulink.event (ts);
CREATE TABLE IF NOT EXISTS yulink.gap (gateway text NOT NULL, rows bigint NOT NULL, ts_min bigint NOT NULL,
    ts_max bigint NOT NULL, reason text NOT NULL, message bigint NOT NULL);
ALTER TABLE yulink.gap ADD COLUMN IF NOT EXISTS data_class text NOT NULL DEFAULT '';
ALTER TABLE yulink.gap ADD COLUMN IF NOT EXISTS tags bigint[] NOT NULL DEFAULT '{}';
ALTER TABLE yulink.gap ADD COLUMN IF NOT EXISTS tag_rows bigint[] NOT NULL DEFAULT '{}';
CREATE TABLE IF NOT EXISTS yulink.health (gateway text PRIMARY KEY, state text NOT NULL, started text NOT NULL,
    place bigint NOT NULL, received bigint NOT NULL, facts text NOT NULL);
CREATE TABLE IF NOT EXISTS yulink.announcement (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, topic text NOT NULL,
    payload bytea NOT NULL, received bigint NOT NULL);
CREATE INDEX IF NOT EXISTS announcement_topic ON yulink.announcement (topic, id);
CREATE TABLE IF NOT EXISTS yulink.quarantine (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    received bigint NOT NULL, topic text NOT NULL, reason text NOT NULL, payload bytea NOT NULL);
CREATE TABLE IF NOT EXISTS yulink.arrived (gateway text NOT NULL, uplink text NOT NULL, hour bigint NOT NULL,
    device text NOT NULL, rows bigint NOT NULL, PRIMARY KEY (gateway, uplink, hour, device));
CREATE TABLE IF NOT EXISTS yulink.ledger (gateway text NOT NULL, uplink text NOT NULL, hour bigint NOT NULL,
    device text NOT NULL, revision bigint NOT NULL, line text NOT NULL, signature text NOT NULL,
    verified boolean NOT NULL, arrived bigint NOT NULL, discrepancies text NOT NULL,
    PRIMARY KEY (gateway, uplink, hour, device));
CREATE OR REPLACE VIEW yulink.reading AS SELECT gateway, device, name AS tag,
    timestamptz 'epoch' + ts / 1000 * interval '1 microsecond' AS time, ts, value,
    CASE WHEN kind = 3 AND whole < 0 THEN whole + 18446744073709551616 ELSE whole END::numeric AS whole, text, unit,
    quality, kind, message, revision FROM yulink.sample JOIN yulink.tag ON tag.key = sample.tag;
"""
_STAGING = "CREATE TEMP TABLE staging (LIKE yulink.sample) ON COMMIT DELETE ROWS"
_LOCK = 0x59554C4B  # the key of the advisory lock: one `receive`, or any number of `write`


async def connect(dsn: str, *, shared: bool) -> "asyncpg.Connection[Any]":
    """Return a connection with the tables made and the lock held. `shared`: beside others that share, too.

    Raises:
        WrongInput: the address is none, or the server refuses us, the database or the rights.
        Disconnected: the server cannot be reached now.
        YulinkError: another receiver uses the database.
    """
    try:
        connection = await asyncpg.connect(
            dsn,
            timeout=CONNECT_DEADLINE_S,
            command_timeout=COMMAND_DEADLINE_S,
            server_settings={"application_name": "yulink", "search_path": "yulink,public"},
        )
    except asyncpg.CannotConnectNowError as error:
        raise Disconnected(say("PostgreSQL cannot be reached: {error}", error=error)) from error
    except (ValueError, asyncpg.ClientConfigurationError) as error:
        raise WrongInput(
            say("not an address of PostgreSQL: {error}", error=error),
            say("write postgresql://user@host:5432/database; the password belongs into ~/.pgpass"),
        ) from error
    except (asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InvalidCatalogNameError) as error:
        raise WrongInput(
            say("PostgreSQL refuses us: {error}", error=error),
            say("check user and database in --postgres, and the password in ~/.pgpass"),
        ) from error
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise Disconnected(
            say("PostgreSQL cannot be reached: {error}", error=error or type(error).__name__),
            say("check address, firewall and whether it runs"),
        ) from error
    try:
        await _prepare(connection, shared)
    except BaseException:
        connection.terminate()
        raise
    return connection


async def _prepare(connection: "asyncpg.Connection[Any]", shared: bool) -> None:
    if await connection.fetchval("SELECT current_setting('server_version_num')::int") < VERSION_MIN:
        raise YulinkError(say("PostgreSQL is too old"), say("use PostgreSQL 14 or later"))
    lock = "pg_advisory_lock_shared" if shared else "pg_advisory_lock"
    await connection.execute(f"SET lock_timeout = {LOCK_WAIT_MS}")
    try:
        await connection.execute(f"SELECT {lock}($1)", _LOCK)
    except asyncpg.LockNotAvailableError as error:
        raise YulinkError(
            say("the database is in use by another receiver"),
            say("stop it; several processes on one database are `yulink write`"),
        ) from error
    await connection.execute("RESET lock_timeout")
    if await connection.fetchval("SHOW synchronous_commit") == "off":  # an acknowledgement would promise too much
        await connection.execute("SET synchronous_commit = on")
    try:
        async with connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK + 1)
            await connection.execute(_TABLES)
        await connection.execute(_STAGING)
    except asyncpg.InsufficientPrivilegeError as error:
        raise WrongInput(
            say("PostgreSQL refuses us: {error}", error=error),
            say("the user needs the rights to create a schema and temporary tables in this database"),
        ) from error


def columns_of(rows: Sequence[tuple[Any, ...]], count: int) -> list[list[Any]]:
    """Turn rows into `count` columns."""
    return [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in range(count)]


def clean(text: str) -> str:
    """PostgreSQL's text has no NUL; show it as its symbol."""
    return text.replace("\0", "\N{SYMBOL FOR NULL}")
