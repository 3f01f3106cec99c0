"""Chatter: stable and unstable cuts of a simulated mill, what is not chatter, and the operator in event time."""

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge.analytics.condition.cutting.chatter import chatter
from edge.analytics.condition.cutting.chatter_watch import ChatterWatch
from edge.analytics.conformance import check_operator
from edge.analytics.operator import Rows
from edge.core.batch import Severity, Waveform
from tests.analytics.mill import Cut, mill
from tests.analytics.test_watch import T0, S, machine

F64 = NDArray[np.float64]
RATE = 12800.0


@cache
def cuts(teeth: int = 2) -> list[Cut]:
    """Return cuts over speeds and depths: half of them are stable."""
    rpm, depth = np.meshgrid(np.linspace(4000, 11000, 8), np.linspace(0.3, 5, 5) * 2 / teeth)
    return mill(rpm.ravel(), depth.ravel(), np.full(rpm.size, 900.0), teeth=teeth, turns=90)


@pytest.mark.parametrize("teeth", [2, 3])
def test_no_stable_cut_is_called_and_most_unstable_ones_are(teeth: int) -> None:
    rng = np.random.default_rng(teeth)
    called: dict[bool, list[bool]] = {True: [], False: []}
    for cut in cuts(teeth):
        noise = 0.1 * cut.acceleration.std() * rng.normal(size=cut.acceleration.size)
        found = chatter(cut.acceleration + noise, cut.rate_hz, cut.rpm * (1 + rng.uniform(-3e-3, 3e-3)), teeth)
        assert found is not None
        assert found.rpm == pytest.approx(cut.rpm, rel=1e-3)
        called[cut.stable].append(found.is_chatter)
    assert len(called[True]) >= 10
    assert not any(called[True])
    assert np.mean(called[False]) >= 0.8


def test_the_index_is_the_share_of_power_out_of_step() -> None:
    t = np.arange(int(RATE)) / RATE
    lines = np.sqrt(2) * (2 * np.cos(2 * np.pi * 200 * t) + np.cos(2 * np.pi * 300 * t))
    found = chatter(lines + np.sqrt(2 * 5) * np.cos(2 * np.pi * 733 * t), RATE, 6000, 2)
    assert found is not None
    assert found.index == pytest.approx(0.5, rel=0.01)
    assert found.hz == pytest.approx(733, abs=1)
    assert found.amplitude == pytest.approx(np.sqrt(5), rel=0.01)
    # Over n turns a line at order r changes by 1 - cos(2 pi n r): the most at one turn for r = 7.33.
    assert found.variance == pytest.approx(0.5 * max(1 - np.cos(2 * np.pi * n * 7.33) for n in (1, 2, 4, 8)), rel=0.02)
    assert found.is_chatter


def resonance(seed: int, damping: float = 0.02) -> F64:
    """Return noise through a damped mode at 900 Hz."""
    n = int(RATE)
    hz = np.fft.rfftfreq(n, 1 / RATE)
    answer = 1 / (1 - (hz / 900) ** 2 + 2j * damping * hz / 900)
    return np.asarray(np.fft.irfft(np.fft.rfft(np.random.default_rng(seed).normal(size=n)) * answer, n))


@pytest.mark.parametrize("seed", range(4))
def test_noise_a_damped_resonance_and_a_line_that_comes_and_goes_are_not_chatter(seed: int) -> None:
    t = np.arange(int(RATE)) / RATE
    teeth = np.cos(2 * np.pi * 400 * t) + 0.5 * np.cos(2 * np.pi * 800 * t)
    passing = np.where(t < 0.3, 4 * np.cos(2 * np.pi * 733 * t), 0)
    noise = 0.1 * np.random.default_rng(seed).normal(size=t.size)
    for block in (noise, teeth + 20 * noise, teeth + resonance(seed), teeth + noise + passing):
        found = chatter(block, RATE, 6000, 4)
        assert found is not None
        assert not found.is_chatter


def test_too_few_turns_are_not_judged() -> None:
    assert chatter(np.random.default_rng(1).normal(size=2000), RATE, 6000, 4) is None
    assert chatter(np.zeros(12800), RATE, 6000, 4) is None
    assert chatter(np.random.default_rng(1).normal(size=12800), RATE, float("nan"), 4) is None


def watch() -> ChatterWatch:
    settings = {
        "chatter": {"tag": "teeth", "teeth": None}, "cutting": {"tag": "cuts", "above": None, "hold_ns": S // 5},
        "speed": "speed", "running": None, "waveforms": {"head": 1.0},
    }  # fmt: skip
    return ChatterWatch(machine(**settings))


def block(unstable: bool, number: int, seed: int = 1) -> Waveform:
    t = np.arange(int(RATE)) / RATE
    samples = 5 * np.cos(2 * np.pi * 400 * t) + 0.2 * np.random.default_rng(seed).normal(size=t.size)
    samples += 8 * np.cos(2 * np.pi * 733 * t) if unstable else 0
    return Waveform(0, T0 + number * 2 * S, RATE, 40.0, np.round(samples / 40 * 32768).astype(np.int16))


def readings(operator: ChatterWatch, *values: tuple[str, float, float]) -> Rows:
    slots = {path.partition(".")[2]: slot for slot, path in enumerate(operator.inputs)}
    tags, at, given = zip(*values, strict=True)
    return Rows.of([slots[tag] for tag in tags], [T0 + round(each * S) for each in at], given)


READY = (("teeth", -5.0, 4.0), ("speed", -5.0, 6000.0), ("cuts", -5.0, 1.0))


def told(operator: ChatterWatch, out: Any, name: str) -> list[Any]:
    return [each.value for each in out.readings if operator.outputs[each.output].name == name]


def test_chatter_is_an_alarm_at_once_and_over_after_three_stable_blocks_from_any_cut() -> None:
    waves = [(0, block(number in (1, 2), number)) for number in range(7)]
    rows = replace(readings(watch(), *READY), waveforms=waves, waveforms_at=())
    out = check_operator(watch, rows, T0 + 30 * S, rounds=3)
    assert told(watch(), out, "head_cut") == ["stable", "chatter", "chatter", *["stable"] * 4]
    on, over = out.events
    assert (on.kind, on.severity, on.ts) == ("condition_alarm", Severity.HIGH, T0 + 3 * S - round(S / RATE))
    assert on.message.startswith("pump-3.head_chatter_index chatters at 733 Hz: 0.7")
    facts = on.facts
    assert (facts["limit"], facts["teeth"]) == (0.3, 4)
    assert facts["tooth_hz"] == pytest.approx(400, rel=1e-3)
    assert facts["order"] == pytest.approx(7.33, rel=1e-3)
    assert (over.kind, over.facts["readings"]) == ("condition_alarm_over", 3)
    ((output, evidence),) = out.waveforms
    assert watch().outputs[output].name == facts["evidence"] == "head_chatter_evidence"
    assert np.array_equal(evidence.samples, block(True, 1).samples)


def test_only_whole_blocks_in_the_cut_at_a_steady_speed_are_judged() -> None:
    operator = watch()
    rows = readings(
        operator, *READY, ("cuts", 0.5, 0.0), ("cuts", 1.5, 1.0), ("speed", 4.5, 6100.0), ("teeth", 5.5, float("nan"))
    )
    waves = [(0, block(True, number)) for number in range(4)]
    out = operator.push(replace(rows, waveforms=waves, waveforms_at=()), T0 + 30 * S)
    assert told(operator, out, "head_cut") == ["chatter", "no_steady_speed", "no_teeth"]
