"""Brings what can be read of a damaged log into a new file, and tells what could not.

The damaged file is only read. It stays in its place until the new one is whole and durable; then it is moved aside
under a name of its own, and never deleted.
"""

import logging
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from buffer import pages
from buffer.aggregates import LEVEL_SHIFT, NUMBERS, RECOUNT, merge, opened
from buffer.records import kind_of, rows_of, times_of
from buffer.schema import create
from buffer.vault import Vault
from edge.core.batch import Batch, Event, Record
from edge.core.catalogue import ValueKind
from edge.core.codec import encode
from edge.core.data_class import DataClass
from edge.core.errors import CorruptSegment
from edge.core.language import say

RANGE = 1024
_DAY_S = 86_400
FAILURES_MAX = 20_000
END = 2**62
COPIED_WHOLE = (
    "key",
    "epoch",
    "consumer",
    "backlog",
    "parcel",
    "selection",
    "quarantine",
    "gap",
    "ledger",
    "ledger_way",
    "ledger_drop",
    "ledger_wanted",
    "ledger_device",
    "ledger_first",
    "follower",
    "quality_day",
    "quality_gap",
)
_CODES = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)

log = logging.getLogger("yulink.log")

Read = Callable[[int, bytes], Record]


def is_damage(error: BaseException) -> bool:
    """Tell whether an error says that the database file itself is damaged."""
    return isinstance(error, sqlite3.DatabaseError) and getattr(error, "sqlite_errorcode", 0) & 0xFF in _CODES


@dataclass(slots=True)
class Lost:
    """Positions that could not be brought over; rows, times and class are 0 where even these are unknown."""

    first: int
    last: int
    rows: int = 0
    ts_min: int = 0
    ts_max: int = 0
    data_class: int = 0


@dataclass(slots=True)
class Salvaged:
    """What came of it. `aside` is where the damaged file lies now; `unsure` names tables of which rows are missing."""

    aside: Path
    segments: int = 0
    rows: int = 0
    lost: list[Lost] = field(default_factory=list)
    unsure: set[str] = field(default_factory=set)

    def tell(self) -> None:
        """Say it to the operator."""
        log.error(
            say(
                "the log was damaged: {rows} rows were brought into a new file, {lost} rows are lost; "
                "the damaged file was kept as {aside}",
                rows=self.rows,
                lost=sum(each.rows for each in self.lost),
                aside=self.aside,
            )
        )


def salvage(path: Path, vault: Vault) -> Salvaged:
    """Make a new log of the damaged one at `path` and put it in its place.

    Nobody else may have the file open. Blocks for as long as copying the whole log takes.
    """
    done = Salvaged(_aside(path))
    rescue = path.with_name(path.name + ".rescue")
    for leftover in (rescue, rescue.with_name(rescue.name + "-journal")):
        leftover.unlink(missing_ok=True)  # of a salvage that was cut off; the source is still whole
    with closing(_open(path)) as source, closing(sqlite3.connect(rescue, isolation_level=None)) as target:
        with suppress(sqlite3.Error):
            source.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        target.execute("PRAGMA auto_vacuum=INCREMENTAL")
        target.execute("PRAGMA synchronous=FULL")
        create(target)
        target.execute("BEGIN")
        _copy_tags(path, source, target, done)
        for table in COPIED_WHOLE:
            _copy_table(source, target, table, done)
        vault.learn(target.execute("SELECT id, wrapped FROM key").fetchall())
        _copy_records(path, source, target, vault.read, done)
        _copy_aggregates(path, source, target, vault, done)
        target.execute("COMMIT")
    put_in_place(rescue, path, done.aside)
    return done


def _open(path: Path) -> sqlite3.Connection:
    source = sqlite3.connect(path, isolation_level=None)
    source.text_factory = lambda data: data.decode("utf-8", "replace")
    return source


def _aside(path: Path) -> Path:
    """Return a name for the damaged file that is not taken."""
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
    for number in range(1000):
        aside = path.with_name(f"{path.name}.damaged-{stamp}" + (f"-{number}" if number else ""))
        if not aside.exists():
            return aside
    raise FileExistsError(aside)


def damaged_files(path: Path) -> tuple[str, ...]:
    """Return the names of the damaged files that were moved aside and still lie there."""
    found = (each.name for each in path.parent.glob(f"{path.name}.damaged-*"))
    return tuple(sorted(name for name in found if not name.endswith(("-wal", "-shm"))))


def put_in_place(rescue: Path, path: Path, aside: Path) -> None:
    """Put a new file in the place of the old one, which moves aside; at every instant one of the two is there."""
    for end in ("-wal", "-shm"):
        with suppress(FileNotFoundError):
            path.with_name(path.name + end).rename(aside.with_name(aside.name + end))
    with suppress(FileNotFoundError):
        try:
            os.link(path, aside)
        except PermissionError:  # a file system without hard links
            path.rename(aside)
    rescue.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _both_ways(source: sqlite3.Connection, query: str, order: str) -> tuple[list[tuple[Any, ...]], bool]:
    """Return the rows up to the damage from either end, and whether it was all."""
    found: dict[tuple[Any, ...], None] = {}
    for way in ("ASC", "DESC"):
        try:
            for row in source.execute(f"{query} ORDER BY {order} {way}"):
                found[row] = None
        except sqlite3.Error:
            continue
        return list(found), True
    return list(found), False


