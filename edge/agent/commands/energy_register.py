"""`yulink energy --meters`: the register of a plant's meters (GB 17167), from the configuration alone."""

import csv
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge.agent.commands import table
from edge.agent.configuration.loader import load
from edge.core.errors import WrongInput
from edge.core.language import say

_COLUMNS = ("meter", "carrier", "level", "class", "calibrated_until", "reads", "below", "bought", "billed")


def run(config: Path, device: str | None, how: str) -> int:
    """Print the register as a table, or as "csv" or "json" lines. Returns the exit code."""
    parts: list[Mapping[str, Any]] = (load(config, offline=True).analytics or {"parts": []})["parts"]
    energy = next((part["settings"] for part in parts if part["kind"] == "energy"), None)
    if energy is None:
        raise WrongInput(say("there is no `energy` in {file}", file=config.name), say("add it, see docs/energy.md"))
    above = {
        child: each["parent"]
        for each in energy["virtual"] if each.get("parent")
        for child, _ in each["parts"] if child != each["parent"]
    }  # fmt: skip
    rows = [
        (
            each["name"], each["carrier"], each["level"], each["class"], each["calibrated_until"] or "", each["tag"],
            above.get(each["name"], ""), each["bought"], each["tariff"],
        )
        for each in energy["meters"] if device in (None, each["name"])
    ]  # fmt: skip
    if not rows:
        raise WrongInput(say("there is no meter {name!r}", name=str(device)), say("write it under `meters`"))
    if how == "json":
        for row in rows:
            print(json.dumps(dict(zip(_COLUMNS, row, strict=True)), ensure_ascii=False))
    elif how == "csv":
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(_COLUMNS)
        writer.writerows(rows)
    else:
        head = [
            say("meter"), say("carrier"), say("level"), say("class"), say("calibrated until"), say("reads"),
            say("below"), say("bought"), say("billed"),
        ]  # fmt: skip
        yes = {True: say("yes"), False: ""}
        shown = [[yes[each] if isinstance(each, bool) else str(each) for each in row] for row in rows]
        print(table.render([head, *shown], left=(0, 1, 4, 5, 6, 7, 8)))
    return 0
