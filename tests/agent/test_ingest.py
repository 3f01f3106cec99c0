import math
import struct
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from edge.agent.configuration.rules import TagRule
from edge.agent.ingest import Ingest
from edge.agent.plausibility import CODES, SETTLING_NS
from edge.core.batch import Batch, History, Lane
from edge.core.catalogue import Catalogue, Tag, ValueKind
from edge.core.ledger import Tally
from edge.core.quality import UNREACHED, StatusCode
from tests.core.strategies import batches

SECOND = 10**9
START = 1_767_225_600 * SECOND
VALUES = st.integers(-6, 6).map(lambda n: 20.0 * n) | st.floats(-100, 100) | st.just(math.nan)
QUALITIES = st.sampled_from([0, 0, 0, StatusCode.UNCERTAIN, StatusCode.BAD_TIMEOUT, StatusCode.BAD_SENSOR_FAILURE])
ROWS = st.lists(st.tuples(st.integers(1, 7), VALUES, QUALITIES, st.integers(-3, 3)), max_size=30)
CATALOGUE = Catalogue(Tag(number, "plc", f"tag{number}", ValueKind.FLOAT64) for number in range(1, 8))
RULES = {
    1: TagRule(deadband=5),
    2: TagRule(valid=(-50, 50)),
    3: TagRule(deadband=1, valid=(-10, 10)),
    4: TagRule(rate=15),
    5: TagRule(frozen_after=4),
    6: TagRule(clock_tolerance=2),
    7: TagRule(deadband=1, valid=(-90, 90), rate=10, frozen_after=3, clock_tolerance=1.5),
}

Row = tuple[int, float, int, int]


class Naive:
    """Row by row, as one would explain it."""

    def __init__(self) -> None:
        self.reported: dict[int, tuple[float, int]] = {}
        self.plausible: dict[int, tuple[float, int]] = {}
        self.standing: dict[int, tuple[bytes, float, int | None]] = {}
        self.seen: dict[int, int] = {}

    def judge(self, row: Row) -> int:
        """Return the quality that a row gets."""
        tag, value, told, ts = row
        rule, marks = RULES[tag], [told]
        outside = rule.valid is not None and not rule.valid[0] <= value <= rule.valid[1]
        if not told & 0x80000000 and (outside or not math.isfinite(value)):
            marks.append(CODES["range"])
        if rule.clock_tolerance:
            if self.seen.get(tag, ts) - ts > rule.clock_tolerance * SECOND and not told & 0x80000000:
                marks.append(CODES["clock"])
            self.seen[tag] = ts
            if told in UNREACHED:
                del self.seen[tag]
        if rule.rate and not any(mark & 0x80000000 for mark in marks):
            last, when = self.plausible.get(tag, (value, ts))
            if ts > when and abs(value - last) > rule.rate * (ts - when) / SECOND:
                marks.append(CODES["rate"])
            elif ts > when or tag not in self.plausible:
                self.plausible[tag] = value, ts
        if rule.frozen_after and self.stands(tag, value, told, ts) >= rule.frozen_after:
            marks.append(CODES["frozen"])
        worst = max(mark >> 30 for mark in marks)
        return next(mark for mark in marks if mark >> 30 == worst)

    def stands(self, tag: int, value: float, told: int, ts: int) -> float:
        """Return for how many seconds the device has told this very value."""
        bits, stood, since = self.standing.get(tag, (b"", 0.0, None))
        if told & 0x80000000:
            self.standing[tag] = bits, stood, None
            return 0
        new = struct.pack("d", value)
        stood = stood + max(ts - since, 0) / SECOND if new == bits and since is not None else stood * (new == bits)
        self.standing[tag] = new, stood, max(ts, since or ts) if new == bits else ts
        return stood

    def keeps(self, row: Row) -> bool:
        """Tell whether a judged row is reported."""
        tag, value, quality, _ = row
        if (band := RULES[tag].deadband) is None:
            return True
        last, last_quality = self.reported.get(tag, (0.0, -1))
        same = abs(value - last) <= band or (math.isnan(value) and math.isnan(last))
        if same and quality == last_quality:
            return False
        self.reported[tag] = value, quality
        return True