def _insert(target: sqlite3.Connection, table: str, columns: str, rows: list[tuple[Any, ...]]) -> None:
    marks = ", ".join("?" * (columns.count(",") + 1))
    for row in rows:
        with suppress(sqlite3.IntegrityError):  # a value that the damage has spoilt
            target.execute(f"INSERT OR IGNORE INTO {table} ({columns}) VALUES ({marks})", row)


def _copy_tags(path: Path, source: sqlite3.Connection, target: sqlite3.Connection, done: Salvaged) -> None:
    """Bring tags over: from the table, from its copy in the index, and last from the pages themselves."""
    columns = "id, device, name, kind, unit"
    tags, whole = _both_ways(source, f"SELECT {columns} FROM tag NOT INDEXED", "id")
    copy, copied = _both_ways(source, f"SELECT {columns} FROM tag INDEXED BY tag_copy", columns)
    tags += copy
    if not whole and not copied:
        done.unsure.add("tag")
        tags += [(rowid, *found[1:]) for rowid, found in pages.rows(path) if len(found) == 5]
    legible = sorted((row for row in tags if _is_tag(row)), key=lambda row: "\ufffd" in f"{row[1]}{row[2]}{row[4]}")
    _insert(target, "tag", columns, legible)


def _is_tag(row: tuple[Any, ...]) -> bool:
    return 0 < row[0] < 2**31 and not any(text is None for text in row) and row[3] in list(ValueKind)


def _copy_table(source: sqlite3.Connection, target: sqlite3.Connection, table: str, done: Salvaged) -> None:
    """Bring over the columns that the old and the new table share."""
    described = target.execute(f"PRAGMA table_info({table})").fetchall()
    try:
        old = {row[1] for row in source.execute(f"PRAGMA table_info({table})")}
    except sqlite3.Error:
        old = set()
    columns = ", ".join(row[1] for row in described if row[1] in old)
    key = ", ".join(row[1] for row in described if row[5])
    if not columns:
        done.unsure.add(table)
        return
    found, whole = _both_ways(source, f"SELECT {columns} FROM {table} NOT INDEXED", key.split(", ")[0])
    if not whole:
        done.unsure.add(table)
    _insert(target, table, columns, found)


def _ranges(
    source: sqlite3.Connection, query: str, first: int, last: int, step: int = RANGE
) -> Iterator[tuple[list[tuple[Any, ...]], tuple[int, int] | None]]:
    """Yield rows by ranges of positions, and each range in which nothing can be read."""
    failures = 0
    stack = [(start, min(start + step - 1, last)) for start in range(first, last + 1, step)][::-1]
    while stack:
        low, high = stack.pop()
        try:
            yield source.execute(query, (low, high)).fetchall(), None
        except sqlite3.Error:
            failures += 1
            if low == high or failures > FAILURES_MAX:
                yield [], (low, high)
                continue
            middle = (low + high) // 2
            stack += [(middle + 1, high), (low, middle)]


def _bounds(source: sqlite3.Connection, target: sqlite3.Connection) -> tuple[int, int]:
    """Return the lowest and the highest position that the file can hold, as far as anything in it knows."""
    lows: list[int] = []
    highs = [0]
    for table in ("segment", "body"):
        for what, into in (("min", lows), ("max", highs)):
            with suppress(sqlite3.Error):
                into += [row[0] for row in source.execute(f"SELECT {what}(position) FROM {table}") if row[0]]
    for known in ("max(last) FROM parcel", "max(last) FROM backlog", "max(max(cut, event_cut)) FROM consumer"):
        highs += [row[0] for row in target.execute(f"SELECT {known}") if row[0]]
    return (min(lows) if len(lows) == 2 else 1), max(highs)


