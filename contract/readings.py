"""What does it say? Reads the tables of a batch: a matrix each, a tag a line, and what made it small undone."""

from itertools import accumulate

import batch_pb2 as pb

PRESENT = {  # what a whole number of a table means, by the kind of its tag
    pb.BOOL: lambda number, form: number == 1,
    pb.INT64: lambda number, form: number,
    pb.UINT64: lambda number, form: number % 2**64,
    pb.FLOAT64: lambda number, form: number / 10**form,
}


def sums(line: list) -> list:
    """Undo differences; integers have 64 bits."""
    return [(number + 2**63) % 2**64 - 2**63 for number in accumulate(line)]


def lines(column, rows: int):
    """Yield the lines of a matrix."""
    return (list(column[first : first + rows]) for first in range(0, len(column), rows))


def readings(batch: pb.Batch, tags: dict):
    """Yield (device, tag, ns since 1970 UTC, value, quality, revision); `tags` holds (device, tag) by (gateway, id)."""
    for table in batch.tables:
        times = list(lines(table.times, table.rows))  # one line for all tags, or a line each
        qualities = lines([run.code for run in table.quality for _ in range(run.count)], table.rows)
        revised = [run.revision for run in table.revisions for _ in range(run.count)]
        revisions = lines(revised or [0] * table.rows * len(table.tags), table.rows)
        integers, singles, doubles = (
            lines(each, table.rows) for each in (table.integers, table.singles, table.doubles)
        )
        for place, (id, form) in enumerate(zip(accumulate(table.tags), table.forms, strict=True)):
            device, tag = tags[batch.gateway, id]
            own = place % len(times)
            if table.paces:
                at = [table.starts[own] + k * table.paces[own] + offset for k, offset in enumerate(times[own])]
            else:
                at = sums(times[own][:1] + sums(times[own][1:]))
            if form in (32, 64):
                values = next(singles if form == 32 else doubles)
            elif form == 100:
                values = [batch.texts[number] for number in sums(next(integers))]
            else:
                values = [PRESENT[tag.kind](number, form) for number in sums(next(integers))]
            for step, value, *worth in zip(at, values, next(qualities), next(revisions), strict=True):
                yield device, tag, step * table.time_unit, value, *worth
