"""Operators that would read from each other in a circle, found before anything runs."""

from collections.abc import Callable, Iterable, Mapping
from graphlib import CycleError, TopologicalSorter

from edge.core.errors import Problem
from edge.core.language import say

Place = tuple[str, ...]


def tell_circles(
    reads: Mapping[Place, Iterable[str]], makes: Mapping[Place, Iterable[str]], tell: Callable[[Problem], None]
) -> None:
    """Tell of the first circle. Both by the place in the configuration: the paths of tags that are read and made."""
    maker = {path: place for place, paths in makes.items() for path in paths}
    graph = {place: {maker[path] for path in paths if path in maker} for place, paths in reads.items()}
    graph.get(("derived",), set()).discard(("derived",))  # among themselves they are sorted
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        circle: list[Place] = list(reversed(error.args[1]))
        first = next(place for place in circle if place != ("derived",))
        words = " → ".join(place[-1] for place in circle)
        message = say("{path} is made of itself: {circle}", path=first[-1], circle=words)
        tell(Problem(first, message, say("break the circle"), on="key"))
