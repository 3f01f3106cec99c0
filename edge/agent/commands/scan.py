"""`yulink scan`: serial ports, units on a line, hosts in a range. Says what it is going to send, and asks first."""

import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict

from drivers.api import Scan
from edge.agent.configuration.loader import driver_specs
from edge.core.errors import WrongInput
from edge.core.language import say


def run(
    where: str, units: str, port: int | None, per_second: float, timeout_s: float, *, yes: bool, json_output: bool
) -> int:
    """Print what is found, a line at a time. Returns 0 when anything is, else 1."""
    if per_second <= 0 or timeout_s <= 0:
        raise WrongInput(say("rate and time-out must be above 0"), say("write e.g. --rate 10 --timeout 0.5"))
    scans = (spec.scan for spec in driver_specs().values() if spec.scan is not None)
    numbers = _numbers(units) if units else []
    made = next((scan for make in scans if (scan := make(where, numbers, port, per_second, timeout_s))), None)
    if made is None:
        raise WrongInput(
            say("{where!r} is nothing to scan", where=where),
            say("write nothing for the serial ports, the URL of a line, or a range: 192.168.10.0/28, 192.168.10.5-20"),
        )
    if made.words and not yes and not _agreed(made.words):
        return 1
    return asyncio.run(_print(made, json_output=json_output))


def _agreed(words: str) -> bool:
    print(say("This {words}.", words=words), file=sys.stderr)
    if not sys.stdin.isatty():
        raise WrongInput(say("a scan is only started by somebody who agrees"), say("add --yes"))
    print(say("Go on? [y/N] "), end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes", "是")


async def _print(made: Scan, *, json_output: bool) -> int:
    count = 0
    async for found in made.found():
        count += 1
        unit = "" if found.unit is None else f"  id: {found.unit}"
        print(json.dumps(asdict(found), ensure_ascii=False) if json_output else f"{found.where}{unit}  {found.what}")
        sys.stdout.flush()
    if not count:
        print(say("nothing found"), file=sys.stderr)
    return 0 if count else 1


def _numbers(text: str) -> Sequence[int]:
    """Return the unit ids of `1-32` or `1,3,7-9`. Raises WrongInput."""
    numbers: list[int] = []
    for part in text.split(","):
        first, _, last = part.strip().partition("-")
        if not first.isdecimal() or not (last or first).isdecimal() or not 0 <= int(first) <= int(last or first) <= 255:
            raise WrongInput(say("{text!r} are no unit ids", text=text), say("write e.g. 1-32 or 1,3,7-9"))
        numbers += range(int(first), int(last or first) + 1)
    return numbers
