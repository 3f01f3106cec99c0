"""Configuration of the Sparkplug view."""

import re
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from edge.core.language import say
from edge.core.section import Duration, refuse
from uplink.section import MqttUrl, UplinkSection


def _check_id(given: str) -> str:
    if not given or re.search(r"[+/#\x00]", given):
        refuse(say("{given!r} is not a Sparkplug id", given=given), say("it may not hold +, / or #"))
    return given


SparkplugId = Annotated[str, AfterValidator(_check_id), Field(max_length=100)]
"""An element of a Sparkplug topic: any text without `+`, `/` and `#`."""


class SparkplugSection(UplinkSection):
    """A SCADA host that speaks Sparkplug B 3.0. A view, live first: its data is QoS 0, as Sparkplug demands."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=64)] = "sparkplug"
    """What this uplink is called. Its position in the log is kept under it."""

    sparkplug: MqttUrl
    """`mqtts://host[:8883]`. The server's certificate and name are always verified."""

    group: SparkplugId | None = None
    """Sparkplug group id. Default: the tenant of `site`."""

    node: SparkplugId | None = None
    """Sparkplug edge node id, unique in the group. Default: the gateway of `site`."""

    primary_host: SparkplugId | None = None
    """The host without which nothing is sent: births wait until its STATE says online. Default: none is waited for."""

    servers: Annotated[tuple[MqttUrl, ...], Field(max_length=8)] = ()
    """Further servers. One is used at a time; the next when it is lost or the primary host is not online there."""

    host_wait: Duration = 30.0
    """With several servers: how long the primary host is waited for at one before the next is tried."""

    latency: Duration = 1.0
    """How long readings may wait to be sent together."""

    historical_after: Duration = 10.0
    """Readings older than this are sent with `is_historical`, so that a host does not take them for live."""

    datatype_in_data: bool = False
    """Whether DATA carries each metric's type too, for hosts that do not remember births. 2 bytes a value."""

    unchanged: bool = False
    """Whether readings that equal the last one are sent too. Sparkplug recommends to report by exception."""

    @model_validator(mode="after")
    def _servers_differ(self) -> Self:
        if len({self.sparkplug, *self.servers}) <= len(self.servers):
            refuse(say("a server is listed twice"), say("`sparkplug` is the first server; list only others"))
        return self

    def url(self) -> str:
        """Return the first server's address."""
        return self.sparkplug
