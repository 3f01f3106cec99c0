"""Takes the files of a folder, each exactly once."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TypeVar

import numpy as np

from drivers.api import DeviceContext, Session
from drivers.files.folder import Folder, Found
from drivers.files.recording import waveforms
from drivers.files.section import FilesSection
from edge.core.batch import Event, Record, Severity, Waveform
from edge.core.catalogue import Tag, ValueKind
from edge.core.errors import Disconnected, WrongInput
from edge.core.language import say
from edge.core.quality import StatusCode

IDLE_S = 5.0
READ_DEADLINE_S = 60.0
T = TypeVar("T")


class FilesDriver:
    """Implements `drivers.api.Driver`."""

    def __init__(self, section: FilesSection, context: DeviceContext) -> None:
        self.section = section
        self.context = context
        self.tags: dict[str, Tag] = {
            name: context.catalogue.intern(
                context.device, name, ValueKind.WAVEFORM, tag.unit or tag.full_scale_quantity[1]
            )
            for name, tag in section.tags.items()
        }
        self.counters = {"files_total": 0, "files_bad_total": 0, "files_waiting": 0}
        self.every = min([section.every or context.every, *(tag.every for tag in section.tags.values() if tag.every)])

    @property
    def tag_ids(self) -> Sequence[int]:
        """Ids of all its tags."""
        return [tag.id for tag in self.tags.values()]

    @property
    def read_deadline(self) -> float:
        """A session answers every few seconds; a slow disk and a long file have their time."""
        return READ_DEADLINE_S

    def tags_of(self, name: str) -> dict[str, int]:
        """Return the tags, with their ids, that a file of this name holds."""
        return {tag: self.tags[tag].id for tag, each in self.section.tags.items() if fnmatchcase(name, each.file)}

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Session]:
        """Look at the folder. Raises Disconnected when it is not there or cannot be written."""
        folder = Folder(Path(self.section.files), self.section.settle, lambda name: bool(self.tags_of(name)))
        session = FilesSession(self, folder)
        await session.open()
        yield session


class FilesSession:
    """Implements `drivers.api.Session`: at most one file a read.

    With a log behind it, a file is in `taking/` from before its waveforms are given out until they are durable; what
    lies there at the beginning is compared with the log. Without a log, as for `yulink read`, nothing is moved.
    """

    def __init__(self, driver: FilesDriver, folder: Folder) -> None:
        self._driver = driver
        self._folder = folder
        self._clock = driver.context.clock
        self._kept = driver.context.kept
        self._given: tuple[Path, str] | None = None  # a file whose waveforms were given out, and what is wrong with it
        self._seen: set[str] = set()  # without a log
        self._origin: dict[str, str] = {}

    async def open(self) -> None:
        """Check the folder."""
        folder = self._folder
        await self._do(folder.open if self._kept is not None else lambda: folder.complete(self._clock.monotonic()))

    def raw(self) -> dict[str, str]:
        """Return from which file each tag's last waveform came."""
        return dict(self._origin)

    async def read(self) -> Sequence[Record]:
        """Wait for the next complete file and return what it holds; nothing after five quiet seconds.

        Cancelled, it loses nothing: a file is done only when the log has it.
        """
        await self._finish()
        began = self._clock.monotonic()
        while True:
            if (records := await self._next()) is not None:
                return records
            if self._clock.monotonic() - began >= IDLE_S:
                return []
            await self._clock.sleep(min(self._driver.every, IDLE_S))

    async def _finish(self) -> None:
        """Move the file away that was given out, now that the log has it."""
        if self._given is None or self._kept is None:
            return
        path, reason = self._given
        await self._kept.durable()
        await self._do(lambda: self._folder.finish(path, reason))
        self._given = None

    async def _next(self) -> Sequence[Record] | None:
        if self._kept is None:
            return await self._look()
        if left := await self._do(self._folder.being_taken):
            return await self._take(left[0], is_new=False)
        complete = await self._do(lambda: self._folder.complete(self._clock.monotonic()))
        self._driver.counters["files_waiting"] = self._folder.waiting()
        if keep := self._driver.section.keep:
            await self._do(lambda: self._folder.tidy(self._clock.now() - round(keep * 1e9)))
        begun = await self._do(lambda: self._folder.begin(complete[0])) if complete else None
        return None if begun is None else await self._take(begun, is_new=True)

    async def _look(self) -> Sequence[Record] | None:
        for found in await self._do(lambda: self._folder.complete(self._clock.monotonic())):
            if found.path.name not in self._seen:
                self._seen.add(found.path.name)
                return (await self._records(found))[0]
        return None

    async def _take(self, found: Found, *, is_new: bool) -> Sequence[Record]:
        records, reason = await self._records(found)
        if not is_new and self._kept is not None:
            await self._kept.durable()
            waves = [each for each in records if isinstance(each, Waveform)]
            held: dict[int, set[int]] = {}
            for tag in {each.tag for each in waves}:
                held[tag] = await self._kept.held(tag, [each.ts for each in waves if each.tag == tag])
            missing = [each for each in waves if each.ts not in held[each.tag]]
            events = [each for each in records if not isinstance(each, Waveform)]
            records = [*(events if len(missing) == len(waves) else ()), *missing]
        self._driver.counters["files_bad_total" if reason else "files_total"] += 1
        self._given = found.path, reason
        return records

    async def _records(self, found: Found) -> tuple[list[Record], str]:
        """Return what a file holds, and what is wrong with it, in one sentence."""
        section, name = self._driver.section, found.path.name
        tags = self._driver.tags_of(name)

        def read() -> tuple[list[Waveform], list[WrongInput]]:
            if found.size > section.max:
                words = say("{file} has {size:.0f} MB", file=name, size=found.size / 1e6)
                return [], [WrongInput(words, say("cut it, or write a larger `max`"))]
            return waveforms(name, found.path.read_bytes(), found.modified_ns, section, tags)

        good, wrong = await self._do(read)
        self._origin |= {tag: name for tag, number in tags.items() if number in {each.tag for each in good}}
        if not wrong:
            return list(good), ""
        reason = "; ".join(dict.fromkeys(str(each) for each in wrong))
        lacking = set(tags.values()) - {each.tag for each in good}
        event = Event(
            found.modified_ns, self._driver.context.device, "file_refused", Severity.MEDIUM, reason,
            {"file": name, "reason": reason, "bytes": found.size},
        )  # fmt: skip
        nothing = np.empty(0, np.int16)
        bad = [
            Waveform(tag, found.modified_ns, 0.0, 0.0, nothing, int(StatusCode.BAD_DECODING_ERROR))
            for tag in sorted(lacking)
        ]
        return [event, *bad, *good], reason

    async def _do(self, work: Callable[[], T]) -> T:
        """Do what waits for a disk in a thread."""
        try:
            return await asyncio.to_thread(work)
        except OSError as error:
            raise Disconnected(
                say(
                    "the folder {folder} cannot be used: {error}",
                    folder=self._folder.path,
                    error=error.strerror or error,
                ),
                say("it must be there, and the agent must be allowed to read and write it"),
            ) from error
