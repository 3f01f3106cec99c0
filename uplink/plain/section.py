"""Configuration of the plain JSON view."""

from collections.abc import Collection, Iterator, Mapping
from itertools import product
from typing import Annotated, Literal

from pydantic import Field

from edge.core.errors import Problem
from edge.core.language import say
from edge.core.section import Duration, Section
from uplink.plain.template import places_of, with_places
from uplink.section import MqttUrl, UplinkSection

_OF_A_SITE = ("site", "tenant", "gateway")
_OF_A_DEVICE = (*_OF_A_SITE, "device")
_OF_A_TAG = (*_OF_A_DEVICE, "tag")

TagTopic = Annotated[str, Field(max_length=500), with_places(_OF_A_TAG, topic=True)]
DeviceTopic = Annotated[str, Field(max_length=500), with_places(_OF_A_DEVICE, topic=True)]
SiteTopic = Annotated[str, Field(max_length=500), with_places(_OF_A_SITE, topic=True)]
FieldName = Annotated[str, Field(max_length=200), with_places(("device", "tag"), topic=False)]


class JsonFields(Section):
    """What the fields of a reading are called. `null` leaves one out. `{device}` and `{tag}` stand for their names."""

    ts: FieldName | None = "ts"
    """When the value was read."""

    gateway: FieldName | None = None
    """Tenant and gateway, as in `site`. Default: left out."""

    device: FieldName | None = "device"
    """The device's name."""

    tag: FieldName | None = "tag"
    """The tag's name. In the wide shape left out."""

    value: FieldName = "value"
    """The value; `null` where the quality is bad. In the wide shape by default `{tag}`."""

    quality: FieldName | None = "quality"
    """What the value is worth. In the wide shape by default `{tag}_quality`, and only where it is not good."""

    unit: FieldName | None = "unit"
    """The value's unit, where it has one. In the wide shape by default left out."""

    historical: FieldName | None = "historical"
    """`true` for what an outage held back; otherwise it is not there."""


_WIDE: dict[str, str | None] = {"tag": None, "value": "{tag}", "quality": "{tag}_quality", "unit": None}


