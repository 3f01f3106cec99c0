"""From a YAML file to `Settings`, or to every problem in it at once."""

import difflib
import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticCustomError

from drivers.api import DriverSection, DriverSpec, Plan
from edge.agent.configuration.analytics_plan import made_tags
from edge.agent.configuration.analytics_plan import plan as plan_analytics
from edge.agent.configuration.braces import expand, has_braces
from edge.agent.configuration.located import Located, in_order
from edge.agent.configuration.mistakes import translate
from edge.agent.configuration.profiles import apply, find, unknown
from edge.agent.configuration.rules import problems as rule_problems
from edge.agent.configuration.secrets import find_secret, missing_secret
from edge.agent.configuration.settings import Device, LogSection, Settings, SiteSection
from edge.agent.configuration.yaml_source import KeyPath, Source, read_source
from edge.analytics.condition.section import MachineSection
from edge.core.errors import ConfigError, Problem
from edge.core.language import say
from edge.core.section import secret_names
from uplink.kinds import KINDS
from uplink.section import UplinkSection

UPLINKS_MAX = 8
DEVICES_MAX = 1000
TAGS_MAX = 100_000
_MACHINE = "{standard: iso20816-3, group: 2, support: rigid, rpm: 1480}"
NAME_PATTERN = r"^[^\W_][\w-]*$"


@cache
def driver_specs() -> dict[str, DriverSpec]:
    """Return the installed drivers by the key that names them in a device. Loading one does not import its protocol."""
    return {entry.name: entry.load() for entry in sorted(entry_points(group=DriverSpec.GROUP), key=lambda e: e.name)}


def load(path: Path, *, offline: bool = True) -> Settings:
    """Return the checked configuration. Nothing is connected; `offline` is kept for callers that say so.

    Raises:
        ConfigError: wrong; every problem is in it, with file, line and column.
    """
    settings, located = examine(path)
    errors = [problem for problem in located if problem.severity == "error"]
    if settings is None or errors:
        raise ConfigError(errors)
    return settings


def examine(path: Path) -> tuple[Settings | None, list[Located]]:
    """Return what could be made of a configuration, and all its errors and warnings in order of place."""
    source = read_source(path)
    folder = path if path.is_dir() else path.parent
    builder = _Builder(source, folder)
    settings = builder.build(path) if not source.problems else None
    located = source.problems + [source.locate(problem) for problem in builder.problems]
    unique = {(problem.span, problem.message): problem for problem in located}
    ordered = in_order(list(unique.values()))
    if settings is not None:
        settings = replace(settings, problems=tuple(p for p in ordered if p.severity == "warning"))
    return settings, ordered


