"""`yulink demo`: the whole product on a simulated plant, each part a process of its own, as in a real plant."""

import asyncio
import json
import signal
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from edge.agent.demo_account import Account, summarise
from edge.agent.run import LAST_STATUS_NAME
from edge.core.errors import YulinkError
from edge.core.language import say
from simulators.broker import Broker, start_broker
from simulators.pki import make_pki

SITE = "chongqing/plant-1"
READY_DEADLINE_S = 60.0
STOP_DEADLINE_S = 12.0
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
        agent = await closing.enter_async_context(_child("run", stage.config, "--data-dir", stage.data_dir))
        account = closing.enter_context(Account(stage.store))
        await _until_ready(stage, agent)
        console.print(say("The demo runs in {folder}; Ctrl-C ends it with a summary.", folder=stage.folder))
        began = time.monotonic()
        await _watch(console, stage, account, agent, stop, duration)
        seconds = time.monotonic() - began
        agent.terminate()
        async with asyncio.timeout(STOP_DEADLINE_S):
            code = await agent.wait()
        if code:
            raise YulinkError(say("the agent ended with exit code {code}", code=code), hint=_tail(stage, "run"))
        final = json.loads((stage.data_dir / LAST_STATUS_NAME).read_text())
        await _until_caught_up(account, final)
        summary = await summarise(account, final, seconds, stage.data_dir, security)
    console.print(_words(summary))
    if json_file:
        json_file.write_text(json.dumps(summary, ensure_ascii=False, indent=2) + "\n")
    return 0 if summary["values_lost"] == 0 and summary["values_duplicated"] == 0 and summary["values_read"] else 1


async def _set_up(closing: AsyncExitStack, broker_kind: str | None) -> tuple[_Stage, dict[str, bool]]:
    """Make certificates, start broker, plant and brain, write the configuration."""
    folder = Path(closing.enter_context(tempfile.TemporaryDirectory(prefix="yulink-demo-")))
    pki = make_pki(folder / "pki")
    broker = await closing.enter_async_context(start_broker(folder / "broker", pki, kind=broker_kind))
    stage = _Stage(folder, broker)
    identity, brain = pki.issue("gateway"), pki.issue("brain")
    plant = await closing.enter_async_context(_child("simulate", "demo", "--json", log_to=folder))
    assert plant.stdout is not None
    async with asyncio.timeout(READY_DEADLINE_S):
        listing = json.loads(await plant.stdout.readline() or b"{}")
    if not listing:
        raise YulinkError(say("the simulated plant did not start"), hint=_tail(stage, "simulate"))
    _write_configuration(stage, listing, identity, pki.ca)
    url = f"mqtts://{broker.host}:{broker.port}"
    await closing.enter_async_context(
        _child("receive", "--mqtt", url, "--ca", pki.ca, "--identity", brain, "--store", stage.store, log_to=folder)
    )
    return stage, {"stranger_refused": await broker.refuses_strangers(pki.ca)}
