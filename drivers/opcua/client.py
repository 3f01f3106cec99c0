"""The one place that knows asyncua: opening a session with the security that was asked for, and nothing weaker."""

import asyncio
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from asyncua import Client, ua
from asyncua.client.ua_client import UaClientState
from asyncua.crypto import security_policies
from asyncua.crypto.cert_gen import (
    dump_private_key_as_pem,
    generate_private_key,
    generate_self_signed_app_certificate,
)
from asyncua.crypto.uacrypto import CertProperties, load_certificate, load_private_key
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from drivers.opcua.section import POLICIES, OpcUaSection
from edge.core.errors import Disconnected
from edge.core.language import say

REQUEST_TIMEOUT_S = 4.0
OPEN_DEADLINE_S = 15.0
CLOSE_DEADLINE_S = 1.5
SESSION_TIMEOUT_MS = 300_000
"""How long a server keeps a session, with what it has not yet told, after the connection broke."""
APPLICATION_URI = "urn:yulink:gateway"

# asyncua tells at length what the supervisor says in one line.
for _name in ("asyncua", "asyncua.client", "asyncua.common"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)

_CLASSES: dict[str, Any] = {
    "Aes256_Sha256_RsaPss": security_policies.SecurityPolicyAes256Sha256RsaPss,
    "Aes128_Sha256_RsaOaep": security_policies.SecurityPolicyAes128Sha256RsaOaep,
    "Basic256Sha256": security_policies.SecurityPolicyBasic256Sha256,
}
_PEM = re.compile(rb"-----BEGIN ([A-Z ]+)-----.*?-----END \1-----", re.S)

FAILURES = (OSError, ua.UaError, asyncio.TimeoutError, ConnectionError)


class Identity:
    """Our application certificate and key; made once a process when the configuration names none."""

    def __init__(self, pem: str | None) -> None:
        if pem is None:
            key = generate_private_key()
            usage = [ExtendedKeyUsageOID.CLIENT_AUTH]
            certificate = generate_self_signed_app_certificate(
                key, APPLICATION_URI, {"commonName": "Yulink"}, [], usage, days=3650
            )
            self.certificate = CertProperties(certificate.public_bytes(Encoding.DER), extension="der")
            self.key = CertProperties(dump_private_key_as_pem(key), extension="pem")
        else:
            self.certificate, self.key = split_pem(pem)


def split_pem(text: str) -> tuple[CertProperties, CertProperties]:
    """Return certificate and key of a PEM that holds both. Raises Disconnected when one is missing."""
    parts = {b"KEY" if b"KEY" in match[1] else b"CERTIFICATE": match[0] for match in _PEM.finditer(text.encode())}
    if len(parts) != 2:
        raise Disconnected(
            say("the certificate secret does not hold a certificate and a key"), say("put both into it, as PEM")
        )
    return CertProperties(parts[b"CERTIFICATE"], extension="pem"), CertProperties(parts[b"KEY"], extension="pem")


@dataclass(slots=True)
class Kept:
    """A session that the server may still hold after its connection broke."""

    token: Any
    nonce: bytes | None
    policies: list[Any]