class _Builder:
    def __init__(self, source: Source, folder: Path) -> None:
        self._source = source
        self._folder = folder
        self.problems: list[Problem] = []

    def build(self, path: Path) -> Settings | None:
        data = dict(self._source.data)
        raw_devices = data.pop("devices", None)
        root = self._model(SiteSection, data, ())
        devices: dict[str, Device] = {}
        if raw_devices is None or raw_devices == {}:
            hint = say("add a device, or run `yulink simulate plc` to have one")
            self.problems.append(Problem(("devices",), say("no devices are configured"), hint, severity="warning"))
        elif not isinstance(raw_devices, dict):
            self._wrong(("devices",), say("expected devices by name"), say("write devices: and one name a line below"))
        else:
            every = root.every if isinstance(root, SiteSection) else 1.0
            for name, raw in raw_devices.items():
                if device := self._device(name, raw, every):
                    devices[name] = device
                    if isinstance(root, SiteSection):
                        frozen, tolerance = root.frozen_after, root.clock_tolerance
                        devices[name] = replace(device, frozen_after=frozen, clock_tolerance=tolerance)
            self._check_together(devices)
        if isinstance(data.get("log"), dict):
            self._check_secrets(("log",), LogSection, data["log"])
        tags = {name: set(device.section.tags) for name, device in devices.items()}
        analytics = None
        if isinstance(root, SiteSection):
            analytics = plan_analytics(root, devices, self._folder, lambda problem: self._tell(problem, data))
            for made in made_tags(analytics):
                device_name, _, tag = made.partition(".")
                tags.setdefault(device_name, set()).add(tag)
        uplinks = self._uplinks(data.get("uplink"), tags)
        if not isinstance(root, SiteSection):
            return None
        return Settings(
            site=root.site,
            timezone=root.timezone,
            devices=devices,
            uplinks=uplinks,
            log=root.log,
            analytics=analytics,
            folder=self._folder,
            quality=root.quality,
        )

    def _tell(self, problem: Problem, data: Mapping[str, Any]) -> None:
        """Keep a problem of analytics. A derived tag may be its expression alone: then it has no key `of`."""
        if problem.path[-1] in ("of", "when") and isinstance(_at(data, problem.path[:-1]), str):
            problem = replace(problem, path=problem.path[:-1])
        self.problems.append(problem)

    def _uplinks(self, raw: Any, tags: Mapping[str, Collection[str]]) -> tuple[UplinkSection, ...]:
        """Return the uplinks, from one section or a list of them, with absolute file names."""
        if raw is None:
            return ()
        sections: dict[str, UplinkSection] = {}
        listed = raw if isinstance(raw, list) else [raw]
        if not 1 <= len(listed) <= UPLINKS_MAX:
            self._wrong(("uplink",), say("expected 1 to {count} uplinks", count=UPLINKS_MAX), say("or none at all"))
        for number, each in enumerate(listed[:UPLINKS_MAX]):
            path: KeyPath = ("uplink", number) if isinstance(raw, list) else ("uplink",)
            section = self._uplink(path, each)
            if section is None:
                continue
            self.problems += [replace(problem, path=(*path, *problem.path)) for problem in section.problems(tags)]
            if section.name in sections:
                self._wrong(
                    (*path, "name") if "name" in each else path,
                    say("two uplinks have the name {name!r}", name=section.name),
                    say("give each its own `name`: its position in the log is kept under it"),
                )
            self._check_twins(path, section, list(sections.values()))
            sections[section.name] = section
        return tuple(sections.values())

    def _check_twins(self, path: KeyPath, section: UplinkSection, others: Iterable[UplinkSection]) -> None:
        """Find another uplink that speaks by the same topics at the same broker."""
        for other in others:
            shared = section.topics() & other.topics()
            if not shared or section.url() != other.url() or section.name == other.name:
                continue
            hint = say("one uplink serves several brains there: list their keys in `seal_to`")
            if not hasattr(section, "seal_to"):
                hint = say("give each what is its own: {shared}", shared=", ".join(sorted(shared)))
            self._wrong(path, say("{other} goes to the same broker", other=other.name), hint, on="key")

    def _uplink(self, path: KeyPath, raw: Any) -> UplinkSection | None:
        if not isinstance(raw, dict):
            self._wrong(path, say("expected the uplink's settings"), say("write e.g. mqtt: mqtts://brain.plant.lan"))
            return None
        kinds = [kind for kind in KINDS if kind in raw]
        if len(kinds) != 1:
            self._wrong(path, *_uplink_words(kinds, raw), on="key")
            return None
        model = KINDS[kinds[0]].section
        self._check_files(path, model, raw)
        section = self._model(model, raw, path)
        if not isinstance(section, UplinkSection):
            return None
        files: dict[str, Any] = {}
        for key in model.FILES:
            given = getattr(section, key)
            if isinstance(given, str):
                files[key] = str(self._folder / given)
            elif given:
                files[key] = tuple(str(self._folder / name) for name in given)
        return section.model_copy(update=files)

    def _wrong(self, path: KeyPath, message: str, hint: str = "", on: str = "value") -> None:
        self.problems.append(Problem(path, message, hint, on="key" if on == "key" else "value"))

    def _device(self, name: str, raw: Any, every: float) -> Device | None:
        path: KeyPath = ("devices", name)
        if not re.match(NAME_PATTERN, name):
            self._wrong(path, say("{name!r} is not a name", name=name), _name_hint(), on="key")
        if not isinstance(raw, dict):
            self._wrong(path, say("expected the device's settings"), say("write e.g. modbus: tcp://192.168.10.40"))
            return None
        specs = driver_specs()
        kinds = [kind for kind in specs if kind in raw]
        if len(kinds) != 1:
            self._wrong(path, *_protocol_words(kinds, raw, specs), on="key")
            return None
        spec = specs[kinds[0]]
        self._check_secrets(path, spec.section, raw)
        origins: dict[str, str] = {}
        expanded = dict(raw)
        given_machine = expanded.pop("machine", None)
        if isinstance(raw.get("tags"), dict):
            expanded["tags"] = self._tags(path, raw["tags"], spec, origins)
        if raw.get("use") is not None:
            over = self._over_profile(path, expanded, spec)
            if over is None:
                return None
            expanded = over
        section = self._model(spec.section, expanded, path, origins)
        if not isinstance(section, DriverSection):
            return None
        for problem in (*section.problems(), *rule_problems(section)):
            self.problems.append(replace(problem, path=(*path, *_back(problem.path, origins))))
        machine = None if given_machine is None else self._machine(path, given_machine, section, origins)
        return Device(name, spec, section, section.every or every, machine)

    def _machine(
        self, path: KeyPath, raw: Any, device: DriverSection, origins: Mapping[str, str]
    ) -> MachineSection | None:
        place = (*path, "machine")
        if not isinstance(raw, dict):
            self._wrong(place, say("expected the machine's settings"), say("write e.g. {example}", example=_MACHINE))
            return None
        section = self._model(MachineSection, raw, place)
        if not isinstance(section, MachineSection):
            return None
        for problem in section.problems(device.tags):
            inside = (*place, *problem.path)
            at = (*path, *_back(problem.path[1:], origins)) if problem.path[:1] == ("..",) else inside
            self.problems.append(replace(problem, path=at))
        return section

    def _over_profile(self, path: KeyPath, raw: Mapping[str, Any], spec: DriverSpec) -> dict[str, Any] | None:
        """Return the device's settings over those of the profile that it names, None when that cannot be used."""
        profile = find(str(raw["use"]), self._folder)
        if profile is None:
            self._wrong((*path, "use"), *unknown(raw["use"], self._folder))
            return None
        content = self._source.add_profile(profile.file, path)
        device = content.get("device") if content else None
        if content is None or not isinstance(device, dict) or not isinstance(device.get("tags", {}), dict):
            self._wrong(
                (*path, "use"), say("{file} is not a device profile", file=profile.file), say("see config/profiles")
            )
            return None
        if content.get("protocol", spec.kind) != spec.kind:
            self._wrong(
                (*path, "use"),
                say("the profile is for {protocol}", protocol=content["protocol"]),
                say("add {key}: URL", key=content["protocol"]),
            )
            return None
        origins: dict[str, str] = {}
        tags = self._tags(path, device.get("tags", {}), spec, origins)
        settings, problems = apply({**content, "device": {**device, "tags": tags}}, raw)
        self.problems += [replace(problem, path=(*path, *problem.path)) for problem in problems]
        return settings

    def _tags(self, path: KeyPath, raw: Mapping[str, Any], spec: DriverSpec, origins: dict[str, str]) -> dict[str, Any]:
        tags: dict[str, Any] = {}
        for written, settings in raw.items():
            place = (*path, "tags", written)
            try:
                many = isinstance(settings, dict) and has_braces(written)
                named = list(expand(written, settings, spec.section)) if many else [(written, settings)]
            except PydanticCustomError as error:
                context = error.context or {}
                self._wrong(place, context["message"], context["hint"], context["on"])
                continue
            for name, each in named:
                if not re.match(NAME_PATTERN, name):
                    self._wrong(place, say("{name!r} is not a name", name=name), _name_hint(), on="key")
                elif name in tags:
                    self._wrong(place, say("the tag {name!r} stands twice", name=name), say("rename one"), on="key")
                origins[name] = written
                tags[name] = each
        if len(tags) > TAGS_MAX:
            self._wrong((*path, "tags"), say("more than {count} tags", count=TAGS_MAX), on="key")
        return tags

    def _model(
        self, model: type[BaseModel], data: Mapping[str, Any], path: KeyPath, origins: Mapping[str, str] | None = None
    ) -> BaseModel | None:
        """Return the model, if need be of what is left without the wrong parts: checks between settings still run."""
        try:
            return model.model_validate(data)
        except ValidationError as error:
            for entry in error.errors():
                problem = translate(entry, model)
                self.problems.append(replace(problem, path=(*path, *_back(problem.path, origins or {}))))
            rest = _without(data, [(entry["loc"], entry["type"] == "missing") for entry in error.errors()])
        try:
            return model.model_validate(rest)
        except ValidationError:
            return None

    def _check_secrets(self, path: KeyPath, section: type[BaseModel], raw: Mapping[str, Any]) -> None:
        for key, name in secret_names(section, raw):
            found = find_secret(name, self._folder)
            if found is None:
                self._wrong((*path, *key), *missing_secret(name, self._folder))
            elif found.is_exposed:
                message = say("others may read the secret {name!r}", name=name)
                self.problems.append(Problem((*path, *key), message, f"chmod 600 {found.file}", severity="warning"))

    def _check_files(self, path: KeyPath, model: type[UplinkSection], raw: Mapping[str, Any]) -> None:
        for key in model.FILES:
            given = raw.get(key)
            for name in given if isinstance(given, list) else [given]:
                if isinstance(name, str) and not (self._folder / name).is_file():
                    self._wrong(
                        (*path, key),
                        say("there is no file {file}", file=name),
                        say("paths are relative to the folder of the configuration"),
                    )

    def _check_together(self, devices: Mapping[str, Device]) -> None:
        """Check what devices share: serial settings, and unit ids at one address."""
        if len(devices) > DEVICES_MAX:
            self._wrong(("devices",), say("more than {count} devices", count=DEVICES_MAX), on="key")
        lines: dict[str, tuple[str, str]] = {}
        units: dict[tuple[str, int], str] = {}
        for name, device in devices.items():
            endpoint = getattr(device.section, "endpoint", None)
            unit = getattr(device.section, "id", None)
            if endpoint is None or not hasattr(endpoint, "line"):
                continue
            other, settings = lines.setdefault(endpoint.line, (name, endpoint.settings))
            if endpoint.transport == "serial" and settings != endpoint.settings:
                self._wrong(
                    ("devices", name, device.spec.kind),
                    say("{other} uses the same line with {settings}", other=other, settings=settings),
                    say("one line has one speed and one parity"),
                )
            twin = units.setdefault((endpoint.line, unit or 0), name)
            if twin != name:
                message = say("{other} has the same address and unit id", other=twin)
                self.problems.append(
                    Problem(("devices", name), message, say("give it its own `id`"), severity="warning", on="key")
                )
        self._check_lines(devices)

    def _check_lines(self, devices: Mapping[str, Device]) -> None:
        """Warn of each line that cannot hold the cycle that was asked of it."""
        sharing: dict[str, list[tuple[Device, Plan]]] = {}
        for device in devices.values():
            if device.spec.plan is not None:
                plan = device.spec.plan(device.section, device.every)
                sharing.setdefault(plan.line or device.name, []).append((device, plan))
        for line, users in sharing.items():
            load = sum(plan.line_load for _, plan in users)
            if load <= 1:
                continue
            asked = min(plan.cycle_ms_asked for _, plan in users) / 1e3
            message = say(
                "{line} needs {needed:.2g} s per cycle, you asked {asked:g} s",
                line=line,
                needed=load * asked,
                asked=asked,
            )
            hint = say("read less often: every: {every}; or share the line with fewer", every=_round_up(load * asked))
            first, _ = users[0]
            self.problems.append(Problem(("devices", first.name, first.spec.kind), message, hint, severity="warning"))


