"""Application certificates as OPC 10000-6, 6.2.2 describes them: what stands in one, and what is wrong with it."""

import hashlib
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import verification
from cryptography.x509.oid import ExtendedKeyUsageOID

from edge.core.language import say
from edge.core.trust import Certificate

RSA_BITS_MIN = 2048
_DIGESTS_BROKEN = ("md5", "sha1")


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that is wrong: one of `edge.core.trust.FAULTS`, what to say of it, and what to do."""

    name: str
    message: str
    hint: str


def split_chain(der: bytes) -> list[x509.Certificate]:
    """Return the certificates of a chain, the server's own first. Raises ValueError when it is none."""
    found = []
    while der:
        length = _length(der)
        found.append(x509.load_der_x509_certificate(der[:length]))
        der = der[length:]
    if not found:
        raise ValueError("there is none")
    return found


def _length(der: bytes) -> int:
    """Return how long the first element is, head included (X.690, 8.1.3)."""
    if len(der) < 2 or der[0] != 0x30:
        raise ValueError("not a certificate")
    if der[1] < 0x80:
        return 2 + der[1]
    size = der[1] & 0x7F
    return 2 + size + int.from_bytes(der[2 : 2 + size], "big")


def describe(certificate: x509.Certificate) -> Certificate:
    """Return what people compare."""
    der = certificate.public_bytes(Encoding.DER)
    uris, hosts = alternative_names(certificate)
    return Certificate(
        thumbprint=hashlib.sha1(der).hexdigest(),
        sha256=hashlib.sha256(der).hexdigest(),
        subject=certificate.subject.rfc4514_string(),
        issuer=certificate.issuer.rfc4514_string(),
        uri=next(iter(uris), ""),
        hosts=hosts,
        not_before=_ns(certificate.not_valid_before_utc),
        not_after=_ns(certificate.not_valid_after_utc),
        der=der.hex(),
    )


