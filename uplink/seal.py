"""Sealing: what nobody between gateway and brain can read or change.

Each run of the gateway draws a content key and wraps it once for every recipient (HPKE, see `uplink.keys`). The wrapped
keys go out as an announcement, a COSE_Sign1 (RFC 9052) under the gateway's own certificate, so the brain knows who
sealed. A message is a COSE_Encrypt0 under the content key with the topic as external data; its nonce is a salt and a
counter of this run, and the key is never stored, so no restored database can repeat a nonce. Acknowledgements come back
under a second key derived from the first: a forged one would make the gateway forget.
"""

import base64
import bisect
import json
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cbor2
from cryptography import x509
from cryptography.exceptions import InvalidSignature, InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.x509.oid import NameOID

from edge.core.errors import WrongInput, YulinkError
from edge.core.language import say
from uplink.keys import PrivateKey, PublicKey

KEY_LIFETIME_S = 86_400.0
NONCE_BYTES, SALT_BYTES, TAG_BYTES = 12, 4, 16

_COUNTER_MAX = 2**64
_HOLES_MAX = 1000

_ENCRYPT0, _SIGN1 = 16, 18
_ALG, _KID, _IV, _X5CHAIN, _NUMBER = 1, 4, 5, 33, "seq"
_ES256, _EDDSA, _PS256 = -7, -8, -37

CIPHERS = {"A256GCM": 3, "SM4-GCM": -65_600}
"""COSE algorithm by name. SM4-GCM (GB/T 32907) has no registered number; this one is from the private range."""
_KEY_BYTES = {3: 32, -65_600: 16}
_MALFORMED = (
    *(ValueError, TypeError, KeyError, IndexError, AttributeError),
    *(EOFError, OverflowError, RecursionError, UnsupportedAlgorithm, x509.InvalidVersion),
)


class BadSeal(YulinkError):
    """The envelope was changed, is cut, came by another topic, or is none."""


class UnknownKey(BadSeal):
    """Sealed under a key that was not announced to us; the gateway announces again when asked."""


def _aead_encrypt(alg: int, key: bytes, nonce: bytes, plain: bytes, aad: bytes) -> bytes:
    if alg == CIPHERS["A256GCM"]:
        return AESGCM(key).encrypt(nonce, plain, aad)
    encryptor = Cipher(algorithms.SM4(key), modes.GCM(nonce)).encryptor()
    encryptor.authenticate_additional_data(aad)
    return encryptor.update(plain) + encryptor.finalize() + encryptor.tag


def _aead_decrypt(alg: int, key: bytes, nonce: bytes, sealed: bytes, aad: bytes) -> bytes:
    if alg == CIPHERS["A256GCM"]:
        return AESGCM(key).decrypt(nonce, sealed, aad)
    decryptor = Cipher(algorithms.SM4(key), modes.GCM(nonce, sealed[-TAG_BYTES:])).decryptor()
    decryptor.authenticate_additional_data(aad)
    return decryptor.update(sealed[:-TAG_BYTES]) + decryptor.finalize()


def _encrypt0(
    alg: int, key: bytes, kid: bytes, nonce: bytes, plain: bytes, topic: str, number: tuple[int, int] | None = None
) -> bytes:
    header: dict[int | str, Any] = {_ALG: alg, _KID: kid}
    if number is not None:
        header[_NUMBER] = list(number)
    protected = cbor2.dumps(header)
    aad = cbor2.dumps(["Encrypt0", protected, topic.encode()])
    sealed = _aead_encrypt(alg, key, nonce, plain, aad)
    return cbor2.dumps(cbor2.CBORTag(_ENCRYPT0, [protected, {_IV: nonce}, sealed]))


@dataclass(frozen=True, slots=True)
class _Envelope:
    alg: int
    kid: bytes
    nonce: bytes
    protected: bytes
    sealed: bytes
    number: tuple[int, int] | None

    @classmethod
    def parse(cls, payload: bytes) -> "_Envelope":
        try:
            tagged = cbor2.loads(payload)
            protected, unprotected, sealed = tagged.value
            header = cbor2.loads(protected)
            number = header.get(_NUMBER)
            if number is not None:
                epoch, seq = map(int, number)
                number = (epoch, seq)
            envelope = cls(header[_ALG], header[_KID], unprotected[_IV], protected, sealed, number)
            texts = (envelope.kid, envelope.nonce, envelope.sealed)
            if (
                tagged.tag != _ENCRYPT0
                or envelope.alg not in _KEY_BYTES
                or not all(isinstance(t, bytes) for t in texts)
            ):
                raise ValueError
        except _MALFORMED as error:
            raise BadSeal(say("not a sealed message")) from error
        return envelope

    def open(self, key: bytes, topic: str) -> bytes:
        aad = cbor2.dumps(["Encrypt0", self.protected, topic.encode()])
        try:
            return _aead_decrypt(self.alg, key, self.nonce, self.sealed, aad)
        except (InvalidTag, ValueError) as error:
            raise BadSeal(say("the message was changed on its way, or came by another topic")) from error


