"""Encryption at rest: what lies in the log is sealed with AES-256-GCM (NIST SP 800-38D) under a data key of each run.

The data key is random and stored wrapped under a key made from the operator's secret (scrypt, RFC 7914). A nonce is a
counter under a key that no other run ever uses, so a restored copy of the log repeats none. Without a secret everything
stays plain, and nothing of `cryptography` is loaded.

    sealed body   "YE", version 1, 0, key id (u32), counter (u64), then ciphertext and tag; little-endian.
                  Associated data: these 16 bytes and the position (i64), so no two segments can be exchanged.
    wrapped key   nonce (12 bytes), then ciphertext and tag; associated data "yulink log key " and its id in decimal.
                  32 bytes are the key itself: the encryption was ended, and needs no secret to read what it sealed
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
KEY_BYTES = 32
_HEADER = struct.Struct("<2sBBIQ")
_MAGIC = b"YE"
_NONCE_BYTES = 12


class _Secret:
    """The two keys made of an operator's secret: one wraps data keys, one seals names."""

    def __init__(self, text: str) -> None:
        made = hashlib.scrypt(text.encode(), salt=b"yulink log", n=2**14, r=8, p=1, dklen=32)
        self.wrapping = _cipher(hmac.digest(made, b"wrap", "sha256"))
        self.naming = _cipher(hmac.digest(made, b"name", "sha256"))


class Vault:
    """Turns records into what is stored at a position and back; sealed when there is a secret.

    `former` is the secret from before `secret` came, or was taken away. It opens; nothing new is sealed with it.
    """

    def __init__(self, secret: str | None = None, former: str | None = None) -> None:
        self.is_sealing = secret is not None
        self._keys: dict[int, Any] = {}
        self._key_id = self._counter = 0
        if secret is not None and len(secret) < SECRET_CHARACTERS_MIN:
            raise LogError(
                say("the secret of `log: encrypt` is shorter than {count} characters", count=SECRET_CHARACTERS_MIN),
                hint=say("make one: openssl rand -base64 32"),
            )
        self._now = None if secret is None else _Secret(secret)
        self._former = None if former is None else _Secret(former)

    @property
    def sealing_key(self) -> int:
        """The number of the data key that seals now, 0 for none."""
        return self._key_id

    def learn(self, rows: Iterable[tuple[int, bytes]]) -> None:
        """Take up the data keys on file.

        Raises:
            LogError: some are wrapped, and no secret or another one is there. Nothing was changed.
        """
        found = list(rows)
        is_wrapped = any(len(stored) != KEY_BYTES for _, stored in found)
        if is_wrapped and not self.is_sealing and self._former is None:
            raise LogError(
                say("the log is encrypted, and `log: encrypt` names no secret"),
                hint=say("name the secret it was written with; to end the encryption, as `encrypt_before`"),
            )
        for key_id, stored in found:
            if (key := self._unwrapped(key_id, stored)) is not None:
                self._keys[key_id] = _cipher(key)
        if is_wrapped and not any(key_id in self._keys for key_id, stored in found if len(stored) != KEY_BYTES):
            raise LogError(
                say("the secret of `log: encrypt` is not the one this log was written with"),
                hint=say("put the right one back, or name it as `encrypt_before`; nothing was changed"),
            )

    def _unwrapped(self, key_id: int, stored: bytes) -> bytes | None:
        if len(stored) == KEY_BYTES:
            return stored
        for secret in (self._now, self._former):
            if secret and (key := _opened(secret.wrapping, stored, f"yulink log key {key_id}")) is not None:
                return key
        return None

    def rewrapped(self, key_id: int, stored: bytes) -> bytes | None:
        """Return how a data key is to be stored from now on; None where it is stored so, or cannot be opened."""
        if self._now is None:
            return None if len(stored) == KEY_BYTES else self._unwrapped(key_id, stored)
        if len(stored) != KEY_BYTES and _opened(self._now.wrapping, stored, f"yulink log key {key_id}") is not None:
            return None
        key = self._unwrapped(key_id, stored)
        return None if key is None else _sealed(self._now.wrapping, key, f"yulink log key {key_id}")

    def new_key(self, key_id: int) -> bytes:
        """Draw the data key of this run, and return it wrapped. From now on it seals."""
        key = os.urandom(KEY_BYTES)
        self._keys[key_id], self._key_id, self._counter = _cipher(key), key_id, 0
        assert self._now is not None
        return _sealed(self._now.wrapping, key, f"yulink log key {key_id}")

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
        if self._now is None:
            return device, name, unit
        plain = json.dumps([device, name, unit], ensure_ascii=False).encode("utf-8", "surrogatepass")
        return "", _sealed(self._now.naming, plain, f"yulink log name {tag_id}"), ""

    def show(self, tag_id: int, device: str, name: str | bytes, unit: str) -> tuple[str, str, str]:
        """Return device, name and unit from what is stored. Raises LogError for what cannot be opened."""
        if not isinstance(name, bytes):
            return device, name, unit
        for secret in (self._now, self._former):
            if secret and (plain := _opened(secret.naming, name, f"yulink log name {tag_id}")) is not None:
                shown: list[str] = json.loads(plain.decode("utf-8", "surrogatepass"))
                return shown[0], shown[1], shown[2]
        raise LogError(
            say("the name of the tag {tag} in the log cannot be opened", tag=tag_id),
            hint=say("is the secret of `log: encrypt` the one it was written with?"),
        )

    def is_hidden(self, tag_id: int, name: str | bytes) -> bool:
        """Tell whether a name is stored as it is to be from now on."""
        if self._now is None or not isinstance(name, bytes):
            return self._now is None and not isinstance(name, bytes)
        return _opened(self._now.naming, name, f"yulink log name {tag_id}") is not None


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
