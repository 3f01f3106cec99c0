"""Makes the golden messages of the contract: `python -m tests.contract.golden`. Their keys are for testing only.

Sealing draws random keys, so the files are made once and kept; the tests open them with every verifier and compare what
stands in them with what goes in here. `decoded.jsonl` is written from what goes in, not from what a decoder finds.
"""

import json
import math
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.json_format import MessageToJson

from edge.core.batch import Batch, Event, Lane, Severity, Waveform
from edge.core.catalogue import Catalogue, ValueKind
from edge.core.clock import iso8601
from edge.core.delivery import Gap, Identity, Parcel, Priority
from edge.core.ledger import Line, Way
from simulators.pki import make_pki
from uplink.catalogue import Equipment, decode_catalogue, encode_catalogue
from uplink.encode import decode, encode
from uplink.health import CONTRACT
from uplink.keys import CLASSICAL, HYBRID, make_key, write_key
from uplink.seal import Sealer
from uplink.statement import Signer, statement

FOLDER = Path(__file__).parents[2] / "contract" / "v1" / "golden"
GATEWAY, DEVICE = "chongqing/plant-1", "plc-1"
EPOCH, NEXT_EPOCH = 4_503_599_627_370_497, 4_503_599_627_370_498
NOT_COUNTED = ("late-5", "part-of-3")
"""Golden messages whose rows stand in other ones that the brain has."""
START = 1_767_225_600_000_000_000
TOLD = 1_800_000_000 * 10**9  # while the certificate is valid
TOPICS = {Priority.EVENT: "event", Priority.LIVE: "data/telemetry", Priority.BACKLOG: "data/backlog"}
KINDS = {
    "level": (ValueKind.FLOAT64, "%"),
    "flow": (ValueKind.FLOAT64, "m3/h"),
    "ratio": (ValueKind.FLOAT64, ""),
    "count": (ValueKind.INT64, "pcs"),
    "total": (ValueKind.UINT64, "pcs"),
    "running": (ValueKind.BOOL, ""),
    "recipe": (ValueKind.TEXT, ""),
    "waveform": (ValueKind.WAVEFORM, "g"),
}
BAD_NO_COMMUNICATION = 0x80310000


def catalogue() -> Catalogue:
    known = Catalogue()
    for name, (kind, unit) in KINDS.items():
        known.intern(DEVICE, name, kind, unit)
    return known


def parcels(signer: Signer | None = None) -> dict[str, Parcel]:
    """A steady poll, changes at odd times, what is no reading, and a line of the ledger; number 2 is missing."""
    known = catalogue()
    ids = {tag.name: tag.id for tag in known.since(0)}
    second = 10**9
    times = [START + n * second for n in range(5)]

    def rows(lane: Lane, name: str, ts: list[int], values: list[Any], quality: list[int] | int = 0) -> Batch:
        return Batch.of(lane, [ids[name]] * len(ts), ts, values, quality)

    poll = (
        rows(Lane.FLOAT, "level", times, [41.5, 41.52, 41.5, -0.25, 100.0]),
        rows(Lane.FLOAT, "flow", times, np.array([12.1, 12.2, 12.3, 12.4, 12.5], np.float32).astype(float).tolist()),
        rows(Lane.FLOAT, "ratio", times, [1 / 3, 2 / 3, 1e300, 5e-324, -0.0]),
        rows(Lane.INT, "count", times, [0, 1, 1, 2, -(2**63)]),
        rows(Lane.INT, "total", times, [2**63 - 1, -(2**63), -1, 0, 1]),
        rows(Lane.INT, "running", times, [1, 1, 0, 0, 1]),
        rows(Lane.TEXT, "recipe", times, ["RUN", "RUN", "法兰-7", "", "RUN"]),
    )
    jitter = [START + n * second + off for n, off in enumerate((3_000_000, 0, 91_000_000, 40_000_000))]
    odd = (
        rows(Lane.FLOAT, "level", jitter, [1.5, 2.5, float("nan"), 3.5], [0, 0, BAD_NO_COMMUNICATION, 0x40000000]),
        rows(Lane.INT, "count", [START + 7], [9]),
        Batch.of(Lane.FLOAT, [ids["flow"]] * 3, [START + 9, START + 10, START + 11], [0.25, 0.75, 0.5], 0, [0, 2, 1]),
        Waveform(ids["waveform"], START, 6400.0, 8.0, np.arange(-8, 8, dtype=np.int16)),
        Event(START, DEVICE, "device_lost", Severity.MEDIUM, "plc-1 is lost: no answer", {"hint": "check the cable"}),
    )
    line = Line(490_896, DEVICE, 3, 36_000, 35_990, 10, 5_990, 30_000, 3_600_000, 3_599_000,
                {"brain": Way(30_000, 29_990, 40, 0, {"log full": 10})})  # fmt: skip
    told = statement(line, GATEWAY, TOLD, signer)
    return {
        "event-4": Parcel(EPOCH, 4, (told,), priority=Priority.EVENT, uplink="brain"),
        "telemetry-1": Parcel(EPOCH, 1, poll),
        "telemetry-3": Parcel(EPOCH, 3, odd, (Gap(10, START, START + 9, "log full"),), historical=True),
        **in_parts(rows(Lane.INT, "count", times[:4], [100, 101, 102, 103])),
    }


