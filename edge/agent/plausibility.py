"""The rules that a reading must obey to be believed, over whole columns at once; see `docs/quality.md`.

What breaks a rule keeps its value and gets the StatusCode of the rule. A tag without a rule costs nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.core.quality import UNREACHED, StatusCode, bad_mask

NEVER = np.int64(-(2**63))
SETTLING_NS = 60 * 10**9
"""For so long after a device came what it tells may be old with good reason: first values, and what it had queued."""

CODES: Mapping[str, StatusCode] = {
    "unit": StatusCode.BAD_CONFIGURATION_ERROR,
    "range": StatusCode.BAD_OUT_OF_RANGE,
    "clock": StatusCode.BAD_INVALID_TIMESTAMP,
    "rate": StatusCode.UNCERTAIN_SENSOR_NOT_ACCURATE,
    "frozen": StatusCode.UNCERTAIN_LAST_USABLE_VALUE,
}
"""Rule → the code that a reading gets which breaks it, the first that does."""

_UNREACHED = np.array(sorted(UNREACHED), np.uint32)
_STATE = ("held", "held_ns", "held_ts", "plausible", "plausible_ts")


@dataclass(frozen=True, slots=True)
class Limits:
    """What one tag's readings must obey; infinite where there is no rule.

    low, high   the plausible range, in the tag's unit
    rate        the greatest change a second, in the tag's unit
    frozen_ns   how long a value may stand still
    clock_ns    how far its time may be off the gateway's clock
    """

    low: float = -np.inf
    high: float = np.inf
    rate: float = np.inf
    frozen_ns: float = np.inf
    clock_ns: float = np.inf


@dataclass(frozen=True, slots=True)
class Turn:
    """Rows of which each is of another tag: `rows` in the batch, `at` their places; and which of them have a rule."""

    rows: npt.NDArray[np.intp]
    at: npt.NDArray[np.intp]
    rated: npt.NDArray[np.intp]
    standing: npt.NDArray[np.intp]
    timed: npt.NDArray[np.intp]


class Plausibility:
    """Judges readings of tags by their place, 0, 1, 2, …; keeps what the rules ask of earlier ones.

    flags  how many readings broke each rule, since it was made
    """

    def __init__(self) -> None:
        self._low = self._high = self._rate = self._frozen = self._clock = np.empty(0)
        self._held = np.empty(0, np.int64)  # the bits of the value that stands still
        self._held_ns = np.empty(0, np.int64)
        self._held_ts = np.empty(0, np.int64)
        self._plausible = np.empty(0)
        self._plausible_ts = np.empty(0, np.int64)
        self._seen_ts = np.empty(0, np.int64)
        self._settled_at = NEVER
        self.flags = dict.fromkeys(CODES, 0)

    def add(self, limits: Limits) -> None:
        """Take up a tag, at the next place."""
        self._low, self._high = np.append(self._low, limits.low), np.append(self._high, limits.high)
        self._rate = np.append(self._rate, limits.rate)
        self._frozen = np.append(self._frozen, limits.frozen_ns)
        self._clock = np.append(self._clock, limits.clock_ns)
        self._held, self._held_ns = np.append(self._held, np.int64(0)), np.append(self._held_ns, np.int64(-1))
        self._held_ts, self._seen_ts = np.append(self._held_ts, NEVER), np.append(self._seen_ts, NEVER)
        self._plausible, self._plausible_ts = np.append(self._plausible, np.nan), np.append(self._plausible_ts, NEVER)

    def turns(self, rows: npt.NDArray[np.intp], at: npt.NDArray[np.intp], more: npt.NDArray[np.bool_]) -> list[Turn]:
        """Return the rows that need more than their own value, each turn with one of a tag, in the tag's order.

        `more` says which other places need to be looked at in their order. The turns may be used again for batches of
        the same tags.
        """
        ordered = np.isfinite(self._rate) | np.isfinite(self._frozen) | np.isfinite(self._clock) | more
        rows, at = rows[ordered[at]], at[ordered[at]]
        order = np.argsort(at, kind="stable")
        first = np.append(True, np.diff(at[order]) > 0) if len(at) else np.empty(0, np.bool_)
        begins = np.flatnonzero(first)
        rank = np.empty(len(at), np.intp)
        rank[order] = np.arange(len(at)) - np.repeat(begins, np.diff(np.append(begins, len(at))))
        by_rank = np.argsort(rank, kind="stable")
        parts = np.split(by_rank, np.flatnonzero(np.diff(rank[by_rank])) + 1) if len(at) else []
        return [self._turn(rows[part], at[part]) for part in parts]

    def _turn(self, rows: npt.NDArray[np.intp], at: npt.NDArray[np.intp]) -> Turn:
        return Turn(
            rows,
            at,
            np.flatnonzero(np.isfinite(self._rate[at])),
            np.flatnonzero(np.isfinite(self._frozen[at])),
            np.flatnonzero(np.isfinite(self._clock[at])),
        )

    def judge_each(
        self,
        rows: npt.NDArray[np.intp],
        at: npt.NDArray[np.intp],
        value: npt.NDArray[Any],
        quality: npt.NDArray[np.uint32],
    ) -> None:
        """Put into `quality`, whose rows are those of the whole batch, what each value says by itself."""
        number = value[rows]
        outside = (number < self._low[at]) | (number > self._high[at])
        if outside.any():
            self.mark("range", rows[outside], quality)

    def judge(
        self,
        turn: Turn,
        ts: npt.NDArray[np.int64],
        value: npt.NDArray[Any],
        told: npt.NDArray[np.uint32],
        quality: npt.NDArray[np.uint32],
        now: int,
        history: bool,
    ) -> None:
        """Put into `quality`, whose rows are those of the whole batch, what the rules say of one turn of it.

        `told` is what the device itself says of the rows, `now` the gateway's clock in ns; `history` says that the
        device kept these readings for later.
        """
        if len(turn.timed) and not history:
            self._judge_time(turn, ts, told, quality, now)
        if len(turn.rated):
            self._judge_rate(turn, ts, value, quality)
        if len(turn.standing):
            self._judge_standing(turn, ts, value, bad_mask(told[turn.rows]), quality)

    def mark(self, rule: str, rows: npt.NDArray[np.intp], quality: npt.NDArray[np.uint32]) -> None:
        """Give rows the code of a rule where they have none as severe."""
        code = np.uint32(CODES[rule])
        worse = rows[(quality[rows] >> 30) < (code >> 30)]
        quality[worse] = code
        self.flags[rule] += len(worse)

    def _judge_time(
        self,
        turn: Turn,
        ts: npt.NDArray[np.int64],
        told: npt.NDArray[np.uint32],
        quality: npt.NDArray[np.uint32],
        now: int,
    ) -> None:
        mine = turn.timed
        rows, at = turn.rows[mine], turn.at[mine]
        when, seen, tolerance = ts[rows], self._seen_ts[at], self._clock[at]
        unreached = np.isin(told[rows], _UNREACHED)
        if unreached.any() or self._settled_at == NEVER:
            self._settled_at = np.int64(now + SETTLING_NS)
        wrong = when - now > tolerance
        if now >= self._settled_at:
            wrong |= now - when > tolerance
        known = seen != NEVER
        wrong |= known & (np.where(known, seen, when) - when > tolerance)
        self._seen_ts[at] = np.where(unreached, NEVER, when)
        self.mark("clock", rows[wrong], quality)

    def _judge_rate(
        self, turn: Turn, ts: npt.NDArray[np.int64], value: npt.NDArray[Any], quality: npt.NDArray[np.uint32]
    ) -> None:
        mine = turn.rated
        rows, at = turn.rows[mine], turn.at[mine]
        usable = ~bad_mask(quality[rows])
        when, number = ts[rows], value[rows].astype(np.float64)
        since = self._plausible_ts[at]
        known = since != NEVER
        seconds = (when - np.where(known, since, when)) * 1e-9
        # Against the last plausible value: a spike is one reading, and a real step is believed once it can be true.
        jumped = usable & known & (seconds > 0) & (np.abs(number - self._plausible[at]) > self._rate[at] * seconds)
        if jumped.any():
            self.mark("rate", rows[jumped], quality)
        fine = usable & ~jumped & (~known | (seconds > 0))
        self._plausible[at[fine]], self._plausible_ts[at[fine]] = number[fine], when[fine]

    def _judge_standing(
        self,
        turn: Turn,
        ts: npt.NDArray[np.int64],
        value: npt.NDArray[Any],
        own_bad: npt.NDArray[np.bool_],
        quality: npt.NDArray[np.uint32],
    ) -> None:
        mine = turn.standing
        rows, at = turn.rows[mine], turn.at[mine]
        bits, when = np.ascontiguousarray(value[rows]).view(np.int64), ts[rows]
        answered = ~own_bad[mine]
        same = answered & (self._held[at] == bits) & (self._held_ns[at] >= 0)
        since = self._held_ts[at]
        passed = np.where(since != NEVER, np.maximum(when - np.where(since != NEVER, since, when), 0), 0)
        stood = np.where(same, self._held_ns[at] + passed, np.where(answered, 0, self._held_ns[at]))
        self._held[at] = np.where(answered, bits, self._held[at])
        self._held_ns[at] = stood
        # Time in which the device did not answer does not count.
        self._held_ts[at] = np.where(answered, np.maximum(when, np.where(same, since, NEVER)), NEVER)
        frozen = answered & (stood >= self._frozen[at])
        if frozen.any():
            self.mark("frozen", rows[frozen], quality)

    def state(self, place: int) -> list[int | float]:
        """Return what is kept of a tag's earlier readings, without when it was heard last."""
        return [getattr(self, f"_{name}")[place].item() for name in _STATE]

    def restore(self, place: int, state: list[int | float]) -> None:
        """Take up what an earlier run kept. Time in which nobody looked does not count as standing still."""
        for name, kept in zip(_STATE, state, strict=True):
            getattr(self, f"_{name}")[place] = kept
        self._held_ts[place] = NEVER
