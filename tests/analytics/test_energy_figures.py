"""The figures an energy manager is asked for, against the published numbers."""

import math
from datetime import date
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from edge.analytics.energy.balance import Branch, Verdict, balance
from edge.analytics.energy.baseline import NoModel, fit
from edge.analytics.energy.bill import Basic, bill
from edge.analytics.energy.demand import block_demand, forecast, needed_reduction, sliding_demand
from edge.analytics.energy.factors import Confidence, FactorSet, NoFactor, Purpose, normal_cubic_metres
from edge.analytics.energy.power_quality import voltage_unbalance
from edge.analytics.energy.tariff_rules import Rate
from edge.analytics.production.oee import mtbf, mttr, oee

FACTORS = FactorSet.of(
    YAML(typ="safe").load(file) for file in sorted((Path(__file__).parents[2] / "config/factors").glob("*.yaml"))
)
DAY = date(2026, 3, 1)


def test_demand_by_blocks_and_sliding_differ_as_published() -> None:
    minutes = np.array([0.0] * 7 + [100.0] * 15 + [0.0] * 23) / 60
    known = np.ones(45, bool)
    block, complete = block_demand(minutes, known, 15)
    assert block == pytest.approx([53.3333, 46.6667, 0.0], abs=1e-4)
    assert complete.all()
    assert sliding_demand(minutes, known, 15)[0].max() == pytest.approx(100.0)


def test_a_window_with_a_missing_minute_says_so() -> None:
    minutes, known = np.full(30, 1.0), np.ones(30, bool)
    known[3] = False
    assert block_demand(minutes, known, 15)[1].tolist() == [False, True]
    assert sliding_demand(minutes, known, 15)[1].tolist() == [False] * 4 + [True] * 12
    assert len(sliding_demand(minutes[:10], known[:10], 15)[0]) == 0


def test_the_forecast_is_reached_when_the_power_stays() -> None:
    assert forecast(energy=10.0, elapsed=10, recent_power=90.0, window=15) == pytest.approx(70.0)
    assert forecast(15.0, 15, 500.0, 15) == pytest.approx(60.0)
    assert needed_reduction(10.0, 10, 90.0, 15, limit=60.0) == pytest.approx(30.0)
    assert needed_reduction(10.0, 10, 30.0, 15, limit=60.0) == 0
    assert needed_reduction(20.0, 10, 30.0, 15, limit=60.0) == math.inf


def test_unbalance_is_that_of_the_three_line_voltages() -> None:
    assert voltage_unbalance(400, 392, 404) == pytest.approx(1.766, abs=5e-4)
    assert voltage_unbalance(400, 400, 400) == pytest.approx(0.0, abs=1e-5)
    assert math.isnan(voltage_unbalance(0, 0, 0))
    assert math.isnan(voltage_unbalance(400, 10, 10))


def test_carbon_and_coal_of_a_site() -> None:
    amounts = {"electricity": (12_000.0, "kWh"), "natural_gas_oil_field": (500.0, "m3"), "diesel": (120 * 0.84, "kg")}
    carbon = [
        amount * FACTORS.find(carrier, Purpose.CO2, DAY, unit=unit, area="重庆").value
        for carrier, (amount, unit) in amounts.items()
    ]
    assert carbon == pytest.approx([6697.2, 1082.5, 312.1], abs=0.05)
    assert sum(carbon) == pytest.approx(8091.8, abs=0.05)
    coal = [
        amount * FACTORS.find(carrier, Purpose.COAL_EQUIVALENT, DAY, unit=unit).value
        for carrier, (amount, unit) in amounts.items()
    ]
    assert coal == pytest.approx([1474.80, 665.00, 146.88], abs=0.005)
    assert sum(coal) == pytest.approx(2286.68, abs=0.005)


def test_a_factor_is_that_of_its_day_and_area_and_says_where_it_is_from() -> None:
    newest = FACTORS.find("electricity", Purpose.CO2, DAY, unit="kWh", area="重庆")
    assert (newest.value, newest.confidence, newest.scope) == (0.5581, Confidence.HIGH, 2)
    assert newest.id == "grid-co2/electricity/co2/重庆/2025-12-31"
    assert "47号" in newest.document
    assert FACTORS.find("electricity", Purpose.CO2, date(2025, 5, 1), unit="kWh", area="重庆").value == 0.5227
    assert FACTORS.find("electricity", Purpose.CO2, DAY, unit="kWh", area="西藏").value == 0.5306


def test_what_has_no_factor_is_refused_with_what_is_near() -> None:
    with pytest.raises(NoFactor, match="did you mean diesel"):
        FACTORS.find("deisel", Purpose.CO2, DAY, unit="kg")
    with pytest.raises(NoFactor, match="is per kg, not per L"):
        FACTORS.find("diesel", Purpose.CO2, DAY, unit="L")
    with pytest.raises(NoFactor, match=r"2024-04-12\.\.2024-12-25"):
        FACTORS.find("electricity", Purpose.CO2, date(2019, 1, 1), unit="kWh")
    with pytest.raises(NoFactor, match="no coal_equal factor"):
        FACTORS.find("electricity", Purpose.COAL_EQUAL, DAY, unit="kWh")


