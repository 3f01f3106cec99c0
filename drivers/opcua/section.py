"""Configuration of an OPC UA device."""

import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field

from drivers.api import DriverSection, TagSection
from edge.core.errors import Problem
from edge.core.language import say
from edge.core.section import Duration, Frequency, Pause, SecretName, Section, refuse

POLICIES = ("Aes256_Sha256_RsaPss", "Aes128_Sha256_RsaOaep", "Basic256Sha256")
"""Policies to choose from, the strongest first."""

DEPRECATED = ("Basic256", "Basic128Rsa15")
"""Policies that are broken, and used only where they are named."""

_SHA256 = re.compile(r"[0-9a-fA-F]{64}")

_PATH = re.compile(r"(?:/[^/]+)+")
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
    if (_PATH if node.startswith("/") else _NODE).fullmatch(node) is None:
        refuse(
            say("{node!r} is not a node id or path", node=node),
            say("write ns=2;s=Name, ns=2;i=1234 or /Objects/Machine/Speed; quote it where it holds a comma or brace"),
        )
    return node


def _check_security(given: str) -> str:
    policy, _, mode = given.partition("/")
    named = policy in (*POLICIES, *DEPRECATED) and mode in ("Sign", "SignAndEncrypt")
    if given not in ("none", "sign", "sign+encrypt") and not named:
        refuse(
            say("{given!r} is not a security setting", given=given),
            say("write none, sign, sign+encrypt, or e.g. Basic256Sha256/SignAndEncrypt"),
        )
    return given


def _check_trust(given: str) -> str:
    if given not in ("list", "first-use") and not _SHA256.fullmatch(given.replace(":", "")):
        refuse(
            say("{given!r} does not say whom to trust", given=given),
            say("write list, first-use, or the SHA-256 thumbprint of the server's certificate, 64 digits"),
        )
    return given


def _as_text(given: object) -> object:
    """Let the index of an element be written without quotes."""
    return str(given) if isinstance(given, int) and not isinstance(given, bool) else given


class Login(Section):
    """Who we are to the server: a name with a password, or a certificate."""

    user: str | None = None
    """User name."""

    secret: SecretName | None = None
    """Name of the secret that holds the password."""

    certificate: SecretName | None = None
    """Name of the secret that holds a PEM with the user's certificate and key."""

    clear: bool = False
    """Whether the password may go where everybody on the network can read it, if the server takes it no other way."""


class OpcUaTag(TagSection):
    """One variable of the server."""

    node: Annotated[str, AfterValidator(_check_node)]
    """Node id `ns=2;s=Spindle/ActSpeed`, `ns=2;i=1234`; or the path of browse names `/Objects/Cnc/Speed`, which is
    looked up at each connection (`/Objects/2:Cnc/2:Speed` where a name stands in several namespaces). With `*`, `?` or
    `**` it makes a tag `name[path]` for each variable it finds."""

    type: Literal["bool", "int64", "uint64", "float64", "text"] | None = None
    """What the values are. Default: what the server says. `text` gives an enumeration's words."""

    pick: Annotated[str, BeforeValidator(_as_text)] | None = None
    """Which part of an array or structure: `3`, `Position.X`, `Axes.0.Load`. Default: a tag `name[part]` for each
    part."""

    sampling: Pause | None = None
    """How often the server looks at the variable; `0ms`: as fast as it can. Default: `every`."""

    queue: Annotated[int, Field(ge=1, le=10_000)] = 10
    """How many values the server holds back between two notifications before the oldest are dropped (and marked)."""

    rate: Frequency | None = None
    """Samples a second, for an array that is a waveform."""

    full_scale: Annotated[float, Field(gt=0)] | None = None
    """The physical value of sample 32768 of a waveform of integers."""

    def value_kind(self) -> str | None:
        """Return what its values are, where the configuration says it."""
        return "waveform" if self.rate else self.type

    @property
    def lacks_full_scale(self) -> bool:
        """Whether its samples are said to be integers, and not what they mean."""
        return self.rate is not None and self.type in ("int64", "uint64") and self.full_scale is None

    @property
    def is_stream(self) -> bool:
        """Whether waveforms can be joined: a source time is taken for that of the first sample."""
        return True

    @property
    def spreads(self) -> bool:
        """Whether it may stand for several tags, which get their names from the server."""
        return self.node.startswith("/") and ("*" in self.node or "?" in self.node)


