"""The certificates that devices have shown, and what was decided about each: one JSON file a certificate.

Trust is given for a certificate at a device: the same certificate at another device is asked for again, so that two
machines that changed their addresses are noticed. Agent and commands use the files at the same time, under a lock.
"""

import contextlib
import json
import os
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

from edge.core.errors import WrongInput
from edge.core.language import say
from edge.core.lock import hold_folder

FOLDER = "trust"
PENDING_MAX = 200
SEEN_AGAIN_S = 3600
PREFIX_MIN = 6

State = Literal["pending", "accepted", "rejected"]
By = Literal["", "operator", "first-use", "authority", "configuration"]


@dataclass(slots=True)
class Sighting:
    """How a certificate stands at one device. Times in ns since 1970 UTC, 0 for never.

    by        who or what accepted it; `who` is the operator's name
    valid_at  a moment at which it was within its validity: a clock that says less than its beginning is wrong
    faults    what is wrong with it; `despite` those that were accepted with it
    replaces  thumbprint of the certificate that the device had shown before and that was trusted
    told      the decision up to which the agent has told in its events
    """

    state: State = "pending"
    by: By = ""
    url: str = ""
    first_seen: int = 0
    last_seen: int = 0
    decided: int = 0
    valid_at: int = 0
    faults: list[str] = field(default_factory=list)
    despite: list[str] = field(default_factory=list)
    replaces: str = ""
    who: str = ""
    told: int = 0


@dataclass(slots=True)
class Certificate:
    """What people compare. `thumbprint` is SHA-1, as OPC UA names certificates; `sha256` is what is relied on."""

    thumbprint: str
    sha256: str
    subject: str
    issuer: str
    uri: str
    hosts: list[str]
    not_before: int
    not_after: int
    der: str
    """The certificate itself, in hexadecimal."""


@dataclass(slots=True)
class Known:
    """A certificate and the devices that have shown it."""

    certificate: Certificate
    devices: dict[str, Sighting] = field(default_factory=dict)


