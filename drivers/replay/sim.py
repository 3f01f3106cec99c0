"""A recording in a temporary file, for the conformance suite."""

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from drivers.api import Simulated

ROWS = """ts,device,tag,value,quality
2026-01-01T00:00:00Z,machine,speed,1480.5,
2026-01-01T00:00:00.010Z,machine,count,18446744073709551615,0
2026-01-01T00:00:00.020Z,machine,running,true,
2026-01-01T00:00:00.030Z,machine,program,法兰-7,0x40000000
2026-01-01T00:00:00.030Z,other,speed,1,
"""


async def _nothing() -> None:
    """There is no connection to disturb."""


@asynccontextmanager
async def simulate() -> AsyncIterator[Simulated]:
    """Yield a recording of four tags of the device `machine`."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rows.csv"
        file.write_text(ROWS, "utf-8")
        tags = {
            "speed": {"unit": "rpm"},
            "count": {"type": "uint64"},
            "running": {"type": "bool"},
            "program": {"type": "text"},
        }
        expected: dict[str, bool | int | float | str] = {
            "speed": 1480.5,
            "count": 2**64 - 1,
            "running": True,
            "program": "法兰-7",
        }
        yield Simulated({"replay": str(file), "tags": tags}, expected, None, None, None, _nothing)
