"""Power quality: the same from any cut and after any restart."""

from edge.analytics.conformance import check_operator
from edge.analytics.energy.quality_watch import QualityWatch
from edge.analytics.operator import Rows
from tests.analytics.test_energy_account import MIN, ns

QUANTITY = {"meter": "m", "name": "frequency_deviation", "key": ["frequency"], "paths": ["m.f", "m.g"], "high": 0.2,
            "low": -0.2, "short": None, "nominal": 50.0, "per": 1.0, "unit": "Hz", "share": 95.0,
            "source": "configuration"}  # fmt: skip


def test_a_day_is_judged_the_same_from_any_cut_and_after_any_restart() -> None:
    begin = ns("2026-03-02T00:00:00")
    ts = [begin + 7 * MIN * number for number in range(300)]
    values = [50.0 + (0.3 if number % 9 == 0 else 0.1) * (-1) ** number for number in range(300)]
    rows = Rows.of([number % 2 for number in range(300)], ts, values)
    settings = {"timezone": "Asia/Shanghai", "quantities": [QUANTITY]}
    whole = check_operator(lambda: QualityWatch(settings), rows, ts[-1] + 5 * MIN, rounds=3)
    (told,) = whole.events
    assert (told.facts["verdict"], told.facts["quantity"]) == ("exceeded", "frequency_deviation")
    days = {reading.output: reading.value for reading in whole.readings if reading.ts == begin and reading.output}
    assert 5 < float(days[2]) < 20
