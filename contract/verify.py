"""Opens messages of Yulink gateways and proves that none is missing, with stock libraries and nothing of the gateway.

    pip install protobuf cbor2 cryptography backports.zstd      # from Python 3.14 without the last
    protoc -I v1 --python_out . v1/batch.proto
    python verify.py v1/golden                                  # brain.key, ca.pem, index.json and the messages

Prints one JSON object a reading, line of the ledger or health message, then what is missing. Exit 1 when something
is, or is not authentic.
"""

import base64
import json
import math
import sys
from itertools import accumulate
from pathlib import Path

import batch_pb2 as pb
import cbor2
from backports import zstd
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

folder = Path(sys.argv[1])
private = serialization.load_pem_private_key((folder / "brain.key").read_bytes(), None)
authority = x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes())
keys: dict = {}  # kid → (gateway, content key)
tags: dict = {}  # (gateway, id) → (device, tag)
seen: dict = {}  # (gateway, epoch) → sequence numbers
parted: dict = {}  # (gateway, epoch) → those that come in parts
gone: dict = {}  # (gateway, epoch) → those that will not come, or came in parts


def signer(message: bytes, context: str, detached: bytes | None = None) -> tuple[str, bytes]:
    """Return who signed a COSE_Sign1, by the common name of a certificate of our authority, and the payload."""
    protected, _, payload, signature = cbor2.loads(message).value
    payload = payload if detached is None else detached
    certificate = x509.load_der_x509_certificate(cbor2.loads(protected)[33])
    certificate.verify_directly_issued_by(authority)
    pair = (int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big"))
    signed = cbor2.dumps(["Signature1", protected, context.encode(), payload])
    certificate.public_key().verify(utils.encode_dss_signature(*pair), signed, ec.ECDSA(hashes.SHA256()))
    return certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value, payload


def ledger(gateway: str, event: pb.Event) -> dict:
    """Return the line of the ledger in an event, having made sure that the gateway signed it and its sums close."""
    facts = json.loads(event.facts_json)
    name, _ = signer(base64.b64decode(facts["signature"]), f"v1/{gateway}/ledger", facts["line"].encode())
    line = json.loads(facts["line"])
    assert name == gateway == line["gateway"], "signed by somebody else"
    assert line["read"] == line["filtered"] + line["stored"], "the sums do not close"
    for way in line["uplinks"].values():
        assert way["committed"] + sum(way["dropped"].values()) + way["withheld"] <= line["stored"]
    return line


def learn(topic: str, message: bytes) -> None:
    """Take in an announcement: COSE_Sign1 by the gateway's certificate, the content key sealed to ours with HPKE."""
    name, payload = signer(message, topic)
    facts = json.loads(payload)
    assert (topic, name) == (f"v1/{facts['gateway']}/key", facts["gateway"]), "announced by somebody else"
    bound = [facts["gateway"], facts["kid"], facts["alg"], facts["salt"], facts.get("signing")]
    info = b"yulink v1 key " + json.dumps(bound, separators=(",", ":")).encode()
    sealed = next(base64.b64decode(each["sealed"]) for each in facts["recipients"] if each["kem"] == "X25519")
    suite = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
    keys[bytes.fromhex(facts["kid"])] = facts["gateway"], suite.decrypt(sealed, private, info)


def opened(topic: str, message: bytes) -> bytes:
    """Return what a COSE_Encrypt0 holds; what is not sealed as it is."""
    if message[0] == 0xD0:
        protected, unprotected, sealed = cbor2.loads(message).value
        gateway, key = keys[cbor2.loads(protected)[4]]
        assert topic.startswith(f"v1/{gateway}/"), "moved to another topic"
        aad = cbor2.dumps(["Encrypt0", protected, topic.encode()])
        message = AESGCM(key).decrypt(unprotected[5], sealed, aad)
    return message


def sums(line: list) -> list:
    """Undo differences; integers have 64 bits."""
    return [(number + 2**63) % 2**64 - 2**63 for number in accumulate(line)]


def numbers(gateway: str, ranges) -> list:
    """Return the numbers in ranges as ((gateway, epoch), seq)."""
    return [((gateway, each.epoch), seq) for each in ranges for seq in range(each.first, each.last + 1)]


def readings(batch: pb.Batch, table: pb.Table):
    """Yield (tag, ts, value, quality) of each reading of a table."""
    n, ids = table.rows, list(accumulate(table.tags))
    cut = lambda column, line: list(column[line * n : line * n + n])  # noqa: E731
    codes = [run.code for run in table.quality for _ in range(run.count)]
    used = {"integers": 0, "singles": 0, "doubles": 0}
    for line, (id, form) in enumerate(zip(ids, table.forms, strict=True)):
        own = line if len(table.times) > n else 0
        times = cut(table.times, own)
        if table.paces:
            times = [table.starts[own] + k * table.paces[own] + off for k, off in enumerate(times)]
        else:
            times = sums(times[:1] + sums(times[1:]))
        column = {32: "singles", 64: "doubles"}.get(form, "integers")
        values = cut(getattr(table, column), used[column])
        used[column] += 1
        device, tag = tags[batch.gateway, id]
        if column == "integers":
            values = sums(values)
            if form == 100:
                values = [batch.texts[place] for place in values]
            elif tag.kind == pb.FLOAT64:
                values = [value / 10**form for value in values]
            elif tag.kind == pb.UINT64:
                values = [value % 2**64 for value in values]
            elif tag.kind == pb.BOOL:
                values = [value == 1 for value in values]
        for ts, value, code in zip(times, values, cut(codes, line), strict=True):
            yield device, tag, ts * table.time_unit, value, code


for entry in json.loads((folder / "index.json").read_text()):
    topic, message = entry["topic"], (folder / entry["file"]).read_bytes()
    kind = topic.split("/")[3]
    if kind == "key":
        learn(topic, message)
    elif kind == "catalog":
        catalogue = pb.Catalogue.FromString(zstd.decompress(opened(topic, message)))
        tags |= {(catalogue.gateway, tag.id): (catalogue.device, tag) for tag in catalogue.tags}
    elif kind == "health":
        health = json.loads(opened(topic, message))
        assert topic == f"v1/{health['gateway']}/health", "moved to another topic"
        print(json.dumps({"health": health}, ensure_ascii=False))
    else:
        batch = pb.Batch.FromString(zstd.decompress(opened(topic, message)))
        assert topic.startswith(f"v1/{batch.gateway}/"), "moved to another topic"
        epoch = (batch.gateway, batch.epoch)
        if batch.seq in seen.setdefault(epoch, set()) | parted.get(epoch, set()):
            continue  # a resend, or a whole after its parts: store nothing of it, acknowledge again
        seen[epoch].add(batch.seq)
        wholes, lost = numbers(batch.gateway, batch.instead_of), numbers(batch.gateway, batch.gone)
        is_here = any(seq in seen.get(of, ()) for of, seq in wholes)
        for into, named in ((parted, wholes), (gone, wholes + lost)):
            for of, seq in named:
                into.setdefault(of, set()).add(seq)
        if is_here:
            continue  # a part of what came whole
        for event in batch.events:
            if event.kind == "ledger":
                print(json.dumps({"ledger": ledger(batch.gateway, event)}, ensure_ascii=False))
        for table in batch.tables:
            for device, tag, ts, value, code in readings(batch, table):
                value = None if isinstance(value, float) and not math.isfinite(value) else value
                reading = {"device": device, "tag": tag.name, "ts": ts, "value": value, "unit": tag.unit}
                print(json.dumps(reading | {"quality": code, "seq": batch.seq}, ensure_ascii=False))
missing = {}
for epoch in seen | gone:
    settled = seen.get(epoch, set()) | gone.get(epoch, set())
    missing[f"{epoch[0]} {epoch[1]}"] = sorted(set(range(1, max(settled) + 1)) - settled)
print(json.dumps({"missing": missing}))
sys.exit(any(missing.values()))
