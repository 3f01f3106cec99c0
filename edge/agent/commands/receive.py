"""`yulink receive`, `yulink bridge`, `yulink write`: the brain's end as processes."""

import argparse
import asyncio
import logging
import signal
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from cryptography import x509

from edge.core.clock import SystemClock
from edge.core.errors import WrongInput, YulinkError
from edge.core.language import say
from uplink.keys import read_private
from uplink.receiver.reception import Store
from uplink.receiver.service import Receiver
from uplink.receiver.store import SqliteStore
from uplink.seal import Opener
from uplink.section import parse_url
from uplink.session import Access

if TYPE_CHECKING:
    from uplink.receiver.stream import StreamAccess


def receive(arguments: argparse.Namespace) -> int:
    """Receive until SIGTERM or SIGINT. Returns the exit code."""
    access, opener = _access(arguments, "yulink-brain"), _opener(arguments)
    return _serve(Receiver(access, _store(arguments), SystemClock(), opener=opener).run())


def bridge(arguments: argparse.Namespace) -> int:
    """Carry messages from the broker into the stream until SIGTERM or SIGINT. Returns the exit code."""
    with _extra("yulink bridge"):
        from uplink.receiver.bridge import Bridge
    access = _access(arguments, f"yulink-bridge-{arguments.name}")
    return _serve(Bridge(access, _stream(arguments), SystemClock()).run())


def write(arguments: argparse.Namespace) -> int:
    """Write messages from the stream into PostgreSQL until SIGTERM or SIGINT. Returns the exit code."""
    with _extra("yulink write"):
        from uplink.receiver.postgres import PostgresStore
        from uplink.receiver.writer import Writer
    access, opener = _access(arguments, ""), _opener(arguments)
    store = PostgresStore(arguments.postgres, shared=True, authorities=_authorities(arguments))
    return _serve(Writer(access, _stream(arguments), store, SystemClock(), opener).run())


def _access(arguments: argparse.Namespace, client_id: str) -> Access:
    """Return how to reach the broker: with a client id, in a session that outlives the process."""
    if parse_url(arguments.mqtt) is None:
        raise WrongInput(
            say("{url!r} is not an MQTT address", url=arguments.mqtt), say("write mqtts://host or mqtts://host:8883")
        )
    _files(arguments)
    return Access(
        url=arguments.mqtt,
        ca=arguments.ca,
        identity=arguments.identity,
        client_id=client_id,
        clean_start=not client_id,
        manual_ack=bool(client_id),
    )


def _files(arguments: argparse.Namespace) -> None:
    for option in ("ca", "identity"):
        file = getattr(arguments, option)
        if file is not None and not file.is_file():
            raise WrongInput(
                say("--{option}: there is no file {file}", option=option, file=file), say("check the path")
            )


def _stream(arguments: argparse.Namespace) -> "StreamAccess":
    from uplink.receiver.stream import StreamAccess

    servers = tuple(server.strip() for server in arguments.nats.split(","))
    for server in servers:
        if not server.startswith(("nats://", "tls://")):
            raise WrongInput(
                say("{url!r} is not an address of NATS", url=server), say("write tls://host:4222, several with commas")
            )
    # Python and the client library disagree about the end of a TLS connection, loudly and without consequence.
    logging.getLogger("asyncio").addFilter(lambda record: "eof_received" not in record.getMessage())
    return StreamAccess(servers, arguments.ca, arguments.identity, arguments.replicas)


def _opener(arguments: argparse.Namespace) -> Opener | None:
    if not arguments.key:
        return None
    if arguments.ca is None:
        raise WrongInput(
            say("--key needs --ca: the authority of the gateways' certificates"), say("add --ca pki/ca.pem")
        )
    return Opener([read_private(key) for key in arguments.key], arguments.ca)


def _authorities(arguments: argparse.Namespace) -> list[x509.Certificate]:
    """Return who signs the gateways' certificates: with --key, --ca is their authority too."""
    return x509.load_pem_x509_certificates(arguments.ca.read_bytes()) if arguments.key else []


def _store(arguments: argparse.Namespace) -> Store:
    authorities = _authorities(arguments)
    if arguments.postgres is not None:
        with _extra("--postgres"):
            from uplink.receiver.postgres import PostgresStore
        return PostgresStore(arguments.postgres, authorities=authorities)
    if arguments.parquet is not None:
        with _extra("--parquet"):
            from uplink.receiver.parquet import ParquetStore
        return ParquetStore(arguments.parquet, authorities=authorities)
    return SqliteStore(arguments.store, jsonl=arguments.jsonl, authorities=authorities)


@contextmanager
def _extra(option: str) -> Iterator[None]:
    """Turn a missing package of the extra `brain` into the words that mend it."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise YulinkError(
            say("{option} needs the package {name}", option=option, name=error.name),
            say("run: pip install 'yulink[brain]'"),
        ) from error


def _serve(run: Coroutine[Any, Any, None]) -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    asyncio.run(_until_told(run))
    return 0


async def _until_told(run: Coroutine[Any, Any, None]) -> None:
    running = asyncio.create_task(run, name="receiver")
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, running.cancel)
    await asyncio.wait([running])
    if not running.cancelled():
        await running
