"""Looking for devices: serial ports of this machine, units on a line, hosts in a range that somebody wrote down."""

import asyncio
import ipaddress
import re
from collections.abc import AsyncIterator, Sequence

from drivers.api import Found, Scan
from drivers.modbus.client import BlockFailed, Client, reason_of
from drivers.modbus.endpoint import TCP_PORT, Endpoint, parse_url
from drivers.modbus.link import open_link
from drivers.modbus.plan import Request
from drivers.modbus.serial_port import holder_of, serial_ports
from edge.core.clock import SystemClock
from edge.core.errors import Disconnected, WrongInput
from edge.core.language import say

HOSTS_MAX = 1024
UNITS = range(1, 248)
HOST_UNITS = (1, 255, 0)
CONNECTIONS_MAX = 8

_QUESTION = Request("holding", 0, 1)
_RANGE = re.compile(r"(\d+\.\d+\.\d+\.\d+)-(?:(\d+\.\d+\.\d+\.)?(\d+))")


def scan(where: str, units: Sequence[int], port: int | None, per_second: float, timeout_s: float) -> Scan | None:
    """Make a scan ready. Implements `drivers.api.DriverSpec.scan`; nothing is sent yet.

    `where` is "" for the serial ports here, the URL of a line or host for its units, or a range of addresses.
    Returns None when `where` is none of these.

    Raises:
        WrongInput: a range too large.
    """
    if not where:
        return Scan("", _ports)
    if (endpoint := parse_url(where)) is not None:
        units = units or UNITS
        words = say(
            "asks {count} units at {address} for one register each, {rate:g} a second",
            count=len(units), address=endpoint.address, rate=per_second,
        )  # fmt: skip
        return Scan(words, lambda: _units(endpoint, units, per_second, timeout_s))
    if (hosts := _hosts(where)) is None:
        return None
    if len(hosts) > HOSTS_MAX:
        raise WrongInput(
            say("{where} are {count} addresses", where=where, count=len(hosts)),
            say("at most {most} at once", most=HOSTS_MAX),
        )
    used = port or TCP_PORT
    words = say(
        "connects to port {port} of {count} addresses, {first} to {last}, {rate:g} a second, and asks for one register",
        port=used, count=len(hosts), first=hosts[0], last=hosts[-1], rate=per_second,
    )  # fmt: skip
    return Scan(words, lambda: _answering(hosts, used, units or HOST_UNITS, per_second, timeout_s))


def _hosts(where: str) -> list[str] | None:
    """Return the addresses of `192.168.1.0/28`, `192.168.1.10-20` or `192.168.1.10-192.168.2.20`; None for no range."""
    try:
        if match := _RANGE.fullmatch(where):
            first, network, last = match.groups()
            end = ipaddress.IPv4Address((network or first.rpartition(".")[0] + ".") + last)
            numbers = range(int(ipaddress.IPv4Address(first)), int(end) + 1)
            return [str(ipaddress.IPv4Address(number)) for number in numbers[: HOSTS_MAX + 1]] or None
        if "/" in where:
            network_hosts = ipaddress.IPv4Network(where, strict=False)
            if network_hosts.num_addresses > 2 * HOSTS_MAX:
                raise WrongInput(
                    say("{where} are {count} addresses", where=where, count=network_hosts.num_addresses),
                    say("at most {most} at once", most=HOSTS_MAX),
                )
            return [str(host) for host in network_hosts.hosts()]
        return [str(ipaddress.IPv4Address(where))]
    except ValueError:
        return None


async def _ports() -> AsyncIterator[Found]:
    for path in serial_ports():
        holder = holder_of(path)
        yield Found(f"rtu:{path}?9600-8N1", say("in use by {holder}", holder=holder) if holder else say("free"))


async def _units(endpoint: Endpoint, units: Sequence[int], per_second: float, timeout_s: float) -> AsyncIterator[Found]:
    """Ask each unit in turn. Raises Disconnected when the line cannot be opened."""
    client = Client(await open_link(endpoint, timeout_s, None, None), endpoint, SystemClock())
    try:
        for unit in units:
            began = asyncio.get_running_loop().time()
            if not client.is_open:
                client = Client(await open_link(endpoint, timeout_s, None, None), endpoint, SystemClock())
            if (words := await _ask(client, unit, timeout_s)) is not None:
                yield Found(endpoint.address, words, unit)
            await asyncio.sleep(max(0.0, began + 1 / per_second - asyncio.get_running_loop().time()))
    finally:
        client.close()


async def _answering(
    hosts: Sequence[str], port: int, units: Sequence[int], per_second: float, timeout_s: float
) -> AsyncIterator[Found]:
    """Try each host, a few at a time, beginning no more than `per_second` a second."""
    loop = asyncio.get_running_loop()
    asking: set[asyncio.Task[Found | None]] = set()
    waiting = list(reversed(hosts))
    due = loop.time()
    try:
        while waiting or asking:
            if waiting and len(asking) < CONNECTIONS_MAX and due <= loop.time():
                host = waiting.pop()
                asking.add(
                    asyncio.create_task(_host(Endpoint("tcp", host, port), units, timeout_s), name=f"scan {host}")
                )
                due += 1 / per_second
                continue
            pause = max(due - loop.time(), 0) if waiting and len(asking) < CONNECTIONS_MAX else None
            if not asking:
                await asyncio.sleep(pause or 0)
                continue
            done, asking = await asyncio.wait(asking, timeout=pause, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                if (found := task.result()) is not None:
                    yield found
    finally:
        for task in asking:
            task.cancel()
        if asking:
            await asyncio.wait(asking)


async def _host(endpoint: Endpoint, units: Sequence[int], timeout_s: float) -> Found | None:
    try:
        link = await open_link(endpoint, timeout_s, None, None)
    except Disconnected:
        return None
    client = Client(link, endpoint, SystemClock())
    try:
        for unit in units:
            if client.is_open and (words := await _ask(client, unit, timeout_s)) is not None:
                return Found(endpoint.address, words, unit)
        return Found(endpoint.address, say("the port is open, but no unit asked for answers"))
    finally:
        client.close()


async def _ask(client: Client, unit: int, timeout_s: float) -> str | None:
    """Return what a unit answers to a harmless question, None for silence. An exception is an answer, too."""
    try:
        data = await client.read(unit, _QUESTION, timeout_s)
    except BlockFailed as error:
        return reason_of(error.code) if error.code else str(error)
    except (TimeoutError, Disconnected):
        return None
    return f"holding/0 = 0x{data.hex().upper()}"
