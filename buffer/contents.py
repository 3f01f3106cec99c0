"""What a parcel holds: from the positions of a cut, a notice or an entry of the quarantine to records and gaps."""

import json
from dataclasses import replace

from buffer import quarantine
from buffer.cuts import WHOLE, Cut, Source, part_of
from buffer.database import Database
from buffer.gaps import read_gap
from buffer.records import rows_of
from buffer.selection import Selection
from edge.core.batch import Record
from edge.core.data_class import DataClass
from edge.core.delivery import Gap, Parcel, Priority
from edge.core.errors import CorruptSegment

GONE = "no longer in the log"


class Contents:
    """Reads what the parcels of one consumer hold."""

    def __init__(self, name: str, database: Database, source: Source, selection: Selection) -> None:
        self._name = name
        self._database = database
        self._source = source
        self._selection = selection

    async def of(self, cut: Cut) -> Parcel:
        """Return a parcel with its rows, those of a part where it is one, and note in `cut` what is corrupt."""
        if cut.notice:
            told = json.loads(cut.notice)
            gone = tuple((epoch, first, last) for epoch, first, last in told["gone"])
            gaps = [Gap(*gap) for gap in told["gaps"]]
            told_as = Parcel(cut.epoch, cut.seq, (), tuple(gaps), False, cut.lane, 0, self._name)
            return replace(told_as, instead_of=cut.instead_of, gone=gone)
        hour = 0
        if cut.held:
            try:
                hour, records = await quarantine.find(self._database.read, self._source.vault, cut.held)
            except CorruptSegment:
                records = []
            gaps = [] if records else [Gap(cut.rows, 0, 0, GONE)]
        else:
            records, gaps = await self._rows_of(cut)
            hour = await self._hour(cut) if cut.priority != Priority.EVENT else 0
        if cut.parts > 1:
            records = [part_of(records[0], cut.part, cut.parts)] if records else []
            gaps = [] if cut.part else gaps
        left = cut.rows - sum(map(rows_of, records)) - sum(gap.rows for gap in gaps)
        if cut.replayed and left > 0:
            gaps.append(Gap(left, 0, 0, GONE))
        historical = cut.lane is Priority.BACKLOG
        parcel = Parcel(cut.epoch, cut.seq, tuple(records), tuple(gaps), historical, cut.lane, hour, self._name)
        return replace(parcel, instead_of=cut.instead_of)

    async def _rows_of(self, cut: Cut) -> tuple[list[Record], list[Gap]]:
        """Return what lies between a parcel's positions: records for this consumer, and gaps."""
        records: list[Record] = []
        gaps: list[Gap] = []
        cut.corrupt = set()
        events, data = cut.priority in (WHOLE, Priority.EVENT), cut.priority != Priority.EVENT
        for position, record in await self._source.records(cut.first, cut.last, events=events, data=data):
            if record is None:
                cut.corrupt.add(position)
                gaps.append(await self._corrupt(position))
            elif (wanted := self._selection.at(position).of(record)) is not None:
                records.append(wanted)
        stored = await self._database.read(
            "SELECT last, rows, ts_min, ts_max, reason, class, tags FROM gap WHERE last BETWEEN ? AND ?"
            " ORDER BY first, id",
            (cut.first, cut.last),
        )
        for last, *columns in stored:
            gap = read_gap(*columns)
            if cut.covers(event=gap.data_class == DataClass.EVENT.word) and (told := self._wanted(last, gap)):
                gaps.append(told)
        return records, gaps

    async def _hour(self, cut: Cut) -> int:
        """Return the hour of the ledger in which a parcel's data was stored; 0 when it is of several, or unknown."""
        found = await self._database.read(
            "SELECT min(hour), max(hour) FROM segment WHERE position BETWEEN ? AND ? AND devices IS NOT NULL",
            (cut.first, cut.last),
        )
        first, last = (int(hour or 0) for hour in found[0])
        return first if first == last else 0

    async def _corrupt(self, position: int) -> Gap:
        found = await self._database.read(
            "SELECT rows, ts_min, ts_max, class FROM segment WHERE position = ?", (position,)
        )
        rows, ts_min, ts_max, data_class = found[0] if found else (0, 0, 0, 0)
        return read_gap(rows, ts_min, ts_max, "corrupt segment", data_class, b"")

    def _wanted(self, position: int, gap: Gap) -> Gap | None:
        """Return what a gap at a position means to this consumer; None for nothing."""
        if self._selection.is_whole or not gap.tags:
            return gap
        patterns = self._selection.at(position)
        tags = tuple((tag, rows) for tag, rows in gap.tags if patterns.picks(self._source.catalogue[tag]))
        return replace(gap, rows=sum(rows for _, rows in tags), tags=tags) if tags else None

    async def ends(self, cut: Cut) -> list[tuple[int, int]]:
        """Return (position, rows of this consumer) of what a parcel covers."""
        events, data = cut.priority in (WHOLE, Priority.EVENT), cut.priority != Priority.EVENT
        found = await self._source.records(cut.first, cut.last, events=events, data=data)
        return [(position, self._selection.rows(position, record)) for position, record in found if record is not None]