def _round_up(seconds: float) -> str:
    """Return an interval that is held with a fifth to spare: `2.2s`, `350ms`."""
    spare = seconds * 1.2
    return f"{math.ceil(spare * 10) / 10:g}s" if spare >= 1 else f"{math.ceil(spare * 100) * 10}ms"


def _name_hint() -> str:
    return say("letters, digits, _ and -; begin with a letter or digit")


def _protocol_words(kinds: list[str], raw: Mapping[str, Any], specs: Mapping[str, DriverSpec]) -> tuple[str, str]:
    several = say("a device speaks one protocol, this has {kinds}", kinds=" and ".join(kinds))
    return _one_of(kinds, raw, specs, several, say("the device has no protocol"))


def _uplink_words(kinds: list[str], raw: Mapping[str, Any]) -> tuple[str, str]:
    several = say("an uplink speaks one protocol, this has {kinds}", kinds=" and ".join(kinds))
    return _one_of(kinds, raw, KINDS, several, say("the uplink has no protocol"))


def _one_of(
    kinds: list[str], raw: Mapping[str, Any], known: Mapping[str, Any], several: str, none: str
) -> tuple[str, str]:
    """Return what to say of a section that has not exactly one of the known keys."""
    if kinds:
        return several, say("remove one")
    for key in raw:
        if near := difflib.get_close_matches(key, known, 1, 0.75):
            return say('unknown key "{key}"', key=key), say('did you mean "{near}"?', near=near[0])
    return none, say("add one of: {kinds}", kinds=", ".join(f"{kind}: URL" for kind in known))


def _without(data: Mapping[str, Any], wrong: list[tuple[Any, bool]]) -> dict[str, Any]:
    """Return a copy without the wrong places; where a key is missing, without the whole tag or part."""
    copy = deepcopy(dict(data))
    for location, is_missing in wrong:
        path = [part for part in location if not str(part).startswith("[")]
        if is_missing or any(isinstance(part, int) for part in path):
            path = path[: 2 if path[0] == "tags" else 1]
        node: Any = copy
        for part in path[:-1]:
            node = node.get(part) if isinstance(node, dict) else None
        if isinstance(node, dict) and path:
            node.pop(path[-1], None)
    return copy


def _back(path: KeyPath, origins: Mapping[str, str]) -> KeyPath:
    """Return the path as it is written: an expanded tag stands under its brace name."""
    if len(path) >= 2 and path[0] == "tags":
        return ("tags", origins.get(str(path[1]), path[1]), *path[2:])
    return path


def _at(data: Any, path: Sequence[str | int]) -> Any:
    """Return what stands at a path of the configuration, None where nothing does."""
    for part in path:
        data = data.get(part) if isinstance(data, dict) else None
    return data
