"""Waveforms joined where they follow each other, cut where they are long, never across a gap; the same from any cut."""

from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import cbor2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.analytics.condition.signal.stretch import BEARING, GRACE_NS, TREND, Block, Channel, Lengths, Purpose
from edge.analytics.conformance import check_operator
from edge.analytics.operator import EMPTY, Derived, Rows
from edge.analytics.pipeline import Outcome, Pipeline
from edge.core.batch import Batch, Event, Lane, Severity, Waveform
from edge.core.catalogue import Tag, ValueKind
from edge.core.quality import StatusCode
from tests.analytics.test_watch import T0, S, watch

BOOL, WAVEFORM = ValueKind.BOOL, ValueKind.WAVEFORM
RATE = 1000.0
LENGTHS: dict[Purpose, Lengths] = {TREND: Lengths(1.0, 1.0), BEARING: Lengths(4.0, 2.0)}
SIGNAL = np.arange(30_000).astype(np.int16)


def channel(*, joins: bool = True) -> Channel:
    return Channel(LENGTHS, joins=joins)


def piece(begin: int, end: int, late_ns: int = 0, **more: Any) -> Waveform:
    ts = T0 + round(begin * 1e9 / RATE) + late_ns
    return replace(Waveform(0, ts, RATE, 8.0, SIGNAL[begin:end].copy()), **more)


def fed(to: Channel, waves: Iterable[Waveform], rpm: float = 1500.0) -> list[Block]:
    return [block for wave in waves for block in to.feed(wave, rpm, wave.ts)]


def spans(blocks: Iterable[Block], purpose: Purpose) -> list[tuple[int, int]]:
    """First sample and the one behind the last, which in this signal are also the samples' values."""
    found = [(int(b.wave.samples[0]), int(b.wave.samples[-1]) + 1) for b in blocks if b.purpose == purpose]
    for (begin, end), block in zip(found, (b for b in blocks if b.purpose == purpose), strict=True):
        assert np.array_equal(block.wave.samples, SIGNAL[begin:end])
    return found


@given(st.lists(st.integers(1, 3000), min_size=1, max_size=30), st.integers(-2, 2))
def test_however_it_comes_the_blocks_are_the_same(sizes: list[int], jitter_ms: int) -> None:
    edges = np.cumsum([0, *sizes]).clip(max=len(SIGNAL)).tolist()
    to, blocks = channel(), []
    pieces = [(begin, end) for begin, end in pairwise(edges) if end > begin]
    shortest_ns = min(end - begin for begin, end in pieces) / RATE * 1e9
    for number, (begin, end) in enumerate(pieces):
        late = round(min(0.02 * shortest_ns, 1e6 * abs(jitter_ms))) * (1 if number % 2 else -1)
        blocks += fed(to, [piece(begin, end, late)])
        kept = to._stretch.samples if to._stretch else SIGNAL[:0]
        assert len(kept) < 4000 + 1, "no more is kept than a block still needs"
        to.restore(cbor2.loads(cbor2.dumps(to.state())))
    total = edges[-1]
    assert spans(blocks, TREND) == [(at, at + 1000) for at in range(0, total - 999, 1000)]
    assert spans(blocks, BEARING) == [(at, at + 4000) for at in range(0, total - 3999, 2000)]
    for block in blocks:
        ideal = T0 + int(block.wave.samples[0]) * 10**6
        assert abs(block.wave.ts - ideal) <= 2e6, "a block has the time of its first sample"
        assert block.end - block.wave.ts == len(block.wave) * 10**6
    ends = [block.wave.samples[-1] for block in blocks]
    assert ends == sorted(ends)


def test_nothing_is_joined_across_a_gap() -> None:
    for gap in (piece(500, 1000, 26 * 10**6), piece(500, 1000, -26 * 10**6), piece(1000, 1500)):
        to = channel()
        assert fed(to, [piece(0, 500)]) == []
        before = fed(to, [gap])
        assert spans(before, TREND) == spans(before, BEARING) == [(0, 500)], "what was there is judged as it is"
        assert [len(block.wave) for block in to.end()] == [500, 500]
    for joined in (piece(500, 1000, 19 * 10**6), piece(500, 1000, -19 * 10**6)):
        assert spans(fed(channel(), [piece(0, 500), joined]), TREND) == [(0, 1000)]


@pytest.mark.parametrize(
    "other",
    [
        {"rate_hz": 1001.0}, {"full_scale": 16.0}, {"quality": int(StatusCode.UNCERTAIN)},
        {"samples": SIGNAL[500:1000].astype(np.float32)},
    ],
)  # fmt: skip
def test_what_was_measured_otherwise_is_not_joined(other: dict[str, Any]) -> None:
    before = fed(channel(), [piece(0, 500), piece(500, 1000, **other)])
    assert spans(before[:2], TREND) == [(0, 500)]


def test_another_speed_is_another_stretch() -> None:
    to = channel()
    fed(to, [piece(0, 500)], rpm=1500)
    assert [block.rpm for block in fed(to, [piece(500, 1000)], rpm=1560)] == [1500, 1500]
    to = channel()
    fed(to, [piece(0, 500)], rpm=1500)
    assert spans(fed(to, [piece(500, 1000)], rpm=1510), TREND) == [(0, 1000)]


def test_a_device_that_tells_no_time_of_samples_is_never_joined() -> None:
    blocks = fed(channel(joins=False), [piece(0, 500), piece(500, 1000)])
    assert spans(blocks, TREND) == spans(blocks, BEARING) == [(0, 500), (500, 1000)]


