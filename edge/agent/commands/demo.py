"""`yulink demo`: the whole product on a simulated plant, each part a process of its own, as in a real plant."""

import asyncio
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from ruamel.yaml import YAML

from edge.agent.commands import demo_view
from edge.agent.commands.demo_account import Account, summarise
from edge.agent.run import LAST_STATUS_NAME
from edge.agent.status import ask_status
from edge.core.errors import YulinkError
from edge.core.language import say
from simulators.broker import Broker, start_broker
from simulators.pki import make_pki
from uplink.keys import make_key, write_key

SITE = "chongqing/plant-1"
DERIVED = {
    "cnc-07.cutting": "cnc-07.spindle_load > 5 and cnc-07.spindle_speed > 100",
    "cnc-07.spindle_load_avg": "avg(cnc-07.spindle_load, 10s)",
    "plc-1.bottles_per_minute": {"of": "rate(plc-1.bottles, 10s) * 60", "unit": "pcs/min"},
    "incomer.apparent_power": {
        "of": " + ".join(f"incomer.u_{phase} * incomer.i_{phase}" for phase in "abc"),
        "unit": "VA",
    },
}
ALARMS = {
    "tank nearly full": {"when": "plc-1.level > 85", "deadband": 5, "message": "look at the outlet valve"},
    "machine alarm": {"when": "cnc-07.alarm > 0", "severity": "high"},
}
READY_DEADLINE_S = 60.0
STOP_DEADLINE_S = 15.0
CATCH_UP_DEADLINE_S = 10.0
LOOK_S = 0.5
LINE_EVERY_S = 5.0


@dataclass(frozen=True, slots=True)
class _Stage:
    """Where the demo's files lie and what it talks to."""

    folder: Path
    broker: Broker

    @property
    def config(self) -> Path:
        return self.folder / "plant.yaml"

    @property
    def data_dir(self) -> Path:
        return self.folder / "data"

    @property
    def store(self) -> Path:
        return self.folder / "brain.sqlite3"


def run(duration: float | None, json_file: Path | None, broker: str | None) -> int:
    """Run the demo for `duration` seconds or until Ctrl-C. Returns 0 only if every value was delivered, none twice."""
    return asyncio.run(_demo(duration, json_file, broker))


async def _demo(duration: float | None, json_file: Path | None, broker_kind: str | None) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    console = Console()
    async with AsyncExitStack() as closing:
        stage, security = await _set_up(closing, broker_kind)
        agent = await closing.enter_async_context(
            _child(stage.folder, "run", stage.config, "--data-dir", stage.data_dir)
        )
        account = Account(stage.store)
        await _until_ready(stage, agent)
        console.print(say("The demo runs in {folder}; Ctrl-C ends it with a summary.", folder=stage.folder))
        began = time.monotonic()
        await _watch(console, stage, account, agent, stop, duration)
        seconds = time.monotonic() - began
        final = await _stop(stage, agent)
        await _until_caught_up(account, final)
        summary = await summarise(account, final, seconds, stage.data_dir, security)
    console.print(_words(summary), highlight=False)
    if json_file:
        json_file.write_text(json.dumps(summary, ensure_ascii=False, indent=2) + "\n", "utf-8")
    return 0 if summary["values_read"] and not summary["values_lost"] and not summary["values_duplicated"] else 1


async def _set_up(closing: AsyncExitStack, broker_kind: str | None) -> tuple[_Stage, dict[str, bool]]:
    """Make certificates, start broker, plant and brain, write the configuration."""
    folder = Path(closing.enter_context(tempfile.TemporaryDirectory(prefix="yulink-demo-")))
    pki = make_pki(folder / "pki")
    broker = await closing.enter_async_context(start_broker(folder / "broker", pki, kind=broker_kind))
    stage = _Stage(folder, broker)
    pki.issue("gateway", common_name=SITE)
    brain = pki.issue("brain")
    opening, sealing_to = folder / "pki" / "brain.key", folder / "pki" / "brain.pub"
    write_key(make_key(), opening, sealing_to)
    plant = await closing.enter_async_context(_child(folder, "simulate", "demo", "--json"))
    listing = await _listing(stage, plant)
    _write_configuration(stage, listing)
    arguments = ("--ca", pki.ca, "--identity", brain, "--key", opening, "--store", stage.store)
    await closing.enter_async_context(_child(folder, "receive", "--mqtt", broker.url, *arguments))
    return stage, {"stranger_refused": await broker.refuses_strangers(pki.ca)}


async def _listing(stage: _Stage, plant: asyncio.subprocess.Process) -> dict[str, Any]:
    assert plant.stdout is not None
    async with asyncio.timeout(READY_DEADLINE_S):
        line = await plant.stdout.readline()
    if not line:
        raise YulinkError(say("the simulated plant did not start"), hint=_tail(stage.folder, "simulate"))
    listing: dict[str, Any] = json.loads(line)
    return listing


def _write_configuration(stage: _Stage, listing: dict[str, Any]) -> None:
    secrets = stage.folder / "secrets"
    secrets.mkdir()
    for name, text in listing["secrets"].items():
        (secrets / name).touch(0o600)
        (secrets / name).write_text(text)
    uplink = {
        "mqtt": stage.broker.url,
        "identity": "pki/gateway.pem",
        "ca": "pki/ca.pem",
        "seal_to": "pki/brain.pub",
        "latency": "500ms",
    }
    analytics = {"derived": DERIVED, "alarms": ALARMS}
    YAML().dump({"site": SITE, "devices": listing["devices"], **analytics, "uplink": uplink}, stage.config)


