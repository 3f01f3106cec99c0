"""What a server has: its tree below Objects, page by page, with types, values, access and units. Bounded everywhere."""

import asyncio
import fnmatch
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from asyncua import ua
from pydantic import ValidationError

from drivers.api import Browsed, BrowsedNode, BrowseWish, DeviceContext, DriverSection
from drivers.opcua.client import FAILURES, REQUEST_TIMEOUT_S, Connection, open_connection
from drivers.opcua.limits import Limits, read_limits
from drivers.opcua.section import OpcUaSection
from drivers.opcua.security import Security
from drivers.opcua.units import NAME as UNITS_NAME
from drivers.opcua.units import shown as shown_unit
from edge.core.errors import Disconnected, WrongInput
from edge.core.language import say
from edge.core.quality import describe

PAGE_MAX = 500
VALUE_CHARS_MAX = 60
_OBJECTS = ua.NodeId(ua.Int32(ua.ObjectIds.ObjectsFolder))
_HAS_PROPERTY = ua.NodeId(ua.Int32(ua.ObjectIds.HasProperty))
_WILD = re.compile(r"[*?]")
_CLASSES = {
    ua.NodeClass.Object: "object",
    ua.NodeClass.Variable: "variable",
    ua.NodeClass.Method: "method",
}


async def browse(target: DriverSection | Mapping[str, Any], context: DeviceContext, wish: BrowseWish) -> Browsed:
    """Return what is below Objects of a server, or below where the glob of the wish begins.

    The server's own description of itself, namespace 0, is left out. A node that is met again, as references may
    lead in circles, is shown where it was met first.

    Raises:
        WrongInput: the address or the glob cannot be used.
        Disconnected: the server cannot be reached, or stops answering.
    """
    section = target if isinstance(target, OpcUaSection) else _section(target)
    connection = await open_connection(section, Security(section, context), context.secret)
    try:
        limits = await read_limits(connection.client)
        walk = _Walk(connection, limits, wish)
        await walk.run()
        nodes = list(walk.found)
        await _describe(connection, limits, nodes)
    except FAILURES as error:
        raise Disconnected(
            say("the server stopped answering: {reason}", reason=str(error) or type(error).__name__)
        ) from error
    finally:
        await connection.close()
    return Browsed(section.opcua, [node.shown for node in nodes], walk.is_cut)


def _section(written: Any) -> OpcUaSection:
    try:
        return OpcUaSection.model_validate({**written, "tags": {"time": {"node": "i=2258"}}})
    except ValidationError as error:
        first = error.errors()[0]
        context = first.get("ctx", {})
        hint = str(context.get("hint", "")) or ".".join(map(str, first["loc"]))
        raise WrongInput(str(context.get("message", first["msg"])), hint) from error


@dataclass(slots=True)
class _Node:
    """A node that was met, with what is still to be asked about it.

    `at` are the places in the glob's steps that its path can be at; the place behind the last step means that it fits.
    """

    id: ua.NodeId
    shown: BrowsedNode
    at: frozenset[int]
    units: ua.NodeId | None = None
    children: list["_Node"] = field(default_factory=list)


