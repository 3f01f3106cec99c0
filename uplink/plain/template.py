"""Templates of topics and field names: `{site}/{device}`. What stands in braces is a place, all else stays."""

import difflib
import string
from collections.abc import Iterable

from pydantic import AfterValidator

from edge.core.language import say
from edge.core.section import refuse


def places_of(template: str) -> set[str]:
    """Return the names in braces. Raises ValueError for braces that do not fit, or hold more than a name."""
    found = set()
    for _, name, form, conversion in string.Formatter().parse(template):
        if name is None:
            continue
        if not name.isidentifier() or form or conversion:
            raise ValueError(name)
        found.add(name)
    return found


def with_places(allowed: Iterable[str], *, topic: bool) -> AfterValidator:
    """Return the check of a template that may hold these places."""
    known = tuple(allowed)
    shown = ", ".join(f"{{{name}}}" for name in known)

    def check(given: str) -> str:
        try:
            found = places_of(given)
        except ValueError:
            refuse(
                say("the braces in {given!r} hold no name", given=given),
                say("places here: {places}; write {{{{ and }}}} for braces themselves", places=shown),
            )
        for name in sorted(found - set(known)):
            near = difflib.get_close_matches(name, known, 1, 0.5)
            hint = (
                say('did you mean "{near}"?', near=f"{{{near[0]}}}") if near else say("places: {places}", places=shown)
            )
            refuse(say("there is no place {name} here", name=f"{{{name}}}"), hint)
        if not given:
            refuse(say("a name is empty"), say("write null to leave it out"))
        if topic:
            _check_topic(given)
        return given

    return AfterValidator(check)


def _check_topic(given: str) -> None:
    if any(sign in given for sign in "+#\0"):
        refuse(say("{given!r} cannot be published to", given=given), say("a topic holds neither + nor #"))
    if given.startswith("$"):
        refuse(
            say("{given!r} cannot be published to", given=given), say("topics that begin with $ are the broker's own")
        )
    if given.partition("/")[0] in ("v1", "spBv1.0"):
        refuse(
            say("{given!r} is in use for other messages", given=given),
            say("v1/ and spBv1.0/ belong to the contract and to Sparkplug; begin with something else"),
        )
