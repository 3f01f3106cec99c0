"""The device of the campaign: a simulated press that knows what it answered, and the account of where that went."""

import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from edge.core.quality import is_bad
from simulators.modbus import Unit

TAGS = 50
DERIVED = TAGS
"""The number of the tag that the analytics worker makes, where there is one: the sum of the second and third."""
WAIT_NS = 1_200_000_000
"""The worker waits a second for readings that were overtaken, so what it owes of the last second comes later."""
Row = tuple[int, int, float, int]
"""Tag number, time in ns, value, StatusCode."""


@lru_cache(100_000)
def answer_of(count: int) -> tuple[int, ...]:
    """Return the press's answer number `count`: the count, then numbers that no encoding makes small."""
    chance = random.Random(count)
    return (count, *(chance.getrandbits(16) for _ in range(TAGS - 1)))


class Press(Unit):
    """A Modbus unit whose every answer is another, with its number in the first register."""

    answers = 0

    def answer(self, pdu: bytes) -> bytes | None:
        """Put the next answer into the registers, then answer as a unit does. A shorter question is no poll."""
        if int.from_bytes(pdu[3:5], "big") == TAGS:
            self.answers += 1
            assert self.answers < 65_536, "the number of an answer has one register"
        self.put("holding", 0, "u16", list(answer_of(self.answers)))
        return super().answer(pdu)


@dataclass(frozen=True, slots=True)
class Account:
    """Where the values went that the press answered. All are counts of values.

    read         what the press answered
    stored       what of it the brain holds
    told         what the brain was told of as dropped: there was no room
    uncommitted  what was in memory when the agent was killed, in no log and at no brain
    lost         what a log held and the brain does not, nor was told of; and sums that the worker owes and did not make
    twice        what the brain stored a second time
    wrong        what differs from the answer that it came with
    in_order     in every epoch and lane no tag's time goes back, by sequence number
    """

    read: int
    stored: int
    told: int
    uncommitted: int
    lost: int
    twice: int
    wrong: int
    in_order: bool

    @property
    def closes(self) -> bool:
        """Tell whether nothing is lost, twice, wrong or out of order, and the sum fits."""
        return not (self.lost or self.twice or self.wrong) and self.in_order and self.uncommitted >= 0


@dataclass(slots=True)
class Stored:
    """What a brain holds: its rows, how many took the place of others, rows told of in gaps, and the order of tags."""

    rows: Counter[Row] = field(default_factory=Counter)
    replaced: int = 0
    told: int = 0
    in_order: bool = True


def account(answers: int, log: Counter[Row], brain: Stored, *, derives: bool = False) -> Account:
    """Compare what the press answered with what lies in the log and at the brain; `derives`: a worker makes sums of it.

    Rows that say "the device is away" come from no answer: they may not be lost either, but are not values read.
    """
    known = log | brain.rows
    good = {row for row in known if not is_bad(row[3])}
    read = {row for row in good if row[0] < TAGS}
    polls = {ts for tag, ts, *_ in read if tag == 0}
    owed = {ts for ts in polls if ts < max(polls) - WAIT_NS} - {ts for tag, ts, *_ in good if tag == DERIVED}
    number_at = {ts: value for tag, ts, value, _ in good if tag == 0}
    moments = Counter(number_at.values())
    return Account(
        read=answers * TAGS,
        stored=sum(row[0] < TAGS and not is_bad(row[3]) for row in brain.rows),
        told=brain.told,
        uncommitted=answers * TAGS - len(read) - brain.told,
        lost=(log - brain.rows).total() + (len(owed) if derives else 0),
        twice=brain.rows.total() - len(brain.rows) + brain.replaced + sum(each - 1 for each in moments.values()) * TAGS,
        wrong=sum(_expected(number_at, tag, ts) != value for tag, ts, value, _ in good),
        in_order=brain.in_order,
    )


def _expected(number_at: Mapping[int, float], tag: int, ts: int) -> int | None:
    number = number_at.get(ts)
    if number is None:
        return None
    answer = answer_of(int(number))
    return answer[1] + answer[2] if tag == DERIVED else answer[tag]
