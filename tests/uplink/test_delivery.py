"""Delivery over a real broker with mutual TLS: what goes wrong in plants, and that nothing is lost or repeated."""

import asyncio
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from simulators.broker import start_broker
from simulators.pki import Pki, make_pki
from tests.support import until
from tests.uplink.support import SITE, background, brain, feed, open_plant, received, uplink_to

ACL = (Path(__file__).parents[2] / "contract" / "mosquitto.acl").read_text("utf-8")
DENIED = f"user {SITE}\ntopic read v1/#\nuser brain\ntopic readwrite v1/#\n"


async def test_every_row_arrives_once_is_acknowledged_and_leaves_the_backlog(
    tmp_path: Path, pki: Pki, mosquitto: str, quick: None
) -> None:
    async with (
        start_broker(tmp_path / "broker", pki, kind=mosquitto) as broker,
        open_plant(tmp_path, **uplink_to(broker, pki)) as (log, pump),
    ):
        assert await broker.refuses_strangers(pki.ca)
        async with background(brain(broker, pki, tmp_path).run, pump.run):
            await feed(log, 2000)
            await until(lambda: log.outbox().backlog().rows == 0)
            statistics = pump.statistics()
        assert received(tmp_path) == list(range(2000))
        assert statistics.protocol == "MQTT 5"
        assert statistics.tls in ("TLSv1.2", "TLSv1.3")
        assert statistics.wire_bytes_total > statistics.bytes_total > 0


async def test_nats_speaks_3_1_1_and_delivers_as_well(tmp_path: Path, pki: Pki, quick: None) -> None:
    async with (
        start_broker(tmp_path / "broker", pki, kind="nats") as broker,
        open_plant(tmp_path, **uplink_to(broker, pki)) as (log, pump),
    ):
        assert await broker.refuses_strangers(pki.ca)
        async with background(brain(broker, pki, tmp_path).run, pump.run):
            await feed(log, 500)
            await until(lambda: log.outbox().backlog().rows == 0, 20)
            assert pump.statistics().protocol == "MQTT 3.1.1"
        assert received(tmp_path) == list(range(500))


async def test_a_broker_killed_without_its_memory_costs_nothing(
    tmp_path: Path, pki: Pki, mosquitto: str, quick: None
) -> None:
    async with (
        start_broker(tmp_path / "broker", pki, kind=mosquitto) as broker,
        open_plant(tmp_path, **uplink_to(broker, pki)) as (log, pump),
        background(brain(broker, pki, tmp_path).run, pump.run),
    ):
        for round_ in range(3):
            await feed(log, 1000, 1000 * round_)
            await until(lambda n=round_: len(received(tmp_path)) > 1000 * n)  # type: ignore[misc]
            await broker.kill()
            await feed(log, 100, 3000 + 100 * round_)
            await broker.start()
        await until(lambda: log.outbox().backlog().rows == 0, 30)
        assert received(tmp_path) == list(range(3300))
        assert pump.statistics().reconnects_total >= 1


async def test_a_puback_is_not_delivery(tmp_path: Path, pki: Pki, mosquitto: str, quick: None) -> None:
    """The broker takes everything while the brain is away, forgets it, and all of it comes again."""
    async with start_broker(tmp_path / "broker", pki, kind=mosquitto, queued_max=10) as broker:
        async with background(brain(broker, pki, tmp_path).run):
            await until(lambda: (tmp_path / "brain.sqlite3").exists())
        async with open_plant(tmp_path, **uplink_to(broker, pki)) as (log, pump), background(pump.run):
            await feed(log, 3000)
            await until(lambda: log.outbox().backlog().parcels_sent > 0)
            assert log.outbox().backlog().rows == 3000
            await broker.kill()
            await broker.start()
            async with background(brain(broker, pki, tmp_path).run):
                await until(lambda: log.outbox().backlog().rows == 0, 30)
        assert received(tmp_path) == list(range(3000))


async def test_the_weaker_mode_takes_the_brokers_word(tmp_path: Path, pki: Pki, mosquitto: str, quick: None) -> None:
    async with (
        start_broker(tmp_path / "broker", pki, kind=mosquitto) as broker,
        open_plant(tmp_path, **uplink_to(broker, pki, confirm="broker")) as (log, pump),
    ):
        async with background(pump.run):
            await feed(log, 100)
            await until(lambda: "nobody is subscribed" in pump.statistics().last_error)
            assert log.outbox().backlog().rows == 100  # the broker itself says that nobody listens
        async with background(brain(broker, pki, tmp_path).run, pump.run):
            await until(lambda: log.outbox().backlog().rows == 0, 30)
        assert received(tmp_path) == list(range(100))


async def test_a_denied_topic_is_told_and_the_data_kept(
    tmp_path: Path, pki: Pki, mosquitto: str, quick: None, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        start_broker(tmp_path / "broker", pki, kind=mosquitto, acl=DENIED) as broker,
        open_plant(tmp_path, **uplink_to(broker, pki)) as (log, pump),
        background(brain(broker, pki, tmp_path).run, pump.run),
    ):
        await feed(log, 100)
        await until(lambda: pump.statistics().refused_total >= 2)
        assert log.outbox().backlog().rows == 100
        assert "0x87" in pump.statistics().last_error
        assert sum("refuses messages" in record.getMessage() for record in caplog.records) == 1


