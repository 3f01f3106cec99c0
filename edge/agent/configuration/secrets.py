"""Secrets by reference: the configuration holds a name, the text stands elsewhere and is never printed."""

import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path

from edge.core.language import say

FOLDER = "secrets"
BYTES_MAX = 65_536


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret's text and the file it came from; the text does not show in its representation."""

    text: str = field(repr=False)
    file: Path | None = None

    @property
    def is_exposed(self) -> bool:
        """Tell whether other users of this machine may read its file."""
        return self.file is not None and bool(self.file.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO))


def find_secret(name: str, folder: Path) -> Secret | None:
    """Look for a secret as a systemd credential, in the environment, and in `secrets/` beside the configuration.

    One line end behind the text is dropped: editors add it. A file beyond 64 KiB is no secret.
    """
    if (credentials := os.environ.get("CREDENTIALS_DIRECTORY")) and (
        text := _read(Path(credentials) / name)
    ) is not None:
        return Secret(text)  # systemd made the folder; nobody else can enter it
    if (text := os.environ.get(variable(name))) is not None:
        return Secret(text)
    file = folder / FOLDER / name
    text = _read(file)
    return None if text is None else Secret(text, file)


def variable(name: str) -> str:
    """Return the environment variable of a secret: `cnc-07` → `YULINK_SECRET_CNC_07`."""
    return "YULINK_SECRET_" + re.sub(r"[^A-Z0-9]", "_", name.upper())


def missing_secret(name: str, folder: Path) -> tuple[str, str]:
    """Return the message and the hint for a secret that is nowhere."""
    return (
        say("the secret {name} is nowhere", name=f'"{name}"'),
        say(
            "put it in the systemd credential {name}, in ${variable}, or in the file {file}",
            name=name,
            variable=variable(name),
            file=folder / FOLDER / name,
        ),
    )


def _read(file: Path) -> str | None:
    try:
        if file.stat().st_size > BYTES_MAX:
            return None
        return file.read_text("utf-8").removesuffix("\n").removesuffix("\r")
    except (OSError, UnicodeDecodeError):
        return None
