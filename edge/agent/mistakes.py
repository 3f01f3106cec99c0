"""What pydantic finds wrong in a section, said in our words: what it is, and what to do."""

import difflib
from collections.abc import Iterator
from typing import Any, get_args, get_origin

from pydantic import BaseModel

from edge.agent.yaml_source import KeyPath
from edge.core.errors import Problem
from edge.core.language import say
from edge.core.section import fields_by_key

LATER = {
    "energy": "energy and carbon",
}
"""Keys of the published grammar that this version does not have yet, with what they belong to."""


def later(key: str) -> tuple[str, str]:
    """Return message and hint for one of `LATER`."""
    return say('"{key}" is not available in this version', key=key), say("it belongs to {what}", what=LATER[key])


def translate(entry: Any, model: type[BaseModel]) -> Problem:
    """Return one of pydantic's errors in our words."""
    path = tuple(part for part in entry["loc"] if not str(part).startswith("["))  # pydantic's, and ours for choices
    kind, context, given = entry["type"], entry.get("ctx", {}), entry.get("input")
    match kind:
        case "yulink":
            return Problem(path, context["message"], context["hint"], on=context["on"])
        case "missing":
            return Problem(path[:-1], say('the key "{key}" is missing', key=path[-1]), say("add it"), on="key")
        case "extra_forbidden":
            key = str(path[-1])
            if key in LATER:
                return Problem(path, *later(key), on="key")
            known = list(_fields(model, path[:-1]))
            near = difflib.get_close_matches(key, known, 1, 0.6)
            hint = (
                say('did you mean "{near}"?', near=near[0]) if near else say("keys here: {keys}", keys=", ".join(known))
            )
            return Problem(path, say('unknown key "{key}"', key=key), hint, on="key")
        case "literal_error":
            choices = str(context["expected"]).replace(" or ", ", ").replace("'", "")
            near = difflib.get_close_matches(str(given), choices.split(", "), 1, 0.6)
            hint = say('did you mean "{near}"?', near=near[0]) if near else say("one of: {choices}", choices=choices)
            return Problem(path, say("{given!r} is not known here", given=given), hint)
        case "greater_than" | "greater_than_equal" | "less_than" | "less_than_equal":
            sign = {"greater_than": ">", "greater_than_equal": "≥", "less_than": "<", "less_than_equal": "≤"}[kind]
            (limit,) = (value for key, value in context.items() if key in ("gt", "ge", "lt", "le"))
            return Problem(
                path,
                say("{given} is out of range", given=given),
                say("it must be {sign} {limit}", sign=sign, limit=limit),
            )
        case "string_pattern_mismatch":
            return Problem(path, say("{given!r} is not a name", given=given), say("letters, digits, ., _ and -"))
        case "too_short":
            return Problem(path, say("nothing is listed here"), say("add at least one"), on="key")
    expected = _EXPECTED.get(kind.removesuffix("_parsing").removesuffix("_type").removesuffix("_from_float"))
    if expected:
        return Problem(path, say("expected {what}", what=expected()), say("got {given!r}", given=_short(given)))
    return Problem(path, str(entry["msg"]))


_EXPECTED = {
    "int": lambda: say("a whole number"),
    "float": lambda: say("a number"),
    "bool": lambda: say("true or false"),
    "string": lambda: say("a text"),
    "dict": lambda: say("keys with values"),
    "mapping": lambda: say("keys with values"),
    "model": lambda: say("keys with values"),
    "tuple": lambda: say("a list like [low, high]"),
    "list": lambda: say("a list"),
    "finite_number": lambda: say("a finite number"),
}


def _short(given: Any) -> str:
    text = str(given)
    return text if len(text) <= 40 else text[:37] + "…"


def _fields(model: Any, path: KeyPath) -> Iterator[str]:
    """Yield the keys that are known at a path below a model."""
    for part in path[:1] + path[2:] if path[:1] == ("tags",) else path:
        if isinstance(model, type) and issubclass(model, BaseModel):
            found = fields_by_key(model).get(str(part))
            model = _inner(found.annotation) if found else None
        if model is None:
            return
    if isinstance(model, type) and issubclass(model, BaseModel):
        yield from fields_by_key(model)


def _inner(annotation: Any) -> Any:
    """Return the model inside Optional, Annotated or Mapping; for a mapping, the model of its values."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) is not None:
        for part in reversed(get_args(annotation)):
            if (found := _inner(part)) is not None:
                return found
    return None
