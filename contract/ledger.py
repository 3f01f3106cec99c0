"""Does the gateway's account close? Checks what it tells, hour by hour and device by device, under its signature."""

import base64
import json

import batch_pb2 as pb
from envelope import Opener


def ledger(gateway: str, event: pb.Event, opener: Opener) -> dict:
    """Return the line of the ledger in an event of the kind `ledger`."""
    facts = json.loads(event.facts_json)
    name, _ = opener.signer(base64.b64decode(facts["signature"]), f"v1/{gateway}/ledger", facts["line"].encode())
    line = json.loads(facts["line"])
    assert name == gateway == line["gateway"], "signed by somebody else"
    assert line["read"] == line["filtered"] + line["stored"], "the sums do not close"
    for way in line["uplinks"].values():
        settled = way["withheld"] + way["committed"] + sum(way["dropped"].values())
        assert settled <= line["stored"], "the sums do not close"
    return line
