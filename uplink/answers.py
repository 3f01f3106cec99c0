"""What the brain says to a gateway, decoded: what it has, and what it wants again."""

import json
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Ack:
    """What the brain has of an epoch: all up to `through`, but for what it misses or refuses."""

    epoch: int
    through: int
    missing: tuple[tuple[int, int], ...]
    refused: tuple[tuple[int, int], ...]

    @classmethod
    def read(cls, plain: bytes) -> "Ack":
        """Return the acknowledgement in a message. Raises ValueError, KeyError, TypeError."""
        told = json.loads(plain)
        missing, refused = (
            tuple((int(first), int(last)) for first, last in told.get(key, ())) for key in ("missing", "refused")
        )
        return cls(int(told["epoch"]), int(told["committed_through"]), missing, refused)

    def lacks(self, seq: int) -> bool:
        """Tell whether the brain says that it misses a message."""
        return any(first <= seq <= last for first, last in self.missing)


@dataclass(slots=True)
class Recall:
    """What the brain wants again: messages of an epoch, or (epoch 0) rows of a time; `after` is how far it was done."""

    epoch: int
    first: int
    last: int
    after: int = 0

    @classmethod
    def read(cls, plain: bytes) -> "Recall":
        """Return the wish in a message. Raises ValueError, KeyError, TypeError."""
        told = json.loads(plain)
        if "epoch" in told:
            return cls(int(told["epoch"]), int(told["first"]), int(told["last"]))
        return cls(0, int(told["from"]), int(told["to"]))
