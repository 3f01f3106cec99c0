"""What pydantic finds wrong in a section, said in our words: what it is, and what to do."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from types import UnionType
from typing import Any, get_args, get_origin

from pydantic import BaseModel

from edge.agent.configuration.yaml_source import KeyPath
from edge.core.errors import Problem
from edge.core.language import say
from edge.core.section import fields_by_key


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
            known = list(_fields(model, path[:-1]))
            near = difflib.get_close_matches(key, known, 1, 0.6)
            hint = (
                say('did you mean "{near}"?', near=near[0]) if near else say("keys here: {keys}", keys=", ".join(known))
            )
            return Problem(path, say('unknown key "{key}"', key=key), hint, on="key")
        case "literal_error" | "enum":
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
        case "datetime_parsing" | "datetime_from_date_parsing" | "date_parsing" | "date_from_datetime_parsing":
            hint = say("write e.g. {example}", example="2026-05-03" if kind.startswith("date_") else "2026-05-03 10:00")
            return Problem(path, say("{given!r} is no date", given=given), hint)
        case "string_pattern_mismatch":
            return Problem(path, say("{given!r} is not a name", given=given), say("letters, digits, ., _ and -"))
        case "sequence_str":
            return Problem(
                path, say("expected {what}", what=say("a list")), say("write [{given}]", given=_short(given))
            )
        case "is_instance_of" if context.get("class") == "Sequence":
            return Problem(path, say("expected {what}", what=say("a list")), say("got {given!r}", given=_short(given)))
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


def _fields(annotation: Any, path: KeyPath) -> Iterator[str]:
    """Yield the keys that are known at a path below a model."""
    for part in path:
        annotation = _step(annotation, part)
    model = _inner(annotation)
    if model is not None:
        yield from fields_by_key(model)


def _step(annotation: Any, part: str | int) -> Any:
    """Return what stands under a key, a name or an index; None for nothing that is known."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        found = fields_by_key(annotation).get(str(part))
        return found.annotation if found else None
    origin, inside = get_origin(annotation), get_args(annotation)
    if isinstance(origin, type) and issubclass(origin, Mapping | Sequence) and inside:
        return inside[-1]
    return next((found for each in inside if (found := _step(each, part)) is not None), None)


def _inner(annotation: Any) -> type[BaseModel] | None:
    """Return the model itself, or the one inside Optional or Annotated."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    origin = get_origin(annotation)
    if isinstance(origin, type) and origin is not UnionType:
        return None  # a mapping or a list: its names are the user's
    return next((found for each in get_args(annotation) if (found := _inner(each)) is not None), None)
