"""`yulink browse`: what a device has, as a tree; and tags for what was chosen, written into the configuration."""

import asyncio
import contextlib
import json
import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from drivers.api import Browsed, BrowsedNode, Browser, BrowseWish, DeviceContext, DriverSection, Shared
from edge.agent.commands.read import find_device
from edge.agent.commands.tag_writer import Addition, add, find_file, lines_for, tags_in, write
from edge.agent.configuration.loader import NAME_PATTERN, driver_specs, examine, load
from edge.agent.configuration.located import Located, render
from edge.agent.configuration.secrets import find_secret, missing_secret
from edge.agent.configuration.yaml_source import read_source
from edge.core.catalogue import Catalogue
from edge.core.clock import SystemClock
from edge.core.errors import Disconnected, WrongInput
from edge.core.language import say

DEADLINE_S = 300.0
ADDED_MAX = 500
NAME_CHARS_MAX = 80


@dataclass(frozen=True, slots=True)
class Subject:
    """What is browsed: its protocol, its settings, where its secrets lie, the configuration that tags may go to."""

    kind: str
    ask: Browser
    target: DriverSection | Mapping[str, Any]
    secrets: Path
    config: Path | None


def run(
    where: str,
    device: str,
    wish: BrowseWish,
    security: str,
    into: str,
    config: Path | None,
    data_dir: Path,
    *,
    json_output: bool,
) -> int:
    """Print the tree of an address, or of a configured device; with `into`, write tags for its variables."""
    if wish.depth < 1 or wish.nodes_max < 1:
        raise WrongInput(say("depth and number must be 1 or more"), say("write e.g. --depth 4 --max 2000"))
    subject = _subject(where, device, security, config)
    if into and not re.match(NAME_PATTERN, into):
        raise WrongInput(say("{name!r} is not a name", name=into), say("name the device: --add cnc-07"))
    if into and subject.config is None:
        raise WrongInput(say("it is not said which configuration to write to"), say("add --config plant.yaml"))
    found = asyncio.run(_browse(subject, wish, device or into or "browse", data_dir))
    print(json.dumps(asdict(found), ensure_ascii=False, indent=2) if json_output else "\n".join(_tree(found)))
    if not into or subject.config is None:
        return 0 if found.nodes else 1
    settings = {subject.kind: found.url} | ({"security": security} if security != "none" else {})
    with contextlib.redirect_stdout(sys.stderr if json_output else sys.stdout):
        return _add(found, into, subject.config, settings)


def _subject(where: str, device: str, security: str, config: Path | None) -> Subject:
    scheme = where.partition(":")[0]
    for spec in driver_specs().values():
        if spec.browse is not None and scheme in spec.schemes and "://" in where:
            if device:
                raise WrongInput(say("an address has no devices"), say("write the address alone, or CONFIG DEVICE"))
            folder = (config if config.is_dir() else config.parent) if config else Path()
            return Subject(spec.kind, spec.browse, {spec.kind: where, "security": security}, folder, config)
    path = Path(where)
    if not path.exists():
        known = [scheme for spec in driver_specs().values() if spec.browse for scheme in spec.schemes]
        raise WrongInput(
            say("{where!r} is no configuration and no address that can be browsed", where=where),
            say("addresses begin with: {schemes}", schemes=", ".join(known)),
        )
    return _configured(path, device, config or path)


def _configured(path: Path, device: str, config: Path) -> Subject:
    """Return a device of a configuration. One that has no tags yet is wrong otherwise, and right here."""
    settings, _ = examine(path)
    if not device and settings is not None:
        raise WrongInput(
            say("which device of {config}?", config=path), say("devices: {names}", names=", ".join(settings.devices))
        )
    written = (read_source(path).data.get("devices") or {}).get(device)
    is_known = settings is not None and device in settings.devices
    kinds = [kind for kind in driver_specs() if isinstance(written, dict) and kind in written]
    target: DriverSection | Mapping[str, Any]
    if not is_known and isinstance(written, dict) and len(kinds) == 1 and not written.get("tags"):
        spec, target = driver_specs()[kinds[0]], written
    else:
        chosen = find_device(load(path, offline=True), device, path)
        spec, target = chosen.spec, chosen.section
    if spec.browse is None:
        raise WrongInput(
            say("{device} cannot be browsed: it speaks {title}", device=device, title=spec.title),
            say("see `yulink probe` and `yulink scan`"),
        )
    return Subject(spec.kind, spec.browse, target, path if path.is_dir() else path.parent, config)


async def _browse(subject: Subject, wish: BrowseWish, device: str, data_dir: Path) -> Browsed:
    def secret(name: str) -> str:
        found = find_secret(name, subject.secrets)
        if found is None:
            raise WrongInput(*missing_secret(name, subject.secrets))
        return found.text

    shared = Shared()
    context = DeviceContext(device, 1.0, Catalogue(), SystemClock(), secret, shared, data_dir)
    try:
        async with asyncio.timeout(DEADLINE_S):
            return await subject.ask(subject.target, context, wish)
    except TimeoutError as error:
        raise Disconnected(
            say("no end after {seconds:g} s", seconds=DEADLINE_S), say("ask for less: --match, --depth, --max")
        ) from error
    finally:
        shared.close()


