"""Sealing: only the brain reads, only the gateway writes, and whatever is done in between is noticed."""

import base64
import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cwt import COSE, COSEKey
from hypothesis import given
from hypothesis import strategies as st

from edge.core.errors import WrongInput
from simulators.pki import Pki, make_pki
from uplink import seal
from uplink.keys import CLASSICAL, HYBRID, PrivateKey, make_key, read_private, read_public, write_key
from uplink.seal import CIPHERS, BadSeal, Opener, Sealer, UnknownKey, _Content, is_sealed

SITE = "chongqing/plant-1"
KEY_TOPIC = f"v1/{SITE}/key"
TOPIC = f"v1/{SITE}/data/telemetry"
ACK_TOPIC = f"v1/{SITE}/ack"
BRAIN = make_key(CLASSICAL)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return make_pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def identity(authority: Pki) -> Path:
    return authority.issue("gateway", common_name=SITE)


@pytest.fixture
def pair(authority: Pki, identity: Path) -> tuple[Sealer, Opener]:
    sealer, opener = Sealer(SITE, [BRAIN.public], identity), Opener([BRAIN], authority.ca)
    opener.learn(KEY_TOPIC, sealer.announcement(KEY_TOPIC))
    return sealer, opener


@pytest.mark.parametrize("kem", [HYBRID, CLASSICAL])
@pytest.mark.parametrize("cipher", CIPHERS)
@pytest.mark.parametrize("signed", [False, True])
def test_what_is_sealed_opens_for_every_recipient_and_nobody_else(
    authority: Pki, identity: Path, kem: str, cipher: str, signed: bool
) -> None:
    brains = [make_key(kem), make_key(kem)]
    signing = Ed25519PrivateKey.generate() if signed else None
    sealer = Sealer(SITE, [brain.public for brain in brains], identity, cipher, signing)
    announcement = sealer.announcement(KEY_TOPIC)
    message = sealer.seal(TOPIC, b"level 42")
    assert is_sealed(message)
    assert b"level" not in message
    for brain in brains:
        opener = Opener([brain], authority.ca)
        assert opener.learn(KEY_TOPIC, announcement) == SITE
        opened = opener.open(TOPIC, message)
        assert (opened.plain, opened.gateway, opened.repeated) == (b"level 42", SITE, False)
    with pytest.raises(BadSeal, match="other keys"):
        Opener([make_key(kem)], authority.ca).learn(KEY_TOPIC, announcement)


