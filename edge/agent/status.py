"""What a running agent tells about itself: one JSON object to whoever connects to its socket."""

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from edge.core.errors import YulinkError
from edge.core.language import say

SOCKET_NAME = "yulink.sock"
ANSWER_DEADLINE_S = 5.0
ANSWER_BYTES_MAX = 16 << 20

log = logging.getLogger("yulink.status")


@asynccontextmanager
async def serve_status(data_dir: Path, describe: Callable[[], dict[str, Any]]) -> AsyncIterator[None]:
    """Answer each connection to `yulink.sock` in the data directory with `describe()` while the block runs.

    The socket is readable and writable for the agent's user and group only. Where no socket can be made
    (a path above 107 bytes, say) the agent runs without it and says so once.
    """
    path = data_dir / SOCKET_NAME

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, TimeoutError):
            writer.write(json.dumps(describe(), ensure_ascii=False).encode())
            async with asyncio.timeout(ANSWER_DEADLINE_S):
                await writer.drain()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    path.unlink(missing_ok=True)
    try:
        server = await asyncio.start_unix_server(answer, path)
        path.chmod(0o660)
    except OSError as error:
        log.warning(say("`yulink status` will not work: {path}: {error}", path=path, error=error))
        yield
        return
    try:
        async with server:
            yield
    finally:
        path.unlink(missing_ok=True)


async def ask_status(data_dir: Path) -> dict[str, Any]:
    """Return what the agent on this data directory says of itself.

    Raises:
        YulinkError: no agent answers there.
    """
    path = data_dir / SOCKET_NAME
    try:
        async with asyncio.timeout(ANSWER_DEADLINE_S):
            reader, writer = await asyncio.open_unix_connection(path, limit=ANSWER_BYTES_MAX)
            try:
                answer: dict[str, Any] = json.loads(await reader.read())
            finally:
                writer.close()
                with contextlib.suppress(ConnectionError):
                    await writer.wait_closed()
            return answer
    except (OSError, TimeoutError, ValueError) as error:
        raise YulinkError(
            say("no agent answers at {path}", path=path),
            hint=say("start it with `yulink run`, or name its --data-dir"),
        ) from error


def headroom(status: dict[str, Any]) -> str:
    """Return how many hours of outage the log has room for at the present rate, or "–" before that is known."""
    seconds = status["log"]["outage_s"]
    return "–" if seconds is None else f"{min(seconds / 3600, 99_999):,.{0 if seconds > 36_000 else 1}f}"
