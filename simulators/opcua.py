"""A real OPC UA server for tests and the demo, made with asyncua."""

import asyncio
import dataclasses
import hashlib
import ipaddress
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from asyncua import Node, Server, ua
from asyncua.common.utils import ServiceError
from asyncua.server.address_space import AttributeValue, NodeData
from asyncua.server.internal_server import InternalServer
from asyncua.server.monitored_item_service import MonitoredItemService
from asyncua.server.user_managers import UserManager
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from simulators.opcua_manners import Manners, Session, give_manners

for _name in ("asyncua", "asyncua.server", "asyncua.common"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)

APPLICATION_URI = "urn:yulink:simulator"
_LIMITS = ("MaxNodesPerRead", "MaxMonitoredItemsPerCall", "MaxNodesPerBrowse", "MaxNodesPerRegisterNodes")

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
    """A variable of the address space.

    type       asyncua's VariantType name, or "" to take the value's own
    path       browse names of the objects it stands in, below Objects, and its own: `Cnc/Spindle/Speed`
    data_type  node id of its data type, where that is not the value's
    """

    node: str
    value: Any
    type: str = ""
    path: str = ""
    data_type: ua.NodeId | None = None


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


class _InternalServer(InternalServer):
    """asyncua's, whose standard nodes are made once a process: that takes more than a second."""

    async def load_standard_address_space(self, shelf_file: Path | None = None) -> None:
        nodes = self.aspace._nodes
        if not _standard_nodes:
            await super().load_standard_address_space(shelf_file)
            _standard_nodes.update(_copied(nodes))
        else:
            nodes.update(_copied(_standard_nodes))


_standard_nodes: dict[ua.NodeId, NodeData] = {}


def _copied(nodes: Mapping[ua.NodeId, NodeData]) -> dict[ua.NodeId, NodeData]:
    copies = {}
    for node_id, node in nodes.items():
        copies[node_id] = copy = NodeData(node_id)
        copy.attributes = {key: AttributeValue(held.value) for key, held in node.attributes.items() if held.value}
        copy.references = list(node.references)
    return copies