@given(st.data())
def test_any_changed_bit_and_any_cut_is_noticed(data: st.DataObject) -> None:
    sealer, opener = _pair()
    message = bytearray(sealer.seal(TOPIC, b"level 42"))
    place = data.draw(st.integers(0, len(message) * 8 - 1))
    message[place // 8] ^= 1 << place % 8
    cut = data.draw(st.integers(0, len(message) - 1))
    for changed in (bytes(message), bytes(message[:cut])):
        with pytest.raises(BadSeal):
            opener.open(TOPIC, changed)


@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")  # it dislikes what we changed
@given(st.data())
def test_a_changed_announcement_is_noticed(data: st.DataObject) -> None:
    sealer, opener = _pair()
    announcement = bytearray(sealer.announcement(KEY_TOPIC))
    place = data.draw(st.integers(0, len(announcement) * 8 - 1))
    announcement[place // 8] ^= 1 << place % 8
    with pytest.raises(BadSeal):
        opener.learn(KEY_TOPIC, bytes(announcement))


_MADE: list[tuple[Sealer, Opener]] = []


def _pair() -> tuple[Sealer, Opener]:
    if not _MADE:
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            pki = make_pki(Path(folder))
            sealer = Sealer(SITE, [BRAIN.public], pki.issue("gateway", common_name=SITE))
            opener = Opener([BRAIN], pki.ca)
        opener.learn(KEY_TOPIC, sealer.announcement(KEY_TOPIC))
        _MADE.append((sealer, opener))
    return _MADE[0]


def test_a_message_moved_to_another_topic_is_noticed(pair: tuple[Sealer, Opener]) -> None:
    sealer, opener = pair
    message = sealer.seal(TOPIC, b"x")
    for topic in (f"v1/{SITE}/event", "v1/chongqing/plant-2/data/telemetry", TOPIC + "/more"):
        with pytest.raises(BadSeal):
            opener.open(topic, message)


def test_the_same_envelope_again_is_told_and_a_resend_is_not(pair: tuple[Sealer, Opener]) -> None:
    sealer, opener = pair
    first, second, third = (sealer.seal(TOPIC, b"same content") for _ in range(3))
    assert [opener.open(TOPIC, each).repeated for each in (first, third, second, first, second, third)] == [
        False, False, False, True, True, True,
    ]  # fmt: skip


def test_no_nonce_is_used_twice_and_every_run_has_its_own_key(authority: Pki, identity: Path) -> None:
    nonces = set()
    for _ in range(3):
        sealer = Sealer(SITE, [BRAIN.public], identity)
        for _ in range(50):
            protected, unprotected, _ = cbor2.loads(sealer.seal(TOPIC, b"x")).value
            nonces.add((cbor2.loads(protected)[4], unprotected[5]))
    assert len(nonces) == 150
    assert len({kid for kid, _ in nonces}) == 3


def test_a_message_of_a_key_that_was_not_announced_asks_for_it(pair: tuple[Sealer, Opener], identity: Path) -> None:
    _, opener = pair
    later = Sealer(SITE, [BRAIN.public], identity)
    with pytest.raises(UnknownKey):
        opener.open(TOPIC, later.seal(TOPIC, b"x"))
    opener.learn(KEY_TOPIC, later.announcement(KEY_TOPIC))
    assert opener.open(TOPIC, later.seal(TOPIC, b"x")).plain == b"x"


@pytest.mark.parametrize("age", [0.0, 86_401.0])
def test_a_key_lives_a_day(pair: tuple[Sealer, Opener], monkeypatch: pytest.MonkeyPatch, age: float) -> None:
    sealer, opener = pair
    born = sealer._born
    monkeypatch.setattr("uplink.seal.time.monotonic", lambda: born + age)
    assert sealer.is_due is (age > 0)
    before = sealer._kid
    opener.learn(KEY_TOPIC, sealer.announcement(KEY_TOPIC))
    assert (sealer._kid != before) is (age > 0)
    assert opener.open(TOPIC, sealer.seal(TOPIC, b"x")).plain == b"x"


def test_only_the_gateways_own_certificate_announces_its_key(authority: Pki, tmp_path: Path) -> None:
    opener = Opener([BRAIN], authority.ca)
    neighbour = Sealer(SITE, [BRAIN.public], authority.issue("neighbour", common_name="chongqing/plant-2"))
    with pytest.raises(BadSeal, match="chongqing/plant-2 announces"):
        opener.learn(KEY_TOPIC, neighbour.announcement(KEY_TOPIC))
    expired = Sealer(SITE, [BRAIN.public], authority.issue("old", common_name=SITE, expired=True))
    with pytest.raises(BadSeal, match="not valid today"):
        opener.learn(KEY_TOPIC, expired.announcement(KEY_TOPIC))
    stranger = Sealer(SITE, [BRAIN.public], make_pki(tmp_path).issue("gateway", common_name=SITE))
    with pytest.raises(BadSeal, match="not of our authority"):
        opener.learn(KEY_TOPIC, stranger.announcement(KEY_TOPIC))
    elsewhere = Sealer("chongqing/plant-2", [BRAIN.public], authority.issue("p2", common_name="chongqing/plant-2"))
    with pytest.raises(BadSeal):
        opener.learn(KEY_TOPIC, elsewhere.announcement("v1/chongqing/plant-2/key"))


def test_a_signing_gateways_unsigned_message_is_refused(authority: Pki, identity: Path) -> None:
    sealer = Sealer(SITE, [BRAIN.public], identity, signing=Ed25519PrivateKey.generate())
    opener = Opener([BRAIN], authority.ca)
    opener.learn(KEY_TOPIC, sealer.announcement(KEY_TOPIC))
    signed = sealer.seal(TOPIC, b"x")
    assert opener.open(TOPIC, signed).plain == b"x"
    with pytest.raises(BadSeal, match="not signed"):
        opener.open(TOPIC, cbor2.loads(signed).value[2])
    forged = seal.sign1(cbor2.loads(signed).value[2], TOPIC, Ed25519PrivateKey.generate(), ())
    with pytest.raises(BadSeal, match="signature does not fit"):
        opener.open(TOPIC, forged)


def test_an_acknowledgement_cannot_be_forged(pair: tuple[Sealer, Opener], authority: Pki, identity: Path) -> None:
    sealer, opener = pair
    answer = opener.seal_ack(SITE, ACK_TOPIC, b'{"epoch": 1}')
    assert answer is not None
    assert sealer.open_ack(ACK_TOPIC, answer) == b'{"epoch": 1}'
    assert opener.seal_ack("chongqing/plant-2", ACK_TOPIC, b"{}") is None
    for forged in (b'{"epoch": 1}', sealer.seal(ACK_TOPIC, b"{}"), answer[:-1] + bytes([answer[-1] ^ 1])):
        with pytest.raises(BadSeal):
            sealer.open_ack(ACK_TOPIC, forged)
    with pytest.raises(UnknownKey):
        Sealer(SITE, [BRAIN.public], identity).open_ack(ACK_TOPIC, answer)


def test_a_stock_library_opens_the_envelope(pair: tuple[Sealer, Opener]) -> None:
    """COSE by its own implementers (python-cwt), given the content key that HPKE yields."""
    sealer, _ = pair
    key = COSEKey.new({1: 4, 2: sealer._kid, 3: 3, -1: sealer._key, 4: [4]})
    recipient = COSE.new()
    message = sealer.seal(TOPIC, b"level 42")
    assert recipient.decode(message, key, external_aad=TOPIC.encode()) == b"level 42"


def test_the_announcement_holds_what_the_contract_says(pair: tuple[Sealer, Opener], authority: Pki) -> None:
    sealer, _ = pair
    tagged = cbor2.loads(sealer.announcement(KEY_TOPIC))
    assert tagged.tag == 18
    facts = json.loads(tagged.value[2])
    assert (facts["gateway"], facts["alg"], len(facts["kid"]), len(facts["salt"])) == (SITE, 3, 16, 8)
    (entry,) = facts["recipients"]
    assert (entry["key"], entry["kem"]) == (BRAIN.public.id, CLASSICAL)
    info = seal._info(facts)
    assert BRAIN.unwrap(base64.b64decode(entry["sealed"]), info) == sealer._key
    with pytest.raises(ValueError, match="not sealed"):
        BRAIN.unwrap(base64.b64decode(entry["sealed"]), info + b"x")


def test_sm4_gcm_gives_the_published_vector() -> None:
    """RFC 8998, appendix A.1."""
    key, nonce = bytes.fromhex("0123456789ABCDEFFEDCBA9876543210"), bytes.fromhex("00001234567800000000ABCD")
    plain = bytes.fromhex(
        "AAAAAAAAAAAAAAAABBBBBBBBBBBBBBBBCCCCCCCCCCCCCCCCDDDDDDDDDDDDDDDD"
        "EEEEEEEEEEEEEEEEFFFFFFFFFFFFFFFFEEEEEEEEEEEEEEEEAAAAAAAAAAAAAAAA"
    )
    aad = bytes.fromhex("FEEDFACEDEADBEEFFEEDFACEDEADBEEFABADDAD2")
    sealed = seal._aead_encrypt(CIPHERS["SM4-GCM"], key, nonce, plain, aad)
    assert sealed.hex().upper() == (
        "17F399F08C67D5EE19D0DC9969C4BB7D5FD46FD3756489069157B282BB200735"
        "D82710CA5C22F0CCFA7CBF93D496AC15A56834CBCF98C397B4024A2691233B8D"
        "83DE3541E4C2B58177E065A9BF7B62EC"
    )
    assert seal._aead_decrypt(CIPHERS["SM4-GCM"], key, nonce, sealed, aad) == plain


@pytest.mark.parametrize("kem", [HYBRID, CLASSICAL])
def test_key_files_come_back_and_the_private_one_is_closed_to_others(tmp_path: Path, kem: str) -> None:
    key = make_key(kem)
    private, public = tmp_path / "brain.key", tmp_path / "brain.pub"
    write_key(key, private, public)
    assert private.stat().st_mode & 0o777 == 0o600
    again: PrivateKey = read_private(private)
    assert read_public(public).id == again.public.id == key.public.id
    assert again.unwrap(read_public(public).wrap(b"secret", b"info"), b"info") == b"secret"
    with pytest.raises(WrongInput, match="cannot be made"):
        write_key(key, private, public)


@pytest.mark.parametrize(
    "content",
    [b"", b"nothing", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", bytes(range(200, 256))],
)
@pytest.mark.parametrize("read", [read_private, read_public])
def test_a_file_that_is_no_key_is_refused_with_what_to_do(
    tmp_path: Path, content: bytes, read: Callable[[Path], Any]
) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(WrongInput) as refused:
        read(tmp_path / "file")
    assert "yulink keys new" in refused.value.hint


@given(st.lists(st.integers(1, 60), max_size=200))
def test_counters_that_were_seen_are_told_from_new_ones_in_any_order_and_with_any_holes(counters: list[int]) -> None:
    content = _Content("a/b", 3, b"", b"", None)
    seen: set[int] = set()
    for counter in counters:
        assert content.repeated(counter) == (counter in seen)
        seen.add(counter)
    covered = [number for first, last in content.seen for number in range(first, last + 1)]
    assert covered == sorted(seen)
    assert all(last + 1 < first for (_, last), (first, _) in pairwise(content.seen)), "neighbours are one range"


def test_holes_do_not_grow_without_bound() -> None:
    content = _Content("a/b", 3, b"", b"", None)
    for counter in range(1, 5000, 2):
        assert not content.repeated(counter)
    assert len(content.seen) <= 1000
    assert content.repeated(4999)
    assert not content.repeated(4998)
    assert content.repeated(2), "what has not come for so long is taken for a repeat, never for new"
