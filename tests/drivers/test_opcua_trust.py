"""Which server is trusted: first contact waits for an operator, a change is loud, what is wrong is said.

And our own certificate: made once, renewed early, the old one used for as long as a server knows no other.
"""

import asyncio
import errno
import os
import re
import shlex
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from drivers.api import DeviceContext
from drivers.opcua import SPEC, own_certificate
from drivers.opcua.certificate import alternative_names
from drivers.opcua.own_certificate import OwnCertificates, make_certificate
from drivers.opcua.section import OpcUaSection
from drivers.opcua.trust import ServerTrust
from edge.agent.cli import main
from edge.core.catalogue import Catalogue
from edge.core.clock import VirtualClock
from edge.core.errors import Disconnected, Untrusted, WrongInput
from edge.core.trust import PENDING_MAX, Sighting, TrustList
from simulators.broker import free_port
from simulators.opcua import APPLICATION_URI, Variable, application_identity, serve_opcua
from tests.drivers.support import make_driver, read_rows

SPEED = Variable("ns=2;s=Speed", 1480.5, "Double")
DAY_NS = 86_400 * 10**9


def settings(url: str, **more: Any) -> dict[str, Any]:
    tags = {"speed": {"node": SPEED.node}}
    return {"opcua": url, "security": "sign+encrypt", "every": "50ms", "tags": tags, **more}


async def reads(driver: Any, catalogue: Catalogue) -> bool:
    async with asyncio.timeout(40), driver.connect() as session:
        return bool((await read_rows(session, catalogue))["speed"][0] == 1480.5)


def command_in(error: Untrusted) -> list[str]:
    """The command that the hint gives, as a shell would split it."""
    found = re.search(r"yulink (trust accept .*)", error.hint)
    assert found is not None, error.hint
    return shlex.split(found[1])


async def test_first_contact_waits_until_the_command_in_its_message_is_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listening = free_port()
    driver, catalogue = make_driver(SPEC, settings(f"opc.tcp://127.0.0.1:{listening}"), data_dir=tmp_path)
    async with serve_opcua([SPEED], port=listening, security=("sign+encrypt",)) as server:
        with pytest.raises(Untrusted, match="not trusted yet: CN=urn:yulink:simulator, thumbprint") as refused:
            await reads(driver, catalogue)
        assert server.clients == []  # nobody that we do not trust learns anything of us
        assert main(["trust", "list", "--data-dir", str(tmp_path)]) == 0
        shown = capsys.readouterr().out
        for fact in ("machine: waits", "CN=urn:yulink:simulator", APPLICATION_URI, server.sha256, server.url[:20]):
            assert fact in shown
        assert main(command_in(refused.value)) == 0
        assert await reads(driver, catalogue)  # the same driver: nothing is started anew
    async with serve_opcua([SPEED], port=listening, security=("sign+encrypt",)):
        with pytest.raises(Untrusted, match="shows ANOTHER certificate than the one accepted on") as changed:
            await reads(driver, catalogue)
        main(["trust", "list", "--data-dir", str(tmp_path)])
        assert "ATTENTION" in capsys.readouterr().out
        assert main(command_in(changed.value)) == 0
        assert await reads(driver, catalogue)
        assert main(["trust", "reject", server.sha256[:12], "--data-dir", str(tmp_path)]) == 0
        assert await reads(driver, catalogue)  # that was the old one
        (now,) = [k for k in TrustList(tmp_path).trusted("machine") if k.certificate.sha256 != server.sha256]
        assert main(["trust", "reject", now.certificate.thumbprint, "--data-dir", str(tmp_path)]) == 0
        with pytest.raises(Untrusted, match="was rejected"):
            await reads(driver, catalogue)
        assert main(["trust", "remove", now.certificate.thumbprint, "--data-dir", str(tmp_path)]) == 0
        with pytest.raises(Untrusted, match="not trusted yet"):
            await reads(driver, catalogue)


