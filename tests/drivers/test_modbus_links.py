"""Ways to a device: serial ports and who holds them, modems that dial in, TLS with certificates on both sides."""

import asyncio
import itertools
import os
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from drivers.api import Shared
from drivers.modbus import SPEC, serial_port
from drivers.modbus.endpoint import parse_registration, parse_url
from drivers.modbus.modem import ModemPort
from drivers.modbus.sim import server_context
from drivers.modbus.tls import ROLE_OID, role_of, utf8_string
from edge.core.errors import ConfigError, Disconnected
from simulators.modbus import Unit, dial, free_port, serve_serial, serve_tcp
from simulators.pki import Pki, make_pki
from tests.drivers.support import make_driver, read_rows


def slave(*values: int) -> Unit:
    unit = Unit()
    unit.put("holding", 0, "u16", list(values))
    return unit


def section(url: str, **more: Any) -> dict[str, Any]:
    tags = {"w0": {"at": "holding/0"}, "w1": {"at": "holding/1"}}
    return {"modbus": url, "every": "10ms", "limits": {"timeout": "200ms"}, "tags": tags, **more}


async def read_once(settings: dict[str, Any], **more: Any) -> list[Any]:
    driver, catalogue = make_driver(SPEC, settings, **more)
    async with driver.connect() as session:
        return [row[0] for row in (await read_rows(session, catalogue)).values()]


@pytest.mark.parametrize(
    "settings", ["9600-8N1", "19200-8E1", "1200-8O1", "115200-8N2", "2400-7E1", "9600-8M1", "9600-8S1"]
)
async def test_every_parity_and_speed_opens(settings: str) -> None:
    endpoint = parse_url(f"rtu:/dev/ttyS0?{settings}")
    assert endpoint is not None
    assert endpoint.settings == settings
    async with serve_serial({1: slave(3, 4)}, baud=0) as bus:
        assert await read_once(section(f"rtu:{bus.path}?{settings}")) == [3, 4]


@pytest.mark.parametrize(
    ("settings", "character_ms", "silence_ms"),
    [("9600-8N1", 10 / 9.6, 35 / 9.6), ("19200-8E1", 11 / 19.2, 38.5 / 19.2), ("115200-8N1", 10 / 115.2, 1.75)],
)
def test_silence_between_frames_follows_the_speed(settings: str, character_ms: float, silence_ms: float) -> None:
    endpoint = parse_url(f"rtu:/dev/ttyS0?{settings}")
    assert endpoint is not None
    assert endpoint.character_s * 1e3 == pytest.approx(character_ms)
    assert endpoint.silence_s * 1e3 == pytest.approx(silence_ms)


async def test_frames_are_apart_by_that_silence() -> None:
    times: list[float] = []
    unit = slave(*range(60))
    loop = asyncio.get_running_loop()
    unit.on_request = lambda *_: times.append(loop.time())
    tags = {f"w{place}": {"at": f"holding/{place}"} for place in range(0, 60, 20)}
    async with serve_serial({1: unit}, baud=0) as bus:
        await read_once({**section(f"rtu:{bus.path}?1200-8N1", tags=tags), "limits": {"gap": 0, "timeout": "1s"}})
    assert len(times) >= 4
    assert min(after - before for before, after in itertools.pairwise(times)) >= 3.5 * 10 / 1200


async def test_an_adapter_that_hears_itself_is_understood() -> None:
    """RS-485 echo: our own request comes back before the answer; and a device that is silent stays silent."""
    unit = slave(3, 4)
    async with serve_serial({1: unit}, baud=0) as bus:
        bus.echo = True
        driver, catalogue = make_driver(SPEC, section(bus.url))
        async with driver.connect() as session:
            for _ in range(3):
                assert (await read_rows(session, catalogue))["w1"][:2] == (4, 0)
            unit.silent = True
            with pytest.raises(Disconnected, match="does not answer"):
                await read_rows(session, catalogue)


async def test_an_answer_that_looks_like_its_request_is_an_answer_where_nothing_echoes() -> None:
    unit = Unit()
    unit.put("coil", 0x0300, "bool", [False] * 24)
    for place, byte in enumerate([0x00, 0x00, 0x18]):  # with function 1 and byte count 3: the request itself
        unit.put("coil", 0x0300 + 8 * place, "bool", [bool(byte >> bit & 1) for bit in range(8)])
    tags = {"first": {"at": "coil/0"}, "bits": {"at": "coil/768", "type": "bool[24]"}}
    unit.put("coil", 0, "bool", True)
    async with serve_serial({1: unit}, baud=0) as bus:
        rows = await read_once(section(bus.url, tags=tags))
    assert len(rows) == 25


