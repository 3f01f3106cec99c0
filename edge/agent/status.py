"""The socket of a running agent: it tells about itself, and takes orders; one JSON object a connection."""

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from edge.core.errors import WrongInput, YulinkError
from edge.core.language import say

SOCKET_NAME = "yulink.sock"
ANSWER_DEADLINE_S = 5.0
ANSWER_BYTES_MAX = 16 << 20

log = logging.getLogger("yulink.status")


class NoAgent(YulinkError):
    """No agent runs on this data directory, or none that can be reached."""


Order = Callable[[Mapping[str, Any]], Awaitable[dict[str, Any]]]
"""Does what somebody asks for, with the arguments given, and returns what came of it."""


@asynccontextmanager
async def serve_status(
    data_dir: Path, describe: Callable[[], dict[str, Any]], orders: Mapping[str, Order] | None = None
) -> AsyncIterator[None]:
    """Answer each connection to `yulink.sock` in the data directory while the block runs.

    An empty line, or none, is answered with `describe()`; a JSON object whose `order` is one of `orders`, with what
    that returns, or with `error` and `hint`. The socket is for the agent's user and group only. Where none can be made
    (a path above 107 bytes, say) the agent runs without it and says so once.
    """
    path = data_dir / SOCKET_NAME

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, TimeoutError, ValueError):
            async with asyncio.timeout(ANSWER_DEADLINE_S):
                line = await reader.readline()
            told = await _obey(line, orders or {}) if line.strip() else describe()
            writer.write(json.dumps(told, ensure_ascii=False).encode())
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


async def _obey(line: bytes, orders: Mapping[str, Order]) -> dict[str, Any]:
    try:
        asked = json.loads(line)
        order = orders[asked["order"]]
    except (ValueError, KeyError, TypeError):
        return {"error": say("the agent does not know this order"), "hint": say("is it of another version?")}
    try:
        return await order(asked)
    except YulinkError as error:
        return {"error": error.message, "hint": error.hint, "wrong_input": isinstance(error, WrongInput)}


async def ask_status(data_dir: Path) -> dict[str, Any]:
    """Return what the agent on this data directory says of itself. Raises NoAgent."""
    return await _ask(data_dir, b"\n")


async def give_order(data_dir: Path, order: str, **arguments: Any) -> dict[str, Any]:
    """Have the agent on this data directory do something; see `serve_status`. Returns its answer.

    Raises:
        NoAgent: none answers there.
        YulinkError: it did not do it, with its own reason.
    """
    told = await _ask(data_dir, json.dumps({"order": order, **arguments}).encode() + b"\n")
    if "error" in told:
        raise (WrongInput if told.get("wrong_input") else YulinkError)(told["error"], told.get("hint", ""))
    return told


async def _ask(data_dir: Path, line: bytes) -> dict[str, Any]:
    path = data_dir / SOCKET_NAME
    try:
        async with asyncio.timeout(ANSWER_DEADLINE_S):
            reader, writer = await asyncio.open_unix_connection(path, limit=ANSWER_BYTES_MAX)
            try:
                writer.write(line)
                answer: dict[str, Any] = json.loads(await reader.read())
            finally:
                writer.close()
                with contextlib.suppress(ConnectionError):
                    await writer.wait_closed()
            return answer
    except (OSError, TimeoutError, ValueError) as error:
        raise NoAgent(
            say("no agent answers at {path}", path=path),
            hint=say("start it with `yulink run`, or name its --data-dir"),
        ) from error


def headroom(status: dict[str, Any]) -> str:
    """Return how many hours of outage the log has room for at the present rate, or "–" before that is known."""
    seconds = status["log"]["outage_s"]
    return "–" if seconds is None else f"{min(seconds / 3600, 99_999):,.{0 if seconds > 36_000 else 1}f}"
