"""Configuration of the way to the brain."""

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Annotated, Any, ClassVar, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from edge.core.errors import Problem
from edge.core.language import say
from edge.core.section import Duration, Section, refuse

PORT_TLS = 8883
PORT_PLAIN = 1883
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def parse_url(url: str) -> tuple[str, int, bool] | None:
    """Return host, port and whether TLS is used; None when `url` is no MQTT address."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname or parts.path.strip("/") or parts.username:
        return None
    tls = parts.scheme == "mqtts"
    return parts.hostname, port or (PORT_TLS if tls else PORT_PLAIN), tls


def _check_url(url: str) -> str:
    parsed = parse_url(url)
    if parsed is None:
        refuse(say("{url!r} is not an MQTT address", url=url), say("write mqtts://host or mqtts://host:8883"))
    if not parsed[2] and parsed[0] not in _LOOPBACK:
        refuse(say("mqtt:// sends readings in the clear"), say("write mqtts://; mqtt:// is for this machine only"))
    return url


MqttUrl = Annotated[str, AfterValidator(_check_url)]
"""The address of a broker; only `mqtts://` leaves this machine."""


def _listed(given: Any) -> Any:
    return (given,) if isinstance(given, str) else given


def _check_pattern(pattern: str) -> str:
    device, dot, tag = pattern.partition(".")
    if not device or not dot or not tag or re.search(r"[^\w.*?\[\]!-]", pattern):
        refuse(
            say("{given!r} is not a pattern of device.tag", given=pattern), say("write e.g. pump-3.* or *.temperature")
        )
    return pattern


Pattern = Annotated[str, AfterValidator(_check_pattern), Field(examples=["pump-3.*", "*.temperature"])]


class UplinkSection(Section):
    """What every uplink has, whatever it speaks. The key that names the protocol has the URL as its value."""

    FILES: ClassVar[tuple[str, ...]] = ("identity", "ca")
    """Keys whose values are file names, relative to the configuration's folder."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=64)] = "brain"
    """What this uplink is called; with several each needs its own. Its position in the log is kept under it."""

    identity: str | None = None
    """PEM file with the gateway's certificate and key. Relative to this file's folder."""

    ca: str | None = None
    """PEM file of the authority that signed the broker's certificate. Default: the system's authorities."""

    only: tuple[Pattern, ...] = ()
    """Patterns of `device.tag`: all else, with the events of other devices, is not for this uplink. A change holds for
    what is read from then on. Default: everything."""

    protocol: Literal["auto", "5", "3.1.1"] = "auto"
    """MQTT version; `auto` prefers 5."""

    def url(self) -> str:
        """Return where it goes, for people."""
        raise NotImplementedError

    def topics(self) -> frozenset[str]:
        """Return what two uplinks at one broker must not share."""
        return frozenset({type(self).__name__})

    def problems(self, devices: Mapping[str, Collection[str]]) -> Iterable[Problem]:
        """Return what is wrong between settings, or with the devices' tags; paths begin at the section."""
        return ()


class MqttSection(UplinkSection):
    """The broker through which a brain is reached."""

    FILES: ClassVar[tuple[str, ...]] = (*UplinkSection.FILES, "seal_to", "sign_with")

    mqtt: MqttUrl
    """`mqtts://host[:8883]`. The broker's certificate and name are always verified."""

    seal_to: Annotated[tuple[str, ...], BeforeValidator(_listed, json_schema_input_type=str | list[str])] = ()
    """Public key files of the brains that may read: what is sent is then encrypted for them, end to end."""

    cipher: Literal["A256GCM", "SM4-GCM"] = "A256GCM"
    """How sealed messages are encrypted."""

    sign_with: str | None = None
    """PEM file with an Ed25519 key that signs every sealed message besides; only needed with several brains."""

    latency: Duration = 1.0
    """How long readings may wait to be sent together."""

    backlog_share: Annotated[float, Field(gt=0, le=1)] = 0.3
    """How much of what the link carries the backlog may take after an outage; live data keeps the rest."""

    window: Annotated[int, Field(ge=1, le=64)] = 20
    """Messages on their way at once; the broker's Receive Maximum may lower it."""

    confirm: Literal["brain", "broker"] = "brain"
    """Who confirms delivery. `broker` is weaker: brokers have been seen to lose what they acknowledged."""

    @model_validator(mode="after")
    def _sealing_is_whole(self) -> Self:
        if self.seal_to and self.identity is None:
            refuse(say("sealing needs an `identity`: its key proves who sealed"), say("add identity: pki/gateway.pem"))
        if self.sign_with and not self.seal_to:
            refuse(say("`sign_with` signs sealed messages"), say("add seal_to: pki/brain.pub"))
        return self

    def url(self) -> str:
        """Return the broker's address."""
        return self.mqtt
