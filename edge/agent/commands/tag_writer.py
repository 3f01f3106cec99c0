"""Adds tags to a device in a YAML file and leaves everything else as it stands: comments, order, blank lines.

The lines are inserted where the device's tags end. What comes out is read again before it is kept: it must be the
old configuration with the new tags, and nothing else.
"""

import io
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import YAMLError

from edge.core.errors import WrongInput
from edge.core.language import say

_PLAIN = re.compile(r"[^\W\d_][\w./-]*|(?:ns=\d+;)?[is]=[\w./-]+", re.ASCII)
_WORDS = {"null", "true", "false", "yes", "no", "on", "off", "y", "n"}
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


@dataclass(frozen=True, slots=True)
class Addition:
    """Tags for a device of a file. `settings` are the device's own, for one that is not there yet."""

    device: str
    tags: Mapping[str, Mapping[str, str]]
    settings: Mapping[str, str]


def find_file(config: Path, device: str) -> Path:
    """Return the file of a configuration, one file or a folder of them, that has the device; else the one for new ones.

    Raises:
        WrongInput: there is no file, or one cannot be read.
    """
    files = [config] if not config.is_dir() else sorted([*config.glob("*.yaml"), *config.glob("*.yml")])
    if not files:
        raise WrongInput(
            say("there is no YAML file in {folder}", folder=config), say("begin with site: tenant/gateway")
        )
    parsed = {file: _parse(_text(file), file) for file in files}
    for file, data in parsed.items():
        if isinstance(data.get("devices"), CommentedMap) and device in data["devices"]:
            return file
    return next((file for file, data in parsed.items() if "devices" in data), files[0])


def tags_in(file: Path, device: str) -> Mapping[str, Any]:
    """Return the tags that stand in a file for a device, none when there is no such device."""
    devices = _parse(_text(file), file).get("devices")
    found = devices.get(device) if isinstance(devices, CommentedMap) else None
    tags = found.get("tags") if isinstance(found, CommentedMap) else None
    return tags if isinstance(tags, CommentedMap) else {}


def lines_for(tags: Mapping[str, Mapping[str, str]], indent: int) -> list[str]:
    """Return the tags as YAML, one a line."""
    return [
        f"{' ' * indent}{quoted(name)}: {{{', '.join(f'{key}: {quoted(value)}' for key, value in each.items())}}}"
        for name, each in tags.items()
    ]


def quoted(text: str) -> str:
    """Return a text as a YAML scalar that stands safely within braces, in double quotes where it must."""
    if _PLAIN.fullmatch(text) and text.lower() not in _WORDS:
        return text
    shown = "".join(_ESCAPES.get(char) or (char if char.isprintable() else f"\\U{ord(char):08x}") for char in text)
    return f'"{shown}"'


def add(file: Path, addition: Addition) -> str:
    """Write the tags into the file and return what stood in it before.

    Raises:
        WrongInput: the device is written in a way that lines cannot be added to; the hint has them.
    """
    before = _text(file)
    end = "\r\n" if "\r\n" in before else "\n"
    lines = before.replace("\r\n", "\n").split("\n")
    data = _parse(before, file)
    at, added = _place(lines, data, addition)
    after = end.join([*lines[:at], *added, *lines[at:]])
    if not _is_old_with(data, _parse_or_none(after), addition):
        raise _unsuited(file, addition)
    write(file, after)
    return before


def write(file: Path, text: str) -> None:
    """Replace a file's text at once, with the permissions it had."""
    fresh = file.with_name(f".{file.name}.new")
    with fresh.open("wb") as out:
        out.write(text.encode("utf-8"))
        out.flush()
        os.fsync(out.fileno())
    shutil.copymode(file, fresh)
    fresh.replace(file)


def _unsuited(file: Path, addition: Addition) -> WrongInput:
    return WrongInput(
        say("no lines can be added to {device} in {file}", device=addition.device, file=file),
        say("write its tags one a line, and these with them:\n{lines}",
            lines="\n".join(lines_for(addition.tags, 6))),
    )  # fmt: skip


def _place(lines: Sequence[str], data: CommentedMap, addition: Addition) -> tuple[int, list[str]]:
    """Return the number of the line before which to insert, and what."""
    devices = data.get("devices")
    if not isinstance(devices, CommentedMap) or not devices:
        if "devices" in data:
            line, _ = data.lc.key("devices")
            return line + 1, _new_device(addition, 2)
        return _end(lines, 0, len(lines)), ["", "devices:", *_new_device(addition, 2)]
    device = devices.get(addition.device)
    _, indent = devices.lc.key(next(iter(devices)))
    if not isinstance(device, CommentedMap) or not device:
        line, column = devices.lc.key(list(devices)[-1])
        return _after(lines, line, column), ["", *_new_device(addition, indent)]
    line, inner = device.lc.key(next(iter(device)))
    tags = device.get("tags")
    if not isinstance(tags, CommentedMap) or not tags:
        if "tags" in device:
            line, _ = device.lc.key("tags")
            return line + 1, lines_for(addition.tags, inner + 2)
        line, column = device.lc.key(list(device)[-1])
        added = [f"{' ' * inner}tags:", *lines_for(addition.tags, inner + 2)]
        return _after(lines, line, column), added
    line, column = tags.lc.key(list(tags)[-1])
    return _after(lines, line, column), lines_for(addition.tags, column)


def _new_device(addition: Addition, indent: int) -> list[str]:
    blank = " " * indent
    settings = [f"{blank}  {key}: {quoted(value)}" for key, value in addition.settings.items()]
    head = [f"{blank}{quoted(addition.device)}:", *settings, f"{blank}  tags:"]
    return [*head, *lines_for(addition.tags, indent + 4)]


def _after(lines: Sequence[str], line: int, column: int) -> int:
    """Return the line after an entry: behind what is indented deeper, before blank lines and comments that follow."""
    at = line + 1
    while at < len(lines):
        text = lines[at]
        bare = text.strip()
        if bare and not bare.startswith("#") and len(text) - len(text.lstrip(" ")) <= column:
            break
        at += 1
    return _end(lines, line + 1, at)


def _end(lines: Sequence[str], first: int, at: int) -> int:
    while at > first and (not lines[at - 1].strip() or lines[at - 1].lstrip().startswith("#")):
        at -= 1
    return at


def _is_old_with(before: CommentedMap, after: CommentedMap | None, addition: Addition) -> bool:
    if after is None:
        return False
    wanted = _plain(before)
    devices = wanted.get("devices") or {}
    wanted["devices"] = devices
    device = devices.get(addition.device) or dict(addition.settings)
    devices[addition.device] = device
    device["tags"] = {**(device.get("tags") or {}), **{name: dict(each) for name, each in addition.tags.items()}}
    return bool(_plain(after) == wanted)


def _plain(node: Any) -> Any:
    if isinstance(node, dict):
        return {str(key): _plain(value) for key, value in node.items()}
    return [_plain(value) for value in node] if isinstance(node, list) else node


def _text(file: Path) -> str:
    try:
        return file.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise WrongInput(
            say("the file cannot be read: {error}", error=error),
            say("check the path, its permissions, and that it is UTF-8"),
        ) from error


def _parse(text: str, file: Path) -> CommentedMap:
    data = _parse_or_none(text)
    if data is None:
        raise WrongInput(say("{file} is no configuration", file=file), f"yulink check {file}")
    return data


def _parse_or_none(text: str) -> CommentedMap | None:
    try:
        data = YAML(typ="rt").load(io.StringIO(text))
    except (YAMLError, ValueError):
        return None
    return CommentedMap() if data is None else data if isinstance(data, CommentedMap) else None