class SimulatedServer:
    """A running server."""

    def __init__(self, server: Server, url: str, manners: Manners, certificate: bytes = b"") -> None:
        self.server = server
        self.url = url
        self.manners = manners
        self.sha256 = hashlib.sha256(certificate).hexdigest()
        """The thumbprint of its certificate."""
        self.trusts: Callable[[bytes], bool] = lambda certificate: True
        """Which clients it lets in, by the DER of their certificates."""
        self.clients: list[bytes] = []
        """The certificates that clients have shown."""
        self._nodes: dict[str, Node] = {}
        self._types: dict[str, ua.VariantType] = {}

    async def add(self, variable: Variable) -> None:
        """Add a variable below Objects, with the objects on its path."""
        node_id = ua.NodeId.from_string(variable.node)
        kind = getattr(ua.VariantType, variable.type) if variable.type else None
        name = str(node_id.Identifier).rpartition("/")[2] or str(node_id.Identifier)
        above = self.server.nodes.objects
        *folders, name = variable.path.split("/") if variable.path else [name]
        for folder in folders:
            above = await self._object(above, folder)
        node = await above.add_variable(
            node_id,
            ua.QualifiedName(name, node_id.NamespaceIndex),
            variable.value,
            varianttype=kind,
            datatype=variable.data_type,
        )
        self._nodes[variable.node] = node
        held = (await node.read_data_value()).Value
        assert held is not None
        self._types[variable.node] = held.VariantType

    async def _object(self, above: Node, name: str) -> Node:
        for child in await above.get_children():
            if (await child.read_browse_name()).Name == name:
                return child
        return await above.add_object(2, name)

    async def remove(self, node: str) -> None:
        """Delete a variable."""
        await self.server.delete_nodes([self._nodes.pop(node)])

    async def historize(self, node: str) -> None:
        """Keep the values of a variable from now on."""
        await self.server.iserver.enable_history_data_change(self._nodes[node])

    def _sessions(self) -> list[Session]:
        return [one for one in self.server.iserver._external_sessions.values() if isinstance(one, Session)]

    async def kill_sessions(self, *, subscriptions: bool = True) -> None:
        """End every session; its subscriptions too, or they are left for another one."""
        for session in self._sessions():
            await session.close_session(subscriptions)

    async def kill_subscriptions(self, *, told: bool = False) -> None:
        """Delete every subscription, and say so or not."""
        for session in self._sessions():
            own = session.own_subscriptions()
            if told:
                for one in own:
                    await one.enqueue_statuschange(ua.StatusCode(ua.UInt32(ua.StatusCodes.BadTimeout)))
                    one._startup = True  # publish at the next turn
                    await one.publish_results()
            await session.delete_subscriptions([int(one.data.SubscriptionId) for one in own])

    def mute(self) -> None:
        """Let every subscription go on with its keep-alives and say nothing else."""
        for session in self._sessions():
            for one in session.own_subscriptions():
                one.monitored_item_srv.delete_all_monitored_items()

    def subscription_of(self, node: str) -> MonitoredItemService:
        """Return the monitored items of the subscription in which a variable is."""
        for session in self._sessions():
            for one in session.own_subscriptions():
                items = one.monitored_item_srv._monitored_items.values()
                if any(item.read_value_id and item.read_value_id.NodeId == self._nodes[node].nodeid for item in items):
                    return one.monitored_item_srv
        raise LookupError(node)

    def stamp_reads(self, node: str) -> None:
        """Let a variable have the time of each Read as its source's time."""
        node_id = self._nodes[node].nodeid
        held = self.server.iserver.aspace.read_attribute_value(node_id, ua.AttributeIds.Value)

        def read(*_: Any) -> ua.DataValue:
            return dataclasses.replace(held, SourceTimestamp=datetime.now(UTC))  # type: ignore[arg-type]

        self.server.iserver.set_attribute_value_callback(node_id, read)

    @property
    def subscriptions(self) -> int:
        """How many subscriptions the clients have."""
        return sum(len(session.own_subscriptions()) for session in self._sessions())

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return len(self.server.bserver.clients) if self.server.bserver is not None else 0

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
    told_url: str = "",
    manners: Manners | None = None,
) -> AsyncIterator[SimulatedServer]:
    """Serve the variables while the block runs.

    Args:
        port: 0 takes any free one.
        security: of "none", "sign", "sign+encrypt" (Basic256Sha256), and e.g. "Aes256_Sha256_RsaPss/SignAndEncrypt".
        users: passwords by user name.
        user_certificates: DER of those who may log in with one.
        allow_anonymous: whether one may log in without a name.
        identity: certificate (DER) and key (PEM); by default one that is right, made anew.
        told_url: the address that the server gives itself, where that is not the one it listens at.
        manners: limits of what it takes.
    """
    from simulators.broker import free_port

    server = Server(_InternalServer(user_manager=_Users(users or {}, user_certificates, allow_anonymous)))
    await server.init()
    url = f"opc.tcp://127.0.0.1:{port or free_port()}/yulink"
    server.set_endpoint(told_url or url)
    if told_url:
        server.socket_address = ("127.0.0.1", int(url.rpartition(":")[2].partition("/")[0]))
        server.iserver.match_discovery_endpoint_url = server.iserver.match_discovery_source_ip = False
    manners = manners or Manners()
    give_manners(server.iserver, manners)
    for limit in _LIMITS:
        node = getattr(ua.ObjectIds, f"Server_ServerCapabilities_OperationLimits_{limit}")
        await server.get_node(ua.NodeId(node)).write_value(ua.Variant(manners.stated, ua.VariantType.UInt32))
    server.set_server_name("Yulink simulated machine")
    await server.set_application_uri(APPLICATION_URI)
    server.set_security_policy([_POLICIES[name] for name in security])
    certificate = b""
    if identity is not None or any(name != "none" for name in security):
        certificate, key = identity or application_identity(APPLICATION_URI)
        await server.load_certificate(certificate, format="der")
        await server.load_private_key(key, format="pem")
    await server.register_namespace("urn:yulink:plant")
    simulated = SimulatedServer(server, url, manners, certificate)

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
