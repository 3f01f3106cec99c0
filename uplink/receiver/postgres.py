"""The brain's store in PostgreSQL: message, rows and progress in one transaction, for one receiver or many writers."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import asyncpg
from cryptography import x509

from edge.core.errors import Disconnected
from edge.core.language import say
from uplink import batch_pb2 as pb
from uplink.encode import BadMessage
from uplink.receiver import postgres_books
from uplink.receiver.books import Books
from uplink.receiver.columns import Readings, Tags, read
from uplink.receiver.copy import rows_of
from uplink.receiver.message import (
    Arrived,
    Refused,
    absent,
    gateway_of,
    husk,
    kind_of,
    refuse,
    verify,
    verify_catalogue,
    verify_health,
)
from uplink.receiver.postgres_schema import clean, columns_of, connect
from uplink.receiver.reception import Outcome, StoreCounters

ANNOUNCEMENTS_MAX = 20
QUARANTINE_MAX = 100_000
GATEWAYS_MAX = 20_000
RETRIES_MAX = 5

_ADD_MESSAGES = """
INSERT INTO message (gateway, epoch, seq, rows, bytes, received, historical, sealed)
SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::boolean[],
    $8::boolean[]) ON CONFLICT DO NOTHING RETURNING gateway, epoch, seq, id
"""
_ADD_EPOCHS = """
INSERT INTO progress (gateway, epoch) SELECT * FROM unnest($1::text[], $2::bigint[]) ON CONFLICT DO NOTHING;
"""
_LOCK_PROGRESS = """
SELECT gateway, epoch, replaced FROM progress JOIN unnest($1::text[], $2::bigint[]) AS asked (gateway, epoch)
USING (gateway, epoch) ORDER BY gateway, epoch FOR UPDATE OF progress
"""
_HOLDS = """
SELECT 1 FROM message WHERE gateway = $1 AND epoch = $2 AND seq BETWEEN $3 AND $4 LIMIT 1
"""
_ADD_SAMPLES = """
WITH put AS (
    INSERT INTO sample SELECT * FROM staging ORDER BY tag, ts
    ON CONFLICT (tag, ts) DO UPDATE SET (value, whole, text, quality, message, revision) = (
        SELECT value, whole, text, quality, message, revision FROM (VALUES
            (sample.value, sample.whole, sample.text, sample.quality, sample.message, sample.revision, 0),
            (excluded.value, excluded.whole, excluded.text, excluded.quality, excluded.message, excluded.revision, 1)
        ) AS choice (value, whole, text, quality, message, revision, place) ORDER BY revision DESC, place DESC LIMIT 1)
    RETURNING message, xmax <> 0 AS replaced)
UPDATE message SET replaced = message.replaced + found.rows
FROM (SELECT message AS id, count(*) AS rows FROM put WHERE replaced GROUP BY message) AS found
WHERE message.id = found.id
"""
_ADD_PROGRESS = """
UPDATE progress SET held = progress.held + added.held, replaced = progress.replaced + coalesce(added.replaced, '{}')
FROM (SELECT gateway, epoch, range_agg(int8range(first, last + 1)) AS held,
        range_agg(int8range(first, last + 1)) FILTER (WHERE replaced) AS replaced
    FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::boolean[])
        AS new (gateway, epoch, first, last, replaced)
    GROUP BY gateway, epoch) AS added
WHERE progress.gateway = added.gateway AND progress.epoch = added.epoch
"""
_ADD_REFUSED = """
UPDATE progress SET refused = progress.refused + added.seqs
FROM (SELECT gateway, epoch, range_agg(int8range(seq, seq + 1)) AS seqs
    FROM unnest($1::text[], $2::bigint[], $3::bigint[]) AS new (gateway, epoch, seq) GROUP BY gateway, epoch) AS added
