"""From the configuration's analytics to the worker's plan, or to what is wrong with them."""

import difflib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge.agent.configuration import machine_plan, power_quality_plan, products_plan
from edge.agent.configuration.baseline_plan import check as check_baselines
from edge.agent.configuration.baseline_plan import plan as plan_baselines
from edge.agent.configuration.circles import Place, tell_circles
from edge.agent.configuration.energy_plan import plan as plan_energy
from edge.agent.configuration.made_names import tell_taken
from edge.agent.configuration.production_plan import ProductionPlanner, made_by
from edge.agent.configuration.spc_plan import made as spc_makes
from edge.agent.configuration.spc_plan import made_of as spc_made_of
from edge.agent.configuration.spc_plan import plan as plan_spc
from edge.agent.configuration.watch_plan import inputs_of as watch_inputs_of
from edge.agent.configuration.watch_plan import made as watch_makes
from edge.agent.configuration.watch_plan import made_of as watch_made_of
from edge.agent.configuration.watch_plan import plan as plan_watches
from edge.analytics.condition.names import TEXT, WAVEFORM
from edge.analytics.condition.names import all_figures_of as condition_figures_of
from edge.analytics.condition.section import plan as plan_machine
from edge.analytics.energy.baseline_section import figures_of as baseline_figures_of
from edge.analytics.energy.names import figures_of
from edge.analytics.energy.plan import read_plan
from edge.analytics.energy.power_quality_section import figures_of as quality_figures_of
from edge.analytics.expression.check import Checked, Known, Type, check
from edge.analytics.expression.deadband import has_limit
from edge.analytics.expression.syntax import ExpressionError, parse, refs
from edge.analytics.production.names import inputs_of
from edge.analytics.production.section import edges_of
from edge.analytics.products.names import inputs_of as product_inputs_of
from edge.analytics.section import AnalyticsSections, DerivedTag
from edge.core.errors import Problem
from edge.core.language import say

if TYPE_CHECKING:
    from edge.agent.configuration.settings import Device, SiteSection

EXPRESSIONS_MAX = 2000
PATH_PATTERN = re.compile(r"[^\W_][\w-]*\.[^\W_][\w-]*")

_TYPES = {"bool": Type.BOOL, "text": Type.TEXT, "waveform": None}

Tell = Callable[[Problem], None]


def plan(sections: "SiteSection", devices: Mapping[str, "Device"], folder: Path, tell: Tell) -> dict[str, Any] | None:
    """Return the worker's plan, None when nothing asks for a worker. What is wrong is told, each at its place."""
    energy = None
    if sections.energy is not None:
        energy = plan_energy(sections.energy, devices, sections.timezone, edges_of(sections.shifts), folder, tell)
    producing = ProductionPlanner(sections, devices, energy, folder, tell)
    baselines = plan_baselines(sections.baselines, energy, sections.timezone, tell)
    figures = [*(figures_of(read_plan(energy)) if energy else ())]
    figures += [figure for each in baselines for figure in baseline_figures_of(each)]
    made = {f"{device}.{name}": Known(Type.NUMBER, unit or None) for device, name, unit, _ in figures}
    made |= producing.made()
    products = products_plan.plan(sections, devices, energy, tell)
    made |= products_plan.made_by(products)
    machines = [
        plan_machine(name, device.machine, device.section.tags)
        for name, device in devices.items()
        if device.machine is not None
    ]
    for machine in machines:
        for name, kind, unit, _ in condition_figures_of(machine):
            if kind != WAVEFORM:
                known = Type.TEXT if kind == TEXT else Type.NUMBER
                made[f"{machine['device']}.{name}"] = Known(known, unit or None)
    made |= dict(watch_makes(sections.watch))
    made |= dict(spc_makes(sections.spc))
    quality = power_quality_plan.plan(sections.energy, energy, sections.timezone, folder, tell)
    figures = [*(quality_figures_of(quality) if quality else ())]
    made |= {f"{device}.{name}": Known(Type.NUMBER, unit or None) for device, name, unit, _ in figures}
    tags = _Tags(sections, devices, made, tell)
    machine_plan.resolve(machines, devices, tags.look_up, tags.known, tell)
    watches = plan_watches(sections.watch, machines, tags.look_up, tags.known, tell)
    charts = plan_spc(sections.spc, tags.look_up, tags.known, tell)
    production = producing.check(tags)
    check_baselines(baselines, tags.look_up, tags.known, made, tell)
    power_quality_plan.check(quality, tags.look_up, tags.known, tell)
    products_plan.check(products, tags.look_up, tags.known, tell)
    makers: dict[Place, list[str]] = {
        ("devices", each["device"], "machine"): [*machine_plan.made_of(each)] for each in machines
    }
    makers |= {("watch", key): [path for path, _ in watch_makes({key: each})] for key, each in sections.watch.items()}
    makers |= {("spc", key): [path for path, _ in spc_makes({key: each})] for key, each in sections.spc.items()}
    tell_taken(makers, devices, sections.derived, tell)
    _check_circles(sections, machines, production, baselines, watches, charts, products, tell)
    derived = {path: each for path in sections.derived if (each := tags.derived(path)) is not None}
    alarms = {name: each for name in sections.alarms if (each := _alarm(name, sections, tags, tell)) is not None}
    for key, count in (("derived", len(sections.derived)), ("alarms", len(sections.alarms))):
        if count > EXPRESSIONS_MAX:
            tell(Problem((key,), say("more than {count} expressions", count=EXPRESSIONS_MAX), on="key"))
    parts: list[dict[str, Any]] = []
    if energy:
        parts.append({"kind": "energy", "settings": energy})
    if production:
        parts.append({"kind": "production", "settings": production})
    if quality:
        parts.append({"kind": "power_quality", "settings": quality})
    if products:
        parts.append({"kind": "products", "settings": products})
    if baselines:
        parts.append({"kind": "baselines", "settings": {"baselines": baselines}})
    if derived:
        parts.append({"kind": "derived", "settings": derived})
    if alarms:
        how = sections.analytics
        settings = {"alarms": alarms, "flood_limit": how.flood, "flood_ns": round(how.flood_time * 1e9)}
        parts.append({"kind": "alarms", "settings": settings})
    if machines:
        parts.append({"kind": "condition", "settings": {"machines": machines}})
    if watches:
        parts.append({"kind": "process", "settings": {"watches": watches}})
    if charts:
        parts.append({"kind": "spc", "settings": {"charts": charts}})
    if not parts:
        return None
    how = sections.analytics
    return {"wait_s": how.wait, "memory_mb": how.memory / 1e6, "parts": parts}


