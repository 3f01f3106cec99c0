"""What is made of readings, and what became of them."""

import argparse
from pathlib import Path

from edge.agent.arguments.common import (
    Commands,
    add_command,
    add_config,
    add_data_dir,
    add_sealed_config,
)
from edge.core.interval import Level
from edge.core.language import say


def add(commands: Commands) -> None:
    """Add these commands."""
    _add_explain(commands)
    _add_diagnose(commands)
    _add_replay(commands)
    _add_alarms(commands)
    _add_energy(commands)
    _add_quality(commands)
    _add_ledger(commands)
    _add_quarantine(commands)


def _add_explain(commands: Commands) -> None:
    explain = add_command(
        commands,
        "explain",
        _explain,
        say("print by what the machine of a device is judged: zones, fault frequencies, blocks"),
        "yulink explain plant.yaml pump-3",
    )
    explain.add_argument(
        "config",
        type=Path,
        metavar="CONFIG",
        nargs="?",
        default=Path(),
        help=say("a YAML file, or a folder of them; default: this folder"),
    )
    explain.add_argument("device", metavar="DEVICE", help=say("the device's name"))
    explain.add_argument("--json", action="store_true", help=say("print one JSON object"))


def _explain(arguments: argparse.Namespace) -> int:
    from edge.agent.commands.explain import run

    return run(arguments)


def _add_diagnose(commands: Commands) -> None:
    diagnose = add_command(
        commands,
        "diagnose",
        _diagnose,
        say("judge the bearing of one recorded waveform"),
        "yulink diagnose pump-3.wav --rpm 1480 --bearing 6205 --picture pump-3.png",
    )
    diagnose.add_argument("file", type=Path, metavar="FILE", help=say("wav, npy, npz, mat or csv"))
    diagnose.add_argument(
        "--rate", type=float, metavar="HZ", help=say("samples a second, where the file does not tell")
    )
    diagnose.add_argument("--rpm", type=float, metavar="N", help=say("turns of the shaft a minute"))
    diagnose.add_argument(
        "--bearing", metavar="NAME", help=say("name, or dimensions in mm: balls=9,ball=7.94,pitch=39.04,angle=0")
    )
    diagnose.add_argument("--channel", metavar="C", help=say("name or number of the channel; default: the first"))
    diagnose.add_argument(
        "--tacho", metavar="C", help=say("channel with the pulses of a tacho, for a shaft of changing speed")
    )
    diagnose.add_argument("--pulses", type=int, default=1, metavar="N", help=say("pulses of the tacho in a turn"))
    diagnose.add_argument(
        "--motor",
        metavar="PLATE",
        help=say(
            "the samples are a phase current in A of the motor with this name plate: {example}",
            example="supply=50,rpm=1480,rated=42",
        ),
    )
    diagnose.add_argument("--unit", choices=["g", "mg", "m/s2", "mm/s2"], help=say("unit of the samples; default: g"))
    diagnose.add_argument(
        "--full-scale",
        metavar="X",
        help=say("what the largest count is, where samples are counts: {example}", example="8, 8g, '40 A'"),
    )
    diagnose.add_argument("--group", choices=["1", "2"], help=say("machine group of ISO 20816-3, for the zone"))
    diagnose.add_argument("--support", choices=["rigid", "flexible"], help=say("how the machine stands, for the zone"))
    diagnose.add_argument("--json", action="store_true", help=say("print one JSON object"))
    diagnose.add_argument("--picture", type=Path, metavar="FILE", help=say("write a .png or .svg"))


def _diagnose(arguments: argparse.Namespace) -> int:
    from edge.agent.commands.diagnose import run

    return run(arguments)


def _add_replay(commands: Commands) -> None:
    replay = add_command(
        commands,
        "replay",
        _replay,
        say("feed recorded rows through derived tags and alarms, in event time"),
        "yulink replay plant.yaml rows.csv --jsonl",
    )
    add_config(replay)
    replay.add_argument("file", type=Path, metavar="FILE", help=say("CSV: ts,device,tag,value[,quality]"))
    replay.add_argument("--jsonl", action="store_true", help=say("print one JSON object a line"))