async def test_an_expired_certificate_is_refused_in_words_and_taken_where_that_is_written(tmp_path: Path) -> None:
    old = application_identity(APPLICATION_URI, begins=timedelta(days=-400), ends=timedelta(days=-35))
    async with serve_opcua([SPEED], security=("sign+encrypt",), identity=old) as server:
        driver, catalogue = make_driver(SPEC, settings(server.url), data_dir=tmp_path)
        with pytest.raises(Untrusted) as refused:
            await reads(driver, catalogue)
        *command, despite, faults, folder, _ = command_in(refused.value)
        assert (despite, faults) == ("--despite", "expired")
        assert main([*command, folder, str(tmp_path)]) == 2  # not without naming the fault
        assert main(command_in(refused.value)) == 0
        assert await reads(driver, catalogue)
        (state, own) = driver.certificates  # type: ignore[attr-defined]
        assert (state.whose, own.whose) == ("server", "own")
        assert state.not_after < driver.context.clock.now()  # type: ignore[attr-defined]
        pinned = settings(server.url, trust=server.sha256)
        with pytest.raises(Untrusted, match="certificate ended on") as ended:
            await reads(*make_driver(SPEC, pinned))
        assert "renew it on the server" in ended.value.hint
        assert await reads(*make_driver(SPEC, {**pinned, "tolerate": ["expired"]}))


def trust(
    data_dir: Path | None, clock: VirtualClock, secrets: dict[str, str] | None = None, **more: Any
) -> ServerTrust:
    section = OpcUaSection.model_validate(settings("opc.tcp://127.0.0.1:4840", **more))
    known = secrets or {}
    context = DeviceContext("machine", 1.0, Catalogue(), clock, known.__getitem__, data_dir=data_dir)
    return ServerTrust(section, context)


def clock_now() -> VirtualClock:
    return VirtualClock(int(datetime.now(UTC).timestamp()) * 10**9)


@pytest.mark.parametrize(
    ("fault", "wrong", "words"),
    [
        ("expired", {"begins": timedelta(days=-3), "ends": timedelta(days=-2)}, "ended on"),
        ("not-yet-valid", {"begins": timedelta(days=2)}, "begins on .* our clock says"),
        ("host", {"hosts": ["machine-7", "10.0.0.1"]}, "is for machine-7, 10.0.0.1, not for 127.0.0.1"),
        ("host", {"hosts": []}, "is for no address"),
        ("usage", {"for_servers": False}, "not one for servers"),
        ("weak", {"bits": 1024}, "weak key"),
        ("uri", {"uri": "urn:someone:else"}, "for the application urn:someone:else"),
    ],
)
def test_what_is_wrong_with_a_trusted_certificate_is_said_and_can_be_tolerated(
    fault: str, wrong: dict[str, Any], words: str, tmp_path: Path
) -> None:
    der, _ = application_identity(wrong.pop("uri", APPLICATION_URI), **wrong)
    pin = x509.load_der_x509_certificate(der).fingerprint(hashes.SHA256()).hex(":")
    with pytest.raises(Untrusted, match=words) as refused:
        trust(tmp_path, clock_now(), trust=pin).judge(der, APPLICATION_URI)
    assert f"--despite {fault} " in refused.value.hint
    trust(tmp_path, clock_now(), trust=pin, tolerate=[fault]).judge(der, APPLICATION_URI)


def test_a_clock_that_fell_back_does_not_stop_a_machine_whose_certificate_was_valid_before(tmp_path: Path) -> None:
    der, _ = application_identity(APPLICATION_URI)
    clock = clock_now()
    trust(tmp_path, clock, trust="first-use").judge(der, APPLICATION_URI)
    dead_battery = VirtualClock(0)
    judged = trust(tmp_path, dead_battery)
    judged.judge(der, APPLICATION_URI)
    assert "our clock is wrong: it says 1970-01-01" in judged.doubt
    stranger = application_identity(APPLICATION_URI)[0]
    with pytest.raises(Untrusted):
        judged.judge(stranger, APPLICATION_URI)


