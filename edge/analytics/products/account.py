"""The account of products: energy of machines goes to what they made at the time, shared energy by a key.

It reads the minutes of the energy account and counts in whole millionths. An interval is given out when all its minutes
are here, or when one has waited long enough; whatever comes later gives it out again with a higher revision.
"""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from edge.analytics.energy.carbon import Carbon
from edge.analytics.energy.grid import MINUTE_NS, Grid
from edge.analytics.energy.meters import MILLIONTHS
from edge.analytics.energy.names import stated_of
from edge.analytics.energy.plan import ELECTRICITY, read_plan
from edge.analytics.energy.pricing import Pricing
from edge.analytics.operator import NEVER, Derived, Operator, Output, Reading, Rows
from edge.analytics.production.counter import Counter
from edge.analytics.production.terms import RUNNING
from edge.analytics.products.names import NONE, OTHER, energies_of, figures_of, inputs_of, meters_of, products_of
from edge.analytics.products.page import Page, apportion
from edge.analytics.products.timeline import Timeline
from edge.core.batch import Event, Severity
from edge.core.catalogue import ValueKind
from edge.core.data_class import DataClass
from edge.core.interval import Level, level_of
from edge.core.quality import StatusCode, is_bad

PAGES_LEAST = 2
"""Newest intervals of a level that are kept however long ago they ended: a meter may come back."""

UNLISTED_MAX = 50
_WAIT_MORE_NS = 600 * 10**9


