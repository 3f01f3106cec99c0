"""The readings of a message as columns, named by the catalogue: what every store writes."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from sys import intern
from typing import Any

import numpy as np
import numpy.typing as npt

from uplink import batch_pb2 as pb
from uplink.encode import BadMessage
from uplink.tables import Block, Ints, read_blocks


class Tags:
    """The tags of one gateway: from the id in a message to the key in a store, and to the kind."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[int, int]] = {}
        self._device: dict[int, str] = {}
        self._sorted: Ints | None = None

    def learn(self, tag: int, key: int, kind: int, device: str) -> None:
        """Take in a tag. An id never changes its meaning, so what is known stays."""
        if tag not in self._known:
            self._known[tag] = (key, kind)
            self._device[key] = intern(device)
            self._sorted = None

    def device(self, key: int) -> str:
        """Return the device of the tag with this key."""
        return self._device[key]

    def key(self, tag: int) -> int | None:
        """Return the key of a tag, None when it is not known."""
        return self._known[tag][0] if tag in self._known else None

    def find(self, tag: Ints) -> tuple[Ints, Ints] | None:
        """Return key and kind, int64[m] each, of tags int64[m]; None when one of them is not known."""
        if self._sorted is None:
            self._sorted = np.array([(tag, *facts) for tag, facts in sorted(self._known.items())], np.int64)
            self._sorted = self._sorted.reshape(-1, 3).T
        known, key, kind = self._sorted
        place = np.searchsorted(known, tag)
        if not len(known) or (known[np.minimum(place, len(known) - 1)] != tag).any():
            return None
        return key[place], kind[place]


@dataclass(frozen=True, slots=True)
class Column:
    """Readings of one type; those of one tag are in order.

    key       int64[n]   of the tag in the store
    kind      int64[n]   `pb.Kind` of the tag
    ts        int64[n]   ns since 1970 UTC
    value     float64[n] or int64[n] (UINT64 by its bit pattern), or a list of `str`
    quality   uint32[n]  OPC UA StatusCode
    revision  uint32[n]  0 at first; of readings of one tag and `ts` the highest holds
    """

    key: Ints
    kind: Ints
    ts: Ints
    value: npt.NDArray[Any] | list[str]
    quality: npt.NDArray[np.uint32]
    revision: npt.NDArray[np.uint32]

    def __len__(self) -> int:
        return len(self.ts)


@dataclass(frozen=True, slots=True)
class Readings:
    """All readings of a message by the type of their values."""

    floats: Column
    integers: Column
    texts: Column

    def __len__(self) -> int:
        return len(self.floats) + len(self.integers) + len(self.texts)


Part = tuple[Ints, Ints, Block, npt.NDArray[np.bool_]]


def read(message: pb.Batch, tags: Tags) -> Readings | None:
    """Return the readings of a message; None when one of its tags, a waveform's too, is in no catalogue yet.

    Raises:
        BadMessage: a table cannot be read, or holds texts for a number or numbers for a text.
    """
    if any(tags.key(wave.tag) is None for wave in message.waveforms):
        return None
    floats: list[Part] = []
    integers: list[Part] = []
    texts: list[Part] = []
    for table in message.tables:
        try:
            blocks = [*read_blocks(table, len(message.texts))]
        except (ValueError, OverflowError) as error:
            raise BadMessage(f"a table that cannot be read: {error}") from error
        for block in blocks:
            found = tags.find(block.tag)
            if found is None:
                return None
            key, kind = found
            if ((kind == pb.TEXT) != block.is_text).any() or (kind == pb.WAVEFORM).any():
                raise BadMessage("values of another kind than the catalogue says")
            for parts, chosen in (
                (texts, kind == pb.TEXT),
                (floats, kind == pb.FLOAT64),
                (integers, (kind != pb.FLOAT64) & (kind != pb.TEXT)),
            ):
                if chosen.any():
                    parts.append((key, kind, block, chosen))
    places = _column(texts, np.int64)
    words = [message.texts[place] for place in np.asarray(places.value).tolist()]
    return Readings(
        _column(floats, np.float64),
        _column(integers, np.int64),
        Column(places.key, places.kind, places.ts, words, places.quality, places.revision),
    )


def _column(parts: Iterable[Part], dtype: type[Any]) -> Column:
    """Put the chosen lines of blocks one after the other."""
    columns: list[list[npt.NDArray[Any]]] = [
        [np.zeros(0, of)] for of in (np.int64, np.int64, np.int64, dtype, np.uint32, np.uint32)
    ]
    for key, kind, block, chosen in parts:
        rows = block.ts.shape[1]
        lines = np.repeat(key[chosen], rows), np.repeat(kind[chosen], rows)
        values = block.value[chosen].astype(dtype, copy=False)
        matrices = block.ts[chosen], values, block.quality[chosen], block.revision[chosen]
        for column, part in zip(columns, (*lines, *(matrix.ravel() for matrix in matrices)), strict=True):
            column.append(part)
    key, kind, ts, value, quality, revision = map(np.concatenate, columns)
    return Column(key, kind, ts, value, quality, revision)


def joined(parts: Sequence[tuple[int, Column]]) -> tuple[Ints, Column]:
    """Return all readings of messages, given as (id, column), as one column, and the id of each."""
    filled = [(key, column) for key, column in parts if len(column)]
    columns = [column for _, column in filled]
    message = np.repeat(np.array([key for key, _ in filled], np.int64), [len(column) for column in columns])
    if len(columns) == 1:
        return message, columns[0]
    if columns and isinstance(columns[0].value, list):
        value: npt.NDArray[Any] | list[str] = [text for column in columns for text in column.value]
    else:
        value = np.concatenate([np.asarray(column.value) for column in columns] or [np.zeros(0)])
    ints = [np.zeros(0, np.int64)]
    return message, Column(
        key=np.concatenate([*ints, *(column.key for column in columns)]),
        kind=np.concatenate([*ints, *(column.kind for column in columns)]),
        ts=np.concatenate([*ints, *(column.ts for column in columns)]),
        value=value,
        quality=np.concatenate([np.zeros(0, np.uint32), *(column.quality for column in columns)]),
        revision=np.concatenate([np.zeros(0, np.uint32), *(column.revision for column in columns)]),
    )
