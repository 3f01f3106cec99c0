"""Ranges of positions, (first, last) with both included, and the borders between which a gap may lie."""

from bisect import bisect_right
from collections.abc import Sequence
from typing import TypeAlias

from buffer.outbox import END, ParcelOutbox

Ranges: TypeAlias = list[tuple[int, int]]


def joined(ranges: Ranges) -> Ranges:
    """Return the union of ranges as ranges apart from each other, in order."""
    found: Ranges = []
    for first, last in sorted(ranges):
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(found[-1][1], last))
        else:
            found.append((first, last))
    return found


def between(ranges: Ranges) -> Ranges:
    """Return the positions from 1 on that lie in none of the ranges."""
    holes: Ranges = []
    at = 1
    for first, last in joined(ranges):
        if first > at:
            holes.append((at, first - 1))
        at = last + 1
    return [*holes, (at, END)] if at <= END else holes


def common(one: Ranges, other: Ranges) -> Ranges:
    """Return where two lists of ranges, apart from each other in themselves, overlap."""
    found = [(max(a, c), min(b, d)) for a, b in one for c, d in other if max(a, c) <= min(b, d)]
    return sorted(found)


def borders_of(outboxes: Sequence[ParcelOutbox], *, event: bool) -> list[int]:
    """Return the positions at which something of a consumer's begins or ends, in order."""
    found = {
        place for outbox in outboxes for first, last in outbox.open_ranges(event=event) for place in (first, last + 1)
    }
    return sorted(found.union(*(outbox.selection.firsts for outbox in outboxes)))


def same_side(borders: Sequence[int], one: int, other: int) -> bool:
    """Tell whether no border lies between two positions."""
    return bisect_right(borders, one) == bisect_right(borders, other)
