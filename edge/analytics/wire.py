"""Frames between core and worker: a kind, a size, and bytes. Records travel in the log's own segment encoding."""

import os
import struct
from collections.abc import Mapping
from enum import IntEnum
from pathlib import Path
from typing import Any

import cbor2

HEAD = struct.Struct("<BI")
LOG_TIME = struct.Struct("<q")
FRAME_BYTES_MAX = 1 << 30

EXIT_WARM = 75
"""Of a worker that has compiled and wants to be started again, so that the compiler's memory is given back."""

WARM = "YULINK_WORKER_WARM"
"""Whether a worker may end so: 0 where what it compiles is kept for the next one, else 1, as in that next one."""

NOTED = ("gateway_started", "clock_step", "alarm_request")
"""Kinds of the gateway's events that operators are told of."""


class Frame(IntEnum):
    """What a frame holds. The core sends the first eight, the worker answers with the others.

    HELLO   CBOR {plan, state}; the worker answers READY
    TAGS    CBOR [[id, device, name, kind, unit], …], the catalogue as far as it is new
    IDS     CBOR {path: id} of the outputs
    RECORD  a segment of what one transaction stored
    STORED  the log time of the records since the last one of these (int64): now they are taken, in one step
    TIME    log time up to which nothing more came (int64)
    KEEP    CBOR [[first, last], …]: which items of the next step operators see; none at all only counts them
    ASK     one byte, 1 if the state is wanted in any case; the worker answers with OUTCOME frames and ANSWER
    READY   CBOR {inputs, outputs, anew, lost}
    OUTCOME a segment
    ANSWER  CBOR {state, wake, view, items, aside}; no state where nothing came of the records, so none need be stored
    FAILED  UTF-8, why the worker ends
    """

    HELLO = 1
    TAGS = 2
    IDS = 3
    RECORD = 4
    TIME = 5
    ASK = 6
    KEEP = 7
    STORED = 8
    READY = 11
    OUTCOME = 12
    ANSWER = 13
    FAILED = 14


def pack(kind: Frame, body: bytes = b"") -> bytes:
    """Return a frame."""
    return HEAD.pack(kind, len(body)) + body


def pack_map(kind: Frame, content: Mapping[str, Any] | list[Any]) -> bytes:
    """Return a frame of CBOR."""
    return pack(kind, cbor2.dumps(content))


def resident_mb(process: int | str = "self") -> float:
    """Return a process's resident memory in megabytes (10⁶ bytes), 0 where /proc does not tell."""
    try:
        pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
