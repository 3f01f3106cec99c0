"""The demo's screen: what the agent says of itself, drawn twice a second; without a terminal a line now and then."""

from typing import Any

from rich.console import Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from edge.core.language import say

EVENTS_SHOWN = 6

_STATE_STYLES = {"connected": "green", "connecting": "yellow", "lost": "red"}


class Rates:
    """Values a second of each device, from two looks at its counter."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[int, int]] = {}

    def of(self, device: dict[str, Any], now: int) -> float:
        """Return the rate since the last call for this device; `now` in nanoseconds."""
        count = device["values_read"]
        before, then = self._last.get(device["name"], (count, now))
        self._last[device["name"]] = (count, now)
        return (count - before) / ((now - then) / 1e9) if now > then else 0.0


def draw(status: dict[str, Any], rates: Rates, delivered: int, title: str) -> Panel:
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
            f"{rates.of(device, status['now']):,.0f}",
            f"{device['values_bad']:,}",
        )
    events = [Text(f"{event['source']}: {event['text']}") for event in status["events"][-EVENTS_SHOWN:]]
    return Panel(Group(devices, Text(), *(_facts(status, delivered)), Text(), *events), title=title)


def _facts(status: dict[str, Any], delivered: int) -> list[Text]:
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
    counted = say("delivered: {delivered:,} rows confirmed and stored by the brain", delivered=delivered)
    return [Text(link), Text(waiting), Text(counted, "bold green")]


def headroom(status: dict[str, Any]) -> str:
    """Return how many hours of outage the log's byte limit holds at the rate so far, or "–" before that is known."""
    kept = status["log"]
    per_second = kept["payload_bytes_total"] / status["uptime_s"] if status["uptime_s"] else 0
    if not per_second:
        return "–"
    hours = (kept["disk_bytes_max"] - kept["disk_bytes"]) / per_second / 3600
    return f"{min(hours, 99_999):,.0f}"


def line(status: dict[str, Any], delivered: int) -> str:
    """Return the state in one line, for output that is no terminal."""
    up = sum(device["state"] == "connected" for device in status["devices"])
    read = sum(device["values_read"] for device in status["devices"])
    return say(
        "{seconds:.0f} s: {up} of {devices} devices up, {read} values read, {delivered} delivered, {waiting} wait",
        seconds=status["uptime_s"],
        up=up,
        devices=len(status["devices"]),
        read=read,
        delivered=delivered,
        waiting=status["backlog"]["rows"],
    )
