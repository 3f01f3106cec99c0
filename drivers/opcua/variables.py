"""The variables of a session: found by id, path or glob, read once, and given the tags that their values need."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from asyncua import ua

from drivers.opcua.client import REQUEST_TIMEOUT_S, Connection
from drivers.opcua.limits import Limits
from drivers.opcua.parts import is_composite, kind_of_part, pick
from drivers.opcua.resolve import is_glob, resolve
from drivers.opcua.rows import Items, Parts, Picked, Wave
from drivers.opcua.section import OpcUaTag
from drivers.opcua.structures import Definitions
from drivers.opcua.values import kind_of, kind_of_number, kind_of_type
from edge.core.catalogue import Tag, ValueKind

if TYPE_CHECKING:
    from drivers.opcua.driver import OpcUaDriver


@dataclass(slots=True, eq=False)
class Item:
    """A variable that is read.

    tag        its settings; for one that a glob found, those of the glob
    node       None while its path leads nowhere
    handle     -1 until it has a tag
    guessed    the kind of its values is not known yet
    read_as    what a poll reads: the registered node
    shown      node and first value, for people
    """

    name: str
    tag: OpcUaTag
    node: ua.NodeId | None
    every: float
    handle: int = -1
    guessed: bool = False
    read_as: ua.NodeId | None = None
    shown: str = ""


class Variables:
    """Finds the variables of one connection and learns what they hold."""

    def __init__(
        self, driver: "OpcUaDriver", connection: Connection, limits: Limits, definitions: Definitions, rows: Items
    ) -> None:
        self._driver = driver
        self._connection = connection
        self._limits = limits
        self._rows = rows
        self._definitions = definitions
        self._words: dict[ua.NodeId, dict[int, str]] = {}

    async def find(self, tags: Mapping[str, OpcUaTag]) -> list[Item]:
        """Return an item for each tag, without a node where nothing is found, and one for each node of a glob."""
        found = await resolve(self._connection.client, self._limits, [tag.node for tag in tags.values()])
        items: list[Item] = []
        for name, tag in tags.items():
            every = self._driver.interval(tag)
            nodes = found[tag.node]
            if not is_glob(tag.node) or not nodes:
                items.append(Item(name, tag, nodes[0][1] if nodes else None, every, shown=tag.node))
                continue
            taken: set[str] = set()
            for path, node in nodes:
                own, number = f"{name}[{path}]", 2
                while own in taken:  # browse names need not be unique
                    own, number = f"{name}[{path}.{number}]", number + 1
                taken.add(own)
                items.append(Item(own, tag, node, every, shown=node.to_string()))
        return items

    async def read(
        self, items: Sequence[Item], attribute: ua.AttributeIds = ua.AttributeIds.Value
    ) -> dict[str, ua.DataValue]:
        """Return one attribute of each item that has a node, by name."""
        known = [item for item in items if item.node is not None]

        async def call(part: Sequence[Item]) -> Sequence[Any]:
            nodes = [item.node for item in part if item.node is not None]
            return await self._connection.client.uaclient.read_attributes(nodes, attribute)

        results = await self._limits.each("read", known, call)
        return {item.name: data for item, data in zip(known, results, strict=True)}

    async def describe(self, items: Sequence[Item], first: Mapping[str, ua.DataValue]) -> None:
        """Give each item its tag. Where the value does not say the kind, its data type does."""
        values = [data.Value.Value for data in first.values() if data.Value is not None]
        await self._definitions.learn(self._connection.client, values)
        asked = [item for item in items if item.node is not None and self._needs_type(item, first)]
        types = await self.read(asked, ua.AttributeIds.DataType)
        for item in items:
            variant = types[item.name].Value if item.name in types else None
            type_ = variant.Value if variant is not None else None
            words: Mapping[int, str] = {}
            if item.tag.type == "text" and isinstance(type_, ua.NodeId):
                if type_ not in self._words:
                    self._words[type_] = await self._enumeration(type_)
                words = self._words[type_]
            self._place(item, *self._meaning(item, first.get(item.name), kind_of_type(type_), words))

    def with_unit(self, items: Sequence[Item]) -> list[tuple[int, ua.NodeId]]:
        """Return tag and node of those that have a unit in the configuration."""
        return [
            (tag.id, item.node)
            for item in items
            if item.tag.unit and item.node is not None and item.handle >= 0
            and (tag := self._rows.tags[item.handle]) is not None
        ]  # fmt: skip

    def _needs_type(self, item: Item, first: Mapping[str, ua.DataValue]) -> bool:
        known = item.tag.type is not None or item.name in self._driver.tags
        return item.tag.type == "text" or (kind_of(first[item.name]) is None and not known)

    def _place(self, item: Item, tag: Tag | None, form: Picked | Parts | Wave | None) -> None:
        if item.handle < 0:
            item.handle = self._rows.add(tag, form, item.tag.deadband or 0.0)
        else:
            self._rows.change(item.handle, tag, form)

    def _meaning(
        self, item: Item, data: ua.DataValue | None, stated: ValueKind | None, words: Mapping[int, str]
    ) -> tuple[Tag | None, Picked | Parts | Wave | None]:
        """Return an item's tag, or None for a value with parts, and the form of its values."""
        driver, tag = self._driver, item.tag
        value = self._definitions.decode(data.Value.Value) if data is not None and data.Value is not None else None
        if tag.rate is not None:
            return driver.intern(item.name, ValueKind.WAVEFORM, tag.unit), Wave(tag.rate, tag.full_scale or 0.0)
        given = ValueKind(tag.type) if tag.type else None
        if tag.pick is None and is_composite(value):

            def tag_of(part: str, kind: ValueKind) -> Tag:
                whole, bracket, path = item.name.removesuffix("]").partition("[")
                return driver.intern(f"{whole}[{path}{'.' * bool(bracket)}{part}]", given or kind, tag.unit)

            return None, Parts(tag_of)
        kind, form = kind_of(data) if data is not None else None, None
        if tag.pick is not None:
            form = Picked(tuple(tag.pick.split(".")), words)
            kind = _kind_of_pick(value, form.steps, data)
        elif words:
            form = Picked((), words)
        known = driver.tags.get(item.name)
        kind = given or kind or (known.kind if known else None) or stated
        item.guessed = kind is None
        return driver.intern(item.name, kind or ValueKind.FLOAT64, tag.unit), form

    async def _enumeration(self, type_: ua.NodeId) -> dict[int, str]:
        """Return the words of an enumeration's numbers; none for any other type."""
        node = self._connection.client.get_node(type_)
        async with asyncio.timeout(2 * REQUEST_TIMEOUT_S):
            with suppress(ua.UaError):  # older servers have only the properties
                definition = await node.read_data_type_definition()
                if isinstance(definition, ua.EnumDefinition):
                    return {int(one.Value): one.DisplayName.Text or one.Name or "" for one in definition.Fields or ()}
            try:
                for property_ in await node.get_properties():
                    name = (await property_.read_browse_name()).Name
                    if name == "EnumStrings":
                        return {at: one.Text or "" for at, one in enumerate(await property_.read_value())}
                    if name == "EnumValues":
                        return {int(one.Value): one.DisplayName.Text or "" for one in await property_.read_value()}
            except ua.UaStatusCodeError:
                return {}
        return {}


def _kind_of_pick(value: Any, steps: Sequence[str], data: ua.DataValue | None) -> ValueKind | None:
    try:
        part = pick(value, steps)
    except LookupError:
        return None
    variant = data.Value.VariantType if data is not None and data.Value is not None else None
    return None if part is None else kind_of_part(part, kind_of_number(variant))
