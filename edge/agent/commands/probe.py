"""`yulink probe`: one place of an unknown device in every interpretation, the plausible ones marked."""

import asyncio
import json
from dataclasses import asdict

from drivers.api import Interpretation, Probe
from edge.agent.configuration.loader import driver_specs
from edge.core.errors import WrongInput
from edge.core.language import say


def run(url: str, unit: int, at: str, timeout_s: float, expected: float | None, *, json_output: bool) -> int:
    """Print a table: a row for each address and type, a column for each byte order; `*` marks what is plausible."""
    scheme = url.partition(":")[0]
    ask = next((spec.probe for spec in driver_specs().values() if spec.probe and scheme in spec.schemes), None)
    if ask is None:
        known = [s for spec in driver_specs().values() if spec.probe for s in spec.schemes]
        raise WrongInput(
            say("no driver can probe {url!r}", url=url),
            say("addresses begin with: {schemes}", schemes=", ".join(known)),
        )
    found = asyncio.run(ask(url, unit, at, timeout_s, expected))
    print(json.dumps(asdict(found), ensure_ascii=False, default=str) if json_output else _table(found))
    return 0


def _table(found: Probe) -> str:
    lines = ["  ".join(f"{place} = 0x{word:04X}" for place, word in found.raw.items()), ""]
    orders = list(dict.fromkeys(each.order for each in found.interpretations))
    rows: dict[tuple[str, str], dict[str, Interpretation]] = {}
    for each in found.interpretations:
        rows.setdefault((each.at, each.type), {})[each.order] = each
    cells = [["", "", *orders]]
    cells += [[at, kind, *(_cell(row.get(order)) for order in orders)] for (at, kind), row in rows.items()]
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    lines += ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    if not any(each.is_plausible for each in found.interpretations):
        lines += ["", say("nothing plausible: try another address, or a moment at which the value is not 0")]
    return "\n".join(lines)


def _cell(each: Interpretation | None) -> str:
    if each is None:
        return ""
    scale = f" × {each.scale:g}" if each.scale != 1 else ""
    value = f"{each.value:.7g}" if isinstance(each.value, float) else str(each.value)
    return f"{'*' if each.is_plausible else ' '} {value}{scale}"
