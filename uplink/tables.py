"""Readings as tables of the contract and back: `Table` in `contract/v1/batch.proto`. All columns, no loops over rows.

What makes it small: tags that were read together share one timeline; times are kept as changes of their difference,
which is zero for a steady poll; decimals are kept as integers (the encoder proves for each line that they come back bit
for bit, and falls back to float32 or float64 where they do not); values as differences; the compressor does the rest.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.core.batch import Batch, Lane
from uplink import batch_pb2 as pb

DECIMALS_MAX = 9
SINGLE, DOUBLE, TEXT = 32, 64, 100
_EXACT = float(2**53)
_TIME_UNITS = (10**9, 10**6, 10**3)
_POWERS = np.array([10.0**form for form in range(19)])
_PLAUSIBLE = (-(2**61), 2**61)  # outside, a pace could overflow

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Series:
    """Readings of one tag, oldest first.

    ts        int64[n]   ns since 1970 UTC
    value     int64[n] or float64[n], or a list of `str`, as the table held them
    quality   uint32[n]  OPC UA StatusCode
    revision  uint32[n]  0 at first; of readings of one `ts` the highest holds
    """

    tag: int
    ts: Ints
    value: npt.NDArray[Any] | list[str]
    quality: npt.NDArray[np.uint32]
    revision: npt.NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class Block:
    """Readings of several tags with equally many rows, a line a tag, oldest first.

    tag       int64[m]    catalogue ids
    ts        int64[m, n]  ns since 1970 UTC
    value     int64[m, n] or float64[m, n], as the table held them; of texts, places in the batch's dictionary
    quality   uint32[m, n]  OPC UA StatusCode
    revision  uint32[m, n]  0 at first
    """

    tag: Ints
    ts: Ints
    value: npt.NDArray[Any]
    quality: npt.NDArray[np.uint32]
    revision: npt.NDArray[np.uint32]
    is_text: bool


def add_tables(message: pb.Batch, batches: Sequence[Batch]) -> None:
    """Add the rows of the batches to a message. Rows of one tag keep their order."""
    if not batches:
        return
    texts: dict[str, int] = {}
    tag = np.concatenate([batch.tag for batch in batches]).astype(np.int64)
    ts = np.concatenate([batch.ts for batch in batches])
    quality = np.concatenate([batch.quality for batch in batches])
    is_revised = any(batch.revision is not None for batch in batches)
    revision = np.concatenate([batch.revisions() for batch in batches]) if is_revised else None
    bits = np.concatenate([_bits(batch, texts) for batch in batches])
    lane = np.concatenate([np.full(len(batch), batch.lane, np.int8) for batch in batches])
    message.texts.extend(texts)
    order = np.argsort(tag, kind="stable")
    starts = np.flatnonzero(np.diff(tag[order], prepend=-1))
    counts = np.diff(starts, append=len(tag))
    for rows in np.flatnonzero(np.bincount(counts)).tolist():  # np.unique would load numpy.ma, 5 MB
        first = starts[counts == rows]
        places = order[first[:, None] + np.arange(rows)]
        columns = ts[places], bits[places], quality[places]
        revised = None if revision is None else revision[places]
        _add_matrix(message, tag[places[:, 0]], lane[places[:, 0]], *columns, revised)


def _add_matrix(
    message: pb.Batch,
    tag: Ints,
    lane: npt.NDArray[np.int8],
    ts: Ints,
    bits: Ints,
    quality: npt.NDArray[np.uint32],
    revision: npt.NDArray[np.uint32] | None,
) -> None:
    """Add the readings of tags with equally many rows, a line a tag: a table for each timeline, one for all others."""
    forms = np.where(lane == Lane.TEXT, TEXT, 0)
    integers = bits.copy()
    floats = np.flatnonzero(lane == Lane.FLOAT)
    if len(floats):
        forms[floats], integers[floats] = _decimals(bits[floats].view(np.float64))
    steps = _differences(integers)
    for lines, shared in _by_timeline(ts):
        table = message.tables.add(rows=ts.shape[1])
        table.tags.extend(_differences(tag[None, lines]).ravel().tolist())
        _add_times(table, ts[lines[:1]] if shared else ts[lines])
        form = forms[lines]
        table.forms.extend(form.tolist())
        table.integers.extend(steps[lines[(form <= DECIMALS_MAX) | (form == TEXT)]].ravel().tolist())
        for in_form, column in ((SINGLE, table.singles), (DOUBLE, table.doubles)):
            if (chosen := lines[form == in_form]).size:
                column.extend(bits[chosen].view(np.float64).ravel().tolist())
        for code, count in _runs(quality[lines].ravel()):
            table.quality.add(code=code, count=count)
        if revision is not None and (revised := revision[lines].ravel()).any():
            for number, count in _runs(revised):
                table.revisions.add(revision=number, count=count)


def _bits(batch: Batch, texts: dict[str, int]) -> Ints:
    """Return values as int64: of floats the bit pattern, of texts the place in the dictionary."""
    match batch.lane:
        case Lane.FLOAT:
            return batch.value.view(np.int64)
        case Lane.INT:
            return batch.value
    words = [text.encode("utf-8", "replace").decode() for text in batch.value]  # protobuf takes whole Unicode only
    return np.array([texts.setdefault(word, len(texts)) for word in words], np.int64)


def _by_timeline(times: Ints) -> Iterator[tuple[npt.NDArray[np.intp], bool]]:
    """Yield line numbers that share one timeline, and last those that have one of their own."""
    rows = np.ascontiguousarray(times).view(np.dtype((np.void, times.shape[1] * 8))).ravel()
    by_label = np.argsort(rows, kind="stable")
    ends = np.append(np.flatnonzero(rows[by_label[1:]] != rows[by_label[:-1]]) + 1, len(rows))
    sizes = np.diff(ends, prepend=0)
    for number in np.flatnonzero(sizes > 1).tolist():
        yield by_label[ends[number] - sizes[number] : ends[number]], True
    alone = np.sort(by_label[ends[sizes == 1] - 1])
    if len(alone):
        yield alone, len(alone) == 1


def _differences(matrix: Ints) -> Ints:
    """Return each line's first value and then differences, modulo 2⁶⁴ so that they always fit."""
    steps = matrix.copy().view(np.uint64)
    steps[:, 1:] -= matrix[:, :-1].view(np.uint64)
    return steps.view(np.int64)


