"""The analytics worker as the core sees it: a process at the other end of one socket pair."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cbor2

from edge.analytics.wire import EXIT_WARM, FRAME_BYTES_MAX, HEAD, LOG_TIME, WARM, Frame, pack, pack_map, resident_mb
from edge.core.batch import Record
from edge.core.catalogue import Tag
from edge.core.codec import decode, encode
from edge.core.errors import CorruptSegment, YulinkError
from edge.core.language import say

READY_DEADLINE_S = 180.0  # kernels are compiled here, once, on a slow box
ANSWER_DEADLINE_S = 60.0
LOOK_S = 1.0
GARBAGE = (cbor2.CBORDecodeError, CorruptSegment, KeyError, TypeError, ValueError)
END_DEADLINE_S = 5.0


class WorkerDied(YulinkError):
    """The worker is gone. `at_fault` tells whether by its own doing: a kill from outside blames no reading."""

    def __init__(self, message: str, *, at_fault: bool, warm: bool = False) -> None:
        super().__init__(message)
        self.at_fault = at_fault
        self.warm = warm


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of the records sent so far. `state` is empty where nothing came and it was not wanted.

    items      how many rows, blocks and events the operators were given, or would have been
    set_aside  of them, those that were kept from them: path and source time
    """

    records: list[Record]
    state: bytes
    wake: int | None
    view: Mapping[str, Any]
    items: int = 0
    set_aside: Sequence[tuple[str, int]] = ()


class WorkerLink:
    """One life of the worker. Every method may raise `WorkerDied`. Used by one task."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        memory_mb_max: float,
    ) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer
        self._memory_mb_max = memory_mb_max
        self._killed_for = ""
        self._is_ready = False

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def memory_mb(self) -> float:
        """Return its resident memory in megabytes."""
        return resident_mb(self.pid)

    async def hello(self, plan: Mapping[str, Any], state: bytes) -> Mapping[str, Any]:
        """Give it the plan and the state; return inputs, outputs, and what begins anew."""
        await self._send(pack_map(Frame.HELLO, {"plan": plan, "state": state}))
        kind, body = await self._receive(READY_DEADLINE_S)
        if kind != Frame.READY:
            raise await self._died()
        self._is_ready = True
        try:
            ready: Mapping[str, Any] = cbor2.loads(body)
        except GARBAGE as error:
            raise await self._died("sent what cannot be read") from error
        return ready

    async def name_outputs(self, ids: Mapping[str, int]) -> None:
        """Tell it the ids of its outputs."""
        await self._send(pack_map(Frame.IDS, dict(ids)))

    async def tell_tags(self, tags: Iterable[Tag]) -> None:
        """Tell it what ids in the log mean."""
        listed = [[tag.id, tag.device, tag.name, str(tag.kind), tag.unit] for tag in tags]
        if listed:
            await self._send(pack_map(Frame.TAGS, listed))

    async def send(self, records: Sequence[Record], stored: int) -> None:
        """Give it what was stored next, with the log time of that."""
        for record in records:
            await self._send(pack(Frame.RECORD, encode(record)))
        await self._send(pack(Frame.STORED, LOG_TIME.pack(stored)))

    async def pass_time(self, log_now: int) -> None:
        """Tell it that nothing came up to this log time."""
        await self._send(pack(Frame.TIME, LOG_TIME.pack(log_now)))

    async def keep(self, ranges: Sequence[tuple[int, int]]) -> None:
        """Let operators see only these items of what the next step releases."""
        await self._send(pack_map(Frame.KEEP, [list(each) for each in ranges]))

    async def ask(self, *, state: bool) -> Answer:
        """Return what came of everything sent so far."""
        await self._send(pack(Frame.ASK, b"\1" if state else b"\0"))
        records: list[Record] = []
        while True:
            kind, body = await self._receive(ANSWER_DEADLINE_S)
            try:
                if kind == Frame.OUTCOME:
                    records.append(decode(body))
                    continue
                answer = cbor2.loads(body)
                aside = [(path, ts) for path, ts in answer["aside"]]
                return Answer(records, answer["state"], answer["wake"], answer["view"], answer["items"], aside)
            except GARBAGE as error:
                raise await self._died("sent what cannot be read") from error

    def over_memory(self) -> bool:
        """Tell whether it takes more memory than it may. While it compiles, nobody asks."""
        return self._is_ready and self.memory_mb() > self._memory_mb_max

    async def _send(self, frame: bytes) -> None:
        try:
            self._writer.write(frame)
            async with asyncio.timeout(ANSWER_DEADLINE_S):
                await self._writer.drain()
        except (ConnectionError, TimeoutError) as error:
            raise await self._died("does not read" if isinstance(error, TimeoutError) else "") from error

    async def _receive(self, deadline_s: float) -> tuple[int, bytes]:
        try:
            kind, size = HEAD.unpack(await self._read(HEAD.size, deadline_s))
            if size > FRAME_BYTES_MAX:
                raise await self._died("sent a frame above the limit")
            body = await self._read(size, deadline_s)
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise await self._died() from error
        if kind == Frame.FAILED:
            raise await self._died(body.decode("utf-8", "replace"))
        return kind, body

    async def _read(self, size: int, deadline_s: float) -> bytes:
        """Read so many bytes, looking at the worker's memory meanwhile."""
        for _ in range(max(round(deadline_s / LOOK_S), 1)):
            try:
                async with asyncio.timeout(LOOK_S):
                    return await self._reader.readexactly(size)
            except TimeoutError:
                if self.over_memory():
                    raise await self._died("took too much memory") from None
        raise await self._died("did not answer")

    async def _died(self, reason: str = "") -> WorkerDied:
        """End it if it still runs, and return what to raise."""
        if reason and self._process.returncode is None:
            await self.end(kill=True)
            return WorkerDied(reason, at_fault=True)
        try:
            async with asyncio.timeout(END_DEADLINE_S):
                code = await self._process.wait()
        except TimeoutError:
            await self.end(kill=True)
            code = 1
        outside = code in (-signal.SIGKILL, -signal.SIGTERM, -signal.SIGHUP, -signal.SIGINT)
        message = reason or (f"exit code {code}" if code >= 0 else f"signal {-code}")
        return WorkerDied(message, at_fault=not outside and code != EXIT_WARM, warm=code == EXIT_WARM)

    async def end(self, *, kill: bool = False) -> None:
        """Close the socket, which ends the worker, and wait for that; kill it if it does not end."""
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()
        if kill and self._process.returncode is None:
            self._process.kill()
        try:
            async with asyncio.timeout(END_DEADLINE_S):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()


