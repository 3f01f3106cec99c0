"""Who may read an OPC UA server over which channel: never a weaker one than was asked for; a refusal says why."""

import asyncio
from typing import Any

import pytest

from drivers.opcua import SPEC
from edge.core.errors import Disconnected
from simulators.opcua import SimulatedServer, Variable, application_identity, serve_opcua
from tests.drivers.support import make_driver, read_rows

SPEED = Variable("ns=2;s=Speed", 1480.5, "Double")
UNCERTAIN_SUBSTITUTE = 0x40910000


def settings(server: SimulatedServer, **more: Any) -> dict[str, Any]:
    return {
        "opcua": server.url,
        "trust": server.sha256,
        "every": "50ms",
        "tags": {"speed": {"node": SPEED.node}},
        **more,
    }


async def speed(server: SimulatedServer, secrets: dict[str, str] | None = None, **more: Any) -> float:
    driver, catalogue = make_driver(SPEC, settings(server, **more), secrets=secrets)
    async with asyncio.timeout(15), driver.connect() as session:
        rows = await read_rows(session, catalogue)
        assert rows["speed"][1] == 0
        return float(rows["speed"][0])


@pytest.mark.parametrize("security", ["sign", "sign+encrypt", "Basic256Sha256/SignAndEncrypt"])
async def test_a_weaker_channel_is_refused_and_the_offers_are_listed(security: str) -> None:
    async with serve_opcua([SPEED], security=("none",)) as server:
        with pytest.raises(Disconnected, match="does not offer") as refused:
            await speed(server, security=security)
    assert "None" in refused.value.hint


async def test_a_wrong_password_and_no_password_are_refused_with_the_reason() -> None:
    users = {"reader": "pä55"}
    async with serve_opcua([SPEED], security=("sign+encrypt",), users=users, allow_anonymous=False) as server:
        login = {"user": "reader", "secret": "s"}
        assert await speed(server, {"s": "pä55"}, security="sign+encrypt", login=login) == 1480.5
        for more in ({"login": login, "secrets": {"s": "wrong"}}, {}):
            with pytest.raises(Disconnected, match="refuses us") as refused:
                await speed(server, security="sign+encrypt", **more)
            assert "login" in refused.value.hint


async def test_a_user_certificate_logs_in_and_a_strangers_does_not() -> None:
    ours, key = application_identity("urn:plant:reader")
    strange, strange_key = application_identity("urn:plant:stranger")
    async with serve_opcua(
        [SPEED], security=("sign+encrypt",), user_certificates=[ours], allow_anonymous=False
    ) as server:
        login = {"certificate": "c"}
        secrets = {"c": pem(ours, key)}
        assert await speed(server, secrets, security="sign+encrypt", login=login) == 1480.5
        with pytest.raises(Disconnected, match="refuses us"):
            await speed(server, {"c": pem(strange, strange_key)}, security="sign+encrypt", login=login)
        with pytest.raises(Disconnected, match="does not hold a certificate and a key"):
            await speed(server, {"c": key.decode()}, security="sign+encrypt", login=login)


def pem(certificate: bytes, key: bytes) -> str:
    import ssl

    return ssl.DER_cert_to_PEM_cert(certificate) + key.decode()


async def test_quality_and_source_time_are_kept_to_the_microsecond() -> None:
    async with serve_opcua([SPEED]) as server:
        driver, catalogue = make_driver(SPEC, settings(server))
        async with asyncio.timeout(15), driver.connect() as session:
            await read_rows(session, catalogue)
            when = 1_700_000_000_123_456_000
            await server.write(SPEED.node, 7.0, UNCERTAIN_SUBSTITUTE, when)
            rows: dict[str, Any] = {}
            while not rows:
                rows = await read_rows(session, catalogue)
    assert rows["speed"] == (7.0, UNCERTAIN_SUBSTITUTE, when)


@pytest.mark.parametrize("mode", ["subscribe", "poll"])
async def test_the_same_reading_comes_once(mode: str) -> None:
    async with serve_opcua([SPEED]) as server:
        driver, catalogue = make_driver(SPEC, settings(server, mode=mode))
        async with asyncio.timeout(15), driver.connect() as session:
            seen = [await read_rows(session, catalogue) for _ in range(3)]
            await server.write(SPEED.node, 8.0)
            while not (last := await read_rows(session, catalogue)):
                pass
    assert [len(rows) for rows in seen] == [1, 0, 0]
    assert last["speed"][0] == 8.0


async def test_a_node_that_is_not_there_is_one_bad_row() -> None:
    async with serve_opcua([SPEED]) as server:
        tags = {"speed": {"node": SPEED.node}, "gone": {"node": "ns=2;s=Gone"}}
        driver, catalogue = make_driver(SPEC, {**settings(server), "tags": tags})
        async with asyncio.timeout(15), driver.connect() as session:
            rows = await read_rows(session, catalogue)
    assert rows["speed"][:2] == (1480.5, 0)
    assert rows["gone"][1] == 0x80340000  # BadNodeIdUnknown
