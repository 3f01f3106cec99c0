"""Reads messages of Yulink gateways and proves that none is missing, with stock libraries and nothing of the gateway.

    pip install protobuf cbor2 cryptography backports.zstd      # from Python 3.14 without the last
    protoc -I v1 --python_out . v1/batch.proto
    python verify.py v1/golden                                  # brain.key, ca.pem, index.json and the messages

Prints one JSON object a reading, line of the ledger or health message, then what is missing. Exit 1 when something
is, or is not authentic.
"""

import json
import math
import sys
from pathlib import Path

import batch_pb2 as pb
from backports import zstd
from envelope import Opener
from ledger import ledger
from readings import readings

folder = Path(sys.argv[1])
opener = Opener((folder / "brain.key").read_bytes(), (folder / "ca.pem").read_bytes())
tags: dict = {}  # (gateway, id) → (device, tag)
here, parted, gone = set(), set(), set()  # (gateway, epoch, seq) that came; that come in parts; that will not come


def is_new(batch: pb.Batch) -> bool:
    """Return whether to store what a batch holds: not a resend, a whole after its parts, or a part of a whole."""
    number, wholes = (batch.gateway, batch.epoch, batch.seq), numbers(batch.gateway, batch.instead_of)
    if number in here | parted:
        return False
    here.add(number)
    parted.update(wholes)
    gone.update(numbers(batch.gateway, batch.gone))
    return not wholes & here


def numbers(gateway: str, ranges) -> set:
    return {(gateway, each.epoch, seq) for each in ranges for seq in range(each.first, each.last + 1)}


def missing() -> dict:
    """Return the numbers without a message, below the highest of each epoch."""
    settled: dict = {}
    for gateway, epoch, seq in here | parted | gone:
        settled.setdefault(f"{gateway} {epoch}", set()).add(seq)
    return {epoch: sorted(set(range(1, max(seqs))) - seqs) for epoch, seqs in sorted(settled.items())}


def contents(topic: str, plain: bytes):
    """Yield what a message tells that is new. It may speak of the gateway of its topic alone."""
    _, tenant, site, kind, *_ = topic.split("/")
    if kind == "health":
        message = json.loads(plain)
        assert message["gateway"] == f"{tenant}/{site}", "of another gateway"
        yield {"health": message}
        return
    message = (pb.Catalogue if kind == "catalog" else pb.Batch).FromString(zstd.decompress(plain))
    assert message.gateway == f"{tenant}/{site}", "of another gateway"
    if kind == "catalog":
        tags.update({(message.gateway, tag.id): (message.device, tag) for tag in message.tags})
    elif is_new(message):
        for event in message.events:
            if event.kind == "ledger":
                yield {"ledger": ledger(message.gateway, event, opener)}
        for device, tag, ts, value, quality, revision in readings(message, tags):
            value = None if isinstance(value, float) and not math.isfinite(value) else value
            reading = {"device": device, "tag": tag.name, "ts": ts, "value": value, "unit": tag.unit}
            yield reading | {"quality": quality, "revision": revision, "seq": message.seq}


for entry in json.loads((folder / "index.json").read_text()):
    topic, message = entry["topic"], (folder / entry["file"]).read_bytes()
    if topic.endswith("/key"):
        opener.learn(topic, message)
        continue
    for told in contents(topic, opener.open(topic, message)):
        print(json.dumps(told, ensure_ascii=False))
print(json.dumps({"missing": missing()}))
sys.exit(any(missing().values()))
