"""Many Modbus TCP devices in one process, as cheap as Python allows: `python -m benchmarks.peers.farm DEVICES`.

Each device has its own port and answers any read with registers that change every time. It prints its ports as a JSON
list, then, for each line on standard input, how many registers it has answered so far.
"""

import asyncio
import json
import resource
import struct
import sys

import numpy as np

VARIANTS = 256
REGISTERS_MAX = 125


class Device(asyncio.Protocol):
    """One connection: every whole request in the buffer is answered at once."""

    registers_total = 0

    def __init__(self, variants: list[bytes]) -> None:
        self._variants = variants
        self._turn = 0
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer reads of holding and input registers; nothing else is asked here."""
        data = self._rest + data
        while len(data) >= 12:
            transaction, _, _, unit, function, _, count = struct.unpack_from(">HHHBBHH", data)
            data = data[12:]
            self._turn = (self._turn + 1) % VARIANTS
            body = self._variants[self._turn][: 2 * count]
            head = struct.pack(">HHHBBB", transaction, 0, 3 + len(body), unit, function, len(body))
            self._transport.write(head + body)
            Device.registers_total += count
        self._rest = data


async def serve(devices: int) -> None:
    """Listen until standard input ends."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    walk = np.random.default_rng(1).integers(-3, 4, (VARIANTS, REGISTERS_MAX)).cumsum(axis=0) + 1000
    variants = [row.astype(">u2").tobytes() for row in walk]
    loop = asyncio.get_running_loop()
    servers = [await loop.create_server(lambda: Device(variants), "127.0.0.1", 0) for _ in range(devices)]
    print(json.dumps([server.sockets[0].getsockname()[1] for server in servers]), flush=True)
    while await loop.run_in_executor(None, sys.stdin.readline):
        print(Device.registers_total, flush=True)


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