@contextmanager
def holding(path: str) -> Iterator[int]:
    """Another process that has the port open and locked, as a terminal program has."""
    program = (
        f"import serial, sys; port = serial.Serial({path!r}, exclusive=True); print(1, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield process.pid
        finally:
            process.communicate(b"")


async def test_a_port_in_use_names_the_program_that_holds_it() -> None:
    async with serve_serial({1: slave(3, 4)}, baud=0) as bus:
        with holding(bus.path) as pid:
            with pytest.raises(Disconnected, match=rf"in use by python\S* \({pid}\)") as refused:
                await read_once(section(bus.url))
            assert "two masters" in refused.value.hint
        assert await read_once(section(bus.url)) == [3, 4]


async def test_our_lock_keeps_others_out() -> None:
    async with serve_serial({1: slave(3, 4)}, baud=0) as bus:
        driver, _ = make_driver(SPEC, section(bus.url))
        async with driver.connect():
            tried = subprocess.run(
                [sys.executable, "-c", f"import serial; serial.Serial({bus.path!r}, exclusive=True)"],
                capture_output=True, text=True,
            )  # fmt: skip
            assert tried.returncode != 0
            assert "lock" in tried.stderr


def test_a_port_one_may_not_use_comes_with_the_command_that_mends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("drivers.modbus.serial_port.serial.Serial", refuse)
    monkeypatch.setattr(serial_port, "_group", lambda path: "dialout")
    monkeypatch.setattr(serial_port, "_user", lambda: "yulink")
    endpoint = parse_url("rtu:/dev/ttyS0")
    assert endpoint is not None
    with pytest.raises(Disconnected, match="user yulink may not use") as refused:
        serial_port.open_port(endpoint)
    assert refused.value.hint.startswith("sudo usermod -aG dialout yulink")


def test_ports_are_listed_under_names_that_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "usb-FTDI_RS485-if00-port0").symlink_to("/dev/null")
    monkeypatch.setattr(serial_port, "BY_ID", tmp_path)
    assert serial_port.serial_ports()[0] == str(tmp_path / "usb-FTDI_RS485-if00-port0")


def test_a_port_that_is_renumbered_is_warned_of() -> None:
    (problem,) = SPEC.section.model_validate(section("rtu:/dev/ttyUSB0?9600-8N1")).problems()
    assert (problem.severity, problem.path) == ("warning", ("modbus",))
    assert "by-id" in problem.hint
    assert not SPEC.section.model_validate(section("rtu:/dev/serial/by-id/usb-1?9600-8N1")).problems()


@pytest.mark.parametrize(
    ("text", "packet"),
    [("8670", b"8670"), ("hex:86 70 FE", b"\x86\x70\xfe"), ("hex:8", None), ("hex:", None), ("", None)],
)
def test_registrations(text: str, packet: bytes | None) -> None:
    assert parse_registration(text) == packet


async def test_modems_dial_in_and_are_told_apart_by_what_they_say() -> None:
    port, shared = free_port(), Shared()
    url = f"dtu:127.0.0.1:{port}"
    async with (
        dial({1: slave(1, 2), 2: slave(3, 4)}, port, b"867001", heartbeat=b"\xfe"),
        dial({1: slave(5, 6)}, port, b"867002\r\n"),
        dial({1: slave(7, 8)}, port, b"\x01\x03"),
    ):
        sections = [
            section(url, registration="867001", heartbeat="hex:FE"),
            section(url, registration="867001", heartbeat="hex:FE", id=2),
            section(url, registration="867002"),
            section(url, registration="hex:01 03"),
        ]
        got = await asyncio.gather(*(read_once(each, shared=shared) for each in sections))
        assert got == [[1, 2], [3, 4], [5, 6], [7, 8]]
        with pytest.raises(Disconnected, match="'867' has not dialled") as refused:
            driver, _ = make_driver(SPEC, section(url, registration="867"), shared=Shared(shared))
            shared[f"modbus port {url}"].heartbeats.clear()
            async with driver.connect():
                pass
        assert "server" in refused.value.hint or "dialled" in refused.value.hint
    shared.close()


async def test_a_modem_that_dials_again_takes_its_old_ones_place() -> None:
    """A 4G modem comes back on a new connection while the old one still looks open."""
    port, shared = free_port(), Shared()
    settings = section(f"dtu:127.0.0.1:{port}", registration="86700")
    driver, catalogue = make_driver(SPEC, settings, shared=shared)
    endpoint = parse_url(settings["modbus"])
    assert endpoint is not None
    listening = await ModemPort.share(shared, endpoint)
    listening.heartbeats[b"86700"] = b""
    async with dial({1: slave(1, 2)}, port, b"86700", redial_s=30) as first:
        async with driver.connect() as session:
            assert (await read_rows(session, catalogue))["w0"][0] == 1
            async with dial({1: slave(9, 9)}, port, b"86700", redial_s=30):
                async with asyncio.timeout(5):
                    while True:
                        try:
                            rows = await read_rows(session, catalogue)
                        except Disconnected:
                            break
                        if rows["w0"][0] == 9:
                            break
                assert await read_once(settings, shared=shared) == [9, 9]
        assert first.requests
    shared.close()


