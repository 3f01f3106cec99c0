"""Brace arrays: `load_{x,y,z}` and `phase_{1..3}` stand for several tags."""

import itertools
import re
from collections.abc import Iterator, Mapping
from typing import Any

from drivers.api import DriverSection
from edge.core.language import say
from edge.core.section import refuse

EXPANSION_MAX = 1000

_GROUP = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d{1,9})\.\.(\d{1,9})")

# Takes the place of `{}` until the words of several groups are put in, one `{}` after the other.
_SLOT = "\N{OBJECT REPLACEMENT CHARACTER}"


def has_braces(name: str) -> bool:
    """Tell whether a tag's name is meant as a brace array."""
    return "{" in name or "}" in name


def expand(name: str, tag: Mapping[str, Any], section: type[DriverSection]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield name and settings of each tag. Several groups give every combination, the last group quickest.

    Raises:
        PydanticCustomError: of type "yulink", about the name (`on` is "key") or about a text in the settings.
    """
    groups = [_words(group) for group in _GROUP.findall(name)]
    literals = _GROUP.split(name)[::2]
    if any(has_braces(literal) for literal in literals):
        refuse(say("the braces do not close"), say("write load_{x,y,z} or phase_{1..3}"), on="key")
    total = 1
    for words in groups:
        total *= len(words)
    if total > EXPANSION_MAX:
        refuse(say("makes {count} tags", count=total), say("at most {limit}", limit=EXPANSION_MAX), on="key")
    several = len(groups) > 1
    for index, chosen in enumerate(itertools.product(*groups)):
        expanded = section.expand_tag(tag, index, _SLOT if several else chosen[0])
        if several:
            expanded = {key: _fill(value, chosen) for key, value in expanded.items()}
        yield "".join(itertools.chain(*itertools.zip_longest(literals, chosen, fillvalue=""))), expanded


def _words(group: str) -> list[str]:
    if numbers := _RANGE.fullmatch(group):
        first, last = int(numbers[1]), int(numbers[2])
        if last < first or last - first >= EXPANSION_MAX:
            refuse(
                say("{given} is no range", given=f"{{{group}}}"),
                say("count upwards, at most {limit}: {example}", limit=EXPANSION_MAX, example="{1..3}"),
                on="key",
            )
        width = len(numbers[1]) if numbers[1].startswith("0") else 0
        return [f"{number:0{width}}" for number in range(first, last + 1)]
    words = [word.strip() for word in group.split(",")]
    if len(words) < 2 or not all(words):
        refuse(
            say("{given} names nothing", given=f"{{{group}}}"),
            say("write at least two words or a range: {x,y,z} or {1..3}"),
            on="key",
        )
    return words


def _fill(value: Any, words: tuple[str, ...]) -> Any:
    if not isinstance(value, str) or _SLOT not in value:
        return value
    pieces = value.split(_SLOT)
    if len(pieces) - 1 != len(words):
        refuse(
            say("{count} places for {groups} brace groups", count=len(pieces) - 1, groups=len(words)),
            say("write one {example} for each group", example="{}"),
        )
    return "".join(itertools.chain(*itertools.zip_longest(pieces, words, fillvalue="")))
