"""What is on a line, a network, a server."""

import argparse
from pathlib import Path

from edge.agent.arguments.common import (
    Commands,
    add_command,
    add_data_dir,
    add_timeout,
)
from edge.core.language import say


def add(commands: Commands) -> None:
    """Add these commands."""
    _add_probe(commands)
    _add_scan(commands)
    _add_browse(commands)


def _add_probe(commands: Commands) -> None:
    probe = add_command(
        commands,
        "probe",
        _probe,
        say("show one register of an unknown device in every interpretation"),
        "yulink probe tcp://192.168.10.40 --id 1 --at holding/1000",
    )
    probe.add_argument("url", metavar="URL", help=say("the device's address, as the configuration writes it"))
    probe.add_argument("--id", type=int, default=1, metavar="N", help=say("unit identifier"))
    probe.add_argument("--at", required=True, metavar="PLACE", help=say("holding/1000, input/6, or 41001"))
    probe.add_argument(
        "--expect", type=float, metavar="VALUE", help=say("what the device's display shows: mark what fits it")
    )
    add_timeout(probe)
    probe.add_argument("--json", action="store_true", help=say("print one JSON object"))


def _probe(arguments: argparse.Namespace) -> int:
    from edge.agent.commands.probe import run

    return run(
        arguments.url, arguments.id, arguments.at, arguments.timeout, arguments.expect, json_output=arguments.json
    )


def _add_scan(commands: Commands) -> None:
    scan = add_command(
        commands,
        "scan",
        _scan,
        say("find serial ports, units on a line, or hosts in a range; asks before it sends"),
        "yulink scan 192.168.10.0/28",
    )
    scan.add_argument(
        "where",
        nargs="?",
        default="",
        metavar="WHERE",
        help=say("the URL of a line, or a range: 192.168.10.0/28, 192.168.10.5-20; default: serial ports here"),
    )
    scan.add_argument("--ids", default="", metavar="IDS", help=say("units to ask, e.g. 1-32"))
    scan.add_argument("--port", type=int, metavar="N", help=say("another port than the protocol's own"))
    scan.add_argument("--rate", type=float, default=10.0, metavar="N", help=say("at most N questions a second"))
    scan.add_argument("--yes", action="store_true", help=say("do not ask first"))
    add_timeout(scan)
    scan.add_argument("--json", action="store_true", help=say("print one JSON object a line"))


def _scan(arguments: argparse.Namespace) -> int:
    from edge.agent.commands.scan import run

    return run(
        arguments.where,
        arguments.ids,
        arguments.port,
        arguments.rate,
        arguments.timeout,
        yes=arguments.yes,
        json_output=arguments.json,
    )


def _add_browse(commands: Commands) -> None:
    browse = add_command(
        commands,
        "browse",
        _browse,
        say("show what a device has: tree, types, values, units; and add tags for it"),
        "yulink browse plant.yaml cnc-07 --match '/Objects/Machine/**' --add cnc-07",
    )
    browse.add_argument("where", metavar="URL|CONFIG", help=say("an address, or a configuration that has the device"))
    browse.add_argument("device", nargs="?", default="", metavar="DEVICE", help=say("the device's name"))
    browse.add_argument("--match", default="", metavar="GLOB", help=say("only these paths: '/Objects/Machine/**'"))
    browse.add_argument("--depth", type=int, default=8, metavar="N", help=say("how many layers; default: 8"))
    browse.add_argument("--max", type=int, default=1000, metavar="N", help=say("how many nodes; default: 1000"))
    browse.add_argument(
        "--security", default="none", metavar="WORD", help=say("of an address: none, sign, sign+encrypt; default: none")
    )
    browse.add_argument("--add", default="", metavar="DEVICE", help=say("write tags for what is shown to this device"))
    browse.add_argument("--config", type=Path, metavar="CONFIG", help=say("the configuration to write to"))
    add_data_dir(browse)
    browse.add_argument("--json", action="store_true", help=say("print one JSON object"))


def _browse(arguments: argparse.Namespace) -> int:
    from drivers.api import BrowseWish
    from edge.agent.commands.browse import run

    wish = BrowseWish(arguments.match, arguments.depth, arguments.max)
    return run(
        arguments.where,
        arguments.device,
        wish,
        arguments.security,
        arguments.add,
        arguments.config,
        arguments.data_dir,
        json_output=arguments.json,
    )