WHERE progress.gateway = added.gateway AND progress.epoch = added.epoch
"""
_ACKNOWLEDGEMENTS = """
SELECT gateway, epoch, coalesce(upper(held) - 1, 0) AS through, ARRAY(
    SELECT ARRAY[lower(hole), upper(hole) - 1] FROM unnest(int8multirange(int8range(1, upper(held))) - held) AS hole
    WHERE NOT isempty(held) ORDER BY hole) AS missing, ARRAY(
    SELECT ARRAY[lower(one), upper(one) - 1] FROM unnest(refused - held) AS one ORDER BY one) AS refused
FROM progress JOIN unnest($1::text[], $2::bigint[]) AS asked (gateway, epoch) USING (gateway, epoch)
WHERE NOT isempty(held + refused)
"""
_HEALTH = """
INSERT INTO health VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (gateway) DO UPDATE SET state = excluded.state,
    started = excluded.started, place = excluded.place, received = excluded.received, facts = excluded.facts
WHERE health.started <> excluded.started OR health.place < excluded.place
"""
_CATALOGUE = """
INSERT INTO tag (gateway, device, protocol, id, name, kind, unit, ucum, path, classification)
SELECT $1, $2, $3, *
FROM unnest($4::bigint[], $5::text[], $6::smallint[], $7::text[], $8::text[], $9::text[], $10::text[])
ON CONFLICT (gateway, id) DO UPDATE SET ucum = excluded.ucum, path = excluded.path,
    classification = excluded.classification, protocol = excluded.protocol