@asynccontextmanager
async def _child(folder: Path, command: str, *arguments: object) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run `yulink COMMAND …` as a process of its own, out of reach of the terminal's Ctrl-C, until the block ends."""
    with (folder / f"{command}.log").open("wb") as errors:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "edge.agent.cli",
            command,
            *map(str, arguments),
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
            start_new_session=True,
            limit=16 << 20,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )
    try:
        yield process
    finally:
        await _end(process)


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
        try:
            async with asyncio.timeout(STOP_DEADLINE_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


async def _until_ready(stage: _Stage, agent: asyncio.subprocess.Process) -> None:
    """Return when the agent answers and every device is connected."""
    try:
        async with asyncio.timeout(READY_DEADLINE_S):
            while agent.returncode is None:
                try:
                    status = await ask_status(stage.data_dir)
                except YulinkError:
                    status = {"devices": []}
                devices = status["devices"]
                if devices and all(device["state"] == "connected" for device in devices):
                    return
                await asyncio.sleep(0.1)
    except TimeoutError as error:
        lost = [f"{device['name']}: {device['reason']}" for device in devices if device["state"] != "connected"]
        raise YulinkError(say("not every device came up in time"), hint="; ".join(lost)) from error
    raise YulinkError(say("the agent did not start"), hint=_tail(stage.folder, "run"))


async def _watch(
    console: Console,
    stage: _Stage,
    account: Account,
    agent: asyncio.subprocess.Process,
    stop: asyncio.Event,
    duration: float | None,
) -> None:
    """Show the agent's state until the time is over, Ctrl-C, or the agent's end."""
    rates, began, told = demo_view.Rates(), time.monotonic(), 0.0
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while not stop.is_set() and agent.returncode is None:
            elapsed = time.monotonic() - began
            if duration is not None and elapsed >= duration:
                return
            status = await ask_status(stage.data_dir)
            standing = await asyncio.to_thread(account.standing)
            if console.is_terminal:
                title = say("Yulink demo: {broker} on {url}", broker=stage.broker.kind, url=stage.broker.url)
                live.update(demo_view.draw(status, rates, standing, title), refresh=True)
            elif elapsed - told >= LINE_EVERY_S or not told:
                told = elapsed or LOOK_S
                console.print(demo_view.line(status, standing), highlight=False)
            try:
                async with asyncio.timeout(min(LOOK_S, duration - elapsed) if duration is not None else LOOK_S):
                    await stop.wait()
            except TimeoutError:
                continue


async def _stop(stage: _Stage, agent: asyncio.subprocess.Process) -> dict[str, Any]:
    """End the agent in order and return its last word on itself."""
    if agent.returncode is None:
        agent.terminate()
    async with asyncio.timeout(STOP_DEADLINE_S):
        code = await agent.wait()
    if code:
        raise YulinkError(say("the agent ended with exit code {code}", code=code), hint=_tail(stage.folder, "run"))
    final: dict[str, Any] = json.loads((stage.data_dir / LAST_STATUS_NAME).read_text("utf-8"))
    return final


async def _until_caught_up(account: Account, final: dict[str, Any]) -> None:
    """Wait for the brain's store to hold what the agent has handed over, or for the deadline: the account will tell."""
    wanted = sum(device["values_read"] - device["values_filtered"] for device in final["devices"])
    wanted += final["analytics"]["rows_derived_total"]
    try:
        async with asyncio.timeout(CATCH_UP_DEADLINE_S):
            while await asyncio.to_thread(account.delivered) < wanted:
                await asyncio.sleep(0.1)
    except TimeoutError:
        return


def _tail(folder: Path, command: str) -> str:
    """Return the last lines a child wrote, as the hint of what went wrong."""
    file = folder / f"{command}.log"
    return file.read_text("utf-8", "replace")[-800:].strip() if file.exists() else ""


def _words(summary: dict[str, Any]) -> str:
    uplink = summary["uplink"]
    return "\n".join(
        (
            say(
                "{seconds:.0f} s: {read:,} values read from {devices} devices, {bad:,} of them bad",
                seconds=summary["seconds"],
                read=summary["values_read"],
                devices=len(summary["devices"]),
                bad=sum(device["values_bad"] for device in summary["devices"]),
            ),
            say(
                "delivered {delivered:,}, lost {lost:,}, duplicated {twice:,}, in {messages:,} messages",
                delivered=summary["values_delivered"],
                lost=summary["values_lost"],
                twice=summary["values_duplicated"],
                messages=summary["messages"],
            ),
            say(
                "{protocol}, {tls}, mutual: {mutual}, sealed: {sealed}; latency {p50:.0f} ms, 99 %: {p99:.0f} ms",
                protocol=uplink["protocol"],
                tls=uplink["tls"],
                mutual=say("yes") if uplink["mutual"] else say("no"),
                sealed=say("yes") if uplink["sealed"] else say("no"),
                p50=summary["latency_ms"]["p50"],
                p99=summary["latency_ms"]["p99"],
            ),
            say(
                "{cpu} µs CPU a value, {memory:.0f} MB; analytics: {tags} derived tags, {worker:.0f} MB",
                cpu=summary["cpu_us_per_value"],
                memory=summary["rss_mb"]["core"],
                tags=summary["derived_tags"],
                worker=summary["rss_mb"]["worker"] or 0.0,
            ),
        )
    )