class TrustList:
    """The list in a data directory. Its files are read at each call: what another process decides counts at once."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self._folder = data_dir / FOLDER

    def all(self) -> list[Known]:
        """Return every certificate, the longest known first. A file that cannot be read is no decision."""
        known = [found for file in sorted(self._folder.glob("*.json")) if (found := _read(file)) is not None]
        return sorted(known, key=lambda each: min((s.first_seen for s in each.devices.values()), default=0))

    def find(self, sha256: str) -> Known | None:
        """Return a certificate by its SHA-256, None when it was never seen."""
        return _read(self._folder / f"{sha256}.json")

    def trusted(self, device: str) -> list[Known]:
        """Return what an operator, or first use, accepted for a device, the latest decision first."""
        found = [
            each
            for each in self.all()
            if (seen := each.devices.get(device)) and seen.state == "accepted" and seen.by in ("operator", "first-use")
        ]
        return sorted(found, key=lambda each: -each.devices[device].decided)

    def note(self, certificate: Certificate, device: str, sighting: Sighting) -> None:
        """Keep how a certificate stands at a device. Nothing is written when only the time of seeing it moved a little.

        Beyond 200 certificates that nobody decided about, the one not seen for longest is forgotten.

        Raises:
            OSError: the data directory cannot be written.
        """
        with self._locked():
            known = self.find(certificate.sha256) or Known(certificate)
            before = known.devices.get(device)
            if before is not None and before.state != sighting.state and before.decided > sighting.decided:
                return  # somebody has just decided
            if before is not None:
                sighting.told = before.told
                if _same(before, sighting):
                    return
            known.devices[device] = sighting
            self._write(known)
            self._forget()

    def decide(
        self, what: str, state: State, now: int, despite: Sequence[str] = (), who: str = ""
    ) -> list[tuple[Known, str]]:
        """Set the state of a certificate at its devices; return what was decided. `who` decides.

        `what` is the beginning of a thumbprint, or a device with one certificate that waits. Accepting needs
        each of the certificate's faults named in `despite`.

        Raises:
            WrongInput: nothing or several are meant, or a fault is not named.
        """
        with self._locked():
            known, devices = self._meant(what)
            for device in devices:
                sighting = known.devices[device]
                unnamed = [fault for fault in sighting.faults if fault not in despite]
                if state == "accepted" and unnamed:
                    raise WrongInput(
                        say(
                            "the certificate has faults: {faults}",
                            faults=", ".join(f"{fault} ({meaning(fault)})" for fault in unnamed),
                        ),
                        say(
                            "have it mended on the server; or, if you know why: {command}",
                            command=accept_command(known.certificate, self.data_dir, sighting.faults),
                        ),
                    )
                sighting.state, sighting.decided, sighting.who = state, now, who
                sighting.by = "operator" if state == "accepted" else ""
                sighting.despite = list(despite) if state == "accepted" else []
                begins, ends = known.certificate.not_before, known.certificate.not_after
                if state == "accepted" and begins <= now <= ends:
                    sighting.valid_at = now
            self._write(known)
            return [(known, device) for device in devices]

    def untold(self) -> list[tuple[Known, str]]:
        """Return the decisions that the agent has not told yet, each with its device."""
        return [
            (known, device)
            for known in self.all()
            for device, seen in known.devices.items()
            if seen.state != "pending" and seen.decided > seen.told
        ]

    def mark_told(self, known: Known, device: str) -> None:
        """Keep that a decision, as it was returned by `untold`, has been told."""
        with self._locked():
            current = self.find(known.certificate.sha256)
            if current is not None and device in current.devices:
                current.devices[device].told = known.devices[device].decided
                self._write(current)

    def remove(self, what: str) -> Known:
        """Forget a certificate; shown again, it waits again. Raises WrongInput."""
        with self._locked():
            known, devices = self._meant(what)
            for device in devices:
                del known.devices[device]
            if known.devices:
                self._write(known)
            else:
                (self._folder / f"{known.certificate.sha256}.json").unlink()
            return known

    def _meant(self, what: str) -> tuple[Known, list[str]]:
        every = self.all()
        prefix = what.replace(":", "").replace(" ", "").lower()
        found = [
            each
            for each in every
            if len(prefix) >= PREFIX_MIN
            and (each.certificate.thumbprint.startswith(prefix) or each.certificate.sha256.startswith(prefix))
        ]
        devices: list[str] = list(found[0].devices) if len(found) == 1 else []
        if not found:
            of_device = [each for each in every if what in each.devices]
            found = [each for each in of_device if each.devices[what].state == "pending"] or of_device
            devices = [what]
        if len(found) == 1:
            return found[0], devices
        if not found:
            raise WrongInput(
                say("no certificate and no device is called {what!r}", what=what),
                say("run `yulink trust list --data-dir {folder}`", folder=self.data_dir),
            )
        raise WrongInput(
            say("{what!r} means {count} certificates", what=what, count=len(found)),
            say("name one: {names}", names=", ".join(each.certificate.thumbprint[:12] for each in found)),
        )

    def _write(self, known: Known) -> None:
        file = self._folder / f"{known.certificate.sha256}.json"
        fresh = file.with_suffix(".new")
        with fresh.open("w", encoding="utf-8") as out:
            json.dump(asdict(known), out, ensure_ascii=False, indent=1)
            out.flush()
            os.fsync(out.fileno())
        fresh.replace(file)

    def _forget(self) -> None:
        waiting = [each for each in self.all() if all(s.state == "pending" for s in each.devices.values())]
        waiting.sort(key=lambda each: max(s.last_seen for s in each.devices.values()))
        for each in waiting[: max(0, len(waiting) - PENDING_MAX)]:
            (self._folder / f"{each.certificate.sha256}.json").unlink()

    def _locked(self) -> AbstractContextManager[None]:
        return hold_folder(self._folder, self.data_dir)


def accept_command(certificate: Certificate, data_dir: Path, faults: Sequence[str] = ()) -> str:
    """Return the command that accepts a certificate, faults and all."""
    despite = f" --despite {','.join(faults)}" if faults else ""
    return f"yulink trust accept {certificate.thumbprint[:12]}{despite} --data-dir {data_dir}"


FAULTS = ("expired", "not-yet-valid", "host", "uri", "usage", "weak")
"""What can be wrong with a certificate that is otherwise the right one."""


def meaning(fault: str) -> str:
    """Return what a fault of `FAULTS` means."""
    return {
        "expired": lambda: say("its time is over"),
        "not-yet-valid": lambda: say("its time has not begun"),
        "host": lambda: say("it is for another address"),
        "uri": lambda: say("it is for another application"),
        "usage": lambda: say("it is not for servers"),
        "weak": lambda: say("its key or signature is too weak"),
    }[fault]()


def _read(file: Path) -> Known | None:
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        raw = json.loads(file.read_text("utf-8"))
        return Known(
            Certificate(**raw["certificate"]), {name: Sighting(**each) for name, each in raw["devices"].items()}
        )
    return None


def _same(one: Sighting, other: Sighting) -> bool:
    """Tell whether two sightings differ by nothing that is worth a write: a time within the hour."""
    if abs(one.last_seen - other.last_seen) > SEEN_AGAIN_S * 10**9 or bool(one.valid_at) != bool(other.valid_at):
        return False
    return replace(one, last_seen=0, valid_at=0) == replace(other, last_seen=0, valid_at=0)
