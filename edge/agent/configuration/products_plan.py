"""From `products:` of the configuration to the worker's plan, or to what is wrong with it."""

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from edge.analytics.expression.check import Known, Type
from edge.analytics.products.names import NONE, OTHER, figures_of
from edge.analytics.products.section import Maker, ProductsSection
from edge.core.errors import Problem
from edge.core.language import say

if TYPE_CHECKING:
    from edge.agent.configuration.settings import Device, SiteSection

ROOT_KEY = "products"
NAME_PATTERN = re.compile(r"[^\W_][\w-]*")

Tell = Callable[[Problem], None]


def plan(
    sections: "SiteSection", devices: Mapping[str, "Device"], energy: Mapping[str, Any] | None, tell: Tell
) -> dict[str, Any] | None:
    """Return the settings of the part `products`, None without one or when its meters are wrong. See `check`."""
    if sections.products is None or (energy is None and sections.energy is not None):
        return None
    return _Planner(sections, devices, energy, sections.products, tell).plan()


def check(
    settings: Mapping[str, Any] | None,
    look_up: Callable[[str], Known | None],
    known: Callable[[], list[str]],
    tell: Tell,
) -> None:
    """Check the tags that machines name."""
    for machine in settings["machines"] if settings else ():
        place = (ROOT_KEY, "machines", machine["name"])
        tags: list[tuple[tuple[str, ...], str, bool]] = []
        if machine["product"]:
            tags.append((("product",), machine["product"], False))
        tags += [
            (("parts", name) if name else ("parts",), each["tag"], True) for name, each in machine["parts"].items()
        ]
        for within, path, is_number in tags:
            tag = look_up(path)
            # What `production` says is checked there; its places are not in this section.
            at = (*place, *within) if within[0] in machine["written"] else place
            if tag is None:
                near = difflib.get_close_matches(path, known(), 1, 0.6)
                hint = say('did you mean "{near}"?', near=near[0]) if near else say("write device.tag")
                tell(Problem(at, say("there is no tag {path!r}", path=path), hint))
            elif is_number and tag.type not in (Type.NUMBER, Type.ANY):
                message = say("a counter is a number, {path} is {found}", path=path, found=tag.type.words)
                tell(Problem(at, message))


class _Planner:
    def __init__(
        self,
        sections: "SiteSection",
        devices: Mapping[str, "Device"],
        energy: Mapping[str, Any] | None,
        given: ProductsSection,
        tell: Tell,
    ) -> None:
        self._sections, self._given, self._tell = sections, given, tell
        self._energy = energy or {"meters": [], "processes": [], "virtual": []}
        self._meters = {each["name"]: each for each in self._energy["meters"]}
        self._devices = devices
        self._failed = False

    def _wrong(self, path: Sequence[str], message: str, hint: str = "", *, on: str = "value") -> None:
        self._failed = True
        self._tell(Problem((ROOT_KEY, *path), message, hint, on="key" if on == "key" else "value"))

    def plan(self) -> dict[str, Any] | None:
        self._names()
        if not self._given.machines:
            hint = say("write e.g. {example}", example="machines: {cnc-07: {}}")
            self._wrong(("machines",), say("nothing says who makes the products"), hint, on="key")
        machines = [self._machine(name, maker) for name, maker in self._given.machines.items()]
        owners: dict[str, str] = {}
        for each in machines:
            if owners.setdefault(each["meter"], each["name"]) != each["name"]:
                message = say("{meter} is the meter of {machine} already", meter=each["meter"],
                              machine=owners[each["meter"]])  # fmt: skip
                self._wrong(("machines", each["name"]), message, say("write it under `shared`"), on="key")
        for name, key in self._given.shared.items():
            self._shared(name, key, owners)
        if self._failed:
            return None
        made = {name: list(called) for name, called in self._given.made.items()}
        return {"made": made, "machines": machines, "shared": dict(self._given.shared), "energy": dict(self._energy)}

    def _names(self) -> None:
        taken = {*self._devices, *self._meters, *self._sections.production, OTHER, NONE, "site"}
        taken |= {each["name"] for key in ("processes", "virtual") for each in self._energy[key]}
        for name in self._given.made:
            if not NAME_PATTERN.fullmatch(name):
                hint = say("letters, digits, _ and -")
                self._wrong(("made", name), say("{name!r} cannot be the name of figures", name=name), hint, on="key")
            if name in taken:
                message = say("{name!r} is the name of something else", name=name)
                self._wrong(("made", name), message, say("choose another name"), on="key")
        if not self._given.made:
            hint = say("write e.g. {example}", example="made: {flange: FLANGE-7}")
            self._wrong(("made",), say("no products"), hint, on="key")

    def _machine(self, name: str, maker: Maker) -> dict[str, Any]:
        place = ("machines", name)
        production = self._sections.production.get(name)
        counters = dict(maker.parts)
        if not counters and production is not None and production.parts is not None:
            counters = {"": production.parts}
        product = maker.product or (production.programme if production else None)
        meter = maker.meter or (production.energy if production else None) or name
        if meter not in self._meters:
            at = (*place, "meter") if maker.meter else place
            self._no_meter(at, meter, on="value" if maker.meter else "key")
        by_product = [each for each in counters if each]
        for each in by_product:
            if each not in self._given.made:
                self._no_product(each, (*place, "parts", each))
        if product is None and not by_product:
            hint = say("write `product`, the tag that names it, or `parts` by product")
            self._wrong(place, say("nothing says what {machine} makes", machine=name), hint, on="key")
        return {
            "name": name,
            "meter": meter,
            "product": product,
            "state": f"{name}.state" if production is not None else None,
            "parts": {key: {"tag": each.tag, "modulus": each.rolls_over_at or 0.0} for key, each in counters.items()},
            "written": [key for key in ("product", "parts") if getattr(maker, key)],
        }

    def _shared(self, name: str, key: str, owners: Mapping[str, str]) -> None:
        if name not in self._meters:
            self._no_meter(("shared", name), name, on="key")
        elif name in owners:
            message = say("{meter} is the meter of {machine} already", meter=name, machine=owners[name])
            self._wrong(("shared", name), message, on="key")
        units = {self._meters[each]["unit"] for each in owners if each in self._meters}
        if key == "energy" and len(units) > 1:
            message = say("{listed} cannot be added", listed=", ".join(sorted(units)))
            self._wrong(("shared", name), message, say("divide it by another key"))

    def _no_meter(self, place: Sequence[str], name: str, on: str) -> None:
        near = difflib.get_close_matches(name, self._meters, 1, 0.6)
        hint = say('did you mean "{near}"?', near=near[0]) if near else say("write it under `energy: meters`")
        self._wrong(place, say("there is no meter {name!r}", name=name), hint, on=on)

    def _no_product(self, name: str, place: Sequence[str]) -> None:
        near = difflib.get_close_matches(name, self._given.made, 1, 0.6)
        hint = say('did you mean "{near}"?', near=near[0]) if near else say("write it under `made`")
        self._wrong(place, say("there is no product {name!r}", name=name), hint, on="key")


def made_by(settings: Mapping[str, Any] | None) -> dict[str, Known]:
    """Return what is known of the tags that a plan makes."""
    figures = figures_of(settings) if settings else ()
    return {f"{device}.{name}": Known(Type.NUMBER, unit or None) for device, name, unit, _ in figures}