def made_tags(analytics: Mapping[str, Any] | None) -> Iterator[str]:
    """Yield the paths of all tags that a plan makes."""
    for part in analytics["parts"] if analytics else ():
        if part["kind"] == "derived":
            yield from part["settings"]
        elif part["kind"] == "energy":
            yield from (f"{device}.{name}" for device, name, *_ in figures_of(read_plan(part["settings"])))
        elif part["kind"] == "condition":
            for machine in part["settings"]["machines"]:
                yield from machine_plan.made_of(machine)
        elif part["kind"] == "production":
            yield from (path for path, _ in made_by(part["settings"]["machines"]))
        elif part["kind"] == "power_quality":
            yield from (f"{device}.{name}" for device, name, *_ in quality_figures_of(part["settings"]))
        elif part["kind"] == "products":
            yield from products_plan.made_by(part["settings"])
        elif part["kind"] == "baselines":
            for each in part["settings"]["baselines"]:
                yield from (f"{device}.{name}" for device, name, *_ in baseline_figures_of(each))
        elif part["kind"] == "process":
            yield from watch_made_of(part["settings"])
        elif part["kind"] == "spc":
            yield from spc_made_of(part["settings"])


def _check_circles(
    sections: "SiteSection",
    machines: Sequence[Mapping[str, Any]],
    production: Mapping[str, Any] | None,
    baselines: Sequence[Mapping[str, Any]],
    watches: Sequence[Mapping[str, Any]],
    charts: Sequence[Mapping[str, Any]],
    products: Mapping[str, Any] | None,
    tell: Tell,
) -> None:
    reads: dict[Place, list[str]] = {("derived",): []}
    makes: dict[Place, list[str]] = {("derived",): list(sections.derived)}
    for each in sections.derived.values():
        try:
            reads["derived",] += refs(parse(each.of))
        except ExpressionError:
            continue  # it is told where it is checked
    for machine in machines:
        place = ("devices", machine["device"])
        reads[place], makes[place] = machine_plan.inputs_of(machine), [*machine_plan.made_of(machine)]
    for machine in production["machines"] if production else ():
        place = ("production", machine["machine"])
        reads[place], makes[place] = inputs_of(machine), [path for path, _ in made_by([machine])]
    for baseline in baselines:
        place = ("baselines", baseline["name"])
        reads[place] = [baseline["energy"], *baseline["drivers"]]
        makes[place] = [f"{device}.{name}" for device, name, *_ in baseline_figures_of(baseline)]
    for watch in watches:
        place = ("watch", watch["name"])
        reads[place], makes[place] = watch_inputs_of(watch), [*watch_made_of({"watches": [watch]})]
    for chart in charts:
        place = ("spc", chart["name"])
        reads[place] = [chart["tag"], *([chart["each"]] if chart["each"] else [])]
        makes[place] = [*spc_made_of({"charts": [chart]})]
    if products:
        reads["products",] = product_inputs_of(products)
        makes["products",] = list(products_plan.made_by(products))
    tell_circles(reads, makes, tell)


