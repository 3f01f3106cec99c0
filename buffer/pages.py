"""Reads table rows out of the pages of a database that SQLite itself cannot walk any more.

Layout: https://www.sqlite.org/fileformat2.html, sections 1.5 to 1.6 and 2.1. Only leaf pages are looked at, so damaged
roots and inner pages take nothing with them. A page that was freed may still hold rows that were deleted.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, TypeAlias

PAGE_BYTES = 4096
_LEAF = 0x0D
_PAYLOAD_MAX = 1 << 30
_INTEGER_BYTES = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}

Value: TypeAlias = int | float | str | bytes | None


def rows(path: Path) -> Iterator[tuple[int, list[Value]]]:
    """Yield (rowid, columns) of every row of every table leaf page that can be read. Not what the WAL holds."""
    with path.open("rb") as file:
        number = 0
        while page := file.read(PAGE_BYTES):
            number += 1
            start = 100 if number == 1 else 0
            if len(page) < PAGE_BYTES or page[start] != _LEAF:
                continue
            (cells,) = struct.unpack_from(">H", page, start + 3)
            after = file.tell()
            for place in range(start + 8, min(start + 8 + 2 * cells, PAGE_BYTES - 1), 2):
                (at,) = struct.unpack_from(">H", page, place)
                try:
                    yield _cell(file, page, at)
                except (IndexError, ValueError, struct.error):
                    continue
            file.seek(after)


def _cell(file: BinaryIO, page: bytes, at: int) -> tuple[int, list[Value]]:
    size, at = _varint(page, at)
    rowid, at = _varint(page, at)
    if size > _PAYLOAD_MAX:
        raise ValueError("a payload that cannot be")
    local = _local(size)
    payload = page[at : at + local]
    if len(payload) < local:
        raise ValueError("a cell beyond its page")
    if local < size:
        (following,) = struct.unpack_from(">I", page, at + local)
        payload += _overflow(file, following, size - local)
    return rowid - (1 << 64 if rowid >= 1 << 63 else 0), _record(payload)


def _local(size: int) -> int:
    """Return how much of a payload of `size` bytes lies in the leaf page itself."""
    most, least = PAGE_BYTES - 35, (PAGE_BYTES - 12) * 32 // 255 - 23
    if size <= most:
        return size
    fitting = least + (size - least) % (PAGE_BYTES - 4)
    return fitting if fitting <= most else least


def _overflow(file: BinaryIO, number: int, size: int) -> bytes:
    parts = []
    while size > 0:
        if not number:
            raise ValueError("a chain of overflow pages that ends early")
        file.seek((number - 1) * PAGE_BYTES)
        page = file.read(PAGE_BYTES)
        (number,) = struct.unpack_from(">I", page)
        parts.append(page[4 : 4 + size])
        size -= PAGE_BYTES - 4
    return b"".join(parts)


def _record(payload: bytes) -> list[Value]:
    header, at = _varint(payload, 0)
    kinds = []
    while at < header:
        kind, at = _varint(payload, at)
        kinds.append(kind)
    columns: list[Value] = []
    at = header
    for kind in kinds:
        if kind >= 12:
            size = (kind - 12) // 2
            data = payload[at : at + size]
            if len(data) < size:
                raise ValueError("a column beyond its row")
            columns.append(data.decode() if kind % 2 else data)
        elif size := _INTEGER_BYTES.get(kind, 0):
            columns.append(int.from_bytes(payload[at : at + size], "big", signed=True))
        elif kind == 7:
            size = 8
            columns.append(struct.unpack_from(">d", payload, at)[0])
        else:
            columns.append({8: 0, 9: 1}.get(kind))
            size = 0
        at += size
    return columns


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for n in range(9):
        byte = data[at + n]
        if n == 8:
            return value << 8 | byte, at + 9
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at + n + 1
    raise AssertionError("a ninth byte ends it")