def _copy_records(
    path: Path, source: sqlite3.Connection, target: sqlite3.Connection, read: Read, done: Salvaged
) -> None:
    """Bring segments and bodies over: in order through the tables, and what these do not give up from the pages."""
    first, last = _bounds(source, target)
    known: dict[int, Lost] = {}
    unknown: list[tuple[int, int]] = []
    columns = "position, kind, rows, bytes, ts_min, ts_max, stored"
    more = ""
    with suppress(sqlite3.Error):
        had = {row[1] for row in source.execute("PRAGMA table_info(segment)")}
        more = "".join(f", {column}" for column in ("class", "thinned", "hour", "devices") if column in had)
    marks = ", ".join("?" * (7 + more.count(",")))
    for rows, lost in _ranges(
        source, f"SELECT {columns}{more} FROM segment WHERE position BETWEEN ? AND ?", first, last
    ):
        unknown += [lost] if lost else []
        for row in rows:
            known[row[0]] = Lost(row[0], row[0], row[2], row[4], row[5], row[7] if more else 0)
            target.execute(f"INSERT INTO segment ({columns}{more}) VALUES ({marks})", row)
    tags = {row[0] for row in target.execute("SELECT id FROM tag")} if "tag" in done.unsure else None

    def take(position: int, body: bytes) -> None:
        """Keep a body that belongs to a known segment, or to one whose description is lost."""
        described = known.pop(position, None)
        if described is None and not any(low <= position <= high for low, high in unknown):
            return
        if described is None or tags is not None:
            try:
                record = read(position, body)
            except CorruptSegment:
                if described is not None:
                    known[position] = described
                return
            if tags is not None and not _is_named(record, tags):
                target.execute("DELETE FROM segment WHERE position = ?", (position,))
                done.lost.append(described or Lost(position, position, rows_of(record), *times_of(record)))
                return
            if described is None:
                described = Lost(position, position, rows_of(record))
                dear = DataClass.EVENT if isinstance(record, Event) else DataClass.TELEMETRY
                target.execute(
                    "INSERT OR IGNORE INTO segment VALUES (?, ?, ?, ?, ?, ?, 0, ?, 0, 0, NULL)",
                    (position, kind_of(record), rows_of(record), len(body), *times_of(record), dear),
                )
        target.execute("INSERT OR IGNORE INTO body VALUES (?, ?)", (position, body))
        done.segments += 1
        done.rows += described.rows

    whole = not unknown
    for rows, lost in _ranges(source, "SELECT position, data FROM body WHERE position BETWEEN ? AND ?", first, last):
        whole = whole and not lost
        for position, body in rows:
            take(position, body)
    if not last:
        # Nothing in the file knows of any position: take whatever the pages hold, and tell that it may not be all.
        unknown.append((1, END))
        done.lost.append(Lost(1, 1, 0, 0, path.stat().st_mtime_ns))
    if known or unknown or not whole:
        for position, found in pages.rows(path):
            if len(found) == 2 and found[0] is None and isinstance(found[1], bytes):
                take(position, found[1])
    for position, described in known.items():
        target.execute("DELETE FROM segment WHERE position = ?", (position,))
        done.lost.append(described)
    kept = {row[0] for row in target.execute("SELECT position FROM segment")} if unknown else set()
    for low, high in unknown:
        if high < END and not any(position in kept for position in range(low, high + 1)):
            done.lost.append(Lost(low, high))


def _copy_aggregates(
    path: Path, source: sqlite3.Connection, target: sqlite3.Connection, vault: Vault, done: Salvaged
) -> None:
    """Bring pages of aggregates over: day after day through the table, and what it does not give up from its leaves."""
    whole = True
    for number in NUMBERS.values():
        low = number << LEVEL_SHIFT
        bounds = [low, low + round(path.stat().st_mtime) + _DAY_S]
        for place, what in enumerate(("min", "max")):
            try:
                asked = f"SELECT {what}(page) FROM aggregate NOT INDEXED WHERE page BETWEEN ? AND ?"
                ((found,),) = source.execute(asked, (low, low + (1 << LEVEL_SHIFT) - 1))
            except sqlite3.Error:
                whole = False
            else:
                bounds[place] = found if found is not None else low
        query = "SELECT page, key, data FROM aggregate NOT INDEXED WHERE page BETWEEN ? AND ?"
        for rows, lost in _ranges(source, query, bounds[0], bounds[1], _DAY_S):
            whole = whole and not lost
            target.executemany("INSERT OR IGNORE INTO aggregate VALUES (?, ?, ?)", rows)
    if not whole:
        done.unsure.add("aggregate")
        for page, found in pages.rows(path):
            if len(found) == 3 and found[0] is None and page >> LEVEL_SHIFT in NUMBERS.values():
                _add_page(target, vault, page, found[1], found[2])
    target.execute(RECOUNT)


def _add_page(target: sqlite3.Connection, vault: Vault, page: int, key: Any, data: Any) -> None:
    """Keep a page that a leaf had, together with what is here: a leaf that was given up may have an older state."""
    if not isinstance(key, int) or not isinstance(data, bytes):
        return
    try:
        figures = opened(vault, page, data)
        for (here,) in target.execute("SELECT data FROM aggregate WHERE page = ?", (page,)):
            figures = merge(Batch.concat([figures, opened(vault, page, here)]))
            data = vault.seal(page, encode(figures))
            key = vault.sealing_key
    except CorruptSegment:
        return
    target.execute("INSERT OR REPLACE INTO aggregate VALUES (?, ?, ?)", (page, key, data))


def _is_named(record: Record, tags: set[int]) -> bool:
    match record:
        case Event():
            return True
        case Batch():
            return set(np.unique(record.tag).tolist()) <= tags
        case _:
            return record.tag in tags
