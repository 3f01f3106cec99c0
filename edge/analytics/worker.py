"""The worker: a process of its own that runs the operators. It holds no file and no key, and may be killed any time.

It reads frames from the core on one socket, and answers when it is asked; see `edge.analytics.wire`.
"""

import ctypes
import gc
import os
import signal
import socket
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import cbor2

from edge.analytics import registry
from edge.analytics.operator import Output
from edge.analytics.pipeline import BadOperatorState, BadState, Keep, Outcome, Pipeline
from edge.analytics.wire import EXIT_WARM, FRAME_BYTES_MAX, HEAD, LOG_TIME, WARM, Frame, pack, pack_map
from edge.core.batch import Batch, Lane, Record, Waveform
from edge.core.catalogue import Tag, ValueKind
from edge.core.codec import decode, encode


class Worker:
    """One conversation with the core."""

    def __init__(self, link: socket.socket) -> None:
        self._link = link
        self._pipeline: Pipeline | None = None
        self._outputs: dict[str, Output] = {}
        self._ids: dict[str, int] = {}
        self._outcome = Outcome()
        self._keep: Keep | None = None
        self._records: list[Record] = []

    def run(self) -> None:
        """Serve until the core closes the socket."""
        for kind, body in self._frames():
            self._handle(kind, body)

    def _frames(self) -> Iterator[tuple[int, bytes]]:
        with self._link.makefile("rb", buffering=1 << 16) as stream:
            while len(head := stream.read(HEAD.size)) == HEAD.size:
                kind, size = HEAD.unpack(head)
                if size > FRAME_BYTES_MAX or len(body := stream.read(size)) < size:
                    return
                yield kind, body

    def _handle(self, kind: int, body: bytes) -> None:
        if kind == Frame.HELLO:
            self._begin(cbor2.loads(body))
            return
        assert self._pipeline is not None, "the first frame is HELLO"
        match kind:
            case Frame.TAGS:
                self._pipeline.learn(Tag(tag, device, name, ValueKind(value), unit)
                                     for tag, device, name, value, unit in cbor2.loads(body))  # fmt: skip
            case Frame.IDS:
                self._ids = cbor2.loads(body)
            case Frame.RECORD:
                self._records.append(decode(body))
            case Frame.STORED:
                records, keep, self._records, self._keep = self._records, self._keep, [], None
                self._outcome.add(self._pipeline.take(records, LOG_TIME.unpack(body)[0], keep))
            case Frame.TIME:
                keep, self._keep = self._keep, None
                self._outcome.add(self._pipeline.pass_time(LOG_TIME.unpack(body)[0], keep))
            case Frame.KEEP:
                self._keep = cbor2.loads(body)
            case Frame.ASK:
                self._answer(self._pipeline, wanted=body == b"\1")

    def _begin(self, hello: Mapping[str, Any]) -> None:
        kept = _compiled()
        pipeline, lost = registry.build(hello["plan"]), ""
        registry.warm_up(hello["plan"])
        if os.environ.get(WARM) == "0" and _compiled() - kept:
            sys.exit(EXIT_WARM)
        _give_back()
        anew: list[str] = []
        without: set[str] = set()
        while hello["state"]:
            try:
                anew = pipeline.restore(hello["state"], without)
                break
            except BadOperatorState as error:
                pipeline = registry.build(hello["plan"])
                without.add(error.name)
            except BadState as error:
                pipeline, lost = registry.build(hello["plan"]), str(error)
                break
        self._pipeline, self._outputs = pipeline, pipeline.outputs
        outputs = [
            [
                *(each.device, each.name, str(each.kind), each.unit, list(each.inputs), int(each.data_class)),
                str(each.level or ""),
            ]
            for each in pipeline.outputs.values()
        ]
        ready = {"inputs": pipeline.inputs, "outputs": outputs, "anew": anew, "lost": lost}
        self._link.sendall(pack_map(Frame.READY, ready))

    def _answer(self, pipeline: Pipeline, *, wanted: bool) -> None:
        outcome, self._outcome = self._outcome, Outcome()
        records = list(records_of(outcome, self._outputs, self._ids))
        for record in records:
            self._link.sendall(pack(Frame.OUTCOME, encode(record)))
        answer = {
            "state": pipeline.state() if records or wanted else b"",
            "wake": pipeline.wake(),
            "view": pipeline.view(),
            "items": outcome.items,
            "aside": [list(each) for each in outcome.set_aside],
        }
        self._link.sendall(pack_map(Frame.ANSWER, answer))


def _compiled() -> set[str]:
    """Return the files of compiled code that are kept."""
    folder = os.environ.get("NUMBA_CACHE_DIR")
    return {name for _, _, names in os.walk(folder) for name in names} if folder else set()


def _give_back() -> None:
    """Give memory that starting has left free back to the system, where its C library can."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    gc.collect()
    if trim is not None:
        trim(0)


def records_of(outcome: Outcome, outputs: Mapping[str, Output], ids: Mapping[str, int]) -> Iterator[Record]:
    """Yield what came of a step as the log keeps it: a batch a lane, blocks, and events."""
    for lane in Lane:
        chosen = [(path, each) for path, each in outcome.readings if outputs[path].kind.lane is lane]
        if chosen:
            values = [int(each.value) if lane is Lane.INT else each.value for _, each in chosen]
            yield Batch.of(
                lane,
                [ids[path] for path, _ in chosen],
                [each.ts for _, each in chosen],
                values,
                [each.quality for _, each in chosen],
                [each.revision for _, each in chosen],
            )
    for path, wave in outcome.waveforms:
        yield Waveform(ids[path], wave.ts, wave.rate_hz, wave.full_scale, wave.samples, wave.quality)
    yield from outcome.events


def main() -> int:
    """Serve the core on the socket whose number is the first argument. Returns the exit code."""
    # numba would load it for linear algebra that no kernel uses: 15 MB and half a second of each start.
    sys.modules["scipy"] = None  # type: ignore[assignment]
    # And this for declarations of C functions that no kernel calls: 2 MB.
    sys.modules["cffi"] = None  # type: ignore[assignment]
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal: the core drains first
    link = socket.socket(fileno=int(sys.argv[1]))
    try:
        Worker(link).run()
    except BrokenPipeError:
        return 0  # the core is gone
    except Exception as error:
        # The core tells the operator; the traceback goes where the core's own messages go.
        link.sendall(pack(Frame.FAILED, f"{type(error).__name__}: {error}".encode()))
        raise
    return 0


if __name__ == "__main__":
    sys.exit(main())
