"""Which tags a process watch makes: name, kind and unit. Pure: a check asks it too."""

from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal

from edge.analytics.condition.names import NUMBER, TEXT

Rule = Literal["t2", "spe", "ewma", "cusum", "nelson", "western_electric", "novelty"]
T2: Final = "t2"
SPE: Final = "spe"
EWMA: Final = "ewma"
CUSUM: Final = "cusum"
NELSON: Final = "nelson"
WESTERN_ELECTRIC: Final = "western_electric"
NOVELTY: Final = "novelty"

ALARMING: tuple[Rule, ...] = (T2, SPE, EWMA, CUSUM)
"""The rules a watch has where it tells none."""


def figures_of(watch: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yield name, kind and unit of all tags of one watch of the plan, in a fixed order."""
    rules = watch["rules"]
    for rule in (T2, SPE):
        if rule in rules:
            yield rule, NUMBER, ""
            yield f"{rule}_limit", NUMBER, ""
    if T2 in rules or SPE in rules:
        yield "cause", TEXT, ""
    if NOVELTY in rules:
        yield NOVELTY, NUMBER, ""
    for rule in (EWMA, CUSUM):
        if rule in rules:
            yield from ((f"{rule}_{flat(path)}", NUMBER, "") for path in watch["tags"])


def flat(path: str) -> str:
    """Return the path of a tag as part of a name."""
    return path.replace(".", "_")
