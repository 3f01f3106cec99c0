"""Certificates in a running agent: who is refused is told, who is accepted is read, and an end is told in time."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from drivers.api import CertificateState
from edge.agent import status_command
from edge.agent.app import Agent
from edge.agent.certificate_watch import DAY_NS, watch_certificates
from edge.agent.cli import main
from edge.agent.loader import load
from edge.core.batch import Event, Record, Severity
from edge.core.clock import VirtualClock
from simulators.opcua import Variable, serve_opcua
from tests.support import until

SPEED = Variable("ns=2;s=Speed", 1480.5, "Double")


async def test_the_agent_waits_for_the_operators_word_and_then_reads_without_a_new_start(tmp_path: Path) -> None:
    async with serve_opcua([SPEED], security=("sign+encrypt",)) as server:
        device = {"opcua": server.url, "security": "sign+encrypt", "tags": {"speed": {"node": SPEED.node}}}
        config = tmp_path / "plant.yaml"
        config.write_text(json.dumps({"site": "chongqing/plant-1", "devices": {"cnc-07": device}}))
        agent = Agent(load(config), tmp_path / "data")
        running = asyncio.create_task(agent.run())

        def cnc() -> dict[str, Any]:
            return next(iter(agent.describe()["devices"]), {"state": "", "reason": ""})

        try:
            await until(lambda: cnc()["state"] == "lost", 30)
            assert "not trusted yet" in cnc()["reason"]
            (told,) = [event for event in agent.describe()["events"] if event["kind"] == "certificate_refused"]
            assert "thumbprint" in told["text"]
            shown = status_command.render(agent.describe())
            assert "yulink trust accept " in shown
            assert main(["trust", "accept", "cnc-07", "--data-dir", str(tmp_path / "data")]) == 0
            await until(lambda: cnc()["state"] == "connected", 30)
            assert [each["whose"] for each in cnc()["certificates"]] == ["server", "own"]
        finally:
            agent.stop()
            await running


async def test_an_end_is_told_a_month_a_week_and_a_day_before_each_once() -> None:
    clock = VirtualClock()
    stored: list[Record] = []

    async def put(record: Record) -> None:
        stored.append(record)

    end = clock.now() + 40 * DAY_NS
    states = {"cnc-07": [CertificateState("server", "CN=cnc", "ab" * 20, end)]}
    watching = asyncio.create_task(watch_certificates(clock, put, lambda: states))
    days: list[int] = []
    for day in range(45):
        await clock.advance(86_400)
        days += [day + 1] * (len(stored) - len(days))
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    assert days == [10, 33, 39, 40]
    events = [record for record in stored if isinstance(record, Event)]
    assert [event.severity for event in events] == [Severity.MEDIUM] * 2 + [Severity.HIGH] * 2
    assert events[0].facts["thumbprint"] == "ab" * 20


@pytest.mark.parametrize(
    ("days", "words"), [(12, "ends in 12 days: renew it there"), (-3, "ended 3 days ago"), (90, None)]
)
def test_the_status_shows_an_end_within_a_month(days: int, words: str | None) -> None:
    state = {"whose": "server", "subject": "CN=cnc", "thumbprint": "ab", "not_after": days * DAY_NS, "doubt": ""}
    shown = list(status_command._certificates([state], 0))
    assert (words in shown[0]) if words else not shown
