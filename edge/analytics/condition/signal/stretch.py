"""Blocks of samples out of waveforms: those that follow each other without a gap are joined, long ones are cut.

A stretch is what a channel measured without a gap. It is cut into blocks of two lengths, a short one for trends and a
long one for bearing lines. A stretch that ends before a block is full is one block, as long as it is.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge.analytics.condition.names import SAMPLES_MAX
from edge.core.batch import Waveform
from edge.core.quality import is_good

JOIN_SHARE = 0.05
JOIN_NS_MAX = 20_000_000
"""A waveform follows another if it begins where that ends, give or take 5 % of the shorter one, 20 ms at most: devices'
clocks jitter so much, and one that is lost leaves a hole as long as itself."""

SPEED_SHARE = 0.02
"""Speeds further apart than this do not belong into one block: their lines lie elsewhere."""

GRACE_NS = 2 * 10**9
"""How long the next waveform may be on its way beyond its own length, before its stretch counts as ended."""

Purpose = Literal["trend", "bearing"]
TREND: Purpose = "trend"
BEARING: Purpose = "bearing"


class Lengths(NamedTuple):
    """Of the blocks of one purpose: how long they are, and how far the next begins behind the one before, seconds."""

    length: float
    hop: float


class Block(NamedTuple):
    """Samples without a gap, as the device gave them, and the speed at which they were taken."""

    purpose: Purpose
    wave: Waveform
    rpm: float

    @property
    def end(self) -> int:
        """The time at which it ends, ns."""
        return self.wave.ts + duration_ns(self.wave)


def duration_ns(wave: Waveform) -> int:
    """Return how long a waveform is."""
    return round(len(wave) * 1e9 / wave.rate_hz)


@dataclass(slots=True)
class _Stretch:
    """The samples since the last gap, as far as a block still needs them.

    samples   (n,) int16 or float32
    first     number of samples[0] within the stretch
    anchors   (number of a sample, its time): the beginning of each waveform from which samples are here
    starts    number of the sample at which the next block of each purpose begins
    end       time at which the last waveform ends
    last_ns   how long that was
    due       event time at which nothing that follows is expected any more
    """

    rate_hz: float
    full_scale: float
    quality: int
    rpm: float
    samples: NDArray[Any]
    first: int
    anchors: list[tuple[int, int]]
    starts: dict[Purpose, int]
    end: int
    last_ns: int
    due: int

    def is_followed_by(self, wave: Waveform, rpm: float) -> bool:
        """Tell whether a waveform begins where this ends, measured in the same way."""
        same = wave.rate_hz == self.rate_hz and wave.full_scale == self.full_scale
        if not same or wave.samples.dtype != self.samples.dtype or not is_good(wave.quality):
            return False
        shorter = min(self.last_ns, duration_ns(wave))
        tolerance = max(min(round(JOIN_SHARE * shorter), JOIN_NS_MAX), round(0.5e9 / self.rate_hz))
        return abs(wave.ts - self.end) <= tolerance and abs(rpm - self.rpm) <= SPEED_SHARE * self.rpm

    @property
    def total(self) -> int:
        return self.first + len(self.samples)

    def time_of(self, number: int) -> int:
        begin, ts = next(anchor for anchor in reversed(self.anchors) if anchor[0] <= number)
        return ts + round((number - begin) * 1e9 / self.rate_hz)

    def cut(self, purpose: Purpose, begin: int, end: int) -> Block:
        samples = self.samples[begin - self.first : end - self.first].copy()
        wave = Waveform(0, self.time_of(begin), self.rate_hz, self.full_scale, samples, self.quality)
        return Block(purpose, wave, self.rpm)

    def forget(self, number: int) -> None:
        """Drop the samples before this one."""
        if number <= self.first:
            return
        self.samples = self.samples[number - self.first :].copy()
        self.first = number
        behind = sum(begin <= number for begin, _ in self.anchors)
        self.anchors = self.anchors[max(behind - 1, 0) :]


@dataclass(slots=True)
class Channel:
    """One channel's blocks.

    lengths  of the purposes that are wanted
    joins    whether the time of its waveforms is that of their first sample, so that a gap shows
    newest   when the last waveform began
    """

    lengths: Mapping[Purpose, Lengths]
    joins: bool
    newest: int | None = field(default=None, init=False)
    _stretch: _Stretch | None = field(default=None, init=False)

    def due(self) -> int | None:
        """Return the event time at which `end` must be called."""
        return None if self._stretch is None else self._stretch.due

    def shift(self, by: int) -> None:
        """Move event time."""
        if self._stretch is not None:
            self._stretch.due += by

    def feed(self, wave: Waveform, rpm: float, at: int) -> Iterator[Block]:
        """Take a waveform, which counts at this event time; yield the blocks that end with it, in order of their end.

        One that begins when the last one did is that one again, as after a new connection. `wave` has samples and no
        bad quality, `rpm` is above zero.
        """
        if wave.ts == self.newest:
            return
        self.newest = wave.ts
        if self._stretch is None or not self._stretch.is_followed_by(wave, rpm):
            yield from self.end()
            self._stretch = _Stretch(
                wave.rate_hz, wave.full_scale, wave.quality, rpm, wave.samples[:0], 0, [],
                dict.fromkeys(self.lengths, 0), wave.ts, 0, at,
            )  # fmt: skip
        stretch = self._stretch
        stretch.last_ns = duration_ns(wave)
        stretch.anchors.append((stretch.total, wave.ts))
        stretch.samples = np.concatenate([stretch.samples, wave.samples])
        stretch.end = wave.ts + stretch.last_ns
        stretch.due = at + 2 * stretch.last_ns + GRACE_NS
        yield from self._full(stretch)
        if not self.joins or not is_good(wave.quality):
            yield from self.end()

    def _full(self, stretch: _Stretch) -> Iterator[Block]:
        while True:
            ends = [(start + self._samples(purpose), purpose) for purpose, start in stretch.starts.items()]
            end, purpose = min(ends, key=lambda each: each[0])
            if end > stretch.total:
                break
            begin = stretch.starts[purpose]
            yield stretch.cut(purpose, begin, end)
            hop = max(round(self.lengths[purpose].hop * stretch.rate_hz), 1)
            stretch.starts[purpose] = begin + hop
        stretch.forget(min(*stretch.starts.values(), stretch.total))

    def _samples(self, purpose: Purpose) -> int:
        assert self._stretch is not None
        wanted = round(self.lengths[purpose].length * self._stretch.rate_hz)
        return min(max(wanted, 1), SAMPLES_MAX)

    def end(self) -> Iterator[Block]:
        """End the stretch, if there is one: yield what it has of each purpose of which no block became full."""
        stretch, self._stretch = self._stretch, None
        if stretch is None:
            return
        for purpose, start in stretch.starts.items():
            if start == 0:
                yield stretch.cut(purpose, 0, stretch.total)

    def state(self) -> list[Any]:
        """Return it as plain values."""
        s = self._stretch
        if s is None:
            return [self.newest]
        samples = [s.samples.dtype.str, s.samples.tobytes()]
        anchors, starts = [list(each) for each in s.anchors], list(s.starts.values())
        kept = [s.rate_hz, s.full_scale, s.quality, s.rpm, samples, s.first, anchors, starts, s.end, s.last_ns, s.due]
        return [self.newest, *kept]

    def restore(self, state: Sequence[Any]) -> None:
        """Take up what `state` told of the same lengths."""
        self.newest, *kept = state
        self._stretch = None
        if not kept:
            return
        rate, full_scale, quality, rpm, (dtype, data), first, anchors, starts, end, last_ns, due = kept
        self._stretch = _Stretch(
            rate, full_scale, quality, rpm, np.frombuffer(data, dtype).copy(), first,
            [(begin, ts) for begin, ts in anchors], dict(zip(self.lengths, starts, strict=True)), end, last_ns, due,
        )  # fmt: skip
