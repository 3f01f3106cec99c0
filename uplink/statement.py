"""A line of the ledger as it is told: JSON, and beside it the gateway's signature, which anybody can check later.

It travels as an event of the kind `ledger`, so with the same guarantees as everything else. The signature is a
COSE_Sign1 (RFC 9052) with detached payload, the JSON text as it stands, and `v1/{gateway}/ledger` as external data.
"""

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cbor2
from cryptography import x509

from edge.core.batch import Event, Severity
from edge.core.language import say
from edge.core.ledger import HOUR_NS, Line
from uplink.seal import BadSeal, common_name, read_identity, sign1, verify_sign1

KIND = "ledger"
QUALITY_KIND = "quality"
_SIGN1 = 18


class Signer:
    """Signs with the gateway's certificate. Raises WrongInput for an identity that cannot be used."""

    def __init__(self, gateway: str, identity: Path) -> None:
        self._gateway = gateway
        self._chain, self._key = read_identity(identity)

    def sign(self, text: str, purpose: str = KIND) -> str:
        """Return the signature of a text, in Base64; `purpose` is the kind of the event that carries it."""
        whole = cbor2.loads(sign1(text.encode(), context(self._gateway, purpose), self._key, self._chain)).value
        detached = cbor2.dumps(cbor2.CBORTag(_SIGN1, [whole[0], whole[1], None, whole[3]]))
        return base64.b64encode(detached).decode()


def context(gateway: str, purpose: str = KIND) -> str:
    """Return the external data of a gateway's statements: one signed for another purpose is none."""
    return f"v1/{gateway}/{purpose}"


def statement(line: Line, gateway: str, now: int, signer: Signer | None) -> Event:
    """Return the event that tells a line; without a signature where the gateway has no certificate."""
    told = {"gateway": gateway, "told": now // 10**9, **line.as_json()}
    facts = {"line": json.dumps(told, ensure_ascii=False)}
    if signer is not None:
        facts["signature"] = signer.sign(facts["line"])
    began = datetime.fromtimestamp(line.hour * HOUR_NS // 10**9, UTC).isoformat(timespec="minutes")
    words = f"{line.device}, hour from {began}: {line.due} due, {line.read} read, {line.stored} stored"
    return Event(now, line.device, KIND, Severity.INFO, words, facts)


def quality_statement(device: str, day: Mapping[str, Any], gateway: str, now: int, signer: Signer | None) -> Event:
    """Return the event that tells what became of a device's readings on a day; as JSON, signed like a line."""
    told = {"gateway": gateway, "told": now // 10**9, "device": device, **day}
    facts = {"quality": json.dumps(told, ensure_ascii=False)}
    if signer is not None:
        facts["signature"] = signer.sign(facts["quality"], QUALITY_KIND)
    online = "" if day["online"] is None else f", online {100 * day['online']:.2f} %"
    words = f"{device}, {day['day']}: {len(day['tags'])} tags, {len(day['gaps'])} gaps{online}"
    return Event(now, device, QUALITY_KIND, Severity.INFO, words, facts)


def check(
    gateway: str,
    text: str,
    signature: str,
    authorities: Sequence[x509.Certificate],
    when: datetime | None = None,
    purpose: str = KIND,
) -> None:
    """Make sure that a gateway signed this text, with a certificate that was valid then; by default when it was told.

    Raises:
        BadSeal: it did not, or the text was changed.
    """
    try:
        protected, unprotected, _, made = cbor2.loads(base64.b64decode(signature, validate=True)).value
        whole = cbor2.dumps(cbor2.CBORTag(_SIGN1, [protected, unprotected, text.encode(), made]))
        told: Any = json.loads(text)["told"]
        then = when or datetime.fromtimestamp(told, UTC)
    except (binascii.Error, cbor2.CBORError, ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        raise BadSeal(say("not a signed message")) from error
    _, leaf = verify_sign1(whole, context(gateway, purpose), authorities, then)
    if common_name(leaf) != gateway:
        raise BadSeal(say("the certificate of {name} signs for {gateway}", name=common_name(leaf), gateway=gateway))