def test_every_fuel_has_its_published_product() -> None:
    published = {"diesel": 3.0959, "gasoline": 2.9251, "lpg": 3.1013, "lng": 3.1829, "fuel_oil": 3.1705}
    published |= {"kerosene": 3.0334, "coke": 2.8527}
    for fuel, value in published.items():
        assert FACTORS.find(fuel, Purpose.CO2, DAY, unit="kg").value == pytest.approx(value, abs=5e-5)
    gas = FACTORS.find("natural_gas_oil_field", Purpose.CO2, DAY, unit="m3")
    assert gas.value * 10 == pytest.approx(21.6502, abs=5e-5)
    assert normal_cubic_metres(1.0) == pytest.approx(0.9318, abs=5e-5)


def test_the_balance_of_a_tree_has_three_verdicts() -> None:
    children = [Branch(400, 0.5), Branch(350, 0.5), Branch(180, 0.5)]
    found = balance(Branch(1000, 0.5), children)
    assert (found.residual, found.percent, found.verdict) == (70.0, 7.0, Verdict.UNMETERED_LOAD)
    assert balance(Branch(932, 0.5), children).verdict is Verdict.WITHIN_TOLERANCE
    assert balance(Branch(900, 0.5), children).verdict is Verdict.CHILDREN_EXCEED_PARENT
    assert balance(Branch(900, 0.5), [*children, Branch(30, sign=-1)]).residual == 0
    assert balance(Branch(0), []).verdict is Verdict.WITHIN_TOLERANCE


@given(st.lists(st.integers(0, 10**9), max_size=12), st.integers(0, 10**10))
def test_children_and_residual_are_the_parent(children: list[int], parent: int) -> None:
    found = balance(Branch(float(parent)), [Branch(float(child)) for child in children])
    assert found.children + found.residual == parent


def test_the_baseline_is_the_published_line() -> None:
    x = np.array([100, 120, 80, 150, 130, 90, 110, 140, 105, 95, 125, 135.0])
    y = 5000 + 32 * x + np.array([40, -30, 25, -10, 15, -35, 20, 5, -15, 30, -25, -20.0])
    found = fit(["parts"], x[:, None], y)
    assert found.intercept == pytest.approx(5043.125, abs=1e-3)
    assert found.slopes[0] == pytest.approx(31.6250, abs=1e-4)
    assert found.r2 == pytest.approx(0.998748, abs=1e-6)
    assert found.cv_rmse == pytest.approx(0.2941, abs=1e-4)
    assert found.accepted()
    saved, running = found.savings(np.array([[100.0], [100.0]]), np.array([8000.0, 8200.0]))
    assert running[-1] == pytest.approx(saved.sum())


@pytest.mark.parametrize(
    ("drivers", "energy", "why"),
    [
        (np.full((12, 1), 7.0), np.arange(12.0), "never changes: nothing can be told"),
        (np.arange(2.0)[:, None], np.arange(2.0), "too few"),
        (np.stack([np.arange(9.0), 2 * np.arange(9.0)], 1), np.arange(9.0), "follow from each other"),
        (np.arange(9.0)[:, None], np.full(9, 5.0), "nothing to explain"),
    ],
)
def test_what_makes_no_model_is_refused(drivers: np.ndarray, energy: np.ndarray, why: str) -> None:
    with pytest.raises(NoModel, match=why):
        fit([f"driver {number}" for number in range(drivers.shape[1])], drivers, energy)


def test_the_bill_of_a_flat_july_day() -> None:
    energy = {Rate.VALLEY: 800.0, Rate.FLAT: 800.0, Rate.PEAK: 600.0, Rate.SHARP: 200.0}
    prices = {Rate.VALLEY: 0.6 * 0.38, Rate.FLAT: 0.6, Rate.PEAK: 0.6 * 1.6, Rate.SHARP: 0.6 * 1.92}
    lines, total = bill([(rate, energy[rate], prices[rate]) for rate in energy])
    assert [line.amount for line in lines] == [
        Decimal("182.40"),
        Decimal("480.00"),
        Decimal("576.00"),
        Decimal("230.40"),
    ]
    assert total == Decimal("1468.80")


def test_a_two_part_bill_adds_basic_charge_power_factor_and_funds() -> None:
    lines, total = bill(
        [(Rate.FLAT, 100_000.0, 0.5)],
        fixed={"transmission": 0.1},
        fund=0.02,
        basic=Basic(price=38.0, contract=400.0),
        demand=450.0,
        reactive=50_000.0,
    )
    amounts = {line.name: line.amount for line in lines}
    assert amounts == {
        "energy flat": Decimal("50000.00"),
        "transmission": Decimal("10000.00"),
        "basic charge, demand": Decimal("15960.00"),
        "basic charge, above the contract": Decimal("2280.00"),
        "power factor": Decimal("391.20"),
        "government funds": Decimal("2000.00"),
    }
    assert total == sum(amounts.values())
    assert bill([], basic=Basic(price=26.0, capacity=630.0))[1] == Decimal("16380.00")


def test_oee_is_the_published_one_and_never_cut() -> None:
    found = oee(planned=480, producing=420, ideal_cycle=0.5, produced=780, good=760)
    assert (found.availability, round(found.effectiveness, 4), round(found.quality, 4)) == (0.875, 0.9286, 0.9744)
    assert found.oee == pytest.approx(0.7917, abs=5e-5)
    assert not found.cycle_is_wrong
    assert oee(480, 420, 0.6, 780, 760).cycle_is_wrong
    assert math.isnan(oee(0, 0, 0.5, 0, 0).oee)
    assert (mtbf(400, 4), mttr(20, 4)) == (100, 5)
    assert mtbf(400, 0) == math.inf
    assert math.isnan(mttr(0, 0))
