"""What a server can take in one call and at once: its OperationLimits, its profile, and what it refuses."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from asyncua import Client, ua

from drivers.opcua.client import REQUEST_TIMEOUT_S

PER_CALL_MAX = 1000
"""Where a server states no limit (0), so that an answer stays well below a megabyte."""
ITEMS_PER_CALL_MAX = 200
"""Monitored items made in one call: small controllers state 1000 and take out of all proportion longer above 200."""
IN_FLIGHT = 4
"""Calls that wait for their answer at once, so that many small ones do not each cost a round trip."""

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
    items: int = ITEMS_PER_CALL_MAX
    translate: int = PER_CALL_MAX
    browse: int = PER_CALL_MAX
    register: int = PER_CALL_MAX
    subscriptions: int = PER_CALL_MAX

    async def each(
        self, limit: str, given: Sequence[_Given], call: Callable[[Sequence[_Given]], Awaitable[Sequence[Any]]]
    ) -> list[Any]:
        """Return the results of a service over any number of operands, in parts that the server takes.

        A part that is too much for it is halved; the smaller size is kept. Each call has a deadline.

        Raises:
            ua.UaStatusCodeError, OSError, TimeoutError: a call failed otherwise.
        """
        results: list[Any] = [None] * len(given)
        left = [(at, min(len(given), at + getattr(self, limit))) for at in range(0, len(given), getattr(self, limit))]
        while left:
            size = getattr(self, limit)
            turn = [
                (at, min(end, at + size)) for start, end in left[:IN_FLIGHT] for at in range(start, end, size)
            ]  # shorter, where a call before was too much
            turn, left = turn[:IN_FLIGHT], turn[IN_FLIGHT:] + left[IN_FLIGHT:]
            answers = await asyncio.gather(*(_call(call, given[at:end]) for at, end in turn), return_exceptions=True)
            for (at, end), answer in zip(turn, answers, strict=True):
                if not isinstance(answer, BaseException):
                    results[at:end] = answer
                elif isinstance(answer, ua.UaStatusCodeError) and answer.code in _TOO_MUCH and end - at > 1:
                    setattr(self, limit, max(1, min(getattr(self, limit), (end - at) // 2)))
                    left.insert(0, (at, end))
                else:
                    raise answer
        return results


async def _call(call: Callable[[Sequence[_Given]], Awaitable[Sequence[Any]]], part: Sequence[_Given]) -> Sequence[Any]:
    async with asyncio.timeout(REQUEST_TIMEOUT_S):
        answer = await call(part)
    if len(answer) != len(part):
        raise ua.UaError(f"{len(answer)} results for {len(part)} operands")
    return answer


_STATED = {
    "read": ua.ObjectIds.Server_ServerCapabilities_OperationLimits_MaxNodesPerRead,
    "items": ua.ObjectIds.Server_ServerCapabilities_OperationLimits_MaxMonitoredItemsPerCall,
    "translate": ua.ObjectIds.Server_ServerCapabilities_OperationLimits_MaxNodesPerTranslateBrowsePathsToNodeIds,
    "browse": ua.ObjectIds.Server_ServerCapabilities_OperationLimits_MaxNodesPerBrowse,
    "register": ua.ObjectIds.Server_ServerCapabilities_OperationLimits_MaxNodesPerRegisterNodes,
    "subscriptions": ua.ObjectIds.Server_ServerCapabilities_MaxSubscriptionsPerSession,
}


async def read_limits(client: Client) -> Limits:
    """Ask a server for its limits. What it does not say is not limited."""
    limits = Limits()
    nodes = [*_STATED.values(), ua.ObjectIds.Server_ServerCapabilities_ServerProfileArray]
    try:
        found = await _values(client, nodes)
    except ua.UaStatusCodeError as error:
        if error.code not in _TOO_MUCH:
            raise
        found = [each for node in nodes for each in await _values(client, [node])]
    for name, stated in zip(_STATED, found, strict=False):
        if isinstance(stated, int) and 0 < stated < getattr(limits, name):
            setattr(limits, name, stated)
    profiles = found[-1]
    if isinstance(profiles, list) and any(small in str(one) for one in profiles for small in _SMALL_PROFILES):
        # A micro device promises one subscription and few items; it states no limits.
        limits.subscriptions, limits.items, limits.read = 1, min(limits.items, 50), min(limits.read, 50)
    return limits


async def _values(client: Client, nodes: Sequence[int]) -> list[Any]:
    async with asyncio.timeout(REQUEST_TIMEOUT_S):
        data = await client.uaclient.read_attributes([ua.NodeId(ua.Int32(one)) for one in nodes], ua.AttributeIds.Value)
    return [one.Value.Value if one.Value is not None else None for one in data]
