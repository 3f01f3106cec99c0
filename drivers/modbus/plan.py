"""Which requests read a list of values: the fewest that the protocol and the device allow. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from drivers.api import Plan
from drivers.modbus.section import Limits, ModbusSection, ModbusTag, Table

TCP_REQUEST_MS = 2.0
SERIAL_TURNAROUND_MS = 10.0


@dataclass(frozen=True, slots=True)
class Span:
    """What one value needs: `count` registers (or bits) of a table from `address` on."""

    table: Table
    address: int
    count: int

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
    return Span(tag.address.table, tag.address.number, tag.span)


def plan_requests(spans: Sequence[Span], limits: Limits) -> list[Request]:
    """Return the fewest requests in which every span lies whole.

    A span longer than a request may be is read by consecutive requests of its own. Between two spans at most
    `limits.gap` registers (16 × gap bits) are read along unused. From the first span not yet covered, a request takes
    in all that fit; no request could begin later, so none can do with fewer.
    """
    requests: list[Request] = []
    for table in ("coil", "discrete", "input", "holding"):
        bits = table in ("coil", "discrete")
        longest = limits.bits if bits else limits.registers
        gap = limits.gap * 16 if bits else limits.gap
        waiting = sorted({span for span in spans if span.table == table}, key=lambda span: (span.address, span.end))
        for span in [span for span in waiting if span.count > longest]:
            requests += [
                Request(span.table, address, min(longest, span.end - address))
                for address in range(span.address, span.end, longest)
            ]
        waiting = [span for span in waiting if span.count <= longest]
        while waiting:
            first, end, left = waiting[0], waiting[0].end, []
            for place, span in enumerate(waiting):
                if span.address > end + gap or span.address >= first.address + longest:
                    left += waiting[place:]
                    break
                if span.end - first.address <= longest:
                    end = max(end, span.end)
                else:
                    left.append(span)
            requests.append(Request(first.table, first.address, end - first.address))
            waiting = left
    return requests


def groups(section: ModbusSection, every: float) -> dict[float, list[str]]:
    """Return the tag names by their interval in seconds, shortest first."""
    by_interval: dict[float, list[str]] = {}
    for name, tag in section.tags.items():
        by_interval.setdefault(tag.every or section.every or every, []).append(name)
    return dict(sorted(by_interval.items()))


def summarise(section: ModbusSection, every: float) -> Plan:
    """Return what the shortest cycle of a device costs when all its groups fall due together.

    Assumed: a TCP request takes 2 ms. On a serial line a character is 11 bits (10 without parity), each frame is
    followed by 3.5 characters of silence (1.75 ms above 19,200 baud), and the device thinks for 10 ms.
    """
    by_interval = groups(section, every)
    requests = [
        request
        for names in by_interval.values()
        for request in plan_requests([span_of(section.tags[name]) for name in names], section.limits)
    ]
    return Plan(
        requests_per_cycle=len(requests),
        registers_per_cycle=sum(0 if request.is_bits else request.count for request in requests),
        cycle_ms_estimated=round(sum(_request_ms(section, request) for request in requests), 3),
        cycle_ms_asked=min(by_interval) * 1e3,
    )


def _request_ms(section: ModbusSection, request: Request) -> float:
    endpoint = section.endpoint
    pause = section.limits.pause * 1e3
    if endpoint.transport != "serial":
        return TCP_REQUEST_MS + pause
    character_bits = 1 + endpoint.bits + (endpoint.parity != "N") + endpoint.stop_bits
    character_ms = character_bits / endpoint.baud * 1e3
    silence_ms = max(3.5 * character_ms, 1.75) if endpoint.baud > 19_200 else 3.5 * character_ms
    characters = 8 + 5 + request.payload_bytes
    return characters * character_ms + 2 * silence_ms + SERIAL_TURNAROUND_MS + pause
