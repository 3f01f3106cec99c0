"""`yulink trust`: which servers' certificates are trusted. Works on the files of the data directory alone."""

import getpass
import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from edge.agent.configuration.loader import driver_specs
from edge.core.errors import WrongInput, YulinkError
from edge.core.language import say
from edge.core.trust import FAULTS, Certificate, Known, Sighting, State, TrustList, accept_command, meaning


def show(data_dir: Path, *, json_output: bool) -> int:
    """Print our certificates and every one that a server has shown, those that wait first."""
    known = TrustList(data_dir).all()
    own = [each for spec in driver_specs().values() if spec.own is not None for each in spec.own(data_dir)]
    if json_output:
        ours = [asdict(certificate) | {"file": str(file)} for certificate, file in own]
        print(json.dumps({"own": ours, "servers": [asdict(each) for each in known]}, ensure_ascii=False, indent=2))
        return 0
    lines = [line for certificate, file in own for line in _own(certificate, file)]
    shown = [(each, device, seen) for each in known for device, seen in each.devices.items()]
    shown.sort(key=lambda entry: ("pending", "rejected", "accepted").index(entry[2].state))
    lines += [line for each, device, seen in shown for line in _server(each, device, seen, data_dir)]
    print("\n".join(lines) if lines else say("no certificate has been seen in {folder}", folder=data_dir))
    return 0


def decide(action: str, what: str, despite: str, data_dir: Path) -> int:
    """Accept, reject or remove a certificate and say what follows."""
    faults = [fault.strip() for fault in despite.split(",") if fault.strip()]
    if unknown := [fault for fault in faults if fault not in FAULTS]:
        hint = say("known: {names}", names=", ".join(FAULTS))
        raise WrongInput(say("{fault!r} is not a fault", fault=unknown[0]), hint)
    trust = TrustList(data_dir)
    if not data_dir.is_dir():
        raise WrongInput(say("there is no folder {folder}", folder=data_dir), say("name the agent's --data-dir"))
    try:
        if action == "remove":
            known = trust.remove(what)
            print(say("forgotten: {subject}", subject=known.certificate.subject))
            return 0
        state: State = "accepted" if action == "accept" else "rejected"
        for known, device in trust.decide(what, state, time.time_ns(), faults, _who()):
            print(_decided(state, known, device))
    except OSError as error:
        raise YulinkError(
            say("the trust list cannot be written: {error}", error=error),
            say("run this as the agent's user, or as root"),
        ) from error
    return 0


def _who() -> str:
    """Return who sits there, also behind sudo."""
    try:
        return os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):
        return str(os.geteuid())


def _decided(state: State, known: Known, device: str) -> str:
    facts: dict[str, Any] = {
        "device": device,
        "subject": known.certificate.subject,
        "thumbprint": known.certificate.thumbprint[:12],
    }
    if state == "accepted":
        return say("{device}: {subject} ({thumbprint}) is trusted; a running agent connects within seconds", **facts)
    return say("{device}: {subject} ({thumbprint}) is refused from the next connection on", **facts)


def _own(certificate: Certificate, file: Path) -> Iterator[str]:
    yield say("our certificate: {subject}", subject=certificate.subject)
    yield from _facts(certificate)
    yield say("  for servers:  {file}", file=file.absolute())


def _server(known: Known, device: str, seen: Sighting, data_dir: Path) -> Iterator[str]:
    certificate = known.certificate
    state = {"pending": say("waits"), "accepted": say("trusted"), "rejected": say("rejected")}[seen.state]
    yield f"{device}: {state}: {certificate.subject}"
    yield say("  address:      {url}", url=seen.url)
    yield from _facts(certificate)
    yield say("  host names:   {hosts}", hosts=", ".join(certificate.hosts) or "–")
    if seen.replaces:
        yield say("  ATTENTION:    the device had shown {thumbprint} before", thumbprint=seen.replaces[:12])
    for fault in seen.faults:
        known_fault = say(" (accepted)") if fault in seen.despite else ""
        yield say("  fault:        {fault}: {meaning}{known}", fault=fault, meaning=meaning(fault), known=known_fault)
    if seen.state == "accepted":
        yield say("  accepted:     {day} by {by}", day=_moment(seen.decided), by=f"{seen.by} {seen.who}".strip())
    if seen.state == "pending":
        command = accept_command(certificate, data_dir, seen.faults)
        yield say("  accept with:  {command}", command=command)


def _facts(certificate: Certificate) -> Iterator[str]:
    thumbprint = " ".join(certificate.thumbprint[n : n + 4] for n in range(0, 40, 4)).upper()
    yield say("  thumbprint:   {thumbprint} (SHA-1)", thumbprint=thumbprint)
    yield f"                {certificate.sha256} (SHA-256)"
    yield say("  application:  {uri}", uri=certificate.uri or "–")
    left = (certificate.not_after - time.time_ns()) // (86_400 * 10**9)
    yield say(
        "  valid:        {begin} to {end}, {days} days left",
        begin=_moment(certificate.not_before),
        end=_moment(certificate.not_after),
        days=left,
    )


def _moment(ns: int) -> str:
    return f"{datetime.fromtimestamp(ns / 1e9, UTC):%Y-%m-%d}"