def test_first_use_trusts_the_first_certificate_and_no_other_and_none_that_is_wrong(tmp_path: Path) -> None:
    wrong, _ = application_identity(APPLICATION_URI, hosts=["elsewhere"])
    first, _ = application_identity(APPLICATION_URI)
    second, _ = application_identity(APPLICATION_URI)
    judge = trust(tmp_path, clock_now(), trust="first-use").judge
    with pytest.raises(Untrusted):
        judge(wrong, APPLICATION_URI)
    judge(first, APPLICATION_URI)
    with pytest.raises(Untrusted, match="ANOTHER certificate"):
        judge(second, APPLICATION_URI)
    judge(first, APPLICATION_URI)


def test_a_certificate_accepted_for_one_device_is_asked_for_again_at_another(tmp_path: Path) -> None:
    der, _ = application_identity(APPLICATION_URI)
    trust(tmp_path, clock_now(), trust="first-use").judge(der, APPLICATION_URI)
    section = OpcUaSection.model_validate(settings("opc.tcp://127.0.0.1:4841"))
    other = ServerTrust(section, DeviceContext("twin", 1.0, Catalogue(), clock_now(), str, data_dir=tmp_path))
    with pytest.raises(Untrusted, match="not trusted yet"):
        other.judge(der, APPLICATION_URI)


@pytest.mark.parametrize("garbage", [None, b"", b"\x30", b"\x30\x82\xff\xff", b"hello"])
def test_what_is_no_certificate_is_refused(garbage: bytes | None) -> None:
    with pytest.raises(Untrusted, match="no certificate that can be read"):
        trust(None, clock_now()).judge(garbage, APPLICATION_URI)


def test_a_key_that_no_policy_can_use_is_told() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "machine")])
    signing = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    names = x509.SubjectAlternativeName([x509.DNSName("localhost")])
    der = sign(signing, name, name, key.public_key(), names).public_bytes(Encoding.DER)
    with pytest.raises(Untrusted, match="has no RSA key"):
        trust(None, clock_now(), trust="first-use").judge(der, APPLICATION_URI)


def test_what_an_operator_decides_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    der, _ = application_identity(APPLICATION_URI)
    with pytest.raises(Untrusted):
        trust(tmp_path, clock_now()).judge(der, APPLICATION_URI)
    known = TrustList(tmp_path)
    (entry,) = known.all()
    stale = entry.devices["machine"]
    known.decide("machine", "accepted", clock_now().now())
    stale.last_seen += 2 * DAY_NS
    known.note(entry.certificate, "machine", stale)  # an agent that read the list before that
    assert known.all()[0].devices["machine"].state == "accepted"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can leave files that the agent cannot use")
async def test_what_root_makes_belongs_to_the_agents_user(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    os.chown(data_dir, 1234, 1234)
    OwnCertificates(data_dir).candidates(clock_now().now())
    with pytest.raises(Untrusted):
        trust(data_dir, clock_now()).judge(application_identity(APPLICATION_URI)[0], APPLICATION_URI)
    made = list(data_dir.rglob("*"))
    assert len(made) == 8  # two folders and the one between, two locks, key, certificate, entry
    assert {file.stat().st_uid for file in made} == {1234}


def test_a_changed_byte_is_a_forgery() -> None:
    der, _ = application_identity(APPLICATION_URI)
    forged = der[:-1] + bytes([der[-1] ^ 1])
    with pytest.raises(Untrusted, match="forged"):
        trust(None, clock_now(), trust="first-use").judge(forged, APPLICATION_URI)


def test_an_authority_vouches_for_its_servers_until_it_takes_one_back(tmp_path: Path) -> None:
    key, authority = make_authority("Plant CA")
    _, stranger = make_authority("Plant CA")  # of the same name
    der = issue(key, authority)
    pem = authority.public_bytes(Encoding.PEM).decode()
    trust(tmp_path, clock_now(), {"ca": pem}, ca="ca").judge(der, APPLICATION_URI)
    with pytest.raises(Untrusted):
        trust(tmp_path, clock_now(), {"ca": stranger.public_bytes(Encoding.PEM).decode()}, ca="ca").judge(
            der, APPLICATION_URI
        )
    with pytest.raises(Untrusted):  # what the authority accepted is not trusted without it
        trust(tmp_path, clock_now()).judge(der, APPLICATION_URI)
    with pytest.raises(Untrusted, match="holds no certificate"):
        trust(tmp_path, clock_now(), {"ca": "oops"}, ca="ca").judge(der, APPLICATION_URI)
    between_key, between = make_authority("Workshop CA", key, authority)
    chain = issue(between_key, between) + between.public_bytes(Encoding.DER)
    trust(tmp_path, clock_now(), {"ca": pem}, ca="ca").judge(chain, APPLICATION_URI)
    with pytest.raises(Untrusted):  # the link is missing
        trust(tmp_path, clock_now(), {"ca": pem}, ca="ca").judge(issue(between_key, between), APPLICATION_URI)
    revoked = pem + revocation_list(key, authority, der)
    with pytest.raises(Untrusted):
        trust(tmp_path, clock_now(), {"ca": revoked}, ca="ca").judge(der, APPLICATION_URI)


def make_authority(
    name: str, signing: rsa.RSAPrivateKey | None = None, above: x509.Certificate | None = None
) -> tuple[rsa.RSAPrivateKey, x509.Certificate]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    issuer = above.subject if above else subject
    return key, sign(signing or key, issuer, subject, key.public_key(), x509.BasicConstraints(True, None))


def issue(key: rsa.RSAPrivateKey, authority: x509.Certificate) -> bytes:
    server = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(APPLICATION_URI), x509.DNSName("localhost")])
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "machine")])
    return sign(key, authority.subject, name, server.public_key(), names).public_bytes(Encoding.DER)


