"""Certificates in a running agent: who is refused is told, who is accepted is read, and an end is told in time."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from drivers.api import CertificateState
from edge.agent.app import Agent
from edge.agent.certificate_watch import DAY_NS, watch_certificates, watch_decisions
from edge.agent.cli import main
from edge.agent.commands import status as status_command
from edge.agent.configuration.loader import load
from edge.core.batch import Event, Record, Severity
from edge.core.clock import VirtualClock
from edge.core.trust import Certificate, Known, Sighting, TrustList
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
            await until(lambda: "certificate_accepted" in [event["kind"] for event in agent.describe()["events"]], 30)
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


class Looked(TrustList):
    """A list that counts how often it was asked for what is untold."""

    looks = 0

    def untold(self) -> list[tuple[Known, str]]:
        self.looks += 1
        return super().untold()


async def test_what_was_decided_is_told_once_also_when_the_agent_did_not_run(tmp_path: Path) -> None:
    clock = VirtualClock()
    trust = Looked(tmp_path)
    facts = Certificate("ab" * 20, "cd" * 32, "CN=cnc", "CN=cnc", "urn:cnc", [], 0, 2**60, "")
    trust.note(facts, "cnc-07", Sighting(first_seen=1, last_seen=1, faults=["expired"]))
    trust.decide("cnc-07", "accepted", 2, ["expired"], "wang")
    stored: list[Record] = []

    async def put(record: Record) -> None:
        stored.append(record)

    async def run_until(count: int) -> None:
        watching = asyncio.create_task(watch_decisions(clock, put, trust))
        before = trust.looks
        await until(lambda: trust.looks > before and len(stored) == count and not trust.untold())
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)

    await run_until(1)
    await run_until(1)  # a new start tells nothing again
    trust.decide("abababab", "rejected", 3, (), "li")
    await run_until(2)
    events = [record for record in stored if isinstance(record, Event)]
    assert [(event.kind, event.facts["who"]) for event in events] == [
        ("certificate_accepted", "wang"),
        ("certificate_rejected", "li"),
    ]
    assert "despite expired" in events[0].message


@pytest.mark.parametrize(
    ("days", "words"), [(12, "ends in 12 days: renew it there"), (-3, "ended on 1969-12-29"), (90, None)]
)
def test_the_status_shows_an_end_within_a_month(days: int, words: str | None) -> None:
    state = {"whose": "server", "subject": "CN=cnc", "thumbprint": "ab", "not_after": days * DAY_NS, "doubt": ""}
    shown = list(status_command._certificates([state], 0))
    assert (words in shown[0]) if words else not shown
