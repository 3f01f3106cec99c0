"""The ledger: for every device and hour, what became of its readings, in counts whose sums close.

An hour is that in which rows were stored, by the gateway's clock. All counts of a reading fall into that one hour,
whenever it is sent, confirmed or dropped, and whatever its own time stamp says. A clock that is set back adds to an
hour that was told before; it is told again with a higher revision.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # a line is read without numpy
    from edge.core.batch import Batch

HOUR_NS = 3_600 * 10**9
LATE_NS = 60 * 10**9
"""A reading confirmed later than this after it was stored counts as late."""

COUNTS = ("due", "read", "bad", "filtered", "stored", "watched_ms", "connected_ms")


@dataclass(slots=True)
class Tally:
    """What happened to one device's readings since it was counted last; it is stored with the rows it speaks of.

    due           readings that its poll plan owed
    read          readings taken, or marked bad in the place of one that could not be taken
    bad           of them, with bad quality
    filtered      of them, left out by a dead-band
    watched_ms    how long the gateway was at work for the device
    connected_ms  of it, how long the device answered
    left_out      the readings that a dead-band left out, for whoever counts them by tag; no part of the ledger
    """

    device: str
    due: int = 0
    read: int = 0
    bad: int = 0
    filtered: int = 0
    watched_ms: int = 0
    connected_ms: int = 0
    left_out: "list[Batch]" = field(default_factory=list, compare=False)

    def add(self, more: "Tally") -> None:
        """Count in what another tally says."""
        self.due += more.due
        self.read += more.read
        self.bad += more.bad
        self.filtered += more.filtered
        self.watched_ms += more.watched_ms
        self.connected_ms += more.connected_ms

    def __bool__(self) -> bool:
        return any((self.due, self.read, self.bad, self.filtered, self.watched_ms, self.connected_ms))


class Plan:
    """Counts what a device owes. `groups` are (interval in seconds, readings a poll); the first poll is due at once."""

    def __init__(self, groups: Sequence[tuple[float, int]], start: float) -> None:
        self._groups = groups
        self._start = start
        self._counted = [0] * len(groups)

    def due(self, now: float) -> int:
        """Return the readings that have become due since the last call; `now` is monotonic, in seconds."""
        due = 0
        for place, (every, readings) in enumerate(self._groups):
            polls = math.floor((now - self._start) / every) + 1
            due += (polls - self._counted[place]) * readings
            self._counted[place] = polls
        return due


@dataclass(frozen=True, slots=True)
class Way:
    """One uplink's part of a line, in readings.

    sent       taken by the broker, or confirmed, at least once
    committed  confirmed by the brain
    late       of them, more than a minute after they were stored
    withheld   left out by the uplink's own filter
    dropped    given up before they were confirmed, by reason
    """

    sent: int = 0
    committed: int = 0
    late: int = 0
    withheld: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Line:
    """One device's hour, counted in hours since 1970 UTC. A line of a higher revision replaces one of a lower.

    before_ms  of a device's first hour, how much was over when the gateway came to know it
    """

    hour: int
    device: str
    revision: int
    due: int
    read: int
    bad: int
    filtered: int
    stored: int
    watched_ms: int
    connected_ms: int
    uplinks: Mapping[str, Way] = field(default_factory=dict)
    before_ms: int = 0

    def waiting(self, uplink: str) -> int:
        """Return the readings that an uplink still has to deliver."""
        way = self.uplinks[uplink]
        return self.stored - way.withheld - way.committed - sum(way.dropped.values())

    @property
    def machine_off_ms(self) -> int:
        """How long the gateway was at work for the device, and the device did not answer."""
        return self.watched_ms - self.connected_ms

    def box_off_ms(self, now: int) -> int:
        """Return how much of the hour, as far as it has passed, the gateway was not at work for the device."""
        passed = min(max(now - self.hour * HOUR_NS, 0), HOUR_NS) // 10**6
        return max(passed - self.before_ms - self.watched_ms, 0)

    @property
    def undelivered(self) -> int:
        """Readings that the network held up: late, still waiting, or dropped on the worst of all ways."""
        return max(
            (way.late + self.waiting(name) + sum(way.dropped.values()) for name, way in self.uplinks.items()), default=0
        )

    def broken(self) -> list[str]:
        """Return the sums that do not close, as they are written in the contract; none in a right ledger."""
        sums = {
            "read = filtered + stored": self.read == self.filtered + self.stored,
            "bad <= read": self.bad <= self.read,
            "connected_ms <= watched_ms": self.connected_ms <= self.watched_ms,
        }
        for name, way in self.uplinks.items():
            sums |= {
                f"{name}: stored = withheld + committed + dropped + waiting": self.waiting(name) >= 0,
                f"{name}: committed <= sent <= stored": way.committed <= way.sent <= self.stored,
                f"{name}: late <= committed": way.late <= way.committed,
            }
        return [words for words, closes in sums.items() if not closes]

    def as_json(self) -> dict[str, Any]:
        """Return the line as it stands in a statement."""
        ways = {
            name: {
                "sent": way.sent,
                "committed": way.committed,
                "late": way.late,
                "withheld": way.withheld,
                "dropped": dict(way.dropped),
            }
            for name, way in self.uplinks.items()
        }
        plain = {name: getattr(self, name) for name in COUNTS}
        plain |= {"before_ms": self.before_ms} if self.before_ms else {}
        return {"hour": self.hour, "device": self.device, "revision": self.revision, **plain, "uplinks": ways}

    @classmethod
    def of_json(cls, fields: Mapping[str, Any]) -> "Line":
        """Return the line in a statement. Raises ValueError, KeyError or TypeError for what is none."""
        ways = {
            str(name): Way(
                _count(way["sent"]),
                _count(way["committed"]),
                _count(way["late"]),
                _count(way["withheld"]),
                {str(reason): _count(rows) for reason, rows in way["dropped"].items()},
            )
            for name, way in fields["uplinks"].items()
        }
        numbers = {name: _count(fields[name]) for name in ("hour", "revision", *COUNTS)}
        before_ms = _count(fields.get("before_ms", 0))
        return cls(device=str(fields["device"]), uplinks=ways, before_ms=before_ms, **numbers)


def _count(given: Any) -> int:
    if not isinstance(given, int) or isinstance(given, bool) or given < 0:
        raise ValueError(f"{given!r} is no count")
    return given
