"""Which operators there are. A plan names them; their modules are imported in the worker only.

A plan is what the configuration asks for, as JSON types:

    {"wait_s": 1.0, "parts": [{"kind": "derived", "settings": {…}}, …]}

A new kind is a line here and a module with `make(settings) -> Sequence[Operator]`, and `warm_up()` if it has kernels.
"""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from types import ModuleType
from typing import Any

from edge.analytics.operator import Operator
from edge.analytics.pipeline import Pipeline

KINDS: Mapping[str, str] = {
    "derived": "edge.analytics.derived",
    "energy": "edge.analytics.energy.account",
    "power_quality": "edge.analytics.energy.quality_watch",
    "products": "edge.analytics.products.account",
    "baselines": "edge.analytics.energy.baseline_watch",
    "production": "edge.analytics.production.machine",
    "alarms": "edge.analytics.alarms",
    "condition": "edge.analytics.condition.watch",
    "process": "edge.analytics.condition.process.watch",
    "spc": "edge.analytics.condition.process.spc",
}
"""Kind of a part → the module that makes its operators. A kind that is not here is a module's own name."""


def build(plan: Mapping[str, Any]) -> Pipeline:
    """Return the pipeline of a plan. Raises ValueError for operators that read from each other in a circle."""
    operators: list[Operator] = []
    for part in plan["parts"]:
        make: Callable[[Mapping[str, Any]], Sequence[Operator]] = _module(part["kind"]).make
        operators += make(part["settings"])
    return Pipeline(operators, round(plan["wait_s"] * 1e9))


def warm_up(plan: Mapping[str, Any]) -> None:
    """Compile what the plan's operators need, so that the first reading does not wait for it."""
    for kind in {part["kind"] for part in plan["parts"]}:
        getattr(_module(kind), "warm_up", lambda: None)()


def _module(kind: str) -> ModuleType:
    return import_module(KINDS.get(kind, kind))
