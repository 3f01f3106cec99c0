"""Modbus/TCP Security: TLS with certificates on both sides, and the role that ours carries (MB-TCP-Security v2.1)."""

import os
import ssl

from cryptography import x509

ROLE_OID = x509.ObjectIdentifier("1.3.6.1.4.1.50316.802.1")
_UTF8_STRING = 0x0C


def client_context(identity_pem: str, ca_pem: str) -> ssl.SSLContext:
    """Return a context that trusts this authority alone and shows our certificate. TLS 1.2 or newer.

    Raises:
        ValueError: one of the texts is not what it should be.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(cadata=ca_pem)
    # The ssl module reads certificates from files only; this one is in memory and nowhere else.
    descriptor = os.memfd_create("identity", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, identity_pem.encode())
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    except ssl.SSLError as error:
        raise ValueError(str(error)) from error
    finally:
        os.close(descriptor)
    return context


def role_of(identity_pem: str) -> str | None:
    """Return the role in the first certificate of a PEM, None when it carries none. Raises ValueError."""
    certificate = x509.load_pem_x509_certificate(identity_pem.encode())
    try:
        extension = certificate.extensions.get_extension_for_oid(ROLE_OID).value
    except x509.ExtensionNotFound:
        return None
    assert isinstance(extension, x509.UnrecognizedExtension)
    return utf8_string(extension.value)


def utf8_string(der: bytes) -> str:
    """Return the text of a short DER UTF8String. Raises ValueError."""
    if len(der) < 2 or der[0] != _UTF8_STRING or der[1] != len(der) - 2 or der[1] > 127:
        raise ValueError("not a UTF8String")
    return der[2:].decode()
