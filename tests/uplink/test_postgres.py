"""PostgreSQL as the brain's store, against a real server: exactly once, by one receiver or several writers."""

import asyncio
import random
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from edge.core.batch import Batch, Lane
from edge.core.errors import Disconnected, WrongInput, YulinkError
from simulators.broker import start_broker
from simulators.pki import Pki
from tests.contract.golden import EPOCH, GATEWAY
from tests.postgres import Postgres, start_postgres
from tests.support import until
from tests.uplink.fleet import Gateway
from tests.uplink.support import background, feed, open_plant, uplink_to
from tests.uplink.test_health import health
from tests.uplink.test_store import CATALOGUE, FIRST, THIRD, message
from uplink.receiver.message import Arrived, Refused
from uplink.receiver.postgres import PostgresStore


@pytest_asyncio.fixture
async def server(postgres: None) -> AsyncIterator[Postgres]:
    async with start_postgres() as server:
        yield server


async def ask(server: Postgres, query: str) -> list[tuple[Any, ...]]:
    connection = await asyncpg.connect(server.dsn, server_settings={"search_path": "yulink"})
    try:
        return [tuple(row) for row in await connection.fetch(query)]
    finally:
        await connection.close()


async def test_every_kind_of_value_is_stored_once_and_exactly(server: Postgres) -> None:
    for _ in range(2):
        store = PostgresStore(server.dsn)
        await store.open()
        for _ in range(2):
            outcome = await store.commit([CATALOGUE, FIRST, THIRD, FIRST], 1, [Refused("v1/x/y/event", b"?", "forged")])
            assert outcome.acknowledgements == [(GATEWAY, told(3, [[2, 2]]))]
        with pytest.raises(YulinkError, match="another receiver"):
            await PostgresStore(server.dsn).open()
        await store.close()
    assert await ask(server, "SELECT seq, rows, replaced FROM message ORDER BY seq") == [(1, 35, 0), (3, 9, 1)]
    assert await ask(server, "SELECT count(*) FROM reading") == [(42,)]  # one time stands in both messages
    assert await ask(server, "SELECT whole FROM reading WHERE tag = 'total' ORDER BY ts") == [
        *((2**63 - 1,), (2**63,), (2**64 - 1,), (0,), (1,)),
    ]
    assert await ask(server, "SELECT value FROM reading WHERE tag = 'ratio' ORDER BY ts") == [
        *((1 / 3,), (2 / 3,), (1e300,), (5e-324,), (-0.0,)),
    ]
    assert await ask(server, "SELECT text FROM reading WHERE tag = 'recipe' ORDER BY ts") == [
        *(("RUN",), ("RUN",), ("法兰-7",), ("",), ("RUN",)),
    ]
    assert await ask(server, "SELECT value = 'NaN', quality FROM reading WHERE quality > 2000000000") == [
        (True, 0x80310000)
    ]
    assert await ask(server, "SELECT time::text FROM reading WHERE tag = 'count' AND ts % 1000 = 7") != []
    assert len(await ask(server, "SELECT * FROM waveform")) == 1
    assert len(await ask(server, "SELECT * FROM event")) == 1
    assert await ask(server, "SELECT rows, reason, data_class, tags FROM gap") == [(10, "log full", "", [])]
    assert await ask(server, "SELECT DISTINCT reason FROM quarantine") == [("forged",)]


async def test_what_the_receiver_before_still_holds_is_waited_for(server: Postgres) -> None:
    """A connection that was cut is let go by the server a moment later."""
    before, store = PostgresStore(server.dsn), PostgresStore(server.dsn)
    await before.open()
    opening = asyncio.create_task(store.open())

    async def is_waiting() -> bool:
        return await ask(server, "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted") != []

    while not await is_waiting():
        assert not opening.done()
    await before.close()
    await opening
    await store.close()


@pytest.mark.parametrize("together", [True, False])
async def test_of_one_interval_the_highest_revision_stays_in_any_order(server: Postgres, together: bool) -> None:
    store = PostgresStore(server.dsn)
    await store.open()
    revisions = {1: [0, 2, 1], 2: [2, 0], 3: [1, 1]}  # tag → in order of sending
    sent = [
        message(seq, Batch.of(Lane.FLOAT, [tag], 7, [seq + tag / 10], 0, [revision]))
        for seq, (tag, revision) in enumerate(((t, r) for t, all_of in revisions.items() for r in all_of), 1)
    ]
    for group in ([CATALOGUE, *sent],) if together else ([CATALOGUE, each] for each in sent):
        await store.commit(group, 1)
    await store.close()
    rows = await ask(server, "SELECT value, revision FROM reading ORDER BY kind, tag, ts")
    assert sorted(rows) == [(2.1, 2), (4.2, 2), (7.3, 1)]
    assert await ask(server, "SELECT sum(rows), sum(replaced) FROM message") == [(7, 4)]


def told(through: int, missing: list[list[int]]) -> dict[str, Any]:
    return {"epoch": EPOCH, "committed_through": through, "missing": missing}