class _Walk:
    """One way through the tree, layer by layer; only where the glob can still be met."""

    def __init__(self, connection: Connection, limits: Limits, wish: BrowseWish) -> None:
        self._connection = connection
        self._limits = limits
        self._wish = wish
        self._steps = _steps(wish.match)
        self._seen: set[ua.NodeId] = {_OBJECTS}
        self._top = _Node(_OBJECTS, BrowsedNode("/Objects", "i=85", "Objects", "object", 0), _reach(self._steps, {0}))
        self._count = 0
        self.is_cut = False

    @property
    def found(self) -> Iterator[_Node]:
        """Yield the nodes that fit, as a tree is printed: each before what is below it."""
        waiting = [self._top]
        while waiting:
            node = waiting.pop()
            if len(self._steps) in node.at and (node is not self._top or not self._wish.match):
                yield node
            waiting += reversed(node.children)

    async def run(self) -> None:
        """Go down to the wish's depth, counted from the glob's first wildcard, or to its number of nodes.

        Raises:
            WrongInput: nothing fits the glob.
        """
        fixed = next((at for at, step in enumerate(self._steps) if _WILD.search(step)), len(self._steps))
        layer = [self._top]
        for _ in range(fixed + self._wish.depth):
            await self._below(layer)
            layer = [child for node in layer for child in node.children]
            if not layer or self.is_cut:
                break
        await self._below(layer, keep=False)  # the last layer's units
        if self._wish.match and not any(True for _ in self.found):
            raise WrongInput(
                say("the server has nothing at {path}", path=self._wish.match),
                say("run it without --match, or with --depth 1"),
            )

    async def _below(self, layer: Sequence[_Node], keep: bool = True) -> None:
        """Browse a layer's nodes; children beyond the wished number are left out, which is told.

        A server has few continuation points: who got none is asked again alone.
        """
        waiting = [node for node in layer if node.shown.kind != "method"]
        alone: list[_Node] = []
        while waiting or alone:
            part = waiting[: self._limits.browse] or alone[:1]
            waiting, alone = (waiting[len(part) :], alone) if waiting else ([], alone[1:])
            results = await self._limits.each("browse", part, self._call)
            for node, result in zip(part, results, strict=True):
                code = result.StatusCode.value if result.StatusCode is not None else 0
                if code == ua.StatusCodes.BadNoContinuationPoints and len(part) > 1:
                    alone.append(node)
                else:
                    await self._take(node, result, keep)

    async def _call(self, part: Sequence[_Node]) -> Sequence[Any]:
        parameters = ua.BrowseParameters()
        parameters.RequestedMaxReferencesPerNode = ua.UInt32(PAGE_MAX)
        parameters.NodesToBrowse = [_description(node.id) for node in part]
        return await self._connection.client.uaclient.browse(parameters)

    async def _take(self, node: _Node, result: Any, keep: bool) -> None:
        """Take the references of one node in, page by page, each page within its own deadline."""
        while True:
            for reference in result.References or ():
                self._add(node, reference, keep)
            point = result.ContinuationPoint
            if not point:
                return
            parameters = ua.BrowseNextParameters()
            parameters.ContinuationPoints = [point]
            parameters.ReleaseContinuationPoints = self.is_cut or not result.References
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                answers = await self._connection.client.uaclient.browse_next(parameters)
            if parameters.ReleaseContinuationPoints or not answers:
                return
            result = answers[0]

    def _add(self, parent: _Node, reference: Any, keep: bool) -> None:
        target = reference.NodeId
        name = reference.BrowseName.Name or ""
        if reference.ReferenceTypeId == _HAS_PROPERTY:
            if name == UNITS_NAME:
                parent.units = _local(target)
            return
        local = _local(target)
        at = _follow(self._steps, parent.at, (reference.BrowseName.NamespaceIndex, name))
        is_standard = target.NamespaceIndex == 0 or getattr(target, "ServerIndex", 0)
        if not keep or is_standard or not at or local in self._seen:
            return
        if self._count >= self._wish.nodes_max:
            self.is_cut = True
            return
        self._seen.add(local)
        self._count += 1
        display = (reference.DisplayName.Text if reference.DisplayName else None) or name
        kind = _CLASSES.get(ua.NodeClass(reference.NodeClass), "object")
        shown = BrowsedNode(f"{parent.shown.path}/{name}", local.to_string(), display, kind, parent.shown.depth + 1)
        parent.children.append(_Node(local, shown, at))


def _steps(match: str) -> list[str]:
    """Return the steps of a glob below Objects. Raises WrongInput."""
    if not match:
        return ["**"]
    if not match.startswith("/"):
        raise WrongInput(
            say("{match!r} is not a path", match=match), say("write e.g. '/Objects/Machine/**', in quotes")
        )
    steps = [step for step in match.split("/") if step]
    return steps[1:] if steps and steps[0].removeprefix("0:") == "Objects" else steps


def _reach(steps: Sequence[str], at: set[int]) -> frozenset[int]:
    """Return the places with those behind a `**`, which also stands for nothing."""
    found = set(at)
    for place in sorted(at):
        while place < len(steps) and steps[place] == "**":
            place += 1
            found.add(place)
    return frozenset(found)


def _follow(steps: Sequence[str], at: frozenset[int], name: tuple[int, str]) -> frozenset[int]:
    """Return the places after one more name on the path, none when the glob cannot be met any more."""
    after: set[int] = set()
    for place in at:
        if place < len(steps) and (steps[place] == "**" or _matches(steps[place], name)):
            after.add(place if steps[place] == "**" else place + 1)
    return _reach(steps, after)


