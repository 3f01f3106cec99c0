"""The books in PostgreSQL, kept by any number of writers: what arrived, and the newest line of each device's hour."""

import json
from collections.abc import Sequence
from typing import Any

import asyncpg

from uplink.receiver.books import DISCREPANCY, Books, Finding, Place
from uplink.receiver.postgres_schema import clean, columns_of

_ADD = """
INSERT INTO arrived SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::bigint[])
ON CONFLICT (gateway, uplink, hour, device) DO UPDATE SET rows = arrived.rows + excluded.rows
"""
_LOOK = """
SELECT asked.*, coalesce(ledger.revision, -1), coalesce(arrived.rows, 0), coalesce(unplaced.rows, 0)
FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[]) AS asked (gateway, uplink, hour, device)
LEFT JOIN ledger USING (gateway, uplink, hour, device)
LEFT JOIN arrived USING (gateway, uplink, hour, device)
LEFT JOIN arrived AS unplaced ON unplaced.gateway = asked.gateway AND unplaced.uplink = asked.uplink
    AND unplaced.hour = 0 AND unplaced.device = asked.device
"""
_KEEP = """
INSERT INTO ledger VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
ON CONFLICT (gateway, uplink, hour, device) DO UPDATE SET revision = excluded.revision, line = excluded.line,
    signature = excluded.signature, verified = excluded.verified, arrived = excluded.arrived,
    discrepancies = excluded.discrepancies
WHERE ledger.revision < excluded.revision
"""


async def settle(db: "asyncpg.Connection[Any]", books: Books) -> None:
    """Add up what arrived, and compare it with what was told; a step of the store's transaction."""
    rows = sorted((*_clean(place), rows) for place, rows in books.rows.items())
    if rows:
        await db.execute(_ADD, *columns_of(rows, 5))
    if not books.told:
        return
    places = sorted({_clean(told.place) for told in books.told})
    known = {tuple(row)[:4]: tuple(row)[4:] for row in await db.fetch(_LOOK, *columns_of(places, 4))}
    for told in books.told:
        place = _clean(told.place)
        revision, arrived, unplaced = known[place]
        if told.line.revision > revision:
            known[place] = (told.line.revision, arrived, unplaced)
            await _keep(db, place, books.compare(told, arrived, unplaced))


async def _keep(db: "asyncpg.Connection[Any]", place: Place, finding: Finding) -> None:
    told, wrong = finding.told, json.dumps(finding.wrong)
    values: Sequence[Any] = (told.line.revision, clean(told.text), told.signature, finding.verified, finding.arrived)
    await db.execute(_KEEP, *place, *values, wrong)
    if finding.wrong:
        await db.execute(
            "INSERT INTO event VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
            *(told.gateway, told.ts, place[3], DISCREPANCY, finding.severity, clean(finding.text), finding.facts),
            told.message,
        )


def _clean(place: Place) -> Place:
    gateway, uplink, hour, device = place
    return gateway, clean(uplink), hour, clean(device)
