"""Simulated gateways that cost little: real messages of the contract, without log, pump or connection."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from edge.core.batch import Batch, Lane
from edge.core.catalogue import Catalogue, ValueKind
from edge.core.delivery import Parcel
from uplink.catalogue import Equipment, encode_catalogue
from uplink.encode import encode
from uplink.keys import PublicKey
from uplink.seal import Sealer

Message = tuple[str, bytes]
TAGS = 20


class Gateway:
    """A gateway with `tags` tags of one device; batch n holds a reading of each, taken in second n."""

    def __init__(
        self, name: str, epoch: int, tags: int = TAGS, *, identity: Path | None = None, brain: PublicKey | None = None
    ) -> None:
        self.name = name
        self._epoch = epoch
        self._tags = tags
        self._sealer = Sealer(name, [brain], identity) if identity and brain else None

    def catalogue(self) -> Message:
        """Return the message that names the tags."""
        known = Catalogue()
        for n in range(self._tags - 1):
            known.intern("press", f"temperature_{n}", ValueKind.FLOAT64, "degC")
        known.intern("press", "recipe", ValueKind.TEXT)
        topic = f"v1/{self.name}/catalog/press"
        return self._sealed(topic, encode_catalogue(self.name, "press", known.since(0), Equipment(), self._tags))

    def key(self) -> Message:
        """Return the announcement of the content key."""
        assert self._sealer is not None
        topic = f"v1/{self.name}/key"
        return topic, self._sealer.announcement(topic)

    def health(self, number: int = 1) -> Message:
        """Return a health message of the first connection."""
        identity = {"gateway": self.name, "state": "online", "started": "2026-01-01T00:00:00.000000Z", "connection": 1}
        plain = json.dumps(identity | {"number": number, "version": "0.1.0", "contract": 1}).encode()
        return self._sealed(f"v1/{self.name}/health", plain)

    def open_ack(self, topic: str, payload: bytes) -> bytes:
        """Return what an acknowledgement says, if it is for us."""
        return payload if self._sealer is None else self._sealer.open_ack(topic, payload)

    def batch(self, seq: int, text: str = "flange") -> Message:
        """Return batch `seq`."""
        ts = 1_767_225_600_000_000_000 + seq * 1_000_000_000
        numbers = np.round(20 + np.sin(seq + np.arange(self._tags - 1)), 2)
        records = (
            Batch.of(Lane.FLOAT, list(range(1, self._tags)), [ts] * (self._tags - 1), numbers, 0),
            Batch.of(Lane.TEXT, [self._tags], [ts], [text], 0),
        )
        payload = encode(Parcel(self._epoch, seq, records), self.name, self._tags)
        return self._sealed(f"v1/{self.name}/data/telemetry", payload, (self._epoch, seq))

    def plain(self, batches: int) -> Iterator[Message]:
        """Yield the catalogue and so many batches."""
        yield self.catalogue()
        yield from (self.batch(seq) for seq in range(1, batches + 1))

    def _sealed(self, topic: str, payload: bytes, number: tuple[int, int] | None = None) -> Message:
        return topic, payload if self._sealer is None else self._sealer.seal(topic, payload, number)