def _sums(matrix: Ints) -> Ints:
    return np.cumsum(matrix.view(np.uint64), axis=1, dtype=np.uint64).view(np.int64)


def _add_times(table: pb.Table, times: Ints) -> None:
    """Write the lines in the way that takes fewer bits: as changes of the difference, or as offsets from a pace."""
    unit = next((unit for unit in _TIME_UNITS if not (times % unit).any()), 1)
    table.time_unit = unit
    times = times // unit
    rows = times.shape[1]
    steps = _differences(times)
    changes = steps.copy()
    changes[:, 1:] = _differences(steps[:, 1:])
    if rows > 2 and (_PLAUSIBLE[0] < times).all() and (times < _PLAUSIBLE[1]).all():
        paces = np.rint((times[:, -1:] - times[:, :1]) / (rows - 1)).astype(np.int64)
        off = times - paces * np.arange(rows)
        starts = (off.min(axis=1, keepdims=True) + off.max(axis=1, keepdims=True)) // 2
        off -= starts
        if _bits_of(off) + _bits_of(starts) + _bits_of(paces) < _bits_of(changes):
            table.starts.extend(starts.ravel().tolist())
            table.paces.extend(paces.ravel().tolist())
            table.times.extend(off.ravel().tolist())
            return
    table.times.extend(changes.ravel().tolist())


def _bits_of(numbers: Ints) -> float:
    """Return about how many bits the numbers carry."""
    return float(np.log2(np.abs(numbers.astype(np.float64)) + 1).sum())


def _decimals(values: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.int64], Ints]:
    """Return for each line its form and its integers: the fewest decimals that give every value back bit for bit."""
    forms = np.full(len(values), DOUBLE)
    integers = np.zeros(values.shape, np.int64)
    left = np.arange(len(values))
    with np.errstate(all="ignore"):
        for decimals in range(DECIMALS_MAX + 1):
            scale = 10.0**decimals
            # One column first: most lines that do not fit show it there.
            left = left[_fits(values[left, :1], scale)] if values.shape[1] > 1 else left
            fits = _fits(values[left], scale)
            done = left[fits]
            forms[done] = decimals
            integers[done] = np.rint(values[done] * scale).astype(np.int64)
            left = np.flatnonzero(forms == DOUBLE)
            if not len(left):
                break
        rest = values[left]
        forms[left[(rest.astype(np.float32).astype(np.float64).view(np.int64) == rest.view(np.int64)).all(axis=1)]] = (
            SINGLE
        )
    return forms, integers


