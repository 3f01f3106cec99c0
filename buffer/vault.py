"""Encryption at rest: what lies in the log is sealed with AES-256-GCM (NIST SP 800-38D) under a data key of each run.

The data key is random and stored wrapped under a key made from the operator's secret (scrypt, RFC 7914). A nonce is a
counter under a key that no other run ever uses, so a restored copy of the log repeats none. Without a secret everything
stays plain, and nothing of `cryptography` is loaded.

    sealed body   "YE", version 1, 0, key id (u32), counter (u64), then ciphertext and tag; little-endian.
                  Associated data: these 16 bytes and the position (i64), so no two segments can be exchanged.
    wrapped key   nonce (12 bytes), then ciphertext and tag; associated data "yulink log key " and its id in decimal
    sealed name   the same under the name key; associated data "yulink log name " and the tag id in decimal
"""

import hashlib
import hmac
import json
import os
import struct
from collections.abc import Iterable
from typing import Any

from edge.core.batch import Record
from edge.core.codec import decode, encode
from edge.core.errors import CorruptSegment, LogError
from edge.core.language import say

SECRET_CHARACTERS_MIN = 16
_HEADER = struct.Struct("<2sBBIQ")
_MAGIC = b"YE"
_NONCE_BYTES = 12


class Vault:
    """Turns records into what is stored at a position and back; sealed when there is a secret."""

    def __init__(self, secret: str | None = None) -> None:
        self.is_sealing = secret is not None
        self._keys: dict[int, Any] = {}
        self._key_id = self._counter = 0
        if secret is None:
            return
        if len(secret) < SECRET_CHARACTERS_MIN:
            raise LogError(
                say("the secret of `log: encrypt` is shorter than {count} characters", count=SECRET_CHARACTERS_MIN),
                hint=say("make one: openssl rand -base64 32"),
            )
        made = hashlib.scrypt(secret.encode(), salt=b"yulink log", n=2**14, r=8, p=1, dklen=32)
        self._wrapping = _cipher(hmac.digest(made, b"wrap", "sha256"))
        self._naming = _cipher(hmac.digest(made, b"name", "sha256"))

    def learn(self, rows: Iterable[tuple[int, bytes]]) -> None:
        """Take up the wrapped keys on file.

        Raises:
            LogError: there are some, and no secret or another one. Nothing was changed.
        """
        found = list(rows)
        if found and not self.is_sealing:
            raise LogError(
                say("the log is encrypted, and `log: encrypt` names no secret"),
                hint=say("name the secret it was written with, or another --data-dir"),
            )
        for key_id, wrapped in found:
            if (key := _opened(self._wrapping, wrapped, f"yulink log key {key_id}")) is not None:
                self._keys[key_id] = _cipher(key)
        if found and not self._keys:
            raise LogError(
                say("the secret of `log: encrypt` is not the one this log was written with"),
                hint=say("put the right one back; nothing was changed"),
            )

    def new_key(self, key_id: int) -> bytes:
        """Draw the data key of this run, and return it wrapped. From now on it seals."""
        key = os.urandom(32)
        self._keys[key_id], self._key_id, self._counter = _cipher(key), key_id, 0
        return _sealed(self._wrapping, key, f"yulink log key {key_id}")

    def write(self, position: int, record: Record) -> bytes:
        """Return what is to be stored at a position. A second call seals anew."""
        return self.seal(position, encode(record))

    def seal(self, position: int, plain: bytes) -> bytes:
        """Return bytes as they are stored at a position: sealed where the log is."""
        if not self.is_sealing:
            return plain
        self._counter += 1
        head = _HEADER.pack(_MAGIC, 1, 0, self._key_id, self._counter)
        nonce = self._counter.to_bytes(_NONCE_BYTES, "big")
        return head + bytes(self._keys[self._key_id].encrypt(nonce, plain, head + struct.pack("<q", position)))

    def read(self, position: int, stored: bytes) -> Record:
        """Return the record that was stored at a position.

        Raises:
            CorruptSegment: it is not what was stored there, or its key is lost.
        """
        return decode(self.open(position, stored))

    def open(self, position: int, stored: bytes) -> bytes:
        """Return what `seal` was given for a position. Raises CorruptSegment as `read` does."""
        if stored[:2] != _MAGIC:
            return stored
        if len(stored) < _HEADER.size:
            raise CorruptSegment("a sealed segment is shorter than its header")
        _, version, _, key_id, counter = _HEADER.unpack_from(stored)
        key = self._keys.get(key_id)
        if version != 1 or key is None:
            raise CorruptSegment(f"a sealed segment of version {version} under the key {key_id}, which is not here")
        head, sealed = stored[: _HEADER.size], stored[_HEADER.size :]
        from cryptography.exceptions import InvalidTag

        try:
            plain = key.decrypt(counter.to_bytes(_NONCE_BYTES, "big"), sealed, head + struct.pack("<q", position))
        except InvalidTag as error:
            raise CorruptSegment("a sealed segment was changed or moved") from error
        return bytes(plain)

    def hide(self, tag_id: int, device: str, name: str, unit: str) -> tuple[str, str | bytes, str]:
        """Return device, name and unit as they are stored: sealed, all three lie in the name."""
        if not self.is_sealing:
            return device, name, unit
        plain = json.dumps([device, name, unit], ensure_ascii=False).encode("utf-8", "surrogatepass")
        return "", _sealed(self._naming, plain, f"yulink log name {tag_id}"), ""

    def show(self, tag_id: int, device: str, name: str | bytes, unit: str) -> tuple[str, str, str]:
        """Return device, name and unit from what is stored. Raises LogError for what cannot be opened."""
        if not isinstance(name, bytes):
            return device, name, unit
        plain = _opened(self._naming, name, f"yulink log name {tag_id}") if self.is_sealing else None
        if plain is None:
            raise LogError(
                say("the name of the tag {tag} in the log cannot be opened", tag=tag_id),
                hint=say("is the secret of `log: encrypt` the one it was written with?"),
            )
        shown: list[str] = json.loads(plain.decode("utf-8", "surrogatepass"))
        return shown[0], shown[1], shown[2]


def _cipher(key: bytes) -> Any:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(key)


def _sealed(cipher: Any, plain: bytes, what: str) -> bytes:
    nonce = os.urandom(_NONCE_BYTES)
    return nonce + bytes(cipher.encrypt(nonce, plain, what.encode()))


def _opened(cipher: Any, sealed: bytes, what: str) -> bytes | None:
    from cryptography.exceptions import InvalidTag

    try:
        return bytes(cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], what.encode()))
    except (InvalidTag, ValueError):
        return None
