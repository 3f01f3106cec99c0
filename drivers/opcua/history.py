"""What is missing, read from the server's own history (OPC 10000-11, 6.4.3)."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from asyncua import ua

from drivers.opcua.client import REQUEST_TIMEOUT_S, Connection
from drivers.opcua.limits import IN_FLIGHT
from drivers.opcua.values import parts_of
from edge.core.quality import is_bad

ROWS_PER_CALL = 1000
HISTORICAL = 0x400
"""InfoType DataValue with no other bit: "raw data from a historian" (OPC 10000-11, 6.2); live values have 0 there."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Gap:
    """What is missing of one variable: rows between `start` and `end`, both excluded, ns since 1970 UTC.

    point   where the server goes on, within the session that gave it
    """

    name: str
    start: int
    end: int
    point: bytes | None = None


class Gaps:
    """What is still to be asked from a server's history. A variable without one has no rows there."""

    def __init__(self) -> None:
        self._gaps: list[Gap] = []

    def __bool__(self) -> bool:
        return bool(self._gaps)

    def add(self, name: str, start: int, end: int) -> None:
        """Note that rows are missing between two times, ns since 1970 UTC."""
        if end > start:
            self._gaps.append(Gap(name, start, end))

    def take_over(self, others: "Gaps") -> None:
        """Go on with what another session had begun."""
        self._gaps += [replace(gap, point=None) for gap in others._gaps]

    async def read(
        self, connection: Connection, nodes: Mapping[str, ua.NodeId]
    ) -> dict[str, list[tuple[int, Any, int]]]:
        """Return some of it by variable: rows (ts, value, status), marked historical. The rest stays for the next time.

        Raises:
            OSError, TimeoutError: the connection failed; nothing is forgotten.
        """
        turn = [gap for gap in self._gaps[:IN_FLIGHT] if gap.name in nodes]
        try:
            pages = await asyncio.gather(*(_page(connection, nodes[gap.name], gap) for gap in turn))
        except ua.UaStatusCodeError:
            self._gaps.clear()  # the server has no history
            return {}
        self._gaps = self._gaps[IN_FLIGHT:] + [left for _, left in pages if left is not None]
        found: dict[str, list[tuple[int, Any, int]]] = {}
        for gap, (rows, _) in zip(turn, pages, strict=True):
            found.setdefault(gap.name, []).extend(rows)
        return found


async def _page(connection: Connection, node: ua.NodeId, gap: Gap) -> tuple[list[tuple[int, Any, int]], Gap | None]:
    """Return rows (ts, value, status) of a gap, marked historical, and what of it is left; None when it is done.

    Raises:
        ua.UaStatusCodeError, OSError, TimeoutError: the service failed; the server may have no history at all.
    """
    async with asyncio.timeout(REQUEST_TIMEOUT_S):
        (result,) = await connection.client.uaclient.history_read(_parameters(node, gap))
    if is_bad(int(result.StatusCode.value)):
        return [], None
    values = getattr(result.HistoryData, "DataValues", None) or ()
    read = [parts_of(value, 0) for value in values]
    rows = [(ts, value, status | HISTORICAL) for ts, value, status in read
            if gap.start < ts < gap.end and not is_bad(status)]  # fmt: skip
    last = max((ts for ts, _, _ in read), default=gap.start)
    if last <= gap.start and not result.ContinuationPoint:
        return rows, None
    if result.ContinuationPoint:
        return rows, replace(gap, start=max(last, gap.start), point=bytes(result.ContinuationPoint))
    # A server may cut its answer without saying so.
    return rows, replace(gap, start=last, point=None) if len(read) >= ROWS_PER_CALL else None


def _parameters(node: ua.NodeId, gap: Gap) -> ua.HistoryReadParameters:
    details = ua.ReadRawModifiedDetails()
    details.IsReadModified = False
    details.StartTime = _time(gap.start)
    details.EndTime = _time(gap.end)
    details.NumValuesPerNode = ua.UInt32(ROWS_PER_CALL)
    details.ReturnBounds = False
    parameters = ua.HistoryReadParameters()
    parameters.HistoryReadDetails = details
    parameters.TimestampsToReturn = ua.TimestampsToReturn.Both
    parameters.ReleaseContinuationPoints = False
    wanted = ua.HistoryReadValueId()
    wanted.NodeId = node
    if gap.point is not None:
        wanted.ContinuationPoint = gap.point
    parameters.NodesToRead.append(wanted)
    return parameters


def _time(ts: int) -> datetime:
    return _EPOCH + timedelta(microseconds=ts // 1000)
