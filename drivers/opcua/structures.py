"""Structures of a server's own types, decoded by the definitions it gives (OPC 10000-3, 8.48; OPC 10000-6, 5.2.6).

Each server numbers its types as it likes, so its definitions are known to its own session only.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from asyncua import Client, ua
from asyncua.common.utils import Buffer
from asyncua.ua.ua_binary import unpack_uatype

from drivers.opcua.client import REQUEST_TIMEOUT_S

DEPTH_MAX = 10
LENGTH_MAX = 100_000
_BUILT_IN_MAX = 25
_ABSTRACT_NUMBERS = (26, 27, 28)  # Number, Integer, UInteger travel as a Variant
_ENUMERATION = 29


@dataclass(frozen=True, slots=True)
class Field:
    """One field: a built-in type, or another structure by its data type's node id."""

    name: str
    type: ua.VariantType | ua.NodeId
    is_array: bool
    dimensions: int
    is_optional: bool


@dataclass(frozen=True, slots=True)
class Structure:
    """A structure's layout: its fields in their order; `kind` tells optional fields and unions from plain ones."""

    kind: ua.StructureType
    fields: tuple[Field, ...]


class Definitions:
    """What one server says of its structures."""

    def __init__(self) -> None:
        self._types: dict[ua.NodeId, Structure | ua.VariantType | None] = {}
        self._of_encoding: dict[ua.NodeId, ua.NodeId | None] = {}

    async def learn(self, client: Client, values: Iterable[Any]) -> None:
        """Ask the server for the definitions of the structures among these values. What it does not say stays unknown.

        Raises:
            OSError, TimeoutError: the connection failed.
        """
        for encoding in {each.TypeId for value in values for each in _opaque(value)} - self._of_encoding.keys():
            try:
                async with asyncio.timeout(2 * REQUEST_TIMEOUT_S):
                    (reference,) = await client.get_node(encoding).get_references(
                        ua.ObjectIds.HasEncoding, ua.BrowseDirection.Inverse
                    )
                    await self._define(client, reference.NodeId)
                self._of_encoding[encoding] = reference.NodeId
            except (ua.UaError, ValueError):
                self._of_encoding[encoding] = None

    async def _define(self, client: Client, type_: ua.NodeId, depth: int = 0) -> None:
        """Learn one data type and those of its fields: a structure, or which built-in type it is made of."""
        if type_ in self._types or depth > DEPTH_MAX:
            return
        if type_.NamespaceIndex == 0 and isinstance(type_.Identifier, int):
            if 0 < type_.Identifier <= _BUILT_IN_MAX and type_.Identifier != ua.VariantType.ExtensionObject.value:
                self._types[type_] = ua.VariantType(type_.Identifier)
                return
            if type_.Identifier in (*_ABSTRACT_NUMBERS, _ENUMERATION):
                whole = type_.Identifier == _ENUMERATION
                self._types[type_] = ua.VariantType.Int32 if whole else ua.VariantType.Variant
                return
        self._types[type_] = None
        node = client.get_node(type_)
        try:
            definition = await node.read_data_type_definition()
        except ua.UaError:
            definition = None
        if isinstance(definition, ua.StructureDefinition):
            fields = definition.Fields or []
            for field in fields:
                await self._define(client, field.DataType, depth + 1)
            self._types[type_] = Structure(definition.StructureType, tuple(map(self._field, fields)))
            return
        for base in await node.get_references(ua.ObjectIds.HasSubtype, ua.BrowseDirection.Inverse):
            await self._define(client, base.NodeId, depth + 1)
            known = self._types.get(base.NodeId)
            self._types[type_] = known if isinstance(known, ua.VariantType) else None

    def _field(self, field: ua.StructureField) -> Field:
        known = self._types.get(field.DataType)
        type_ = known if isinstance(known, ua.VariantType) else field.DataType
        return Field(field.Name or "", type_, field.ValueRank >= 0, field.ValueRank, bool(field.IsOptional))

    def decode(self, value: Any) -> Any:
        """Return a value whose structures are mappings of their fields. One that is not known stays as it is."""
        if isinstance(value, list):
            return [self.decode(each) for each in value]
        if not isinstance(value, ua.ExtensionObject) or value.Body is None:
            return value
        type_ = self._of_encoding.get(value.TypeId)
        if type_ is None:
            return value
        try:
            return self._structure(type_, Buffer(value.Body), 0)
        except Exception:
            return value  # not what its definition says: no part of it can be trusted

    def _structure(self, type_: ua.NodeId, body: Buffer, depth: int) -> dict[str, Any]:
        layout = self._types.get(type_)
        if not isinstance(layout, Structure) or depth > DEPTH_MAX:
            raise ua.UaError(f"unknown type {type_}")
        if layout.kind is ua.StructureType.Union:
            chosen = unpack_uatype(ua.VariantType.UInt32, body)
            return {one.name: self._value(one, body, depth) for one in layout.fields[chosen - 1 : chosen] if chosen}
        present = -1
        if layout.kind is ua.StructureType.StructureWithOptionalFields:
            present = unpack_uatype(ua.VariantType.UInt32, body)
        found: dict[str, Any] = {}
        bit = 1
        for field in layout.fields:
            if not field.is_optional or present & bit:
                found[field.name] = self._value(field, body, depth)
            bit <<= field.is_optional
        return found

    def _value(self, field: Field, body: Buffer, depth: int) -> Any:
        if not field.is_array:
            return self._one(field.type, body, depth)
        length = unpack_uatype(ua.VariantType.Int32, body)
        if field.dimensions > 1:
            sizes = [unpack_uatype(ua.VariantType.Int32, body) for _ in range(max(0, length))]
            length = 1
            for size in sizes:
                length *= size
        if length > LENGTH_MAX:
            raise ua.UaError(f"{length} elements")
        return [self._one(field.type, body, depth) for _ in range(max(0, length))]

    def _one(self, type_: ua.VariantType | ua.NodeId, body: Buffer, depth: int) -> Any:
        if isinstance(type_, ua.NodeId):
            return self._structure(type_, body, depth + 1)
        value = unpack_uatype(type_, body)
        if type_ is ua.VariantType.UInt64:
            return ua.UInt64(value)  # a plain integer would not say that it has no sign
        return value.Value if isinstance(value, ua.Variant) else self.decode(value)


def _opaque(value: Any) -> list[ua.ExtensionObject]:
    """Return the structures that asyncua does not know."""
    values = value if isinstance(value, list) else [value]
    return [one for one in values if isinstance(one, ua.ExtensionObject) and one.Body is not None]
