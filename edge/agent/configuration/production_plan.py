"""From `production:` and `shifts:` of the configuration to the worker's plan, or to what is wrong with them."""

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any, Protocol

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from edge.agent.configuration.energy_data import data_files
from edge.analytics.expression.check import Checked, Known, Type
from edge.analytics.expression.deadband import has_limit
from edge.analytics.expression.syntax import ExpressionError, parse, refs
from edge.analytics.production.names import TEXT, figures_of, programmes_of
from edge.analytics.production.section import PartCounter, Production, Shift, StateRule, edges_of
from edge.analytics.production.terms import OTHER, STATES
from edge.core.errors import Problem
from edge.core.language import say

if TYPE_CHECKING:
    from edge.agent.configuration.settings import Device, SiteSection

ROOT_KEY = "production"
STALE_POLLS = 5
_LATE_MORE_NS = 600 * 10**9

Tell = Callable[[Problem], None]


class Tags(Protocol):
    """What is known of all tags."""

    def known(self) -> list[str]:
        """Return all paths."""
        ...

    def look_up(self, path: str) -> Known | None:
        """Return what is known of a tag, None if there is none."""
        ...

    def expression(self, place: tuple[str, ...], key: str, text: str) -> Checked | None:
        """Return a checked expression, None if it is wrong, which is told."""
        ...


