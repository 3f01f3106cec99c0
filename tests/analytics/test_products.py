"""Energy by product: shares close, corrections revise, and a restart changes nothing."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.analytics.conformance import check_operator
from edge.analytics.operator import Rows
from edge.analytics.products.account import ProductAccount, make
from edge.analytics.products.page import apportion
from tests.analytics.test_energy_account import CHONGQING, MIN, PRICES, meter, ns, plan

BEGIN = ns("2026-03-02T00:00:00")
DAY = 24 * 60


def settings(price: float = 0.6) -> dict[str, Any]:
    editions = [{"valid_from": "2021-12-01", "rules": CHONGQING, "prices": {**PRICES, "flat": price}}]
    machine: dict[str, Any] = {"name": "cnc", "meter": "cnc", "product": "cnc.programme", "state": None,
               "parts": {"": {"tag": "cnc.count", "modulus": 0.0}}, "written": []}  # fmt: skip
    return {
        "made": {"flange": ["7"], "shaft": ["9"]},
        "machines": [machine],
        "shared": {"air": "energy"},
        "energy": plan(meter("cnc", tariff=True), meter("air", tariff=True), editions=editions, patience_s=1200),
    }


def rows(*late: tuple[int, float]) -> Rows:
    """Return a day of minutes of both meters, a programme that changes twice, parts; and corrections of minutes."""
    paths = ProductAccount(settings()).inputs
    found: list[tuple[int, int, int, float]] = []
    for minute in range(DAY):
        ts, at = BEGIN + minute * MIN, BEGIN + (minute + 2) * MIN
        found += [(at, paths.index("cnc.energy_1min"), ts, 1.0), (at, paths.index("air.energy_1min"), ts, 0.1)]
    for minute, programme, count in ((0, 7.0, 0.0), (481, 9.0, 30.0), (961, float("nan"), 50.0)):
        ts = BEGIN + minute * MIN - 30 * 10**9 * (minute > 0)
        found += [(ts, paths.index("cnc.programme"), ts, programme), (ts - 1, paths.index("cnc.count"), ts - 1, count)]
    found += [(BEGIN + (DAY + 5) * MIN, paths.index("cnc.energy_1min"), BEGIN + minute * MIN, e) for minute, e in late]
    found.sort()
    quality = [0x80000000 if value != value else 0 for *_, value in found]
    slots, times = [slot for _, slot, *_ in found], [ts for *_, ts, _ in found]
    return Rows.of(slots, times, [value for *_, value in found], quality, [at for at, *_ in found])


def figures(derived: Any) -> dict[str, tuple[float, int, int]]:
    outputs = ProductAccount(settings()).outputs
    return {
        outputs[reading.output].path: (reading.value, reading.quality, reading.revision)
        for reading in derived.readings
        if reading.ts == BEGIN and outputs[reading.output].name.endswith("_1d")
    }


@given(st.integers(-(10**12), 10**12), st.lists(st.integers(0, 10**9), min_size=1, max_size=12))
def test_shares_close_and_none_is_further_off_than_one(total: int, weights: list[int]) -> None:
    parts = apportion(total, weights)
    assert sum(parts) == total
    if sum(weights):
        assert all(
            abs(part - total * weight / sum(weights)) <= 1.001 for part, weight in zip(parts, weights, strict=True)
        )


def test_energy_follows_the_programme_and_shared_energy_the_energy_of_machines() -> None:
    found = figures(check_operator(lambda: ProductAccount(settings()), rows(), BEGIN + (DAY + 60) * MIN, rounds=1))
    cnc, air = {"flange": 480.5, "shaft": 480.0, "no_product": 479.5}, 144.0
    for product in ("flange", "shaft"):
        assert found[f"{product}.energy_1d"][0] == pytest.approx(cnc[product] + air * cnc[product] / 960.5, abs=5e-6)
    assert found["no_product.energy_1d"][0] == 479.5  # time at which nothing was made shares in nothing
    energies = [round(found[f"{product}.energy_1d"][0] * 1e6) for product in (*cnc, "other_products")]
    assert sum(energies) == (1440 + 144) * 10**6
    assert [found[f"{product}.parts_1d"][0] for product in ("flange", "shaft")] == [30, 20]
    assert found["flange.energy_1d"][1:] == (0, 0)


def test_a_corrected_minute_gives_products_out_again_and_a_corrected_price_too() -> None:
    (account,) = make(settings())
    derived = account.push(rows((1400, 5.0), (1410, 3.0)), BEGIN + (DAY + 60) * MIN)
    found = figures(derived)
    assert found["flange.energy_1d"][2] == 1
    sums = sum(
        round(found[f"{name}.energy_1d"][0] * 1e6) for name in ("flange", "shaft", "no_product", "other_products")
    )
    assert sums == (1440 + 144 + 4 + 2) * 10**6
    (dearer,) = make(settings(0.7))
    dearer.restore(account.state())
    again = figures(dearer.push(rows().take(slice(0, 0)), BEGIN + (DAY + 120) * MIN))
    assert again["flange.energy_1d"][2] == 2
    costs = [sum(each[f"{name}.cost_1d"][0] for name in ("flange", "shaft", "no_product")) for each in (found, again)]
    assert costs[1] > costs[0]
