"""The one place that knows asyncua: opening a session with the security that was asked for, and nothing weaker."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from asyncua import Client, ua
from asyncua.client.ua_client import UaClientState
from asyncua.crypto.uacrypto import load_certificate, load_private_key

from drivers.opcua.own_certificate import OwnCertificate, split_pem
from drivers.opcua.section import OpcUaSection
from drivers.opcua.security import SecuredClient, Security
from edge.core.errors import Disconnected
from edge.core.language import say

REQUEST_TIMEOUT_S = 4.0
OPEN_DEADLINE_S = 15.0
CLOSE_DEADLINE_S = 1.5
SESSION_TIMEOUT_MS = 300_000
"""How long a server keeps a session, with what it has not yet told, after the connection broke."""

# asyncua tells at length what the supervisor says in one line.
for _name in ("asyncua", "asyncua.client", "asyncua.common"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)

FAILURES = (OSError, ua.UaError, asyncio.TimeoutError, ConnectionError)


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
    section: OpcUaSection, security: Security, secret: Callable[[str], str], kept: Kept | None = None
) -> Connection:
    """Connect and log in; takes up the kept session where the server still has it. Closes what failed.

    A server that refuses our newest certificate is shown the one before.

    Raises:
        Disconnected: unreachable, refused, not trusted, or the server does not offer the security asked for.
    """
    try:
        async with asyncio.timeout(OPEN_DEADLINE_S):
            *newer, last = await security.identities()
            for own in newer:
                try:
                    return await _connect(section, security, own, secret, kept)
                except FAILURES as error:
                    if not security.refused(error):
                        raise
            return await _connect(section, security, last, secret, kept)
    except FAILURES as error:
        raise _unreachable(section, security, error) from error


async def _connect(
    section: OpcUaSection,
    security: Security,
    own: OwnCertificate | None,
    secret: Callable[[str], str],
    kept: Kept | None,
) -> Connection:
    client = SecuredClient(security, REQUEST_TIMEOUT_S)
    client.name = "Yulink"
    client.session_timeout = SESSION_TIMEOUT_MS
    connection = Connection(client)
    try:
        await security.secure(client, own)
        await _log_in(client, section, secret)
        await _open(connection, kept)
    except BaseException:
        await connection.abandon()
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


async def _log_in(client: Client, section: OpcUaSection, secret: Callable[[str], str]) -> None:
    login = section.login
    if login.user is not None and login.secret is not None:
        client.set_user(login.user)
        client.set_password(secret(login.secret))
    elif login.certificate is not None:
        certificate, key = split_pem(secret(login.certificate))
        client.user_certificate = await load_certificate(certificate, "pem")
        client.user_private_key = await load_private_key(key, extension="pem")


_LOGIN_REFUSED = (
    ua.StatusCodes.BadUserAccessDenied,
    ua.StatusCodes.BadIdentityTokenRejected,
    ua.StatusCodes.BadIdentityTokenInvalid,
    ua.StatusCodes.BadUserSignatureInvalid,
)


def _unreachable(section: OpcUaSection, security: Security, error: BaseException) -> Disconnected:
    if isinstance(error, ua.UaStatusCodeError):
        reason = say("{url} refuses us: {reason}", url=section.opcua, reason=type(error).__name__)
        if error.code not in _LOGIN_REFUSED and security.refused(error):
            return Disconnected(reason, security.own_hint())
        return Disconnected(reason, say("check login, security and whether the server trusts our certificate"))
    return Disconnected(
        say("{url} does not answer: {reason}", url=section.opcua, reason=str(error) or type(error).__name__),
        say("check address, cable, power and firewall"),
    )