class ProductionPlanner:
    """Makes the part `production` of a plan: `made` tells its tags before their inputs are checked."""

    def __init__(
        self,
        sections: "SiteSection",
        devices: Mapping[str, "Device"],
        energy: Mapping[str, Any] | None,
        folder: Path,
        tell: Tell,
    ) -> None:
        self._sections, self._devices, self._energy = sections, devices, energy
        self._folder, self._tell = folder, tell
        self._machines: dict[str, dict[str, Any]] = {}
        self._from_mapping: set[tuple[str, str]] = set()
        for name, given in sections.production.items():
            self._machines[name] = self._settings(name, given)

    def _wrong(self, path: Sequence[str | int], message: str, hint: str = "", *, on: str = "value") -> None:
        self._tell(Problem((ROOT_KEY, *path), message, hint, on="key" if on == "key" else "value"))

    def made(self) -> dict[str, Known]:
        """Return what is known of the tags that the machines make."""
        return dict(made_by(self._machines.values()))

    def _settings(self, name: str, given: Production) -> dict[str, Any]:
        rules = self._rules(name, given)
        meter = None
        if given.energy is not None:
            if given.energy in {each["name"] for each in (self._energy or {"meters": []})["meters"]}:
                meter = {"tag": f"{given.energy}.energy_1min"}
            elif self._energy is not None or self._sections.energy is None:
                names = [each["name"] for each in (self._energy or {"meters": []})["meters"]]
                near = difflib.get_close_matches(given.energy, names, 1, 0.6)
                hint = say('did you mean "{near}"?', near=near[0]) if near else say("write it under `energy: meters`")
                self._wrong((name, "energy"), say("there is no meter {name!r}", name=given.energy), hint)
        if not rules and given.use is None:
            hint = say("write `states`, or `use` a ready mapping")
            self._wrong((name,), say("nothing says in which state {machine} is", machine=name), hint, on="key")
        self._check_cycles(name, given)
        return {
            "machine": name,
            "timezone": self._sections.timezone,
            "states": rules,
            "watched": [],
            "reads": [],
            "stale": {},
            "parts": _counter(given.parts),
            "good": _counter(given.good),
            "scrap": _counter(given.scrap),
            "cycles": dict(given.ideal_cycle or {}),
            "energy": meter,
            "programme": given.programme,
            "reasons": _reasons(given),
            "micro_stop_ns": round(given.micro_stop * 1e9),
            "shifts": [_shift(each, shift) for each, shift in self._sections.shifts.items()],
            "edges": edges_of(self._sections.shifts),
            "calendar": self._calendar(),
            "late_ns": round((self._energy or {"late_s": 3600.0})["late_s"] * 1e9) + _LATE_MORE_NS,
        }

    def _check_cycles(self, name: str, given: Production) -> None:
        """Tell cycles that nothing would ever be measured by."""
        cycles = given.ideal_cycle or {}
        if cycles and given.parts is None and given.good is None:
            message = say("there is an ideal cycle, and nothing counts parts")
            self._wrong((name, "ideal_cycle"), message, say("write `parts`"), on="key")
        elif given.programme is None and cycles.keys() - {OTHER}:
            message = say("there are cycles by programme, and nothing tells the programme")
            self._wrong((name, "ideal_cycle"), message, say("write `programme`, or one cycle for all"), on="key")

    def _calendar(self) -> dict[str, Any]:
        if self._energy is not None:
            calendar: dict[str, Any] = self._energy["calendar"]
            return calendar
        if not any(shift.days for shift in self._sections.shifts.values()):
            return {"years": {}}
        content = YAML(typ="safe").load(data_files("calendars", self._folder)["china"])
        return {"years": {str(year): each for year, each in content["years"].items()}}

    # ------------------------------------------------------------------ states

    def _rules(self, name: str, given: Production) -> list[dict[str, Any]]:
        """Return the rules of a machine: its own first, those of the mapping behind, in the mapping's order."""
        shipped = self._mapping(name, given)
        own = dict(given.states)
        for state in own:
            if state not in STATES:
                near = difflib.get_close_matches(state, STATES, 1, 0.6)
                hint = say('did you mean "{near}"?', near=near[0]) if near else ""
                hint = hint or say("one of: {choices}", choices=", ".join(STATES))
                self._wrong((name, "states", state), say("{given!r} is no state", given=state), hint, on="key")
        ordered = {state: rule for state, rule in own.items() if state not in shipped}
        ordered |= {state: own.get(state, rule) for state, rule in shipped.items()}
        self._from_mapping |= {(name, state) for state in shipped if state not in own}
        return [
            {
                "state": state,
                "when": rule.when,
                "for_ns": round(rule.after * 1e9),
                "deadband": rule.deadband,
            }
            for state, rule in ordered.items()
        ]

    def _mapping(self, name: str, given: Production) -> dict[str, StateRule]:
        if given.use is None:
            if given.parameters:
                self._wrong((name, "parameters"), say("parameters of no mapping"), say("add `use`"), on="key")
            return {}
        files = data_files("states", self._folder)
        if given.use not in files:
            near = difflib.get_close_matches(given.use, files, 2, 0.5)
            hint = say("did you mean {near}?", near=say(" or ").join(near)) if near else ""
            hint = hint or say("there are: {names}", names=", ".join(files))
            self._wrong((name, "use"), say("there is no {name!r} in {folder}", name=given.use, folder="states"), hint)
            return {}
        try:
            content: dict[str, Any] = YAML(typ="safe").load(files[given.use])
            defaults: dict[str, Any] = content.get("parameters", {})
            missing = [key for key, value in defaults.items() if value is None and key not in given.parameters]
            for key in missing:
                hint = say("write parameters: {{{key}: …}}", key=key)
                self._wrong((name, "use"), say('the mapping needs the parameter "{key}"', key=key), hint)
            if missing:
                return {}
            values = {key: Template(str(value)).safe_substitute(machine=name) for key, value in defaults.items()}
            values |= {key: each if isinstance(each, str) else f"{each:g}" for key, each in given.parameters.items()}
            found = {
                state: StateRule.model_validate(_filled(rule, values)) for state, rule in content["states"].items()
            }
        except (OSError, YAMLError, ValueError, KeyError, TypeError, AttributeError) as error:
            text = say("{file} cannot be read: {error}", file=files[given.use].name, error=str(error)[:200])
            self._wrong((name, "use"), text)
            return {}
        for key in given.parameters:
            if key not in defaults:
                hint = say("parameters here: {names}", names=", ".join(defaults) or say("none"))
                self._wrong((name, "parameters", key), say('unknown parameter "{key}"', key=key), hint, on="key")
        return found

    # ------------------------------------------------------------------ tags

    def check(self, tags: Tags) -> dict[str, Any] | None:
        """Check everything against the tags and return the part's settings, None if there are no machines."""
        for name, machine in self._machines.items():
            given = self._sections.production[name]
            self._names(name, machine)
            watched = dict.fromkeys(path for rule in machine["states"] for path in self._condition(name, rule, tags))
            machine["watched"] = list(watched)
            under = list(dict.fromkeys(each for path in watched for each in self._under(path)))
            machine["reads"] = [path for path in under if path not in watched]
            machine["stale"] = {
                path: limit for path in under if (limit := self._stale(path, given)) is not None
            }  # fmt: skip
            for key in ("parts", "good", "scrap"):
                counter: PartCounter | None = getattr(given, key)
                if counter is not None:
                    self._tag(name, (key,), counter.tag, tags, Type.NUMBER)
            if given.programme:
                self._tag(name, ("programme",), given.programme, tags, None)
            if given.reasons:
                self._tag(name, ("reasons", "tag"), given.reasons.tag, tags, None)
        return {"machines": list(self._machines.values())} if self._machines else None

    def _names(self, name: str, machine: Mapping[str, Any]) -> None:
        """Refuse figures that have the path of another tag."""
        own = self._devices[name].section.tags if name in self._devices else {}
        slugs: dict[str, str] = {}
        for programme, slug in programmes_of(machine).items():
            if slugs.setdefault(slug, programme) != programme:
                message = say("{programme!r} and {other!r} have figures of one name", programme=programme,
                              other=slugs[slug])  # fmt: skip
                self._wrong((name, "ideal_cycle", programme), message, say("choose another name"), on="key")
        for path, _ in made_by([machine]):
            tag = path.partition(".")[2]
            if tag in own:
                message = say("the device {device} has a tag {name} already", device=name, name=tag)
                self._wrong((name,), message, say("choose another name"), on="key")
            elif path in self._sections.derived:
                hint = say("choose another name")
                message = say("{machine} makes a tag {name} itself", machine=name, name=tag)
                self._tell(Problem(("derived", path), message, hint, on="key"))

    def _condition(self, name: str, rule: Mapping[str, Any], tags: Tags) -> list[str]:
        """Return the tags of a condition; what is wrong with it is told."""
        state, text = rule["state"], rule["when"]
        if (name, state) in self._from_mapping:
            missing = []
            try:
                missing = [path for path in refs(parse(text)) if tags.look_up(path) is None]
            except ExpressionError as error:
                self._wrong((name, "use"), f"{state}: {error.message}", error.hint)
            for path in missing:
                near = difflib.get_close_matches(path, tags.known(), 1, 0.6)
                hint = say(
                    "write under `parameters` which tag it is, e.g. {example}", example=near[0] if near else "x.y"
                )
                self._wrong((name, "use"), say("the mapping needs {path}, which is no tag", path=path), hint)
            return [] if missing else refs(parse(text))
        checked = tags.expression((ROOT_KEY, name, "states", state), "when", text)
        if checked is None:
            return []
        if checked.type not in (Type.BOOL, Type.ANY):
            message = say("a state needs true or false, this is {found}", found=checked.type.words)
            self._wrong((name, "states", state, "when"), message, say("compare it: {example}", example=f"{text} > 0"))
            return []
        if rule["deadband"] and not has_limit(checked.node):
            hint = say("write e.g. {example}", example="when: x > 75")
            self._wrong((name, "states", state, "deadband"), say("a dead-band needs a comparison with a limit"), hint)
        return refs(checked.node)

    def _tag(self, name: str, place: tuple[str, ...], path: str, tags: Tags, wanted: Type | None) -> None:
        known = tags.look_up(path)
        if known is None:
            others = set(tags.known()) - {own for own, _ in made_by([self._machines[name]])}
            near = difflib.get_close_matches(path, sorted(others), 1, 0.6)
            hint = say('did you mean "{near}"?', near=near[0]) if near else say("write device.tag")
            self._wrong((name, *place), say("there is no tag {path!r}", path=path), hint)
        elif wanted is Type.NUMBER and known.type not in (Type.NUMBER, Type.ANY):
            message = say("a counter is a number, {path} is {found}", path=path, found=known.type.words)
            self._wrong((name, *place), message)

    def _under(self, path: str) -> Iterator[str]:
        """Yield the devices' tags that a tag is made of; itself if it is one."""
        device, _, tag = path.partition(".")
        if path in self._sections.derived:
            try:
                for each in refs(parse(self._sections.derived[path].of)):
                    yield from self._under(each) if each != path else ()
            except (ExpressionError, RecursionError):
                return
        elif device in self._devices and self._devices[device].section.tag_of(tag) is not None:
            yield path

    def _stale(self, path: str, given: Production) -> int | None:
        """Return how long a device's tag may be silent, in ns; None where silence says nothing.

        A server reports changes only, and so does a dead-band: there its bad readings tell that a device is gone.
        """
        if given.stale is not None:
            return round(given.stale * 1e9)
        name, _, tag = path.partition(".")
        device = self._devices[name]
        section = device.section.tag_of(tag)
        if section is None:
            return None
        heartbeat = device.section.heartbeat_of(section)
        if heartbeat is not None:
            return round(2 * heartbeat * 1e9)
        if section.deadband or device.spec.kind != "modbus":
            return None
        return round(STALE_POLLS * (section.every or device.section.every or device.every) * 1e9)


def made_by(machines: Any) -> Iterator[tuple[str, Known]]:
    """Yield the tags that machines of a plan make."""
    for machine in machines:
        for name, kind, unit, _ in figures_of(machine):
            type_ = Type.TEXT if kind == TEXT else Type.NUMBER
            yield f"{machine['machine']}.{name}", Known(type_, unit or None)


def _counter(given: PartCounter | None) -> dict[str, Any] | None:
    return None if given is None else {"tag": given.tag, "modulus": given.rolls_over_at or 0.0}


def _reasons(given: Production) -> dict[str, Any] | None:
    if given.reasons is None:
        return None
    return {"tag": given.reasons.tag, "codes": {str(code): text for code, text in given.reasons.codes.items()}}


def _shift(name: str, shift: Shift) -> dict[str, Any]:
    return {
        "name": name,
        "from": shift.begin,
        "to": shift.to,
        "breaks": [list(span) for span in shift.breaks],
        "days": [str(day) for day in shift.days],
    }


def _filled(rule: Any, values: Mapping[str, str]) -> Any:
    if isinstance(rule, str):
        return Template(rule).substitute(values)
    return {key: Template(each).substitute(values) if isinstance(each, str) else each for key, each in rule.items()}
