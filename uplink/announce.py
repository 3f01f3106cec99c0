"""What a broker keeps of a gateway for whoever comes later: the content key, and the catalogue of every device."""

import asyncio
from collections.abc import Callable, Mapping

from edge.core.catalogue import Tag
from edge.core.delivery import Outbox
from uplink.catalogue import Equipment, encode_catalogue
from uplink.seal import Sealer
from uplink.session import MqttSession

REFUSED = 0x80


class Announcer:
    """Publishes, retained, what the messages after it need.

    refused  is told the topic that the broker does not take
    """

    def __init__(
        self,
        gateway: str,
        root: str,
        outbox: Outbox,
        sealer: Sealer | None,
        equipment: Callable[[], Mapping[str, Equipment]],
        refused: Callable[[str], None],
    ) -> None:
        self._gateway = gateway
        self._root = root
        self._outbox = outbox
        self._sealer = sealer
        self._equipment = equipment
        self._refused = refused
        self._told: dict[str, bytes] = {}
        self._revision = 0
        self.is_wanted = False

    @property
    def is_due(self) -> bool:
        """Whether somebody asked for everything again, or a new content key is to be told."""
        return self.is_wanted or (self._sealer is not None and self._sealer.is_due)

    def announce(self, session: MqttSession) -> None:
        """Publish the content key and the whole catalogue, ahead of the messages that need them."""
        self.is_wanted = False
        if self._sealer is not None:
            topic = f"{self._root}/key"
            self._watch(topic, session.publish(topic, self._sealer.announcement(topic), retain=True))
        self._told.clear()
        self._revision = 0
        self.tell_catalogue(session)

    def tell_catalogue(self, session: MqttSession) -> None:
        """Publish the catalogue of every device whose tags changed since it was last told on this connection."""
        catalogue = self._outbox.catalogue
        revision = catalogue.last_id
        if revision == self._revision:
            return
        devices: dict[str, list[Tag]] = {}
        for tag in filter(self._outbox.selects, catalogue.since(0)):
            devices.setdefault(tag.device, []).append(tag)
        equipment = self._equipment()
        for device, tags in devices.items():
            known = equipment.get(device, Equipment())
            newest = max(tag.id for tag in tags)
            payload = encode_catalogue(self._gateway, device, tags, known, newest)
            if self._told.get(device) != payload:
                self._told[device] = payload
                self.publish(session, f"{self._root}/catalog/{device}", payload)
        self._revision = revision

    def publish(self, session: MqttSession, topic: str, plain: bytes) -> "asyncio.Future[int]":
        """Publish something that the broker keeps, sealed where messages are; return its PUBACK's reason code to be."""
        payload = plain if self._sealer is None else self._sealer.seal(topic, plain)
        puback = session.publish(topic, payload, retain=True)
        self._watch(topic, puback)
        return puback

    def _watch(self, topic: str, puback: "asyncio.Future[int]") -> None:
        def done(future: "asyncio.Future[int]") -> None:
            if not future.cancelled() and future.result() >= REFUSED:
                self._refused(topic)

        puback.add_done_callback(done)
