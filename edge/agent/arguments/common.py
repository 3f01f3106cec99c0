"""Arguments that several commands share."""

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edge.core.language import say

DEFAULT_DATA_DIR = "yulink-data"

Commands = Any
"""Where commands are added: what `ArgumentParser.add_subparsers` returns."""


def add_command(
    commands: Commands,
    name: str,
    run: Callable[[argparse.Namespace], int] | None,
    words: str,
    example: str,
) -> argparse.ArgumentParser:
    """Add a command with its help and example; return its parser."""
    command: argparse.ArgumentParser = commands.add_parser(
        name, help=words, description=words, epilog=say("example: {example}", example=example)
    )
    if run is not None:
        command.set_defaults(command=run)
    return command


def add_broker(command: argparse.ArgumentParser) -> None:
    """Add what it takes to reach the broker."""
    command.add_argument("--mqtt", required=True, metavar="URL", help=say("the broker, e.g. mqtts://broker:8883"))
    command.add_argument(
        "--ca", type=Path, metavar="FILE", help=say("the authority that signed the servers' certificates")
    )
    command.add_argument("--identity", type=Path, metavar="FILE", help=say("our certificate and key, PEM"))


def add_key(command: argparse.ArgumentParser) -> None:
    """Add the private keys."""
    command.add_argument(
        "--key",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help=say("private key of `yulink keys new`: take only what is sealed to it; may be repeated"),
    )


def add_nats(command: argparse.ArgumentParser) -> None:
    """Add what it takes to reach the stream."""
    command.add_argument("--nats", required=True, metavar="URL", help=say("servers of the stream, with commas"))
    command.add_argument(
        "--replicas", type=int, default=3, choices=(1, 3, 5), metavar="N", help=say("copies of the stream; default: 3")
    )


def add_config(command: argparse.ArgumentParser) -> None:
    """Add the configuration."""
    command.add_argument("config", type=Path, metavar="CONFIG", help=say("a YAML file, or a folder of them"))


def add_sealed_config(command: argparse.ArgumentParser) -> None:
    """Add the configuration where only an encrypted log needs it."""
    command.add_argument(
        "config",
        type=Path,
        nargs="?",
        metavar="CONFIG",
        help=say("the configuration; needed for an encrypted log only"),
    )


def add_timeout(command: argparse.ArgumentParser) -> None:
    """Add how long to wait."""
    command.add_argument(
        "--timeout", type=float, default=1.0, metavar="S", help=say("how long an answer may take; default: 1 s")
    )


def add_data_dir(command: argparse.ArgumentParser) -> None:
    """Add where the log is."""
    command.add_argument(
        "--data-dir",
        type=Path,
        default=Path(os.environ.get("STATE_DIRECTORY", DEFAULT_DATA_DIR)),
        metavar="DIR",
        help=say("where the log is kept; default: {default}", default=DEFAULT_DATA_DIR),
    )