def _replay(arguments: argparse.Namespace) -> int:
    from edge.agent.commands.replay import run

    return run(arguments.config, arguments.file, jsonl=arguments.jsonl)


def _add_alarms(commands: Commands) -> None:
    alarms = add_command(
        commands,
        "alarms",
        None,
        say("what stands in a running agent: list, acknowledge, shelve"),
        "yulink alarms list --data-dir /var/lib/yulink",
    )
    actions = alarms.add_subparsers(title=say("actions"), metavar=say("ACTION"), required=True)
    listing = add_command(actions, "list", _alarms_list, say("show the alarms that stand"), "yulink alarms list")
    add_data_dir(listing)
    listing.add_argument("--json", action="store_true", help=say("print one JSON object"))
    for name, what in (
        ("ack", say("acknowledge an alarm")),
        ("shelve", say("keep an alarm silent for a time")),
        ("unshelve", say("let a shelved alarm speak again")),
    ):
        action = add_command(actions, name, _alarms_request, what, f"yulink alarms {name} 'spindle hot'")
        add_data_dir(action)
        action.add_argument("alarm", metavar="ALARM", help=say("its name; * for all"))
        action.set_defaults(action=name, time=None)
        if name == "shelve":
            action.add_argument("--for", dest="time", metavar="TIME", help=say("e.g. 8h; default: until unshelved"))


def _alarms_list(arguments: argparse.Namespace) -> int:
    from edge.agent.commands.alarms import show

    return show(arguments.data_dir, json_output=arguments.json)


def _alarms_request(arguments: argparse.Namespace) -> int:
    from edge.agent.commands.alarms import request

    action = "acknowledge" if arguments.action == "ack" else arguments.action
    return request(arguments.data_dir, action, arguments.alarm, arguments.time)


def _add_energy(commands: Commands) -> None:
    energy = add_command(
        commands,
        "energy",
        _energy,
        say("show energy, cost and production by interval, as they are kept for months"),
        "yulink energy plant.yaml incomer --level 1d --from 2026-01-01",
    )
    add_config(energy)
    energy.add_argument("device", nargs="?", metavar="METER", help=say("only of this meter, machine or part"))
    add_data_dir(energy)
    energy.add_argument(
        "--level", choices=[str(each) for each in Level], default="1d", help=say("how long intervals are; default: 1d")
    )
    energy.add_argument("--from", dest="begin", default="", metavar="TIME", help=say("the first, in the plant's time"))
    energy.add_argument("--to", dest="end", default="", metavar="TIME", help=say("up to, but not with; default: now"))
    instead = energy.add_mutually_exclusive_group()
    instead.add_argument("--meters", action="store_true", help=say("show the register of meters instead"))
    instead.add_argument(
        "--events", action="store_true", help=say("show what figures rest on instead: factors, tariffs, resets, bills")
    )
    form = energy.add_mutually_exclusive_group()
    form.add_argument(
        "--json", dest="form", action="store_const", const="json", help=say("print one JSON object a line")
    )
    form.add_argument("--csv", dest="form", action="store_const", const="csv", help=say("print comma-separated values"))


def _energy(arguments: argparse.Namespace) -> int:
    from edge.agent.commands.energy import run

    begin, end = arguments.begin, arguments.end
    form = arguments.form or "table"
    if arguments.meters:
        from edge.agent.commands.energy_register import run as run_register

        return run_register(arguments.config, arguments.device, form)
    if arguments.events:
        from edge.agent.commands.energy_events import run as run_events

        return run_events(arguments.config, arguments.data_dir, arguments.device, begin, end, form)
    return run(arguments.config, arguments.data_dir, arguments.device, arguments.level, begin, end, form)


