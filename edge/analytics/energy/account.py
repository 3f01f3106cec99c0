"""The energy account: from meters to energy, cost, demand, coal and CO2 by interval, with corrections.

It works at ticks, one a minute of event time. At a tick everything that came up to it has been taken; a minute is given
out at the first tick after a later reading of its meter, so that nothing is guessed. A reading that comes later still
lands in its minute: every figure that it changes is given out again with a higher revision.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from edge.analytics.energy.book import Book
from edge.analytics.energy.demand_watch import DemandWatch
from edge.analytics.energy.figures import Figures, outputs_of
from edge.analytics.energy.grid import MINUTE_NS, NS_PER_S, Grid
from edge.analytics.energy.marks import Mark
from edge.analytics.energy.meters import MILLIONTHS, Meters, shuffled, unshuffled
from edge.analytics.energy.names import STATED, SUMMED
from edge.analytics.energy.plan import EnergyPlan, read_plan
from edge.analytics.energy.power_quality import voltage_unbalance
from edge.analytics.energy.pricing import Pricing
from edge.analytics.energy.register_watch import Read, RegisterWatch
from edge.analytics.energy.spec import MeterSpec
from edge.analytics.energy.statement import Companions, Statement
from edge.analytics.energy.tariff_rules import Rate
from edge.analytics.operator import NEVER, Derived, Operator, Rows
from edge.core.batch import Event, Severity
from edge.core.interval import Level
from edge.core.quality import bad_mask

_QUARTER_NS = 15 * MINUTE_NS

RESTATED = "energy_restated"

KEPT_NS = {Level.DAY: 8 * 86_400 * NS_PER_S, Level.MONTH: 400 * 86_400 * NS_PER_S}
"""So long days and months can be stated anew, and filled by a meter that was silent; others by `patience`."""

POWER_ROOM = 1024
"""Readings kept of a power that is integrated: a quarter of an hour of one a second."""


class EnergyAccount(Operator):
    """The account of one plant. Made from an `EnergyPlan`; see there."""

    KIND: ClassVar[str] = "energy"
    VERSION: ClassVar[int] = 2

    def __init__(self, plan: EnergyPlan) -> None:
        self.name = "energy"
        self._plan = plan
        self._grid = Grid(plan.timezone, plan.shifts)
        levels = [level for level in SUMMED if level in self._grid.levels]
        self._specs = [meter.spec for meter in plan.meters]
        readers: dict[str, list[int]] = {}
        reactive, from_power, by_rate = dict[int, int](), dict[int, int](), dict[int, dict[Rate, int]]()
        reads = [Read(meter.name, meter.tag, meter.unit) for meter in plan.meters]
        for place, meter in enumerate(plan.meters):
            readers.setdefault(meter.tag, []).append(place)
            if meter.reactive:
                reactive[place] = len(self._specs)
                readers.setdefault(meter.reactive, []).append(len(self._specs))
                spec = meter.spec
                self._specs.append(MeterSpec(f"{meter.name} reactive", per=spec.per, modulus=spec.modulus))
                reads.append(Read(meter.name, meter.reactive, "kvarh"))
            if meter.power:
                from_power[place] = len(self._specs)
                readers.setdefault(meter.power[0], []).append(len(self._specs))
                self._specs.append(MeterSpec(f"{meter.name} power", power=True, per=meter.power[1]))
                reads.append(Read(meter.name, meter.power[0], meter.unit))
            for rate, register in meter.rates.items():
                by_rate.setdefault(place, {})[rate] = len(self._specs)
                readers.setdefault(register.tag, []).append(len(self._specs))
                self._specs.append(register.spec)
                reads.append(Read(meter.name, register.tag, meter.unit))
        self._meters = Meters(self._specs, room=2 * plan.late_ns // MINUTE_NS + 64, power_room=POWER_ROOM)
        self._registers = RegisterWatch(reads, self._meters)
        self.inputs = list(dict.fromkeys([*readers, *(path for meter in plan.meters for path in meter.voltages)]))
        self._turns = self._in_turns([readers.get(path, []) for path in self.inputs])
        self.outputs = outputs_of(plan)
        self._figures = Figures(self.outputs)
        self._voltages: dict[str, list[int]] = {}
        self._last_voltage: dict[int, float] = {}
        self._read_voltages: set[str] = set()
        for meter in plan.meters:
            if meter.voltages:
                self._voltages[meter.name] = [self.inputs.index(path) for path in meter.voltages]
        places = {meter.name: place for place, meter in enumerate(plan.meters)}
        self._watches = {
            each.meter: DemandWatch(each, places[each.meter], self._meters, self._figures, self._grid)
            for each in plan.demand
        }
        self._statement = Statement(
            plan, self._figures, self._grid, Companions(reactive, from_power, by_rate), self._watches
        )
        self._books = {level: Book(level, self._grid, len(self._specs)) for level in levels}
        self._tick = NEVER
        self._touched = False
        self._until = np.full(len(self._specs), NEVER, np.int64)
        self._minutes = np.zeros((len(self._specs), plan.late_ns // MINUTE_NS + 1), np.int64)
        self._revisions: dict[tuple[int, int], int] = {}
        self._pricing = Pricing(plan)
        self._posted = np.zeros(len(self._specs), np.int64)
        self._refused = np.zeros(len(self._specs), np.int64)
        self._late = 0
        self._restated: list[Event] = []

    @staticmethod
    def _in_turns(readers: Sequence[Sequence[int]]) -> list[NDArray[np.int32]]:
        """Return for each turn which meter reads an input, -1 for none: one tag may feed several."""
        widest = max((len(each) for each in readers), default=0)
        return [
            np.array([each[turn] if len(each) > turn else -1 for each in readers], np.int32) for turn in range(widest)
        ]

    # ------------------------------------------------------------------ event time

    def push(self, rows: Rows, now: int) -> Derived:
        """Take readings and return what they close, and what they correct."""
        out = Derived()
        done = 0
        if self._tick == NEVER and len(rows):
            self._tick = int(rows.at[0]) // MINUTE_NS * MINUTE_NS
        while self._tick != NEVER and self._tick + MINUTE_NS <= now:
            self._tick += MINUTE_NS
            last = int(np.searchsorted(rows.at, self._tick, "right"))
            if last > done:
                self._take(rows.take(slice(done, last)))
            done = last
            self._settle(out)
        if done < len(rows):
            self._take(rows.take(slice(done, len(rows))))
        return out

    def due(self) -> int | None:
        """Return the next tick, once there was a reading."""
        return None if self._tick == NEVER else self._tick + MINUTE_NS

    def shift(self, by: int) -> None:
        """Keep to whole minutes after the clock was set."""
        if self._tick != NEVER:
            self._tick = (self._tick + by) // MINUTE_NS * MINUTE_NS

    def _take(self, rows: Rows) -> None:
        usable = ~bad_mask(rows.quality)
        for name, slots in self._voltages.items():
            for slot in slots:
                shown = np.flatnonzero((rows.slot == slot) & ~rows.is_old)
                if len(shown):
                    self._read_voltages.add(name)
                    self._last_voltage.pop(slot, None)
                    if usable[shown[-1]]:
                        self._last_voltage[slot] = float(rows.value[shown[-1]])
        for places in self._turns:
            meter = places[rows.slot]
            mine = usable & (meter >= 0)
            late = mine & (rows.ts < rows.at)
            late[late] = rows.ts[late] < self._until[meter[late]]
            for row in np.flatnonzero(late).tolist():
                if not self._can_correct(int(meter[row]), int(rows.ts[row]), int(rows.at[row])):
                    mine[row] = False
                    self._refused[meter[row]] += 1
            self._meters.take(meter[mine], rows.ts[mine], rows.value[mine])
        self._touched = True

    def _can_correct(self, place: int, ts: int, at: int) -> bool:
        """Whether all minutes that a late reading changes, from the reading before it on, may still be corrected.

        Else it would move energy out of minutes that stand as they were given out. The next tick is what counts.
        """
        tick = -(-at // MINUTE_NS) * MINUTE_NS
        return self._meters.before(place, ts) >= tick - self._plan.late_ns

    def _settle(self, out: Derived) -> None:
        """Give out what is known at this tick."""
        self._figures.tick = self._tick
        out.events += [replace(told, ts=self._tick) for told in self._restated]
        self._restated = []
        if self._touched:
            self._touched = False
            self._correct(out)
            self._close_minutes(out)
            for watch in self._watches.values():
                watch.look(out)
            self._give_unbalance(out)
        elif self._tick % _QUARTER_NS:
            return
        horizon = self._tick - self._plan.late_ns
        for level, book in self._books.items():
            for page, meters in book.issue(self._until, self._tick, self._plan.patience_ns):
                self._statement.give(level, page, meters, out)
            book.forget(horizon - KEPT_NS.get(level, self._plan.patience_ns), self._until)
        for key in [key for key in self._revisions if key[1] < horizon]:
            del self._revisions[key]
        for watch in self._watches.values():
            watch.fold(horizon)
        self._registers.forget(horizon)
        self._tell_late(out)

    def _give_unbalance(self, out: Derived) -> None:
        for name in sorted(self._read_voltages):
            slots = self._voltages[name]
            if all(slot in self._last_voltage for slot in slots):
                percent = voltage_unbalance(*(self._last_voltage[slot] for slot in slots))
                self._figures.give(out, name, "voltage_unbalance", self._tick, percent)
        self._read_voltages.clear()

    def _tell_late(self, out: Derived) -> None:
        late = self._meters.counts()["late"] + int(self._refused.sum())
        if late > self._late:
            number, self._late = late - self._late, late
            text = (
                f"{number} readings of meters came too late to correct what was given out; "
                "their energy lies between their neighbours"
            )
            facts: dict[str, str | int] = {"readings": number}
            facts |= {
                self._specs[place].name: int(self._refused[place]) for place in np.flatnonzero(self._refused)[:20]
            }
            self._late -= int(self._refused.sum())
            self._refused[:] = 0
            out.events.append(Event(self._tick, self.name, "readings_too_late", Severity.LOW, text, facts))

    # ------------------------------------------------------------------ minutes

    def _close_minutes(self, out: Derived) -> None:
        """Give out every minute that a later reading has closed."""
        latest = self._meters.latest()
        for place in np.flatnonzero((self._until == NEVER) & (latest != NEVER)).tolist():
            # The first minute is not whole; it begins with the first reading.
            self._until[place] = self._meters.earliest(place) // MINUTE_NS * MINUTE_NS
        ends = np.where(latest == NEVER, NEVER, latest // MINUTE_NS * MINUTE_NS)
        spans = dict[tuple[int, int], list[int]]()
        for place in np.flatnonzero((ends > self._until) & (self._until != NEVER)).tolist():
            spans.setdefault((int(self._until[place]), int(ends[place])), []).append(place)
        for (begin, end), places in spans.items():
            which = np.array(places, np.int32)
            edges = np.arange(begin, end + 1, MINUTE_NS, dtype=np.int64)
            energy, marks = self._meters.measure(which, edges)
            self._until[which] = end
            self._posted[which] += energy.sum(1)
            minutes = edges[:-1].tolist()
            for first, last in self._stretches(minutes):
                part = slice(first, last)
                together = np.bitwise_or.reduce(marks[:, part], axis=1)
                self._post(minutes[first], which, energy[:, part].sum(1), last - first, together)
            for number, minute in enumerate(minutes):
                self._give_minute(minute, which, energy[:, number], marks[:, number], out)
            for watch in self._watches.values():
                if watch.place in places:
                    watch.close(begin, end, out)

    def _correct(self, out: Derived) -> None:
        """Measure again what late readings touched, post the differences and give the new figures out."""
        for dirty in self._meters.dirty():
            place, until = dirty.meter, int(self._until[dirty.meter])
            self._registers.look(place, dirty.begin, dirty.end, self._tick, out)
            oldest = max(self._tick - self._plan.late_ns, self._meters.oldest(place))
            begin = max(dirty.begin, -(-oldest // MINUTE_NS) * MINUTE_NS) // MINUTE_NS * MINUTE_NS
            end = min(-(-dirty.end // MINUTE_NS) * MINUTE_NS, until)
            if until == NEVER:
                continue
            which = np.array([place], np.int32)
            edges = np.arange(begin, max(begin, end) + 1, MINUTE_NS, dtype=np.int64)
            energy, marks = self._meters.measure(which, edges)
            for number, minute in enumerate(edges[:-1].tolist()):
                self._revise(minute, place, int(energy[0, number]), int(marks[0, number]), out)
            rest = self._meters.counted(place, until) - int(self._posted[place])
            if rest:
                # A reset or an exchange of longer ago was judged only now, or the configuration was: sums must close.
                minute = min(-(-oldest // MINUTE_NS) * MINUTE_NS, until - MINUTE_NS)
                self._revise(minute, place, int(self._minutes[place, self._ring(minute)]) + rest, Mark.GAP, out)
            for watch in self._watches.values():
                if watch.place == place and begin < end:
                    watch.close(begin, min(end + (watch.plan.window - 1) * MINUTE_NS, until), out)

    def _revise(self, minute: int, place: int, energy: int, mark: int, out: Derived) -> None:
        """Give a minute of a meter out again, if it has another energy, and post the difference."""
        moved = energy - int(self._minutes[place, self._ring(minute)])
        if moved:
            which, marks = np.array([place], np.int32), np.array([mark], np.int64)
            self._posted[place] += moved
            self._revisions[place, minute] = self._revisions.get((place, minute), 0) + 1
            self._post(minute, which, np.array([moved]), 0, marks)
            self._give_minute(minute, which, np.array([energy]), marks, out)

    def _stretches(self, minutes: Sequence[int]) -> Iterator[tuple[int, int]]:
        """Yield (first, last) places of minutes in a row that lie in one quarter hour and have one price."""
        first = 0
        here = None
        for number, minute in enumerate(minutes):
            kind = minute // _QUARTER_NS, self._pricing.at(minute)
            if kind != here and number:
                yield first, number
                first = number
            here = kind
        yield first, len(minutes)

    def _post(
        self, minute: int, which: NDArray[np.int32], energy: NDArray[np.int64], known: int, marks: NDArray[np.int64]
    ) -> None:
        """Put minutes of some meters into the books; for a correction energy is the difference, and known 0."""
        price, counted = self._pricing.at(minute), np.full(len(which), known, np.int64)
        for book in self._books.values():
            book.post(minute, which, energy, counted, marks, price)

    def _give_minute(
        self,
        minute: int,
        which: NDArray[np.int32],
        energy: NDArray[np.int64],
        marks: NDArray[np.int64],
        out: Derived,
    ) -> None:
        self._minutes[which, self._ring(minute)] = energy
        for place, value, mark in zip(which.tolist(), energy.tolist(), marks.tolist(), strict=True):
            if place < len(self._plan.meters):
                name, revision = self._plan.meters[place].name, self._revisions.get((place, minute), 0)
                self._figures.give(out, name, "energy_1min", minute, value / MILLIONTHS, Mark(mark), revision)

    def _ring(self, minute: int) -> int:
        return minute // MINUTE_NS % self._minutes.shape[1]

    # ------------------------------------------------------------------ state

    def state(self) -> Mapping[str, Any]:
        """Return everything as CBOR types."""
        return {
            "specs": [[spec.name, spec.power, spec.per] for spec in self._specs],
            "meters": self._meters.state(),
            "tick": self._tick,
            "touched": self._touched,
            "until": self._until.tolist(),
            "minutes": shuffled(self._minutes),
            "revisions": [[*key, revision] for key, revision in sorted(self._revisions.items())],
            "books": {level: book.state() for level, book in self._books.items()},
            "demand": {name: watch.state() for name, watch in sorted(self._watches.items())},
            "statement": self._statement.state(),
            "voltages": [[self.inputs[slot], value] for slot, value in sorted(self._last_voltage.items())],
            "read_voltages": sorted(self._read_voltages),
            "posted": self._posted.tolist(),
            "refused": self._refused.tolist(),
            "late": self._late,
            "registers": self._registers.state(),
            "prices": self._pricing.prices(),
            "hours": self._pricing.hours(),
            "restated": [[event.message, int(event.severity), dict(event.facts)] for event in self._restated],
        }

    def restore(self, state: Mapping[str, Any]) -> Sequence[str]:
        """Take a state up. A meter in another unit or with another ratio begins anew.

        One whose exchanges or ratios of the past are others now goes on from its next reading.
        """
        old = {tuple(spec): place for place, spec in enumerate(state["specs"])}
        keys = [(spec.name, spec.power, spec.per) for spec in self._specs]
        known = {old[key]: place for place, key in enumerate(keys) if key in old}
        places = {at: place for at, place in known.items() if self._meters.goes_on(state["meters"], at, place)}
        before, here = list(places), list(places.values())
        self._meters.restore(state["meters"], places)
        self._tick, self._touched, self._late = state["tick"], state["touched"], state["late"]
        self._until[here] = np.array(state["until"], np.int64)[before]
        for column in ("posted", "refused"):
            getattr(self, f"_{column}")[here] = np.array(state[column], np.int64)[before]
        kept = unshuffled(state["minutes"], np.int64).reshape(len(old), -1)
        if kept.shape[1] == self._minutes.shape[1]:
            self._minutes[here] = kept[before]
        self._revisions = {(places[m], minute): each for m, minute, each in state["revisions"] if m in places}
        self._registers.restore(state.get("registers", ()), places)
        for level, pages in state["books"].items():
            if level in self._books:
                self._books[Level(level)].restore(pages, known)
        for name, watched in state["demand"].items():
            if name in self._watches:
                self._watches[name].restore(watched)
        self._restated = [
            Event(self._tick, self.name, RESTATED, Severity(severity), text, facts)
            for text, severity, facts in state["restated"]
        ]
        self._restate(self._statement.restore(state["statement"]), state["prices"], state["hours"])
        self._last_voltage = {
            self.inputs.index(path): value for path, value in state["voltages"] if path in self.inputs
        }
        self._read_voltages = self._voltages.keys() & set(state.get("read_voltages", ()))
        self._touched |= self._meters.is_dirty()
        return [spec.name for place, spec in enumerate(self._specs) if place not in places.values()]

    def _restate(self, factors: Mapping[str, str], prices: Sequence[Any], hours: Sequence[str]) -> None:
        """Let what was stated with other factors and prices be stated anew, and note who changed what: an audit entry.

        Energy by rate is kept, not by the hour: other hours of rates hold from now on.
        """
        facts = dict[str, str | float](factors)
        for day, cost in {day: cost for day, cost in self._pricing.prices() if [day, cost] not in prices}.items():
            facts[f"prices from {day}"] = ", ".join(f"{rate} {price:g}" for rate, price in cost.items())
        facts |= {f"prices from {day}": "gone" for day, _ in prices if f"prices from {day}" not in facts
                  and day not in {each for each, _ in self._pricing.prices()}}  # fmt: skip
        if hours != self._pricing.hours():
            facts["hours of rates"] = "changed; they hold from now on, what was counted before keeps its rate"
        if not facts:
            return
        stated = [book for level, book in self._books.items() if level in STATED]
        begins = [begin for book in stated for begin in book.pages]
        for book in stated:
            book.restate(lambda charge, begin: self._pricing.again(charge, begin, prices))
        facts["from"] = self._grid.local(min(begins)).date().isoformat() if begins else ""
        text = "cost, coal and CO2 are stated anew: factors or prices have changed"
        self._restated.append(Event(self._tick, self.name, RESTATED, Severity.LOW, text, facts))


def make(settings: Mapping[str, Any]) -> Sequence[Operator]:
    """Return the operators of the plan's part `energy`."""
    return [EnergyAccount(read_plan(settings))]