def _matches(step: str, name: tuple[int, str]) -> bool:
    index, colon, wanted = step.partition(":")
    if colon and index.isdigit():
        return int(index) == name[0] and fnmatch.fnmatchcase(name[1], wanted)
    return fnmatch.fnmatchcase(name[1], step)


def _local(target: Any) -> ua.NodeId:
    """Return an expanded node id as the plain one that services take."""
    return ua.NodeId(target.Identifier, target.NamespaceIndex, target.NodeIdType)


def _description(node: ua.NodeId) -> ua.BrowseDescription:
    wanted = ua.BrowseDescription()
    wanted.NodeId = node
    wanted.BrowseDirection = ua.BrowseDirection.Forward
    wanted.ReferenceTypeId = ua.NodeId(ua.Int32(ua.ObjectIds.HierarchicalReferences))
    wanted.IncludeSubtypes = True
    wanted.NodeClassMask = ua.UInt32(ua.NodeClass.Object | ua.NodeClass.Variable | ua.NodeClass.Method)
    wanted.ResultMask = ua.UInt32(ua.BrowseResultMask.All)
    return wanted


async def _describe(connection: Connection, limits: Limits, nodes: Sequence[_Node]) -> None:
    """Read values, types, access and units of the variables, and write them into what is shown."""
    variables = [node for node in nodes if node.shown.kind == "variable"]
    ids = [node.id for node in variables]
    values = await _read(connection, limits, ids, ua.AttributeIds.Value)
    types = await _read(connection, limits, ids, ua.AttributeIds.DataType)
    access = await _read(connection, limits, ids, ua.AttributeIds.UserAccessLevel)
    named = await _type_names(connection, limits, types)
    with_units = [node for node in variables if node.units is not None]
    units = await _read(connection, limits, [node.units for node in with_units if node.units], ua.AttributeIds.Value)
    for node, value, kind, level in zip(variables, values, types, access, strict=True):
        shown = node.shown
        shown.type = named.get(_content(kind), "") + _brackets(value)
        shown.value, shown.quality = _shown_value(value)
        bits = _content(level)
        bits = bits if isinstance(bits, int) else 1
        shown.access = ("r" if bits & 1 else "") + ("w" if bits & 2 else "")
    for node, unit in zip(with_units, units, strict=True):
        node.shown.unit = shown_unit(_content(unit))


async def _read(
    connection: Connection, limits: Limits, ids: Sequence[ua.NodeId], attribute: ua.AttributeIds
) -> list[ua.DataValue]:
    async def call(part: Sequence[ua.NodeId]) -> Sequence[Any]:
        return await connection.client.uaclient.read_attributes(list(part), attribute)

    return await limits.each("read", ids, call)


async def _type_names(connection: Connection, limits: Limits, types: Sequence[ua.DataValue]) -> dict[Any, str]:
    """Return the names of data types: those of the standard are known, others are asked for once each."""
    wanted = {content for each in types if isinstance(content := _content(each), ua.NodeId)}
    names: dict[Any, str] = {}
    foreign: list[ua.NodeId] = []
    for each in wanted:
        standard = each.NamespaceIndex == 0 and isinstance(each.Identifier, int)
        known = ua.ObjectIdNames.get(int(each.Identifier)) if standard else None
        if known is None:
            foreign.append(each)
        else:
            names[each] = known
    for each, data in zip(foreign, await _read(connection, limits, foreign, ua.AttributeIds.BrowseName), strict=True):
        content = _content(data)
        names[each] = content.Name if isinstance(content, ua.QualifiedName) and content.Name else each.to_string()
    return names


def _content(data: ua.DataValue) -> Any:
    return data.Value.Value if data.Value is not None else None


def _brackets(data: ua.DataValue) -> str:
    content = _content(data)
    return f"[{len(content)}]" if isinstance(content, list) else ""


def _shown_value(data: ua.DataValue) -> tuple[str, str]:
    """Return a value for people, cut to a line, and its quality where that is not good."""
    status = data.StatusCode.value if data.StatusCode is not None else 0
    content = _content(data)
    if isinstance(content, ua.LocalizedText):
        content = content.Text
    text = "" if content is None else " ".join(str(content).split())
    if len(text) > VALUE_CHARS_MAX:
        text = text[: VALUE_CHARS_MAX - 1] + "…"
    return text, describe(status) if status else ""
