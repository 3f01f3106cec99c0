"""The brain's end, and its keys."""

import argparse
from pathlib import Path

from edge.agent.arguments.common import (
    Commands,
    add_broker,
    add_command,
    add_key,
    add_nats,
)
from edge.core.language import say


def add(commands: Commands) -> None:
    """Add these commands."""
    _add_receive(commands)
    _add_bridge(commands)
    _add_write(commands)
    _add_keys(commands)


def _add_receive(commands: Commands) -> None:
    receive = add_command(
        commands,
        "receive",
        _receive,
        say("the brain's end: verify, de-duplicate, store, acknowledge, print"),
        "yulink receive --mqtt mqtts://broker:8883 --ca ca.pem --identity brain.pem --jsonl",
    )
    add_broker(receive)
    add_key(receive)
    receive.add_argument(
        "--store",
        type=Path,
        default=Path("yulink-received.sqlite3"),
        metavar="FILE",
        help=say("where readings are kept"),
    )
    sink = receive.add_mutually_exclusive_group()
    sink.add_argument("--jsonl", action="store_true", help=say("print one JSON object a reading"))
    sink.add_argument("--parquet", type=Path, metavar="DIR", help=say("write Parquet files instead of FILE"))
    sink.add_argument("--postgres", metavar="DSN", help=say("keep readings in PostgreSQL instead of FILE"))


def _receive(arguments: argparse.Namespace) -> int:
    from edge.agent.commands.receive import receive

    return receive(arguments)


def _add_bridge(commands: Commands) -> None:
    bridge = add_command(
        commands,
        "bridge",
        _bridge,
        say("from the broker into the stream; any number share the work"),
        "yulink bridge --mqtt mqtts://broker:8883 --nats tls://n1:4222,tls://n2:4222 --ca ca.pem --identity brain.pem",
    )
    add_broker(bridge)
    add_nats(bridge)
    bridge.add_argument(
        "--name", default="1", metavar="NAME", help=say("of this worker, different for each; default: 1")
    )


def _bridge(arguments: argparse.Namespace) -> int:
    from edge.agent.commands.receive import bridge

    return bridge(arguments)


def _add_write(commands: Commands) -> None:
    write = add_command(
        commands,
        "write",
        _write,
        say("from the stream into PostgreSQL, and acknowledge; any number share the work"),
        "yulink write --nats tls://n1:4222 --postgres postgresql://yulink@db/yulink --mqtt mqtts://broker:8883",
    )
    add_nats(write)
    write.add_argument("--postgres", required=True, metavar="DSN", help=say("the database"))
    add_broker(write)
    add_key(write)


def _write(arguments: argparse.Namespace) -> int:
    from edge.agent.commands.receive import write

    return write(arguments)


def _add_keys(commands: Commands) -> None:
    keys = add_command(
        commands,
        "keys",
        None,
        say("make, show and change the brain's sealing keys"),
        "yulink keys new pki/brain",
    )
    actions = keys.add_subparsers(title=say("actions"), metavar=say("ACTION"), required=True)
    make = add_command(actions, "new", _keys_new, say("make NAME.key and NAME.pub"), "yulink keys new pki/brain")
    make.add_argument("name", type=Path, metavar="NAME", help=say("path without ending"))
    make.add_argument("--x25519", action="store_true", help=say("classical X25519 alone, without ML-KEM-768"))
    show = add_command(
        actions, "show", _keys_show, say("print id and kind of a key file"), "yulink keys show brain.pub"
    )
    show.add_argument("file", type=Path, metavar="FILE", help=say("a key file"))
    rotate = add_command(
        actions, "rotate", _keys_rotate, say("put a new key in the old one's place"), "yulink keys rotate pki/brain"
    )
    rotate.add_argument("name", type=Path, metavar="NAME", help=say("path without ending"))


def _keys_new(arguments: argparse.Namespace) -> int:
    from edge.agent.commands.keys import new

    return new(arguments.name, classical=arguments.x25519)


def _keys_show(arguments: argparse.Namespace) -> int:
    from edge.agent.commands.keys import show

    return show(arguments.file)


def _keys_rotate(arguments: argparse.Namespace) -> int:
    from edge.agent.commands.keys import rotate

    return rotate(arguments.name)
