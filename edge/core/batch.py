"""`Batch`, `Waveform` and `Event`: the three records that flow through the program and lie in the log."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from edge.core.quality import StatusCode


class Lane(IntEnum):
    """How a value is held. A tag's kind fixes its lane for ever; 64-bit counters never become floats."""

    FLOAT = 0
    INT = 1
    TEXT = 2

    @property
    def dtype(self) -> np.dtype[Any]:
        """The one numpy dtype of this lane's values: float64, int64, or object (of `str`)."""
        return _DTYPES[self]


_DTYPES = {Lane.FLOAT: np.dtype(np.float64), Lane.INT: np.dtype(np.int64), Lane.TEXT: np.dtype(object)}
_COLUMNS = (("tag", np.dtype(np.int32)), ("ts", np.dtype(np.int64)), ("quality", np.dtype(np.uint32)))
_LANES = {dtype: lane for lane, dtype in _DTYPES.items()}


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Readings of one lane as four columns of equal length n. Arrays are C-contiguous and read-only.

    tag      int32[n]    id in the catalogue
    ts       int64[n]    source time, nanoseconds since 1970 UTC
    value    float64[n], int64[n], or object[n] holding `str`
    quality  uint32[n]   OPC UA StatusCode
    revision uint32[n]   0 at first; a correction of what was given out for the same tag and `ts` has a higher one.
                         None where all are 0, as for everything that devices tell

    Build one with `Batch.of`. "Transform" means "new batch". `==` compares contents; NaN equals NaN.
    """

    tag: npt.NDArray[np.int32]
    ts: npt.NDArray[np.int64]
    value: npt.NDArray[Any]
    quality: npt.NDArray[np.uint32]
    revision: npt.NDArray[np.uint32] | None = None

    def __post_init__(self) -> None:
        for name, dtype in _COLUMNS:
            if getattr(self, name).dtype != dtype:
                raise TypeError(f"Batch.{name} must be {dtype}, got {getattr(self, name).dtype}")
        if self.value.dtype not in _LANES:
            raise TypeError(f"Batch.value must be float64, int64 or object, got {self.value.dtype}")
        if self.revision is not None and self.revision.dtype != np.uint32:
            raise TypeError(f"Batch.revision must be uint32, got {self.revision.dtype}")
        for column in (self.tag, self.ts, self.value, self.quality, self.revision):
            if column is None:
                continue
            if column.ndim != 1 or len(column) != len(self.tag):
                raise ValueError("Batch columns must be one-dimensional and of equal length")
            if not column.flags.c_contiguous:
                raise ValueError("Batch columns must be C-contiguous")
            column.flags.writeable = False

    @classmethod
    def of(
        cls,
        lane: Lane,
        tag: Iterable[int] | npt.NDArray[Any],
        ts: int | Iterable[int] | npt.NDArray[Any],
        value: Sequence[Any] | npt.NDArray[Any],
        quality: int | Iterable[int] | npt.NDArray[Any] = StatusCode.GOOD,
        revision: Iterable[int] | npt.NDArray[Any] | None = None,
    ) -> "Batch":
        """Build a batch, converting each column; a single `ts` or `quality` holds for every row.

        Arrays that already fit are taken over, not copied, and become read-only.
        """
        tags = np.ascontiguousarray(tag if isinstance(tag, np.ndarray) else list(tag), np.int32)
        if lane is Lane.TEXT:
            values = np.empty(len(value), object)
            values[:] = value
        else:
            values = np.ascontiguousarray(value, lane.dtype)
        revisions = None if revision is None else _column(revision, len(tags), np.uint32)
        if revisions is not None and not revisions.any():
            revisions = None
        return cls(tags, _column(ts, len(tags), np.int64), values, _column(quality, len(tags), np.uint32), revisions)

    @classmethod
    def empty(cls, lane: Lane) -> "Batch":
        """Return a batch of no rows."""
        return cls.of(lane, [], [], [])

    @classmethod
    def concat(cls, batches: Sequence["Batch"]) -> "Batch":
        """Join batches of one lane, in order. Raises ValueError for none, TypeError for mixed lanes."""
        if len(batches) == 1:
            return batches[0]
        if len({batch.lane for batch in batches}) > 1:
            raise TypeError("cannot join batches of different lanes")
        return cls(
            np.concatenate([batch.tag for batch in batches]),
            np.concatenate([batch.ts for batch in batches]),
            np.concatenate([batch.value for batch in batches]),
            np.concatenate([batch.quality for batch in batches]),
            None
            if all(batch.revision is None for batch in batches)
            else np.concatenate([batch.revisions() for batch in batches]),
        )

    @property
    def lane(self) -> Lane:
        """The lane, known by the value's dtype."""
        return _LANES[self.value.dtype]

    def take(self, rows: npt.NDArray[Any] | slice) -> "Batch":
        """Return the rows picked by a boolean mask, an index array or a slice of step 1."""
        revision = None if self.revision is None else self.revision[rows]
        return Batch(self.tag[rows], self.ts[rows], self.value[rows], self.quality[rows], revision)

    def revisions(self) -> npt.NDArray[np.uint32]:
        """Return the revision of each row, also where all are 0."""
        return np.zeros(len(self.tag), np.uint32) if self.revision is None else self.revision

    def __len__(self) -> int:
        return len(self.tag)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Batch):
            return NotImplemented
        return (
            self.lane is other.lane
            and np.array_equal(self.tag, other.tag)
            and np.array_equal(self.ts, other.ts)
            and np.array_equal(self.quality, other.quality)
            and np.array_equal(self.revisions(), other.revisions())
            and np.array_equal(self.value, other.value, equal_nan=self.lane is Lane.FLOAT)
        )

    __hash__ = None  # type: ignore[assignment]


