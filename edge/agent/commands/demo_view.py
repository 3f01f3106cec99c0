"""The demo's screen: what the agent says of itself, drawn twice a second; without a terminal a line now and then."""

from collections import deque
from typing import Any

from rich.console import Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from edge.agent.commands.demo_account import Standing
from edge.agent.status import headroom
from edge.core.language import say

EVENTS_SHOWN = 6
RATE_WINDOW_S = 10.0

_STATE_STYLES = {"connected": "green", "connecting": "yellow", "lost": "red"}


class Rates:
    """Values a second of each device over the last seconds, from looks at its counter."""

    def __init__(self) -> None:
        self._looks: dict[str, deque[tuple[float, int]]] = {}

    def of(self, device: dict[str, Any], uptime_s: float) -> float:
        """Return the rate over at most `RATE_WINDOW_S` before this look."""
        looks = self._looks.setdefault(device["name"], deque())
        looks.append((uptime_s, device["values_read"]))
        while len(looks) > 2 and looks[1][0] <= uptime_s - RATE_WINDOW_S:
            looks.popleft()
        then, before = looks[0]
        return (device["values_read"] - before) / (uptime_s - then) if uptime_s > then else 0.0


def draw(status: dict[str, Any], rates: Rates, standing: Standing, title: str) -> Panel:
    """Return the whole screen for one status object."""
    devices = Table(expand=True, box=None, pad_edge=False)
    for heading, justify in (
        (say("device"), "left"),
        (say("protocol"), "left"),
        (say("security"), "left"),
        (say("state"), "left"),
        (say("values"), "right"),
        (say("values/s"), "right"),
        (say("bad"), "right"),
    ):
        devices.add_column(heading, justify=justify)  # type: ignore[arg-type]
    for device in status["devices"]:
        state = f"{device['state']}: {device['reason']}" if device["reason"] else device["state"]
        devices.add_row(
            device["name"],
            device["protocol"],
            device["security"],
            Text(state, _STATE_STYLES[device["state"]]),
            f"{device['values_read']:,}",
            f"{rates.of(device, status['uptime_s']):,.0f}",
            f"{device['values_bad']:,}",
        )
    events = [Text(f"{event['source']}: {event['text']}") for event in status["events"][-EVENTS_SHOWN:]]
    return Panel(Group(devices, Text(), *_facts(status, standing), Text(), *events), title=title)


def _facts(status: dict[str, Any], standing: Standing) -> list[Text]:
    uplink, backlog, kept = status["uplink"], status["backlog"], status["log"]
    link = (
        say(
            "uplink: {protocol} over {tls}, {messages:,} messages, {megabytes:.2f} MB",
            protocol=uplink["protocol"],
            tls=uplink["tls"],
            messages=uplink["messages_total"],
            megabytes=uplink["bytes_total"] / 1e6,
        )
        if uplink["connected"]
        else say("uplink: not connected: {error}", error=uplink["last_error"])
    )
    waiting = say(
        "backlog: {rows:,} rows; the log holds {megabytes:.1f} MB; room for {hours} h without the brain",
        rows=backlog["rows"],
        megabytes=kept["disk_bytes"] / 1e6,
        hours=headroom(status),
    )
    lost = missing(status, standing)
    counted = say(
        "delivered: {delivered:,} values stored by the brain; lost {lost:,}, twice {twice:,}; latency {latency:.0f} ms",
        delivered=standing.values,
        lost=lost,
        twice=standing.duplicated,
        latency=standing.latency_ms,
    )
    return [Text(link), Text(waiting), Text(counted, "bold red" if lost or standing.duplicated else "bold green")]


def missing(status: dict[str, Any], standing: Standing) -> int:
    """Return how many rows the agent holds for confirmed that the brain's store, looked at later, does not hold."""
    confirmed: int = status["log"]["rows_durable_total"] - status["backlog"]["rows"]
    return max(confirmed - standing.rows, 0)


def line(status: dict[str, Any], standing: Standing) -> str:
    """Return the state in one line, for output that is no terminal."""
    up = sum(device["state"] == "connected" for device in status["devices"])
    read = sum(device["values_read"] for device in status["devices"])
    return say(
        "{seconds:.0f} s: {up} of {devices} devices up, {read} values read, {delivered} delivered, {waiting} wait",
        seconds=status["uptime_s"],
        up=up,
        devices=len(status["devices"]),
        read=read,
        delivered=standing.values,
        waiting=status["backlog"]["rows"],
    )