def test_a_long_waveform_is_cut_and_a_rest_is_no_block() -> None:
    to = channel()
    assert spans(fed(to, [piece(0, 3500)]), TREND) == [(0, 1000), (1000, 2000), (2000, 3000)]
    assert spans(list(to.end()), BEARING) == [(0, 3500)], (
        "no block of bearing lines became full: it is as long as it is"
    )
    assert list(to.end()) == []


def test_the_same_waveform_again_is_passed_over() -> None:
    to = channel()
    fed(to, [piece(0, 500), piece(0, 500)])
    assert to.due() == T0 + 2 * S // 2 + GRACE_NS
    assert spans(fed(to, [piece(500, 1000)]), TREND) == [(0, 1000)]


def waves(machine_rate: float = 4000.0) -> list[Waveform]:
    """Five seconds in pieces of half a second, a hole, a long piece, one alone, one without scale."""
    random = np.random.default_rng(3)
    signal = np.round(random.normal(0, 3000, 200_000)).astype(np.int16)
    cuts = [(k * 0.5, 0.5) for k in range(10)] + [(6.0, 0.5), (6.5, 0.5), (20.0, 12.5), (40.0, 0.25), (50.0, 0.5)]
    found = []
    for begin, seconds in cuts:
        at, n = round(begin * machine_rate) % 100_000, round(seconds * machine_rate)
        scale = 0.0 if begin == 50.0 else 80.0
        found.append(Waveform(0, T0 + round(begin * S), machine_rate, scale, signal[at : at + n].copy()))
    return found


def test_a_machine_with_waveforms_gives_the_same_from_any_cut_and_after_any_restart() -> None:
    def make() -> Any:
        blocks = {"trend": [1.0, 1.0], "bearing": [4.0, 4.0]}
        running = {"tag": "current", "above": 4.0, "hold_ns": 0}
        return watch(waveforms={"de": 1.0}, joined=["de"], blocks=blocks, running=running)

    operator = make()
    slots = [operator.inputs.index(f"pump-3.{tag}") for tag in ("current", "velocity", "de")]
    at = [T0 - S + k * S // 2 for k in range(140)]
    rows = Rows.of(
        [slots[k % 2] for k in range(140)], at, [5.0 if k % 2 == 0 else 1.0 + 4.0 * (k > 60) for k in range(140)]
    )
    everything = replace(rows, waveforms=[(slots[2], each) for each in waves()])
    found = check_operator(
        make, replace(everything, waveforms_at=[w.ts for _, w in everything.waveforms]), at[-1], rounds=3
    )
    told = {name: times(operator, found, name) for name in ("de_velocity_rms", "de_fault")}
    assert told["de_velocity_rms"] == [0, 1, 2, 3, 4, 6, *range(20, 32), 40]
    assert told["de_fault"] == [0, 6, 20, 24, 28, 40]
    reasons = [event.facts["reason"] for event in found.events if event.kind == "waveform_not_judged"]
    assert reasons == ["its samples are integers, and it has no full_scale"]
    settled = [reading.at for reading in found.readings]
    assert settled == sorted(settled), "what follows from a block is settled when its last waveform is taken"


def times(operator: Any, found: Derived, name: str) -> list[float]:
    return [(r.ts - T0) / S for r in found.readings if operator.outputs[r.output].name == name]


def test_a_bad_block_or_a_standstill_ends_a_stretch() -> None:
    operator = watch(
        waveforms={"de": 1.0}, joined=["de"], velocities={}, running={"tag": "on", "above": None, "hold_ns": 0}
    )
    on, de = (operator.inputs.index(f"pump-3.{tag}") for tag in ("on", "de"))
    pieces = waves()[:6]
    found = Derived()
    for number, wave in enumerate(pieces):
        bad = replace(wave, quality=int(StatusCode.BAD_TIMEOUT)) if number == 1 else wave
        runs = Rows.of([on], [wave.ts], [0.0 if number == 4 else 1.0])
        derived = operator.push(replace(runs, waveforms=[(de, bad)], waveforms_at=[wave.ts]), wave.ts)
        found.readings += derived.readings
    found.readings += operator.push(EMPTY, T0 + 60 * S).readings
    assert times(operator, found, "de_velocity_rms") == [0.0, 1.0, 2.5]
    assert operator.due() is None


@pytest.mark.parametrize("clock_s", [0.0, -3600.0, 40.0])
def test_a_device_whose_clock_is_wrong_has_its_waveforms_joined_all_the_same(clock_s: float) -> None:
    """Others' readings carry event time along; what comes late counts when it comes, and still follows what was."""
    made = watch(
        waveforms={"de": 1.0}, joined=["de"], velocities={}, running={"tag": "on", "above": None, "hold_ns": 0}
    )
    line = Pipeline([made], S)
    on, de = (Tag(k, "pump-3", name, kind, "") for k, name, kind in ((1, "on", BOOL), (2, "de", WAVEFORM)))
    line.learn([on, de])
    line.take([Event(T0, "gateway", "gateway_started", Severity.INFO, "")], T0)
    outcome = Outcome()
    for number, wave in enumerate(waves()[:10]):
        arrives = T0 + (number + 1) * S // 2
        outcome.add(line.take([Batch.of(Lane.INT, [1], [arrives], [1])], arrives))
        outcome.add(line.take([replace(wave, tag=2, ts=wave.ts + round(clock_s * S))], arrives))
    outcome.add(line.pass_time(T0 + 60 * S))
    told = [reading.ts for path, reading in outcome.readings if path == "pump-3.de_velocity_rms"]
    first = T0 + round(clock_s * S)
    assert told[-4:] == [first + k * S for k in range(1, 5)] or told[-4:] == [first + S // 2 + k * S for k in range(4)]
    settled = [reading.at for _, reading in outcome.readings]
    assert settled == sorted(settled)