class _Tags:
    """What is known of every tag, the derived ones included."""

    def __init__(
        self, sections: AnalyticsSections, devices: Mapping[str, "Device"], made: Mapping[str, Known], tell: Tell
    ) -> None:
        self._sections = sections
        self._made = made
        self._devices = devices
        self._tell = tell
        self._checked: dict[str, Checked | None] = {}
        self._visiting: list[str] = []

    def known(self) -> list[str]:
        """Return the paths of all tags."""
        own = [f"{name}.{tag}" for name, device in self._devices.items() for tag in device.section.tags]
        return [*own, *self._made, *self._sections.derived]

    def look_up(self, path: str) -> Known | None:
        """Return what is known of a tag, None if there is none."""
        if path in self._sections.derived:
            checked = self.check(path)
            unit = self._sections.derived[path].unit
            if checked is None:
                return Known(Type.ANY)
            return Known(checked.type, checked.unit if unit is None else unit)
        if path in self._made:
            return self._made[path]
        device, _, name = path.partition(".")
        if device not in self._devices:
            return None
        tag = self._devices[device].section.tag_of(name)
        if tag is None:
            return None
        kind = tag.value_kind()
        found = Type.ANY if kind is None else _TYPES.get(kind, Type.NUMBER)
        return None if found is None else Known(found, tag.unit or None)

    def check(self, path: str) -> Checked | None:
        """Return a derived tag's expression, None if it is wrong, which is told once."""
        if path not in self._checked:
            if path in self._visiting:
                circle = " → ".join([*self._visiting[self._visiting.index(path) :], path])
                message = say("{path} is made of itself: {circle}", path=path, circle=circle)
                self._tell(Problem(("derived", path), message, say("break the circle"), on="key"))
                self._checked[path] = None
                return None
            self._visiting.append(path)
            given = self._sections.derived[path]
            found = self.expression(("derived", path), "of", given.of)
            self._visiting.pop()
            self._checked.setdefault(path, found)
        return self._checked[path]

    def expression(self, place: tuple[str, ...], key: str, text: str) -> Checked | None:
        """Return a checked expression, None if it is wrong, which is told at its column."""
        try:
            return check(text, self.look_up, self.known)
        except ExpressionError as error:
            within = error.column, error.length
            self._tell(Problem((*place, key), error.message, error.hint, within=within))
            return None

    def derived(self, path: str) -> dict[str, Any] | None:
        """Return a derived tag as the plan has it."""
        given = self._sections.derived[path]
        device, _, name = path.partition(".")
        if not PATH_PATTERN.fullmatch(path):
            hint = say("write device.tag: letters, digits, _ and -")
            self._tell(Problem(("derived", path), say("{name!r} is not a tag's path", name=path), hint, on="key"))
            return None
        if device in self._devices and name in self._devices[device].section.tags:
            message = say("the device {device} has a tag {name} already", device=device, name=name)
            self._tell(Problem(("derived", path), message, say("choose another name"), on="key"))
            return None
        checked = self.check(path)
        if checked is None:
            return None
        self._check_unit(path, given, checked)
        unit = given.unit if given.unit is not None else checked.unit
        return {"of": given.of, "kind": checked.kind, "unit": unit or "", "class": given.data_class}

    def _check_unit(self, path: str, given: DerivedTag, checked: Checked) -> None:
        if given.unit is not None and checked.unit and checked.unit != given.unit and checked.type is Type.NUMBER:
            message = say("the expression is in {found}, not in {unit}", found=checked.unit, unit=given.unit)
            hint = say("convert it with a factor, e.g. (x) * 0.001, or leave `unit` out")
            self._tell(Problem(("derived", path, "unit"), message, hint))


def _alarm(name: str, sections: AnalyticsSections, tags: _Tags, tell: Tell) -> dict[str, Any] | None:
    given = sections.alarms[name]
    place = ("alarms", name)
    checked = tags.expression(place, "when", given.when)
    if checked is None:
        return None
    if checked.type not in (Type.BOOL, Type.ANY):
        near = difflib.get_close_matches(given.when, tags.known(), 1, 0.6)
        message = say("an alarm needs true or false, this is {found}", found=checked.type.words)
        tell(
            Problem((*place, "when"), message, say("compare it: {example}", example=f"{near[0] if near else 'x'} > 0"))
        )
        return None
    if given.deadband and not has_limit(checked.node):
        message = say("a dead-band needs a comparison with a limit")
        tell(Problem((*place, "deadband"), message, say("write e.g. {example}", example="when: x > 75")))
    return {
        "when": given.when,
        "for_ns": round(given.after * 1e9),
        "clear_for_ns": round(given.clear_for * 1e9),
        "deadband": given.deadband,
        "latch": given.latch,
        "severity": given.severity,
        "message": given.message,
    }