async def test_over_3_1_1_a_denied_topic_looks_delivered_and_is_not_believed(
    tmp_path: Path, pki: Pki, mosquitto: str, quick: None
) -> None:
    async with (
        start_broker(tmp_path / "broker", pki, kind=mosquitto, acl=DENIED) as broker,
        open_plant(tmp_path, **uplink_to(broker, pki, protocol="3.1.1")) as (log, pump),
        background(brain(broker, pki, tmp_path).run, pump.run),
    ):
        await feed(log, 100)
        await until(lambda: pump.statistics().resends_total >= 2)
        assert pump.statistics().refused_total == 0
        assert log.outbox().backlog().rows == 100


async def test_the_shipped_rules_confine_a_gateway_to_its_own_topics(
    tmp_path: Path, pki: Pki, mosquitto: str, quick: None
) -> None:
    async with (
        start_broker(tmp_path / "broker", pki, kind=mosquitto, acl=ACL) as broker,
        open_plant(tmp_path, **uplink_to(broker, pki)) as (log, pump),
        background(brain(broker, pki, tmp_path).run, pump.run),
    ):
        await feed(log, 100)
        await until(lambda: log.outbox().backlog().rows == 0)
    assert received(tmp_path) == list(range(100))


async def test_a_gateway_cannot_write_below_anothers_name(
    tmp_path: Path, pki: Pki, mosquitto: str, quick: None
) -> None:
    async with start_broker(tmp_path / "broker", pki, kind=mosquitto, acl=ACL) as broker:
        settings = uplink_to(broker, pki) | {"identity": str(pki.issue("thief", common_name="chongqing/plant-2"))}
        async with open_plant(tmp_path, **settings) as (log, pump):
            async with background(brain(broker, pki, tmp_path).run, pump.run):
                await feed(log, 100)
                await until(lambda: pump.statistics().refused_total or "refuses" in pump.statistics().last_error)
            assert log.outbox().backlog().rows == 100
    assert received(tmp_path) == []


async def test_without_sealing_both_ends_say_so_and_a_sealed_message_needs_the_key(
    tmp_path: Path, pki: Pki, mosquitto: str, quick: None
) -> None:
    async with start_broker(tmp_path / "broker", pki, kind=mosquitto) as broker:
        async with open_plant(tmp_path, **uplink_to(broker, pki)) as (log, pump):
            await feed(log, 100)
            open_brain = brain(broker, pki, tmp_path, sealed=False)
            async with background(open_brain.run, pump.run):
                await until(lambda: open_brain.counters.refused > 0)
            assert log.outbox().backlog().rows == 100
            async with background(brain(broker, pki, tmp_path).run, pump.run):
                await until(lambda: log.outbox().backlog().rows == 0)
            assert received(tmp_path) == list(range(100))
            assert sealed_messages(tmp_path) == (True,)
        (tmp_path / "open").mkdir()
        async with open_plant(tmp_path / "open", **uplink_to(broker, pki, seal_to=[])) as (log, pump):
            await feed(log, 100)
            sealed_brain = brain(broker, pki, tmp_path / "open")
            async with background(sealed_brain.run, pump.run):
                await until(lambda: sealed_brain.counters.refused > 0)
            assert log.outbox().backlog().rows == 100, "a brain with a key takes nothing unsealed"
            async with background(brain(broker, pki, tmp_path / "open", sealed=False).run, pump.run):
                await until(lambda: log.outbox().backlog().rows == 0)
            assert sealed_messages(tmp_path / "open") == (False,)


async def test_a_brain_that_lost_its_memory_asks_for_key_and_catalogue(
    tmp_path: Path, pki: Pki, mosquitto: str, quick: None
) -> None:
    """Broker and brain begin anew while the gateway stays: nothing retained is left."""
    async with (
        start_broker(tmp_path / "broker", pki, kind=mosquitto) as broker,
        open_plant(tmp_path, **uplink_to(broker, pki)) as (log, pump),
        background(pump.run),
    ):
        async with background(brain(broker, pki, tmp_path).run):
            await feed(log, 100)
            await until(lambda: log.outbox().backlog().rows == 0)
        (tmp_path / "brain.sqlite3").rename(tmp_path / "lost.sqlite3")
        session = pump._session
        assert session is not None
        for topic in ("key", "catalog/plc-1"):
            await session.publish(f"v1/{SITE}/{topic}", b"", retain=True)  # an empty message deletes what is retained
        async with background(brain(broker, pki, tmp_path).run):
            await feed(log, 100, 100)
            await until(lambda: len(received(tmp_path)) == 200, 20)
        assert received(tmp_path) == list(range(200)), "what it has lost comes again from the log"


def sealed_messages(folder: Path) -> tuple[bool, ...]:
    db = sqlite3.connect(folder / "brain.sqlite3")
    try:
        return tuple(bool(sealed) for (sealed,) in db.execute("SELECT DISTINCT sealed FROM message"))
    finally:
        db.close()


