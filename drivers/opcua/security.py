"""Which channel to a server: as strong as was asked for, with a server that is trusted, and never weaker in silence."""

import asyncio
from collections.abc import Sequence
from typing import Any

from asyncua import Client, ua
from asyncua.crypto import security_policies
from asyncua.crypto.uacrypto import CertProperties

from drivers.api import CertificateState, DeviceContext
from drivers.opcua.own_certificate import OwnCertificate, OwnCertificates, from_pem
from drivers.opcua.section import POLICIES, OpcUaSection
from drivers.opcua.trust import ServerTrust
from edge.core.errors import Disconnected, Untrusted
from edge.core.language import say

APPLICATION_URI = "urn:yulink:gateway"
_CLASSES: dict[str, Any] = {
    "Aes256_Sha256_RsaPss": security_policies.SecurityPolicyAes256Sha256RsaPss,
    "Aes128_Sha256_RsaOaep": security_policies.SecurityPolicyAes128Sha256RsaOaep,
    "Basic256Sha256": security_policies.SecurityPolicyBasic256Sha256,
    "Basic256": security_policies.SecurityPolicyBasic256,
    "Basic128Rsa15": security_policies.SecurityPolicyBasic128Rsa15,
}
_NONE = security_policies.SecurityPolicyNone.URI
_MODES = {"sign": "Sign", "sign+encrypt": "SignAndEncrypt"}
_OWN_REFUSED = (
    ua.StatusCodes.BadSecurityChecksFailed,
    ua.StatusCodes.BadCertificateUntrusted,
    ua.StatusCodes.BadCertificateInvalid,
    ua.StatusCodes.BadCertificateTimeInvalid,
    ua.StatusCodes.BadCertificateIssuerTimeInvalid,
    ua.StatusCodes.BadCertificateUriInvalid,
    ua.StatusCodes.BadCertificateUseNotAllowed,
    ua.StatusCodes.BadCertificateRevoked,
    ua.StatusCodes.BadCertificateChainIncomplete,
    ua.StatusCodes.BadConnectionClosed,
)


class SecuredClient(Client):
    """A client that checks, once the channel is signed, that nobody changed the list of endpoints on the way,
    and that sends no password in clear unasked.
    """

    def __init__(self, security: "Security", timeout: float) -> None:
        super().__init__(security.section.opcua, timeout=timeout)
        self._security = security

    async def create_session(self) -> ua.CreateSessionResult:
        """Create a session. Raises Untrusted when the server, under its signature, offers more than it seemed to."""
        response = await super().create_session()
        await self._security.compare(response, self)
        return response

    def server_policy(self, token_type: ua.UserTokenType) -> ua.UserTokenPolicy:
        """Return the server's way to log in, for a password one that encrypts it where there is one."""
        found = super().server_policy(token_type)
        if token_type == ua.UserTokenType.UserName and found.SecurityPolicyUri in ("", _NONE):
            for policy in self._policy_ids:
                if policy.TokenType == token_type and policy.SecurityPolicyUri not in (None, "", _NONE):
                    return policy
        return found

    def _add_user_auth(self, params: Any, username: str | None, password: str | None) -> None:
        policy = self.server_policy(ua.UserTokenType.UserName)
        encrypted = policy.SecurityPolicyUri not in (None, "", _NONE)
        secret = encrypted or self.security_policy.Mode == ua.MessageSecurityMode.SignAndEncrypt
        if encrypted and self.security_policy.peer_certificate is None:
            raise ua.uaerrors.BadSecurityChecksFailed  # nothing yet to encrypt it with
        if password and not secret and not self._security.section.login.clear:
            raise Disconnected(
                say("{url} takes the password only in clear", url=self._security.section.opcua),
                say("use security: sign+encrypt; or, where everybody may read it, login: {clear: true}"),
            )
        super()._add_user_auth(params, username, password)


