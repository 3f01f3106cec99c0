"""`yulink check`: every problem of a configuration at once, and what reading it costs."""

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from drivers.api import Plan, Shared
from edge.agent.configuration.loader import examine
from edge.agent.configuration.located import as_json, render
from edge.core.errors import ConfigError, Disconnected
from edge.core.language import say

if TYPE_CHECKING:
    from edge.agent.configuration.settings import Device, Settings

CONNECT_DEADLINE_S = 20.0
PLAN_KEYS = ("requests_per_cycle", "registers_per_cycle", "cycle_ms_estimated", "cycle_ms_asked")


def run(path: Path, data_dir: Path, *, offline: bool, json_output: bool) -> int:
    """Print problems and plan. Returns 0, 2 when the configuration is wrong, 1 when a device cannot be reached."""
    settings, problems = examine(path)
    wrong = settings is None or any(problem.severity == "error" for problem in problems)
    plans = {} if wrong or settings is None else plan(settings)
    unreached = {} if offline or wrong or settings is None else asyncio.run(_reach(settings, data_dir))
    if json_output:
        listed = {name: {key: getattr(cost, key) for key in PLAN_KEYS} for name, cost in plans.items()}
        answer = {"problems": [as_json(problem) for problem in problems], "plan": listed}
        if not offline:
            answer["unreached"] = unreached
        print(json.dumps(answer, ensure_ascii=False, indent=2))
    else:
        for problem in problems:
            print(render(problem))
        if settings is not None and not wrong:
            print(_table(settings, plans))
        for name, reason in unreached.items():
            print(say("{device}: not reached: {reason}", device=name, reason=reason))
    return 2 if wrong else 1 if unreached else 0


def plan(settings: "Settings") -> dict[str, Plan]:
    """Return what a cycle of each device costs, where its protocol has cycles."""
    return {
        name: device.spec.plan(device.section, device.every)
        for name, device in settings.devices.items()
        if device.spec.plan is not None
    }


def _table(settings: "Settings", plans: Mapping[str, Plan]) -> str:
    lines = [say("{count} devices, no errors", count=len(settings.devices))]
    for name, cost in plans.items():
        lines.append(
            say(
                "  {device}: {requests} requests, {registers} registers, {estimated:g} ms of {asked:g} ms a cycle",
                device=name,
                requests=cost.requests_per_cycle,
                registers=cost.registers_per_cycle,
                estimated=cost.cycle_ms_estimated,
                asked=cost.cycle_ms_asked,
            )
        )
    return "\n".join(lines)


async def _reach(settings: "Settings", data_dir: Path) -> dict[str, str]:
    """Connect to every device once; return the reason for each that cannot be reached."""
    shared = Shared()
    reaching = (_reach_one(settings, device, shared, data_dir) for device in settings.devices.values())
    found = await asyncio.gather(*reaching)
    shared.close()
    return {name: reason for name, reason in zip(settings.devices, found, strict=True) if reason}


async def _reach_one(settings: "Settings", device: "Device", shared: Shared, data_dir: Path) -> str:
    from drivers.api import DeviceContext
    from edge.core.catalogue import Catalogue
    from edge.core.clock import SystemClock

    catalogue, clock = Catalogue(), SystemClock()
    context = DeviceContext(device.name, device.every, catalogue, clock, settings.secret, shared, data_dir)
    try:
        async with asyncio.timeout(CONNECT_DEADLINE_S), device.spec.create(device.section, context).connect():
            return ""
    except (Disconnected, ConfigError) as error:
        return str(error)
    except TimeoutError:
        return say("no answer within the deadline")