async def test_writers_beside_each_other_store_every_message_once_and_agree_on_progress(server: Postgres) -> None:
    """Each message goes to all of them at nearly the same time, in another order."""
    messages = fleet(gateways=7, batches=12)
    writers = [PostgresStore(server.dsn, shared=True) for _ in range(3)]
    for writer in writers:
        await writer.open()
    with pytest.raises(YulinkError, match="another receiver"):
        await PostgresStore(server.dsn).open()
    catalogues = [message for message in messages if "/catalog/" in message.topic]
    await writers[0].commit(catalogues, 1)

    async def write(number: int) -> list[Any]:
        mine = [message for message in messages if "/catalog/" not in message.topic]
        random.Random(number).shuffle(mine)
        heard = []
        for first in range(0, len(mine), 10):
            heard += (await writers[number].commit(mine[first : first + 10], 1)).acknowledgements
        return heard

    heard = await asyncio.gather(*(write(number) for number in range(len(writers))))
    everything = [told for each in heard for told in each]
    assert all((f"t/g{n}", {"epoch": n + 1, "committed_through": 12, "missing": []}) in everything for n in range(7))
    for writer in writers:
        await writer.close()
    assert sum(writer.counters.messages for writer in writers) == 7 * 12
    assert await ask(server, "SELECT count(*), sum(rows), sum(replaced) FROM message") == [(84, 84 * 20, 0)]
    assert await ask(server, "SELECT count(*), count(DISTINCT message) FROM sample") == [(84 * 20, 84)]


def fleet(gateways: int, batches: int) -> list[Arrived]:
    return [Arrived(*message) for n in range(gateways) for message in Gateway(f"t/g{n}", n + 1).plain(batches)]


async def test_a_text_that_postgres_cannot_hold_is_stored_readably(server: Postgres) -> None:
    gateway = Gateway("t/odd", 1)
    store = PostgresStore(server.dsn)
    await store.open()
    await store.commit([Arrived(*gateway.catalogue()), Arrived(*gateway.batch(1, text="a\0b"))], 1)
    await store.close()
    assert await ask(server, "SELECT DISTINCT text FROM reading WHERE text IS NOT NULL") == [("a␀b",)]


RECEIVER = """
import asyncio, sys
from pathlib import Path
from edge.core.clock import SystemClock
from uplink.keys import read_private
from uplink.receiver.postgres import PostgresStore
from uplink.receiver.service import Receiver
from uplink.seal import Opener
from uplink.session import Access
url, ca, identity, dsn, key = sys.argv[1:]
access = Access(url, Path(ca), Path(identity), client_id="brain", clean_start=False, manual_ack=True)
opener = Opener([read_private(Path(key))], Path(ca))
asyncio.run(Receiver(access, PostgresStore(dsn), SystemClock(), opener=opener).run())
"""


@pytest.mark.timeout(120)
async def test_receiver_and_database_killed_again_and_again_store_nothing_twice(
    tmp_path: Path, pki: Pki, mosquitto: str, quick: None, server: Postgres
) -> None:
    async with (
        start_broker(tmp_path / "broker", pki, kind=mosquitto) as broker,
        open_plant(tmp_path, **uplink_to(broker, pki)) as (log, pump),
        background(pump.run),
    ):
        arguments = [broker.url, str(pki.ca), str(pki.issue("brain")), server.dsn, str(pki.folder / "brain.key")]

        async def start() -> asyncio.subprocess.Process:
            return await asyncio.create_subprocess_exec(sys.executable, "-c", RECEIVER, *arguments)

        receiver = await start()
        try:
            for round_ in range(4):
                waiting = log.outbox().backlog().rows
                await feed(log, 1000, 1000 * round_, step=20)
                await until(lambda n=waiting: log.outbox().backlog().rows < n + 1000, 20)  # type: ignore[misc]
                if round_ % 2:
                    await server.kill()
                    await server.start()
                else:
                    receiver.send_signal(signal.SIGKILL)
                    await receiver.wait()
                    receiver = await start()
            await until(lambda: log.outbox().backlog().rows == 0, 40)
        finally:
            receiver.terminate()
            await receiver.wait()
    rows = await ask(server, "SELECT whole, count(*) FROM reading GROUP BY 1 ORDER BY 1")
    assert [(int(value), count) for value, count in rows] == [(value, 1) for value in range(4000)]
    assert await ask(server, "SELECT sum(rows), sum(replaced) FROM message") == [(4000, 0)]


async def test_an_address_that_leads_nowhere_is_told(server: Postgres) -> None:
    wrong: list[tuple[str, type[YulinkError], str]] = [
        ("postgres//nonsense", WrongInput, "not an address"),
        (server.dsn.replace("secret", "wrong"), WrongInput, "refuses us"),
        (server.dsn.rpartition("/")[0] + "/nowhere", WrongInput, "refuses us"),
        ("postgresql://yulink@127.0.0.1:1/yulink", Disconnected, "cannot be reached"),
    ]
    for dsn, error, words in wrong:
        store = PostgresStore(dsn)
        with pytest.raises(error, match=words):
            await store.open()
        await store.close()


async def test_of_each_gateway_the_newest_health_is_kept_whatever_order_the_writers_have(server: Postgres) -> None:
    store = PostgresStore(server.dsn)
    await store.open()
    for arrived in (health(1, 2, "online"), health(1, 1, "online"), health(2, 1, "online"), health(1, None, "offline")):
        assert (await store.commit([arrived], 1)).acknowledgements == []
    assert await ask(server, "SELECT state, facts::json ->> 'connection' FROM health") == [("online", "2")]
    await store.commit([health(1, 1, "stopped", "another run"), Arrived(health(1, 1, "online").topic, b"?")], 2)
    assert await ask(server, "SELECT state, received FROM health") == [("stopped", 2)]
    assert store.counters.quarantined == 1
    await store.close()
