"""Between driver and log: plausibility and report by exception, over whole columns at once."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.core.batch import Batch, Lane
from edge.core.quality import StatusCode, bad_mask


@dataclass(frozen=True, slots=True)
class TagRule:
    """What the configuration says of one tag: `valid` is (lowest, highest), both in the tag's unit."""

    deadband: float | None = None
    valid: tuple[float, float] | None = None


class Ingest:
    """Applies the rules of one device's tags. Keeps the last reported value of each tag with a dead-band.

    A tag without a rule passes untouched, and a device without rules costs nothing. Texts have no rules.
    """

    def __init__(self, rules: Iterable[tuple[int, TagRule]]) -> None:
        given = sorted(rules, key=lambda entry: entry[0])
        self._tags = np.array([tag for tag, _ in given], np.int32)
        self._low = np.array([rule.valid[0] if rule.valid else -np.inf for _, rule in given])
        self._high = np.array([rule.valid[1] if rule.valid else np.inf for _, rule in given])
        self._deadband = np.array([rule.deadband or -1.0 for _, rule in given])
        self._reported = np.full(len(given), np.nan)
        self._reported_quality = np.full(len(given), 0xFFFFFFFF, np.uint32)

    def take(self, batch: Batch) -> Batch:
        """Return the batch as it shall be stored: implausible values marked, changes below the dead-band left out.

        A value outside `valid` keeps its number and gets BadOutOfRange. A change of quality is always reported.
        """
        if not len(self._tags) or batch.lane is Lane.TEXT or not len(batch):
            return batch
        place = np.minimum(np.searchsorted(self._tags, batch.tag), len(self._tags) - 1)
        ruled = self._tags[place] == batch.tag
        if not ruled.any():
            return batch
        value = batch.value.astype(np.float64)
        implausible = ruled & ((value < self._low[place]) | (value > self._high[place])) & ~bad_mask(batch.quality)
        quality = np.where(implausible, np.uint32(StatusCode.BAD_OUT_OF_RANGE), batch.quality)
        keep = self._changed(place, ruled & (self._deadband[place] > 0), value, quality)
        marked = Batch(batch.tag, batch.ts, batch.value, quality) if implausible.any() else batch
        return marked if keep.all() else marked.take(keep)

    def _changed(
        self,
        place: npt.NDArray[np.intp],
        banded: npt.NDArray[np.bool_],
        value: npt.NDArray[np.float64],
        quality: npt.NDArray[np.uint32],
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
            keep[turn] = ~(same_quality & (near | both_nan))
            reported = turn[keep[turn]]
            self._reported[place[reported]] = value[reported]
            self._reported_quality[place[reported]] = quality[reported]
            rows = np.delete(rows, first)
        return keep