async def test_a_stranger_at_the_modems_port_is_sent_away_and_told_of() -> None:
    port, shared = free_port(), Shared()
    driver, _ = make_driver(SPEC, section(f"dtu:127.0.0.1:{port}", registration="86700"), shared=shared)

    async def stranger() -> bytes:
        while True:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.01)
                continue
            writer.write(b"GET / HTTP/1.1\r\n")
            try:
                return await reader.read()
            except ConnectionError:
                return b""
            finally:
                writer.close()

    calling = asyncio.create_task(stranger())
    with pytest.raises(Disconnected, match="86700") as refused:
        async with driver.connect():
            pass
    assert await calling == b""
    assert "GET / HTTP/1.1" in refused.value.hint
    shared.close()


async def test_a_modems_port_that_is_taken_says_so() -> None:
    async with serve_tcp({}) as other:
        with pytest.raises(Disconnected, match="cannot be opened: Address already in use"):
            await read_once(section(f"dtu:127.0.0.1:{other.port}", registration="86700"))


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    return make_pki(tmp_path / "pki")


def secure(url: str, **tls: str) -> dict[str, Any]:
    return section(url, tls={"ca": "ca", "identity": "us", **tls})


async def test_tls_takes_certificates_on_both_sides(pki: Pki, tmp_path: Path) -> None:
    others = make_pki(tmp_path / "others")
    ours = {"ca": pki.ca.read_text(), "us": pki.issue("gateway").read_text()}
    async with serve_tcp({1: slave(3, 4)}, tls=server_context(pki)) as server:
        assert server.url.startswith("tls://")
        assert await read_once(secure(server.url), secrets=ours) == [3, 4]
        with pytest.raises(Disconnected, match="certificate is refused"):
            await read_once(secure(server.url), secrets={**ours, "ca": others.ca.read_text()})
        with pytest.raises(Disconnected, match="certificate is refused"):
            await read_once(secure(server.url, server_name="another.plant"), secrets=ours)
        with pytest.raises(Disconnected):
            await read_once(secure(server.url), secrets={**ours, "us": others.issue("intruder").read_text()})
        with pytest.raises(ConfigError, match="role"):
            await read_once(secure(server.url, role="Operator"), secrets=ours)
        with pytest.raises(ConfigError, match="cannot be used"):
            await read_once(secure(server.url), secrets={**ours, "us": "no certificate"})
    async with serve_tcp({1: slave(3, 4)}) as plain:
        with pytest.raises(Disconnected, match=r"TLS|answer|reached"):
            await read_once(secure(plain.url.replace("tcp", "tls")), secrets=ours)


async def test_the_role_of_our_certificate_is_checked(pki: Pki) -> None:
    extension = x509.UnrecognizedExtension(ROLE_OID, b"\x0c\x08Operator")
    identity = pki.issue("operator", extensions=[extension]).read_text()
    assert role_of(identity) == "Operator"
    async with serve_tcp({1: slave(3, 4)}, tls=server_context(pki)) as server:
        secrets = {"ca": pki.ca.read_text(), "us": identity}
        assert await read_once(secure(server.url, role="Operator"), secrets=secrets) == [3, 4]


@pytest.mark.parametrize("der", [b"", b"\x0c", b"\x0c\x05Oper", b"\x04\x01x"])
def test_a_role_that_is_no_text_is_refused(der: bytes) -> None:
    with pytest.raises(ValueError, match="UTF8String"):
        utf8_string(der)


def test_our_key_is_never_a_file(pki: Pki) -> None:
    from drivers.modbus.tls import client_context

    before = set(os.listdir("/proc/self/fd"))
    context = client_context(pki.issue("gateway").read_text(), pki.ca.read_text())
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert len(set(os.listdir("/proc/self/fd")) - before) <= 1


@pytest.mark.parametrize(
    ("more", "key"),
    [
        ({"modbus": "tls://plc"}, "modbus"),
        ({"modbus": "tcp://plc", "tls": {"ca": "ca", "identity": "us"}}, "tls"),
        ({"modbus": "dtu:0.0.0.0:5020"}, "modbus"),
        ({"modbus": "tcp://plc", "registration": "867"}, "registration"),
        ({"modbus": "tcp://plc", "heartbeat": "hex:FE"}, "heartbeat"),
    ],
)
def test_settings_that_do_not_belong_together_are_refused(more: dict[str, Any], key: str) -> None:
    (problem,) = SPEC.section.model_validate({**section("tcp://plc"), **more}).problems()
    assert (problem.severity, problem.path) == ("error", (key,))
