"""The demo's account: what the agent counted, what its log holds, what the brain stored; the three must agree."""

import json
import sqlite3
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from buffer.log import open_log
from edge.agent.app import LOG_NAME
from edge.core.batch import Batch, Waveform
from edge.core.clock import SystemClock

_AGES = "SELECT m.received - r.ts FROM message m JOIN sample r ON r.rowid BETWEEN m.first AND m.last"
REMEMBERED_MAX = 200_000
LATENCY_MESSAGES = 100


@dataclass(frozen=True, slots=True)
class Standing:
    """What the brain holds at this moment. `duplicated` counts repeats among the last 200,000 readings."""

    values: int = 0
    rows: int = 0
    duplicated: int = 0
    latency_ms: float = 0.0


class Account:
    """The brain's store, read while the brain writes it. Rows are only ever added there, so row ids count them."""

    def __init__(self, store: Path) -> None:
        self._store = store
        self._seen: dict[tuple[Any, ...], None] = {}
        self._looked_through = 0
        self._duplicated = 0

    def standing(self) -> Standing:
        """Return the state now; each call looks only at what came since the last one."""
        for rowid, *key in self._rows(
            "SELECT id, gateway, device, tag, ts FROM reading WHERE id > ? ORDER BY id",
            (self._looked_through,),
        ):
            self._looked_through = rowid
            self._duplicated += tuple(key) in self._seen
            self._seen[tuple(key)] = None
            if len(self._seen) > REMEMBERED_MAX:
                del self._seen[next(iter(self._seen))]
        counted = self._rows(
            "SELECT (SELECT ifnull(max(rowid), 0) FROM sample), (SELECT ifnull(max(rowid), 0) FROM waveform),"
            " (SELECT ifnull(max(rowid), 0) FROM event)"
        )
        readings, waveforms, events = counted[0] if counted else (0, 0, 0)
        latest = self._number("SELECT max(id) FROM message") - LATENCY_MESSAGES
        ages = [row[0] for row in self._rows(_AGES + " WHERE m.id > ?", (latest,))]
        return Standing(
            values=readings + waveforms,
            rows=readings + waveforms + events,
            duplicated=self._duplicated,
            latency_ms=float(np.median(ages)) / 1e6 if ages else 0.0,
        )

    def delivered(self) -> int:
        """Return how many values the brain has stored so far."""
        return self.standing().values

    def _rows(self, query: str, parameters: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        if not self._store.exists():
            return []
        db = sqlite3.connect(f"{self._store.absolute().as_uri()}?mode=ro", uri=True)
        try:
            return db.execute(query, parameters).fetchall()
        except sqlite3.OperationalError:  # the brain is just making its tables
            return []
        finally:
            db.close()

    def _number(self, query: str) -> int:
        rows = self._rows(query)
        return int(rows[0][0] or 0) if rows else 0

    def stored(self) -> Counter[tuple[Any, ...]]:
        """Return every stored value as (device, tag, ts), with how often it is there."""
        rows = self._rows(
            "SELECT device, tag, ts FROM reading UNION ALL"
            " SELECT device, name, ts FROM waveform JOIN tag ON tag.key = waveform.tag"
        )
        return Counter(rows)

    def sealed(self) -> bool:
        """Tell whether every message that arrived was encrypted for the brain and authentic."""
        rows = self._rows("SELECT count(*), sum(sealed) FROM message")
        return bool(rows) and rows[0][0] > 0 and rows[0][0] == rows[0][1]

    def messages(self) -> int:
        """Return how many messages the brain has stored."""
        return self._number("SELECT count(*) FROM message")

    def latency_ms(self, derived: Collection[str] = ()) -> dict[str, float]:
        """Return the time from reading a value to its durable commit at the brain: median and 99th percentile.

        Derived tags do not count: their values wait on purpose for what may overtake them.
        """
        others = (
            " JOIN tag ON tag.key = r.tag WHERE tag.device || '.' || tag.name NOT IN (SELECT value FROM json_each(?))"
        )
        rows = self._rows(_AGES + others, (json.dumps(sorted(derived)),))
        if not rows:
            return {"p50": 0.0, "p99": 0.0}
        ages = np.array([row[0] for row in rows], np.int64) / 1e6
        return {"p50": round(float(np.percentile(ages, 50)), 1), "p99": round(float(np.percentile(ages, 99)), 1)}


async def logged(data_dir: Path) -> Counter[tuple[Any, ...]]:
    """Return every value in the agent's log as (device, tag, ts), with how often it is there."""
    found: Counter[tuple[Any, ...]] = Counter()
    async with open_log(data_dir / LOG_NAME, SystemClock()) as log:
        position = 0
        while records := await log.read(position):
            position = records[-1][0]
            for _, record in records:
                if isinstance(record, Batch):
                    for tag_id, ts in zip(record.tag.tolist(), record.ts.tolist(), strict=True):
                        tag = log.catalogue[tag_id]
                        found[tag.device, tag.name, ts] += 1
                elif isinstance(record, Waveform):
                    tag = log.catalogue[record.tag]
                    found[tag.device, tag.name, record.ts] += 1
    return found


async def summarise(
    account: Account, final: dict[str, Any], seconds: float, data_dir: Path, security: dict[str, bool]
) -> dict[str, Any]:
    """Return the demo's summary. `final` is the agent's last word on itself, said after it had drained."""
    in_log, in_store = await logged(data_dir), account.stored()
    analytics = final["analytics"]
    derived = set(analytics["derived_tags"])
    read_total = sum(count for (device, tag, _), count in in_log.items() if f"{device}.{tag}" not in derived)
    read = sum(device["values_read"] for device in final["devices"])
    filtered = sum(device["values_filtered"] for device in final["devices"])
    unlogged = max(read - filtered - read_total, 0)
    uplink = final["uplink"]
    return {
        "seconds": round(seconds, 2),
        "devices": [
            {key: device[key] for key in ("name", "protocol", "security", "values_read", "values_bad")}
            for device in final["devices"]
        ],
        "values_read": read,
        "values_filtered": filtered,
        "values_derived": in_log.total() - read_total,
        "values_delivered": sum(count for key, count in in_store.items() if f"{key[0]}.{key[1]}" not in derived),
        "values_lost": (in_log - in_store).total() + unlogged,
        "values_duplicated": (in_store - in_log).total(),
        "messages": account.messages(),
        "bytes_on_wire": uplink["wire_bytes_total"],
        "latency_ms": account.latency_ms(derived),
        "uplink": {
            "protocol": uplink["protocol"],
            "tls": uplink["tls"],
            "mutual": uplink["tls"] != "none" and security["stranger_refused"],
            "sealed": account.sealed(),
        },
        "cpu_us_per_value": round(final["cpu_s"] / read * 1e6, 1) if read else None,
        "rss_mb": {"core": round(final["rss_mb"]["core"], 1), "worker": round(analytics["rss_mb_max"], 1)},
        "derived_tags": len(derived),
        "events": final["events_total"],
    }
