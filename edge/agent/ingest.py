"""Between driver and log: plausibility and report by exception, over whole columns at once."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.core.batch import Batch, Lane
from edge.core.catalogue import Catalogue
from edge.core.ledger import Tally
from edge.core.quality import StatusCode, bad_mask


@dataclass(frozen=True, slots=True)
class TagRule:
    """What the configuration says of one tag: `valid` is (lowest, highest) in the tag's unit, `heartbeat` seconds."""

    deadband: float | None = None
    valid: tuple[float, float] | None = None
    heartbeat: float | None = None


class Ingest:
    """Applies the rules of one device's tags. Keeps the last reported value of each tag with a dead-band.

    A tag without a rule passes untouched, and a device without rules costs nothing. Texts have no rules.
    """

    def __init__(self, device: str, rules: Mapping[str, TagRule], catalogue: Catalogue) -> None:
        self._device = device
        self._rules = rules
        self._catalogue = catalogue
        self._known_id = 0
        self._tags = np.empty(0, np.int32)
        self._low = self._high = self._deadband = self._reported = np.empty(0)
        self._reported_quality = np.empty(0, np.uint32)
        self._reported_ts = np.empty(0, np.int64)
        self._heartbeat = np.empty(0)

    def _learn(self) -> None:
        """Take up the rules of tags that came into the catalogue since the last look: a server may name its own."""
        for tag in self._catalogue.since(self._known_id):
            rule = self._rules.get(tag.name) or self._rules.get(tag.name.partition("[")[0])
            if tag.device == self._device and rule:
                low, high = rule.valid or (-np.inf, np.inf)
                self._tags = np.append(self._tags, np.int32(tag.id))
                self._low, self._high = np.append(self._low, low), np.append(self._high, high)
                self._deadband = np.append(self._deadband, rule.deadband or -1.0)
                self._reported = np.append(self._reported, np.nan)
                self._reported_quality = np.append(self._reported_quality, np.uint32(0xFFFFFFFF))
                self._reported_ts = np.append(self._reported_ts, np.int64(0))
                self._heartbeat = np.append(self._heartbeat, 1e9 * (rule.heartbeat or np.inf))
        self._known_id = self._catalogue.last_id

    def take(self, batch: Batch, tally: Tally | None = None) -> Batch:
        """Return the batch as it shall be stored: implausible values marked, changes below the dead-band left out.

        A value outside `valid` keeps its number and gets BadOutOfRange. A change of quality is always reported, and a
        value after the tag's heartbeat. Into `tally` it is counted what was read, what of it was bad, and what was
        left out.
        """
        marked, keep = self._judge(batch)
        kept = marked if keep is None else marked.take(keep)
        if tally is not None:
            tally.read += len(marked)
            if np.count_nonzero(marked.quality):  # mostly all is good
                tally.bad += int(np.count_nonzero(bad_mask(marked.quality)))
            tally.filtered += len(marked) - len(kept)
        return kept

    def _judge(self, batch: Batch) -> tuple[Batch, npt.NDArray[Any] | None]:
        """Return the batch with implausible values marked, and a mask of what to keep; None for all."""
        if not self._rules:
            return batch, None
        if self._known_id != self._catalogue.last_id:
            self._learn()
        if not len(self._tags) or batch.lane is Lane.TEXT or not len(batch):
            return batch, None
        place = np.minimum(np.searchsorted(self._tags, batch.tag), len(self._tags) - 1)
        ruled = self._tags[place] == batch.tag
        if not ruled.any():
            return batch, None
        value = batch.value.astype(np.float64)
        implausible = ruled & ((value < self._low[place]) | (value > self._high[place])) & ~bad_mask(batch.quality)
        quality = np.where(implausible, np.uint32(StatusCode.BAD_OUT_OF_RANGE), batch.quality)
        keep = self._changed(place, ruled & (self._deadband[place] > 0), value, quality, batch.ts)
        marked = replace(batch, quality=quality) if implausible.any() else batch
        return marked, None if keep.all() else keep

    def _changed(
        self,
        place: npt.NDArray[np.intp],
        banded: npt.NDArray[np.bool_],
        value: npt.NDArray[np.float64],
        quality: npt.NDArray[np.uint32],
        ts: npt.NDArray[np.int64],
    ) -> npt.NDArray[Any]:
        """Return a mask of rows to report, and remember them. Rows of one tag are judged in their order."""
        keep = np.ones(len(place), bool)
        rows = np.flatnonzero(banded)
        while len(rows):
            # The first row of each tag now, its later rows in the next turn: one turn for a poll.
            _, first = np.unique(place[rows], return_index=True)
            turn = rows[first]
            at = place[turn]
            same_quality = self._reported_quality[at] == quality[turn]
            near = np.abs(value[turn] - self._reported[at]) <= self._deadband[at]
            both_nan = np.isnan(value[turn]) & np.isnan(self._reported[at])
            recent = ts[turn] - self._reported_ts[at] < self._heartbeat[at]
            keep[turn] = ~(same_quality & (near | both_nan) & recent)
            reported = turn[keep[turn]]
            self._reported[place[reported]] = value[reported]
            self._reported_quality[place[reported]] = quality[reported]
            self._reported_ts[place[reported]] = ts[reported]
            rows = np.delete(rows, first)
        return keep
