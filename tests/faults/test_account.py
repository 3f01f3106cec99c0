"""The campaign's account can fail: each thing that must not happen shows in it."""

from collections import Counter
from pathlib import Path

import pytest

from edge.core.quality import StatusCode
from tests.faults.campaign import BEGIN, END, write_table
from tests.faults.press import DERIVED, TAGS, Row, Stored, account, answer_of
from tests.faults.stage import in_order

TURN = 2 * 10**9
BAD = int(StatusCode.BAD_NO_COMMUNICATION)


def answers(*numbers: int) -> Counter[Row]:
    """The rows of these answers of the press, each at a time of its own."""
    return Counter((tag, number * TURN, value, 0) for number in numbers for tag, value in enumerate(answer_of(number)))


def test_everything_stored_once_closes() -> None:
    found = account(3, answers(1, 2, 3), Stored(answers(1, 2, 3)))
    assert found.closes
    assert (found.read, found.stored, found.uncommitted) == (3 * TAGS, 3 * TAGS, 0)


def test_what_was_only_in_memory_is_counted_and_what_limits_dropped_is_told() -> None:
    found = account(4, answers(2, 3), Stored(answers(2, 3), told=TAGS))
    assert found.closes
    assert (found.told, found.uncommitted) == (TAGS, TAGS)


def test_rows_that_say_the_device_is_away_are_no_values_read_but_may_not_be_lost() -> None:
    away: Counter[Row] = Counter([(tag, 150, 0, BAD) for tag in range(TAGS)])
    assert account(1, answers(1) + away, Stored(answers(1) + away)).closes
    assert account(1, answers(1) + away, Stored(answers(1))).lost == TAGS


def test_a_sum_that_the_worker_owes_is_lost_and_another_one_is_wrong() -> None:
    values = answer_of(1)
    read = answers(1, 2)  # what it owes of the last second may come later
    right: Counter[Row] = Counter([(DERIVED, TURN, float(values[1] + values[2]), 0)])
    other: Counter[Row] = Counter([(DERIVED, TURN, 1.0, 0)])
    assert account(2, read + right, Stored(read + right), derives=True).closes
    assert account(2, read, Stored(read), derives=True).lost == 1
    assert account(2, read + other, Stored(read + other), derives=True).wrong == 1


@pytest.mark.parametrize(
    ("brain", "what"),
    [
        (Stored(answers(1)), "lost"),
        (Stored(answers(1, 2) + answers(2)), "twice"),
        (Stored(answers(1, 2), replaced=1), "twice"),
        (Stored(answers(1, 2) + Counter((tag, 777, value, 0) for tag, value in enumerate(answer_of(2)))), "twice"),
        (Stored(answers(1, 2) + Counter([(7, TURN, -1, 0)])), "wrong"),
    ],
)
def test_what_must_not_happen_shows(brain: Stored, what: str) -> None:
    found = account(2, answers(1, 2), brain)
    assert getattr(found, what) > 0
    assert not found.closes


def test_more_told_than_is_missing_does_not_close() -> None:
    assert not account(2, answers(1, 2), Stored(answers(1, 2), told=1)).closes


def test_order_is_by_number_and_a_part_stands_in_the_place_of_its_whole() -> None:
    def rows(*messages: tuple[int, int]) -> list[tuple[object, ...]]:
        return [(5, seq, False, "t0", ts) for seq, ts in messages]

    assert in_order(rows((1, 10), (2, 20), (3, 30)), {})
    assert not in_order(rows((1, 10), (2, 30), (3, 20)), {})
    parts = rows((1, 10), (2, 30), (3, 20), (4, 25))
    assert not in_order(list(parts), {})
    assert in_order(list(parts), {(5, 3): (5, 1, 7, 0.0), (5, 4): (5, 1, 8, 0.0)})
    assert not in_order(list(parts), {(5, 3): (5, 1, 8, 0.0), (5, 4): (5, 1, 7, 0.0)}), "also among themselves"


def test_the_table_is_written_between_its_marks_whole_or_by_row(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\n{END}\nafter\n")
    write_table(page, "head\n| a | 1 |\n| b | 2 |")
    write_table(page, "unused", only=["| b | 3 |"])
    assert page.read_text() == f"before\n{BEGIN}\nhead\n| a | 1 |\n| b | 3 |\n{END}\nafter\n"
