from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import given, settings
from hypothesis import strategies as st

from buffer.thin import INTERVAL_NS, kept_rows
from edge.core.batch import Batch, Lane
from edge.core.quality import StatusCode

QUALITIES = [int(StatusCode.GOOD), 0x40000000, int(StatusCode.BAD_OUT_OF_RANGE)]


def naive(batch: Batch) -> list[bool]:
    """The rule as it is told to users, row by row. Of equal extremes any one will do: the first, here."""
    kept = [False] * len(batch)
    before: dict[int, int] = {}
    groups: dict[tuple[int, int], list[int]] = {}
    for row, (tag, ts, value, quality) in enumerate(
        zip(batch.tag.tolist(), batch.ts.tolist(), batch.value.tolist(), batch.quality.tolist(), strict=True)
    ):
        last = before.get(tag)
        number = batch.lane is not Lane.TEXT and value == value
        if last is None or batch.quality[last] != quality:
            kept[row] = True
        elif batch.lane is Lane.TEXT:
            kept[row] = batch.value[last] != value
        else:
            kept[row] = (batch.value[last] == batch.value[last]) != number
        before[tag] = row
        if number and not quality & 0x80000000:
            groups.setdefault((tag, ts // INTERVAL_NS), []).append(row)
    for rows in groups.values():
        kept[min(rows, key=lambda row: batch.value[row])] = True
        kept[max(rows, key=lambda row: (batch.value[row], row))] = True
    return kept


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    lane = draw(st.sampled_from(Lane))
    rows = draw(st.integers(0, 40))
    value = {
        Lane.FLOAT: st.sampled_from([0.0, 1.5, -2.0, float("nan"), float("inf")]) | st.floats(-10, 10),
        Lane.INT: st.integers(-(2**63), 2**63 - 1) | st.integers(0, 3),
        Lane.TEXT: st.sampled_from(["on", "off", ""]),
    }[lane]
    columns: list[Any] = [
        draw(st.lists(each, min_size=rows, max_size=rows))
        for each in (st.integers(1, 3), st.integers(0, 3 * INTERVAL_NS), value, st.sampled_from(QUALITIES))
    ]
    return Batch.of(lane, *columns)


@given(batches())
@settings(deadline=None)
def test_the_kernel_keeps_what_the_rule_says(batch: Batch) -> None:
    kept = kept_rows(batch)
    expected = np.array(naive(batch), bool)
    if batch.lane is Lane.TEXT:
        assert np.array_equal(kept, expected)
        return
    # Among equal extremes it may keep another one: as many rows, and the same values, of each tag and minute.
    assert np.array_equal(_extremes(batch, kept), _extremes(batch, expected))
    changes = expected & ~_only_extreme(batch, expected)
    assert kept[changes].all()


def _extremes(batch: Batch, mask: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Lowest and highest good value of each tag and minute among the rows of a mask, in order."""
    found: dict[tuple[int, int], list[float]] = {}
    for row in np.flatnonzero(mask):
        value = batch.value[row]
        if value == value and not batch.quality[row] & 0x80000000:
            found.setdefault((int(batch.tag[row]), int(batch.ts[row]) // INTERVAL_NS), []).append(value)
    return np.array([(*key, min(rows), max(rows)) for key, rows in sorted(found.items())], object)


def _only_extreme(batch: Batch, mask: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Rows that are there for being an extreme and not for a change."""
    only = np.zeros(len(batch), bool)
    before: dict[int, int] = {}
    for row, tag in enumerate(batch.tag.tolist()):
        last = before.get(tag)
        same = last is not None and batch.quality[last] == batch.quality[row]
        same = same and (batch.value[last] == batch.value[last]) == (batch.value[row] == batch.value[row])
        only[row] = same
        before[tag] = row
    return only


def test_a_day_at_one_second_becomes_a_thirtieth_and_keeps_its_peaks() -> None:
    ts = np.arange(86_400) * 10**9
    value = np.sin(ts / 1e9 / 700) * 50
    value[40_000] = 400.0
    kept = kept_rows(Batch.of(Lane.FLOAT, np.ones(len(ts)), ts, value))
    assert kept[40_000]
    assert kept.sum() <= 2 * 1440 + 1
