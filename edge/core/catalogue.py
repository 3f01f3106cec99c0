"""The catalogue: which id means which tag. Ids are persisted with the data and never reused."""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from edge.core.batch import Lane
from edge.core.errors import YulinkError

TAG_ID_MAX = 2**31 - 1


class ValueKind(StrEnum):
    """What a tag's values are. It fixes the lane; `uint64` keeps its bit pattern in the int64 lane."""

    BOOL = "bool"
    INT64 = "int64"
    UINT64 = "uint64"
    FLOAT64 = "float64"
    TEXT = "text"
    WAVEFORM = "waveform"

    @property
    def lane(self) -> Lane:
        """The lane of the tag's rows. A waveform has none: its blocks travel as `Waveform`."""
        return _LANES[self]


_LANES = {
    ValueKind.BOOL: Lane.INT,
    ValueKind.INT64: Lane.INT,
    ValueKind.UINT64: Lane.INT,
    ValueKind.FLOAT64: Lane.FLOAT,
    ValueKind.TEXT: Lane.TEXT,
}


@dataclass(frozen=True, slots=True)
class Tag:
    """One measured thing. A change of device, name, kind or unit makes another tag with another id."""

    id: int
    device: str
    name: str
    kind: ValueKind
    unit: str = ""

    @property
    def path(self) -> str:
        """Device and name as users write them, e.g. `pump-3.temperature`."""
        return f"{self.device}.{self.name}"

    def present(self, value: Any) -> bool | int | float | str:
        """Turn a lane's value into the tag's own Python value (`true`, an unsigned counter, …)."""
        match self.kind:
            case ValueKind.BOOL:
                return bool(value)
            case ValueKind.UINT64:
                return int(value) & 0xFFFF_FFFF_FFFF_FFFF
            case ValueKind.INT64:
                return int(value)
            case ValueKind.TEXT:
                return str(value)
            case _:
                return float(value)


class Catalogue:
    """All tags ever seen, by id. Not safe for threads; owned by the core process.

    The log loads it when it opens and saves what is new in the same transaction as the first rows
    that use it, so an id on disk always has its name beside it.

    `first_id` is the least id that a new tag gets. With the clock in it, ids that a lost or restored database has
    forgotten are not given again.
    """

    def __init__(self, tags: Iterable[Tag] = (), first_id: int = 1) -> None:
        self._first_id = first_id
        self._by_id: dict[int, Tag] = {}
        self._by_identity: dict[tuple[str, str, ValueKind, str], Tag] = {}
        self._current: dict[tuple[str, str], Tag] = {}
        for tag in sorted(tags, key=lambda tag: tag.id):
            self._add(tag)

    def intern(self, device: str, name: str, kind: ValueKind, unit: str = "") -> Tag:
        """Return the tag of this identity; the first time, give it the next id.

        Raises:
            YulinkError: all 2³¹−1 ids are used.
        """
        tag = self._by_identity.get((device, name, kind, unit))
        if tag is None:
            tag_id = max(self.last_id + 1, self._first_id)
            if tag_id > TAG_ID_MAX:
                raise YulinkError("all tag ids are used", hint="begin a new data directory")
            tag = Tag(tag_id, device, name, kind, unit)
            self._add(tag)
        self._current[device, name] = tag
        return tag

    def _add(self, tag: Tag) -> None:
        if tag.id in self._by_id:
            raise ValueError(f"tag id {tag.id} is given twice")
        self._by_id[tag.id] = tag
        self._by_identity[tag.device, tag.name, tag.kind, tag.unit] = tag
        self._current[tag.device, tag.name] = tag

    @property
    def last_id(self) -> int:
        """The highest id given so far, 0 for none."""
        return next(reversed(self._by_id), 0)

    def since(self, tag_id: int) -> list[Tag]:
        """Return the tags whose id is above `tag_id`, in order of id."""
        newest_first = itertools.takewhile(lambda known: known > tag_id, reversed(self._by_id))
        return [self._by_id[known] for known in newest_first][::-1]

    def find(self, device: str, name: str) -> Tag | None:
        """Return the tag last interned under this name."""
        return self._current.get((device, name))

    def __getitem__(self, tag_id: int) -> Tag:
        return self._by_id[tag_id]

    def __contains__(self, tag_id: object) -> bool:
        return tag_id in self._by_id

    def __iter__(self) -> Iterator[Tag]:
        return iter(self._by_id.values())

    def __len__(self) -> int:
        return len(self._by_id)
