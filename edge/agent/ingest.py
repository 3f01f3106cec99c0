"""Between driver and log: plausibility and report by exception, over whole columns at once."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from edge.agent.configuration.rules import TagRule
from edge.agent.plausibility import Limits, Plausibility, Turn
from edge.core.batch import Batch, History, Lane
from edge.core.catalogue import Catalogue, Tag, ValueKind
from edge.core.ledger import Tally
from edge.core.quality import bad_mask

_NUMBERS = (ValueKind.FLOAT64, ValueKind.INT64, ValueKind.UINT64)
_PLANS_MAX = 16


@dataclass(frozen=True, slots=True)
class _Plan:
    """How a batch of these tags is judged: rows that have a rule and their places, and those that need an order.

    These come in `turns`; `banded` are the rows of each that have a dead-band.
    """

    tags: npt.NDArray[np.int32]
    rows: npt.NDArray[np.intp]
    at: npt.NDArray[np.intp]
    turns: tuple[Turn, ...]
    banded: tuple[npt.NDArray[np.intp], ...]


class Ingest:
    """Applies the rules of one device's tags. Keeps the last reported value of each tag with a dead-band.

    A tag without a rule passes untouched, and a device without rules costs nothing, but that a number which is none is
    bad. Texts have no rules.
    """

    def __init__(self, device: str, rules: Mapping[str, TagRule], catalogue: Catalogue) -> None:
        self._device = device
        self._rules = rules
        self._catalogue = catalogue
        self._known_id = 0
        self._ids = np.empty(0, np.int32)
        self._plausibility = Plausibility()
        self._plans: dict[int, _Plan] = {}
        self._kept: Mapping[int, list[int | float]] = {}
        self._wrong_unit = np.empty(0, np.int32)
        self._deadband = self._reported = np.empty(0)
        self._reported_quality = np.empty(0, np.uint32)
        self._reported_ts = np.empty(0, np.int64)
        self._heartbeat = np.empty(0)

    @property
    def flags(self) -> Mapping[str, int]:
        """How many readings broke each rule since the start."""
        return self._plausibility.flags

    def rule_of(self, tag: Tag) -> TagRule | None:
        """Return the rule of a tag of this device, None where it has none."""
        return self._rules.get(tag.name) or self._rules.get(tag.name.partition("[")[0])

    def _learn(self) -> None:
        """Take up the rules of tags that came into the catalogue since the last look: a server may name its own."""
        for tag in self._catalogue.since(self._known_id):
            rule = self.rule_of(tag) if tag.device == self._device else None
            if rule:
                self._ids = np.append(self._ids, np.int32(tag.id))
                self._plausibility.add(_limits(rule, tag.kind))
                if kept := self._kept.get(tag.id):
                    self._plausibility.restore(len(self._ids) - 1, kept)
                self._deadband = np.append(self._deadband, rule.deadband or -1.0)
                self._reported = np.append(self._reported, np.nan)
                self._reported_quality = np.append(self._reported_quality, np.uint32(0xFFFFFFFF))
                self._reported_ts = np.append(self._reported_ts, np.int64(0))
                self._heartbeat = np.append(self._heartbeat, 1e9 * (rule.heartbeat or np.inf))
        self._known_id = self._catalogue.last_id
        self._plans.clear()

    def doubt_units(self, wrong: Mapping[int, str]) -> None:
        """Say which tags, by id, the device gives in another unit than the configuration."""
        self._wrong_unit = np.array(sorted(wrong), np.int32)

    def state(self) -> dict[int, list[int | float]]:
        """Return by tag id what the rules keep of earlier readings, for the next run."""
        return {tag: self._plausibility.state(place) for place, tag in enumerate(self._ids.tolist())}

    def restore(self, kept: Mapping[int, list[int | float]]) -> None:
        """Take up what an earlier run kept. Called before anything is taken."""
        self._kept = kept

    def take(self, batch: Batch, tally: Tally | None = None, now: int = 0) -> Batch:
        """Return the batch as it shall be stored: implausible values marked, changes below the dead-band left out.

        What breaks a rule keeps its number and gets the rule's StatusCode. A change of quality is always reported, and
        a value after the tag's heartbeat. `now` is the gateway's clock, ns. Into `tally` it is counted what was read,
        what of it was bad, and what was left out.
        """
        marked, keep = self._judge(self._in_its_unit(self._without_nonsense(batch)), now)
        kept = marked if keep is None else marked.take(keep)
        if tally is not None:
            tally.read += len(marked)
            if np.count_nonzero(marked.quality):  # mostly all is good
                tally.bad += int(np.count_nonzero(bad_mask(marked.quality)))
            if keep is not None:
                tally.filtered += len(marked) - len(kept)
                tally.left_out.append(marked.take(~keep))
        return kept

    def _without_nonsense(self, batch: Batch) -> Batch:
        """Return the batch with numbers that are none, as a sensor gives that has failed, marked out of range."""
        if batch.lane is not Lane.FLOAT or np.isfinite(batch.value).all():
            return batch
        nonsense = ~np.isfinite(batch.value) & ~bad_mask(batch.quality)
        if not nonsense.any():  # a bad row has no value
            return batch
        quality = batch.quality.copy()
        self._plausibility.mark("range", np.flatnonzero(nonsense), quality)
        return replace(batch, quality=quality)

    def _in_its_unit(self, batch: Batch) -> Batch:
        """Return the batch with values in a doubted unit marked."""
        if not len(self._wrong_unit) or batch.lane is Lane.TEXT:
            return batch
        quality = batch.quality.copy()
        self._plausibility.mark("unit", np.flatnonzero(np.isin(batch.tag, self._wrong_unit)), quality)
        return replace(batch, quality=quality)

    def _judge(self, batch: Batch, now: int) -> tuple[Batch, npt.NDArray[np.bool_] | None]:
        """Return the batch with implausible values marked, and a mask of what to keep; None for all."""
        if not self._rules:
            return batch, None
        if self._known_id != self._catalogue.last_id:
            self._learn()
        if not len(self._ids) or batch.lane is Lane.TEXT or not len(batch):
            return batch, None
        plan = self._plans.get(id(batch.tag))  # a driver that polls has the same column each time
        if plan is None:
            plan = self._plan(batch.tag)
        if not len(plan.rows):
            return batch, None
        quality, keep = batch.quality.copy(), None
        self._plausibility.judge_each(plan.rows, plan.at, batch.value, quality)
        for turn, banded in zip(plan.turns, plan.banded, strict=True):
            told, history = batch.quality, isinstance(batch, History)
            self._plausibility.judge(turn, batch.ts, batch.value, told, quality, now, history)
            if len(banded):
                keep = np.ones(len(batch), np.bool_) if keep is None else keep
                self._report(turn.rows[banded], turn.at[banded], batch, quality, keep)
        marked = batch if np.array_equal(quality, batch.quality) else replace(batch, quality=quality)
        return marked, None if keep is None or keep.all() else keep

    def _plan(self, tags: npt.NDArray[np.int32]) -> _Plan:
        place = np.minimum(np.searchsorted(self._ids, tags), len(self._ids) - 1)
        rows = np.flatnonzero(self._ids[place] == tags)
        at = place[rows]
        turns = self._plausibility.turns(rows, at, self._deadband > 0)
        banded = tuple(np.flatnonzero(self._deadband[turn.at] > 0) for turn in turns)
        if len(self._plans) >= _PLANS_MAX:
            self._plans.clear()
        plan = self._plans[id(tags)] = _Plan(tags, rows, at, tuple(turns), banded)  # keeps the column and so its id
        return plan

    def _report(
        self,
        rows: npt.NDArray[np.intp],
        at: npt.NDArray[np.intp],
        batch: Batch,
        quality: npt.NDArray[np.uint32],
        keep: npt.NDArray[np.bool_],
    ) -> None:
        """Put into `keep` which of these rows are to be reported, and remember them."""
        value, ts = batch.value[rows].astype(np.float64), batch.ts[rows]
        same_quality = self._reported_quality[at] == quality[rows]
        near = np.abs(value - self._reported[at]) <= self._deadband[at]
        both_nan = np.isnan(value) & np.isnan(self._reported[at])
        recent = ts - self._reported_ts[at] < self._heartbeat[at]
        told = ~(same_quality & (near | both_nan) & recent)
        keep[rows] = told
        self._reported[at[told]] = value[told]
        self._reported_quality[at[told]] = quality[rows[told]]
        self._reported_ts[at[told]] = ts[told]


def _limits(rule: TagRule, kind: ValueKind) -> Limits:
    """Return what readings of a kind must obey. What is true or false may stand still, and jumps."""
    low, high = rule.valid or (-np.inf, np.inf)
    number = kind in _NUMBERS
    return Limits(
        low,
        high,
        rule.rate if rule.rate and number else np.inf,
        1e9 * rule.frozen_after if rule.frozen_after and number else np.inf,
        1e9 * rule.clock_tolerance if rule.clock_tolerance else np.inf,
    )