def _tree(found: Browsed) -> Iterator[str]:
    """Yield a line a node: name, type, access, value with unit, node."""
    base = min((node.depth for node in found.nodes), default=0)
    rows = [
        (
            "  " * (node.depth - base) + node.name + ("/" if node.kind == "object" else ""),
            node.type or (say("method") if node.kind == "method" else ""),
            node.access,
            " ".join(part for part in (node.value, node.unit, f"({node.quality})" if node.quality else "") if part),
            node.node,
        )
        for node in found.nodes
    ]
    widths = [max((_width(row[column]) for row in rows), default=0) for column in range(4)]
    for row in rows:
        yield "  ".join([*(_padded(row[n], widths[n]) for n in range(4)), row[4]]).rstrip()
    if not rows:
        yield say("nothing found")
    if found.is_cut:
        yield say("there is more: {count} nodes are shown; --max N shows others, --match less", count=len(rows))


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)


def _padded(text: str, width: int) -> str:
    return text + " " * (width - _width(text))


def _add(found: Browsed, device: str, config: Path, settings: Mapping[str, str]) -> int:
    """Write tags for the variables that are readable and not there yet; a configuration that got worse is put back."""
    file = find_file(config, device)
    known = nodes_of(config, file, device)
    chosen = [node for node in found.nodes if node.kind == "variable" and "r" in node.access]
    fresh = [node for node in chosen if reference(node, found.nodes) not in known.values()]
    if not fresh:
        print(say("nothing to add: {count} variables are there already", count=len(chosen)))
        return 0 if chosen else 1
    if len(fresh) > ADDED_MAX:
        raise WrongInput(
            say("{count} variables are too many to add at once", count=len(fresh)),
            say("say which: --match '/Objects/Machine/**'"),
        )
    tags = {
        name: {"node": reference(node, found.nodes)} | ({"unit": node.unit} if node.unit else {})
        for name, node in zip(tag_names(fresh, known), fresh, strict=True)
    }
    wrong = _errors(config)
    before = add(file, Addition(device, tags, settings))
    if new := [problem for message, problem in _errors(config).items() if message not in wrong]:
        write(file, before)
        raise WrongInput(
            say("the configuration would be wrong with these tags:\n{problems}", problems="\n".join(map(render, new))),
            say("nothing was written"),
        )
    print(say("{count} tags added to {device} in {file}:", count=len(tags), device=device, file=file))
    print("\n".join(lines_for(tags, 2)))
    return 0


def nodes_of(config: Path, file: Path, device: str) -> dict[str, str]:
    """Return what a device reads already: the node by the tag's name, as written, of braces and of its profile."""
    nodes = {name: str(tag.get("node")) for name, tag in tags_in(file, device).items() if isinstance(tag, dict)}
    settings, _ = examine(config)
    if settings is not None and device in settings.devices:
        tags = settings.devices[device].section.tags
        nodes |= {name: str(getattr(tag, "node", "")) for name, tag in tags.items()}
    return nodes


def _errors(config: Path) -> dict[str, Located]:
    _, problems = examine(config)
    return {f"{problem.path} {problem.message}": problem for problem in problems if problem.severity == "error"}


def reference(node: BrowsedNode, among: Sequence[BrowsedNode]) -> str:
    """Return what the configuration writes for a node: its id where that is a name, else its path.

    Numbers are what vendors change with the next version; a path is looked up at each connection. Where the path
    cannot be written, or means two nodes, it is the number all the same.
    """
    if re.match(r"(ns=\d+;)?s=", node.node) or re.search(r"[*?]|//|/\d+:|/$", node.path):
        return node.node
    return node.node if sum(other.path == node.path for other in among) > 1 else node.path


def tag_names(nodes: Sequence[BrowsedNode], taken: Mapping[str, object]) -> list[str]:
    """Return a name for each node: its own, with those above it where that is not enough, then with a number."""
    steps = [[_word(step) for step in node.path.split("/")[2:]] for node in nodes]
    names = [each[-1] for each in steps]
    for length in range(2, 1 + max(len(each) for each in steps)):
        counted = Counter(names)
        for at, name in enumerate(names):
            if counted[name] > 1 or name in taken or not name:
                names[at] = "_".join(part for part in steps[at][-length:] if part)
    unique: list[str] = []
    used = set(taken)
    for name in names:
        base = (name or "tag")[:NAME_CHARS_MAX]
        number, each = 2, base
        while each in used:
            number, each = number + 1, f"{base}_{number}"
        used.add(each)
        unique.append(each)
    return unique


def _word(step: str) -> str:
    """Return a step of a path as a part of a tag's name: letters of any script, digits, _ and -."""
    return re.sub(r"[^\w-]+", "_", step).strip("_-")
