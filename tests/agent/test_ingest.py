import math

from hypothesis import given
from hypothesis import strategies as st

from edge.agent.ingest import Ingest, TagRule
from edge.core.batch import Batch, Lane
from edge.core.catalogue import Catalogue, Tag, ValueKind
from edge.core.ledger import Tally
from edge.core.quality import StatusCode
from tests.core.strategies import batches

VALUES = st.floats(-100, 100) | st.just(math.nan)
ROWS = st.lists(st.tuples(st.integers(1, 4), VALUES, st.sampled_from([0, StatusCode.BAD_TIMEOUT])), max_size=30)
CATALOGUE = Catalogue(Tag(number, "plc", f"tag{number}", ValueKind.FLOAT64) for number in range(1, 5))
RULES = {1: TagRule(deadband=5), 2: TagRule(valid=(-50, 50)), 3: TagRule(deadband=1, valid=(-10, 10))}


def naive(rows: list[tuple[int, float, int]]) -> list[tuple[int, float, int]]:
    """Row by row, as one would explain it."""
    reported: dict[int, tuple[float, int]] = {}
    kept = []
    for tag, value, quality in rows:
        rule = RULES.get(tag, TagRule())
        if rule.valid and not quality & 0x80000000 and (value < rule.valid[0] or value > rule.valid[1]):
            quality = StatusCode.BAD_OUT_OF_RANGE
        if rule.deadband and tag in reported:
            last, last_quality = reported[tag]
            same = abs(value - last) <= rule.deadband or (math.isnan(value) and math.isnan(last))
            if same and quality == last_quality:
                continue
        reported[tag] = (value, quality)
        kept.append((tag, value, quality))
    return kept


@given(st.lists(ROWS, max_size=4))
def test_columns_give_what_row_by_row_gives(polls: list[list[tuple[int, float, int]]]) -> None:
    ingest = Ingest("plc", {f"tag{number}": rule for number, rule in RULES.items()}, CATALOGUE)
    stored, tally = [], Tally("plc")
    for rows in polls:
        tag, value, quality = zip(*rows, strict=True) if rows else ((), (), ())
        batch = ingest.take(Batch.of(Lane.FLOAT, tag, 0, value, quality), tally)
        stored += list(zip(batch.tag.tolist(), batch.value.tolist(), batch.quality.tolist(), strict=True))
    expected = naive([row for rows in polls for row in rows])
    assert [tuple(map(str, row)) for row in stored] == [tuple(map(str, row)) for row in expected]
    read = [row for rows in polls for row in rows]
    bad = sum(bool(quality) or abs(value) > {2: 50, 3: 10}.get(tag, math.inf) for tag, value, quality in read)
    assert tally == Tally("plc", read=len(read), bad=bad, filtered=len(read) - len(expected))


@given(batches())
def test_a_device_without_rules_passes_untouched(batch: Batch) -> None:
    assert Ingest("plc", {}, CATALOGUE).take(batch) is batch


def test_an_implausible_value_keeps_its_number() -> None:
    batch = Ingest("plc", {"tag1": TagRule(valid=(-40, 150))}, CATALOGUE).take(
        Batch.of(Lane.INT, [1, 1], 0, [151, 150])
    )
    assert batch.value.tolist() == [151, 150]
    assert batch.quality.tolist() == [StatusCode.BAD_OUT_OF_RANGE, StatusCode.GOOD]


def test_rules_reach_tags_that_a_server_names_later_and_elements_of_arrays() -> None:
    catalogue = Catalogue()
    ingest = Ingest("cnc", {"load": TagRule(valid=(0, 100))}, catalogue)
    other = catalogue.intern("plc", "load", ValueKind.FLOAT64)
    assert ingest.take(Batch.of(Lane.FLOAT, [other.id], 0, [200.0])).quality.tolist() == [0]
    element = catalogue.intern("cnc", "load[1]", ValueKind.FLOAT64)
    assert ingest.take(Batch.of(Lane.FLOAT, [element.id], 0, [200.0])).quality.tolist() == [StatusCode.BAD_OUT_OF_RANGE]


def test_a_heartbeat_reports_what_did_not_change() -> None:
    second = 10**9
    ingest = Ingest("plc", {"tag1": TagRule(deadband=5, heartbeat=10)}, CATALOGUE)
    ts = [second * each for each in (100, 105, 109, 110, 111, 120, 121)]
    kept = ingest.take(Batch.of(Lane.FLOAT, [1] * 7, ts, [1.0] * 6 + [9.0], 0))
    assert [each // second for each in kept.ts.tolist()] == [100, 110, 120, 121]
