"""Configuration of the way to the brain."""

from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

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


class UplinkSection(Section):
    """The broker through which the brain is reached."""

    mqtt: Annotated[str, AfterValidator(_check_url)]
    """`mqtts://host[:8883]`. The broker's certificate and name are always verified."""

    identity: str | None = None
    """PEM file with the gateway's certificate and key. Relative to this file's folder."""

    ca: str | None = None
    """PEM file of the authority that signed the broker's certificate. Default: the system's authorities."""

    latency: Duration = 1.0
    """How long readings may wait to be sent together."""

    window: Annotated[int, Field(ge=1, le=64)] = 20
    """Messages on their way at once; the broker's Receive Maximum may lower it."""

    confirm: Literal["brain", "broker"] = "brain"
    """Who confirms delivery. `broker` is weaker: brokers have been seen to lose what they acknowledged."""

    protocol: Literal["auto", "5", "3.1.1"] = "auto"
    """MQTT version; `auto` prefers 5."""
