"""Of which tags each figure of energy and production is made: what an auditor follows it back by."""

from collections.abc import Iterator, Mapping
from typing import Any

from edge.analytics.energy import names as energy
from edge.analytics.energy.baseline_section import figures_of as baseline_figures_of
from edge.analytics.energy.plan import read_plan
from edge.analytics.energy.power_quality_section import figures_of as quality_figures_of
from edge.analytics.production import names as production
from edge.analytics.products import names as products


def inputs_of(analytics: Mapping[str, Any] | None) -> dict[str, tuple[str, ...]]:
    """Return for the path of each figure the paths of what it is made of, by the plan of the configuration."""
    parts = analytics["parts"] if analytics else ()
    return {path: inputs for part in parts for path, inputs in _of_part(part["kind"], part["settings"])}


def _of_part(kind: str, settings: Mapping[str, Any]) -> Iterator[tuple[str, tuple[str, ...]]]:
    if kind == "production":
        for machine in settings["machines"]:
            yield from (
                (f"{machine['machine']}.{name}", inputs) for name, _, _, inputs in production.figures_of(machine)
            )
        return
    figures: Iterator[tuple[str, str, str, tuple[str, ...]]]
    match kind:
        case "energy":
            figures = energy.figures_of(read_plan(settings))
        case "products":
            figures = products.figures_of(settings)
        case "power_quality":
            figures = iter(quality_figures_of(settings))
        case "baselines":
            figures = (each for baseline in settings["baselines"] for each in baseline_figures_of(baseline))
        case _:
            return
    yield from ((f"{device}.{name}", inputs) for device, name, _, inputs in figures)
