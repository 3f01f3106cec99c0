"""The channel to an OPC UA server: every policy, the strongest by itself, and never a weaker one in silence."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from asyncua import ua

from drivers.opcua import SPEC
from drivers.opcua.section import DEPRECATED, POLICIES, OpcUaSection
from drivers.opcua.security import choose
from edge.core.errors import Disconnected, Untrusted
from simulators.faults import FaultLine, fault_line
from simulators.opcua import SimulatedServer, Variable, application_identity, serve_opcua
from tests.drivers.support import make_driver, read_rows

SPEED = Variable("ns=2;s=Speed", 1480.5, "Double")
URI = "urn:yulink:simulator"
NAMES = [f"{policy}/{mode}" for policy in (*POLICIES, *DEPRECATED) for mode in ("Sign", "SignAndEncrypt")]


def endpoint(name: str) -> ua.EndpointDescription:
    policy, _, mode = name.partition("/")
    found = ua.EndpointDescription(EndpointUrl="opc.tcp://machine:4840")
    found.SecurityPolicyUri = f"http://opcfoundation.org/UA/SecurityPolicy#{policy}"
    found.SecurityMode = ua.MessageSecurityMode[{"None": "None_"}.get(mode, mode)]
    return found


def named(found: Any) -> str:
    return f"{found.SecurityPolicyUri.rpartition('#')[2]}/{found.SecurityMode.name}"


@pytest.mark.parametrize("last", range(len(POLICIES)))
def test_the_strongest_policy_that_is_offered_is_chosen(last: int) -> None:
    offered = [endpoint(f"{policy}/{mode}") for policy in POLICIES[last:][::-1] for mode in ("SignAndEncrypt", "Sign")]
    offered = [endpoint("None/None"), *map(endpoint, NAMES[-4:]), *offered]
    assert named(choose("sign+encrypt", offered)) == f"{POLICIES[last]}/SignAndEncrypt"
    assert named(choose("sign", offered)) == f"{POLICIES[last]}/Sign"


@pytest.mark.parametrize("asked", ["sign", "sign+encrypt", "Aes256_Sha256_RsaPss/SignAndEncrypt"])
def test_a_broken_policy_is_never_chosen_by_strength_and_no_other_than_the_named_one(asked: str) -> None:
    offered = [endpoint("None/None"), *map(endpoint, NAMES[-4:])]
    with pytest.raises(Disconnected, match="does not offer") as refused:
        choose(asked, offered)
    assert refused.value.hint.count("/") == 5


def test_a_broken_policy_is_a_warning_of_the_check() -> None:
    section = OpcUaSection.model_validate(
        {"opcua": "opc.tcp://m", "security": "Basic128Rsa15/Sign", "tags": {"a": {"node": "i=1"}}}
    )
    (problem,) = section.problems()
    assert problem.severity == "warning"
    assert "broken" in problem.message


def section(url: str, **more: Any) -> dict[str, Any]:
    return {"opcua": url, "every": "50ms", "tags": {"speed": {"node": SPEED.node}}, **more}


async def speed(url: str, secrets: Mapping[str, str] | None = None, **more: Any) -> float:
    driver, catalogue = make_driver(SPEC, section(url, **more), secrets=secrets)
    async with asyncio.timeout(15), driver.connect() as session:
        return float((await read_rows(session, catalogue))["speed"][0])


async def test_every_policy_reads() -> None:
    async with serve_opcua([SPEED], security=("none", *NAMES)) as server:
        for name in NAMES:
            assert await speed(server.url, security=name, trust=server.sha256) == 1480.5, name


def through(line: FaultLine) -> str:
    return f"opc.tcp://{line.host}:{line.port}/yulink"


def port(server: SimulatedServer) -> int:
    return int(server.url.rpartition(":")[2].partition("/")[0])


async def test_somebody_between_who_takes_the_strong_endpoints_away_is_noticed() -> None:
    """Discovery is not signed: it can say anything. The session is, and shows what was taken away."""
    identity = application_identity(URI)
    strong = ("none", "Basic256Sha256/SignAndEncrypt", "Aes256_Sha256_RsaPss/SignAndEncrypt")
    async with (
        serve_opcua([SPEED], security=strong, identity=identity) as server,
        serve_opcua([SPEED], security=strong[:2], identity=identity) as weaker,
        serve_opcua([SPEED], security=("none",), identity=identity) as open_server,
        fault_line("127.0.0.1", port(server)) as line,
    ):
        settings: dict[str, Any] = {"security": "sign+encrypt", "trust": server.sha256}
        assert await speed(through(line), **settings) == 1480.5
        line.divert("127.0.0.1", port(open_server))
        with pytest.raises(Disconnected, match="does not offer"):
            await speed(through(line), **settings)
        line.divert("127.0.0.1", port(weaker))
        with pytest.raises(Untrusted, match="changed on the way: Aes256_Sha256_RsaPss/SignAndEncrypt"):
            await speed(through(line), **settings)


async def test_a_password_goes_in_clear_only_where_that_is_written() -> None:
    users = {"reader": "pä55"}
    login = {"user": "reader", "secret": "s"}
    async with (
        serve_opcua([SPEED], users=users, allow_anonymous=False) as server,
        fault_line("127.0.0.1", port(server)) as line,
    ):
        heard = _listen(line)
        with pytest.raises(Disconnected, match="only in clear") as refused:
            await speed(through(line), {"s": "pä55"}, login=login)
        assert "clear: true" in refused.value.hint
        assert "pä55".encode() not in heard
        assert await speed(through(line), {"s": "pä55"}, login={**login, "clear": True}) == 1480.5
        assert "pä55".encode() in heard  # so the ear was at the right place


async def test_without_a_channel_a_password_is_encrypted_for_a_server_that_is_trusted() -> None:
    users = {"reader": "pä55"}
    login = {"user": "reader", "secret": "s"}
    async with (
        serve_opcua([SPEED], security=("none", "sign+encrypt"), users=users, allow_anonymous=False) as server,
        fault_line("127.0.0.1", port(server)) as line,
    ):
        heard = _listen(line)
        with pytest.raises(Untrusted, match="not trusted yet"):
            await speed(through(line), {"s": "pä55"}, login=login)
        assert await speed(through(line), {"s": "pä55"}, login=login, trust=server.sha256) == 1480.5
        assert "pä55".encode() not in heard


def _listen(line: FaultLine) -> bytearray:
    """Return what goes through a line to the server from now on."""
    heard = bytearray()
    passing = line._pass

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool) -> None:
        if not answers:
            write = writer.write

            def both(data: bytes) -> None:
                heard.extend(data)
                write(data)

            writer.write = both  # type: ignore[assignment,method-assign]
        await passing(reader, writer, answers=answers)

    line._pass = listen  # type: ignore[method-assign]
    return heard
