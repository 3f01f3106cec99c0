"""What the log needs to know of a record."""

from buffer.schema import EVENT_KIND, WAVEFORM_KIND
from edge.core.batch import Batch, Event, Record, Waveform

SEGMENT_ROWS_MAX = 20_000


def in_segments(batch: Batch) -> list[Batch]:
    """Cut a batch into pieces of at most as many rows as a segment may have."""
    if len(batch) <= SEGMENT_ROWS_MAX:
        return [batch]
    return [batch.take(slice(start, start + SEGMENT_ROWS_MAX)) for start in range(0, len(batch), SEGMENT_ROWS_MAX)]


def kind_of(record: Record) -> int:
    """Return the number of the record's kind, as the codec writes it."""
    match record:
        case Batch():
            return int(record.lane)
        case Waveform():
            return WAVEFORM_KIND
        case Event():
            return EVENT_KIND


def rows_of(record: Record) -> int:
    """Return how many readings a record is: a batch's rows; one for a waveform or an event."""
    return len(record) if isinstance(record, Batch) else 1


def times_of(record: Record) -> tuple[int, int]:
    """Return the first and last source time of a record."""
    match record:
        case Batch():
            return int(record.ts.min()), int(record.ts.max())
        case Waveform():
            length_s = len(record) / record.rate_hz if record.rate_hz > 0 else 0.0
            return record.ts, record.ts + round(length_s * 1e9)
        case Event():
            return record.ts, record.ts
