"""Configuration of an OPC UA device."""

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from drivers.api import DriverSection, TagSection
from edge.core.errors import Problem
from edge.core.language import say
from edge.core.section import SecretName, Section, refuse

POLICIES = ("Aes256_Sha256_RsaPss", "Aes128_Sha256_RsaOaep", "Basic256Sha256")
"""Policies this driver uses, the strongest first. The older ones are broken and are not offered."""

_NODE = re.compile(r"(?:ns=\d{1,5};)?(?:i=\d{1,10}|s=.+|g=[0-9a-fA-F-]{36}|b=[A-Za-z0-9+/=]+)")


def _check_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        usable = parts.scheme == "opc.tcp" and parts.hostname and parts.port != 0 and not parts.username
    except ValueError:
        usable = False
    if not usable:
        refuse(say("{url!r} is not an OPC UA address", url=url), say("write opc.tcp://host:4840"))
    return url


def _check_node(node: str) -> str:
    if _NODE.fullmatch(node) is None:
        refuse(
            say("{node!r} is not a node id", node=node),
            say("write ns=2;s=Name or ns=2;i=1234; quote it where it holds a comma or brace"),
        )
    return node


def _check_security(given: str) -> str:
    policy, _, mode = given.partition("/")
    named = policy in POLICIES and mode in ("Sign", "SignAndEncrypt")
    if given not in ("none", "sign", "sign+encrypt") and not named:
        refuse(
            say("{given!r} is not a security setting", given=given),
            say("write none, sign, sign+encrypt, or e.g. Basic256Sha256/SignAndEncrypt"),
        )
    return given


class Login(Section):
    """Who we are to the server: a name with a password, or a certificate."""

    user: str | None = None
    """User name."""

    secret: SecretName | None = None
    """Name of the secret that holds the password."""

    certificate: SecretName | None = None
    """Name of the secret that holds a PEM with the user's certificate and key."""


class OpcUaTag(TagSection):
    """One variable of the server."""

    node: Annotated[str, AfterValidator(_check_node)]
    """Node id: `ns=2;s=Spindle/ActSpeed`, `ns=2;i=1234`."""

    type: Literal["bool", "int64", "uint64", "float64", "text"] | None = None
    """What the values are. Default: what the server says."""


class OpcUaSection(DriverSection):
    """A device with an OPC UA server."""

    opcua: Annotated[str, AfterValidator(_check_url)]
    """`opc.tcp://host:4840[/path]`."""

    login: Login = Login()
    """Who we are to the server. Default: anonymous."""

    security: Annotated[str, AfterValidator(_check_security)] = "none"
    """`none`, `sign`, `sign+encrypt` (the strongest policy the server offers), or `Basic256Sha256/SignAndEncrypt`."""

    identity: SecretName | None = None
    """Name of the secret that holds a PEM with our application certificate and key. Default: made at each start."""

    mode: Literal["subscribe", "poll"] = "subscribe"
    """Whether the server tells changes, or is read at each interval."""

    tags: Annotated[Mapping[str, OpcUaTag], Field(min_length=1)]
    """The values to read, by name. `load_{x,y,z}` makes three tags, `{}` in the node stands for x, y, z."""

    def problems(self) -> Sequence[Problem]:
        """Return contradictions of the login."""
        login = self.login
        if login.user is not None and login.secret is None:
            return [
                Problem(("login",), say("the user has no password"), say("add secret: NAME; the password stands in it"))
            ]
        if login.user is not None and login.certificate is not None:
            return [Problem(("login",), say("a login is a user or a certificate, not both"), say("remove one"))]
        return ()
