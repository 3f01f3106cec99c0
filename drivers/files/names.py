"""Names of files: which are looked at, and the time that a name tells. Pure."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo

ENDINGS = (".wav", ".npy", ".npz", ".csv", ".txt")
UNREAD = ".mat"
"""Needs scipy, which the agent never loads: such a file is refused, not left lying."""

CONVERT = "numpy.savez(FILE, **scipy.io.loadmat(FILE))"
UNFINISHED = (".part", ".tmp", ".filepart", ".crdownload")
MTIME, RECORDED = "mtime", "file"

_DIRECTIVES = {
    "Y": r"\d{4}", "m": r"\d\d", "d": r"\d\d", "H": r"\d\d", "M": r"\d\d", "S": r"\d\d", "f": r"\d{1,6}", "y": r"\d\d",
    "j": r"\d{3}", "z": r"(?:Z|[+-]\d\d:?\d\d)", "s": r"\d{9,11}",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Finder:
    """Finds a time of one form in a name."""

    form: str
    pattern: re.Pattern[str]

    @property
    def is_utc(self) -> bool:
        """Whether the name itself says where its clock stood: an offset, or seconds since 1970."""
        return "%z" in self.form or "%s" in self.form

    def find(self, name: str, zone: tzinfo | None) -> int | None:
        """Return the time in a name, ns since 1970 UTC; None where there is none."""
        match = self.pattern.search(name)
        if match is None:
            return None
        if self.form == "%s":
            return int(match[0]) * 10**9
        try:
            when = datetime.strptime(match[0], self.form)
        except ValueError:  # digits that are no date
            return None
        when = when if when.tzinfo else when.replace(tzinfo=zone or UTC)
        return round(when.timestamp() * 1e6) * 1000


def finder(form: str) -> Finder | None:
    """Return what finds times of a `strftime` form, None where it is none that tells a moment."""
    parts = re.split(r"%(.)", form)
    letters = parts[1::2]
    day = "s" in letters or "j" in letters or {"m", "d"} <= set(letters)
    if not set(letters) <= _DIRECTIVES.keys() or not day or ("s" in letters and form != "%s"):
        return None
    if "s" not in letters and not ({"Y", "y"} & set(letters) and "H" in letters):
        return None
    pattern = "".join(re.escape(part) if number % 2 == 0 else _DIRECTIVES[part] for number, part in enumerate(parts))
    return Finder(form, re.compile(pattern))


def is_looked_at(name: str) -> bool:
    """Whether a file of this name may be a recording."""
    lower = name.lower()
    return not name.startswith(".") and not lower.endswith(UNFINISHED) and lower.endswith((*ENDINGS, UNREAD))
