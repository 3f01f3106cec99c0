"""What units the server tells of its variables: their property EngineeringUnits (OPC 10000-8, 5.6.3)."""

from collections.abc import Sequence
from typing import Any

from asyncua import Client, ua

from drivers.opcua.limits import Limits
from drivers.opcua.resolve import children

NAME = "EngineeringUnits"


async def told_units(client: Client, limits: Limits, nodes: Sequence[ua.NodeId]) -> list[str]:
    """Return the unit of each variable as the server shows it, "" where it tells none.

    Raises:
        OSError, TimeoutError: the server is gone. What it refuses to tell, it does not tell.
    """
    units = [""] * len(nodes)
    try:
        found = [
            (place, reference.NodeId)
            for place, references in enumerate(await children(client, limits, nodes))
            for reference in references
            if reference.BrowseName.Name == NAME
        ]

        async def call(part: Sequence[tuple[int, ua.NodeId]]) -> Sequence[Any]:
            return await client.uaclient.read_attributes([node for _, node in part], ua.AttributeIds.Value)

        for (place, _), data in zip(found, await limits.each("read", found, call), strict=True):
            units[place] = shown(data.Value.Value if data.Value is not None else None)
    except ua.UaStatusCodeError:
        return units
    return units


def shown(content: Any) -> str:
    """Return the text of a unit; "" for what is none."""
    label = getattr(content, "DisplayName", None)
    return (label.Text or "") if isinstance(label, ua.LocalizedText) else ""
