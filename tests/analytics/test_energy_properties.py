"""What must hold of the account whatever happens: sums close, the children and the residual are the parent."""

from collections import defaultdict
from random import Random
from typing import Any

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from edge.analytics.conformance import check_operator
from edge.analytics.energy.account import EnergyAccount, make
from edge.analytics.operator import Rows
from tests.analytics.test_energy_account import CHONGQING, MIN, PRICES, Row, S, figures, meter, ns, plan, rows_of

BEGIN = ns("2025-07-01T10:40:00")
HOURS = 3
END = BEGIN + HOURS * 60 * MIN
MODULUS = 10_000.0
"""kWh at which every register of these tests begins again; a gap with more than a tenth of it would be a reset."""


def life(name: str, seed: int) -> tuple[list[tuple[Row, int]], dict[str, Any], float]:
    """Return a life of a register: its readings and when each is there, its settings, and what it counted.

    Readings come at uneven times with gaps of up to an hour, some are lost, some come late or much too late, the
    register rolls over, and another meter may take its place.
    """
    chance = Random(seed)
    now, shown, total = BEGIN, chance.randint(960_000, 999_999) / 100, 0.0
    exchange: dict[str, Any] | None = None
    rows = [((f"{name}.energy", now, shown), now)]
    while now < END:
        step = chance.choice([chance.randint(20, 400), chance.randint(20, 400), chance.randint(900, 3600)])
        now = min(now + step * S, END)
        gain = chance.randint(0, 3_000) / 100
        total += gain
        if exchange is None and now < END - 60 * MIN and chance.randrange(10) == 0:
            fresh = chance.randint(0, 99_900) / 100
            exchange = {"ts": now, "end": round((shown + gain) % MODULUS, 2), "start": fresh, "per": None}
            rolled = shown + gain >= MODULUS
            if not rolled:
                shown = fresh
                continue
            exchange = None
        shown = round((shown + gain) % MODULUS, 2)
        lost = now < END and chance.randrange(10) == 0
        late = chance.choice([0, 0, 0, 0, 0, 0, 7, 25, 90]) if now < END else 0
        if not lost:
            rows.append(((f"{name}.energy", now, shown), min(now + late * MIN, END)))
    return rows, {"modulus": MODULUS, "changes": [exchange] if exchange else []}, total


def fresh(asked: dict[str, Any]) -> EnergyAccount:
    (account,) = make(asked)
    assert isinstance(account, EnergyAccount)
    return account


@settings(max_examples=8, phases=[Phase.generate], deadline=None)
@given(st.integers(0, 10**9))
def test_sums_close_whatever_comes_late_is_lost_rolls_over_or_is_exchanged(seed: int) -> None:
    main, child = life("main", seed), life("a", ~seed)
    tree = {"name": "main", "tag": "residual", "unit": "kWh", "parent": "main", "parts": [["main", 1], ["a", -1]]}
    asked = plan(
        meter("main", tariff=True, **main[1]),
        meter("a", **child[1]),
        editions=[{"valid_from": "2021-12-01", "rules": CHONGQING, "prices": PRICES}],
        virtual=[tree],
        processes=[{"name": "both", "parts": [["main", 1], ["a", 1]]}],
        demand=[{"meter": "main", "window": 15, "sliding": True, "limit": 30.0}],
        late_s=1800,
        patience_s=1200,
    )
    both = main[0] + child[0]
    rows: Rows = rows_of(fresh(asked), [row for row, _ in both], [at for _, at in both])
    derived = check_operator(lambda: fresh(asked), rows, END + 90 * MIN, seed=seed, rounds=1)
    found = figures(asked, derived)  # which also checks that revisions only rise
    for name, total in (("main", main[2]), ("a", child[2])):
        minutes = found[f"{name}.energy_1min"]
        assert len(minutes) == HOURS * 60
        assert sum(round(value * 1e6) for value, *_ in minutes.values()) == round(total * 1e6)
        for level, length in (("15min", 15), ("1h", 60)):
            sums = defaultdict[int, int](int)
            for start, (value, *_) in minutes.items():
                sums[start - start % (length * MIN)] += round(value * 1e6)
            given = found[f"{name}.energy_{level}"]
            assert {start: round(value * 1e6) for start, (value, *_) in given.items()} == {
                start: sums[start] for start in given
            }
            assert len(given) >= HOURS * 60 // length - 1
    for start, (residual, *_) in found["main.residual_15min"].items():
        parts = [found[f"{name}.energy_15min"][start][0] for name in ("main", "a")]
        assert round(residual * 1e6) == round(parts[0] * 1e6) - round(parts[1] * 1e6)
        assert round(found["both.energy_15min"][start][0] * 1e6) == round(parts[0] * 1e6) + round(parts[1] * 1e6)