def in_parts(whole: Batch) -> dict[str, Parcel]:
    """Return a message that comes late, after the two parts it was cut into, and what else tells of other messages.

    In the order of sending. A part of number 3 comes though that is here; numbers 6 and 7 are gone, and a number of the
    next epoch. The brain stores none of `NOT_COUNTED`.
    """

    def part(seq: int, rows: slice, instead_of: int) -> Parcel:
        records, backlog = (whole.take(rows),), Priority.BACKLOG
        return Parcel(NEXT_EPOCH, seq, records, (), True, backlog, instead_of=((EPOCH, instead_of),))

    gap = Gap(0, START, START + 9, "no longer in the log")
    return {
        "part-1-of-5": part(1, slice(0, 2), 5),
        "part-2-of-5": part(2, slice(2, 4), 5),
        "late-5": Parcel(EPOCH, 5, (whole,)),
        "part-of-3": part(3, slice(0, 1), 3),
        "gone": Parcel(NEXT_EPOCH, 4, (), (gap,), priority=Priority.EVENT, gone=((EPOCH, 6, 7), (NEXT_EPOCH, 5, 5))),
    }


def health() -> dict[str, bytes]:
    """A gateway with a lost device and a backlog, and the will of the same connection."""
    facts = {
        "values_s": 812.5,
        "devices": {"connecting": 0, "connected": 3, "lost": 1},
        "failing": [{"device": DEVICE, "state": "lost", "since": iso8601(START), "reason": "no answer · 无应答"}],
        "log": {
            "disk_bytes": 1_200_000_000,
            "disk_bytes_max": 4_000_000_000,
            "disk_free_bytes": 9_000_000_000,
            "outage_h": 71.5,
            "rows_dropped": 0,
            "rows_thinned": 0,
            "segments_corrupt": 0,
            "damaged": 0,
            "writable": True,
            "last_error": "",
        },
        "clock": {"synchronised": True, "steps": 1, "last_step_s": -7200.0},
    }
    uplink = {"name": "brain", "resends": 2, "refused": 0, "reconnects": 1, "last_error": ""}
    waiting = {"rows": 1000, "bytes": 4000, "oldest": iso8601(START), "quarantined": 0}
    identity = {
        "gateway": GATEWAY,
        "started": iso8601(START),
        "connection": 2,
        "version": "0.1.0",
        "contract": CONTRACT,
    }
    told = {"number": 1, "at": iso8601(START + 1000), "since": iso8601(START + 1000), **facts}
    online = {**identity, "state": "online", **told, "uplink": uplink | waiting}
    will = {**identity, "state": "offline"}
    return {name: json.dumps(each, ensure_ascii=False).encode() for name, each in (("health", online), ("will", will))}


