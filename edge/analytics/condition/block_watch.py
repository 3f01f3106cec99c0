"""What operators over whole blocks of samples have in common: a block is judged when it is over, if all of it was in
the state that counts."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.analytics.condition.gate import Gate
from edge.analytics.condition.names import Figure, path_of
from edge.analytics.condition.signal.stretch import Channel
from edge.analytics.condition.telling import Teller, as_state, of_state
from edge.analytics.operator import Derived, Operator, Rows
from edge.core.batch import Waveform
from edge.core.quality import is_bad

F64 = NDArray[np.float64]

WAITING_MAX = 16
"""Blocks that may wait for their end, or for what belongs to them."""

SPEED = 1.0
"""The speed does not matter for what belongs into one block."""


def end_of(wave: Waveform) -> int:
    """Return the time of a block's last sample."""
    return wave.ts + round(max(len(wave) - 1, 0) / wave.rate_hz * 1e9)


def scaled(wave: Waveform, factor: float) -> F64 | None:
    """Return a block's samples times a factor; None for whole numbers without a full scale."""
    if wave.samples.dtype == np.int16:
        if not wave.full_scale:
            return None
        factor *= wave.full_scale / 32768
    return wave.samples.astype(np.float64) * factor


class BlockWatch(Operator):
    """Base: takes values and blocks in order of event time, tells state and gate apart, and waits for ends of blocks.

    A part says what to do with a value (`take_value`) and with a block that is over (`take_block`).
    """

    KIND = "condition"

    def __init__(
        self,
        machine: Mapping[str, Any],
        what: str,
        channels: Mapping[str, Channel],
        values: Iterable[str],
        gate: str,
        figures: Iterable[Figure],
    ) -> None:
        self.machine = machine
        self.device: str = machine["device"]
        self.name = f"{what} {self.device}"
        running = machine[gate]
        self.gate = Gate(running["above"], running["hold_ns"]) if running else None
        self._gate_tag = running["tag"] if running else None
        self._channels = channels
        self.tags = list(dict.fromkeys([*channels, *values, *([running["tag"]] if running else [])]))
        self.inputs = [path_of(self.device, tag) for tag in self.tags]
        self.teller = Teller(self.device, figures)
        self.outputs = self.teller.outputs
        self._waiting: list[tuple[int, str, Waveform]] = []  # when its time is up, tag, block

    @property
    def fingerprint(self) -> str:
        """What is known of another machine means nothing."""
        return json.dumps(self.machine, sort_keys=True)

    def take_value(self, tag: str, at: int, value: float) -> None:
        """Take a value; NaN for a bad one."""

    def is_kept(self, tag: str, at: int, wave: Waveform) -> bool:
        """Take what a block is at once; return whether it waits to be judged."""
        return True

    def take_block(self, out: Derived, tag: str, at: int, wave: Waveform) -> bool:
        """Judge a block that is over, all of it in the state that counts; return False to be asked again later."""
        raise NotImplementedError

    def patience(self) -> int:
        """Return how many ns after its end a block may be asked for again, before it is given up."""
        return 0

    def give_up(self, out: Derived, tag: str, wave: Waveform) -> None:
        """Note that a block is not judged, for what belongs to it did not come."""

    def push(self, rows: Rows, now: int) -> Derived:
        """Take values and blocks in order of event time; of one time, values first."""
        out = Derived()
        for at, slot, given in rows.numbers_and_blocks():
            if isinstance(given, Waveform):
                self._take_wave(out, slot, given, at)
                continue
            self._finish(out, at - 1)
            tag = self.tags[slot]
            if self.gate is not None and tag == self._gate_tag:
                self.gate.feed(at, given)
            self.take_value(tag, at, given)
        self._finish(out, now)
        return out

    def _take_wave(self, out: Derived, slot: int, wave: Waveform, at: int) -> None:
        self._finish(out, at - 1)
        tag = self.tags[slot]
        channel = self._channels[tag]
        is_fit = not is_bad(wave.quality) and len(wave) > 0 and (self.gate is None or self.gate.is_settled(at))
        for each in channel.feed(wave, SPEED, at) if is_fit else channel.end():
            self._take(tag, at, each.wave)

    def _take(self, tag: str, at: int, wave: Waveform) -> None:
        if self.is_kept(tag, at, wave):
            self._waiting = [*self._waiting, (max(end_of(wave), at), tag, wave)][-WAITING_MAX:]

    def _finish(self, out: Derived, until: int) -> None:
        """End what nothing follows any more, and judge all blocks that are over, in order of event time."""
        while (due := self.due()) is not None and due <= until:
            for tag, channel in self._channels.items():
                if channel.due() == due:
                    for each in channel.end():
                        self._take(tag, due, each.wave)
            over = [each for each in self._waiting if each[0] <= due]
            if not over:
                continue
            first = min(over, key=lambda each: (each[0], each[1]))
            self._waiting.remove(first)
            at, tag, wave = first
            self.teller.now = at
            if self.gate is not None and not self.gate.is_settled(wave.ts):
                continue
            if self.take_block(out, tag, at, wave):
                continue
            last = end_of(wave) + self.patience()
            if at >= last:
                self.give_up(out, tag, wave)
            else:
                self._waiting.append((last, tag, wave))

    def ask_again(self, at: int) -> None:
        """Let blocks that are over be judged at this moment: what belongs to them may have come."""
        self._waiting = [(max(end_of(wave), at), tag, wave) for _, tag, wave in self._waiting]

    def due(self) -> int | None:
        """Return when the next block is over, or the next stretch of samples counts as ended."""
        ends = [due for channel in self._channels.values() if (due := channel.due()) is not None]
        return min([*ends, *(each[0] for each in self._waiting)], default=None)

    def shift(self, by: int) -> None:
        """Move what is counted from a moment."""
        if self.gate is not None and self.gate.since is not None:
            self.gate.since += by
        self._waiting = [(at + by, tag, wave) for at, tag, wave in self._waiting]
        for channel in self._channels.values():
            channel.shift(by)

    def state(self) -> Mapping[str, Any]:
        """Return the gate, the newest times and the blocks that wait; a part adds its own."""
        return {
            "since": self.gate.since if self.gate else None,
            "told": self.teller.told,
            "channels": [channel.state() for channel in self._channels.values()],
            "waiting": [[at, tag, *as_state(wave)] for at, tag, wave in self._waiting],
        }

    def restore(self, state: Mapping[str, Any]) -> Sequence[str]:
        """Take a state up."""
        if self.gate is not None:
            self.gate.since = state["since"]
        self.teller.told = list(state["told"])
        for channel, kept in zip(self._channels.values(), state["channels"], strict=True):
            channel.restore(kept)
        self._waiting = [(at, tag, of_state(wave)) for at, tag, *wave in state["waiting"]]
        return ()
