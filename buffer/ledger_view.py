"""The ledger of a log that another process may be writing, or nobody."""

from pathlib import Path

from buffer.ledger_devices import Devices
from buffer.ledger_lines import lines
from buffer.view import open_view
from edge.core.ledger import Line


async def read_ledger(path: Path, first: int, last: int, *secrets: str | None) -> list[Line]:
    """Return the lines of the hours `first` to `last`, both included, without touching the log.

    `secrets` are the log's own and the one of before, as `open_log` takes them.

    Raises:
        LogError: there is none, or it cannot be read; or it is sealed and the secret is not its own.
    """
    async with open_view(path, *secrets) as view:
        devices = Devices(view.catalogue, view.vault)
        await devices.load(view.fetch)
        consumers = [str(name) for (name,) in await view.fetch("SELECT name FROM consumer ORDER BY name")]
        return await lines(view.fetch, devices, consumers, first, last)
