"""The books in SQLite: what arrived, and the newest line of each device's hour."""

import json
import sqlite3

from uplink.receiver.books import Books, Finding, Place

TABLES = """
CREATE TABLE IF NOT EXISTS arrived (gateway TEXT NOT NULL, uplink TEXT NOT NULL, hour INTEGER NOT NULL,
    device TEXT NOT NULL, rows INTEGER NOT NULL, PRIMARY KEY (gateway, uplink, hour, device)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS ledger (gateway TEXT NOT NULL, uplink TEXT NOT NULL, hour INTEGER NOT NULL,
    device TEXT NOT NULL, revision INTEGER NOT NULL, line TEXT NOT NULL, signature TEXT NOT NULL,
    verified INTEGER NOT NULL, arrived INTEGER NOT NULL, discrepancies TEXT NOT NULL,
    PRIMARY KEY (gateway, uplink, hour, device)) WITHOUT ROWID;
"""


def settle(db: sqlite3.Connection, books: Books) -> list[Finding]:
    """Add up what arrived, and compare it with what was told; a step of the store's transaction."""
    db.executemany(
        "INSERT INTO arrived VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET rows = rows + excluded.rows",
        [(*place, rows) for place, rows in books.rows.items()],
    )
    found = []
    for told in books.told:
        ((newer,),) = db.execute(
            "SELECT count(*) FROM ledger WHERE gateway = ? AND uplink = ? AND hour = ? AND device = ?"
            " AND revision >= ?",
            (*told.place, told.line.revision),
        )
        if newer:
            continue
        gateway, uplink, hour, device = told.place
        arrived, unplaced = (_arrived(db, (gateway, uplink, of, device)) for of in (hour, 0))
        finding = books.compare(told, arrived, unplaced)
        db.execute(
            "INSERT OR REPLACE INTO ledger VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (*told.place, told.line.revision, told.text, told.signature, finding.verified, finding.arrived,
             json.dumps(finding.wrong)),
        )  # fmt: skip
        found.append(finding)
    return found


def _arrived(db: sqlite3.Connection, place: Place) -> int:
    found = db.execute(
        "SELECT rows FROM arrived WHERE gateway = ? AND uplink = ? AND hour = ? AND device = ?", place
    ).fetchone()
    return int(found[0]) if found else 0
