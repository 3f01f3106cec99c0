"""Readings as people and files write them: a time, and a value of a kind. One meaning wherever a recording is read."""

from datetime import UTC, datetime, timedelta

from edge.core.catalogue import ValueKind
from edge.core.language import say

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_WORDS = {"true": 1, "false": 0, "1": 1, "0": 0}
_INT64 = range(-(2**63), 2**63)
_TIMES = range(-(2**62) + 1, 2**62)


class Miswritten(ValueError):
    """A text that is no time or no value of its kind: what is wrong, and what to write."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message, self.hint = message, hint


def time_of(text: str) -> int:
    """Return ISO 8601 (UTC unless it has an offset) or whole nanoseconds as ns since 1970 UTC. Raises Miswritten."""
    text = text.strip()
    try:
        if text.lstrip("-").isdecimal():
            ts = int(text)
        else:
            when = datetime.fromisoformat(text)
            aware = when if when.tzinfo else when.replace(tzinfo=UTC)
            ts = (aware - _EPOCH) // timedelta(microseconds=1) * 1000
        if ts in _TIMES:
            return ts
    except ValueError:
        pass
    hint = say("write 2026-01-31T08:00:00Z, or nanoseconds since 1970")
    raise Miswritten(say("{given!r} is not a time", given=text), hint)


def value_of(text: str, kind: ValueKind, *, is_bad: bool = False) -> float | int | str:
    """Return a value as its lane holds it: bools as 0 or 1, unsigned integers by their bit pattern.

    Where the reading is bad, nothing is NaN, 0 or "". Raises Miswritten.
    """
    given = text.strip().lower()
    if kind is ValueKind.TEXT:
        return text
    if is_bad and not given:
        return float("nan") if kind is ValueKind.FLOAT64 else 0
    match kind:
        case ValueKind.FLOAT64:
            try:
                return float(given)
            except ValueError:
                raise _no_value(say("{given!r} is not a number", given=text)) from None
        case ValueKind.BOOL:
            if given in _WORDS:
                return _WORDS[given]
            raise _no_value(say("{given!r} is neither true nor false", given=text))
    try:
        value = int(given)
    except ValueError:
        raise _no_value(say("{given!r} is not a whole number", given=text)) from None
    if kind is ValueKind.UINT64 and value < 0:
        raise _no_value(say("{given!r} is below 0, the tag has no sign", given=text))
    pattern = value - 2**64 if kind is ValueKind.UINT64 and value >= 2**63 else value
    if pattern not in _INT64:
        raise _no_value(say("{given!r} is beyond 64 bits", given=text))
    return pattern


def quality_of(text: str) -> int:
    """Return a StatusCode; nothing is good. Raises Miswritten."""
    given = text.strip()
    try:
        quality = int(given, 0) if given else 0
        if 0 <= quality < 2**32:
            return quality
    except ValueError:
        pass
    hint = say("a StatusCode such as 0 or 0x80000000, or nothing for good")
    raise Miswritten(say("{given!r} is not a quality", given=given), hint)


def _no_value(message: str) -> Miswritten:
    return Miswritten(message, say("see the tag's `type`; a value that nobody knows is empty, with a bad quality"))
