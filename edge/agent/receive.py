"""`yulink receive`: the brain's end as a process."""

import argparse
import asyncio
import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager

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


def run(arguments: argparse.Namespace) -> int:
    """Receive until SIGTERM or SIGINT. Returns the exit code."""
    if parse_url(arguments.mqtt) is None:
        raise WrongInput(
            say("{url!r} is not an MQTT address", url=arguments.mqtt), say("write mqtts://host or mqtts://host:8883")
        )
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    access = Access(
        url=arguments.mqtt,
        ca=arguments.ca,
        identity=arguments.identity,
        client_id="yulink-brain",
        clean_start=False,
        manual_ack=True,
    )
    opener = None
    if arguments.key:
        if arguments.ca is None:
            raise WrongInput(
                say("--key needs --ca: the authority of the gateways' certificates"), say("add --ca pki/ca.pem")
            )
        opener = Opener([read_private(key) for key in arguments.key], arguments.ca)
    store = _store(arguments)
    asyncio.run(_serve(Receiver(access, store, SystemClock(), jsonl=arguments.jsonl, opener=opener)))
    return 0


def _store(arguments: argparse.Namespace) -> Store:
    if arguments.postgres is None:
        return SqliteStore(arguments.store)
    with extra("--postgres"):
        from uplink.receiver.postgres import PostgresStore
    return PostgresStore(arguments.postgres)


@contextmanager
def extra(option: str) -> Iterator[None]:
    """Turn a missing package of the extra `brain` into the words that mend it."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise YulinkError(
            say("{option} needs the package {name}", option=option, name=error.name),
            say("run: pip install 'yulink[brain]'"),
        ) from error


async def _serve(receiver: Receiver) -> None:
    running = asyncio.create_task(receiver.run(), name="receiver")
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, running.cancel)
    await asyncio.wait([running])
    if not running.cancelled():
        await running