def is_sealed(payload: bytes) -> bool:
    """Tell whether a payload is an envelope: tag 16 (COSE_Encrypt0), or 18 (COSE_Sign1) around one."""
    return payload[:1] in (b"\xd0", b"\xd2")


def number_of(payload: bytes) -> tuple[int, int] | None:
    """Return (epoch, seq) of a sealed message, which its header tells everyone; None where it does not.

    Raises:
        BadSeal: not a sealed message.
    """
    return _Envelope.parse(_sign1_payload(payload) if payload[:1] == b"\xd2" else payload).number


def _ack_key(key: bytes, kid: bytes) -> bytes:
    return HKDF(hashes.SHA256(), len(key), kid, b"yulink v1 acknowledgement").derive(key)


class Sealer:
    """The gateway's side: one content key, and whom it is for.

    recipients  the brains' public keys
    identity    PEM with the gateway's certificate (chain) and key: signs the announcement
    cipher      a name of `CIPHERS`
    signing     an Ed25519 key that signs every message besides; None does not
    """

    def __init__(
        self,
        gateway: str,
        recipients: Sequence[PublicKey],
        identity: Path,
        cipher: str = "A256GCM",
        signing: Ed25519PrivateKey | None = None,
    ) -> None:
        self._gateway = gateway
        self._recipients = recipients
        self._chain, self._identity = read_identity(identity)
        self._alg = CIPHERS[cipher]
        self._signing = signing
        self._renew()

    def _renew(self) -> None:
        self._key = secrets.token_bytes(_KEY_BYTES[self._alg])
        self._kid = secrets.token_bytes(8)
        self._salt = secrets.token_bytes(SALT_BYTES)
        self._counter = 0
        self._born = time.monotonic()

    @property
    def is_due(self) -> bool:
        """Tell whether the content key is so old that the next announcement draws a new one."""
        return time.monotonic() - self._born > KEY_LIFETIME_S

    def announcement(self, topic: str) -> bytes:
        """Return the message that tells the recipients the content key; a new key when the old one is a day old."""
        if self.is_due:
            self._renew()
        facts: dict[str, Any] = {
            "gateway": self._gateway,
            "kid": self._kid.hex(),
            "alg": self._alg,
            "salt": self._salt.hex(),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        if self._signing is not None:
            facts["signing"] = base64.b64encode(self._signing.public_key().public_bytes_raw()).decode()
        facts["recipients"] = [
            {
                "key": recipient.id,
                "kem": recipient.kem,
                "sealed": base64.b64encode(recipient.wrap(self._key, _info(facts))).decode(),
            }
            for recipient in self._recipients
        ]
        return sign1(json.dumps(facts).encode(), topic, self._identity, self._chain)

    def seal(self, topic: str, plain: bytes, number: tuple[int, int] | None = None) -> bytes:
        """Return the message encrypted for the recipients, bound to its topic and to its `number`, (epoch, seq)."""
        self._counter += 1
        nonce = self._salt + self._counter.to_bytes(NONCE_BYTES - SALT_BYTES, "big")
        envelope = _encrypt0(self._alg, self._key, self._kid, nonce, plain, topic, number)
        return envelope if self._signing is None else sign1(envelope, topic, self._signing, ())

    def open_ack(self, topic: str, payload: bytes) -> bytes:
        """Return an acknowledgement that a recipient of the present key made. Raises BadSeal."""
        envelope = _Envelope.parse(payload)
        if envelope.kid != self._kid:
            raise UnknownKey(say("an acknowledgement under another key"))
        return envelope.open(_ack_key(self._key, self._kid), topic)


@dataclass(slots=True)
class _Content:
    """A content key that was announced, and which counters were seen under it."""

    gateway: str
    alg: int
    key: bytes
    salt: bytes
    signing: Ed25519PublicKey | None
    seen: list[tuple[int, int]] = field(default_factory=list)

    def repeated(self, counter: int) -> bool:
        """Note a counter and tell whether it was seen before. `seen` are ranges, ascending and apart."""
        place = bisect.bisect_right(self.seen, (counter, _COUNTER_MAX))
        first, last = self.seen[place - 1] if place else (counter, -1)
        if counter <= last:
            return True
        after = place < len(self.seen) and self.seen[place][0] == counter + 1
        end = self.seen[place][1] if after else counter
        joins = place > 0 and last == counter - 1
        self.seen[place - joins : place + after] = [(first if joins else counter, end)]
        if len(self.seen) > _HOLES_MAX:  # what has not come for so long stays away
            self.seen[:2] = [(self.seen[0][0], self.seen[1][1])]
        return False


@dataclass(frozen=True, slots=True)
class Opened:
    """A message's plain text. `repeated`: the very same envelope was opened before, by redelivery or by replay.

    number  (epoch, seq) as its header tells, which the seal protects; None where it does not
    """

    plain: bytes
    gateway: str
    kid: bytes
    repeated: bool
    number: tuple[int, int] | None = None


class Opener:
    """The brain's side: its private keys, and the content keys it was told.

    `ca` is the authority of the gateways' certificates.
    """

    def __init__(self, keys: Sequence[PrivateKey], ca: Path) -> None:
        self._keys = {key.public.id: key for key in keys}
        self._ca = x509.load_pem_x509_certificates(ca.read_bytes())
        self._contents: dict[bytes, _Content] = {}
        self._latest: dict[str, bytes] = {}

    def learn(self, topic: str, payload: bytes) -> str:
        """Take in an announcement and return the gateway it is of.

        Raises:
            BadSeal: not signed by a certificate of our authority for the gateway of this topic, or not for us.
        """
        text, leaf = verify_sign1(payload, topic, self._ca)
        try:
            facts = json.loads(text)
            gateway, kid, salt = facts["gateway"], bytes.fromhex(facts["kid"]), bytes.fromhex(facts["salt"])
            if topic != f"v1/{gateway}/key" or common_name(leaf) != gateway:
                raise BadSeal(
                    say(
                        "the certificate of {name} announces a key of {gateway}",
                        name=common_name(leaf),
                        gateway=gateway,
                    )
                )
            entry = next((each for each in facts["recipients"] if each["key"] in self._keys), None)
            if entry is None:
                raise BadSeal(
                    say("sealed to other keys than ours"), say("set `seal_to` of the gateway to our public key")
                )
            secret = self._keys[entry["key"]].unwrap(base64.b64decode(entry["sealed"]), _info(facts))
            signing = facts.get("signing")
            public = Ed25519PublicKey.from_public_bytes(base64.b64decode(signing)) if signing else None
            if len(secret) != _KEY_BYTES[facts["alg"]]:
                raise ValueError("a key of the wrong length")
            self._contents.setdefault(kid, _Content(gateway, facts["alg"], secret, salt, public))
            self._latest[gateway] = kid
        except _MALFORMED as error:
            raise BadSeal(say("an announcement that cannot be read: {error}", error=error)) from error
        return str(gateway)

    def open(self, topic: str, payload: bytes) -> Opened:
        """Return what a message says, having made sure who sealed it.

        Raises:
            UnknownKey: its key was not announced to us yet.
            BadSeal: it was changed, cut, or came by another topic.
        """
        signature = None
        if payload[:1] == b"\xd2":
            signature, payload = payload, _sign1_payload(payload)
        envelope = _Envelope.parse(payload)
        content = self._contents.get(envelope.kid)
        if content is None:
            raise UnknownKey(say("sealed under a key that was not announced"))
        if not topic.startswith(f"v1/{content.gateway}/") or envelope.alg != content.alg:
            raise BadSeal(say("the message was changed on its way, or came by another topic"))
        if content.signing is not None:
            if signature is None:
                raise BadSeal(say("the gateway signs its messages, this one is not signed"))
            _verify_with(content.signing, signature, topic)
        if envelope.nonce[:SALT_BYTES] != content.salt or len(envelope.nonce) != NONCE_BYTES:
            raise BadSeal(say("the message was changed on its way, or came by another topic"))
        plain = envelope.open(content.key, topic)
        counter = int.from_bytes(envelope.nonce[SALT_BYTES:], "big")
        return Opened(plain, content.gateway, envelope.kid, content.repeated(counter), envelope.number)

    def seal_ack(self, gateway: str, topic: str, plain: bytes) -> bytes | None:
        """Return an acknowledgement that only this gateway takes; None when it has announced no key."""
        kid = self._latest.get(gateway)
        if kid is None:
            return None
        content = self._contents[kid]
        key = _ack_key(content.key, kid)
        return _encrypt0(content.alg, key, kid, secrets.token_bytes(NONCE_BYTES), plain, topic)


def _info(facts: dict[str, Any]) -> bytes:
    """Return HPKE's `info`: everything the key is bound to."""
    bound = [facts["gateway"], facts["kid"], facts["alg"], facts["salt"], facts.get("signing")]
    return b"yulink v1 key " + json.dumps(bound, separators=(",", ":")).encode()


def common_name(certificate: x509.Certificate) -> str:
    """Return the certificate's common name, "" when it has none."""
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if names else ""


def read_identity(path: Path) -> tuple[tuple[bytes, ...], Any]:
    """Return the certificate chain (DER) and the private key in a PEM file. Raises WrongInput."""
    try:
        pem = path.read_bytes()
        chain = tuple(
            certificate.public_bytes(serialization.Encoding.DER) for certificate in x509.load_pem_x509_certificates(pem)
        )
        start = pem.index(b"-----BEGIN", pem.find(b"PRIVATE KEY") - 30)
        return chain, serialization.load_pem_private_key(pem[start:], None)
    except (OSError, ValueError, TypeError) as error:
        raise WrongInput(
            say("certificate files cannot be used: {error}", error=error), say("check `ca` and `identity`")
        ) from error


def sign1(payload: bytes, topic: str, key: Any, chain: Sequence[bytes]) -> bytes:
    """Return a COSE_Sign1 around a payload, bound to a topic, with the signer's certificates."""
    alg = _ES256 if isinstance(key, ec.EllipticCurvePrivateKey) else _PS256
    alg = _EDDSA if isinstance(key, Ed25519PrivateKey) else alg
    header: dict[int, Any] = {_ALG: alg}
    if chain:
        header[_X5CHAIN] = list(chain) if len(chain) > 1 else chain[0]
    protected = cbor2.dumps(header)
    signed = cbor2.dumps(["Signature1", protected, topic.encode(), payload])
    if isinstance(key, ec.EllipticCurvePrivateKey):
        pair = decode_dss_signature(key.sign(signed, ec.ECDSA(hashes.SHA256())))
        size = (key.curve.key_size + 7) // 8
        signature = b"".join(number.to_bytes(size, "big") for number in pair)
    elif isinstance(key, rsa.RSAPrivateKey):
        signature = key.sign(signed, padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256())
    else:
        signature = key.sign(signed)
    return cbor2.dumps(cbor2.CBORTag(_SIGN1, [protected, {}, payload, signature]))


def _parse_sign1(message: bytes) -> tuple[bytes, dict[Any, Any], bytes, bytes]:
    try:
        tagged = cbor2.loads(message)
        protected, unprotected, payload, signature = tagged.value
        header = cbor2.loads(protected)
        texts = isinstance(payload, bytes) and isinstance(signature, bytes)
        if tagged.tag != _SIGN1 or unprotected != {} or not texts:
            raise ValueError
        return protected, dict(header), payload, signature
    except _MALFORMED as error:
        raise BadSeal(say("not a signed message")) from error


def _sign1_payload(message: bytes) -> bytes:
    return _parse_sign1(message)[2]


def _verify_with(key: Any, message: bytes, topic: str) -> None:
    protected, _, payload, signature = _parse_sign1(message)
    signed = cbor2.dumps(["Signature1", protected, topic.encode(), payload])
    try:
        if isinstance(key, ec.EllipticCurvePublicKey):
            half = len(signature) // 2
            pair = (int.from_bytes(signature[:half], "big"), int.from_bytes(signature[half:], "big"))
            key.verify(encode_dss_signature(*pair), signed, ec.ECDSA(hashes.SHA256()))
        elif isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, signed, padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256())
        elif isinstance(key, Ed25519PublicKey):
            key.verify(signature, signed)
        else:
            raise BadSeal(say("a signature of a kind that is not used here"))
    except InvalidSignature as error:
        raise BadSeal(say("the signature does not fit: the message was changed on its way")) from error


def verify_sign1(
    message: bytes, topic: str, authorities: Sequence[x509.Certificate], when: datetime | None = None
) -> tuple[bytes, x509.Certificate]:
    """Return payload and signer of a message whose certificate chain led to one of the authorities; by default today.

    Raises:
        BadSeal: it did not, or the message was changed.
    """
    _, header, payload, _ = _parse_sign1(message)
    chain: Any = header.get(_X5CHAIN)
    try:
        certificates = [x509.load_der_x509_certificate(der) for der in (chain if isinstance(chain, list) else [chain])]
        now = when or datetime.now(UTC)
        for certificate, issuer in zip(certificates, [*certificates[1:], None], strict=True):
            if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
                raise BadSeal(say("the certificate of {name} is not valid today", name=common_name(certificate)))
            issuers = [issuer] if issuer is not None else authorities
            if not any(_issued(certificate, each) for each in issuers):
                raise BadSeal(say("the certificate of {name} is not of our authority", name=common_name(certificate)))
        public = certificates[0].public_key()
    except _MALFORMED as error:
        raise BadSeal(say("not a signed message")) from error
    _verify_with(public, message, topic)
    return payload, certificates[0]


def _issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True