class Connection:
    """An open channel with a session. `resumed`: it is the kept session, with its subscriptions."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.lost = asyncio.Event()
        self.resumed = False

    def keep(self) -> Kept:
        """Return what a later connection needs to take the session up again."""
        return Kept(
            self.client.uaclient.session.authentication_token, self.client._server_nonce, self.client._policy_ids
        )

    async def abandon(self) -> None:
        """Close the connection and leave the session with the server."""
        await _stop_renewing(self.client)
        self.client.disconnect_socket()

    async def close(self) -> None:
        """End session and connection. Takes at most 1.5 s, also on a dead link."""
        await _stop_renewing(self.client)
        try:
            async with asyncio.timeout(CLOSE_DEADLINE_S):
                await self.client.uaclient.close_session(True)
                await self.client.close_secure_channel()
        except FAILURES:
            pass  # the server ends it by itself
        finally:
            self.client.disconnect_socket()


async def _stop_renewing(client: Client) -> None:
    task, client._renew_channel_task = client._renew_channel_task, None
    if task is not None:
        task.cancel()
        await asyncio.wait({task})
        if not task.cancelled():
            task.exception()


async def open_connection(
    section: OpcUaSection,
    identity: Callable[[], "Identity"],
    secret: Callable[[str], str],
    kept: Kept | None = None,
    judge: Callable[[bytes], None] = lambda certificate: None,
) -> Connection:
    """Connect and log in; takes up the kept session where the server still has it. Closes what failed.

    `judge` raises Disconnected for a server certificate that is not trusted.

    Raises:
        Disconnected: unreachable, refused, not trusted, or the server does not offer the security asked for.
    """
    client = Client(section.opcua, timeout=REQUEST_TIMEOUT_S)
    client.name = "Yulink"
    client.application_uri = APPLICATION_URI
    client.session_timeout = SESSION_TIMEOUT_MS
    connection = Connection(client)
    try:
        async with asyncio.timeout(OPEN_DEADLINE_S):
            await _secure(client, section, identity, judge)
            await _log_in(client, section, secret)
            await _open(connection, kept)
    except BaseException as error:
        await connection.abandon()
        if isinstance(error, FAILURES) and not isinstance(error, Disconnected):
            raise _unreachable(section, error) from error
        raise
    client._start_renew_loop()
    return connection


async def _open(connection: Connection, kept: Kept | None) -> None:
    client = connection.client
    await client.connect_socket()
    await client.send_hello()
    await client.open_secure_channel()
    if kept is not None:
        client.uaclient.session.restore_authentication_token(kept.token)
        client._server_nonce, client._policy_ids = kept.nonce, kept.policies  # type: ignore[assignment]
        try:
            await client._activate_with_credentials()
            connection.resumed = True
        except ua.UaStatusCodeError:
            client.uaclient.session.reset_authentication_token()
            client._server_nonce = None
    if not connection.resumed:
        await client.create_session()
        await client._activate_with_credentials()

    def changed(state: UaClientState) -> None:
        if state is UaClientState.DISCONNECTED:
            connection.lost.set()

    client.uaclient._add_state_listener(changed)


async def _secure(
    client: Client,
    section: OpcUaSection,
    identity: Callable[[], Identity],
    judge: Callable[[bytes], None],
) -> None:
    if section.security == "none":
        return
    endpoints = await client.connect_and_get_server_endpoints()
    policy, mode = _choose(section.security, endpoints)
    own = identity()
    certificate = next(
        e.ServerCertificate for e in endpoints if e.SecurityPolicyUri == _CLASSES[policy].URI and e.SecurityMode == mode
    )
    judge(certificate)
    await client.set_security(
        _CLASSES[policy],
        own.certificate,
        own.key,
        server_certificate=CertProperties(certificate, extension="der"),
        mode=mode,
    )


def _choose(asked: str, endpoints: Any) -> tuple[str, Any]:
    """Return policy and mode for what was asked. Raises Disconnected, listing what the server offers."""
    policy, _, named_mode = asked.partition("/")
    modes = {"sign": "Sign", "sign+encrypt": "SignAndEncrypt"}
    mode = getattr(ua.MessageSecurityMode, modes.get(asked, named_mode) or "SignAndEncrypt")
    offered = {(endpoint.SecurityPolicyUri.rpartition("#")[2], endpoint.SecurityMode) for endpoint in endpoints}
    for candidate in POLICIES if asked in modes else (policy,):
        if (candidate, mode) in offered:
            return candidate, mode
    listed = ", ".join(sorted(f"{name}/{offered_mode.name.rstrip('_')}" for name, offered_mode in offered))
    raise Disconnected(say("the server does not offer {asked}", asked=asked), say("it offers: {listed}", listed=listed))


async def _log_in(client: Client, section: OpcUaSection, secret: Callable[[str], str]) -> None:
    login = section.login
    if login.user is not None and login.secret is not None:
        client.set_user(login.user)
        client.set_password(secret(login.secret))
    elif login.certificate is not None:
        certificate, key = split_pem(secret(login.certificate))
        client.user_certificate = await load_certificate(certificate.path_or_content, certificate.extension)
        client.user_private_key = await load_private_key(key.path_or_content, extension=key.extension)


def _unreachable(section: OpcUaSection, error: Exception) -> Disconnected:
    if isinstance(error, ua.UaStatusCodeError):
        return Disconnected(
            say("{url} refuses us: {reason}", url=section.opcua, reason=type(error).__name__),
            say("check login, security and whether the server trusts our certificate"),
        )
    return Disconnected(
        say("{url} does not answer: {reason}", url=section.opcua, reason=str(error) or type(error).__name__),
        say("check address, cable, power and firewall"),
    )
