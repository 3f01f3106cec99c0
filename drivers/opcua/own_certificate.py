"""Our application certificate: made once for the gateway, renewed half a year before it ends, never thrown away early.

They lie in `opcua/own` of the data directory: key and certificate in a PEM that only the agent may read, the
certificate alone as DER for whoever administers a server. A new one is shown to each server first and the old one
after it, so a server that does not trust the new one yet goes on being read, and has met it.
"""

import contextlib
import os
import re
import secrets
import socket
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from drivers.opcua.certificate import describe
from edge.core.errors import Disconnected
from edge.core.language import say
from edge.core.lock import hold_folder
from edge.core.trust import Certificate

FOLDER = Path("opcua") / "own"
LASTS = timedelta(days=5 * 365)
RENEWED_BEFORE = timedelta(days=182)
KEPT_MAX = 6
SHOWN_MAX = 2
_BUILT = datetime(2026, 1, 1, tzinfo=UTC)
"""No clock that says less is right."""
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,61}[A-Za-z0-9])?")


@dataclass(frozen=True, slots=True)
class OwnCertificate:
    """A certificate of ours with its key. `file` is the DER that a server's administrator needs, if there is one."""

    certificate: Certificate
    key_pem: bytes
    file: Path | None = None

    @property
    def der(self) -> bytes:
        return bytes.fromhex(self.certificate.der)


class OwnCertificates:
    """The certificates of a gateway. Without a folder they live as long as the process."""

    def __init__(self, data_dir: Path | None) -> None:
        self._data_dir = data_dir
        self._folder = data_dir / FOLDER if data_dir else None
        self._made: list[OwnCertificate] = []

    def candidates(self, now: int) -> list[OwnCertificate]:
        """Return those to show a server, the newest first; makes one when there is none or it ends soon. Blocks.

        Where the clock makes all of them invalid, the last of them is still shown: the server has its own clock.

        Raises:
            Disconnected: none can be made, as the data directory cannot be written.
        """
        problem: OSError | None = None
        try:
            with self._locked():
                self._renew(now)
        except OSError as error:  # a full disk: those that are there serve as well
            problem = error
        known = self.known()
        if not known:
            raise Disconnected(
                say("our certificate cannot be kept: {error}", error=problem),
                say("check owner and free space of the data directory"),
            ) from problem
        return sorted(_valid(known, now) or known, key=lambda own: -own.certificate.not_after)[:SHOWN_MAX]

    def _renew(self, now: int) -> None:
        known = self.known()
        ends = max((own.certificate.not_after for own in _valid(known, now)), default=0)
        is_early = known and now < min(own.certificate.not_before for own in known)
        if not is_early and ends - now < RENEWED_BEFORE.total_seconds() * 1e9:
            made = self._make(now, known[-1].certificate.uri if known else None)
            self._clean([*known, made])

    def _make(self, now: int, uri: str | None) -> OwnCertificate:
        own = make_certificate(now, uri, LASTS)
        if self._folder is None:
            self._made.append(own)
            return own
        stem = self._folder / own.certificate.thumbprint[:12]
        content = own.key_pem + x509.load_der_x509_certificate(own.der).public_bytes(Encoding.PEM)
        for name, mode, data in ((".der", 0o644, own.der), (".pem", 0o600, content)):
            file = os.open(stem.with_suffix(".new"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
            with os.fdopen(file, "wb") as out:
                out.write(data)
                out.flush()
                os.fsync(out.fileno())
            stem.with_suffix(".new").rename(stem.with_suffix(name))
        return OwnCertificate(own.certificate, own.key_pem, stem.with_suffix(".der"))

    def known(self) -> list[OwnCertificate]:
        """Return all there are, the oldest first. A file that cannot be read is passed over."""
        if self._folder is None:
            return list(self._made)
        found = []
        for file in self._folder.glob("*.pem"):
            with contextlib.suppress(ValueError, OSError, Disconnected):
                found.append(from_pem(file.read_text("ascii"), file.with_suffix(".der")))
        return sorted(found, key=lambda own: own.certificate.not_before)

    def _clean(self, known: Sequence[OwnCertificate]) -> None:
        by_end = sorted(known, key=lambda own: own.certificate.not_after)
        for own in by_end[: max(0, len(by_end) - KEPT_MAX)]:
            if own.file is not None:
                own.file.with_suffix(".pem").unlink(missing_ok=True)
                own.file.unlink(missing_ok=True)

    def _locked(self) -> AbstractContextManager[None]:
        if self._folder is None or self._data_dir is None:
            return contextlib.nullcontext()
        return hold_folder(self._folder, self._data_dir)


def _valid(known: Sequence[OwnCertificate], now: int) -> list[OwnCertificate]:
    return [own for own in known if own.certificate.not_before <= now <= own.certificate.not_after]


def make_certificate(now: int, uri: str | None = None, lasts: timedelta = LASTS) -> OwnCertificate:
    """Return a new self-signed application certificate (OPC 10000-6, 6.2.2), valid from yesterday on.

    `uri` is the application URI to keep; None makes one that no other gateway has.
    """
    host = socket.gethostname()
    host = host if _HOST.fullmatch(host) else "gateway"
    uri = uri or f"urn:{host}:yulink:{secrets.token_hex(4)}"
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, f"Yulink@{host}"[:64]),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Yulink"),
        ]
    )
    begins = max(datetime.fromtimestamp(now / 1e9, UTC), _BUILT) - timedelta(days=1)
    usage = x509.KeyUsage(
        digital_signature=True, content_commitment=True, key_encipherment=True, data_encipherment=True,
        key_cert_sign=True, crl_sign=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    public = key.public_key()
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(begins + lasts)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri), x509.DNSName(host)]), critical=False
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(public), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return OwnCertificate(describe(certificate), pem)


_PEM = re.compile(r"-----BEGIN ([A-Z ]+)-----.*?-----END \1-----", re.S)


def split_pem(text: str) -> tuple[bytes, bytes]:
    """Return certificate and key of a PEM that holds both, as PEM. Raises Disconnected when one is missing."""
    parts: dict[str, str] = {}
    for match in _PEM.finditer(text):
        parts.setdefault("KEY" if "KEY" in match[1] else "CERTIFICATE", match[0])
    if len(parts) != 2:
        raise Disconnected(
            say("the certificate secret does not hold a certificate and a key"), say("put both into it, as PEM")
        )
    return f"{parts['CERTIFICATE']}\n".encode(), f"{parts['KEY']}\n".encode()


def from_pem(text: str, file: Path | None = None) -> OwnCertificate:
    """Return the certificate of ours that a PEM with both holds. Raises Disconnected."""
    certificate_pem, key_pem = split_pem(text)
    try:
        certificate = x509.load_pem_x509_certificate(certificate_pem)
        key = load_pem_private_key(key_pem, None)
    except (ValueError, TypeError) as error:
        raise Disconnected(
            say("the certificate secret cannot be used: {error}", error=error), say("put both into it, as PEM")
        ) from error
    if not isinstance(key, rsa.RSAPrivateKey) or certificate.public_key() != key.public_key():
        raise Disconnected(
            say("certificate and key do not belong together, or are not RSA"), say("put both into it, as PEM")
        )
    return OwnCertificate(describe(certificate), key_pem, file)