@pytest.mark.parametrize("case", ["wrong authority", "expired broker", "wrong name", "expired gateway", "no identity"])
async def test_a_certificate_that_is_not_right_is_refused_with_the_reason(
    tmp_path: Path, pki: Pki, mosquitto: str, case: str
) -> None:
    certificate = None
    if case == "expired broker":
        certificate = pki.issue("old-broker", server=True, expired=True)
    elif case == "wrong name":
        certificate = pki.issue("other-broker", server=True, host="brain.elsewhere.cn")
    async with start_broker(tmp_path / "broker", pki, kind=mosquitto, certificate=certificate) as broker:
        settings = uplink_to(broker, pki)
        if case == "wrong authority":
            settings["ca"] = str(make_pki(tmp_path / "other").ca)
        elif case == "expired gateway":
            settings["identity"] = str(pki.issue("old-gateway", common_name=SITE, expired=True))
        elif case == "no identity":
            del settings["identity"], settings["seal_to"]
        async with open_plant(tmp_path, **settings) as (log, pump), background(pump.run):
            await feed(log, 10)
            await until(lambda: pump.statistics().last_error)
            assert not pump.statistics().connected
            assert log.outbox().backlog().rows == 10
            words = {
                "wrong authority": "certificate is not accepted",
                "expired broker": "expired",
                "wrong name": "certificate is not accepted",
                "expired gateway": "broker",
                "no identity": "broker",
            }
            assert words[case] in pump.statistics().last_error


async def test_an_unknown_clients_certificate_is_not_enough_to_subscribe(
    tmp_path: Path, pki: Pki, mosquitto: str, quick: None
) -> None:
    async with start_broker(
        tmp_path / "broker", pki, kind=mosquitto, acl="user brain\ntopic readwrite v1/#\n"
    ) as broker:
        settings = uplink_to(broker, pki) | {"identity": str(pki.issue("stranger"))}
        async with open_plant(tmp_path, **settings) as (log, pump), background(pump.run):
            await feed(log, 10)
            await until(lambda: pump.statistics().last_error)
            assert log.outbox().backlog().rows == 10


@pytest.mark.timeout(90)
async def test_a_link_frozen_for_30_s_with_its_sockets_open_is_noticed_and_survived(
    tmp_path: Path, pki: Pki, mosquitto: str, quick: None
) -> None:
    async with (
        start_broker(tmp_path / "broker", pki, kind=mosquitto) as broker,
        open_plant(tmp_path, **uplink_to(broker, pki)) as (log, pump),
        background(brain(broker, pki, tmp_path).run, pump.run),
    ):
        await feed(log, 100)
        await until(lambda: log.outbox().backlog().rows == 0)
        broker.freeze()
        frozen = asyncio.create_task(asyncio.sleep(30))
        await feed(log, 500, 100)
        await until(lambda: not pump.statistics().connected, 20)
        assert log.outbox().backlog().rows == 500
        await frozen
        broker.thaw()
        await until(lambda: log.outbox().backlog().rows == 0, 40)
        assert received(tmp_path) == list(range(600))


RECEIVER = """
import asyncio, sys
from pathlib import Path
from edge.core.clock import SystemClock
from uplink.keys import read_private
from uplink.receiver.service import Receiver
from uplink.receiver.store import SqliteStore
from uplink.seal import Opener
from uplink.session import Access
url, ca, identity, store, key = sys.argv[1:]
access = Access(url, Path(ca), Path(identity), client_id="brain", clean_start=False, manual_ack=True)
opener = Opener([read_private(Path(key))], Path(ca))
asyncio.run(Receiver(access, SqliteStore(Path(store)), SystemClock(), opener=opener).run())
"""


@pytest.mark.timeout(120)
async def test_a_receiver_killed_again_and_again_stores_nothing_twice(
    tmp_path: Path, pki: Pki, mosquitto: str, quick: None
) -> None:
    async with (
        start_broker(tmp_path / "broker", pki, kind=mosquitto) as broker,
        open_plant(tmp_path, **uplink_to(broker, pki)) as (log, pump),
        background(pump.run),
    ):
        key = pki.folder / "brain.key"
        arguments = [broker.url, str(pki.ca), str(pki.issue("brain")), str(tmp_path / "brain.sqlite3"), str(key)]

        def start() -> subprocess.Popen[bytes]:
            return subprocess.Popen([sys.executable, "-c", RECEIVER, *arguments], stderr=subprocess.DEVNULL)

        for round_ in range(5):
            child = start()
            before = len(received(tmp_path))
            await feed(log, 500, 500 * round_, step=25)
            await until(lambda n=before: len(received(tmp_path)) > n, 20)  # type: ignore[misc]
            child.send_signal(signal.SIGKILL)
            child.wait(10)
        child = start()
        try:
            await until(lambda: log.outbox().backlog().rows == 0, 30)
        finally:
            child.terminate()
            child.wait(10)
        assert received(tmp_path) == list(range(2500))
