"""Tells which edition of the tariff a meter's cost is made with: the document, how sure it is, and its prices."""

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Any

from edge.analytics.energy.tariff_rules import Edition
from edge.analytics.operator import Derived
from edge.core.batch import Event, Severity


class TariffWatch:
    """Which edition each meter's cost was told to be made with."""

    def __init__(self, editions: Sequence[Edition]) -> None:
        self._editions = sorted(editions, key=lambda edition: edition.valid_from)
        self._in_use: dict[str, str] = {}

    def held(self, first: date, end: date) -> list[Edition]:
        """Return the editions that hold from a day up to but not including another."""
        last = end - timedelta(days=1)
        begins = [edition.valid_from for edition in self._editions[1:]]
        return [
            edition
            for number, edition in enumerate(self._editions)
            if (not number or edition.valid_from <= last) and (number >= len(begins) or begins[number] > first)
        ]

    def tell(self, meter: str, day: date, tick: int, out: Derived) -> None:
        """Tell when a meter's day is priced by another edition than the one before, or by other prices."""
        (edition, *_) = self.held(day, day + timedelta(days=1))
        facts = words_of(edition)
        key = " ".join(facts.values())
        if self._in_use.get(meter) == key:
            return
        self._in_use[meter] = key
        source = facts["document"] or "written in the configuration"
        message = f"cost of {meter} is computed with the tariff from {edition.valid_from}, {source}"
        out.events.append(Event(tick, meter, "tariff_in_use", Severity.INFO, message, facts))

    def state(self) -> dict[str, str]:
        """Return everything as CBOR types."""
        return dict(sorted(self._in_use.items()))

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take a state up."""
        self._in_use = dict(state)


def words_of(edition: Edition) -> dict[str, str]:
    """Return what an auditor asks of an edition: from when, by what document, how sure, at which prices."""
    prices = ", ".join(f"{rate} {price:g}" for rate, price in sorted(edition.prices.items()))
    return {
        "valid_from": edition.valid_from.isoformat(),
        "document": edition.document,
        "confidence": edition.confidence,
        "prices": prices,
    }