class OpcUaSection(DriverSection):
    """A device with an OPC UA server."""

    opcua: Annotated[str, AfterValidator(_check_url)]
    """`opc.tcp://host:4840[/path]`."""

    login: Login = Login()
    """Who we are to the server. Default: anonymous."""

    security: Annotated[str, AfterValidator(_check_security)] = "none"
    """`none`, `sign`, `sign+encrypt` (the strongest policy the server offers), or `Basic256Sha256/SignAndEncrypt`."""

    trust: Annotated[str, AfterValidator(_check_trust)] = "list"
    """Which server is trusted: `list`: one whose certificate was accepted with `yulink trust accept`; `first-use`: the
    certificate that it shows first, and no other afterwards; or the SHA-256 thumbprint of its certificate."""

    ca: SecretName | None = None
    """Name of the secret that holds the PEM of authorities whose servers are trusted, and of their revocation lists."""

    tolerate: Sequence[Literal["expired", "not-yet-valid", "host", "uri", "usage", "weak"]] = ()
    """What may be wrong with the server's certificate: its time is over or has not begun, it is for another address
    or another application, not for servers, or its key or signature is weak."""

    identity: SecretName | None = None
    """Name of the secret that holds a PEM with our application certificate and key. Default: one that is made for this
    gateway, kept in the data directory and renewed."""

    mode: Literal["subscribe", "poll"] = "subscribe"
    """Whether the server tells changes, or is read at each interval."""

    heartbeat: Duration | None = None
    """Report all values after so long even if they have not changed. Default: only changes."""

    events: bool = False
    """Whether the server's events and alarms go into the log as events."""

    history: bool = True
    """Whether values that came while the connection was lost are asked from the server, where it has a history."""

    tags: Annotated[Mapping[str, OpcUaTag], Field(min_length=1)]
    """The values to read, by name. `load_{x,y,z}` makes three tags, `{}` in the node stands for x, y, z."""

    def heartbeat_of(self, tag: TagSection) -> float | None:
        """Return the tag's own heartbeat, else the device's."""
        return tag.heartbeat or self.heartbeat

    def tag_of(self, name: str) -> TagSection | None:
        """Return the settings that readings of this name come from: parts of a value, and variables that are found,
        have names that begin like their tag's, or fit its `*`."""
        found = super().tag_of(name)
        if found is not None:
            return found
        made = (tag for own, tag in self.tags.items() if name.startswith(f"{own}_") or fnmatchcase(name, own))
        return next((tag for tag in made if tag.type is None or tag.spreads), None)

    def problems(self) -> Sequence[Problem]:
        """Return contradictions of the login, and what is weak."""
        login = self.login
        found: list[Problem] = []
        if login.user is not None and login.secret is None:
            found.append(
                Problem(("login",), say("the user has no password"), say("add secret: NAME; the password stands in it"))
            )
        if login.user is not None and login.certificate is not None:
            found.append(Problem(("login",), say("a login is a user or a certificate, not both"), say("remove one")))
        idle = [key for key in ("trust", "ca", "tolerate", "identity") if key in self.model_fields_set]
        if idle and self.security == "none" and login.user is None:
            found.append(
                Problem(
                    (idle[0],),
                    say("without security nobody's certificate is looked at"),
                    say("add security: sign+encrypt"),
                    severity="warning",
                    on="key",
                )
            )
        policy = self.security.partition("/")[0]
        if policy in DEPRECATED:
            found.append(
                Problem(
                    ("security",),
                    say("{policy} is broken: whoever listens may read and change what is sent", policy=policy),
                    say("have the server offer Basic256Sha256 or better"),
                    severity="warning",
                )
            )
        if login.clear and self.security != "sign+encrypt":
            found.append(
                Problem(
                    ("login", "clear"),
                    say("everybody on the network may read the password"),
                    say("use security: sign+encrypt"),
                    severity="warning",
                )
            )
        return found