class ProductAccount(Operator):
    """The products of a plant. `settings` are the part of the plan."""

    KIND: ClassVar[str] = "products"

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.name = "products"
        self._settings = settings
        self._plan = plan = read_plan(settings["energy"])
        self._grid = Grid(plan.timezone, plan.shifts)
        self._pricing, self._carbon = Pricing(plan), Carbon(plan, self._grid)
        self.inputs = inputs_of(settings)
        figures = list(figures_of(settings))
        self.outputs = [
            Output(device, name, ValueKind.FLOAT64, unit, inputs, DataClass.PRODUCTION, level_of(name))
            for device, name, unit, inputs in figures
        ]
        self._slot = {(device, name): place for place, (device, name, *_) in enumerate(figures)}
        self._products = products_of(settings)
        self._called = {called: name for name, of in settings["made"].items() for called in of}
        self._meters = meters_of(settings)
        self._place = {meter.name: place for place, meter in enumerate(plan.meters)}
        self._energies = energies_of(plan, self._meters)
        self._machines = {each["name"]: each for each in settings["machines"]}
        self._owner = {each["meter"]: each["name"] for each in settings["machines"]}
        self._by_parts = {each["meter"]: each["name"] for each in settings["machines"] if not each["product"]}
        self._lines = {name: Timeline() for name in self._machines}
        self._counters = {
            (name, product): Counter(counter["modulus"])
            for name, each in self._machines.items()
            for product, counter in each["parts"].items()
        }
        self._roles = self._roles_of()
        self._levels = stated_of(plan)
        self._pages: dict[Level, list[Page]] = {level: [] for level in self._levels}
        self._minutes: dict[str, dict[int, int]] = {name: {} for name in self._meters}
        self._moment = NEVER

    @property
    def fingerprint(self) -> str:
        """Pages mean nothing with other machines, keys or products; prices and factors may change."""
        return json.dumps({key: each for key, each in self._settings.items() if key != "energy"}, sort_keys=True)

    def _roles_of(self) -> dict[str, list[tuple[str, str, str]]]:
        """Return what each tag is for: (role, machine or meter, product)."""
        roles: dict[str, list[tuple[str, str, str]]] = {}
        for name, each in self._machines.items():
            for key in ("product", "state"):
                if each[key]:
                    roles.setdefault(each[key], []).append((key, name, ""))
            for product, counter in each["parts"].items():
                roles.setdefault(counter["tag"], []).append(("parts", name, product))
        for name in self._meters:
            roles.setdefault(f"{name}.energy_1min", []).append(("energy", name, ""))
        return roles

    # ------------------------------------------------------------------ event time

    def push(self, rows: Rows, now: int) -> Derived:
        """Take readings moment after moment, and give out what is complete."""
        out, row, at = Derived(), 0, rows.at.tolist()
        while True:
            moments = [each for each in (at[row] if row < len(at) else None, self.due()) if each is not None]
            moment = min(moments, default=None)
            if moment is None or moment > now:
                return out
            self._moment = max(moment, self._moment)
            lost = 0
            while row < len(at) and at[row] <= moment:
                lost += self._take(rows, row)
                row += 1
            if lost:
                self._tell_lost(lost, out)
            self._issue(out)

    def due(self) -> int | None:
        """Return when an interval has waited long enough for its minutes."""
        if self._moment == NEVER:
            return None
        ends = (page.end + self._wait_ns for pages in self._pages.values() for page in pages if page.is_changed)
        return min((end for end in ends if end > self._moment), default=None)

    @property
    def _wait_ns(self) -> int:
        return self._plan.patience_ns + _WAIT_MORE_NS

    def shift(self, by: int) -> None:
        """Move what is waited for."""
        if self._moment != NEVER:
            self._moment += by
        for line in self._lines.values():
            line.shift(by)

    # ------------------------------------------------------------------ readings

    def _take(self, rows: Rows, row: int) -> int:
        """Take one reading; return how much energy lies in no interval that is kept."""
        bad, ts, lost = is_bad(int(rows.quality[row])), int(rows.ts[row]), 0
        text, value = rows.text[row], float(rows.value[row])
        for role, name, product in self._roles.get(self.inputs[int(rows.slot[row])], ()):
            if role == "energy":
                lost += 0 if bad else self._use(name, ts, value, int(rows.quality[row]))
            elif rows.is_old[row]:
                continue
            elif role == "parts":
                if not bad and value == value:
                    self._make(name, product, self._counters[name, product].take(value), ts - 1)
            else:
                line = self._lines[name]
                self._spend(name, int(rows.at[row]))
                said = "" if bad else text if text is not None else f"{value:g}"
                if role == "state":
                    line.runs = said == RUNNING
                else:
                    line.name(ts, said)
                    line.runs = bool(said) if not self._machines[name]["state"] else line.runs
        return lost

    def _product(self, said: str) -> str:
        """Return the product that is called so."""
        return self._called.get(said, OTHER) if said else NONE

    def _use(self, meter: str, minute: int, energy: float, quality: int) -> int:
        """Take a minute of a meter, which may correct what was taken for it before."""
        amount = round(energy * MILLIONTHS)
        moved = amount - self._minutes[meter].get(minute, 0)
        is_new = minute not in self._minutes[meter]
        self._minutes[meter][minute] = amount
        shares: dict[str, int] | None = None
        if meter in self._owner and meter not in self._by_parts:
            shares = {}
            for said, ns in self._lines[self._owner[meter]].shares(minute, minute + MINUTE_NS):
                shares[self._product(said)] = shares.get(self._product(said), 0) + ns
        charge, lost = self._pricing.at(minute), 0
        for level in self._levels:
            page = self._page(level, minute)
            if page is None:
                lost = abs(moved)
                continue
            page.use(meter, shares, moved, charge)
            page.minutes[meter] = page.minutes.get(meter, 0) + is_new
            if quality:
                page.doubtful.add(meter)
        return lost

    def _make(self, machine: str, product: str, parts: float, made_at: int) -> None:
        if not parts:
            return
        said = self._lines[machine].product
        name = product or self._product(said)
        for level in self._levels:
            page = self._page(level, made_at)
            if page is not None:
                page.make(machine, name, parts)
                if name == OTHER and (said in page.unlisted or len(page.unlisted) < UNLISTED_MAX):
                    page.unlisted[said] = page.unlisted.get(said, 0.0) + parts

    def _spend(self, machine: str, to: int) -> None:
        """Let a machine's running time pass."""
        line = self._lines[machine]
        ran = line.pass_time(to)
        if ran is None:
            return
        for level in self._levels:
            begin, end = ran
            while begin < end:
                until = min(end, self._grid.interval(level, begin).end)
                page = self._page(level, begin)
                if page is not None:
                    page.run(machine, self._product(line.product), until - begin)
                begin = until

    def _page(self, level: Level, ts: int) -> Page | None:
        """Return the page that an instant lies on, None for one that was let go."""
        pages = self._pages[level]
        for page in reversed(pages):
            if page.begin <= ts < page.end:
                return page
        interval = self._grid.interval(level, ts)
        if pages and interval.begin < pages[0].begin and len(pages) >= PAGES_LEAST:
            return None
        pages.append(Page(level, interval.begin, interval.end))
        pages.sort(key=lambda page: page.begin)
        return next(page for page in pages if page.begin == interval.begin)

    # ------------------------------------------------------------------ figures

    def _issue(self, out: Derived) -> None:
        ended = [page for pages in self._pages.values() for page in pages if page.end <= self._moment]
        if any(page.is_changed for page in ended):
            for machine in self._machines:
                self._spend(machine, self._moment)
        for page in ended:
            if page.is_changed and (self._is_whole(page) or self._moment >= page.end + self._wait_ns):
                page.is_changed = False
                page.revision += 1
                self._give(page, out)
        horizon = self._moment - self._plan.late_ns - self._wait_ns
        for level, pages in self._pages.items():
            self._pages[level] = [
                page for place, page in enumerate(pages) if page.end > horizon or place >= len(pages) - PAGES_LEAST
            ]
        for minutes in self._minutes.values():
            for minute in [minute for minute in minutes if minute < horizon]:
                del minutes[minute]

    def _is_whole(self, page: Page) -> bool:
        whole = (page.end - page.begin) // MINUTE_NS
        return all(page.minutes.get(meter, 0) >= whole for meter in self._meters)

    def _give(self, page: Page, out: Derived) -> None:
        """Give out an interval: energy by product, and what it comes to."""
        quality = StatusCode.GOOD if self._is_whole(page) and not page.doubtful else StatusCode.UNCERTAIN
        divided = page.divided(self._products, self._settings["shared"], self._by_parts)
        figures = {product: self._energies_of(divided, product) for product in self._products}
        for name, amounts in self._weighed(page, divided).items():
            for product, amount in amounts.items():
                figures[product][name] = amount / MILLIONTHS
        for product, of in figures.items():
            parts = math.fsum(made.get(product, 0.0) for made in page.parts.values())
            of["parts"] = parts
            if parts > 0 and product not in (OTHER, NONE):
                for name, per in ((self._energies.get(ELECTRICITY, ""), "kwh_per_part"), ("co2", "co2_per_part")):
                    if name in of:
                        of[per] = of[name] / parts
            for name, value in sorted(of.items()):
                place = self._slot.get((product, f"{name}_{page.level}"))
                if place is not None:
                    out.readings.append(Reading(place, page.begin, value, quality, page.revision, self._moment))
        self._tell(page, figures, out)

    def _energies_of(self, divided: Mapping[str, Mapping[str, Mapping[Any, int]]], product: str) -> dict[str, float]:
        """Return the energy of a product by carrier."""
        found = dict.fromkeys(self._energies.values(), 0)
        for meter, of in divided.items():
            carrier = self._plan.meters[self._place[meter]].carrier
            found[self._energies[carrier]] += sum(of.get(product, {}).values())
        return {name: energy / MILLIONTHS for name, energy in found.items()}

    def _weighed(self, page: Page, divided: Mapping[str, Mapping[str, Mapping[Any, int]]]) -> dict[str, dict[str, int]]:
        """Return cost, coal and CO2 by product in millionths: each meter's whole amount is rounded once and divided."""
        found: dict[str, dict[str, int]] = {}
        without_price = False
        for meter, of in divided.items():
            place = self._place[meter]
            exact: dict[str, list[float | None]] = {}
            for product in self._products:
                since, cost = dict[int, int](), list[float]()
                for (begin, _, price), energy in of.get(product, {}).items():
                    since[begin] = since.get(begin, 0) + energy
                    cost.append(energy * price if price >= 0 else math.nan if energy else 0.0)
                if self._plan.editions and self._plan.meters[place].carrier == ELECTRICITY:
                    exact.setdefault("cost", []).append(math.fsum(cost))
                for name, purpose in self._carbon.purposes:
                    amount = self._carbon.of(place, purpose, page.begin, since or {page.begin: 0})
                    exact.setdefault(name, []).append(None if amount is None else amount.kg * MILLIONTHS)
            for name, each in exact.items():
                values = [value for value in each if value is not None and value == value]
                if len(values) < len(self._products):
                    without_price |= name == "cost"
                    continue
                weights = [round(abs(value) * 1000) for value in values]
                parts = apportion(round(math.fsum(values)), weights)
                sums = found.setdefault(name, dict.fromkeys(self._products, 0))
                for product, part in zip(self._products, parts, strict=True):
                    sums[product] += part
        if without_price:
            found.pop("cost", None)
        return found

    def _tell(self, page: Page, figures: Mapping[str, Mapping[str, float]], out: Derived) -> None:
        """Tell by which keys shared energy was divided, and what was made of no configured product."""
        facts: dict[str, str | float] = {"level": str(page.level), "begin": page.begin, "revision": page.revision}
        for name in self._energies.values():
            facts[f"{name} in all"] = math.fsum(of[name] for of in figures.values())
        facts |= {f"{meter} by": key for meter, key in self._settings["shared"].items()}
        facts |= {f"made: {said}": parts for said, parts in sorted(page.unlisted.items())}
        began = self._grid.local(page.begin)
        text = f"energy by product of the interval {page.level} that began at {began:%Y-%m-%d %H:%M}"
        out.events.append(Event(self._moment, self.name, "energy_by_product", Severity.INFO, text, facts))

    def _tell_lost(self, lost: int, out: Derived) -> None:
        text = "minutes of meters came after their interval was let go: their energy is in no product"
        facts: dict[str, str | float] = {"energy": lost / MILLIONTHS}
        out.events.append(Event(self._moment, self.name, "energy_in_no_product", Severity.LOW, text, facts))

    # ------------------------------------------------------------------ state

    def state(self) -> Mapping[str, Any]:
        """Return everything as CBOR types."""
        return {
            "lines": {name: line.state() for name, line in self._lines.items()},
            "counters": [[*key, counter.state()] for key, counter in sorted(self._counters.items())],
            "pages": [page.state() for level in self._levels for page in self._pages[level]],
            "minutes": {name: [list(each) for each in sorted(of.items())] for name, of in self._minutes.items()},
            "moment": self._moment,
            "prices": self._pricing.prices(),
            "factors": self._carbon.state(),
        }

    def restore(self, state: Mapping[str, Any]) -> Sequence[str]:
        """Take a state up; with other prices and factors, what is kept is given out again."""
        for name, line in state["lines"].items():
            self._lines[name].restore(line)
        for machine, product, counter in state["counters"]:
            self._counters[machine, product].restore(counter)
        for kept in state["pages"]:
            page = Page.of(kept)
            self._pages[page.level].append(page)
        for name, minutes in state["minutes"].items():
            self._minutes[name] = dict(minutes)
        self._moment = state["moment"]
        factors, prices = self._carbon.restore(state["factors"]), state["prices"]
        if factors or prices != self._pricing.prices():
            for page in (page for pages in self._pages.values() for page in pages):
                page.charge_again(lambda charge, begin: self._pricing.again(charge, begin, prices))
        return ()


def make(settings: Mapping[str, Any]) -> Sequence[Operator]:
    """Return the operators of the plan's part `products`."""
    return [ProductAccount(settings)]
