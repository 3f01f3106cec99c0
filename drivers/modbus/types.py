"""Value types of Modbus: their width, and where each of their bytes lies in the registers.

A register is two bytes, the high one first (Modbus Application Protocol 1.1b3, 4.2). How a wider value is laid over
several registers is the maker's choice; the four orders name the bytes of a 32-bit value as they come over the wire:
ABCD high word first; CDAB low word first; BADC and DCBA the same two with the bytes of each register swapped.
They mean the same for every width: CDAB reverses the words, BADC swaps the bytes in each, DCBA reverses all.
"""

import re
from dataclasses import dataclass
from functools import cache
from typing import Literal

Order = Literal["ABCD", "CDAB", "BADC", "DCBA"]
ORDERS: tuple[Order, ...] = ("ABCD", "CDAB", "BADC", "DCBA")

ELEMENTS_MAX = 65_536
STRING_BYTES_MAX = 250

_WIDTHS = {"u16": 2, "i16": 2, "u32": 4, "i32": 4, "u64": 8, "i64": 8, "f32": 4, "f64": 8}
_DTYPES = {
    "u16": ">u2",
    "i16": ">i2",
    "u32": ">u4",
    "i32": ">i4",
    "u64": ">i8",
    "i64": ">i8",
    "f32": ">f4",
    "f64": ">f8",
}
_PATTERN = re.compile(r"(bool|u16|i16|u32|i32|u64|i64|f32|f64)(?:\[(\d+)\])?|string\[(\d+)\]")

NAMES = "bool, i16, u16, i32, u32, i64, u64, f32, f64, string[20], f32[3]"


@dataclass(frozen=True, slots=True)
class ValueType:
    """A type as written in the configuration, e.g. `f32`, `i16[2048]`, `string[20]`.

    name    element type: "bool", "u16", …, "f64", or "string"
    count   elements: 1 for a single value or a string
    width   bytes of one element (of a string: all of it); a bool has none
    array   written with a length
    """

    name: str
    count: int
    width: int
    array: bool

    @property
    def registers(self) -> int:
        """Registers that all elements take."""
        return (self.width * self.count + 1) // 2

    @property
    def dtype(self) -> str:
        """The big-endian numpy dtype of an element; unsigned 64-bit is read as its int64 bit pattern."""
        return _DTYPES[self.name]

    @property
    def is_float(self) -> bool:
        """Tell whether the elements are floating-point."""
        return self.name in ("f32", "f64")


@cache
def parse_type(text: str) -> ValueType | None:
    """Return the type written as `text`, None when there is none of that name or its length is out of range."""
    match = _PATTERN.fullmatch(text.replace(" ", ""))
    if match is None:
        return None
    name, count, length = match.groups()
    if length is not None:
        return ValueType("string", 1, int(length), False) if 1 <= int(length) <= STRING_BYTES_MAX else None
    elements = int(count or 1)
    if not 1 <= elements <= ELEMENTS_MAX:
        return None
    return ValueType(name, elements, _WIDTHS.get(name, 0), count is not None)


def byte_places(width: int, order: Order) -> list[int]:
    """Return, for each byte of a big-endian value of `width` bytes, its place in the register bytes.

    >>> byte_places(4, "CDAB")
    [2, 3, 0, 1]
    """
    words = [[place, place + 1] for place in range(0, width, 2)]
    if order in ("CDAB", "DCBA"):
        words.reverse()
    if order in ("BADC", "DCBA"):
        words = [word[::-1] for word in words]
    return [place for word in words for place in word]


def text_places(length: int, order: Order) -> list[int]:
    """Return the places of a string's characters: orders that swap bytes do so in each register, words stay."""
    swapped = order in ("BADC", "DCBA")
    return [place ^ 1 if swapped else place for place in range(length)]
