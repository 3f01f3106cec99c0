"""A real MQTT broker on loopback that enforces client certificates: mosquitto, or nats-server where there is none."""

import asyncio
import os
import shutil
import signal
import socket
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from edge.core.errors import YulinkError
from edge.core.language import say
from simulators.pki import Pki

START_DEADLINE_S = 15.0

_MOSQUITTO = """
per_listener_settings false
listener {port} 127.0.0.1
cafile {ca}
certfile {certificate}
keyfile {certificate}
require_certificate true
use_identity_as_username true
tls_version tlsv1.2
allow_anonymous false
set_tcp_nodelay true
max_queued_messages {queued}
max_inflight_messages 100
persistence false
{more}
"""

_NATS = """
server_name: demo
listen: "127.0.0.1:-1"
max_payload: 8MB
jetstream {{ store_dir: "{folder}/jetstream" }}
mqtt {{
  listen: "127.0.0.1:{port}"
  max_ack_pending: 1000
  tls {{ cert_file: "{certificate}", key_file: "{certificate}", ca_file: "{ca}", verify: true }}
}}
"""


class Broker:
    """A running broker process. `mqtt5` says whether it speaks MQTT 5."""

    def __init__(self, kind: str, port: int, command: list[str], folder: Path) -> None:
        self.kind = kind
        self.host = "127.0.0.1"
        self.port = port
        self.mqtt5 = kind == "mosquitto"
        self._command = command
        self._folder = folder
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        """The number of the running process."""
        assert self._process is not None
        return self._process.pid

    @property
    def url(self) -> str:
        """The address for a configuration."""
        return f"mqtts://{self.host}:{self.port}"

    async def start(self) -> None:
        """Start the process and wait until it accepts connections."""
        with (self._folder / "broker.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._command, stdout=log, stderr=log, start_new_session=True
            )
        try:
            async with asyncio.timeout(START_DEADLINE_S):
                while not await self._accepts():
                    if self._process.returncode is not None:
                        tail = (self._folder / "broker.log").read_text("utf-8", "replace")[-500:]
                        raise YulinkError(say("the broker {kind} did not start", kind=self.kind), hint=tail)
                    await asyncio.sleep(0.02)
        except BaseException:
            await self.kill()
            raise

    async def _accepts(self) -> bool:
        try:
            _, writer = await asyncio.open_connection(self.host, self.port)
        except OSError:
            return False
        writer.close()
        return True

    async def kill(self) -> None:
        """End the process at once (SIGKILL); it saves nothing."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> None:
        """End the process in order."""
        await self._end(signal.SIGTERM)

    async def _end(self, number: signal.Signals) -> None:
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.send_signal(signal.SIGCONT)
        process.send_signal(number)
        try:
            async with asyncio.timeout(5):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()

    def freeze(self) -> None:
        """Stop the process with its sockets open, as a dead link looks."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        os.kill(self._process.pid, number)

    async def refuses_strangers(self, ca: Path) -> bool:
        """Try to connect without a client certificate; return whether the broker ended the attempt.

        With TLS 1.3 a client learns of the refusal only when it reads, so a CONNECT is sent and its answer awaited.
        """
        context = ssl.create_default_context(cafile=ca)
        try:
            async with asyncio.timeout(5):
                reader, writer = await asyncio.open_connection(self.host, self.port, ssl=context)
                try:
                    writer.write(bytes([0x10, 14, 0, 4]) + b"MQTT" + bytes([4, 2, 0, 60, 0, 2]) + b"no")
                    await writer.drain()
                    return not await reader.read(4)
                finally:
                    writer.transport.abort()
        except (ssl.SSLError, ConnectionError):
            return True


def free_port() -> int:
    """Return a TCP port of loopback that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def find_mosquitto() -> str | None:
    """Return the path of mosquitto, which Debian puts where only root looks."""
    return shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")


def find_nats() -> str | None:
    """Return the path of the nats-server that lies beside this Python."""
    return shutil.which("nats-server", path=str(Path(sys.executable).parent)) or shutil.which("nats-server")


@asynccontextmanager
async def start_broker(
    folder: Path,
    pki: Pki,
    *,
    kind: str | None = None,
    certificate: Path | None = None,
    acl: str | None = None,
    message_bytes_max: int | None = None,
    limit_is_announced: bool = True,
    queued_max: int = 100_000,
) -> AsyncIterator[Broker]:
    """Run a broker while the block runs. Without `kind`, mosquitto where it is installed.

    Args:
        certificate: the broker's own; default: a good one for localhost and 127.0.0.1.
        acl: mosquitto's access rules; default: everything for everyone with a certificate.
        message_bytes_max: larger messages are refused (mosquitto).
        limit_is_announced: clients of MQTT 5 are told of that limit when they connect.
        queued_max: messages kept for a subscriber that is away (mosquitto).

    Raises:
        YulinkError: the broker is not installed or did not start.
    """
    folder.mkdir(parents=True, exist_ok=True)
    kind = kind or ("mosquitto" if find_mosquitto() else "nats")
    program = find_mosquitto() if kind == "mosquitto" else find_nats()
    if program is None:
        raise YulinkError(say("the broker {kind} is not installed", kind=kind), hint=say("run `make demo` once"))
    certificate = certificate or pki.issue("broker", server=True)
    port, config = free_port(), folder / f"{kind}.conf"
    if kind == "mosquitto":
        more = (
            f"message_size_limit {message_bytes_max}\n"
            + (f"max_packet_size {message_bytes_max}\n" if limit_is_announced else "")
            if message_bytes_max
            else ""
        )
        if acl is not None:
            (folder / "acl").write_text(acl)
            more += f"acl_file {folder / 'acl'}\n"
        if os.getuid() == 0:
            more += "user root\n"
        config.write_text(
            _MOSQUITTO.format(port=port, ca=pki.ca, certificate=certificate, queued=queued_max, more=more)
        )
    else:
        config.write_text(_NATS.format(port=port, ca=pki.ca, certificate=certificate, folder=folder))
    broker = Broker(kind, port, [program, "-c", str(config)], folder)
    await broker.start()
    try:
        yield broker
    finally:
        await broker.stop()
