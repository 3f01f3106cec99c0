"""A folder into which recordings are dropped, for the conformance suite."""

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np

from drivers.api import Simulated

SAMPLES = {"de": 512, "nde": 300}
GARBAGE = b"PK\x03\x04 neither this nor that"


@asynccontextmanager
async def simulate() -> AsyncIterator[Simulated]:
    """Yield a folder with a file of each of two tags; what a tag delivers is counted by its samples."""
    with tempfile.TemporaryDirectory() as name:
        folder, away = Path(name) / "waves", Path(name) / "away"
        folder.mkdir()

        def drop(tag: str) -> None:
            np.save(folder / f"{tag}.npy", np.arange(SAMPLES[tag], dtype=np.float32))

        async def cut() -> None:
            folder.rename(away)

        async def spoil(tag: str) -> None:
            (folder / f"{tag}-2.npy").write_bytes(GARBAGE)

        async def garbage() -> None:
            for tag in SAMPLES:
                await spoil(tag)

        async def restore() -> None:
            if away.exists():
                away.rename(folder)
            for tag in SAMPLES:
                (folder / f"{tag}-2.npy").unlink(missing_ok=True)

        for tag in SAMPLES:
            drop(tag)
        tags = {tag: {"file": f"{tag}*", "rate": "6.4 kHz", "unit": "g"} for tag in SAMPLES}
        section = {"files": str(folder), "settle": "0ms", "tags": tags}
        yield Simulated(section, dict(SAMPLES), cut, spoil, garbage, restore)
