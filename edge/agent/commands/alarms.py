"""`yulink alarms`: what stands in a running agent, and what people do about it."""

import asyncio
import getpass
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edge.agent.commands.machine_state import standing
from edge.agent.commands.table import render
from edge.agent.status import ask_status, give_order
from edge.analytics.expression.syntax import SECONDS
from edge.core.clock import iso8601
from edge.core.errors import WrongInput
from edge.core.language import say

ALL = "*"


def show(data_dir: Path, *, json_output: bool) -> int:
    """Print the alarms that are not at rest and return the exit code."""
    status = asyncio.run(ask_status(data_dir))
    views: dict[str, Any] = (status.get("analytics") or {}).get("views") or {}
    view: dict[str, Any] = views.get("alarms") or {"alarms": []}
    machines = list(standing(views))
    if json_output:
        print(json.dumps(view | {"machines": machines}, ensure_ascii=False, indent=2))
        return 0
    if view.get("flood"):
        print(say("a flood of alarms: those below high are held back"))
    if view["alarms"]:
        _show_table(view["alarms"])
    if machines:
        print(say("machines; these end by themselves:"))
        print("\n".join(f"  {line}" for line in machines))
    if not view["alarms"] and not machines:
        print(say("no alarm stands"))
    return 0


def _show_table(alarms: Sequence[Mapping[str, Any]]) -> None:
    words = {
        "active": say("active"), "returned": say("returned"), "pending": say("pending"), "shelved": say("shelved"),
        "info": say("info"), "low": say("low"), "medium": say("medium"), "high": say("high"),
        "critical": say("critical"),
    }  # fmt: skip
    heading = [say("alarm"), say("state"), say("severity"), say("since"), say("acknowledged")]
    rows = [
        [
            each["alarm"],
            words[each["state"]] + (f", {say('shelved')}" if each["shelved"] and each["state"] != "shelved" else ""),
            words[each["severity"]],
            iso8601(each["since"]) if each["since"] is not None else "",
            say("yes") if each["acknowledged"] else say("no"),
        ]
        for each in alarms
    ]
    print(render([heading, *rows], left=range(4)))


def request(data_dir: Path, action: str, alarm: str, time: str | None = None) -> int:
    """Have something done about an alarm, or about all with `*`. Returns the exit code."""
    seconds = None if time is None else _seconds(time)
    asyncio.run(give_order(data_dir, "alarm", action=action, alarm=alarm, by=_who(), seconds=seconds))
    print(say("asked for; it takes effect in the log's order"))
    return 0


def _who() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""


def _seconds(text: str) -> float:
    for unit in sorted(SECONDS, key=len, reverse=True):
        if text.endswith(unit):
            try:
                seconds = float(text.removesuffix(unit)) * SECONDS[unit]
            except ValueError:
                break
            if 0 < seconds < 3.2e9:
                return seconds
            break
    raise WrongInput(say("{given!r} is not a time", given=text), say("write e.g. {example}", example="30min, 8h"))