def decoded(sent: dict[str, Parcel]) -> list[dict[str, Any]]:
    """Return what a consumer has who has read all messages: readings, line of the ledger, health, what is missing."""
    known, found = catalogue(), list[dict[str, Any]]()
    for name, parcel in sent.items():
        for record in parcel.records if name not in NOT_COUNTED else ():
            if isinstance(record, Event) and record.kind == "ledger":
                found.append({"ledger": json.loads(str(record.facts["line"]))})
            if not isinstance(record, Batch):
                continue
            columns = record.tag, record.ts, record.value, record.quality, record.revisions()
            for tag_id, ts, value, quality, revision in zip(*(column.tolist() for column in columns), strict=True):
                tag = known[tag_id]
                shown = tag.present(value)
                empty = isinstance(shown, float) and not math.isfinite(shown)
                reading = {"device": DEVICE, "tag": tag.name, "ts": ts, "value": None if empty else shown}
                worth = {"quality": quality, "revision": revision, "seq": parcel.seq}
                found.append(reading | {"unit": tag.unit} | worth)
    found += ({"health": json.loads(each)} for each in health().values())
    missing = {EPOCH: [2], NEXT_EPOCH: []}
    return [*found, {"missing": {f"{GATEWAY} {epoch}": numbers for epoch, numbers in missing.items()}}]


def make(folder: Path) -> None:
    """Write keys, messages and their index."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as name:
        pki = make_pki(Path(name), days=36_500)
        shutil.copy(pki.ca, folder / "ca.pem")
        classical, hybrid = make_key(CLASSICAL), make_key(HYBRID)
        write_key(classical, folder / "brain.key", folder / "brain.pub")
        write_key(hybrid, folder / "brain-hybrid.key", folder / "brain-hybrid.pub")
        identity = pki.issue("gateway", common_name=GATEWAY, days=36_500)
        signer = Signer(GATEWAY, identity)
        sealer = Sealer(GATEWAY, [classical.public, hybrid.public], identity)
    known = catalogue()
    index = []

    def keep(name: str, topic: str, plain: bytes | None, number: Identity | None = None) -> None:
        payload = sealer.announcement(topic) if plain is None else sealer.seal(topic, plain, number)
        (folder / f"{name}.bin").write_bytes(payload)
        index.append({"topic": topic, "file": f"{name}.bin"})
        if plain is None:
            return
        (folder / f"{name}.unsealed.bin").write_bytes(plain)
        if not topic.endswith("/health"):  # which is JSON as it stands
            message = (decode_catalogue if "/catalog/" in topic else decode)(plain)
            shown = MessageToJson(message, preserving_proto_field_name=True, ensure_ascii=False)
            (folder / f"{name}.json").write_text(shown + "\n", encoding="utf-8")

    keep("key", f"v1/{GATEWAY}/key", None)
    equipment = Equipment("modbus", "workshop-2/line-1/cell-3", {"level": "process/internal"})
    told = encode_catalogue(GATEWAY, DEVICE, known.since(0), equipment, known.last_id)
    keep("catalogue", f"v1/{GATEWAY}/catalog/{DEVICE}", told)
    sent = parcels(signer)
    for name, parcel in [*sent.items(), ("telemetry-1-again", sent["telemetry-1"])]:
        topic = TOPICS[parcel.priority] if parcel.records else "gap"
        number = (parcel.epoch, parcel.seq)
        keep(name, f"v1/{GATEWAY}/{topic}", encode(parcel, GATEWAY, known.last_id), number)
    for name, plain in health().items():
        keep(name, f"v1/{GATEWAY}/health", plain)
    (folder / "index.json").write_text(json.dumps(index, indent=2) + "\n")
    lines = "".join(json.dumps(each, ensure_ascii=False) + "\n" for each in decoded(sent))
    (folder / "decoded.jsonl").write_text(lines, encoding="utf-8")


if __name__ == "__main__":
    make(FOLDER)