@settings(max_examples=60)
@given(st.lists(ROWS, max_size=6))
def test_columns_give_what_row_by_row_gives(polls: list[list[tuple[int, float, int, int]]]) -> None:
    ingest = Ingest("plc", {f"tag{number}": rule for number, rule in RULES.items()}, CATALOGUE)
    naive, stored, expected, tally = Naive(), [], [], Tally("plc")
    for number, rows in enumerate(polls):
        now = START + 2 * number * SECOND
        given_rows = [(tag, value, quality, now + shift * SECOND) for tag, value, quality, shift in rows]
        tag, value, quality, ts = zip(*given_rows, strict=True) if rows else ((), (), (), ())
        batch = ingest.take(Batch.of(Lane.FLOAT, tag, ts, value, quality), tally, START + 10**6 * SECOND)
        stored += list(zip(batch.tag.tolist(), batch.value.tolist(), batch.quality.tolist(), strict=True))
        judged = [(row[0], row[1], naive.judge(row), row[3]) for row in given_rows]
        expected += [row[:3] for row in judged if naive.keeps(row)]
        tally.bad -= sum(bool(row[2] & 0x80000000) for row in judged)
    assert [tuple(map(str, row)) for row in stored] == [tuple(map(str, map(_plain, row))) for row in expected]
    read = sum(map(len, polls))
    assert tally == Tally("plc", read=read, bad=0, filtered=read - len(expected))
    assert sum(map(len, tally.left_out)) == tally.filtered


def _plain(each: float) -> float:
    return int(each) if isinstance(each, int) else each


@given(batches())
def test_a_device_without_rules_passes_untouched_but_for_numbers_that_are_none(batch: Batch) -> None:
    taken = Ingest("plc", {}, CATALOGUE).take(batch)
    if batch.lane is not Lane.FLOAT or all(map(math.isfinite, batch.value)):
        assert taken is batch
    for value, before, after in zip(batch.value, batch.quality, taken.quality, strict=True):
        wrong = batch.lane is Lane.FLOAT and not math.isfinite(value) and not before & 0x80000000
        assert after == (StatusCode.BAD_OUT_OF_RANGE if wrong else before)


def test_an_implausible_value_keeps_its_number() -> None:
    batch = Ingest("plc", {"tag1": TagRule(valid=(-40, 150))}, CATALOGUE).take(
        Batch.of(Lane.INT, [1, 1], 0, [151, 150])
    )
    assert batch.value.tolist() == [151, 150]
    assert batch.quality.tolist() == [StatusCode.BAD_OUT_OF_RANGE, StatusCode.GOOD]


def _told(rule: TagRule, values: list[float], ts: list[float], now: float = 0.0) -> list[str]:
    """Return the words for what becomes of one tag's readings, each a batch of its own."""
    ingest = Ingest("plc", {"tag1": rule}, CATALOGUE)
    told = []
    for value, second in zip(values, ts, strict=True):
        batch = Batch.of(Lane.FLOAT, [1], START + round(second * SECOND), [value])
        told.append(StatusCode(int(ingest.take(batch, None, START + round((now or second) * SECOND)).quality[0])).words)
    return told


def test_a_spike_is_one_reading_and_a_step_is_believed_once_it_can_be_true() -> None:
    rule = TagRule(rate=5)
    spike, good = "UncertainSensorNotAccurate", "Good"
    assert _told(rule, [20, 21, 80, 22], [0, 1, 2, 3]) == [good, good, spike, good]
    assert _told(rule, [20, 32, 32, 32, 32], [0, 1, 2, 3, 4]) == [good, spike, spike, good, good]


def test_a_value_that_stands_still_is_doubted_for_as_long_as_it_does() -> None:
    good, frozen = "Good", "UncertainLastUsableValue"
    told = _told(TagRule(frozen_after=2), [7, 7, 7, 7, 8, 8], [0, 1, 2, 3, 4, 5])
    assert told == [
        good,
        good,
        frozen,
        frozen,
        good,
        good,
    ]