def alternative_names(certificate: x509.Certificate) -> tuple[list[str], list[str]]:
    """Return application URIs, and host names and addresses."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return [], []
    addresses = [str(address) for address in names.get_values_for_type(x509.IPAddress)]
    hosts = names.get_values_for_type(x509.DNSName) + addresses
    return names.get_values_for_type(x509.UniformResourceIdentifier), hosts


def faults_of(certificate: x509.Certificate, host: str, uri: str, now: int, *, weak_allowed: bool) -> list[Fault]:
    """Return what is wrong with a server's certificate (OPC 10000-4, 6.1.3), the gravest first.

    `host` is where it was met, `uri` how the server calls itself, `now` in ns since 1970 UTC.
    """
    found: list[Fault] = []
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    clock = day(now)
    if now > _ns(ends):
        found.append(
            Fault(
                "expired",
                say("the server's certificate ended on {day}", day=f"{ends:%Y-%m-%d}"),
                say("renew it on the server; this machine's clock says {day}", day=clock),
            )
        )
    if now < _ns(begins):
        found.append(
            Fault(
                "not-yet-valid",
                say("the server's certificate begins on {day}, and our clock says {clock}",
                    day=f"{begins:%Y-%m-%d}", clock=clock),
                say("set the clocks of this machine and of the server right"),
            )
        )  # fmt: skip
    uris, hosts = alternative_names(certificate)
    if not _is_for(host, hosts):
        found.append(
            Fault(
                "host",
                say("the server's certificate is for {hosts}, not for {host}",
                    hosts=", ".join(hosts) or say("no address"), host=host),
                say("write the address that stands in it, or have the server's certificate made anew"),
            )
        )  # fmt: skip
    if uri not in uris:
        found.append(
            Fault(
                "uri",
                say("the server's certificate is for the application {named}, the server calls itself {uri}",
                    named=", ".join(uris) or "–", uri=uri or "–"),
                say("have the server's certificate made anew"),
            )
        )  # fmt: skip
    if not _is_for_servers(certificate):
        found.append(
            Fault(
                "usage",
                say("the certificate is not one for servers"),
                say("have the server's certificate made anew"),
            )
        )
    if not weak_allowed and _is_weak(certificate):
        found.append(
            Fault(
                "weak",
                say("the server's certificate has a weak key or signature"),
                say("have it made anew with RSA of 2048 bits or more and SHA-256"),
            )
        )
    return found


def _is_for(host: str, hosts: Sequence[str]) -> bool:
    try:
        wanted = ipaddress.ip_address(host)
    except ValueError:
        short = host.lower().rstrip(".")
        return short in (name.lower().rstrip(".") for name in hosts)
    for name in hosts:
        try:
            if ipaddress.ip_address(name) == wanted:
                return True
        except ValueError:
            continue
    return wanted.is_loopback and "localhost" in hosts


def _is_for_servers(certificate: x509.Certificate) -> bool:
    try:
        usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except (x509.ExtensionNotFound, ValueError):
        return True
    return ExtendedKeyUsageOID.SERVER_AUTH in usages or ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE in usages


def _is_weak(certificate: x509.Certificate) -> bool:
    key, digest = certificate.public_key(), certificate.signature_hash_algorithm
    short = isinstance(key, rsa.RSAPublicKey) and key.key_size < RSA_BITS_MIN
    return short or (digest is not None and digest.name in _DIGESTS_BROKEN)


def is_signed_by(chain: Sequence[x509.Certificate], authorities_pem: str, now: int) -> bool:
    """Tell whether an authority of a PEM signed the chain's first certificate, and did not take it back since.

    The PEM may hold revocation lists beside the authorities. The certificate's own time is judged elsewhere.
    Raises ValueError when the PEM holds no certificate.
    """
    authorities = x509.load_pem_x509_certificates(authorities_pem.encode())
    leaf = chain[0]
    moment = min(max(_time(now), leaf.not_valid_before_utc), leaf.not_valid_after_utc)
    policy = verification.ExtensionPolicy.permit_all()
    of_authority = policy.require_present(x509.BasicConstraints, verification.Criticality.AGNOSTIC, None)
    verifier = (
        verification.PolicyBuilder()
        .store(verification.Store(authorities))
        .time(moment)
        .extension_policies(ca_policy=of_authority, ee_policy=policy)
        .build_client_verifier()
    )
    try:
        verified = verifier.verify(leaf, list(chain[1:])).chain
    except verification.VerificationError:
        return False
    return not any(_is_revoked(each, verified, authorities_pem) for each in verified)


def _is_revoked(certificate: x509.Certificate, chain: Sequence[x509.Certificate], pem: str) -> bool:
    for revoked in _revocation_lists(pem):
        if revoked.issuer != certificate.issuer:
            continue
        if revoked.get_revoked_certificate_by_serial_number(certificate.serial_number) is None:
            continue
        for issuer in chain:
            key = issuer.public_key()
            if issuer.subject == revoked.issuer and revoked.is_signature_valid(key):  # type: ignore[arg-type]
                return True
    return False


def _revocation_lists(pem: str) -> list[x509.CertificateRevocationList]:
    begin, end = "-----BEGIN X509 CRL-----", "-----END X509 CRL-----"
    parts = [part.partition(end)[0] for part in pem.split(begin)[1:]]
    return [x509.load_pem_x509_crl(f"{begin}{part}{end}\n".encode()) for part in parts]


def has_rsa_key(certificate: x509.Certificate) -> bool:
    """Tell whether its key is one that the policies here can use."""
    try:
        return isinstance(certificate.public_key(), rsa.RSAPublicKey)
    except (UnsupportedAlgorithm, ValueError):
        return False


def is_self_consistent(certificate: x509.Certificate) -> bool:
    """Tell whether a certificate that signs itself does so rightly; another's signature is its authority's affair."""
    if certificate.issuer != certificate.subject:
        return True
    try:
        certificate.verify_directly_issued_by(certificate)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


def day(ns: int) -> str:
    """Return a time as a date, UTC."""
    return f"{_time(ns):%Y-%m-%d}"


def _time(ns: int) -> datetime:
    return datetime.fromtimestamp(ns / 1e9, UTC)


def _ns(moment: datetime) -> int:
    return int(moment.timestamp()) * 10**9
