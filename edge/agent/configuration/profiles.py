"""Device profiles: `use: maker/model` brings a device's known tags from a file; what the device itself says wins.

A profile is YAML: `about` (name, source, confidence, notes), `parameters` with their defaults, and `device`, what one
would write under the device's name. A tag's `ratio: [ct, pt]` multiplies its scale by these parameters, and `$name` in
a text stands for a parameter, so that a meter behind transformers or a machine under another root is one line.
"""

import difflib
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge.core.errors import Problem
from edge.core.language import say
from edge.core.units import same

OWN_FOLDER = "profiles"
_PACKED = Path(__file__).parent / "profiles"
_SHIPPED = Path(__file__).parents[3] / "config" / "profiles"
_RATIO_DIGITS = 12  # so that 0.1 x 3 is 0.3


@dataclass(frozen=True, slots=True)
class Profile:
    """A profile that was found: `name` as in `use`, and its file."""

    name: str
    file: Path


def shipped_folder() -> Path:
    """Return the folder of the profiles that come with the program: in the package, or in the checkout."""
    return _PACKED if _PACKED.is_dir() else _SHIPPED


def find(name: str, folder: Path) -> Profile | None:
    """Return the profile `maker/model`: from `profiles/` beside the configuration, else from those shipped."""
    return next((profile for profile in known(folder) if profile.name == name), None)


def known(folder: Path) -> Iterator[Profile]:
    """Yield the plant's own profiles, then those shipped."""
    for base in (folder / OWN_FOLDER, shipped_folder()):
        for file in sorted(base.glob("*/*.yaml")):
            yield Profile(f"{file.parent.name}/{file.stem}", file)


def unknown(name: object, folder: Path) -> tuple[str, str]:
    """Return message and hint for a name that is no profile."""
    names = [profile.name for profile in known(folder)]
    by_model = {each.partition("/")[2]: each for each in names}
    near = difflib.get_close_matches(str(name), names, 2, 0.5)
    near += [by_model[each] for each in difflib.get_close_matches(str(name).rpartition("/")[2], by_model, 1, 0.6)]
    near = list(dict.fromkeys(near))
    hint = (
        say("did you mean {near}?", near=say(" or ").join(near))
        if near
        else say("there are: {names}", names=", ".join(names))
    )
    return say("there is no profile {name!r}", name=name), hint


def apply(content: Mapping[str, Any], raw: Mapping[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
    """Return a device's settings over those of a profile, and what is wrong at paths below the device.

    Mappings are merged key by key, tags too; `null` for a tag leaves it out. `content` is the profile's whole data.
    """
    problems: list[Problem] = []
    given = raw.get("parameters", {})
    defaults = content.get("parameters", {})
    if not isinstance(given, Mapping):
        given = {}
    for key in given:
        if key not in defaults:
            hint = say("parameters here: {names}", names=", ".join(defaults) or say("none"))
            problems.append(Problem(("parameters", key), say('unknown parameter "{key}"', key=key), hint, on="key"))
    parameters = {**defaults, **given}
    problems += [
        Problem(
            ("use",),
            say('the profile needs the parameter "{key}"', key=key),
            say("write parameters: {{{key}: …}}", key=key),
        )
        for key, value in parameters.items()
        if value is None
    ]
    problems += _other_units(content.get("device", {}).get("tags"), raw.get("tags"))
    merged = _merged(content.get("device", {}), {key: value for key, value in raw.items() if key != "parameters"})
    tags = merged.get("tags")
    if isinstance(tags, dict):
        merged["tags"] = {name: _scaled(tag, parameters) for name, tag in tags.items() if tag is not None}
    merged = _filled(merged, parameters)
    merged["use"] = raw["use"]
    return merged, problems


def _other_units(base: Any, over: Any) -> Iterator[Problem]:
    """Yield tags that are given another unit than the profile's, and no scale that would make it true."""
    if not (isinstance(base, Mapping) and isinstance(over, Mapping)):
        return
    for name, tag in over.items():
        known = base.get(name)
        if not (isinstance(tag, Mapping) and isinstance(known, Mapping)) or "scale" in tag:
            continue
        mine, its = tag.get("unit"), known.get("unit")
        if isinstance(mine, str) and isinstance(its, str) and same(mine, its) is False:
            message = say("the profile gives this tag in {other}, not in {unit}", other=its, unit=mine)
            yield Problem(
                ("tags", name, "unit"), message, say("give `scale` too, or remove `unit`"), severity="warning"
            )


def _merged(base: Any, over: Any) -> Any:
    if isinstance(base, Mapping) and isinstance(over, Mapping):
        return {
            key: _merged(base.get(key), over[key]) if key in over else deepcopy(base[key]) for key in {**base, **over}
        }
    return deepcopy(over)


def _scaled(tag: Any, parameters: Mapping[str, Any]) -> Any:
    """Multiply the scale by the tag's ratios; a ratio that is no number is left for the message about it."""
    if not isinstance(tag, dict) or "ratio" not in tag:
        return tag
    factor = 1.0
    for name in tag.pop("ratio"):
        value = parameters.get(name)
        factor *= value if isinstance(value, int | float) else 1.0
    if factor != 1.0:
        tag["scale"] = float(f"{tag.get('scale', 1.0) * factor:.{_RATIO_DIGITS}g}")
    return tag


def _filled(node: Any, parameters: Mapping[str, Any]) -> Any:
    if isinstance(node, dict):
        return {key: _filled(value, parameters) for key, value in node.items()}
    if isinstance(node, list):
        return [_filled(value, parameters) for value in node]
    if isinstance(node, str) and "$" in node:
        for name in sorted(parameters, key=len, reverse=True):
            node = node.replace(f"${name}", str(parameters[name]))
    return node