def _add_quality(commands: Commands) -> None:
    quality = add_command(
        commands,
        "quality",
        _quality,
        say("show how complete, valid and timely readings were, by day or month, and the gaps"),
        "yulink quality plant.yaml --day 2026-01-31 --device pump-3",
    )
    add_config(quality)
    add_data_dir(quality)
    quality.add_argument("--device", metavar="DEVICE", help=say("only this device, by tag"))
    when = quality.add_mutually_exclusive_group()
    when.add_argument("--day", default="", metavar="DAY", help=say("a day of the plant; default: today"))
    when.add_argument("--month", default="", metavar="MONTH", help=say("a month, e.g. 2026-01"))
    quality.add_argument("--json", action="store_true", help=say("print one JSON object a line"))


def _quality(arguments: argparse.Namespace) -> int:
    from edge.agent.commands.quality import run

    day, month = arguments.day, arguments.month
    return run(arguments.config, arguments.data_dir, arguments.device, day, month, json_output=arguments.json)


def _add_ledger(commands: Commands) -> None:
    ledger = add_command(
        commands,
        "ledger",
        _ledger,
        say("show what became of the readings, by device and hour"),
        "yulink ledger --hours 8 --data-dir /var/lib/yulink",
    )
    add_sealed_config(ledger)
    add_data_dir(ledger)
    ledger.add_argument("--device", metavar="DEVICE", help=say("only this device"))
    ledger.add_argument("--hours", type=int, default=24, metavar="N", help=say("the last N hours; default: 24"))
    ledger.add_argument("--json", action="store_true", help=say("print one JSON object a line"))


def _ledger(arguments: argparse.Namespace) -> int:
    from edge.agent.commands.ledger import run

    return run(arguments.config, arguments.data_dir, arguments.device, arguments.hours, json_output=arguments.json)


def _add_quarantine(commands: Commands) -> None:
    quarantine = add_command(
        commands,
        "quarantine",
        None,
        say("messages that cannot pass: list them, try them again, export them"),
        "yulink quarantine list --data-dir /var/lib/yulink",
    )
    actions = quarantine.add_subparsers(title=say("actions"), metavar=say("ACTION"), required=True)
    listing = add_command(
        actions, "list", _quarantine_list, say("show what is set aside, and why"), "yulink quarantine list"
    )
    add_sealed_config(listing)
    listing.add_argument("--json", action="store_true", help=say("print one JSON object a line"))
    again = add_command(
        actions,
        "retry",
        _quarantine_retry,
        say("send it again; a stopped agent does so at its next start"),
        "yulink quarantine retry 3 4",
    )
    again.add_argument("ids", type=int, nargs="*", metavar="ID", help=say("messages, by the numbers of `list`"))
    again.add_argument("--all", action="store_true", help=say("everything that is set aside"))
    export = add_command(
        actions,
        "export",
        _quarantine_export,
        say("write its values to a file, one JSON object each; they stay where they are"),
        "yulink quarantine export aside.jsonl",
    )
    export.add_argument("file", type=Path, metavar="FILE", help=say("a new file; - is the standard output"))
    add_sealed_config(export)
    for action in (listing, again, export):
        add_data_dir(action)
        action.add_argument("--uplink", metavar="NAME", help=say("only of this uplink"))


def _quarantine_list(arguments: argparse.Namespace) -> int:
    from edge.agent.commands.quarantine import show

    return show(arguments.config, arguments.data_dir, arguments.uplink, json_output=arguments.json)


def _quarantine_retry(arguments: argparse.Namespace) -> int:
    from edge.agent.commands.quarantine import retry

    return retry(arguments.data_dir, arguments.ids, arguments.uplink, everything=arguments.all)


def _quarantine_export(arguments: argparse.Namespace) -> int:
    from edge.agent.commands.quarantine import export

    return export(arguments.config, arguments.data_dir, arguments.file, arguments.uplink)
