"""Which device a row is of, and the number that stands for a device on file.

A segment keeps, for each device in it, that number and how many rows are of it: little-endian uint32 pairs.
"""

from collections.abc import Iterable
from typing import Protocol

import numpy as np
import numpy.typing as npt

from buffer.fetch import Fetch
from edge.core.batch import Batch, Event, Record, Waveform
from edge.core.catalogue import TAG_ID_MAX, Catalogue


class Names(Protocol):
    """Seals names where they lie on file; `buffer.vault.Vault`."""

    def hide(self, tag_id: int, device: str, name: str, unit: str) -> tuple[str, str | bytes, str]:
        """Return names as they are stored."""

    def show(self, tag_id: int, device: str, name: str | bytes, unit: str) -> tuple[str, str, str]:
        """Return names from what is stored."""


class Devices:
    """The devices of a log. A device is the id of its first tag; one that was counted before it had any, another."""

    def __init__(self, catalogue: Catalogue, vault: Names) -> None:
        self._catalogue = catalogue
        self._vault = vault
        self._known_id = 0
        self._numbers: dict[str, int] = {}
        self._firsts: list[int] = [0]
        self._named: dict[int, str] = {}
        self._ids: npt.NDArray[np.int64] = np.zeros(1, np.int64)  # of all known tags, ascending; 0 stands for none
        self._device_of: npt.NDArray[np.intp] = np.zeros(1, np.intp)

    def of(self, record: Record) -> bytes | None:
        """Return the rows of each device in a record, as the segment keeps them; None for an event."""
        match record:
            case Event():
                return None
            case Waveform():
                counts: npt.NDArray[np.intp] = np.bincount(self._places(np.array([record.tag])))
            case Batch():
                counts = np.bincount(self._places(record.tag))
        (present,) = counts.nonzero()
        firsts = np.array(self._firsts)[present]
        return np.column_stack([firsts, counts[present]]).astype("<u4").tobytes()

    def number(self, device: str) -> int:
        """Return the number of a device: the id of its first tag, or what it was given before it had one."""
        self._learn()
        if device not in self._numbers:
            number = max(self._named, default=TAG_ID_MAX) + 1
            self._named[number] = device
            self._place(device, number)
        return self._firsts[self._numbers[device]]

    def name(self, number: int) -> str:
        """Return the device with this number."""
        return self._catalogue[number].device if number in self._catalogue else self._named.get(number, "")

    def hidden(self, numbers: Iterable[int]) -> list[tuple[int, str | bytes]]:
        """Return, of these, the numbers that were given to a device without a tag, with the name as it is stored."""
        own = [number for number in numbers if number in self._named]
        return [(number, self._vault.hide(number, "", self._named[number], "")[1]) for number in own]

    async def load(self, fetch: Fetch) -> None:
        """Take up the devices that were given a number before they had a tag. They keep it."""
        for number, hidden in await fetch("SELECT number, name FROM ledger_device", ()):
            if number not in self._named:
                self._named[number] = self._vault.show(number, "", hidden, "")[1]
                self._place(self._named[number], number)

    def _learn(self) -> None:
        if self._known_id == self._catalogue.last_id:
            return
        tags = self._catalogue.since(self._known_id)
        places = [self._place(tag.device, tag.id) for tag in tags]
        self._ids = np.append(self._ids, np.array([tag.id for tag in tags], np.int64))
        self._device_of = np.append(self._device_of, np.array(places, np.intp))
        self._known_id = self._catalogue.last_id

    def _place(self, device: str, number: int) -> int:
        place = self._numbers.setdefault(device, len(self._firsts))
        if place == len(self._firsts):
            self._firsts.append(number)
        return place

    def _places(self, tags: npt.NDArray[np.integer]) -> npt.NDArray[np.intp]:
        self._learn()
        at = np.minimum(np.searchsorted(self._ids, tags), len(self._ids) - 1)
        return np.where(self._ids[at] == tags, self._device_of[at], 0)


def counted(devices: bytes) -> Iterable[tuple[int, int]]:
    """Return (device, rows) of what a segment keeps."""
    return [(first, rows) for first, rows in np.frombuffer(devices, "<u4").reshape(-1, 2).tolist()]
