"""What a server can take in one call and at once: its OperationLimits, its profile, and what it refuses."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from asyncua import Client, ua

from drivers.opcua.client import REQUEST_TIMEOUT_S

PER_CALL_MAX = 1000
"""Where a server states no limit (0), so that an answer stays well below a megabyte."""

_TOO_MUCH = frozenset(
    getattr(ua.StatusCodes, name)
    for name in (
        "BadTooManyOperations", "BadRequestTooLarge", "BadResponseTooLarge", "BadEncodingLimitsExceeded",
        "BadTcpMessageTooLarge",
    )
)  # fmt: skip
_SMALL_PROFILES = ("NanoEmbedded", "MicroEmbedded")

_Given = TypeVar("_Given")


@dataclass(slots=True)
class Limits:
    """How many nodes or items one call may name, how many subscriptions a session may have. Learned on refusal."""

    read: int = PER_CALL_MAX
    items: int = PER_CALL_MAX
    translate: int = PER_CALL_MAX
    browse: int = PER_CALL_MAX
    register: int = PER_CALL_MAX
    history: int = PER_CALL_MAX
    subscriptions: int = PER_CALL_MAX

    async def each(
        self, limit: str, given: Sequence[_Given], call: Callable[[Sequence[_Given]], Awaitable[Sequence[Any]]]
    ) -> list[Any]:
        """Return the results of a service over any number of operands, in parts that the server takes.

        A part that is too much for it is halved; the smaller size is kept. Each call has a deadline.

        Raises:
            ua.UaStatusCodeError, OSError, TimeoutError: the call failed otherwise.
        """
        results: list[Any] = []
        while len(results) < len(given):
            size = getattr(self, limit)
            part = given[len(results) : len(results) + size]
            try:
                async with asyncio.timeout(REQUEST_TIMEOUT_S):
                    answer = await call(part)
            except ua.UaStatusCodeError as error:
                if error.code not in _TOO_MUCH or len(part) == 1:
                    raise
                setattr(self, limit, len(part) // 2)
                continue
            if len(answer) != len(part):
                raise ua.UaError(f"{len(answer)} results for {len(part)} operands")
            results += answer
        return results


_STATED = {
    "read": ua.ObjectIds.Server_ServerCapabilities_OperationLimits_MaxNodesPerRead,
    "items": ua.ObjectIds.Server_ServerCapabilities_OperationLimits_MaxMonitoredItemsPerCall,
    "translate": ua.ObjectIds.Server_ServerCapabilities_OperationLimits_MaxNodesPerTranslateBrowsePathsToNodeIds,
    "browse": ua.ObjectIds.Server_ServerCapabilities_OperationLimits_MaxNodesPerBrowse,
    "register": ua.ObjectIds.Server_ServerCapabilities_OperationLimits_MaxNodesPerRegisterNodes,
    "history": ua.ObjectIds.Server_ServerCapabilities_OperationLimits_MaxNodesPerHistoryReadData,
    "subscriptions": ua.ObjectIds.Server_ServerCapabilities_MaxSubscriptionsPerSession,
}


async def read_limits(client: Client) -> Limits:
    """Ask a server for its limits, one node a call: it may allow no more. What it does not say is not limited."""
    limits = Limits()
    for name, node in _STATED.items():
        stated = await _value(client, node)
        if isinstance(stated, int) and 0 < stated < PER_CALL_MAX:
            setattr(limits, name, stated)
    profiles = await _value(client, ua.ObjectIds.Server_ServerCapabilities_ServerProfileArray)
    if isinstance(profiles, list) and any(small in str(one) for one in profiles for small in _SMALL_PROFILES):
        # A micro device promises one subscription and few items; it states no limits.
        limits.subscriptions, limits.items, limits.read = 1, min(limits.items, 50), min(limits.read, 50)
    return limits


async def _value(client: Client, node: int) -> Any:
    try:
        async with asyncio.timeout(REQUEST_TIMEOUT_S):
            (data,) = await client.uaclient.read_attributes([ua.NodeId(ua.Int32(node))], ua.AttributeIds.Value)
    except ua.UaStatusCodeError as error:
        if error.code in (ua.StatusCodes.BadSessionIdInvalid, ua.StatusCodes.BadSessionClosed):
            raise
        return None
    return data.Value.Value if data.Value is not None else None
