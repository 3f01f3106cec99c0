"""Keys of the brain, to which gateways seal: made, read and named here.

A key file is PEM that stock tools read. The default pairs ML-KEM-768 (FIPS 203) with X25519, so that it holds as long
as either of the two does: two PEM blocks in one file. One X25519 block alone is the smaller, classical option.
"""

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import (
    AEAD,
    KDF,
    KEM,
    MLKEM768X25519PrivateKey,
    MLKEM768X25519PublicKey,
    Suite,
)

from edge.core.errors import WrongInput
from edge.core.language import say

HYBRID = "MLKEM768_X25519"
CLASSICAL = "X25519"

_SUITES = {
    HYBRID: Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM),
    CLASSICAL: Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM),
}
_PEM = re.compile(rb"-----BEGIN ([A-Z ]+)-----.*?-----END \1-----\s*", re.S)


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A brain's public key. `id` are the first 8 bytes of the SHA-256 of its DER blocks, in hex."""

    id: str
    kem: str
    _blocks: tuple[Any, ...]

    def wrap(self, secret: bytes, info: bytes) -> bytes:
        """Return the secret sealed to this key with HPKE (RFC 9180, base mode): encapsulated key, then ciphertext."""
        key = MLKEM768X25519PublicKey(*self._blocks) if self.kem == HYBRID else self._blocks[0]
        return _SUITES[self.kem].encrypt(secret, key, info)


@dataclass(frozen=True, slots=True)
class PrivateKey:
    """A brain's private key; `public` is its other half."""

    public: PublicKey
    _blocks: tuple[Any, ...]

    def unwrap(self, sealed: bytes, info: bytes) -> bytes:
        """Return the secret. Raises ValueError when it was not sealed to this key with this `info`."""
        key = MLKEM768X25519PrivateKey(*self._blocks) if self.public.kem == HYBRID else self._blocks[0]
        try:
            return _SUITES[self.public.kem].decrypt(sealed, key, info)
        except (InvalidTag, ValueError) as error:
            raise ValueError("not sealed to this key") from error

    def pem(self) -> bytes:
        """Return the private key file's content."""
        return b"".join(
            block.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            for block in self._blocks
        )

    def public_pem(self) -> bytes:
        """Return the public key file's content."""
        return b"".join(_spki(block.public_key(), serialization.Encoding.PEM) for block in self._blocks)


def make_key(kem: str = HYBRID) -> PrivateKey:
    """Return a new key."""
    blocks = (X25519PrivateKey.generate(),)
    return _private((MLKEM768PrivateKey.generate(), *blocks) if kem == HYBRID else blocks)


def write_key(key: PrivateKey, private: Path, public: Path) -> None:
    """Write both halves; the private one is readable by its owner only. Raises WrongInput rather than overwrite."""
    for path, content, mode in ((private, key.pem(), 0o600), (public, key.public_pem(), 0o644)):
        try:
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        except OSError as error:
            raise WrongInput(
                say("the key file {path} cannot be made: {error}", path=path, error=error),
                say("name another file; an existing key is never overwritten"),
            ) from error
        with os.fdopen(file, "wb") as stream:
            stream.write(content)


def read_public(path: Path) -> PublicKey:
    """Return the public key in a file. Raises WrongInput."""
    return _public(_load(path, serialization.load_pem_public_key, (MLKEM768PublicKey, X25519PublicKey)))


def read_signing(path: Path) -> Ed25519PrivateKey:
    """Return the key that signs messages. Raises WrongInput for a file that holds none."""
    expected = say("expected an Ed25519 key in PEM")
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise WrongInput(say("the key {path} cannot be read: {error}", path=path, error=error), expected) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise WrongInput(say("{path} holds no Ed25519 key", path=path), expected)
    return key


def read_private(path: Path) -> PrivateKey:
    """Return the private key in a file. Raises WrongInput."""

    def load(pem: bytes) -> Any:
        return serialization.load_pem_private_key(pem, None)

    return _private(_load(path, load, (MLKEM768PrivateKey, X25519PrivateKey)))


def _load(path: Path, load: Any, types: tuple[type, ...]) -> tuple[Any, ...]:
    try:
        blocks = tuple(load(match[0]) for match in _PEM.finditer(path.read_bytes()))
    except (OSError, ValueError, TypeError) as error:
        raise WrongInput(
            say("the key {path} cannot be read: {error}", path=path, error=error),
            say("make one with `yulink keys new`"),
        ) from error
    if not _fits(blocks, types):
        raise WrongInput(
            say("{path} holds no sealing key", path=path),
            say("expected an X25519 key, or an ML-KEM-768 and an X25519 key; make one with `yulink keys new`"),
        )
    return blocks


def _fits(blocks: tuple[Any, ...], types: tuple[type, ...]) -> bool:
    return len(blocks) in (1, 2) and all(
        isinstance(block, kind) for block, kind in zip(blocks, types[-len(blocks) :], strict=True)
    )


def _spki(key: Any, encoding: serialization.Encoding) -> bytes:
    encoded: bytes = key.public_bytes(encoding, serialization.PublicFormat.SubjectPublicKeyInfo)
    return encoded


def _public(blocks: tuple[Any, ...]) -> PublicKey:
    digest = hashlib.sha256(b"".join(_spki(block, serialization.Encoding.DER) for block in blocks))
    return PublicKey(digest.hexdigest()[:16], HYBRID if len(blocks) == 2 else CLASSICAL, blocks)


def _private(blocks: tuple[Any, ...]) -> PrivateKey:
    return PrivateKey(_public(tuple(block.public_key() for block in blocks)), blocks)