class Security:
    """The security of one device, for all its sessions."""

    def __init__(self, section: OpcUaSection, context: DeviceContext) -> None:
        self.section = section
        self._context = context
        self._trust = ServerTrust(section, context)
        self._endpoints: Sequence[Any] = ()
        self._own: OwnCertificate | None = None
        self._newest: OwnCertificate | None = None

    @property
    def is_none(self) -> bool:
        """Tell whether the channel is neither signed nor encrypted."""
        return self.section.security == "none"

    async def identities(self) -> list[OwnCertificate | None]:
        """Return what to show the server, one after the other until it is content. None: no certificate is needed.

        Raises:
            Disconnected: there is none and none can be made, or the one of the configuration cannot be used.
        """
        if self.is_none:
            return [None]
        if self.section.identity is not None:
            own = [from_pem(self._context.secret(self.section.identity))]
        else:
            shared = self._context.shared.setdefault("opcua.own", OwnCertificates(self._context.data_dir))
            own = await asyncio.to_thread(shared.candidates, self._context.clock.now())
        self._newest = own[0]
        return list(own)

    async def secure(self, client: SecuredClient, own: OwnCertificate | None) -> None:
        """Prepare a client for the channel that was asked for.

        Raises:
            Disconnected: the server does not offer it.
            Untrusted: the server's certificate is not trusted, or wrong.
        """
        client.application_uri = (own.certificate.uri if own else "") or APPLICATION_URI
        self._own = own
        if own is None:
            return
        self._endpoints = await client.connect_and_get_server_endpoints()
        chosen = choose(self.section.security, self._endpoints)
        await asyncio.to_thread(self._trust.judge, chosen.ServerCertificate, chosen.Server.ApplicationUri or "")
        seen = self._trust.seen
        assert seen is not None
        await client.set_security(
            _CLASSES[_policy(chosen)],
            CertProperties(own.der, extension="der"),
            CertProperties(own.key_pem, extension="pem"),
            server_certificate=CertProperties(bytes.fromhex(seen.der), extension="der"),
            mode=chosen.SecurityMode,
        )

    async def compare(self, response: Any, client: SecuredClient) -> None:
        """Compare what the server says in the session with what was said before it.

        On a signed channel the endpoints come from the server itself: where they hold something stronger than the
        list that was chosen from, that list was changed on the way. Without a channel, the certificate that a
        password is going to be encrypted with is judged.
        """
        if self.is_none:
            policy = next((p for p in client._policy_ids if p.TokenType == ua.UserTokenType.UserName), None)
            if policy is not None and self.section.login.user and response.ServerCertificate:
                endpoint = next(iter(response.ServerEndpoints), None)
                uri = endpoint.Server.ApplicationUri or "" if endpoint is not None else ""
                if client.server_policy(ua.UserTokenType.UserName).SecurityPolicyUri != _NONE:
                    await asyncio.to_thread(self._trust.judge, response.ServerCertificate, uri)
            return
        chosen = choose(self.section.security, self._endpoints)
        signed = choose(self.section.security, response.ServerEndpoints)
        if (_policy(signed), signed.SecurityMode) != (_policy(chosen), chosen.SecurityMode):
            raise Untrusted(
                say("the list of what {url} offers was changed on the way: {name} is missing in it",
                    url=self.section.opcua, name=_name(signed)),
                say("somebody may stand between; find out who answers at this address"),
            )  # fmt: skip

    def refused(self, error: BaseException) -> bool:
        """Tell whether the server may have refused our certificate, so that another is worth a try."""
        return isinstance(error, ConnectionError) or getattr(error, "code", None) in _OWN_REFUSED

    def own_hint(self) -> str:
        """Return what to do about a server that refuses our certificate."""
        own = self._newest
        if own is None:
            return say("check login, security and whether the server trusts our certificate")
        return say(
            "let the server trust our certificate {thumbprint}: {file}",
            thumbprint=own.certificate.thumbprint[:12],
            file=own.file.absolute() if own.file else own.certificate.subject,
        )

    @property
    def certificates(self) -> list[CertificateState]:
        """Return the server's certificate and ours, as far as the last connection used them."""
        states = []
        if self._trust.seen is not None:
            seen = self._trust.seen
            states.append(CertificateState("server", seen.subject, seen.thumbprint, seen.not_after, self._trust.doubt))
        if self._own is not None:
            own = self._own.certificate
            states.append(CertificateState("own", own.subject, own.thumbprint, own.not_after, self._overlap()))
        return states

    def _overlap(self) -> str:
        if self._own is self._newest:
            return ""
        return say("the server does not trust our new certificate yet; {hint}", hint=self.own_hint())


def choose(asked: str, endpoints: Sequence[Any]) -> Any:
    """Return the endpoint for what was asked. Raises Disconnected, listing what the server offers."""
    named, _, named_mode = asked.partition("/")
    mode = getattr(ua.MessageSecurityMode, _MODES.get(asked, named_mode) or "SignAndEncrypt")
    offered = {
        (_policy(each), each.SecurityMode): each
        for each in reversed(endpoints)
        if (each.EndpointUrl or "").startswith(ua.OPC_TCP_SCHEME)
    }
    for policy in POLICIES if asked in _MODES else (named,):
        if (policy, mode) in offered:
            return offered[policy, mode]
    raise Disconnected(
        say("the server does not offer {asked}", asked=asked),
        say("it offers: {listed}", listed=", ".join(sorted(_name(each) for each in offered.values()))),
    )


def _policy(endpoint: Any) -> str:
    return str(endpoint.SecurityPolicyUri).rpartition("#")[2]


def _name(endpoint: Any) -> str:
    return f"{_policy(endpoint)}/{endpoint.SecurityMode.name.rstrip('_')}"
