"""How may these registers be meant? Every type and order, one address before and behind, the plausible ones marked.

"It gives 2.4e-41 and nobody knows the byte order" is the commonest question of commissioning; so is the address that
is one off, because manuals count from 1.
"""

import math
import struct
from collections.abc import Iterator, Mapping

from drivers.api import Interpretation, Probe
from drivers.modbus.client import BlockFailed, Client
from drivers.modbus.endpoint import FORMS, parse_url
from drivers.modbus.link import open_link
from drivers.modbus.plan import Request
from drivers.modbus.section import ADDRESSES, Address, parse_address
from drivers.modbus.types import ORDERS, Order, byte_places, parse_type
from edge.core.clock import SystemClock
from edge.core.errors import Disconnected, WrongInput
from edge.core.language import say

TYPES = ("u16", "i16", "u32", "i32", "f32", "u64", "i64", "f64")
WIDEST = 4
SMALLEST, LARGEST = 1e-4, 1e7
NEAR = 0.01
_FORMATS = {"u16": "H", "i16": "h", "u32": "I", "i32": "i", "f32": "f", "u64": "Q", "i64": "q", "f64": "d"}


async def probe(url: str, unit: int, at: str, timeout_s: float, expected: float | None) -> Probe:
    """Read the registers around a place once and interpret them. Implements `drivers.api.DriverSpec.probe`.

    Raises:
        WrongInput: url or place cannot be.
        Disconnected: nothing answers.
    """
    endpoint, address = parse_url(url), parse_address(at)
    if endpoint is None or endpoint.transport in ("tls", "dtu"):
        raise WrongInput(say("{url!r} is not a Modbus address", url=url), say("write one of: {forms}", forms=FORMS))
    if address is None or address.table not in ("holding", "input"):
        raise WrongInput(
            say("{text!r} is not a register", text=at),
            say("write holding/40 or input/6, or as manuals print it: 40041"),
        )
    link = await open_link(endpoint, timeout_s, None, None)
    try:
        words = await _read_around(Client(link, endpoint, SystemClock()), unit, address, timeout_s)
    finally:
        link.close()
    raw = {f"{address.table}/{place}": words[place] for place in sorted(words)}
    return Probe(raw, list(interpret(address, words, expected)))


async def _read_around(client: Client, unit: int, address: Address, timeout_s: float) -> dict[int, int]:
    """Return the words from one before to what the widest type one behind needs, as far as they are there."""
    words: dict[int, int] = {}
    reason = ""
    first, last = max(address.number - 1, 0), min(address.number + WIDEST, ADDRESSES - 1)
    whole = Request(address.table, first, last - first + 1)
    parts = [whole, *(Request(address.table, place, 1) for place in range(first, last + 1))]
    for request in parts:
        try:
            data = await client.read(unit, request, timeout_s)
        except BlockFailed as error:
            reason = reason or str(error)
            continue
        except TimeoutError:
            reason = say("unit {unit} does not answer", unit=unit)
            if request is not whole:
                break  # a silent device is not asked seven times
            continue
        for place in range(request.count):
            words[request.address + place] = int.from_bytes(data[2 * place : 2 * place + 2], "big")
        if request is whole:
            break
    if not words:
        raise Disconnected(reason, say("check the unit id and the address; `yulink scan {url}` lists units", url="URL"))
    return words


def interpret(address: Address, words: Mapping[int, int], expected: float | None) -> Iterator[Interpretation]:
    """Yield each reading of the words: address −1, 0, +1 × types × orders, as far as the words are there."""
    for number in (address.number - 1, address.number, address.number + 1):
        for kind in TYPES:
            value_type = parse_type(kind)
            assert value_type is not None
            registers = [number + place for place in range(value_type.registers)]
            if not all(place in words for place in registers):
                continue
            data = b"".join(words[place].to_bytes(2, "big") for place in registers)
            orders: tuple[Order, ...] = ORDERS if value_type.registers > 1 else ("ABCD", "BADC")
            for order in orders:
                (value,) = struct.unpack(
                    ">" + _FORMATS[kind], bytes(data[place] for place in byte_places(value_type.width, order))
                )
                scale = _scale(value, expected)
                yield Interpretation(
                    at=f"{address.table}/{number}",
                    type=kind,
                    order=order,
                    value=value,
                    scale=scale or 1.0,
                    is_plausible=is_plausible(value) if expected is None else scale is not None,
                )


def is_plausible(value: float) -> bool:
    """Tell whether a sensible device might hold this: not zero, neither tiny nor huge."""
    return math.isfinite(value) and SMALLEST <= abs(value) <= LARGEST


def _scale(value: float, expected: float | None) -> float | None:
    """Return the power of ten by which the value is what somebody reads on the device, None when there is none."""
    if expected is None or not is_plausible(value) or expected == 0:
        return 1.0 if expected is not None and value == expected else None
    power = round(math.log10(abs(expected / value)))
    scale = 10.0**power
    return scale if -4 <= power <= 4 and abs(value * scale - expected) <= NEAR * abs(expected) else None