def _fits(values: npt.NDArray[np.float64], scale: float) -> npt.NDArray[np.bool_]:
    scaled = np.rint(values * scale) + 0.0  # which makes −0.0 a 0.0 that does not fit
    same = (scaled / scale).view(np.int64) == np.ascontiguousarray(values).view(np.int64)
    fits: npt.NDArray[np.bool_] = (same & (np.abs(scaled) < _EXACT)).all(axis=1)
    return fits


def _runs(column: npt.NDArray[np.uint32]) -> Iterator[tuple[int, int]]:
    """Yield each value that comes several times in a row, and how often."""
    starts = [0, *(np.flatnonzero(column[1:] != column[:-1]) + 1).tolist()]
    for value, first, end in zip(column[starts].tolist(), starts, [*starts[1:], len(column)], strict=True):
        yield value, end - first


def read_table(table: pb.Table, texts: Sequence[str]) -> Iterator[Series]:
    """Yield the series of a table, a tag after the other. `texts` is the batch's dictionary.

    Raises:
        ValueError: its columns do not fit together.
    """
    for block in read_blocks(table, len(texts)):
        for line, tag in enumerate(block.tag.tolist()):
            value: npt.NDArray[Any] | list[str] = block.value[line]
            if block.is_text:
                value = [texts[place] for place in block.value[line].tolist()]
            yield Series(tag, block.ts[line], value, block.quality[line], block.revision[line])


def read_blocks(table: pb.Table, texts: int) -> Iterator[Block]:
    """Yield the readings of a table as at most five matrices. `texts` is the length of the batch's dictionary.

    Raises:
        ValueError: its columns do not fit together.
    """
    lines, rows = len(table.tags), table.rows
    size = lines * rows
    tags = np.cumsum(np.array(table.tags, np.int64))
    forms = np.array(table.forms, np.int64)
    in_integers = (forms <= 18) | (forms == TEXT)
    expected = (
        (len(table.forms), lines),
        (len(table.times), rows if len(table.times) == rows else size),
        (len(table.starts), len(table.paces)),
        (len(table.paces) * rows, len(table.times) if table.paces else 0),
        (len(table.integers), int(in_integers.sum()) * rows),
        (len(table.singles), int((forms == SINGLE).sum()) * rows),
        (len(table.doubles), int((forms == DOUBLE).sum()) * rows),
        (sum(run.count for run in table.quality), size),
        (sum(run.count for run in table.revisions), size if table.revisions else 0),
    )
    if not size or any(found != wanted for found, wanted in expected):
        raise ValueError("the columns of a table differ in length")
    if not (in_integers | (forms == SINGLE) | (forms == DOUBLE)).all():
        raise ValueError("a form that this version does not know")
    times = np.broadcast_to(_times(table), (lines, rows))
    quality = _repeated([(run.code, run.count) for run in table.quality]).reshape(lines, rows)
    revised = [(run.revision, run.count) for run in table.revisions] or [(0, size)]
    revision = _repeated(revised).reshape(lines, rows)
    integers = _sums(np.array(table.integers, np.int64).reshape(-1, rows))
    form = forms[in_integers]
    scaled = (form > 0) & (form <= 18)
    if (places := integers[form == TEXT]).size and (places.min() < 0 or places.max() >= texts):
        raise ValueError("a text is not in the dictionary")
    for chosen, value in (
        (forms == 0, integers[form == 0]),
        (in_integers & (forms > 0) & (forms <= 18), integers[scaled] / _POWERS[form[scaled], None]),
        (forms == SINGLE, np.array(table.singles, np.float64).reshape(-1, rows)),
        (forms == DOUBLE, np.array(table.doubles, np.float64).reshape(-1, rows)),
        (forms == TEXT, places),
    ):
        if len(value):
            yield Block(tags[chosen], times[chosen], value, quality[chosen], revision[chosen], value is places)


def _repeated(runs: Sequence[tuple[int, int]]) -> npt.NDArray[np.uint32]:
    return np.repeat(np.array([value for value, _ in runs], np.uint32), [count for _, count in runs])


def _times(table: pb.Table) -> Ints:
    """Return the lines of times, ns since 1970 UTC: one for all tags or one each."""
    lines = np.array(table.times, np.int64).reshape(-1, table.rows)
    with np.errstate(over="ignore"):
        if table.paces:
            starts, paces = (np.array(column, np.int64)[:, None] for column in (table.starts, table.paces))
            lines += starts + paces * np.arange(table.rows)
        else:
            lines[:, 1:] = _sums(lines[:, 1:])
            lines = _sums(lines)
        return lines * table.time_unit
