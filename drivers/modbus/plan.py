"""Which requests read a list of values: the fewest that the protocol and the device allow. Pure."""

from bisect import bisect_right
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from drivers.api import Plan
from drivers.modbus.endpoint import Endpoint
from drivers.modbus.section import Limits, ModbusSection, ModbusTag, Table
from edge.core.language import say

TCP_REQUEST_MS = 2.0
MODEM_REQUEST_MS = 300.0
SERIAL_TURNAROUND_MS = 10.0

Barriers = AbstractSet[tuple[Table, int]]
"""(table, address): no request may carry both this address and the one before."""


@dataclass(frozen=True, slots=True)
class Span:
    """What one value needs: `count` registers (or bits) of a table from `address` on.

    `grain` registers hold one element: where a long array is cut into requests, none of its elements is.
    """

    table: Table
    address: int
    count: int
    grain: int = 1

    @property
    def end(self) -> int:
        """The first address behind it."""
        return self.address + self.count


@dataclass(frozen=True, slots=True)
class Request:
    """One read: function 1 to 4 by its table, `count` registers or bits from `address` on."""

    table: Table
    address: int
    count: int

    @property
    def is_bits(self) -> bool:
        """Tell whether bits are read, not registers."""
        return self.table in ("coil", "discrete")

    @property
    def payload_bytes(self) -> int:
        """Bytes of data in a full answer."""
        return (self.count + 7) // 8 if self.is_bits else 2 * self.count


def span_of(tag: ModbusTag) -> Span:
    """Return what a tag needs."""
    address, value_type = tag.address, tag.value_type
    grain = value_type.width // 2 if value_type.array and address.table in ("input", "holding") else 1
    return Span(address.table, address.number, tag.span, max(grain, 1))


def plan_requests(spans: Sequence[Span], limits: Limits, barriers: Barriers = frozenset()) -> list[Request]:
    """Return the fewest requests in which every span lies whole.

    A span longer than a request may be is read by consecutive requests of its own. Between two spans at most
    `limits.gap` registers (16 × gap bits) are read along unused. From the first span not yet covered, a request takes
    in all that fit; no request could begin later, so none can do with fewer. A barrier inside a span is no barrier.
    """
    requests: list[Request] = []
    for table in ("coil", "discrete", "input", "holding"):
        bits = table in ("coil", "discrete")
        longest = limits.bits if bits else limits.registers
        gap = limits.gap * 16 if bits else limits.gap
        waiting = sorted({span for span in spans if span.table == table}, key=lambda span: (span.address, span.end))
        for span in [span for span in waiting if span.count > longest]:
            step = max(longest // span.grain * span.grain, min(longest, span.grain))
            requests += [
                Request(span.table, address, min(step, span.end - address))
                for address in range(span.address, span.end, step)
            ]
        waiting = [span for span in waiting if span.count <= longest]
        fences = _fences(waiting, sorted(address for each, address in barriers if each == table))
        while waiting:
            first, end, left = waiting[0], waiting[0].end, []
            place = bisect_right(fences, first.address)
            fence = fences[place] if place < len(fences) else first.address + longest
            for place, span in enumerate(waiting):
                if span.address > end + gap or span.address >= min(first.address + longest, fence):
                    left += waiting[place:]
                    break
                if span.end - first.address <= longest:
                    end = max(end, span.end)
                else:
                    left.append(span)
            requests.append(Request(first.table, first.address, end - first.address))
            waiting = left
    return requests


def _fences(spans: Sequence[Span], barriers: Sequence[int]) -> list[int]:
    """Return the barriers that lie inside no span. Both are in order."""
    fences, reach, place = [], 0, 0
    for barrier in barriers:
        while place < len(spans) and spans[place].address < barrier:
            reach = max(reach, spans[place].end)
            place += 1
        if reach <= barrier:
            fences.append(barrier)
    return fences


def groups(section: ModbusSection, every: float) -> dict[float, list[str]]:
    """Return the tag names by their interval in seconds, shortest first."""
    by_interval: dict[float, list[str]] = {}
    for name, tag in section.tags.items():
        by_interval.setdefault(tag.every or section.every or every, []).append(name)
    return dict(sorted(by_interval.items()))


def summarise(section: ModbusSection, every: float) -> Plan:
    """Return what the shortest cycle of a device costs when all its groups fall due together, and how busy its line is.

    Assumed: a TCP request takes 2 ms, one through a modem 300 ms. On a serial line a character is 11 bits (10 without
    parity), each frame is followed by 3.5 characters of silence (1.75 ms above 19,200 baud), and the device thinks for
    10 ms.
    """
    requests, cycle_ms, load = [], 0.0, 0.0
    by_interval = groups(section, every)
    for interval, names in by_interval.items():
        planned = plan_requests([span_of(section.tags[name]) for name in names], section.limits)
        needed_ms = sum(_request_ms(section, request) for request in planned)
        requests += planned
        cycle_ms += needed_ms
        load += needed_ms / (interval * 1e3)
    return Plan(
        requests_per_cycle=len(requests),
        registers_per_cycle=sum(0 if request.is_bits else request.count for request in requests),
        cycle_ms_estimated=round(cycle_ms, 3),
        cycle_ms_asked=min(by_interval) * 1e3,
        line=_line_words(section.endpoint),
        line_load=round(load, 4),
    )


def _line_words(endpoint: Endpoint) -> str:
    if endpoint.transport == "serial":
        return say("the serial line {path} ({settings})", path=endpoint.path, settings=endpoint.settings)
    return endpoint.line


def _request_ms(section: ModbusSection, request: Request) -> float:
    endpoint = section.endpoint
    pause = section.limits.pause * 1e3
    if endpoint.transport == "dtu":
        return MODEM_REQUEST_MS + pause
    if endpoint.transport != "serial":
        return TCP_REQUEST_MS + pause
    characters = 8 + 5 + request.payload_bytes
    return (characters * endpoint.character_s + 2 * endpoint.silence_s) * 1e3 + SERIAL_TURNAROUND_MS + pause
