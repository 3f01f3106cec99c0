import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.core.batch import Batch, Lane, Waveform
from edge.core.quality import StatusCode
from tests.core.strategies import batches


@given(batches())
def test_a_batch_is_columns_of_equal_length_that_nobody_can_change(batch: Batch) -> None:
    columns = (batch.tag, batch.ts, batch.value, batch.quality)
    assert [column.dtype for column in columns] == [np.int32, np.int64, batch.lane.dtype, np.uint32]
    assert {len(column) for column in columns} == {len(batch)}
    assert not any(column.flags.writeable for column in columns)


@given(st.sampled_from(Lane).flatmap(lambda lane: st.lists(batches(lane), min_size=1, max_size=4)))
def test_joining_keeps_every_row_in_order(parts: list[Batch]) -> None:
    whole = Batch.concat(parts)
    start = 0
    for part in parts:
        assert whole.take(np.arange(start, start + len(part))) == part
        start += len(part)
    assert start == len(whole)


@given(batches(), st.data())
def test_taking_by_mask_keeps_exactly_the_marked_rows(batch: Batch, data: st.DataObject) -> None:
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=len(batch), max_size=len(batch))), bool)
    taken = batch.take(mask)
    assert taken.tag.tolist() == [tag for tag, keep in zip(batch.tag.tolist(), mask, strict=True) if keep]
    assert len(taken) == mask.sum()


def test_one_time_and_one_quality_hold_for_every_row() -> None:
    batch = Batch.of(Lane.INT, [1, 2], 7, [10, 20], StatusCode.BAD_TIMEOUT)
    assert batch.ts.tolist() == [7, 7]
    assert batch.quality.tolist() == [StatusCode.BAD_TIMEOUT] * 2


def test_nan_equals_nan_and_lanes_never_equal_each_other() -> None:
    assert Batch.of(Lane.FLOAT, [1], 0, [float("nan")]) == Batch.of(Lane.FLOAT, [1], 0, [float("nan")])
    assert Batch.of(Lane.FLOAT, [1], 0, [1]) != Batch.of(Lane.INT, [1], 0, [1])


def test_integers_beyond_a_doubles_precision_stay_exact() -> None:
    assert Batch.of(Lane.INT, [1], 0, [2**53 + 1]).value[0] == 2**53 + 1


def test_wrong_columns_are_refused() -> None:
    good = Batch.of(Lane.FLOAT, [1, 2], 0, [1.0, 2.0])
    with pytest.raises(TypeError, match=r"Batch\.tag must be int32"):
        Batch(good.ts, good.ts, good.value, good.quality)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"Batch\.value must be"):
        Batch(good.tag, good.ts, np.zeros(2, np.float32), good.quality)
    with pytest.raises(ValueError, match="equal length"):
        Batch(good.tag, good.ts, good.value[:1], good.quality)
    with pytest.raises(ValueError, match="C-contiguous"):
        Batch(good.tag, good.ts, np.zeros(4)[::2], good.quality)
    with pytest.raises(TypeError, match="different lanes"):
        Batch.concat([good, Batch.empty(Lane.INT)])


def test_a_waveform_takes_two_sample_types_only() -> None:
    with pytest.raises(TypeError, match="int16 or float32"):
        Waveform(1, 0, 6400.0, 8.0, np.zeros(4))
    assert not Waveform(1, 0, 6400.0, 8.0, np.zeros(4, np.int16)).samples.flags.writeable