class JsonSection(UplinkSection):
    """Plain JSON for whoever subscribes. A view: a message is delivered when the broker has acknowledged it."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=64)] = "json"
    """What this uplink is called. Its position in the log is kept under it."""

    broker: MqttUrl = Field(alias="json")
    """`mqtts://host[:8883]`. The broker's certificate and name are always verified."""

    topic: TagTopic = "{site}/{device}"
    """Where readings go. Places: `{site}`, `{tenant}`, `{gateway}`, `{device}`, `{tag}`."""

    shape: Literal["long", "wide"] = "long"
    """`long`: an object a reading. `wide`: an object a device and time, each tag under its own name."""

    together: bool = False
    """Whether what goes to a topic at once is one message with a list of objects. Default: a message an object."""

    fields: JsonFields = JsonFields()
    """What the fields of a reading are called, e.g. `{ts: time, value: v, unit: null}`; what is not named stays."""

    time: Literal["iso8601", "ms", "us"] = "iso8601"
    """How times are written: as text with microseconds, or as milli- or microseconds since 1970 UTC."""

    quality: Literal["hex", "word"] = "hex"
    """How a quality is written: OPC UA StatusCode `0x80310000`, or `good`, `uncertain`, `bad`."""

    waveform_topic: TagTopic | None = "{site}/{device}/waveform/{tag}"
    """Where waveforms go; `null` leaves them out."""

    event_topic: DeviceTopic | None = "{site}/{device}/event"
    """Where events go; `null` leaves them out. The device of the gateway's own events is `gateway`."""

    gap_topic: SiteTopic | None = "{site}/gateway/gap"
    """Where it is told what will not come, and why; `null` leaves it out."""

    health_topic: SiteTopic | None = "{site}/gateway/health"
    """Where the gateway's state is retained, also as its will; `null` leaves it out."""

    retain: bool = False
    """Whether the broker keeps the last live message of each topic for who comes later."""

    latency: Duration = 1.0
    """How long readings may wait to be sent together."""

    backlog_share: Annotated[float, Field(gt=0, le=1)] = 0.3
    """How much of what the link carries the backlog may take after an outage; live data keeps the rest."""

    window: Annotated[int, Field(ge=1, le=1000)] = 100
    """Messages on their way at once; the broker's Receive Maximum may lower it."""

    def url(self) -> str:
        """Return the broker's address."""
        return self.broker

    def topics(self) -> frozenset[str]:
        """Return the templates of the topics that are published to."""
        topics = (self.topic, self.waveform_topic, self.event_topic, self.gap_topic, self.health_topic)
        return frozenset(topic for topic in topics if topic is not None)

    def names(self) -> dict[str, str]:
        """Return the template of each field's name that is sent."""
        names: dict[str, str | None] = {key: getattr(self.fields, key) for key in JsonFields.model_fields}
        if self.shape == "wide":
            names |= {key: name for key, name in _WIDE.items() if key not in self.fields.model_fields_set}
        return {key: name for key, name in names.items() if name is not None}

    def problems(self, devices: Mapping[str, Collection[str]]) -> Iterator[Problem]:
        """Yield what makes readings indistinguishable, or two fields one."""
        names = self.names()
        found = list(self._own_problems(names))
        yield from found or self._clashes(names, devices)

    def _own_problems(self, names: Mapping[str, str]) -> Iterator[Problem]:
        if self.shape == "wide":
            yield from self._wide_problems(names)
        twins = [key for key, name in names.items() if list(names.values()).count(name) > 1]
        if twins:
            yield Problem(
                ("fields", twins[-1]),
                say("{keys} have the same name", keys=", ".join(twins)),
                say("give each its own, or null to leave it out"),
            )
        told = set().union(*map(places_of, (self.topic, *names.values()))) | names.keys()
        for place in ("device", "tag"):
            if place not in told:
                yield Problem(
                    ("topic",),
                    say("neither topic nor fields name the {place}: readings of two look alike", place=place),
                    say("write {place} into `topic`, or name the field `{key}`", place=f"{{{place}}}", key=place),
                )

    def _wide_problems(self, names: Mapping[str, str]) -> Iterator[Problem]:
        if "tag" in places_of(self.topic):
            yield Problem(
                ("topic",),
                say("the wide shape has all tags of a device in one object"),
                say("take {tag} out of `topic`, or write shape: long", tag="{tag}"),
            )
        for key in ("value", "quality", "unit"):
            if key in names and "tag" not in places_of(names[key]):
                yield Problem(
                    ("fields", key),
                    say("in the wide shape each tag needs its own field"),
                    say("write e.g. {example}", example=f'"{{tag}}_{key}"' if key != "value" else '"{tag}"'),
                )
        if "tag" in names:
            yield Problem(
                ("fields", "tag"),
                say("an object of the wide shape is of no single tag"),
                say("write null to leave it out"),
            )
        for key in ("ts", "gateway", "device", "historical"):
            if "tag" in places_of(names.get(key, "")):
                yield Problem(
                    ("fields", key),
                    say("an object of the wide shape is of no single tag"),
                    say("take {tag} out of the name", tag="{tag}"),
                )

    def _clashes(self, names: Mapping[str, str], devices: Mapping[str, Collection[str]]) -> Iterator[Problem]:
        """Yield, for each device, the first tag with a field whose name another field has."""
        for device, tags in devices.items():
            seen: dict[str, str] = {}
            for tag, (key, name) in product(tags, names.items()):
                if self.shape == "long" and key == next(iter(names)):
                    seen = {}
                shown = name.format(device=device, tag=tag)
                owner = f"{key} of {tag}" if "tag" in places_of(name) else key
                other = seen.setdefault(shown, owner)
                if other != owner:
                    yield Problem(
                        ("fields", key),
                        say(
                            "{device}: {one} and {other} are both called {name!r}",
                            device=device,
                            one=owner,
                            other=other,
                            name=shown,
                        ),
                        say("give one of them another name in `fields`"),
                    )
                    break
