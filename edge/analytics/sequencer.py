"""Puts readings into the order of event time, as far as they come within a waiting time.

Event time is made by the readings themselves: it is the newest source time minus `wait`. While nothing comes and
something is due, it goes on at the log's pace. What comes later than `wait` counts from the moment at which it comes;
so one machine whose clock is slow loses nothing but the right place of its readings.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from edge.analytics.operator import COLUMNS, EMPTY, NEVER, Rows
from edge.core.batch import Waveform

AHEAD_NS = 60 * 10**9
"""A reading so far ahead of the gateway's clock counts as of now: it does not pull event time along."""

SET_BACK_NS = 60 * 10**9
"""When all readings of a tag were old for so long, its clock was set back, and what it says is its present."""

_DTYPES = {"slot": np.int32, "quality": np.uint32, "value": np.float64, "is_old": np.bool_}


class Sequencer:
    """Holds back what may still be overtaken.

    now     event time: everything up to it was released
    newest  the newest event time seen
    """

    def __init__(self, slots: int, wait_ns: int) -> None:
        self._wait_ns = wait_ns
        self.now = NEVER
        self.newest = NEVER
        self._newest_stored = 0
        self._wall_offset: int | None = None
        self._latest = np.full(slots, NEVER, np.int64)
        self._in_order_at = np.full(slots, NEVER, np.int64)
        self._held = EMPTY
        self._waves: list[tuple[int, int, Waveform]] = []  # event time, slot, block

    def add(self, rows: Rows, stored: int | None) -> None:
        """Take in rows that the log stored at this log time; None where there is no log, as in a replay."""
        if not len(rows) and not rows.waveforms:
            return
        wall = 2**62 if stored is None or self._wall_offset is None else stored + self._wall_offset
        ahead = rows.ts > wall + AHEAD_NS
        at = np.where(ahead, wall, rows.ts)
        waves = [(max(min(wave.ts, wall), self.now), slot, wave) for slot, wave in rows.waveforms]
        is_old = np.zeros(len(rows), np.bool_)
        late = at <= self.now
        for place in np.flatnonzero(late).tolist():
            slot, ts = int(rows.slot[place]), int(rows.ts[place])
            at[place] = self.now
            set_back = stored is not None and stored - int(self._in_order_at[slot]) > SET_BACK_NS
            is_old[place] = ts < self._latest[slot] and not set_back
            if not is_old[place] and not ahead[place]:
                self._latest[slot] = ts
        punctual = ~late & ~ahead
        np.maximum.at(self._latest, rows.slot[punctual], rows.ts[punctual])
        if stored is not None:
            self._in_order_at[rows.slot[~is_old]] = stored
        self._held = Rows.concat([self._held, replace(rows, at=at, is_old=is_old, waveforms=(), waveforms_at=())])
        self._waves += waves
        newest = max([int(at.max(initial=NEVER)), *(each[0] for each in waves)])
        if newest > self.newest:
            self.newest, self._newest_stored = newest, stored or 0

    def release(self) -> Rows:
        """Return what cannot be overtaken any more, in order; afterwards `now` is the event time it all lies before."""
        self.now = max(self.now, self.newest - self._wait_ns)
        ready = self._held.at <= self.now
        waves = sorted((each for each in self._waves if each[0] <= self.now), key=lambda each: each[:2])
        if not ready.any() and not waves:
            return EMPTY
        out = self._held.take(ready)
        self._held = self._held.take(~ready)
        self._waves = [each for each in self._waves if each[0] > self.now]
        out = out.take(np.lexsort((out.slot, out.at)))
        blocks, blocks_at = [(slot, wave) for _, slot, wave in waves], [at for at, _, _ in waves]
        return replace(out, waveforms=blocks, waveforms_at=blocks_at)

    def pass_time(self, log_now: int) -> None:
        """Let event time go on to a later log time at which nothing more had come."""
        if self.newest != NEVER and log_now > self._newest_stored:
            self.newest += log_now - self._newest_stored
            self._newest_stored = log_now

    def settle(self, now: int) -> None:
        """Let event time get to `now` with the next release: nothing earlier will come."""
        self.newest = max(self.newest, now + self._wait_ns)

    def due(self) -> int | None:
        """Return the event time of the oldest that is held back."""
        held = [int(self._held.at.min())] if len(self._held) else []
        return min([*held, *(each[0] for each in self._waves)], default=None)

    def log_time(self, due: int) -> int:
        """Return the log time at which event time gets to `due` if nothing comes."""
        return self._newest_stored + due + self._wait_ns - self.newest

    def set_clock(self, offset: int) -> int:
        """Take up the difference of the gateway's clock from log time; return by how much that was set, 0 at first."""
        by = 0 if self._wall_offset is None else offset - self._wall_offset
        self._wall_offset = offset
        return by

    def step_clock(self, by: int) -> None:
        """Note that the gateway's clock was set by so many ns."""
        if self._wall_offset is not None:
            self._wall_offset += by

    def shift(self, by: int) -> None:
        """Move event time, as the gateway's clock was moved."""
        if self.newest == NEVER:
            return
        self.newest += by
        self.now += by
        self._latest[self._latest != NEVER] += by
        self._held = replace(self._held, at=self._held.at + by)
        self._waves = [(at + by, slot, wave) for at, slot, wave in self._waves]

    def state(self) -> Mapping[str, Any]:
        """Return everything as CBOR types; slots by number."""
        held = self._held
        return {
            "now": self.now,
            "newest": self.newest,
            "stored": self._newest_stored,
            "offset": self._wall_offset,
            "latest": self._latest.tolist(),
            "in order": self._in_order_at.tolist(),
            "held": {name: getattr(held, name).tobytes() for name in COLUMNS if name != "text"},
            "texts": {place: text for place, text in enumerate(held.text) if text is not None},
            "waveforms": [
                [at, slot, wave.ts, wave.rate_hz, wave.full_scale, wave.quality, wave.samples.dtype.str,
                 wave.samples.tobytes()]
                for at, slot, wave in self._waves
            ],
        }  # fmt: skip

    def restore(self, state: Mapping[str, Any], slots: Mapping[int, int]) -> None:
        """Take a state up. `slots` says where an input of that time stands now; inputs that are gone are left out."""
        self.now, self.newest = state["now"], state["newest"]
        self._newest_stored, self._wall_offset = state["stored"], state["offset"]
        for old, new in slots.items():
            self._latest[new], self._in_order_at[new] = state["latest"][old], state["in order"][old]
        columns: dict[str, Any] = {
            name: np.frombuffer(data, _DTYPES.get(name, np.int64)).copy() for name, data in state["held"].items()
        }
        text = np.full(len(columns["slot"]), None, object)
        for place, each in state["texts"].items():
            text[place] = each
        held = Rows(**columns, text=text)
        self._held = held.take(np.isin(held.slot, list(slots)))
        self._held.slot[:] = [slots[slot] for slot in self._held.slot.tolist()]
        self._waves = [
            (at, slots[slot], Waveform(0, ts, rate, scale, np.frombuffer(data, dtype), quality))
            for at, slot, ts, rate, scale, quality, dtype, data in state["waveforms"]
            if slot in slots
        ]
