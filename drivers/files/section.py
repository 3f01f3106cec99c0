"""Configuration of a folder into which waveforms are dropped."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BeforeValidator, Field

from drivers.api import DriverSection, TagSection
from drivers.files.names import ENDINGS, MTIME, RECORDED, finder
from edge.core.errors import Problem
from edge.core.language import say
from edge.core.section import Duration, Frequency, Pause, Size, refuse

_SCALE_TEXT = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(\S.*?)\s*")


def _check_full_scale(text: str) -> str:
    if _SCALE_TEXT.fullmatch(text) is None:
        refuse(say("{text!r} is not a quantity", text=text), say("write number and unit, e.g. 8 g"))
    return text


def _check_time(text: str) -> str:
    if text in (MTIME, RECORDED):
        return text
    if finder(text) is None:
        refuse(
            say("{text!r} is not a way to tell the time", text=text),
            say("write mtime, file, or the form of the time in the name: {example}", example='"%Y%m%d_%H%M%S"'),
        )
    return text


def _check_timezone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        refuse(say("{given} is not a time zone", given=f'"{name}"'), say("write an IANA name: Asia/Shanghai"))
    return name


def _check_glob(text: str) -> str:
    if "/" in text or "\\" in text:
        refuse(
            say("{text!r} is not a pattern of names", text=text),
            say("a name without folders: {example}", example="DE_*.wav"),
        )
    ending = text.rpartition(".")[2].lower()
    if ending == "mat":
        refuse(
            say("MATLAB files are not read by the agent"),
            say(
                "write wav, npy, npz or csv; {command} converts", command="numpy.savez(FILE, **scipy.io.loadmat(FILE))"
            ),
        )
    if "." in text and ending.isalnum() and f".{ending}" not in ENDINGS:
        refuse(
            say("{text!r} is not a format of recordings", text=text), say("formats: {names}", names=", ".join(ENDINGS))
        )
    return text


class FilesTag(TagSection):
    """One channel of the files."""

    file: Annotated[str, AfterValidator(_check_glob)] = "*"
    """Which files hold it, a pattern of their names: `DE_*.wav`. Default: all."""

    channel: Annotated[str, BeforeValidator(lambda given: str(given) if isinstance(given, int) else given)] = "0"
    """Which channel of a file: its name, or its number from 0."""

    rate: Frequency | None = None
    """Samples a second, for files that do not tell it. A file that tells another one is refused."""

    full_scale: Annotated[str, AfterValidator(_check_full_scale)] | None = None
    """What the largest number of a file of integers means, with its unit: `8 g`; for floats what 1.0 means."""

    scale: float = Field(1.0, allow_inf_nan=False)
    """A sample's value is what the file says times this. Not with `full_scale`."""

    def value_kind(self) -> str:
        """Return what its values are."""
        return "waveform"

    @property
    def is_stream(self) -> bool:
        """Whether files that follow each other without a gap can be joined."""
        return True

    @property
    def full_scale_quantity(self) -> tuple[float, str]:
        """Number and unit of `full_scale`; (0, "") when it is not given."""
        match = _SCALE_TEXT.fullmatch(self.full_scale or "")
        return (float(match[1]), match[2]) if match else (0.0, "")


class FilesSection(DriverSection):
    """A folder into which another program drops recorded waveforms: wav, npy, npz or csv, one recording a file."""

    files: Annotated[str, Field(min_length=1)]
    """Path of the folder. Files that were taken are moved to `done/` in it, those that cannot be read to `bad/`."""

    settle: Pause = 2.0
    """How long size and time of a file must stay as they are before it counts as complete. `0s` where files are renamed
    into the folder. Names that begin with `.` or end with `.part` or `.tmp` are not looked at."""

    time: Annotated[str, AfterValidator(_check_time)] = MTIME
    """When a recording began. `mtime`: it ended when the file was last written. `file`: as the file says (`t0` of an
    npz, a time column of a csv, `bext` of a wav). Else the form of the time in the name: `"%Y%m%d_%H%M%S"`."""

    timezone: Annotated[str, AfterValidator(_check_timezone)] | None = None
    """Where the clock stood that wrote times into names and files, as an IANA name: `Asia/Shanghai`."""

    max: Size = 32e6
    """How large a file may be; a larger one is refused."""

    keep: Duration | None = None
    """How long files stay in `done/`, e.g. `7d`. Default: for ever."""

    tags: Annotated[Mapping[str, FilesTag], Field(min_length=1)]
    """The channels to take, by name."""

    def problems(self) -> Sequence[Problem]:
        """Return contradictions between settings."""
        return list(self._problems())

    def _problems(self) -> Iterator[Problem]:
        found = finder(self.time)
        if (found is not None and not found.is_utc and self.timezone is None) or (
            self.time == RECORDED and self.timezone is None
        ):
            yield Problem(("time",), say("nothing says in which time zone that is"), say("add timezone: Asia/Shanghai"))
        for name, tag in self.tags.items():
            if tag.full_scale is not None and tag.scale != 1.0:
                words = say("a tag has `scale` or `full_scale`, not both")
                yield Problem(("tags", name, "scale"), words, say("remove one"), on="key")

    @classmethod
    def expand_tag(cls, tag: Mapping[str, Any], index: int, word: str) -> dict[str, Any]:
        """Put the alternative in place of `{}`; a channel's number advances where it is one."""
        expanded = super().expand_tag(tag, index, word)
        if isinstance(tag.get("channel"), int):
            expanded["channel"] = tag["channel"] + index
        return expanded
