"""One machine's production in event time: its state, what it made, and the figures of shift, day and month.

Time is posted to the pages of its intervals as it passes, in the state that held. A page is given out at its end. What
comes later for it, such as a part that was counted before and read after, gives it out again with a higher revision.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from edge.analytics.energy.grid import MINUTE_NS, NS_PER_S, Grid
from edge.analytics.energy.working_calendar import WorkingCalendar
from edge.analytics.operator import NEVER, Derived, Operator, Output, Reading, Rows
from edge.analytics.production.counter import Counter
from edge.analytics.production.names import figures_of, inputs_of, levels_of, programmes_of, roles_of
from edge.analytics.production.page import NOT_ISSUED, Page
from edge.analytics.production.planned import PlannedTime
from edge.analytics.production.state import StateWatch
from edge.analytics.production.stops import Facts, Stops, reason_of
from edge.analytics.production.terms import FAULT, OTHER, RUNNING, UNKNOWN
from edge.core.batch import Event, Severity
from edge.core.catalogue import ValueKind
from edge.core.data_class import DataClass
from edge.core.interval import Level, level_of
from edge.core.quality import is_bad

STARTED = "gateway_started"
PROGRAMMES_MAX = 20
COUNTED = ("parts", "good", "scrap")


class MachineProduction(Operator):
    """The production of one machine. `settings` are its part of the plan."""

    KIND: ClassVar[str] = "production"

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._settings = settings
        self._machine: str = settings["machine"]
        self.name = f"production {self._machine}"
        self._counters = {what: Counter(settings[what]["modulus"]) for what in COUNTED if settings[what] is not None}
        self._roles = roles_of(settings)
        self.inputs = inputs_of(settings)
        figures = list(figures_of(settings))
        self.outputs = [
            Output(self._machine, name, ValueKind(kind), unit, inputs, DataClass.PRODUCTION, level_of(name))
            for name, kind, unit, inputs in figures
        ]
        self._place = {name: place for place, (name, *_) in enumerate(figures)}
        self._programmes = programmes_of(settings)
        self._watch = StateWatch(self.inputs, settings["states"], settings["stale"])
        self._stops = Stops(self._machine, settings["micro_stop_ns"])
        self._grid = Grid(settings["timezone"], settings["edges"])
        calendar = WorkingCalendar.of(settings["calendar"])
        self._planned = PlannedTime(settings["timezone"], settings["shifts"], calendar)
        self._levels = levels_of(settings)
        self._pages: dict[Level, list[Page]] = {level: [] for level in self._levels}
        self._moment = NEVER
        self._told = NEVER
        self._starts: list[int] = []
        self._programme = ""
        self._was_fault = False
        self._ran = 0
        self._shares: dict[int, dict[tuple[str, str], int]] = {}
        self._energies: dict[int, float] = {}
        self._energy_until = NEVER

    @property
    def fingerprint(self) -> str:
        """Pages mean nothing under other settings."""
        return json.dumps(self._settings, sort_keys=True)

    # ------------------------------------------------------------------ event time

    def push(self, rows: Rows, now: int) -> Derived:
        """Take readings, and follow the machine moment after moment."""
        out, row, at = Derived(), 0, rows.at.tolist()
        self._starts += [event.ts for event in rows.events if event.kind == STARTED and event.ts > self._moment]
        self._watch.load(rows)
        while True:
            moments = [each for each in (at[row] if row < len(at) else None, self.due()) if each is not None]
            moment = min(moments, default=None)
            if moment is None or moment > now:
                return out
            if self._moment == NEVER:
                self._moment = moment
                self._open(moment)
            # From the last reading before a start of the gateway up to it, nobody looked.
            was_off = any(moment <= start and not (row < len(at) and at[row] < start) for start in self._starts)
            self._advance(moment, out, UNKNOWN if was_off else self._watch.current)
            self._starts = [start for start in self._starts if start > moment]
            first = row
            while row < len(at) and at[row] <= moment:
                row += 1
            self._take(rows, first, row, out)
            if self._watch.judge(moment) or self._told == NEVER:
                self._tell_state(moment, out)
            self._issue(out)
            self._open(moment)

    def due(self) -> int | None:
        """Return when an interval ends, a delay is over, a tag has been silent too long, or a stop is no micro-stop."""
        if self._moment == NEVER:
            return None
        dues = list(self._starts)
        dues += [page.end for pages in self._pages.values() for page in pages if page.revision == NOT_ISSUED]
        dues += [each for each in (self._watch.due(self._moment), self._stops.due(self._moment)) if each is not None]
        return min((each for each in dues if each > self._moment), default=None)

    def shift(self, by: int) -> None:
        """Move what is waited for."""
        if self._moment != NEVER:
            self._moment += by
        self._starts = [start + by for start in self._starts]
        self._watch.shift(by)
        self._stops.shift(by)

    def _advance(self, to: int, out: Derived, state: str) -> None:
        """Let time pass in one state."""
        while self._moment < to:
            begin = self._moment
            is_planned, until = self._planned.at(begin)
            end = min(until, to, *(self._page(level, begin).end for level in self._levels))
            if self._settings["energy"]:
                minute = begin - begin % MINUTE_NS
                end = min(end, minute + MINUTE_NS)
                share = self._shares.setdefault(minute, {})
                share[state, self._programme] = share.get((state, self._programme), 0) + end - begin
            for level in self._levels:
                self._page(level, begin).spend(state, end - begin, (end - begin) * is_planned)
            ended = self._stops.pass_time(begin, end, state, is_planned=is_planned, events=out.events)
            if ended is not None:
                for level in self._levels:
                    page = self._page(level, begin)
                    page.micro_stops += ended
                    page.stops += not ended
            self._ran += (end - begin) * (state == RUNNING)
            self._moment = end

    def _open(self, moment: int) -> None:
        """Have the pages on which time goes on, so that their ends are waited for."""
        for level in self._levels:
            self._page(level, moment)

    def _page(self, level: Level, ts: int) -> Page:
        """Return the page that an instant lies on; of one that was let go, the oldest there is."""
        pages = self._pages[level]
        for page in reversed(pages):
            if page.begin <= ts < page.end:
                return page
        interval = self._grid.interval(level, ts)
        if pages and interval.begin < pages[-1].begin:
            return pages[0]
        page = Page(level, interval.begin, interval.end)
        if ts > interval.begin:
            # What was before the first reading, nobody knows.
            page.spend(UNKNOWN, ts - interval.begin, self._planned.between(interval.begin, ts))
        pages.append(page)
        return page

    # ------------------------------------------------------------------ readings

    def _take(self, rows: Rows, first: int, last: int, out: Derived) -> None:
        for row in range(first, last):
            slot, bad = int(rows.slot[row]), is_bad(int(rows.quality[row]))
            if not rows.is_old[row]:
                self._watch.see(slot, int(rows.at[row]))
            text, value = rows.text[row], float(rows.value[row])
            for role in () if bad else self._roles.get(self.inputs[slot], ()):
                if role == "energy":
                    self._take_energy(int(rows.ts[row]), value)
                elif rows.is_old[row]:
                    continue
                elif role == "programme":
                    self._programme = text if text is not None else f"{value:g}"
                elif role == "reasons":
                    codes = self._settings["reasons"]["codes"]
                    self._stops.explain(reason_of(codes, text if text is not None else value))
                elif value == value:
                    self._take_parts(role, value, int(rows.ts[row]), out)

    def _take_parts(self, what: str, value: float, ts: int, out: Derived) -> None:
        gained = self._counters[what].take(value)
        if not gained and what in self._page(self._levels[-1], ts - 1).parts:
            return
        cycles: Mapping[str, float] = self._settings["cycles"]
        cycle = cycles.get(self._programme, cycles.get(OTHER, 0.0))
        made_at = ts - 1  # what a reading shows was made before it
        is_planned = self._planned.at(made_at)[0]
        for level in self._levels:
            page = self._page(level, made_at)
            page.count(what, gained, cycle, is_planned=is_planned)
            if what == "parts" and gained:
                self._of_programme(page, self._programme)[0] += gained
        if what == "parts" and gained > 0:
            if self._ran:
                out.readings.append(
                    Reading(self._place["cycle_time_last"], ts, self._ran / NS_PER_S / gained, at=self._moment)
                )
            self._ran = 0

    def _take_energy(self, minute: int, energy: float) -> None:
        """Take the energy of one minute, which may correct what was taken for it before."""
        if energy != energy:
            return
        is_new = minute not in self._energies
        moved = energy - self._energies.get(minute, 0.0)
        self._energies[minute] = energy
        self._energy_until = max(self._energy_until, minute + MINUTE_NS)
        shares = self._shares.get(minute, {}) or {("", ""): 1}
        whole = sum(shares.values())
        for level in self._levels:
            if minute < self._pages[level][0].begin:
                continue  # its interval was let go: the account has it
            page = self._page(level, minute)
            for (state, programme), ns in shares.items():
                page.use(state, minute, moved * ns / whole, 0)
                self._of_programme(page, programme)[1] += moved * ns / whole
            page.use("", minute, 0.0, int(is_new))

    def _of_programme(self, page: Page, programme: str) -> list[float]:
        is_full = len(page.programmes) >= PROGRAMMES_MAX
        if programme not in page.programmes and is_full and programme not in self._programmes:
            programme = OTHER
        return page.programmes.setdefault(programme, [0.0, 0.0])

    def _tell_state(self, moment: int, out: Derived) -> None:
        state = self._watch.current
        self._told = ts = max(moment, self._told + 1)
        out.readings.append(Reading(self._place["state"], ts, state, at=moment))
        if state == UNKNOWN:
            return
        if state == FAULT and not self._was_fault:
            for level in self._levels:
                self._page(level, moment).failures += 1
        self._was_fault = state == FAULT

    # ------------------------------------------------------------------ figures

    def _issue(self, out: Derived) -> None:
        has_parts, has_cycle = "parts" in self._counters, bool(self._settings["cycles"])
        horizon = self._moment - self._settings["late_ns"]
        for level, pages in self._pages.items():
            for page in pages:
                if page.end > self._moment:
                    continue
                if page.is_changed:
                    page.is_changed = False
                    page.revision += 1
                    figures = page.figures(has_parts=has_parts, has_cycle=has_cycle)
                    self._give(page, figures, page.revision, out)
                    self._flag(page, out)
                if self._energy_until >= page.end and page.is_energy_changed:
                    page.is_energy_changed = False
                    page.energy_revision += 1
                    figures = page.energy_figures(has_parts=has_parts, programmes=self._programmes)
                    self._give(page, figures, page.energy_revision, out)
                    self._tell_programmes(page, out)
            self._pages[level] = [page for page in pages if page.end > horizon]
        for kept in (self._shares, self._energies):
            for minute in [minute for minute in kept if minute < horizon]:
                del kept[minute]

    def _give(self, page: Page, figures: Any, revision: int, out: Derived) -> None:
        for name, value, quality in figures:
            place = self._place.get(f"{name}_{page.level}")
            if place is not None:
                out.readings.append(Reading(place, page.begin, float(value), quality, revision, self._moment))

    def _flag(self, page: Page, out: Derived) -> None:
        """Tell once that more was made than can be: the ideal cycle is wrong, and the figure stays as it is."""
        effectiveness = page.effectiveness()
        if page.is_flagged or not effectiveness > 1 + 1e-9:
            return
        page.is_flagged = True
        text = (
            f"{self._machine} made more parts than its ideal cycle allows: performance {effectiveness:.3f}; "
            "the ideal cycle is set too long"
        )
        facts: Facts = {"level": str(page.level), "begin": page.begin, "effectiveness": effectiveness}
        out.events.append(Event(self._moment, self._machine, "performance_above_one", Severity.MEDIUM, text, facts))

    def _tell_programmes(self, page: Page, out: Derived) -> None:
        if not self._settings["programme"] or page.energy_revision:
            return
        facts: Facts = {"level": str(page.level), "begin": page.begin}
        for programme, (parts, energy) in sorted(page.programmes.items()):
            if parts:
                facts[f"{programme}: parts"] = parts
                facts[f"{programme}: kWh a part"] = energy / parts
        text = f"energy of {self._machine} by programme"
        out.events.append(Event(self._moment, self._machine, "energy_by_programme", Severity.INFO, text, facts))

    # ------------------------------------------------------------------ state

    def state(self) -> Mapping[str, Any]:
        """Return everything as CBOR types."""
        return {
            "watch": self._watch.state(),
            "stops": self._stops.state(),
            "counters": {what: counter.state() for what, counter in self._counters.items()},
            "pages": [page.state() for level in self._levels for page in self._pages[level]],
            "moment": self._moment,
            "told": self._told,
            "starts": list(self._starts),
            "programme": self._programme,
            "was fault": self._was_fault,
            "ran": self._ran,
            "shares": [
                [minute, *key, ns] for minute, share in sorted(self._shares.items()) for key, ns in share.items()
            ],
            "energies": sorted(self._energies.items()),
            "energy until": self._energy_until,
        }

    def restore(self, state: Mapping[str, Any]) -> Sequence[str]:
        """Take up the state of a machine with the same settings."""
        self._watch.restore(state["watch"])
        self._stops.restore(state["stops"])
        for what, counter in self._counters.items():
            counter.restore(state["counters"][what])
        for each in state["pages"]:
            page = Page.of(each)
            self._pages[page.level].append(page)
        self._moment, self._told, self._starts = state["moment"], state["told"], list(state["starts"])
        self._programme, self._was_fault = state["programme"], state["was fault"]
        self._ran, self._energy_until = state["ran"], state["energy until"]
        for minute, name, programme, ns in state["shares"]:
            self._shares.setdefault(minute, {})[name, programme] = ns
        self._energies = dict(state["energies"])
        return ()

    def view(self) -> Any:
        """Return the state it is in, and since when that is known."""
        return {"machine": self._machine, "state": self._watch.current}


def make(settings: Mapping[str, Any]) -> Sequence[Operator]:
    """Return one operator a machine."""
    return [MachineProduction(each) for each in settings["machines"]]
