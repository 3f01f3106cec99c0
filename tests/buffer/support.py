"""Helpers for the log's tests."""

from collections.abc import Iterable

import numpy as np

from buffer.log import Log
from edge.core.batch import Batch, Event, Lane, Record, Severity, Waveform


def numbered(first: int, rows: int, tag: int = 1, ts: int | None = None) -> Batch:
    """Rows whose values count on from `first`, so that any loss, repeat or change of order shows."""
    values = np.arange(first, first + rows)
    return Batch.of(Lane.INT, np.full(rows, tag), values if ts is None else ts, values)


def values(records: Iterable[Record]) -> list[int]:
    """The values of all integer batches, in order."""
    return [value for record in records if isinstance(record, Batch) for value in record.value.tolist()]


def event(text: str) -> Event:
    return Event(1, "gateway", "test", Severity.INFO, text)


def waveform(tag: int, start: int) -> Waveform:
    return Waveform(tag, start, 6400.0, 8.0, np.arange(start, start + 16, dtype=np.int16))


async def everything(log: Log) -> list[Record]:
    """All records of a log, read as a consumer does: behind the last position, until nothing comes."""
    records: list[Record] = []
    position = 0
    while found := await log.read(position):
        records += [record for _, record in found]
        position = found[-1][0]
    return records
