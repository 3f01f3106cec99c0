"""A real OPC UA server for tests and the demo, made with asyncua."""

import asyncio
import hashlib
import ipaddress
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from asyncua import Node, Server, ua
from asyncua.common.utils import ServiceError
from asyncua.server.user_managers import UserManager
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

for _name in ("asyncua", "asyncua.server", "asyncua.common"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)

APPLICATION_URI = "urn:yulink:simulator"

_POLICIES = {
    "none": ua.SecurityPolicyType.NoSecurity,
    "sign": ua.SecurityPolicyType.Basic256Sha256_Sign,
    "sign+encrypt": ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt,
    **{
        f"{policy}/{mode}": ua.SecurityPolicyType[f"{name}_{mode}"]
        for policy, name in {
            "Aes256_Sha256_RsaPss": "Aes256Sha256RsaPss",
            "Aes128_Sha256_RsaOaep": "Aes128Sha256RsaOaep",
            "Basic256Sha256": "Basic256Sha256",
            "Basic256": "Basic256",
            "Basic128Rsa15": "Basic128Rsa15",
        }.items()
        for mode in ("Sign", "SignAndEncrypt")
    },
}


@dataclass(frozen=True)
class Variable:
    """A variable of the address space. `type` is asyncua's VariantType name, or "" to take the value's own."""

    node: str
    value: Any
    type: str = ""


class _Users(UserManager):
    def __init__(self, passwords: Mapping[str, str], certificates: Sequence[bytes], allow_anonymous: bool) -> None:
        self._passwords = passwords
        self._certificates = certificates
        self._allow_anonymous = allow_anonymous

    def get_user(self, iserver: Any, username: Any = None, password: Any = None, certificate: Any = None) -> Any:
        from asyncua.crypto.permission_rules import User, UserRole

        if username is None:
            known = certificate is not None and bytes(certificate) in self._certificates
            return User(role=UserRole.User) if known or self._allow_anonymous else None
        return User(role=UserRole.User, name=username) if self._passwords.get(username) == password else None


class SimulatedServer:
    """A running server."""

    def __init__(self, server: Server, url: str, certificate: bytes = b"") -> None:
        self.server = server
        self.url = url
        self.sha256 = hashlib.sha256(certificate).hexdigest()
        """The thumbprint of its certificate."""
        self.trusts: Callable[[bytes], bool] = lambda certificate: True
        """Which clients it lets in, by the DER of their certificates."""
        self.clients: list[bytes] = []
        """The certificates that clients have shown."""
        self._nodes: dict[str, Node] = {}
        self._types: dict[str, ua.VariantType] = {}

    async def add(self, variable: Variable) -> None:
        """Add a variable below Objects."""
        node_id = ua.NodeId.from_string(variable.node)
        kind = getattr(ua.VariantType, variable.type) if variable.type else None
        name = str(node_id.Identifier).rpartition("/")[2] or str(node_id.Identifier)
        node = await self.server.nodes.objects.add_variable(
            node_id, ua.QualifiedName(name, node_id.NamespaceIndex), variable.value, varianttype=kind
        )
        self._nodes[variable.node] = node
        held = (await node.read_data_value()).Value
        assert held is not None
        self._types[variable.node] = held.VariantType

    async def write(self, node: str, value: Any, status: int = 0, source_ts: int | None = None) -> None:
        """Set value, StatusCode and source time (ns since 1970 UTC; now when None)."""
        when = datetime.now(UTC)
        if source_ts is not None:
            when = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=source_ts // 1000)
        data = ua.DataValue(
            Value=ua.Variant(value, self._types[node]),
            StatusCode=ua.StatusCode(ua.UInt32(status)),
            SourceTimestamp=when,  # type: ignore[arg-type]
        )
        await self.server.write_attribute_value(self._nodes[node].nodeid, data)

    async def cut(self) -> None:
        """Break every connection now."""
        binary = self.server.bserver
        assert binary is not None
        for client in list(binary.clients):
            if client.transport is not None:
                client.transport.abort()
        await asyncio.sleep(0)


@asynccontextmanager
async def serve_opcua(
    variables: Sequence[Variable],
    *,
    port: int = 0,
    security: Sequence[str] = ("none",),
    users: Mapping[str, str] | None = None,
    user_certificates: Sequence[bytes] = (),
    allow_anonymous: bool = True,
    identity: tuple[bytes, bytes] | None = None,
) -> AsyncIterator[SimulatedServer]:
    """Serve the variables while the block runs.

    Args:
        port: 0 takes any free one.
        security: of "none", "sign", "sign+encrypt" (Basic256Sha256), and e.g. "Aes256_Sha256_RsaPss/SignAndEncrypt".
        users: passwords by user name.
        user_certificates: DER of those who may log in with one.
        allow_anonymous: whether one may log in without a name.
        identity: certificate (DER) and key (PEM); by default one that is right, made anew.
    """
    from simulators.broker import free_port

    server = Server(user_manager=_Users(users or {}, user_certificates, allow_anonymous))
    await server.init()
    url = f"opc.tcp://127.0.0.1:{port or free_port()}/yulink"
    server.set_endpoint(url)
    server.set_server_name("Yulink simulated machine")
    await server.set_application_uri(APPLICATION_URI)
    server.set_security_policy([_POLICIES[name] for name in security])
    certificate = b""
    if identity is not None or any(name != "none" for name in security):
        certificate, key = identity or application_identity(APPLICATION_URI)
        await server.load_certificate(certificate, format="der")
        await server.load_private_key(key, format="pem")
    await server.register_namespace("urn:yulink:plant")
    simulated = SimulatedServer(server, url, certificate)

    async def judge(shown: x509.Certificate, _application: Any) -> None:
        der = shown.public_bytes(Encoding.DER)
        simulated.clients.append(der)
        if not simulated.trusts(der):
            raise ServiceError(ua.StatusCodes.BadCertificateUntrusted)

    server.set_certificate_validator(judge)
    for variable in variables:
        await simulated.add(variable)
    async with server:
        try:
            yield simulated
        finally:
            # A session whose connection broke waits for its client to come back; here nobody will.
            for session in list(server.iserver._external_sessions.values()):
                await session.close_session(True)


def application_identity(
    uri: str,
    *,
    hosts: Sequence[str] = ("localhost", "127.0.0.1"),
    begins: timedelta = timedelta(days=-1),
    ends: timedelta = timedelta(days=365),
    bits: int = 2048,
    for_servers: bool = True,
) -> tuple[bytes, bytes]:
    """Return a self-signed application certificate (DER) and its key (PEM), valid from `begins` to `ends` from now."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=bits)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, uri)])
    usages = [ExtendedKeyUsageOID.CLIENT_AUTH] + [ExtendedKeyUsageOID.SERVER_AUTH] * for_servers
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + begins)
        .not_valid_after(now + ends)
        .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri), *map(_host, hosts)]), False)
        .add_extension(x509.ExtendedKeyUsage(usages), False)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return certificate.public_bytes(Encoding.DER), pem


def _host(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
