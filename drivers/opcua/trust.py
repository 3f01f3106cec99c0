"""Whether a server is who it should be: its certificate, the trust list, and what the configuration says of both."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from drivers.api import DeviceContext
from drivers.opcua.certificate import (
    Fault,
    day,
    describe,
    faults_of,
    has_rsa_key,
    is_self_consistent,
    is_signed_by,
    split_chain,
)
from drivers.opcua.section import DEPRECATED, OpcUaSection
from edge.core.errors import Untrusted
from edge.core.language import say
from edge.core.trust import By, Certificate, Known, Sighting, TrustList, accept_command


class ServerTrust:
    """Judges the server of one device, and remembers what it has shown."""

    def __init__(self, section: OpcUaSection, context: DeviceContext) -> None:
        self._section = section
        self._context = context
        self._list = TrustList(context.data_dir) if context.data_dir is not None else None
        self._host = urlsplit(section.opcua).hostname or ""
        self.seen: Certificate | None = None
        self.doubt = ""
        """What an operator should know of a certificate that is trusted all the same."""

    def judge(self, der: bytes | None, uri: str) -> None:
        """Return when the certificate that a server shows is trusted and right. Reads and writes the trust list.

        `uri` is how the server calls itself.

        Raises:
            Untrusted: it is not; the message says why, the hint gives the command that would accept it.
        """
        try:
            chain = split_chain(der or b"")
        except ValueError as error:
            raise Untrusted(
                say("{url} shows no certificate that can be read: {error}", url=self._section.opcua, error=error),
                say("have the server's certificate made anew"),
            ) from error
        leaf = chain[0]
        if not has_rsa_key(leaf):
            raise Untrusted(
                say("the certificate of {url} has no RSA key", url=self._section.opcua),
                say("have the server's certificate made anew"),
            )
        if not is_self_consistent(leaf):
            raise Untrusted(
                say("the certificate of {url} is forged: its signature is wrong", url=self._section.opcua),
                say("find out who answers at this address"),
            )
        now = self._context.clock.now()
        certificate = describe(leaf)
        weak_allowed = self._section.security.partition("/")[0] in DEPRECATED
        faults = faults_of(leaf, self._host, uri, now, weak_allowed=weak_allowed)
        known = self._list.find(certificate.sha256) if self._list else None
        before = known.devices.get(self._context.device) if known else None
        self._judge(chain, certificate, faults, before, now)

    def _judge(
        self,
        chain: Sequence[x509.Certificate],
        certificate: Certificate,
        faults: list[Fault],
        before: Sighting | None,
        now: int,
    ) -> None:
        others = [k for k in self._trusted() if k.certificate.sha256 != certificate.sha256]
        by = self._trusted_by(chain, before, others, now)
        self.doubt = ""
        if any(fault.name == "not-yet-valid" for fault in faults) and self._clock_is_wrong(certificate, before):
            self.doubt = say(
                "our clock is wrong: it says {day}, and the server's certificate was valid at {seen} already",
                day=day(now),
                seen=day(before.valid_at if before else 0),
            )
            faults = [fault for fault in faults if fault.name != "not-yet-valid"]
        tolerated = {*self._section.tolerate, *(before.despite if before and by == "operator" else ())}
        left = [fault for fault in faults if fault.name not in tolerated]
        rejected = before is not None and before.state == "rejected"
        accepted = bool(by) and not rejected and not (left and by == "first-use" and before is None)
        problem = self._note(certificate, accepted, by, faults, before, others, now)
        self.seen = certificate
        if rejected:
            raise Untrusted(
                say("the certificate {thumbprint} of {url} was rejected",
                    thumbprint=certificate.thumbprint[:12], url=self._section.opcua),
                self._command(certificate, faults),
            )  # fmt: skip
        if not accepted:
            raise Untrusted(self._unknown(certificate, others), self._command(certificate, faults) + problem)
        if left:
            command = self._command(certificate, faults)
            raise Untrusted(left[0].message, say("{hint}; or, if you know why: {command}",
                                                 hint=left[0].hint, command=command))  # fmt: skip

    def _trusted(self) -> list[Known]:
        return self._list.trusted(self._context.device) if self._list else []

    def _trusted_by(
        self, chain: Sequence[x509.Certificate], before: Sighting | None, others: Sequence[Known], now: int
    ) -> By:
        """Return who vouches for the certificate, "" when nobody does."""
        if before is not None and before.state == "accepted" and before.by in ("operator", "first-use"):
            return before.by
        section = self._section
        wanted = section.trust.replace(":", "").lower()
        if wanted == hashlib.sha256(chain[0].public_bytes(Encoding.DER)).hexdigest():
            return "configuration"
        if section.ca is not None and self._is_signed(chain, section.ca, now):
            return "authority"
        if section.trust == "first-use" and not others and self._list is not None:
            return "first-use"
        return ""

    def _is_signed(self, chain: Sequence[x509.Certificate], secret: str, now: int) -> bool:
        try:
            return is_signed_by(chain, self._context.secret(secret), now)
        except ValueError as error:
            raise Untrusted(
                say("the secret {name!r} holds no certificate of an authority", name=secret), say("put it in as PEM")
            ) from error

    def _clock_is_wrong(self, certificate: Certificate, before: Sighting | None) -> bool:
        """Tell whether the certificate's time has surely begun: it was within its validity once before."""
        return before is not None and certificate.not_before <= before.valid_at <= certificate.not_after

    def _note(
        self,
        certificate: Certificate,
        accepted: bool,
        by: By,
        faults: Sequence[Fault],
        before: Sighting | None,
        others: Sequence[Known],
        now: int,
    ) -> str:
        """Remember what was shown. Returns what to add to a hint when that could not be kept."""
        if self._list is None:
            return ""
        if before is not None:
            sighting = replace(before, url=self._section.opcua, last_seen=now)
        else:
            replaced = others[0].certificate.thumbprint if others else ""
            sighting = Sighting(url=self._section.opcua, first_seen=now, last_seen=now, replaces=replaced)
        if accepted and sighting.state == "pending":
            sighting.state, sighting.by, sighting.decided = "accepted", by, now
        if not accepted and sighting.state == "accepted":
            sighting.state, sighting.by = "pending", ""  # what vouched for it stands in the configuration no more
        sighting.faults = [fault.name for fault in faults]
        if accepted and certificate.not_before <= now <= certificate.not_after:
            sighting.valid_at = now
        try:
            self._list.note(certificate, self._context.device, sighting)
        except OSError as error:
            return say("; it could not be put on the trust list: {error}", error=error)
        return ""

    def _unknown(self, certificate: Certificate, others: Sequence[Known]) -> str:
        thumbprint = " ".join(certificate.thumbprint[n : n + 4] for n in range(0, 40, 4)).upper()
        if others:
            trusted = others[0]
            return say(
                "{url} shows ANOTHER certificate than the one accepted on {day}: {subject}, thumbprint {thumbprint}; "
                "it was renewed, or somebody stands between",
                url=self._section.opcua,
                day=day(trusted.devices[self._context.device].decided),
                subject=certificate.subject,
                thumbprint=thumbprint,
            )
        return say(
            "the certificate of {url} is not trusted yet: {subject}, thumbprint {thumbprint}",
            url=self._section.opcua,
            subject=certificate.subject,
            thumbprint=thumbprint,
        )

    def _command(self, certificate: Certificate, faults: Sequence[Fault]) -> str:
        if self._list is None:
            return say("write `trust: {sha256}` if this is its thumbprint", sha256=certificate.sha256)
        return say(
            "compare the thumbprint at the server, then run: {command}",
            command=accept_command(certificate, self._list.data_dir.absolute(), [fault.name for fault in faults]),
        )
