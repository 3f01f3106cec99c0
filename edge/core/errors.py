"""The few errors of the program. Each one is a decision of the runtime and carries the operator's next step."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


class YulinkError(Exception):
    """Base of all errors the program raises on purpose. `hint` says what to do next."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class WrongInput(YulinkError):
    """The user named something that is not there or cannot be. Commands end with exit code 2."""


class Closed(YulinkError):
    """You closed it. Using it now is a mistake in the program."""


class Disconnected(YulinkError):
    """The world broke it: the session to a device is unusable. The supervisor reconnects."""


class Untrusted(Disconnected):
    """The other side cannot prove who it is. An operator has to decide; until then it is asked again."""


class CorruptSegment(YulinkError):
    """Stored bytes are not what was written. The log sets the segment aside and goes on."""


class LogError(YulinkError):
    """The log cannot be opened, written or read. ERROR: data may be lost until an operator acts."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong in the configuration, at the place `path` (keys and list indexes from the root).

    `on` says what the caret marks: the key or the value at that path; `within` the part of it: column from 0, length.
    """

    path: tuple[str | int, ...]
    message: str
    hint: str = ""
    severity: Literal["error", "warning"] = "error"
    on: Literal["key", "value"] = "value"
    within: tuple[int, int] | None = None


class ConfigError(YulinkError):
    """The configuration is wrong. Nothing was started; `problems` lists everything at once."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(f"{'.'.join(map(str, p.path))}: {p.message}" for p in problems))
