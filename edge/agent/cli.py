"""The command `yulink`. Each subcommand's code is imported only when it is called, so `--help` is quick."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

from edge.core.errors import ConfigError, WrongInput, YulinkError
from edge.core.interval import Level
from edge.core.language import say

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_WRONG_INPUT = 2
EXIT_INTERRUPTED = 130

DEFAULT_DATA_DIR = "yulink-data"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 failed, 2 wrong input, 130 interrupted."""
    arguments = parser().parse_args(argv)
    command: Callable[[argparse.Namespace], int] = arguments.command
    try:
        return command(arguments)
    except ConfigError as error:
        from edge.agent.configuration.located import render_all

        print(render_all(error), file=sys.stderr)
        return EXIT_WRONG_INPUT
    except YulinkError as error:
        print(say("error: {message}", message=error.message), file=sys.stderr)
        if error.hint:
            print(say("help: {hint}", hint=error.hint), file=sys.stderr)
        return EXIT_WRONG_INPUT if isinstance(error, WrongInput) else EXIT_FAILED
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of our output went away (`yulink receive | head`): not a failure, and nothing left to flush.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OK


def parser() -> argparse.ArgumentParser:
    """Return the whole command line: every command with its options, help and examples."""
    top = argparse.ArgumentParser(
        prog="yulink",
        description=say("Industrial edge gateway: reads machines, keeps everything, delivers it to the brain."),
    )
    top.add_argument("--version", action="version", version=f"yulink {version('yulink')}")
    commands = top.add_subparsers(title=say("commands"), metavar=say("COMMAND"), required=True)

    run = _command(commands, "run", _run, say("run the agent in the foreground"), "yulink run plant.yaml")
    _config(run)
    _data_dir(run)

    check = _command(
        commands,
        "check",
        _check,
        say("check a configuration and show the read plan"),
        "yulink check plant.yaml --offline",
    )
    _config(check)
    _data_dir(check)
    check.add_argument("--offline", action="store_true", help=say("do not connect to the devices"))
    check.add_argument("--json", action="store_true", help=say("print one JSON object"))

    read = _command(
        commands,
        "read",
        _read,
        say("read a device once and print its values; nothing is sent"),
        "yulink read plant.yaml pump-3",
    )
    _config(read)
    read.add_argument("device", metavar="DEVICE", help=say("the device's name"))
    read.add_argument("tags", metavar="TAG", nargs="*", help=say("only these tags"))
    _data_dir(read)
    read.add_argument("--json", action="store_true", help=say("print one JSON object"))

    probe = _command(
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
    _timeout(probe)
    probe.add_argument("--json", action="store_true", help=say("print one JSON object"))

    scan = _command(
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
    _timeout(scan)
    scan.add_argument("--json", action="store_true", help=say("print one JSON object a line"))

    browse = _command(
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
    _data_dir(browse)
    browse.add_argument("--json", action="store_true", help=say("print one JSON object"))

    demo = _command(
        commands,
        "demo",
        _demo,
        say("run the whole product on a simulated plant"),
        "yulink demo --duration 20 --json demo.json",
    )
    demo.add_argument("--duration", type=float, metavar="S", help=say("end after S seconds; default: until Ctrl-C"))
    demo.add_argument("--json", type=Path, metavar="FILE", help=say("write the summary as JSON"))
    demo.add_argument("--broker", choices=["mosquitto", "nats"], help=say("which broker; default: what is installed"))

    receive = _command(
        commands,
        "receive",
        _receive,
        say("the brain's end: verify, de-duplicate, store, acknowledge, print"),
        "yulink receive --mqtt mqtts://broker:8883 --ca ca.pem --identity brain.pem --jsonl",
    )
    _broker(receive)
    _key(receive)
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

    bridge = _command(
        commands,
        "bridge",
        _bridge,
        say("from the broker into the stream; any number share the work"),
        "yulink bridge --mqtt mqtts://broker:8883 --nats tls://n1:4222,tls://n2:4222 --ca ca.pem --identity brain.pem",
    )
    _broker(bridge)
    _nats(bridge)
    bridge.add_argument(
        "--name", default="1", metavar="NAME", help=say("of this worker, different for each; default: 1")
    )

    write = _command(
        commands,
        "write",
        _write,
        say("from the stream into PostgreSQL, and acknowledge; any number share the work"),
        "yulink write --nats tls://n1:4222 --postgres postgresql://yulink@db/yulink --mqtt mqtts://broker:8883",
    )
    _nats(write)
    write.add_argument("--postgres", required=True, metavar="DSN", help=say("the database"))
    _broker(write)
    _key(write)

    simulate = _command(
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

    keys = _command(
        commands,
        "keys",
        None,
        say("make, show and change the brain's sealing keys"),
        "yulink keys new pki/brain",
    )
    actions = keys.add_subparsers(title=say("actions"), metavar=say("ACTION"), required=True)
    make = _command(actions, "new", _keys_new, say("make NAME.key and NAME.pub"), "yulink keys new pki/brain")
    make.add_argument("name", type=Path, metavar="NAME", help=say("path without ending"))
    make.add_argument("--x25519", action="store_true", help=say("classical X25519 alone, without ML-KEM-768"))
    show = _command(actions, "show", _keys_show, say("print id and kind of a key file"), "yulink keys show brain.pub")
    show.add_argument("file", type=Path, metavar="FILE", help=say("a key file"))
    rotate = _command(
        actions, "rotate", _keys_rotate, say("put a new key in the old one's place"), "yulink keys rotate pki/brain"
    )
    rotate.add_argument("name", type=Path, metavar="NAME", help=say("path without ending"))

    explain = _command(
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

    diagnose = _command(
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
        "--full-scale", type=float, metavar="X", help=say("what the largest count is, where samples are counts")
    )
    diagnose.add_argument("--group", choices=["1", "2"], help=say("machine group of ISO 20816-3, for the zone"))
    diagnose.add_argument("--support", choices=["rigid", "flexible"], help=say("how the machine stands, for the zone"))
    diagnose.add_argument("--json", action="store_true", help=say("print one JSON object"))
    diagnose.add_argument("--picture", type=Path, metavar="FILE", help=say("write a .png or .svg"))

    trust = _command(
        commands,
        "trust",
        None,
        say("decide which servers' certificates are trusted; while the agent runs, or not"),
        "yulink trust list --data-dir /var/lib/yulink",
    )
    decisions = trust.add_subparsers(title=say("actions"), metavar=say("ACTION"), required=True)
    listing = _command(
        decisions, "list", _trust_list, say("show our certificates and those of servers"), "yulink trust list"
    )
    _data_dir(listing)
    listing.add_argument("--json", action="store_true", help=say("print one JSON object"))
    accept = _command(
        decisions, "accept", _trust_decide, say("trust a certificate from now on"), "yulink trust accept 3f09a4c21b7e"
    )
    accept.add_argument(
        "--despite",
        default="",
        metavar="FAULTS",
        help=say("what is wrong with it and known to be: expired, not-yet-valid, host, uri, usage, weak"),
    )
    reject = _command(
        decisions,
        "reject",
        _trust_decide,
        say("refuse a certificate, also one accepted before"),
        "yulink trust reject cnc-07",
    )
    remove = _command(
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
        _data_dir(action)

    status = _command(
        commands, "status", _status, say("show what a running agent does"), "yulink status --data-dir /var/lib/yulink"
    )
    _data_dir(status)
    status.add_argument("--json", action="store_true", help=say("print one JSON object"))

    replay = _command(
        commands,
        "replay",
        _replay,
        say("feed recorded rows through derived tags and alarms, in event time"),
        "yulink replay plant.yaml rows.csv --jsonl",
    )
    _config(replay)
    replay.add_argument("file", type=Path, metavar="FILE", help=say("CSV: ts,device,tag,value[,quality]"))
    replay.add_argument("--jsonl", action="store_true", help=say("print one JSON object a line"))

    alarms = _command(
        commands,
        "alarms",
        None,
        say("what stands in a running agent: list, acknowledge, shelve"),
        "yulink alarms list --data-dir /var/lib/yulink",
    )
    actions = alarms.add_subparsers(title=say("actions"), metavar=say("ACTION"), required=True)
    listing = _command(actions, "list", _alarms_list, say("show the alarms that stand"), "yulink alarms list")
    _data_dir(listing)
    listing.add_argument("--json", action="store_true", help=say("print one JSON object"))
    for name, what in (
        ("ack", say("acknowledge an alarm")),
        ("shelve", say("keep an alarm silent for a time")),
        ("unshelve", say("let a shelved alarm speak again")),
    ):
        action = _command(actions, name, _alarms_request, what, f"yulink alarms {name} 'spindle hot'")
        _data_dir(action)
        action.add_argument("alarm", metavar="ALARM", help=say("its name; * for all"))
        action.set_defaults(action=name, time=None)
        if name == "shelve":
            action.add_argument("--for", dest="time", metavar="TIME", help=say("e.g. 8h; default: until unshelved"))

    ledger = _command(
        commands,
        "ledger",
        _ledger,
        say("show what became of the readings, by device and hour"),
        "yulink ledger --hours 8 --data-dir /var/lib/yulink",
    )
    _sealed_config(ledger)
    _data_dir(ledger)
    ledger.add_argument("--device", metavar="DEVICE", help=say("only this device"))
    ledger.add_argument("--hours", type=int, default=24, metavar="N", help=say("the last N hours; default: 24"))
    ledger.add_argument("--json", action="store_true", help=say("print one JSON object a line"))

    energy = _command(
        commands,
        "energy",
        _energy,
        say("show energy, cost and production by interval, as they are kept for months"),
        "yulink energy plant.yaml incomer --level 1d --from 2026-01-01",
    )
    _config(energy)
    energy.add_argument("device", nargs="?", metavar="METER", help=say("only of this meter, machine or part"))
    _data_dir(energy)
    energy.add_argument(
        "--level", choices=[str(each) for each in Level], default="1d", help=say("how long intervals are; default: 1d")
    )
    energy.add_argument("--from", dest="begin", default="", metavar="TIME", help=say("the first, in the plant's time"))
    energy.add_argument("--to", dest="end", default="", metavar="TIME", help=say("up to, but not with; default: now"))
    energy.add_argument("--meters", action="store_true", help=say("show the register of meters instead"))
    form = energy.add_mutually_exclusive_group()
    form.add_argument(
        "--json", dest="form", action="store_const", const="json", help=say("print one JSON object a line")
    )
    form.add_argument("--csv", dest="form", action="store_const", const="csv", help=say("print comma-separated values"))

    quality = _command(
        commands,
        "quality",
        _quality,
        say("show how complete, valid and timely readings were, by day or month, and the gaps"),
        "yulink quality plant.yaml --day 2026-01-31 --device pump-3",
    )
    _config(quality)
    _data_dir(quality)
    quality.add_argument("--device", metavar="DEVICE", help=say("only this device, by tag"))
    when = quality.add_mutually_exclusive_group()
    when.add_argument("--day", default="", metavar="DAY", help=say("a day of the plant; default: today"))
    when.add_argument("--month", default="", metavar="MONTH", help=say("a month, e.g. 2026-01"))
    quality.add_argument("--json", action="store_true", help=say("print one JSON object a line"))

    quarantine = _command(
        commands,
        "quarantine",
        None,
        say("messages that cannot pass: list them, try them again, export them"),
        "yulink quarantine list --data-dir /var/lib/yulink",
    )
    actions = quarantine.add_subparsers(title=say("actions"), metavar=say("ACTION"), required=True)
    listing = _command(
        actions, "list", _quarantine_list, say("show what is set aside, and why"), "yulink quarantine list"
    )
    _sealed_config(listing)
    listing.add_argument("--json", action="store_true", help=say("print one JSON object a line"))
    again = _command(
        actions,
        "retry",
        _quarantine_retry,
        say("send it again; a stopped agent does so at its next start"),
        "yulink quarantine retry 3 4",
    )
    again.add_argument("ids", type=int, nargs="*", metavar="ID", help=say("messages, by the numbers of `list`"))
    again.add_argument("--all", action="store_true", help=say("everything that is set aside"))
    export = _command(
        actions,
        "export",
        _quarantine_export,
        say("write its values to a file, one JSON object each; they stay where they are"),
        "yulink quarantine export aside.jsonl",
    )
    export.add_argument("file", type=Path, metavar="FILE", help=say("a new file; - is the standard output"))
    _sealed_config(export)
    for action in (listing, again, export):
        _data_dir(action)
        action.add_argument("--uplink", metavar="NAME", help=say("only of this uplink"))
    return top


def _command(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    run: Callable[[argparse.Namespace], int] | None,
    words: str,
    example: str,
) -> argparse.ArgumentParser:
    command = commands.add_parser(
        name, help=words, description=words, epilog=say("example: {example}", example=example)
    )
    if run is not None:
        command.set_defaults(command=run)
    return command


def _broker(command: argparse.ArgumentParser) -> None:
    command.add_argument("--mqtt", required=True, metavar="URL", help=say("the broker, e.g. mqtts://broker:8883"))
    command.add_argument(
        "--ca", type=Path, metavar="FILE", help=say("the authority that signed the servers' certificates")
    )
    command.add_argument("--identity", type=Path, metavar="FILE", help=say("our certificate and key, PEM"))


def _key(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--key",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help=say("private key of `yulink keys new`: take only what is sealed to it; may be repeated"),
    )


def _nats(command: argparse.ArgumentParser) -> None:
    command.add_argument("--nats", required=True, metavar="URL", help=say("servers of the stream, with commas"))
    command.add_argument(
        "--replicas", type=int, default=3, choices=(1, 3, 5), metavar="N", help=say("copies of the stream; default: 3")
    )


def _config(command: argparse.ArgumentParser) -> None:
    command.add_argument("config", type=Path, metavar="CONFIG", help=say("a YAML file, or a folder of them"))


def _sealed_config(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "config",
        type=Path,
        nargs="?",
        metavar="CONFIG",
        help=say("the configuration; needed for an encrypted log only"),
    )


def _timeout(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--timeout", type=float, default=1.0, metavar="S", help=say("how long an answer may take; default: 1 s")
    )


def _data_dir(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--data-dir",
        type=Path,
        default=Path(os.environ.get("STATE_DIRECTORY", DEFAULT_DATA_DIR)),
        metavar="DIR",
        help=say("where the log is kept; default: {default}", default=DEFAULT_DATA_DIR),
    )


def _run(arguments: argparse.Namespace) -> int:
    from edge.agent.run import run

    return run(arguments.config, arguments.data_dir)


def _check(arguments: argparse.Namespace) -> int:
    from edge.agent.commands.check import run

    return run(arguments.config, arguments.data_dir, offline=arguments.offline, json_output=arguments.json)


def _read(arguments: argparse.Namespace) -> int:
    from edge.agent.commands.read import run

    return run(arguments.config, arguments.device, arguments.tags, arguments.data_dir, json_output=arguments.json)


def _probe(arguments: argparse.Namespace) -> int:
    from edge.agent.commands.probe import run

    return run(
        arguments.url, arguments.id, arguments.at, arguments.timeout, arguments.expect, json_output=arguments.json
    )


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


def _demo(arguments: argparse.Namespace) -> int:
    from edge.agent.commands.demo import run

    return run(arguments.duration, arguments.json, arguments.broker)


def _receive(arguments: argparse.Namespace) -> int:
    from edge.agent.commands.receive import receive

    return receive(arguments)


def _bridge(arguments: argparse.Namespace) -> int:
    from edge.agent.commands.receive import bridge

    return bridge(arguments)


def _write(arguments: argparse.Namespace) -> int:
    from edge.agent.commands.receive import write

    return write(arguments)


def _simulate(arguments: argparse.Namespace) -> int:
    from edge.agent.commands.simulate import run

    return run(arguments)


def _explain(arguments: argparse.Namespace) -> int:
    from edge.agent.commands.explain import run

    return run(arguments)


def _diagnose(arguments: argparse.Namespace) -> int:
    from edge.agent.commands.diagnose import run

    return run(arguments)


def _trust_list(arguments: argparse.Namespace) -> int:
    from edge.agent.commands.trust import show

    return show(arguments.data_dir, json_output=arguments.json)


def _trust_decide(arguments: argparse.Namespace) -> int:
    from edge.agent.commands.trust import decide

    return decide(arguments.action, arguments.what, getattr(arguments, "despite", ""), arguments.data_dir)


def _status(arguments: argparse.Namespace) -> int:
    from edge.agent.commands.status import run

    return run(arguments.data_dir, json_output=arguments.json)


def _ledger(arguments: argparse.Namespace) -> int:
    from edge.agent.commands.ledger import run

    return run(arguments.config, arguments.data_dir, arguments.device, arguments.hours, json_output=arguments.json)


def _energy(arguments: argparse.Namespace) -> int:
    from edge.agent.commands.energy import run

    begin, end = arguments.begin, arguments.end
    form = arguments.form or "table"
    if arguments.meters:
        from edge.agent.commands.energy_register import run as run_register

        return run_register(arguments.config, arguments.device, form)
    return run(arguments.config, arguments.data_dir, arguments.device, arguments.level, begin, end, form)


def _quality(arguments: argparse.Namespace) -> int:
    from edge.agent.commands.quality import run

    day, month = arguments.day, arguments.month
    return run(arguments.config, arguments.data_dir, arguments.device, day, month, json_output=arguments.json)


def _replay(arguments: argparse.Namespace) -> int:
    from edge.agent.commands.replay import run

    return run(arguments.config, arguments.file, jsonl=arguments.jsonl)


def _alarms_list(arguments: argparse.Namespace) -> int:
    from edge.agent.commands.alarms import show

    return show(arguments.data_dir, json_output=arguments.json)


def _alarms_request(arguments: argparse.Namespace) -> int:
    from edge.agent.commands.alarms import request

    action = "acknowledge" if arguments.action == "ack" else arguments.action
    return request(arguments.data_dir, action, arguments.alarm, arguments.time)


def _quarantine_list(arguments: argparse.Namespace) -> int:
    from edge.agent.commands.quarantine import show

    return show(arguments.config, arguments.data_dir, arguments.uplink, json_output=arguments.json)


def _quarantine_retry(arguments: argparse.Namespace) -> int:
    from edge.agent.commands.quarantine import retry

    return retry(arguments.data_dir, arguments.ids, arguments.uplink, everything=arguments.all)


def _quarantine_export(arguments: argparse.Namespace) -> int:
    from edge.agent.commands.quarantine import export

    return export(arguments.config, arguments.data_dir, arguments.file, arguments.uplink)


def _keys_new(arguments: argparse.Namespace) -> int:
    from edge.agent.commands.keys import new

    return new(arguments.name, classical=arguments.x25519)


def _keys_show(arguments: argparse.Namespace) -> int:
    from edge.agent.commands.keys import show

    return show(arguments.file)


def _keys_rotate(arguments: argparse.Namespace) -> int:
    from edge.agent.commands.keys import rotate

    return rotate(arguments.name)


if __name__ == "__main__":
    sys.exit(main())
