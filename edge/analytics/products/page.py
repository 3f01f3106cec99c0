"""One interval of all products: what was used for each, and how shared energy is divided so that sums close exactly."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from edge.analytics.energy.pricing import Charge
from edge.core.interval import Level

NOT_ISSUED = -1
Energy = dict[Charge, int]


def apportion(total: int, weights: Sequence[int]) -> list[int]:
    """Return whole parts of a whole number in proportion to weights; they sum to it (largest remainders).

    Args:
        total: of either sign.
        weights: not negative; all 0 gives everything to the last one.
    """
    whole = sum(weights)
    if not whole:
        return [0] * (len(weights) - 1) + [total]
    sign, amount = (-1, -total) if total < 0 else (1, total)
    parts = [amount * weight // whole for weight in weights]
    left = amount - sum(parts)
    for place in sorted(range(len(weights)), key=lambda at: (-(amount * weights[at] % whole), at))[:left]:
        parts[place] += 1
    return [sign * part for part in parts]


@dataclass(slots=True)
class Page:
    """One interval. Energies are millionths of the meter's unit, times ns, and all of them by product.

    direct      by meter, of machines of which the product is known: by product and charge
    undivided   by meter, of what is shared, or of a machine that only counts parts by product: by charge
    minutes     by meter, how many of its minutes are here
    doubtful    meters of which a minute is uncertain
    parts       by machine and product
    running     by machine and product
    unlisted    parts by what the tags called them, of products that are not configured
    """

    level: Level
    begin: int
    end: int
    direct: dict[str, dict[str, Energy]] = field(default_factory=dict)
    undivided: dict[str, Energy] = field(default_factory=dict)
    minutes: dict[str, int] = field(default_factory=dict)
    doubtful: set[str] = field(default_factory=set)
    parts: dict[str, dict[str, float]] = field(default_factory=dict)
    running: dict[str, dict[str, int]] = field(default_factory=dict)
    unlisted: dict[str, float] = field(default_factory=dict)
    revision: int = NOT_ISSUED
    is_changed: bool = True

    def use(self, meter: str, shares: Mapping[str, int] | None, energy: int, charge: Charge) -> None:
        """Add energy of a meter, by shares of products, or undivided."""
        self.is_changed = True
        if shares is None:
            kept = self.undivided.setdefault(meter, {})
            kept[charge] = kept.get(charge, 0) + energy
            return
        for product, part in zip(shares, apportion(energy, list(shares.values())), strict=True):
            kept = self.direct.setdefault(meter, {}).setdefault(product, {})
            kept[charge] = kept.get(charge, 0) + part

    def make(self, machine: str, product: str, parts: float) -> None:
        """Add parts."""
        made = self.parts.setdefault(machine, {})
        made[product] = made.get(product, 0.0) + parts
        self.is_changed = True

    def run(self, machine: str, product: str, ns: int) -> None:
        """Add running time."""
        ran = self.running.setdefault(machine, {})
        ran[product] = ran.get(product, 0) + ns

    def divided(
        self, products: Sequence[str], shared: Mapping[str, str], by_parts: Mapping[str, str]
    ) -> dict[str, dict[str, Energy]]:
        """Return the energy of all meters by product and charge; for each meter and charge it sums to what there is.

        Args:
            products: all of them; the last one gets what has no key.
            shared: meters and their keys.
            by_parts: meters of machines that only count parts by product, and their machine.
        """
        found = {meter: {product: dict(each) for product, each in of.items()} for meter, of in self.direct.items()}
        for meter, machine in by_parts.items():
            made = self.parts.get(machine, {})
            self._divide(found, meter, products, [_whole(made.get(product, 0.0)) for product in products])
        weights = self._weights(products, found)
        for meter, key in shared.items():
            self._divide(found, meter, products, weights[key])
        return found

    def _divide(
        self, found: dict[str, dict[str, Energy]], meter: str, products: Sequence[str], weights: Sequence[int]
    ) -> None:
        for charge, energy in sorted(self.undivided.get(meter, {}).items()):
            for product, part in zip(products, apportion(energy, weights), strict=True):
                if part:
                    found.setdefault(meter, {}).setdefault(product, {})[charge] = part

    def _weights(
        self, products: Sequence[str], direct: Mapping[str, Mapping[str, Energy]]
    ) -> Mapping[str, Sequence[int]]:
        """Return the weights of each key. Time without a product has none, unless energy is what divides."""
        made, ran, used = defaultdict[str, float](float), defaultdict[str, int](int), defaultdict[str, int](int)
        for parts in self.parts.values():
            for product, number in parts.items():
                made[product] += number
        for times in self.running.values():
            for product, ns in times.items():
                ran[product] += ns
        for of in direct.values():
            for product, each in of.items():
                used[product] += sum(each.values())
        real = products[:-1]
        weights: dict[str, list[int]] = {
            "parts": [_whole(made[product]) for product in real],
            "running": [ran[product] for product in real],
            "equal": [int(made[product] > 0 or ran[product] > 0) for product in real],
            "energy": [max(used[product], 0) for product in real],
        }
        return {key: [*each, 0] for key, each in weights.items()}

    def charge_again(self, again: Callable[[Charge, int], Charge]) -> None:
        """Charge everything by what holds now, and let it be given out again."""
        for of in (*(each for by in self.direct.values() for each in by.values()), *self.undivided.values()):
            before = dict(of)
            of.clear()
            for charge, energy in before.items():
                now = again(charge, self.begin)
                of[now] = of.get(now, 0) + energy
        self.is_changed = True

    def state(self) -> list[Any]:
        """Return everything as CBOR types."""
        direct = [
            [meter, product, [[*charge, energy] for charge, energy in sorted(each.items())]]
            for meter, of in sorted(self.direct.items())
            for product, each in sorted(of.items())
        ]
        undivided = [
            [meter, [[*charge, energy] for charge, energy in sorted(each.items())]]
            for meter, each in sorted(self.undivided.items())
        ]
        counts = [
            {key: _sorted(each) for key, each in sorted(self.parts.items())},
            {key: _sorted(each) for key, each in sorted(self.running.items())},
        ]
        rest = [_sorted(self.minutes), sorted(self.doubtful), *counts, _sorted(self.unlisted)]
        return [str(self.level), self.begin, self.end, direct, undivided, *rest, self.revision, self.is_changed]

    @classmethod
    def of(cls, state: Sequence[Any]) -> "Page":
        """Return the page of a state."""
        level, begin, end, direct, undivided, minutes, doubtful, parts, running, unlisted, revision, changed = state
        page = cls(Level(level), begin, end, minutes=dict(minutes), doubtful=set(doubtful), unlisted=dict(unlisted))
        for meter, product, each in direct:
            page.direct.setdefault(meter, {})[product] = _energy(each)
        page.undivided = {meter: _energy(each) for meter, each in undivided}
        page.parts = {machine: dict(each) for machine, each in parts.items()}
        page.running = {machine: dict(each) for machine, each in running.items()}
        page.revision, page.is_changed = revision, changed
        return page


def _whole(parts: float) -> int:
    return max(round(parts * 1000), 0)


def _sorted(given: Mapping[str, Any]) -> dict[str, Any]:
    return dict(sorted(given.items()))


def _energy(given: Sequence[Sequence[Any]]) -> Energy:
    return {(since, rate, price): energy for since, rate, price, energy in given}
