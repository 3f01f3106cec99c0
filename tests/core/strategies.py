"""Hypothesis strategies for the records of `edge.core`."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edge.core.batch import Batch, Event, Lane, Severity, Waveform

INT64 = st.integers(-(2**63), 2**63 - 1)
TAG_IDS = st.integers(1, 2**31 - 1)
CODES = st.integers(0, 2**32 - 1)
TEXTS = st.text(st.characters(), max_size=20)  # surrogates included: a device may send anything


@st.composite
def batches(draw: st.DrawFn, lane: Lane | None = None, rows_max: int = 20) -> Batch:
    """Any batch: every lane, NaN and infinities, extreme integers, empty texts."""
    lane = draw(st.sampled_from(Lane)) if lane is None else lane
    values = {Lane.FLOAT: st.floats(), Lane.INT: INT64, Lane.TEXT: TEXTS}[lane]
    rows = draw(
        st.lists(st.tuples(TAG_IDS, INT64, values, CODES, st.sampled_from((0, 0, 1, 2**32 - 1))), max_size=rows_max),
    )
    tag, ts, value, quality, revision = zip(*rows, strict=True) if rows else ((), (), (), (), ())
    return Batch.of(lane, tag, ts, value, quality, revision)


@st.composite
def waveforms(draw: st.DrawFn) -> Waveform:
    """Any waveform, int16 or float32, also empty."""
    dtype = draw(st.sampled_from([np.int16, np.float32]))
    samples = draw(hnp.arrays(dtype, st.integers(0, 50)))
    finite = st.floats(allow_nan=False)
    return Waveform(draw(TAG_IDS), draw(INT64), draw(finite), draw(finite), samples, draw(st.integers(0, 2**32 - 1)))


@st.composite
def events(draw: st.DrawFn) -> Event:
    """Any event."""
    scalars = st.none() | st.booleans() | INT64 | st.floats(allow_nan=False) | TEXTS
    return Event(
        draw(INT64),
        draw(TEXTS),
        draw(TEXTS),
        draw(st.sampled_from(Severity)),
        draw(TEXTS),
        draw(st.dictionaries(TEXTS, scalars, max_size=4)),
    )