def test_a_frozen_value_stays_so_over_a_restart_and_the_time_between_does_not_count() -> None:
    first, second = (Ingest("plc", {"tag1": TagRule(frozen_after=10)}, CATALOGUE) for _ in range(2))
    for at in range(9):
        first.take(Batch.of(Lane.FLOAT, [1], START + at * SECOND, [7.0]))
    second.restore(first.state())
    later = [second.take(Batch.of(Lane.FLOAT, [1], START + at * SECOND, [7.0])).quality[0] for at in (900, 901, 902)]
    assert later == [0, 0, StatusCode.UNCERTAIN_LAST_USABLE_VALUE]


def test_a_clock_that_jumps_either_way_spoils_the_time_not_the_value() -> None:
    good, wrong = "Good", "BadInvalidTimestamp"
    assert _told(TagRule(clock_tolerance=5), [1, 2, 3, 4], [0, 1, 100, 2], now=1.0) == [good, good, wrong, wrong]
    assert _told(TagRule(clock_tolerance=5), [1, 2, 3], [100, 101, 3], now=101.0) == [good, good, wrong]


def test_a_clock_that_is_behind_is_noticed_when_the_device_has_settled_and_history_is_left_in_peace() -> None:
    ingest = Ingest("plc", {"tag1": TagRule(clock_tolerance=5)}, CATALOGUE)
    old = Batch.of(Lane.FLOAT, [1], START - 3600 * SECOND, [1.0])
    assert ingest.take(old, None, START).quality.tolist() == [0]  # a first value may have stood for long
    late = replace(old, ts=old.ts + SECOND)
    assert ingest.take(late, None, START + SETTLING_NS).quality.tolist() == [StatusCode.BAD_INVALID_TIMESTAMP]
    kept = History(old.tag, old.ts, old.value, old.quality)
    assert ingest.take(kept, None, START + SETTLING_NS).quality.tolist() == [0]


def test_a_tag_in_another_unit_than_configured_is_bad_until_that_is_mended() -> None:
    ingest = Ingest("plc", {"tag2": TagRule(valid=(0, 9))}, CATALOGUE)
    batch = Batch.of(Lane.FLOAT, [1, 2], 0, [3.0, 4.0])
    ingest.doubt_units({1: "degF"})
    assert ingest.take(batch).quality.tolist() == [StatusCode.BAD_CONFIGURATION_ERROR, 0]
    ingest.doubt_units({})
    assert ingest.take(batch).quality.tolist() == [0, 0]
    assert ingest.flags == dict.fromkeys(CODES, 0) | {"unit": 1}


def test_what_is_true_or_false_may_stand_still() -> None:
    catalogue = Catalogue()
    running, count = (
        catalogue.intern("plc", name, kind).id for name, kind in (("r", ValueKind.BOOL), ("c", ValueKind.UINT64))
    )
    ingest = Ingest("plc", {"r": TagRule(frozen_after=1), "c": TagRule(frozen_after=1)}, catalogue)
    for second in range(3):
        taken = ingest.take(Batch.of(Lane.INT, [running, count], START + second * SECOND, [1, 2**53 + 1]))
    assert taken.quality.tolist() == [0, StatusCode.UNCERTAIN_LAST_USABLE_VALUE]


def test_rules_reach_tags_that_a_server_names_later_and_elements_of_arrays() -> None:
    catalogue = Catalogue()
    ingest = Ingest("cnc", {"load": TagRule(valid=(0, 100))}, catalogue)
    other = catalogue.intern("plc", "load", ValueKind.FLOAT64)
    assert ingest.take(Batch.of(Lane.FLOAT, [other.id], 0, [200.0])).quality.tolist() == [0]
    element = catalogue.intern("cnc", "load[1]", ValueKind.FLOAT64)
    assert ingest.take(Batch.of(Lane.FLOAT, [element.id], 0, [200.0])).quality.tolist() == [StatusCode.BAD_OUT_OF_RANGE]


def test_a_heartbeat_reports_what_did_not_change() -> None:
    ingest = Ingest("plc", {"tag1": TagRule(deadband=5, heartbeat=10)}, CATALOGUE)
    ts = [SECOND * each for each in (100, 105, 109, 110, 111, 120, 121)]
    kept = ingest.take(Batch.of(Lane.FLOAT, [1] * 7, ts, [1.0] * 6 + [9.0], 0))
    assert [each // SECOND for each in kept.ts.tolist()] == [100, 110, 120, 121]