def sign(
    key: rsa.RSAPrivateKey, issuer: x509.Name, subject: x509.Name, public: Any, extension: x509.ExtensionType
) -> x509.Certificate:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=90))
        .add_extension(extension, critical=False)
        .sign(key, hashes.SHA256())
    )


def revocation_list(key: rsa.RSAPrivateKey, authority: x509.Certificate, der: bytes) -> str:
    now = datetime.now(UTC)
    serial = x509.load_der_x509_certificate(der).serial_number
    entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now).build()
    made = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(authority.subject)
        .last_update(now)
        .next_update(now + timedelta(days=9))
        .add_revoked_certificate(entry)
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(Encoding.PEM).decode()


def test_a_server_that_shows_ever_new_certificates_does_not_fill_the_disk(tmp_path: Path) -> None:
    der, _ = application_identity(APPLICATION_URI)
    trust(tmp_path, clock_now(), trust="first-use").judge(der, APPLICATION_URI)
    known = TrustList(tmp_path)
    (accepted,) = known.all()
    for number in range(PENDING_MAX + 5):
        facts = accepted.certificate
        shown = type(facts)(f"{number:040x}", f"{number:064x}", *(getattr(facts, key) for key in facts.__slots__[2:]))
        known.note(shown, "machine", Sighting(first_seen=number, last_seen=number * 3600 * 10**9))
    left = known.all()
    assert len(left) == PENDING_MAX + 1
    assert accepted.certificate.sha256 in {each.certificate.sha256 for each in left}


def test_a_name_that_means_nothing_or_several_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    known = TrustList(tmp_path)
    for _ in range(2):
        with pytest.raises(Untrusted):
            trust(tmp_path, clock_now()).judge(application_identity(APPLICATION_URI)[0], APPLICATION_URI)
    with pytest.raises(WrongInput, match="means 2 certificates") as several:
        known.decide("machine", "accepted", 1)
    assert known.all()[0].certificate.thumbprint[:12] in several.value.hint
    with pytest.raises(WrongInput, match="no certificate and no device"):
        known.decide("abc", "accepted", 1)
    assert main(["trust", "accept", "machine", "--despite", "all", "--data-dir", str(tmp_path)]) == 2
    assert "not-yet-valid" in capsys.readouterr().err
    assert main(["trust", "accept", "machine", "--data-dir", str(tmp_path / "nowhere")]) == 2
    (next(tmp_path.glob("trust/*.json"))).write_text("{")  # a broken file is no decision, and stops nothing
    assert len(known.all()) == 1