class History(Batch):
    """Readings that a device kept while nobody took them: they may be older than what came before."""

    __slots__ = ()


def _column(given: Any, rows: int, dtype: type[np.generic]) -> npt.NDArray[Any]:
    if isinstance(given, int):
        return np.full(rows, given, dtype)
    return np.ascontiguousarray(given if isinstance(given, np.ndarray) else list(given), dtype)


@dataclass(frozen=True, slots=True, eq=False)
class Waveform:
    """A block of equally spaced samples of one tag, e.g. 2048 samples of acceleration.

    ts          nanoseconds since 1970 UTC of the first sample
    rate_hz     samples a second
    full_scale  the physical value of sample 32768 for int16 samples; for float32, where the values are
                already physical, the sensor's range (0 when unknown)
    samples     int16[n] or float32[n], read-only
    quality     OPC UA StatusCode of the block
    """

    tag: int
    ts: int
    rate_hz: float
    full_scale: float
    samples: npt.NDArray[Any]
    quality: int = StatusCode.GOOD

    def __post_init__(self) -> None:
        if self.samples.dtype not in (np.int16, np.float32) or self.samples.ndim != 1:
            raise TypeError("Waveform.samples must be a one-dimensional int16 or float32 array")
        if not self.samples.flags.c_contiguous:
            raise ValueError("Waveform.samples must be C-contiguous")
        self.samples.flags.writeable = False

    def __len__(self) -> int:
        return len(self.samples)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Waveform):
            return NotImplemented
        return (
            (self.tag, self.ts, self.rate_hz, self.full_scale, self.quality, self.samples.dtype)
            == (other.tag, other.ts, other.rate_hz, other.full_scale, other.quality, other.samples.dtype)
        ) and np.array_equal(self.samples, other.samples, equal_nan=self.samples.dtype == np.float32)

    __hash__ = None  # type: ignore[assignment]


class Severity(IntEnum):
    """How urgent an event is: a step on the OPC UA scale 1–1000 (OPC 10000-5, 6.4.2)."""

    INFO = 100
    LOW = 300
    MEDIUM = 500
    HIGH = 700
    CRITICAL = 900


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened once: a device lost, a clock step, an alarm's change of state.

    ts        nanoseconds since 1970 UTC
    source    device name, or "gateway"
    kind      stable word for programs, e.g. "device_lost"
    severity  OPC UA severity
    message   one English sentence for people
    facts     further values, JSON scalars only
    """

    ts: int
    source: str
    kind: str
    severity: Severity
    message: str
    facts: Mapping[str, str | int | float | bool | None] = field(default_factory=dict)

    def __len__(self) -> int:
        return 1


Record: TypeAlias = Batch | Waveform | Event
"""What drivers yield and the log keeps. `len(record)` is its size in rows (samples for a waveform)."""
