"""Configuration of a replayed recording."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from drivers.api import DriverSection, TagSection


class ReplayTag(TagSection):
    """One tag of the recording. Its name stands in the column `tag`, unless `column` names it."""

    type: Literal["bool", "int64", "uint64", "float64", "text"] = "float64"
    """What the values are."""

    column: str | None = None
    """The tag's name in the file. Default: the tag's own name."""

    def value_kind(self) -> str | None:
        """Return what its values are."""
        return self.type


class ReplaySection(DriverSection):
    """A CSV file with the columns `ts,device,tag,value` and perhaps `quality`."""

    replay: str
    """Path of the file. Rows of other devices in it are passed over."""

    speed: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    """How many times faster than recorded; 0 as fast as possible."""

    repeat: bool = False
    """Begin again after the last row, with times that go on."""

    tags: Annotated[Mapping[str, ReplayTag], Field(min_length=1)]
    """The tags to play, by name."""