def test_our_certificate_is_made_once_and_its_key_is_ours_alone(tmp_path: Path) -> None:
    now = clock_now().now()
    (own,) = OwnCertificates(tmp_path).candidates(now)
    (again,) = OwnCertificates(tmp_path).candidates(now)
    assert own.certificate == again.certificate
    assert own.file is not None
    assert own.file.read_bytes() == own.der
    key = own.file.with_suffix(".pem")
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    (uri,), hosts = alternative_names(x509.load_der_x509_certificate(own.der))
    assert uri == own.certificate.uri
    assert re.fullmatch(r"urn:.+:yulink:[0-9a-f]{8}", uri)
    assert os.uname().nodename in hosts
    assert make_certificate(now).certificate.uri != uri  # no two gateways have the same


def test_our_certificate_is_renewed_early_and_no_clock_makes_the_trusted_one_go_away(tmp_path: Path) -> None:
    start = clock_now().now()
    own = OwnCertificates(tmp_path)
    (first,) = own.candidates(start)
    (same,) = own.candidates(first.certificate.not_after - 200 * DAY_NS)
    assert same == first
    soon = first.certificate.not_after - 100 * DAY_NS
    second, old = own.candidates(soon)
    assert old == first
    assert second.certificate.uri == first.certificate.uri
    assert second.certificate.not_after > first.certificate.not_after
    assert own.candidates(first.certificate.not_after + DAY_NS) == [second]
    # The clock jumps ten years ahead and back again.
    (far,) = own.candidates(start + 3650 * DAY_NS)
    assert far not in (first, second)
    assert own.candidates(soon) == [second, first]
    assert first in own.candidates(start)
    # It falls back to 1970: nothing is made, something is shown.
    assert own.candidates(0)
    assert len(own.known()) == 3


def test_a_full_disk_does_not_take_away_the_certificate_that_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = clock_now().now()
    (first,) = OwnCertificates(tmp_path / "a").candidates(now)

    def full(file: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert OwnCertificates(tmp_path / "a").candidates(first.certificate.not_after - DAY_NS) == [first]
    with pytest.raises(Disconnected, match=r"cannot be kept: .*No space left"):
        OwnCertificates(tmp_path / "b").candidates(now)


async def test_while_a_server_knows_our_old_certificate_only_it_is_read_and_meets_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = OwnCertificates(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(own_certificate, "LASTS", timedelta(days=100))
        (old,) = own.candidates(clock_now().now())
    async with serve_opcua([SPEED], security=("sign+encrypt",)) as server:
        server.trusts = lambda der: der == old.der
        driver, catalogue = make_driver(SPEC, settings(server.url, trust=server.sha256), data_dir=tmp_path)
        assert await reads(driver, catalogue)
        new, _ = own.candidates(clock_now().now())
        assert server.clients == [new.der, old.der]
        (_, state) = driver.certificates  # type: ignore[attr-defined]
        assert state.thumbprint == old.certificate.thumbprint
        assert "does not trust our new certificate yet" in state.doubt
        assert str(new.file) in state.doubt
        server.trusts = lambda der: der == new.der
        assert await reads(driver, catalogue)
        (_, state) = driver.certificates  # type: ignore[attr-defined]
        assert (state.thumbprint, state.doubt) == (new.certificate.thumbprint, "")
        server.trusts = lambda der: False
        with pytest.raises(Disconnected, match="refuses us: BadCertificateUntrusted") as refused:
            await reads(driver, catalogue)
        assert str(new.file) in refused.value.hint


async def test_a_certificate_of_the_configuration_is_shown_as_it_is(tmp_path: Path) -> None:
    der, key = application_identity("urn:plant:gateway")
    pem = x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM).decode()
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    other_pem = other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    async with serve_opcua([SPEED], security=("sign+encrypt",)) as server:
        given = settings(server.url, trust=server.sha256, identity="own")
        assert await reads(*make_driver(SPEC, given, secrets={"own": pem + key.decode()}, data_dir=tmp_path))
        assert server.clients == [der]
        assert not (tmp_path / "opcua").exists()
        with pytest.raises(Disconnected, match="do not belong together"):
            await reads(*make_driver(SPEC, given, secrets={"own": pem + other_pem}))
