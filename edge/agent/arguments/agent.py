"""The agent itself: started, checked, read, asked."""

import argparse
from pathlib import Path

from edge.agent.arguments.common import (
    Commands,
    add_command,
    add_config,
    add_data_dir,
)
from edge.core.language import say


def add(commands: Commands) -> None:
    """Add these commands."""
    _add_run(commands)
    _add_check(commands)
    _add_read(commands)
    _add_status(commands)
    _add_trust(commands)
    _add_demo(commands)
    _add_simulate(commands)


def _add_run(commands: Commands) -> None:
    run = add_command(commands, "run", _run, say("run the agent in the foreground"), "yulink run plant.yaml")
    add_config(run)
    add_data_dir(run)


def _run(arguments: argparse.Namespace) -> int:
    from edge.agent.run import run

    return run(arguments.config, arguments.data_dir)


def _add_check(commands: Commands) -> None:
    check = add_command(
        commands,
        "check",
        _check,
        say("check a configuration and show the read plan"),
        "yulink check plant.yaml --offline",
    )
    add_config(check)
    add_data_dir(check)
    check.add_argument("--offline", action="store_true", help=say("do not connect to the devices"))
    check.add_argument("--json", action="store_true", help=say("print one JSON object"))


def _check(arguments: argparse.Namespace) -> int:
    from edge.agent.commands.check import run

    return run(arguments.config, arguments.data_dir, offline=arguments.offline, json_output=arguments.json)


def _add_read(commands: Commands) -> None:
    read = add_command(
        commands,
        "read",
        _read,
        say("read a device once and print its values; nothing is sent"),
        "yulink read plant.yaml pump-3",
    )
    add_config(read)
    read.add_argument("device", metavar="DEVICE", help=say("the device's name"))
    read.add_argument("tags", metavar="TAG", nargs="*", help=say("only these tags"))
    add_data_dir(read)
    read.add_argument("--json", action="store_true", help=say("print one JSON object"))


def _read(arguments: argparse.Namespace) -> int:
    from edge.agent.commands.read import run

    return run(arguments.config, arguments.device, arguments.tags, arguments.data_dir, json_output=arguments.json)


def _add_status(commands: Commands) -> None:
    status = add_command(
        commands, "status", _status, say("show what a running agent does"), "yulink status --data-dir /var/lib/yulink"
    )
    add_data_dir(status)
    status.add_argument("--json", action="store_true", help=say("print one JSON object"))


def _status(arguments: argparse.Namespace) -> int:
    from edge.agent.commands.status import run

    return run(arguments.data_dir, json_output=arguments.json)


def _add_trust(commands: Commands) -> None:
    trust = add_command(
        commands,
        "trust",
        None,
        say("decide which servers' certificates are trusted; while the agent runs, or not"),
        "yulink trust list --data-dir /var/lib/yulink",
    )
    decisions = trust.add_subparsers(title=say("actions"), metavar=say("ACTION"), required=True)
    listing = add_command(
        decisions, "list", _trust_list, say("show our certificates and those of servers"), "yulink trust list"
    )
    add_data_dir(listing)
    listing.add_argument("--json", action="store_true", help=say("print one JSON object"))
    accept = add_command(
        decisions, "accept", _trust_decide, say("trust a certificate from now on"), "yulink trust accept 3f09a4c21b7e"
    )
    accept.add_argument(
        "--despite",
        default="",
        metavar="FAULTS",
        help=say("what is wrong with it and known to be: expired, not-yet-valid, host, uri, usage, weak"),
    )
    reject = add_command(
        decisions,
        "reject",
        _trust_decide,
        say("refuse a certificate, also one accepted before"),
        "yulink trust reject cnc-07",
    )
    remove = add_command(
        decisions,
        "remove",
        _trust_decide,
        say("forget a certificate: shown again, it waits again"),
        "yulink trust remove 3f09a4c21b7e",
    )
    for action, word in ((accept, "accept"), (reject, "reject"), (remove, "remove")):
        action.add_argument(
            "what", metavar="WHAT", help=say("the beginning of a thumbprint, or a device whose certificate waits")
        )
        action.set_defaults(action=word)
        add_data_dir(action)


def _trust_list(arguments: argparse.Namespace) -> int:
    from edge.agent.commands.trust import show

    return show(arguments.data_dir, json_output=arguments.json)


def _trust_decide(arguments: argparse.Namespace) -> int:
    from edge.agent.commands.trust import decide

    return decide(arguments.action, arguments.what, getattr(arguments, "despite", ""), arguments.data_dir)


def _add_demo(commands: Commands) -> None:
    demo = add_command(
        commands,
        "demo",
        _demo,
        say("run the whole product on a simulated plant"),
        "yulink demo --duration 20 --json demo.json",
    )
    demo.add_argument("--duration", type=float, metavar="S", help=say("end after S seconds; default: until Ctrl-C"))
    demo.add_argument("--json", type=Path, metavar="FILE", help=say("write the summary as JSON"))
    demo.add_argument("--broker", choices=["mosquitto", "nats"], help=say("which broker; default: what is installed"))


def _demo(arguments: argparse.Namespace) -> int:
    from edge.agent.commands.demo import run

    return run(arguments.duration, arguments.json, arguments.broker)


def _add_simulate(commands: Commands) -> None:
    simulate = add_command(
        commands,
        "simulate",
        _simulate,
        say("run simulated devices alone"),
        "yulink simulate plc --fault 'plc-1:freeze@10s+5s'",
    )
    simulate.add_argument("scenario", metavar="SCENARIO", help=say("demo, cnc, plc, meter or vibration"))
    simulate.add_argument("--duration", type=float, metavar="S", help=say("end after S seconds; default: until Ctrl-C"))
    simulate.add_argument("--json", action="store_true", help=say("print one JSON object when ready"))
    simulate.add_argument("--fault", action="append", default=[], metavar="SPEC", help=say("device:fault@start+length"))
    simulate.add_argument("--seed", type=int, default=1, metavar="N", help=say("another plant for each number"))


def _simulate(arguments: argparse.Namespace) -> int:
    from edge.agent.commands.simulate import run

    return run(arguments)
