"""The contract as a stranger meets it: his tools read the documents, and two verifiers of nothing but stock libraries
read the golden messages and find what went in."""

import asyncio
import fcntl
import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cbor2
import numpy as np
import pytest
from cryptography import x509
from google.protobuf import json_format

from buffer.log import open_log
from edge.agent.clock_watch import ClockHealth
from edge.agent.health import Rate, facts
from edge.agent.supervise import DeviceHealth, DeviceState
from edge.core.batch import Event
from edge.core.clock import SystemClock
from tests.contract import golden
from tests.support import until
from uplink.catalogue import decode_catalogue
from uplink.encode import decode, encode
from uplink.health import Health
from uplink.keys import read_private
from uplink.receiver.message import Arrived, Progress, kind_of, verify_health
from uplink.receiver.store import SqliteStore
from uplink.seal import Opener
from uplink.statement import check

ROOT = Path(__file__).parents[2]
CONTRACT = ROOT / "contract"


@pytest.fixture(scope="module")
def node(program: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the contract with its npm packages, and this folder's checks in it."""
    program("node")
    folder = tmp_path_factory.mktemp("contract")
    (folder / "node_modules").symlink_to(node_modules(program("npm")))
    for file in (*CONTRACT.glob("*.*"), Path(__file__).parent / "check.mjs"):
        shutil.copy(file, folder)
    shutil.copytree(CONTRACT / "v1", folder / "v1")
    return folder


def node_modules(npm: str) -> Path:
    """Install what the lock file names, once for all test processes."""
    lock = (CONTRACT / "package-lock.json").read_bytes()
    cache = ROOT / ".cache" / "npm" / hashlib.sha256(lock).hexdigest()[:16]
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        if not (cache / "done").exists():
            for name in ("package.json", "package-lock.json"):
                shutil.copy(CONTRACT / name, cache)
            # Not `npm ci`: it insists on packages for other platforms, which some registries leave out.
            command = [npm, "install", "--no-audit", "--no-fund", "--loglevel=error"]
            subprocess.run(command, cwd=cache, check=True, timeout=300, capture_output=True)
            (cache / "done").touch()
    return cache / "node_modules"


def run(folder: Path, *command: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        list(map(str, command)), cwd=folder, capture_output=True, text=True, encoding="utf-8", timeout=60
    )


def expected() -> list[dict[str, Any]]:
    """What stands in `decoded.jsonl`."""
    return [json.loads(line) for line in (golden.FOLDER / "decoded.jsonl").read_text(encoding="utf-8").splitlines()]


def ledger_line() -> dict[str, Any]:
    (event,) = golden.parcels()["event-4"].records
    assert isinstance(event, Event)
    line: dict[str, Any] = json.loads(str(event.facts["line"]))
    return line


def check_lines(output: str) -> None:
    def in_order(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return sorted(lines, key=lambda line: (line.get("seq", 0), line.get("tag", ""), line.get("ts", 0)))

    assert in_order([json.loads(line) for line in output.splitlines()]) == in_order(expected())


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pb")
    protoc = [sys.executable, "-W", "ignore", "-m", "grpc_tools.protoc", f"-I{CONTRACT / 'v1'}"]
    subprocess.run([*protoc, f"--python_out={folder}", "batch.proto"], check=True)
    for file in CONTRACT.glob("*.py"):
        shutil.copy(file, folder)
    return folder


def test_the_python_verifier_reads_what_went_in_and_names_what_is_missing(generated: Path) -> None:
    done = run(generated, sys.executable, "-W", "ignore", "verify.py", golden.FOLDER)
    assert (done.returncode, done.stderr) == (1, "")
    check_lines(done.stdout)


def test_the_javascript_verifier_reads_what_went_in_and_names_what_is_missing(node: Path) -> None:
    done = run(node, "node", "verify.mjs", "v1/golden")
    assert (done.returncode, done.stderr) == (1, "")
    check_lines(done.stdout)


@pytest.mark.parametrize("file", ["key.bin", "catalogue.bin", "telemetry-1.bin", "event-4.bin", "health.bin"])
def test_both_verifiers_refuse_a_changed_message(generated: Path, node: Path, tmp_path: Path, file: str) -> None:
    shutil.copytree(golden.FOLDER, tmp_path / "golden")
    message = bytearray((tmp_path / "golden" / file).read_bytes())
    message[-20] ^= 1
    (tmp_path / "golden" / file).write_bytes(message)
    for done in verified(generated, node, tmp_path / "golden"):
        assert done.returncode == 1
        assert '"missing"' not in done.stdout
        assert done.stderr


def test_both_verifiers_refuse_what_a_sealing_gateway_has_not_sealed(
    generated: Path, node: Path, tmp_path: Path
) -> None:
    shutil.copytree(golden.FOLDER, tmp_path / "golden")
    shutil.copy(golden.FOLDER / "telemetry-1.unsealed.bin", tmp_path / "golden" / "telemetry-1.bin")
    for done in verified(generated, node, tmp_path / "golden"):
        assert done.returncode == 1
        assert '"missing"' not in done.stdout
        assert done.stderr


def verified(generated: Path, node: Path, messages: Path) -> list[subprocess.CompletedProcess[str]]:
    """What each verifier says of the messages in a folder."""
    python = run(generated, sys.executable, "-W", "ignore", "verify.py", messages)
    return [python, run(node, "node", "verify.mjs", messages)]


@pytest.mark.parametrize("key", ["brain.key", "brain-hybrid.key"])
async def test_our_own_end_opens_and_stores_the_golden_messages_with_either_key(tmp_path: Path, key: str) -> None:
    folder = golden.FOLDER
    opener, store = Opener([read_private(folder / key)], folder / "ca.pem"), SqliteStore(tmp_path / "brain.sqlite3")
    await store.open()
    known = golden.catalogue()
    acknowledged: dict[int, dict[str, Any]] = {}
    for entry in json.loads((folder / "index.json").read_text()):
        topic, message = entry["topic"], (folder / entry["file"]).read_bytes()
        if kind_of(topic) == "key":
            assert opener.learn(topic, message) == golden.GATEWAY
            continue
        opened = opener.open(topic, message)
        assert opened.plain == (folder / entry["file"].replace(".bin", ".unsealed.bin")).read_bytes()
        outcome = await store.commit([Arrived(topic, opened.plain, sealed=True, number=opened.number)], 1)
        acknowledged |= {told["epoch"]: told for _, told in outcome.acknowledgements}
        if kind_of(topic) == "catalog":
            catalogue = decode_catalogue(opened.plain)
            assert [(tag.id, tag.name, tag.unit) for tag in catalogue.tags] == [
                (tag.id, tag.name, tag.unit) for tag in known.since(0)
            ]
            assert (catalogue.tags[0].ucum, catalogue.tags[0].classification) == ("%", "process/internal")
            assert catalogue.tags[1].path == "workshop-2/line-1/cell-3"
        elif kind_of(topic) == "health":
            assert verify_health(topic, opened.plain).gateway == golden.GATEWAY
        else:
            parcel = decode(opened.plain)
            assert opened.number == (parcel.epoch, parcel.seq)
    assert list(acknowledged.values()) == [
        {"epoch": golden.EPOCH, "committed_through": 7, "missing": [[2, 2]]},
        {"epoch": golden.NEXT_EPOCH, "committed_through": 5, "missing": []},
    ]
    rows, waveforms = sum("tag" in each for each in expected()), 1
    assert (store.counters.quarantined, store.counters.rows) == (0, rows + waveforms)
    await store.close()


def test_the_json_beside_the_golden_messages_is_what_stands_in_them() -> None:
    assert expected() == golden.decoded(golden.parcels())
    names = {entry["file"].removesuffix(".bin") for entry in json.loads((golden.FOLDER / "index.json").read_text())}
    assert {file.stem for file in golden.FOLDER.glob("*.json")} == names - {"key", "health", "will"} | {"index"}
    for name in names - {"key", "health", "will"}:
        plain = (golden.FOLDER / f"{name}.unsealed.bin").read_bytes()
        message = decode_catalogue(plain) if name == "catalogue" else decode(plain)
        shown = (golden.FOLDER / f"{name}.json").read_text(encoding="utf-8")
        assert json_format.Parse(shown, type(message)()) == message


def test_the_golden_messages_are_what_this_version_would_send() -> None:
    known = golden.catalogue()
    authorities = x509.load_pem_x509_certificates((golden.FOLDER / "ca.pem").read_bytes())
    for name, parcel in golden.parcels().items():
        kept = decode((golden.FOLDER / f"{name}.unsealed.bin").read_bytes())
        for event in kept.events:  # no two signatures are alike
            facts = json.loads(event.facts_json)
            if signature := facts.pop("signature", ""):
                check(golden.GATEWAY, facts["line"], signature, authorities)
            event.facts_json = json.dumps(facts)
        assert kept == decode(encode(parcel, golden.GATEWAY, known.last_id))
    for name, plain in golden.health().items():
        assert (golden.FOLDER / f"{name}.unsealed.bin").read_bytes() == plain
    (wave,) = decode((golden.FOLDER / "telemetry-3.unsealed.bin").read_bytes()).waveforms
    assert np.frombuffer(wave.int16_samples, "<i2").tolist() == list(range(-8, 8))


def test_the_official_parser_reads_the_asyncapi_document_with_every_topic(node: Path, tmp_path: Path) -> None:
    done = run(node, "node", "check.mjs", "asyncapi.yaml")
    assert (done.returncode, done.stderr) == (0, "")
    assert {line.split("/")[3] for line in done.stdout.splitlines()} == {
        "key",
        "catalog",
        "data",
        "event",
        "gap",
        "health",
        "ack",
        "cmd",
    }
    (node / "wrong.yaml").write_text((CONTRACT / "asyncapi.yaml").read_text().replace("action: send", "action: shout"))
    assert run(node, "node", "check.mjs", "wrong.yaml").returncode == 1


def test_the_schemas_take_what_is_sent_and_refuse_what_is_not(node: Path, tmp_path: Path) -> None:
    progress = Progress()
    for seq in (1, 2, 5, 9):
        progress.add(seq)
    health, will = map(json.loads, golden.health().values())
    announcement = json.loads(cbor2.loads((golden.FOLDER / "key.bin").read_bytes()).value[2])
    for name, right, wrong in (
        ("acknowledgement", progress.acknowledgement(7), {"epoch": 7, "missing": [[1, 2]]}),
        ("announcement", announcement, announcement | {"alg": 1}),
        ("health", health, health | {"state": "well"}),
        ("health", will, will | {"connection": 0}),
        ("ledger", ledger_line(), ledger_line() | {"stored": -1}),
    ):
        schema = CONTRACT / "v1" / "schemas" / f"{name}.schema.json"
        for document, code in ((right, 0), (wrong, 1)):
            (tmp_path / "document.json").write_text(json.dumps(document))
            done = run(node, "node", "check.mjs", schema, tmp_path / "document.json")
            assert done.returncode == code, done.stderr


async def test_the_golden_health_message_has_all_that_an_agent_says(tmp_path: Path) -> None:
    clock, told = SystemClock(), list[bytes]()
    lost = DeviceHealth("plc-1", "modbus", "none", DeviceState.LOST, "no answer")
    async with open_log(tmp_path / "log.sqlite3", clock) as log:
        health = Health(
            *(golden.GATEWAY, log.outbox(), clock),
            lambda: facts([lost], Rate(clock), log.statistics(), ClockHealth()),
            lambda: {"name": "brain", "resends": 0, "refused": 0, "reconnects": 0, "last_error": ""},
        )
        will = json.loads(health.will())
        telling = asyncio.create_task(health.tell(told.append, lambda: False))
        await until(lambda: told)
        telling.cancel()
        await asyncio.wait([telling])
    kept_message, kept_will = map(json.loads, golden.health().values())
    assert shape(json.loads(told[0])) == shape(kept_message)
    assert shape(will) == shape(kept_will)


def shape(message: Any) -> Any:
    """The keys of a document, all the way down."""
    if isinstance(message, dict):
        return {key: shape(value) for key, value in message.items()}
    return list(map(shape, message)) if isinstance(message, list) else None


def test_nothing_that_was_released_is_broken(node: Path, tmp_path: Path) -> None:
    buf = node / "node_modules" / ".bin" / "buf"
    released, now = CONTRACT / "v1" / "released", tmp_path / "now"
    now.mkdir()
    shutil.copy(CONTRACT / "v1" / "batch.proto", now)
    assert run(node, buf, "breaking", now, "--against", released).returncode == 0
    text = (now / "batch.proto").read_text()
    (now / "batch.proto").write_text(text.replace("uint64 seq = 3;", "uint32 seq = 3;"))
    broken = run(node, buf, "breaking", now, "--against", released)
    assert broken.returncode != 0
    assert "seq" in broken.stdout
