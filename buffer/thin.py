"""Thinning: of old readings the lowest and highest of each minute stay, and every change of quality."""

import numpy as np
import numpy.typing as npt

from edge.core.batch import Batch, Lane
from edge.core.quality import bad_mask

INTERVAL_NS = 60 * 10**9


def kept_rows(batch: Batch, interval_ns: int = INTERVAL_NS) -> npt.NDArray[np.bool_]:
    """Return a mask of the rows to keep, bool[n].

    Of each tag these are: its first row; each row whose quality, or being a number or not, differs from the row before;
    of a number the lowest and the highest good value of each interval of source time; of a text each change.
    """
    rows = len(batch)
    kept = np.zeros(rows, bool)
    if not rows:
        return kept
    by_tag = np.argsort(batch.tag, kind="stable")
    kept[by_tag[_starts(batch.tag[by_tag])]] = True
    text = batch.lane is Lane.TEXT
    state = _numbered(batch.value) if text else np.isnan(batch.value) if batch.lane is Lane.FLOAT else np.zeros(rows)
    for column in (batch.quality, state):
        kept[by_tag[_starts(column[by_tag])]] = True
    if not text:
        good = np.flatnonzero(~(bad_mask(batch.quality) | np.asarray(state, bool)))
        interval = batch.ts // interval_ns
        order = good[np.lexsort((batch.value[good], interval[good], batch.tag[good]))]
        if len(order):
            first = _starts(batch.tag[order]) | _starts(interval[order])
            kept[order[first]] = True
            kept[order[np.append(first[1:], True)]] = True
    return kept


def _starts(column: npt.NDArray[np.generic]) -> npt.NDArray[np.bool_]:
    """Return where a run of equal entries begins."""
    starts = np.ones(len(column), bool)
    starts[1:] = column[1:] != column[:-1]
    return starts


def _numbered(texts: npt.NDArray[np.object_]) -> npt.NDArray[np.int64]:
    """Return equal numbers for equal texts."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(text, len(numbers)) for text in texts], np.int64)
