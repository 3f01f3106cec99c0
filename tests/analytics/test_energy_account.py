"""The energy account: figures by interval, in event time, corrected when readings come late."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from edge.analytics.conformance import check_operator
from edge.analytics.energy.account import EnergyAccount, make
from edge.analytics.energy.plan import read_plan
from edge.analytics.operator import Derived, Rows

S = 10**9
MIN = 60 * S
CHONGQING: list[dict[str, Any]] = [
    {"rate": "sharp", "months": [1, 7, 8, 12], "spans": [[720, 840]]},
    {"rate": "peak", "spans": [[660, 1020], [1200, 1320]]},
    {"rate": "valley", "spans": [[0, 480]]},
    {"rate": "flat"},
]
PRICES = {"sharp": 0.6 * 1.92, "peak": 0.6 * 1.6, "flat": 0.6, "valley": 0.6 * 0.38}


def ns(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo("Asia/Shanghai")).timestamp()) * S


def plan(*meters: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"timezone": "Asia/Shanghai", "meters": list(meters), **more}


def meter(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "tag": f"{name}.energy", **more}


Row = tuple[str, int, float]


def rows_of(account: EnergyAccount, readings: Sequence[Row], at: Sequence[int] | None = None) -> Rows:
    """Return rows in order of the event time at which they count."""
    when = list(at) if at is not None else [ts for _, ts, _ in readings]
    order = sorted(range(len(readings)), key=lambda place: (when[place], readings[place][0]))
    chosen = [readings[place] for place in order]
    slots = [account.inputs.index(path) for path, _, _ in chosen]
    return Rows.of(slots, [ts for _, ts, _ in chosen], [value for *_, value in chosen], at=[when[p] for p in order])


def run(settings: dict[str, Any], readings: Sequence[Row], end: int, at: Sequence[int] | None = None) -> Derived:
    (account,) = make(settings)
    assert isinstance(account, EnergyAccount)
    return account.push(rows_of(account, readings, at), end)


def figures(settings: dict[str, Any], derived: Derived) -> dict[str, dict[int, tuple[float, int, int]]]:
    """Return by tag the last figure of each interval: value, quality, revision; revisions must only rise."""
    (account,) = make(settings)
    found = defaultdict[str, dict[int, tuple[float, int, int]]](dict)
    for reading in derived.readings:
        tag = account.outputs[reading.output].path
        if reading.ts in found[tag]:
            assert reading.revision > found[tag][reading.ts][2], (tag, reading)
        found[tag][reading.ts] = (float(reading.value), reading.quality, reading.revision)
    return found


def flat(name: str, begin: int, minutes: int, kilowatts: float, step: int = 1) -> list[Row]:
    """Return a register that climbs steadily, a reading every `step` minutes, from `begin` to the end inclusive."""
    return [(f"{name}.energy", begin + at * MIN, kilowatts * at / 60) for at in range(0, minutes + 1, step)]


def test_a_flat_july_day_costs_what_the_published_bill_says() -> None:
    begin = ns("2025-07-01T00:00:00")
    asked = plan(meter("m", tariff=True), editions=[{"valid_from": "2021-12-01", "rules": CHONGQING, "prices": PRICES}])
    found = figures(asked, run(asked, flat("m", begin, 1440 + 30, 100.0, 10), begin + 1480 * MIN))
    assert found["m.cost_1d"][begin][0] == pytest.approx(1468.80, abs=1e-6)
    hours = {rate: found[f"m.energy_{rate}_1d"][begin][0] / 100 for rate in ("valley", "flat", "peak", "sharp")}
    assert hours == {"valley": 8, "flat": 8, "peak": 6, "sharp": 2}
    assert found["m.energy_1d"][begin] == (2400.0, 0, 0)


def test_demand_by_block_and_sliding_is_the_published_one() -> None:
    begin, total = ns("2025-04-01T00:00:00"), 0.0
    readings: list[Row] = [("m.energy", begin, 0.0)]
    for minute in range(46):
        total += 100 / 60 if 7 <= minute < 22 else 0.0
        readings.append(("m.energy", begin + (minute + 1) * MIN, total))
    asked = plan(meter("m"), demand=[{"meter": "m", "window": 15, "sliding": False, "limit": None}])
    found = figures(asked, run(asked, readings, begin + 47 * MIN))
    blocks = [found["m.demand"][begin + 15 * MIN * number][0] for number in range(3)]
    assert blocks == pytest.approx([53.3333, 46.6667, 0.0], abs=1e-3)
    assert max(value for value, *_ in found["m.demand_sliding"].values()) == pytest.approx(100.0, abs=1e-3)


def test_a_limit_is_warned_of_before_the_window_closes() -> None:
    begin = ns("2025-04-01T00:00:00")
    asked = plan(meter("m"), demand=[{"meter": "m", "window": 15, "sliding": False, "limit": 80.0}])
    readings = flat("m", begin, 15, 60.0)
    readings += [("m.energy", begin + (15 + at) * MIN, 15.0 + at * 120 / 60) for at in range(1, 16)]
    derived = run(asked, readings, begin + 30 * MIN)
    (warning,) = derived.events
    assert warning.kind == "demand_limit_expected"
    assert begin + 15 * MIN < warning.ts < begin + 30 * MIN
    assert float(warning.facts["forecast_kw"] or 0) > 80
    last = [reading for reading in derived.readings if reading.ts == begin + 29 * MIN and reading.output]
    assert last


def test_power_factor_and_its_charge_come_with_day_and_month() -> None:
    begin = ns("2025-04-01T00:00:00")
    days = 30
    readings = [("m.energy", begin + hour * 60 * MIN, 100_000 * hour / (days * 24)) for hour in range(days * 24 + 1)]
    readings += [("m.q", begin + hour * 60 * MIN, 50_000 * hour / (days * 24)) for hour in range(days * 24 + 1)]
    asked = plan(meter("m", reactive="m.q"), late_s=4000)
    found = figures(asked, run(asked, readings, begin + days * 24 * 60 * MIN + 10 * MIN))
    assert found["m.power_factor_1mo"][begin][0] == 0.89
    assert found["m.power_factor_adjustment_1mo"][begin][0] == 0.5
    assert found["m.energy_1mo"][begin][0] == 100_000


def test_children_and_residual_are_the_parent_and_the_verdict_is_told() -> None:
    begin = ns("2025-04-01T00:00:00")
    meters = [meter("main"), meter("a"), meter("b"), meter("c")]
    tree = {"name": "main", "tag": "residual", "unit": "kWh", "parent": "main"}
    tree["parts"] = [["main", 1], ["a", -1], ["b", -1], ["c", -1]]  # type: ignore[assignment]
    asked = plan(*meters, virtual=[tree])
    readings = [row for name, kw in (("main", 1000), ("a", 400), ("b", 350), ("c", 180))
                for row in flat(name, begin, 1440 + 15, kw / 24, 15)]  # fmt: skip
    derived = run(asked, readings, begin + 1460 * MIN)
    found = figures(asked, derived)
    assert found["main.residual_1d"][begin][0] == pytest.approx(70.0)
    (told,) = [event for event in derived.events if event.kind == "energy_balance"]
    assert told.facts["verdict"] == "unmetered_load"


def test_coal_and_carbon_keep_the_row_that_made_them() -> None:
    begin = ns("2026-03-01T00:00:00")
    factor = {"id": "grid/2025", "carrier": "electricity", "purpose": "co2", "value": 0.5581, "unit": "kWh",
              "area": "重庆", "valid_from": "2025-12-31", "document": "公告2025年第47号"}  # fmt: skip
    asked = plan(meter("m"), factors=[factor], area="重庆")
    derived = run(asked, flat("m", begin, 1440 + 15, 500.0, 15), begin + 1460 * MIN)
    found = figures(asked, derived)
    assert found["m.co2_1d"][begin][0] == pytest.approx(6697.2)
    assert found["site.co2_1d"][begin][0] == pytest.approx(6697.2)
    (told,) = [event for event in derived.events if event.kind == "factor_in_use"]
    assert told.facts["factor"] == "grid/2025"


def test_a_late_reading_lands_in_its_interval_and_corrects_it() -> None:
    begin = ns("2025-04-01T08:00:00")
    readings = [("m.energy", begin + at * MIN, float(at)) for at in (0, 1, 31, 32, 33)]
    readings.append(("m.energy", begin + 16 * MIN, 29.0))
    at = [ts for _, ts, _ in readings[:-1]] + [begin + 33 * MIN]
    asked = plan(meter("m"))
    found = figures(asked, run(asked, readings, begin + 50 * MIN, at))
    first, second = found["m.energy_15min"][begin], found["m.energy_15min"][begin + 15 * MIN]
    assert first[2] == second[2] == 1
    assert first[0] == pytest.approx(1 + 14 * 28 / 15, abs=1e-5)
    assert first[0] + second[0] == pytest.approx(29 + 14 * 2 / 15, abs=1e-5)


def test_what_is_missing_is_uncertain_and_mended_when_it_comes() -> None:
    begin = ns("2025-04-01T08:00:00")
    asked = plan(meter("m"), patience_s=600)
    silent = flat("m", begin, 5, 60.0)
    found = figures(asked, run(asked, silent, begin + 30 * MIN))
    assert found["m.energy_15min"][begin] == (5.0, 0x40000000, 0)
    back = [*silent, ("m.energy", begin + 40 * MIN, 40.0)]
    found = figures(asked, run(asked, back, begin + 60 * MIN))
    assert found["m.energy_15min"][begin] == (15.0, 0x40000000, 1)
    assert found["m.energy_15min"][begin + 15 * MIN] == (15.0, 0x40000000, 0)


def test_a_list_of_prices_holds_where_it_has_one() -> None:
    begin = ns("2025-07-01T00:00:00")
    editions = [{"valid_from": "2021-12-01", "rules": [{"rate": "flat"}], "prices": {"flat": 1.0}}]
    curve = [[begin + quarter * 15 * MIN, 0.25] for quarter in range(48)]
    asked = plan(meter("m", tariff=True), editions=editions, curve=curve)
    found = figures(asked, run(asked, flat("m", begin, 1440 + 30, 100.0, 10), begin + 1480 * MIN))
    # The last price holds for an hour, then the tariff's own.
    assert found["m.cost_1d"][begin][0] == pytest.approx(100.0 * (12.75 * 0.25 + 11.25))


def test_a_changed_factor_states_anew_what_was_given_out_and_tells_it() -> None:
    begin = ns("2026-03-01T00:00:00")

    def asked(value: float) -> dict[str, Any]:
        factor = {"id": f"grid/{value}", "carrier": "electricity", "purpose": "co2", "value": value, "unit": "kWh",
                  "valid_from": "2025-12-31", "document": "公告"}  # fmt: skip
        return plan(meter("m"), factors=[factor])

    (before,), (after,) = make(asked(0.5)), make(asked(0.6))
    assert isinstance(before, EnergyAccount)
    rows = rows_of(before, flat("m", begin, 1440 + 15, 10.0, 15))
    before.push(rows, begin + 1460 * MIN)
    after.restore(before.state())
    derived = after.push(rows.take(slice(0, 0)), begin + 1490 * MIN)
    (again,) = [reading for reading in derived.readings if after.outputs[reading.output].path == "m.co2_1d"]
    assert again.value == pytest.approx(144.0)
    assert again.revision == 1
    told = {event.kind: event.facts for event in derived.events}
    assert told["factor_in_use"]["factor"] == "grid/0.6"
    assert told["energy_restated"]["from"] == "2026-03-01"
    assert told["energy_restated"]["grid/0.6"] == "none -> 0.6 kg/kWh scope 0 from 2025-12-31 to now"


def factor(value: float, begin: str, **more: Any) -> dict[str, Any]:
    return {"id": f"grid/{begin}", "carrier": "electricity", "purpose": "co2", "value": value, "unit": "kWh",
            "valid_from": begin, **more}  # fmt: skip


def test_a_factor_that_begins_inside_a_month_counts_from_its_day_on() -> None:
    begin, month = ns("2026-04-29T00:00:00"), ns("2026-04-01T00:00:00")
    factors = [factor(0.5, "2025-12-31", valid_to="2026-04-29", scope=2), factor(0.6, "2026-04-30", scope=2)]
    readings = flat("m", begin, 2 * 1440 + 60, 24.0, 60)
    derived = run(plan(meter("m"), factors=factors), readings, begin + 2 * 1440 * MIN + 60 * MIN)
    found = figures(plan(meter("m"), factors=factors), derived)
    assert found["m.co2_1mo"][month][0] == pytest.approx(576 * (0.5 + 0.6))
    assert found["m.co2_1mo"][month][0] == pytest.approx(sum(value for value, *_ in found["m.co2_1d"].values()))
    (told,) = [event.facts for event in derived.events if event.kind == "carbon_statement"]
    assert told["m co2 grid/2025-12-31"] == "576 kWh x 0.5"
    assert told["m co2 grid/2026-04-30"] == "576 kWh x 0.6"


def test_a_corrected_price_states_the_months_of_a_year_anew_with_an_audit_entry() -> None:
    begin, days, month = ns("2026-03-31T00:00:00"), 2, ns("2026-03-01T00:00:00")

    def asked(flat_price: float, split: str | None = None) -> dict[str, Any]:
        prices = {**PRICES, "flat": flat_price}
        rules = [*([{"rate": "peak", "spans": [[0, 60]]}] if split else []), *CHONGQING]
        editions = [{"valid_from": "2021-12-01", "rules": rules, "prices": prices}]
        return plan(meter("m", tariff=True), editions=editions)

    (before,), (after,), (other,) = make(asked(0.6)), make(asked(0.7)), make(asked(0.7, "hours"))
    assert isinstance(before, EnergyAccount)
    rows = rows_of(before, flat("m", begin, days * 1440, 24.0, 60))
    now = begin + days * 1440 * MIN
    first = before.push(rows, now)
    after.restore(before.state())
    again = after.push(rows.take(slice(0, 0)), now + 30 * MIN)
    costs = [
        {reading.ts: (reading.value, reading.revision) for reading in derived.readings
         if after.outputs[reading.output].path == "m.cost_1mo"}
        for derived in (first, again)
    ]  # fmt: skip
    ((value, revision),) = costs[1].values()
    assert (float(value), revision) == pytest.approx((float(costs[0][month][0]) + 8 * 24 * 0.1, 1))
    (audit,) = [event for event in again.events if event.kind == "energy_restated"]
    assert "flat 0.7" in str(audit.facts["prices from 2021-12-01"])
    assert audit.facts["from"] == "2026-03-01"
    other.restore(after.state())
    last = other.push(rows.take(slice(0, 0)), now + 60 * MIN)
    assert "hold from now on" in str([event.facts for event in last.events if event.kind == "energy_restated"])


def test_power_and_register_are_compared_and_a_wrong_ratio_is_told_once() -> None:
    begin = ns("2025-04-01T00:00:00")
    asked = plan(meter("m", power={"tag": "m.power", "per": 2.0}))
    readings = flat("m", begin, 2 * 1440 + 20, 60.0, 10)
    readings += [("m.power", begin + at * MIN, 60.0 if at <= 1440 else 30.0) for at in range(0, 2 * 1440 + 20, 10)]
    derived = run(asked, readings, begin + (2 * 1440 + 30) * MIN)
    found = figures(asked, derived)
    percents = [value for value, *_ in found["m.power_deviation_1d"].values()]
    assert percents == pytest.approx([100.0, 0.0], abs=0.4)
    assert found["m.power_deviation_1h"][begin][0] == pytest.approx(100.0)
    told = [event.facts["verdict"] for event in derived.events if event.kind == "power_deviation"]
    assert told == ["differ", "agree"]


def test_a_declared_event_makes_its_hours_hold_on_its_days_only() -> None:
    begin = ns("2026-07-15T00:00:00")
    rules = [{"rate": "sharp", "spans": [[720, 840]], "event": "heat wave"}, {"rate": "flat"}]
    editions = [{"valid_from": "2021-12-01", "rules": rules, "prices": {"sharp": 2.0, "flat": 1.0}}]
    asked = plan(meter("m", tariff=True), editions=editions, events={"heat wave": ["2026-07-16"]})
    found = figures(asked, run(asked, flat("m", begin, 2 * 1440 + 20, 10.0, 10), begin + (2 * 1440 + 30) * MIN))
    assert [value for value, *_ in found["m.cost_1d"].values()] == pytest.approx([240.0, 260.0])


def test_an_exchange_that_is_written_a_day_later_costs_nothing_of_the_month() -> None:
    begin, month = ns("2026-03-30T00:00:00"), ns("2026-03-01T00:00:00")
    exchanged = begin + 12 * 60 * MIN
    readings = flat("m", begin, 720, 60.0, 10)
    readings += [("m.energy", exchanged + at * MIN, 5000.0 + at) for at in range(5, 2200, 10)]
    rows = rows_of(make(plan(meter("m")))[0], readings)  # type: ignore[arg-type]
    (before,) = make(plan(meter("m", top=1.0)))
    change = {"ts": exchanged, "end": 720.0, "start": 5000.0}
    (after,) = make(plan(meter("m", top=1.0, changes=[change])))
    assert isinstance(after, EnergyAccount)
    written = begin + 30 * 60 * MIN
    cut = int(np.searchsorted(rows.at, written, "right"))
    derived = before.push(rows.take(slice(0, cut)), written)
    assert after.restore(before.state()) == []
    again = after.push(rows.take(slice(cut, len(rows))), begin + (2 * 1440 + 60) * MIN)
    derived.readings += again.readings
    found = figures(plan(meter("m")), derived)
    last = begin + 2 * 1440 * MIN
    total = sum(value for ts, (value, *_) in found["m.energy_1min"].items() if ts < last)
    assert total == pytest.approx(2 * 1440)
    assert found["m.energy_1mo"][month][0] == pytest.approx(total)


def test_demand_that_a_late_reading_corrects_has_a_higher_revision_each_time() -> None:
    begin = ns("2025-04-01T00:00:00")
    asked = plan(meter("m"), demand=[{"meter": "m", "window": 15, "sliding": False, "limit": None}])
    readings = [row for row in flat("m", begin, 60, 60.0) if (row[1] - begin) // MIN not in (16, 19)]
    at = [ts for _, ts, _ in readings]
    readings += [("m.energy", begin + 16 * MIN, 16.5), ("m.energy", begin + 19 * MIN, 19.25)]
    derived = run(asked, readings, begin + 62 * MIN, [*at, begin + 40 * MIN, begin + 45 * MIN])
    found = figures(asked, derived)  # which checks that revisions rise
    assert found["m.demand"][begin + 15 * MIN] == pytest.approx((60.0, 0, 0))  # inside the window, so it is the same
    assert found["m.demand_sliding"][begin + 18 * MIN] == pytest.approx((61.0, 0, 1))
    assert found["m.demand_sliding"][begin + 15 * MIN][2] == 1


def test_what_comes_too_late_is_counted_by_meter_told_and_moves_nothing() -> None:
    begin = ns("2025-04-01T00:00:00")
    readings = [row for row in flat("m", begin, 300, 60.0) if not 0 < (row[1] - begin) // MIN < 120]
    at = [ts for _, ts, _ in readings]
    readings.append(("m.energy", begin + 60 * MIN, 100.0))
    derived = run(plan(meter("m")), readings, begin + 302 * MIN, [*at, begin + 150 * MIN])
    found = figures(plan(meter("m")), derived)
    assert sum(value for value, *_ in found["m.energy_1min"].values()) == pytest.approx(300.0)
    assert found["m.energy_1min"][begin + 30 * MIN] == pytest.approx((1.0, 0x40000000, 0))
    (told,) = [event for event in derived.events if event.kind == "readings_too_late"]
    assert told.facts == {"readings": 1, "m": 1}


def test_a_power_of_ten_readings_a_second_is_integrated_whole() -> None:
    begin = ns("2025-04-01T00:00:00")
    asked = plan(meter("m", integrate=True))
    readings = [("m.energy", begin + tenth * S // 10, 36.0) for tenth in range(3 * 600 + 1)]
    found = figures(asked, run(asked, readings, begin + 4 * MIN))
    assert [value for value, *_ in found["m.energy_1min"].values()] == pytest.approx([0.6] * 3, abs=1e-6)


def test_the_end_of_a_calibration_is_told_before_and_after() -> None:
    begin = ns("2026-03-01T00:00:00")
    asked = plan(meter("m", calibrated_until="2026-03-02"))
    derived = run(asked, flat("m", begin, 3 * 1440 + 15, 10.0, 15), begin + 3 * 1440 * MIN + 20 * MIN)
    told = [(event.facts["days_left"], int(event.severity)) for event in derived.events]
    assert told == [(0, 300), (-1, 500)]


@st.composite
def days(draw: st.DrawFn) -> tuple[list[Row], list[int]]:
    """Readings of two meters over some hours with gaps, resets and late ones; and when each counts."""
    begin = ns("2025-07-01T10:40:00")
    readings, at = list[Row](), list[int]()
    for name in ("a", "b"):
        total, now = 0.0, begin + draw(st.integers(0, 100)) * S
        for seconds, amount, late in draw(
            st.lists(st.tuples(st.integers(5, 900), st.integers(0, 900), st.integers(0, 20)), min_size=2, max_size=14)
        ):
            now += seconds * S
            total = total + amount / 100 if amount < 890 else 0.0
            readings.append((f"{name}.energy", now, round(total, 2)))
            at.append(now + (late - 17) * 60 * S if late > 17 else now)
    return readings, at


@settings(max_examples=12, phases=[Phase.generate])
@given(days(), st.integers(0, 10**6))
def test_the_account_is_the_same_however_it_is_cut_and_restarted(day: tuple[list[Row], list[int]], seed: int) -> None:
    asked = plan(
        meter("a", tariff=True),
        meter("b"),
        editions=[{"valid_from": "2021-12-01", "rules": CHONGQING, "prices": PRICES}],
        virtual=[{"name": "a", "tag": "residual", "unit": "kWh", "parent": "a", "parts": [["a", 1], ["b", -1]]}],
        demand=[{"meter": "a", "window": 15, "sliding": True, "limit": 30.0}],
        patience_s=1200,
    )

    def fresh() -> EnergyAccount:
        (account,) = make(asked)
        assert isinstance(account, EnergyAccount)
        return account

    readings, at = day
    rows = rows_of(fresh(), readings, at)
    end = int(rows.at.max()) + 3600 * S
    derived = check_operator(fresh, rows, end, seed=seed, rounds=2)
    found = figures(asked, derived)
    for name in ("a", "b"):
        minutes = found[f"{name}.energy_1min"]
        for level, length in (("15min", 15), ("1h", 60)):
            for start, (value, *_) in found[f"{name}.energy_{level}"].items():
                inside = [energy for ts, (energy, *_) in minutes.items() if start <= ts < start + length * MIN]
                assert value == pytest.approx(sum(inside), abs=1e-6)


def test_states_stay_small() -> None:
    import cbor2

    from edge.core.zstd import compress

    names = [f"m{number}" for number in range(20)]
    asked = plan(*(meter(name, tariff=True) for name in names),
                 editions=[{"valid_from": "2021-12-01", "rules": CHONGQING, "prices": PRICES}])  # fmt: skip
    (account,) = make(asked)
    begin, generator = ns("2025-07-01T00:00:00"), np.random.default_rng(1)
    readings = [
        (f"{name}.energy", begin + at * 10 * S, round(value, 2))
        for name in names
        for at, value in enumerate(np.cumsum(generator.uniform(0, 0.3, 6 * 180)).tolist())
    ]
    account.push(rows_of(account, readings), begin + 180 * MIN)  # type: ignore[arg-type]
    size = len(compress(cbor2.dumps(account.state(), canonical=True), 1))
    assert size < 40_000, size


def test_readings_that_were_not_simply_counted_are_told_and_stay_in_their_hour() -> None:
    begin = ns("2026-03-02T08:00:00")
    values = [*range(9900, 9960), *range(500, 560), *range(3, 33)]  # a silence with a roll-over, then a reset
    at = [*range(60), *range(240, 330)]
    readings = [("m.energy", begin + minute * MIN, float(value)) for minute, value in zip(at, values, strict=True)]
    told = {}
    for top in (None, 500.0 / 3600):
        asked = plan(meter("m", modulus=1_000.0 * 10, top=top))
        derived = run(asked, readings, begin + 335 * MIN)
        told[top] = [(event.kind, event.facts["value_before"], event.facts["counted"]) for event in derived.events]
        hours = figures(asked, derived)["m.energy_1h"]
        assert hours[begin + 240 * MIN][0] == (59.0 if top is None else 62.0)  # of it a reset's 3, with `max` known
        fresh = partial(EnergyAccount, read_plan(asked))
        check_operator(fresh, rows_of(fresh(), readings), begin + 335 * MIN, seed=1, rounds=1)
    assert told[None] == [("register_rolled_over", 9959.0, 541.0), ("register_reset", 559.0, 0.0)]
    assert told[500.0 / 3600] == [("register_rolled_over", 9959.0, 541.0), ("register_reset", 559.0, 3.0)]


def test_the_most_a_meter_can_climb_tells_a_roll_over_in_a_long_silence_from_a_reset() -> None:
    begin = ns("2026-03-02T08:00:00")
    values = [(0, 8000.0), (1, 8001.0), (301, 501.0), (302, 502.0), (303, 503.0), (304, 504.0), (305, 505.0)]
    readings = [("m.energy", begin + minute * MIN, value) for minute, value in values]
    told = {}
    for kilowatts in (None, 600.0, 400.0, 3000.0):  # 2,500 kWh in 5 h are 500 kW; at 3,000 it might have gone round
        top = None if kilowatts is None else kilowatts / 3600
        derived = run(plan(meter("m", modulus=10_000.0, top=top)), readings, begin + 310 * MIN)
        (event,) = derived.events
        told[kilowatts] = event.kind, event.facts["counted"], "`max`" in event.message
    assert told == {
        None: ("register_reset", 0.0, True),
        600.0: ("register_rolled_over", 2500.0, False),
        400.0: ("register_reset", 501.0, False),
        3000.0: ("register_reset", 501.0, False),
    }


def test_the_document_of_the_tariff_is_told_when_its_edition_changes() -> None:
    begin = ns("2025-06-30T00:00:00")
    editions = [
        {"valid_from": day, "rules": CHONGQING, "prices": PRICES, "document": text, "confidence": "high"}
        for day, text in (("2021-12-01", "No. 14"), ("2025-07-01", "No. 15"))
    ]
    asked = plan(meter("m", tariff=True), editions=editions)
    derived = run(asked, flat("m", begin, 3 * 1440 + 30, 10.0, 10), begin + (3 * 1440 + 40) * MIN)
    told = [(event.facts["valid_from"], event.facts["document"]) for event in derived.events]
    assert told == [("2021-12-01", "No. 14"), ("2025-07-01", "No. 15")]
    assert derived.events[0].facts["prices"] == "flat 0.6, peak 0.96, sharp 1.152, valley 0.228"


def test_voltages_that_are_silent_or_bad_have_no_unbalance() -> None:
    begin, paths = ns("2026-03-02T08:00:00"), ["m.ab", "m.bc", "m.ca"]
    (account,) = make(plan(meter("m", voltages=paths)))
    assert isinstance(account, EnergyAccount)
    bad = 0x80050000
    read = [(0, 400.0, 0), (0, 410.0, 0), (0, 395.0, 0), (300, 400.0, bad), (300, 410.0, 0), (600, 400.0, 0)]
    slots = [account.inputs.index(path) for path in (*paths, "m.ab", "m.bc", "m.ab")]
    rows = Rows.of(slots, [begin + s * S for s, *_ in read], [v for _, v, _ in read], quality=[q for *_, q in read])
    derived = account.push(rows, begin + 20 * MIN)
    told = [(reading.ts, round(float(reading.value), 2)) for reading in derived.readings]
    assert told == [(begin + MIN, 2.2), (begin + 10 * MIN, 2.2)]
