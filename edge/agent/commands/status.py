"""`yulink status`: a running agent's state for people."""

import asyncio
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from drivers.api import CertificateState
from edge.agent.certificate_watch import days_left, words
from edge.agent.commands.machine_state import not_judged, standing, zones
from edge.agent.status import ask_status, headroom
from edge.core.language import say

SOON_DAYS = 30


def run(data_dir: Path, *, json_output: bool) -> int:
    """Print the state of the agent on `data_dir` and return the exit code."""
    status = asyncio.run(ask_status(data_dir))
    print(json.dumps(status, ensure_ascii=False, indent=2) if json_output else render(status))
    return 0


def _certificates(listed: Iterable[dict[str, Any]], now: int) -> Iterator[str]:
    """Yield what should be done about certificates: those that end within a month, and those in doubt."""
    for each in listed:
        state = CertificateState(**each)
        if days_left(state.not_after, now) < SOON_DAYS:
            yield words(state, now)
        if state.doubt:
            yield state.doubt


def render(status: dict[str, Any]) -> str:
    """Return the state in lines: site, devices with their reason, log, uplink."""
    lines = [
        say(
            "{site}: running for {seconds:.0f} s, {memory:.0f} MB",
            site=status["site"],
            seconds=status["uptime_s"],
            memory=status["rss_mb"]["core"],
        )
    ]
    for device in status["devices"]:
        reason = f": {device['reason']}" if device["reason"] else ""
        values = say("{read} values, {bad} bad", read=device["values_read"], bad=device["values_bad"])
        lines.append(f"  {device['name']:<16} {device['state']:<10} {values}{reason}")
        if broken := [f"{rule} {count}" for rule, count in device.get("flags", {}).items() if count]:
            lines.append(f"  {'':<27} " + say("doubted: {rules}", rules=", ".join(broken)))
        if reason and device["hint"]:
            lines.append(f"  {'':<27} {device['hint']}")
        lines += [f"  {'':<27} {word}" for word in _certificates(device.get("certificates", ()), status["now"])]
    kept = status["log"]
    lines.append(
        say(
            "log: {megabytes:.1f} MB on disk, {dropped} rows dropped, {thinned} thinned out",
            megabytes=kept["disk_bytes"] / 1e6,
            dropped=kept["rows_dropped_total"],
            thinned=kept["rows_thinned_total"],
        )
    )
    lines.append(say("outage: room for {hours} h without the brain at the present rate", hours=headroom(status)))
    if kept["disk_free_bytes"] < kept["disk_free_min"]:
        lines.append(
            say(
                "disk: {free:.0f} MB free, less than the {guard:.0f} MB of `log: free`; the log does not grow",
                free=kept["disk_free_bytes"] / 1e6,
                guard=kept["disk_free_min"] / 1e6,
            )
        )
    if kept["segments_corrupt_total"]:
        lines.append(say("log: {count} corrupt segments were set aside", count=kept["segments_corrupt_total"]))
    lines += [
        say("log: it was damaged once; the old file is kept as {name}", name=name) for name in kept["damaged_files"]
    ]
    if kept["last_error"]:
        lines.append(say("log: {error}", error=kept["last_error"]))
    for uplink in status["uplinks"]:
        state = say("connected") if uplink["connected"] else say("not connected: {error}", error=uplink["last_error"])
        if uplink["connected"] and uplink["last_error"]:
            state = say("connected, but {error}", error=uplink["last_error"])
        waiting = say("{rows} rows wait to be confirmed", rows=uplink["backlog"]["rows"])
        lines.append(say("uplink {name}: {state}; {waiting}", name=uplink["name"], state=state, waiting=waiting))
        if aside := uplink["backlog"]["quarantined"]:
            lines.append(
                say(
                    "uplink {name}: {count} messages that cannot pass are set aside; see `yulink quarantine list`",
                    name=uplink["name"],
                    count=aside,
                )
            )
    if analytics := status.get("analytics"):
        lines.append(_analytics(analytics, status["rss_mb"].get("worker")))
        views = analytics["views"]
        lines += [f"  {line}" for line in (*standing(views), *zones(views), *not_judged(views))]
    if not status["uplinks"]:
        lines.append(say("uplink: none configured"))
    return "\n".join(lines)


def _analytics(health: dict[str, Any], memory_mb: float | None) -> str:
    if health["state"] != "running" and not health["reason"]:
        return say("analytics: {state}", state=health["state"])
    if health["state"] != "running":
        return say("analytics: {state}: {reason}", state=health["state"], reason=health["reason"])
    standing = [
        each["alarm"]
        for each in health["views"].get("alarms", {}).get("alarms", [])
        if each["state"] in ("active", "returned")
    ]
    line = say(
        "analytics: {tags} derived tags, {rows} rows; {behind} segments behind; worker {memory:.0f} MB",
        tags=len(health["derived_tags"]),
        rows=health["rows_derived_total"],
        behind=health["behind"],
        memory=memory_mb or 0.0,
    )
    return line + (say("; alarms: {names}", names=", ".join(standing)) if standing else "")
