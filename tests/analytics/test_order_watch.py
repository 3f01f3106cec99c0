"""Order tracking in event time: the tacho's block of a block, alarms with evidence, the same after a restart."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import cbor2
import numpy as np
import pytest

from edge.analytics.condition.bearing.bearings import bearing
from edge.analytics.condition.turning.watch import PATIENCE_NS, OrderWatch
from edge.analytics.condition.watch import MachineWatch, make
from edge.analytics.conformance import check_operator
from edge.analytics.operator import EMPTY, Derived, Rows
from edge.core.batch import Severity, Waveform
from tests.analytics.test_orders import RATE, wavering
from tests.analytics.test_watch import T0, S, machine

TRACKING = {
    "tag": "tacho", "is_waveform": True, "joined": False, "counts": True, "pulses": 1, "follow": None,
    "orders": [1.0, 2.5],
}  # fmt: skip


def watch(**changes: Any) -> OrderWatch:
    settings = {"running": None, "velocities": {}, "waveforms": {"de": 1.0}, "tracking": TRACKING, **changes}
    steady, made = make({"machines": [machine(**settings)]})
    assert isinstance(made, OrderWatch)
    assert isinstance(steady, MachineWatch)
    assert not {each.name for each in steady.outputs} & {each.name for each in made.outputs}
    return made


def wave(samples: Any, number: int, full_scale: float = 40.0) -> Waveform:
    counts = np.round(samples / full_scale * 32768).astype(np.int16)
    return Waveform(0, T0 + number * 600 * S, RATE, full_scale, counts)


def push(operator: OrderWatch, waves: Sequence[tuple[str, Waveform]], now: int) -> Derived:
    slots = {name.partition(".")[2]: slot for slot, name in enumerate(operator.inputs)}
    return operator.push(replace(EMPTY, waveforms=[(slots[tag], each) for tag, each in waves]), now)


def told(operator: OrderWatch, derived: Derived) -> dict[str, Any]:
    return {operator.outputs[each.output].name: each.value for each in derived.readings}


def test_orders_speed_and_bearing_are_told_with_the_tacho() -> None:
    operator = watch()
    samples, tacho = wavering(bearing("6205").orders["bpfo"], seconds=6)
    found = told(operator, push(operator, [("de", wave(samples, 0)), ("tacho", wave(tacho, 0))], T0 + 10 * S))
    assert found["de_tracking"] == "good"
    assert found["de_tracked_order_1"] == pytest.approx(2 / np.sqrt(2), rel=0.02)
    assert found["de_tracked_order_2_5"] < 0.1
    assert (found["de_rpm_min"], found["de_rpm_max"]) == pytest.approx((1380, 1480 * 1.3), rel=0.02)
    assert found["de_fault"] == "outer_race"
    assert found["de_bpfo"] > 18


def test_a_block_waits_for_its_tachos_and_no_longer_than_a_minute() -> None:
    samples, tacho = wavering(None, seconds=3)
    operator, early = watch(), T0 + 5 * S
    assert not push(operator, [("de", wave(samples, 0))], early).readings
    other = watch()
    other.restore(cbor2.loads(cbor2.dumps(operator.state(), canonical=True)))
    assert other.state() == operator.state()
    late = push(other, [("tacho", wave(tacho, 0))], early + 20 * S)
    assert told(other, late)["de_tracking"] == "good"
    due = operator.due()
    assert due == T0 + round((samples.size - 1) / RATE * S) + PATIENCE_NS
    assert told(operator, push(operator, [], due)) == {"de_tracking": "no_tacho"}
    assert operator.due() is None


@pytest.mark.parametrize(("tacho", "code"), [(0.0, "no_pulses"), (1.0, "good")])
def test_no_pulses_are_told_and_nothing_else(tacho: float, code: str) -> None:
    operator = watch()
    samples, pulses = wavering(None, seconds=3)
    found = told(operator, push(operator, [("de", wave(samples, 0)), ("tacho", wave(tacho * pulses, 0))], T0 + 10 * S))
    assert found["de_tracking"] == code
    assert (len(found) > 1) == (code == "good")


@pytest.mark.parametrize("kind", ["pulses", "counts"])
def test_pulses_may_come_as_values(kind: str) -> None:
    changes = {"tracking": TRACKING | {"is_waveform": False, "counts": kind == "counts"}, "orders": {}}
    operator = watch(**changes)
    samples, tacho = wavering(None, seconds=4)
    rising = np.flatnonzero((tacho[1:] > 2.5) & (tacho[:-1] < 2.5)) + 1
    at, value = [], []
    for number, place in enumerate(rising.tolist()):
        start = T0 + round(place / RATE * S)
        at += [start] if kind == "counts" else [start, start + 10**6]
        value += [float(number)] if kind == "counts" else [1.0, 0.0]
    slot = operator.inputs.index("pump-3.tacho")
    rows = replace(Rows.of([slot] * len(at), at, value), waveforms=[(0, wave(samples, 0))])
    assert "de_tracked_order_1" not in told(operator, operator.push(rows, at[-1]))
    whole = check_operator(lambda: watch(**changes), rows, T0 + 100 * S, rounds=2)
    found = told(operator, operator.push(EMPTY, operator.due() or 0))
    assert told(operator, whole) == found
    assert found["de_tracking"] == "good"
    assert found["de_tracked_order_1"] == pytest.approx(2 / np.sqrt(2), rel=0.02)


def test_a_faulty_bearing_is_an_alarm_after_three_blocks_with_its_raw_samples() -> None:
    operator, out = watch(), Derived()
    waves = []
    for number in range(4):
        samples, tacho = wavering(bearing("6205").orders["bpfi"], seed=number, seconds=6)
        waves.append(wave(samples, number))
        derived = push(operator, [("de", waves[-1]), ("tacho", wave(tacho, number))], waves[-1].ts + 8 * S)
        out.events += derived.events
        out.waveforms += derived.waveforms
    (event,) = out.events
    facts = event.facts
    assert (event.kind, event.severity) == ("condition_alarm", Severity.HIGH)
    assert (facts["fault"], facts["line"], facts["unit"]) == ("inner_race", "bpfi", "dB")
    assert float(str(facts["value"])) > float(str(facts["limit"])) > 10
    assert str(facts["clause"]).startswith("ISO 13373-3")
    assert (facts["from"], facts["pulses_missing"]) == ("2026-01-01T00:00:00.000000Z", 0)
    ((output, evidence),) = out.waveforms
    assert operator.outputs[output].name == facts["evidence"] == "de_tracked_evidence"
    assert np.array_equal(evidence.samples, waves[2].samples)


def test_only_blocks_that_ran_to_their_end_are_judged() -> None:
    operator = watch(running={"tag": "on", "above": None, "hold_ns": 2 * S}, orders={})
    samples, tacho = wavering(None, seconds=3)
    slots = {name.partition(".")[2]: slot for slot, name in enumerate(operator.inputs)}
    on = [(T0 - 10 * S, 1.0), (T0 + S, 0.0), (T0 + 2 * S, 1.0)]
    rows = Rows.of([slots["on"]] * 3, [at for at, _ in on], [value for _, value in on])
    waves = [(slots[tag], each) for tag, each in (("de", wave(samples, 0)), ("tacho", wave(tacho, 0)))]
    waves += [(slots[tag], each) for tag, each in (("de", wave(samples, 1)), ("tacho", wave(tacho, 1)))]
    derived = operator.push(replace(rows, waveforms=waves), T0 + 700 * S)
    assert {each.ts for each in derived.readings} == {T0 + 600 * S}


def test_joined_from_a_stream_it_gives_the_same_from_any_cut_and_after_any_restart() -> None:
    samples, tacho = wavering(None, seconds=10)
    blocks = {"trend": [1.0, 1.0], "bearing": [3.0, 3.0]}
    changes = {"tracking": TRACKING | {"joined": True}, "joined": ["de"], "blocks": blocks, "orders": {}}
    running = {"tag": "on", "above": None, "hold_ns": S}

    def make_one() -> OrderWatch:
        return watch(running=running, **changes)

    slots = {name.partition(".")[2]: slot for slot, name in enumerate(make_one().inputs)}
    size = int(RATE)
    waves = []
    for number in range(10):
        part = slice(number * size, (number + 1) * size)
        for tag, whole in (("de", samples), ("tacho", tacho)):
            waves.append((slots[tag], replace(wave(whole[part], 0), ts=T0 + number * S)))
    on = Rows.of([slots["on"]] * 3, [T0 - 5 * S, T0 + 7 * S, T0 + 8 * S], [1.0, 0.0, 1.0])
    found = check_operator(make_one, replace(on, waveforms=waves, waveforms_at=()), T0 + 100 * S, rounds=3)
    operator = make_one()
    told = [each.ts for each in found.readings if operator.outputs[each.output].name == "de_tracked_order_1"]
    assert told == [T0, T0 + 3 * S, T0 + 9 * S]
