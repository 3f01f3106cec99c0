"""From what the user wrote to nodes: ids as they are, browse paths and globs looked up at each connect."""

import fnmatch
import re
from collections.abc import Iterable, Sequence
from typing import Any

from asyncua import Client, ua

from drivers.opcua.limits import Limits

FOUND_MAX = 20_000
DEPTH_MAX = 16
_WILD = re.compile(r"[*?]")
_OBJECTS = ua.NodeId(ua.Int32(ua.ObjectIds.ObjectsFolder))
_CLASSES = ua.NodeClass.Object | ua.NodeClass.Variable
_WANTED = int(
    ua.BrowseResultMask.BrowseName
    | ua.BrowseResultMask.NodeClass
    | ua.BrowseResultMask.DisplayName
    | ua.BrowseResultMask.ReferenceTypeId
)
_PROPERTY = ua.NodeId(ua.Int32(ua.ObjectIds.HasProperty))


def is_path(node: str) -> bool:
    """Tell whether it is a browse path or a glob and not a node id."""
    return node.startswith("/")


def is_glob(node: str) -> bool:
    """Tell whether it may stand for several nodes."""
    return is_path(node) and _WILD.search(node) is not None


def _steps(path: str) -> list[str]:
    steps = [step for step in path.split("/") if step]
    return steps[1:] if steps and steps[0].removeprefix("0:") == "Objects" else steps


def _names(step: str) -> tuple[int | None, str]:
    """Return namespace index, None for any, and name of a step such as `2:Speed` or `Speed`."""
    index, colon, name = step.partition(":")
    return (int(index), name) if colon and index.isdigit() else (None, step)


async def children(client: Client, limits: Limits, nodes: Sequence[ua.NodeId]) -> list[list[Any]]:
    """Return the references to objects and variables below each node, all pages of them; none for one not there."""

    async def call(part: Sequence[ua.NodeId]) -> Sequence[Any]:
        parameters = ua.BrowseParameters()
        parameters.RequestedMaxReferencesPerNode = ua.UInt32(0)
        parameters.NodesToBrowse = [_description(node) for node in part]
        return await client.uaclient.browse(parameters)

    results = await limits.each("browse", nodes, call)
    found = []
    for result in results:
        references = list(result.References or ())
        point = result.ContinuationPoint
        while point:
            following = ua.BrowseNextParameters()
            following.ContinuationPoints = [point]
            (more,) = await client.uaclient.browse_next(following)
            references += more.References or ()
            point = more.ContinuationPoint
        found.append(references)
    return found


def _description(node: ua.NodeId) -> ua.BrowseDescription:
    wanted = ua.BrowseDescription()
    wanted.NodeId = node
    wanted.BrowseDirection = ua.BrowseDirection.Forward
    wanted.ReferenceTypeId = ua.NodeId(ua.Int32(ua.ObjectIds.HierarchicalReferences))
    wanted.IncludeSubtypes = True
    wanted.NodeClassMask = ua.UInt32(_CLASSES)
    wanted.ResultMask = ua.UInt32(_WANTED)
    return wanted


async def resolve(client: Client, limits: Limits, wanted: Iterable[str]) -> dict[str, list[tuple[str, ua.NodeId]]]:
    """Return for each node as written its nodes, each with its path from where the glob begins ("" for a plain one).

    A path that leads nowhere has no nodes.
    """
    found: dict[str, list[tuple[str, ua.NodeId]]] = {}
    walk = _Walk(client, limits)
    for node in dict.fromkeys(wanted):
        if is_path(node):
            found[node] = await walk.find(_steps(node))
        else:
            found[node] = [("", ua.NodeId.from_string(node))]
    return found


class _Walk:
    """Searches that share what they have browsed."""

    def __init__(self, client: Client, limits: Limits) -> None:
        self._client = client
        self._limits = limits
        self._known: dict[ua.NodeId, list[Any]] = {}

    async def _below(self, nodes: Sequence[ua.NodeId]) -> None:
        unknown = [node for node in dict.fromkeys(nodes) if node not in self._known]
        for node, references in zip(unknown, await children(self._client, self._limits, unknown), strict=True):
            self._known[node] = references

    async def find(self, steps: Sequence[str]) -> list[tuple[str, ua.NodeId]]:
        at: list[tuple[str, ua.NodeId, bool]] = [("", _OBJECTS, False)]
        wild = False
        for step in steps:
            wild = wild or _WILD.search(step) is not None
            if step == "**":
                at = await self._all_below(at)
                continue
            await self._below([node for _, node, _ in at])
            at = [
                (_join(path, reference.BrowseName.Name) if wild else "", reference.NodeId, _is_variable(reference))
                for path, node, _ in at
                for reference in self._known[node]
                if _matches(step, reference.BrowseName)
            ]
        unique = {node: path for path, node, variable in at if variable}
        return [(path, node) for node, path in unique.items()]

    async def _all_below(self, at: list[tuple[str, ua.NodeId, bool]]) -> list[tuple[str, ua.NodeId, bool]]:
        """Return everything below, each node once: references may lead in circles."""
        seen = {node for _, node, _ in at}
        found, layer = list(at), at
        for _ in range(DEPTH_MAX):
            await self._below([node for _, node, _ in layer])
            following = []
            for path, node, is_variable in layer:
                for reference in self._known[node]:
                    if is_variable and reference.ReferenceTypeId == _PROPERTY:
                        continue  # a unit or a range describes its variable and is no value of the machine
                    if reference.NodeId not in seen and not _is_standard(reference):
                        seen.add(reference.NodeId)
                        name = _join(path, reference.BrowseName.Name)
                        following.append((name, reference.NodeId, _is_variable(reference)))
            layer = following
            found += layer
            if not layer or len(found) > FOUND_MAX:
                break
        return found[:FOUND_MAX]


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _is_variable(reference: Any) -> bool:
    return bool(reference.NodeClass == ua.NodeClass.Variable)


def _is_standard(reference: Any) -> bool:
    """The server's own description of itself is not the machine's data."""
    return bool(reference.NodeId.NamespaceIndex == 0)


def _matches(step: str, name: Any) -> bool:
    index, wanted = _names(step)
    return (index is None or index == name.NamespaceIndex) and fnmatch.fnmatchcase(name.Name or "", wanted)