"""


class PostgresStore:
    """A `Store` in a database. `shared`: several processes of this kind write into it at the same time."""

    def __init__(self, dsn: str, *, shared: bool = False, authorities: Sequence[x509.Certificate] = ()) -> None:
        self._dsn = dsn
        self._authorities = authorities
        self._shared = shared
        self._db: asyncpg.Connection[Any] | None = None
        self._tags: dict[str, Tags] = {}
        self.counters = StoreCounters()

    async def open(self) -> None:
        """Connect, making the tables where there are none; see `connect` for what it raises."""
        if self._db is None or self._db.is_closed():
            self._db = await connect(self._dsn, shared=self._shared)

    async def close(self) -> None:
        """Disconnect."""
        if self._db is not None:
            self._db.terminate()  # a polite end could wait for a dead server

    async def settle(self) -> None:
        """Do nothing: a commit leaves nothing over."""

    async def announcements(self, gateway: str) -> list[tuple[str, bytes]]:
        """Return the stored key announcements of a gateway, oldest first, as (topic, payload)."""
        rows = await self._safely(
            lambda db: db.fetch(
                "SELECT topic, payload FROM announcement WHERE topic = $1 ORDER BY id", f"v1/{gateway}/key"
            )
        )
        return [(topic, payload) for topic, payload in rows]

    async def acknowledgements(self, epochs: Iterable[tuple[str, int]]) -> list[tuple[str, dict[str, Any]]]:
        """Return the acknowledgement of each (gateway, epoch) of which something is stored."""
        gateways, numbers = columns_of(sorted(epochs), 2)
        rows = await self._safely(lambda db: db.fetch(_ACKNOWLEDGEMENTS, gateways, numbers))
        return [
            (
                gateway,
                {"epoch": epoch, "committed_through": through, "missing": missing}
                | ({"refused": refused} if refused else {}),
            )
            for gateway, epoch, through, missing, refused in rows
        ]

    async def commit(self, arrived: Sequence[Arrived], now: int, refused: Sequence[Refused] = ()) -> Outcome:
        """Store messages in one transaction; see `Store.commit`.

        What PostgreSQL itself refuses, which cannot be foreseen, is found by storing each message alone, and put aside.
        For good only when it is a value that it cannot hold: a constraint is the operator's, and may go.
        """
        try:
            return await self._commit(arrived, now, refused)
        except (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError) as error:
            if len(arrived) == 1:
                (each,) = arrived
                aside = refuse(each, error)
                if not isinstance(error, asyncpg.DataError):
                    aside = replace(aside, number=None)
                return await self._commit([], now, [*refused, aside])
        whole = await self._commit([], now, refused)
        for place, each in enumerate(arrived):
            outcome = await self.commit([each], now)
            whole.acknowledgements += outcome.acknowledgements
            whole.unresolved += [place for _ in outcome.unresolved]
        return whole

    async def _commit(self, arrived: Sequence[Arrived], now: int, refused: Sequence[Refused]) -> Outcome:
        for attempt in range(RETRIES_MAX):
            transaction = _Transaction(self._tags, now, Books(self._authorities))
            try:
                await self._safely(lambda db, new=transaction: new.run(db, arrived, refused))  # type: ignore[misc]
                break
            except (asyncpg.DeadlockDetectedError, asyncpg.SerializationError):
                if attempt == RETRIES_MAX - 1:
                    raise
            finally:
                if len(self._tags) > GATEWAYS_MAX:
                    self._tags.clear()
        self.counters.messages += transaction.counters.messages
        self.counters.duplicates += transaction.counters.duplicates
        self.counters.rows += transaction.counters.rows
        self.counters.quarantined += transaction.counters.quarantined
        self.counters.unresolved += transaction.counters.unresolved
        acknowledgements = await self.acknowledgements(transaction.touched) if transaction.touched else []
        return Outcome(acknowledgements, transaction.unresolved)

    async def _safely(self, work: Callable[["asyncpg.Connection[Any]"], Any]) -> Any:
        """Run something on the connection. Raises Disconnected when it is, or gets, lost."""
        if self._db is None or self._db.is_closed():
            raise Disconnected(say("the connection to PostgreSQL was lost"))
        try:
            return await work(self._db)
        except (
            *(
                OSError,
                TimeoutError,
                asyncpg.InterfaceError,
                asyncpg.InternalClientError,
                asyncpg.PostgresConnectionError,
            ),
            *(
                asyncpg.OperatorInterventionError,
                asyncpg.InsufficientResourcesError,
                asyncpg.ReadOnlySQLTransactionError,
            ),
        ) as error:
            self._db.terminate()
            self._tags.clear()
            raise Disconnected(
                say("PostgreSQL failed: {error}", error=error or type(error).__name__),
                say("nothing is lost: what is not committed comes again"),
            ) from error
        except BaseException:
            self._tags.clear()  # it may know what was rolled back
            raise


class _Transaction:
    """One group of messages on its way into the database."""

    def __init__(self, tags: dict[str, Tags], now: int, books: Books) -> None:
        self._books = books
        self._tags = tags
        self._now = now
        self._aside: list[Refused] = []
        self._batches: dict[tuple[str, int, int], tuple[pb.Batch, Readings, Arrived]] = {}
        self._absent: list[tuple[str, int, int, int, bool]] = []
        self.unresolved: list[int] = []
        self.touched: set[tuple[str, int]] = set()
        self.counters = StoreCounters()

    async def run(self, db: "asyncpg.Connection[Any]", arrived: Sequence[Arrived], refused: Sequence[Refused]) -> None:
        async with db.transaction():
            self._aside = [*refused]
            for each in arrived:
                if kind_of(each.topic) == "key":
                    await self._keep_announcement(db, each)
                elif kind_of(each.topic) == "catalog":
                    await self._learn(db, each)
                elif kind_of(each.topic) == "health":
                    await self._keep_health(db, each)
            for place, each in enumerate(arrived):
                if kind_of(each.topic) not in ("key", "catalog", "health"):
                    await self._read(db, place, each)
            numbers = [(gateway_of(one.topic), *one.number) for one in self._aside if one.number is not None]
            self.touched.update(number[:2] for number in numbers)
            if self.touched:
                await self._insert(db)
                await db.execute(_ADD_REFUSED, *columns_of(numbers, 3))
            if self._aside:
                await self._quarantine(db)

    async def _keep_announcement(self, db: "asyncpg.Connection[Any]", each: Arrived) -> None:
        await db.execute(
            "INSERT INTO announcement (topic, payload, received) VALUES ($1, $2, $3)",
            *(each.topic, each.payload, self._now),
        )
        await db.execute(
            "DELETE FROM announcement WHERE topic = $1 AND id <="
            " (SELECT id FROM announcement WHERE topic = $1 ORDER BY id DESC LIMIT 1 OFFSET $2)",
            *(each.topic, ANNOUNCEMENTS_MAX),
        )

    async def _keep_health(self, db: "asyncpg.Connection[Any]", each: Arrived) -> None:
        try:
            health = verify_health(each.topic, each.payload)
        except BadMessage as error:
            self._aside.append(Refused(each.topic, each.payload, str(error)))
            return
        await db.execute(
            _HEALTH,
            *(health.gateway, clean(health.state), clean(health.started), health.place, self._now),
            clean(health.facts),
        )

    async def _learn(self, db: "asyncpg.Connection[Any]", each: Arrived) -> None:
        try:
            told = verify_catalogue(each.topic, each.payload)
        except BadMessage as error:
            self._aside.append(Refused(each.topic, each.payload, str(error)))
            return
        tags = [
            (
                tag.id,
                clean(tag.name),
                tag.kind,
                clean(tag.unit),
                tag.ucum,
                clean(tag.path),
                clean(tag.classification),
            )
            for tag in sorted(told.tags, key=lambda tag: tag.id)
        ]
        known = await db.fetch(
            "SELECT id, name, kind, unit, ucum, path, classification FROM tag WHERE gateway = $1 AND device = $2"
            " AND protocol = $3",
            *(told.gateway, told.device, told.protocol),
        )
        if not {tuple(row) for row in known}.issuperset(tags):
            await db.execute(_CATALOGUE, told.gateway, told.device, told.protocol, *columns_of(tags, 7))
        await self._load(db, told.gateway)

    async def _load(self, db: "asyncpg.Connection[Any]", gateway: str) -> Tags:
        tags = self._tags.setdefault(gateway, Tags())
        for row in await db.fetch("SELECT id, key, kind, device FROM tag WHERE gateway = $1", gateway):
            tags.learn(*row)
        return tags

    async def _read(self, db: "asyncpg.Connection[Any]", place: int, each: Arrived) -> None:
        try:
            message = verify(each)
            tags = self._tags.get(message.gateway) or await self._load(db, message.gateway)
            readings = read(message, tags)
            if readings is None:  # another writer may have stored the catalogue
                readings = read(message, await self._load(db, message.gateway))
        except BadMessage as error:
            self._aside.append(refuse(each, error))
            return
        if readings is None:
            self.counters.unresolved += 1
            self.unresolved.append(place)
            return
        self.touched.add((message.gateway, message.epoch))
        self.touched.update((message.gateway, epoch) for epoch, _, _ in absent(message))
        key = (message.gateway, message.epoch, message.seq)
        self.counters.duplicates += key in self._batches
        self._batches[key] = (message, readings, each)

    async def _insert(self, db: "asyncpg.Connection[Any]") -> None:
        epochs = columns_of(sorted(self.touched), 2)
        await db.execute(_ADD_EPOCHS, *epochs)
        await self._leave_out(db, await db.fetch(_LOCK_PROGRESS, *epochs))
        facts = [
            (
                *(*key, len(readings) + len(message.waveforms), len(each.payload), self._now),
                *(message.historical, each.sealed),
            )
            for key, (message, readings, each) in sorted(self._batches.items(), key=lambda item: item[0])
        ]
        added = await db.fetch(_ADD_MESSAGES, *columns_of(facts, 8))
        self.counters.duplicates += len(self._batches) - len(added)
        if not added:
            return
        new = [(row["id"], *self._batches[row["gateway"], row["epoch"], row["seq"]][:2]) for row in added]
        self.counters.messages += len(new)
        self.counters.rows += sum(len(readings) + len(message.waveforms) for _, message, readings in new)
        await self._copy(db, [(key, readings) for key, _, readings in new])
        for key, message, readings in new:
            await self._insert_singles(db, key, message)
            self._books.take(key, message, readings, self._tags[message.gateway])
        await postgres_books.settle(db, self._books)
        held = [(row["gateway"], row["epoch"], row["seq"], row["seq"], False) for row in added]
        await db.execute(_ADD_PROGRESS, *columns_of([*held, *self._absent], 5))

    async def _leave_out(self, db: "asyncpg.Connection[Any]", progress: Sequence[Any]) -> None:
        """Drop what comes late after its parts, and leave of parts only the identity where the whole is held.

        Whichever comes first counts, in the database or in this very group.
        """
        replaced = [(gateway, epoch, one.lower, one.upper - 1) for gateway, epoch, ranges in progress for one in ranges]
        before = list[tuple[str, int, int]]()
        for key, (message, _, each) in list(self._batches.items()):
            if any(key[:2] == one[:2] and one[2] <= key[2] <= one[3] for one in replaced):
                self.counters.duplicates += 1
                del self._batches[key]
                continue
            wholes = [(message.gateway, one.epoch, one.first, one.last) for one in message.instead_of]
            here = any(one[:2] == whole[:2] and whole[2] <= one[2] <= whole[3] for whole in wholes for one in before)
            if here or any([await db.fetchval(_HOLDS, *whole) for whole in wholes]):
                empty = husk(message)
                readings = read(empty, Tags())
                assert readings is not None
                self._batches[key] = (empty, readings, each)
            before.append(key)
            replaced += wholes
            self._absent += [(message.gateway, *one, place < len(wholes)) for place, one in enumerate(absent(message))]

    async def _copy(self, db: "asyncpg.Connection[Any]", new: Sequence[tuple[int, Readings]]) -> None:
        binary, repeats = rows_of(new)
        if binary is None:
            return
        await db.copy_to_table("staging", source=binary, format="binary")
        await db.execute(_ADD_SAMPLES)
        if repeats:
            await db.executemany("UPDATE message SET replaced = replaced + $2 WHERE id = $1", sorted(repeats.items()))

    async def _insert_singles(self, db: "asyncpg.Connection[Any]", key: int, message: pb.Batch) -> None:
        gateway, tags = message.gateway, self._tags[message.gateway]
        if message.waveforms:
            await db.executemany(
                "INSERT INTO waveform VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (tag, ts) DO UPDATE"
                " SET message = excluded.message, int16_samples = excluded.int16_samples,"
                " float32_samples = excluded.float32_samples, quality = excluded.quality",
                [
                    (tags.key(wave.tag), wave.ts, wave.rate_hz, wave.full_scale, wave.quality,
                     wave.int16_samples or None, wave.float32_samples or None, key)
                    for wave in message.waveforms
                ],
            )  # fmt: skip
        if message.events:
            await db.executemany(
                "INSERT INTO event VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
                [
                    (
                        gateway,
                        e.ts,
                        clean(e.source),
                        clean(e.kind),
                        e.severity,
                        clean(e.message),
                        clean(e.facts_json),
                        key,
                    )
                    for e in message.events
                ],
            )
        if message.gaps:
            await db.executemany(
                "INSERT INTO gap (gateway, rows, ts_min, ts_max, reason, message, data_class, tags, tag_rows)"
                " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
                [
                    (
                        *(gateway, gap.rows, gap.ts_min, gap.ts_max, clean(gap.reason), key),
                        *(clean(gap.data_class), list(gap.tags), list(gap.tag_rows)),
                    )
                    for gap in message.gaps
                ],
            )

    async def _quarantine(self, db: "asyncpg.Connection[Any]") -> None:
        self.counters.quarantined += len(self._aside)
        await db.executemany(
            "INSERT INTO quarantine (received, topic, reason, payload) VALUES ($1, $2, $3, $4)",
            [(self._now, clean(each.topic), clean(each.reason), each.payload) for each in self._aside],
        )
        await db.execute("DELETE FROM quarantine WHERE id <= (SELECT max(id) FROM quarantine) - $1", QUARANTINE_MAX)