@asynccontextmanager
async def worker_started(kernels: Path, memory_mb_max: float, *, warm: bool) -> AsyncIterator[WorkerLink]:
    """Start a worker, and end it with the block.

    Args:
        kernels: where compiled kernels are kept, if that can be written.
        memory_mb_max: what it may take.
        warm: it was just ended to give back the compiler's memory.
    """
    ours, theirs = socket.socketpair()
    try:
        environment = os.environ | _cache(kernels, warm=warm)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "edge.analytics.worker", str(theirs.fileno())),
            stdin=asyncio.subprocess.DEVNULL,
            pass_fds=(theirs.fileno(),),
            env=environment,
            start_new_session=True,
        )
    except OSError as error:
        ours.close()
        raise WorkerDied(say("it cannot be started: {error}", error=error), at_fault=False) from error
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    reader, writer = await asyncio.open_connection(sock=ours)
    link = WorkerLink(process, reader, writer, memory_mb_max)
    try:
        yield link
    finally:
        await asyncio.shield(link.end())


def _cache(kernels: Path, *, warm: bool) -> dict[str, str]:
    """Return what says where compiled kernels are kept; where nothing can be written, each start compiles."""
    try:
        kernels.mkdir(parents=True, exist_ok=True)
        probe = kernels / ".writable"
        probe.touch()
        probe.unlink()
    except OSError:
        return {WARM: "1"}
    return {"NUMBA_CACHE_DIR": str(kernels), WARM: "1" if warm else "0"}
