"""The gap of a lost connection, read from the server's own history (OPC 10000-11, 6.4.3)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from asyncua import ua

from drivers.opcua.client import Connection
from drivers.opcua.limits import Limits
from drivers.opcua.values import parts_of

ROWS_PER_CALL = 1000
PAGES_MAX = 100
HISTORICAL = 0x400
"""InfoType DataValue with no other bit: "raw data from a historian" (OPC 10000-11, 6.2); live values have 0 there."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Gap:
    """What is missing of one variable: rows after `start`, ns since 1970 UTC."""

    handle: int
    node: ua.NodeId
    start: int
    point: bytes | None = None


async def read_gaps(
    connection: Connection, limits: Limits, gaps: Sequence[Gap], end: int
) -> list[tuple[int, tuple[int, Any, int]]]:
    """Return (handle, (ts, value, status)) of what the server recorded between each start and `end`, marked historical.

    A variable without a history has none. At most a hundred thousand rows of each.

    Raises:
        ua.UaStatusCodeError, OSError, TimeoutError: the service failed; the server may have no history at all.
    """
    found: list[tuple[int, tuple[int, Any, int]]] = []
    waiting = list(gaps)
    for _ in range(PAGES_MAX):
        if not waiting:
            break

        async def call(part: Sequence[Gap]) -> Sequence[Any]:
            return await connection.client.uaclient.history_read(_parameters(part, end))

        following = []
        for gap, result in zip(waiting, await limits.each("history", waiting, call), strict=True):
            if result.StatusCode.is_bad():
                continue
            data = result.HistoryData
            for value in (getattr(data, "DataValues", None) or ()) if data is not None else ():
                ts, content, status = parts_of(value, 0)
                if gap.start < ts < end and not status & 0x80000000:
                    found.append((gap.handle, (ts, content, status | HISTORICAL)))
            if result.ContinuationPoint:
                following.append(replace(gap, point=bytes(result.ContinuationPoint)))
        waiting = following
    return sorted(found, key=lambda one: one[1][0])


def _parameters(gaps: Sequence[Gap], end: int) -> ua.HistoryReadParameters:
    details = ua.ReadRawModifiedDetails()
    details.IsReadModified = False
    # asyncua writes naive and aware times alike as UTC.
    details.StartTime = _time(min(gap.start for gap in gaps))
    details.EndTime = _time(end)
    details.NumValuesPerNode = ua.UInt32(ROWS_PER_CALL)
    details.ReturnBounds = False
    parameters = ua.HistoryReadParameters()
    parameters.HistoryReadDetails = details
    parameters.TimestampsToReturn = ua.TimestampsToReturn.Both
    parameters.ReleaseContinuationPoints = False
    for gap in gaps:
        node = ua.HistoryReadValueId()
        node.NodeId = gap.node
        if gap.point is not None:
            node.ContinuationPoint = gap.point
        parameters.NodesToRead.append(node)
    return parameters


def _time(ts: int) -> datetime:
    return _EPOCH + timedelta(microseconds=ts // 1000)
