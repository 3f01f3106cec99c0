"""The log encrypted at rest: what an attacker with the disk sees, and what its owner must not lose."""

import asyncio
import os
import random
import shutil
import signal
import sqlite3
import struct
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from buffer.log import open_log
from buffer.vault import Vault
from edge.core.batch import Batch, Lane
from edge.core.catalogue import ValueKind
from edge.core.clock import SystemClock
from edge.core.errors import CorruptSegment, LogError
from tests.buffer.support import event, everything, numbered, values

CLOCK = SystemClock()
SECRET = "correct horse battery staple"


async def write(path: Path, first: int, secret: str | None) -> None:
    async with open_log(path, CLOCK, secret=secret) as log:
        tag = log.catalogue.intern("secret-press", "hidden-force", ValueKind.INT64, "kN")
        await log.append([numbered(first, 100, tag.id), event(f"whispered-{first}")])


def bodies(path: Path) -> dict[int, bytes]:
    with sqlite3.connect(path) as db:
        found = dict(db.execute("SELECT position, data FROM body"))
    db.close()
    return found


def dump(path: Path) -> list[str]:
    """Everything in the database."""
    with sqlite3.connect(path) as db:
        found = list(db.iterdump())
    db.close()
    return found


async def test_nothing_that_was_read_or_names_it_is_on_the_disk_in_the_clear(tmp_path: Path) -> None:
    path = tmp_path / "log.sqlite3"
    async with open_log(path, CLOCK, secret=SECRET) as log:
        tag = log.catalogue.intern("secret-press", "hidden-force", ValueKind.TEXT, "kN")
        words = os.urandom(20).hex()
        await log.append([Batch.of(Lane.TEXT, [tag.id], 5, [words]), event("whispered")])
        for file in tmp_path.iterdir():
            data = file.read_bytes()
            for clear in (words, "secret-press", "hidden-force", "kN", "whispered", SECRET):
                assert clear.encode() not in data, file
    async with open_log(path, CLOCK, secret=SECRET) as log:
        assert log.catalogue[tag.id] == tag
        assert len(await everything(log)) == 2


async def test_turned_on_for_a_log_that_is_plain_old_segments_stay_and_names_are_sealed(tmp_path: Path) -> None:
    path = tmp_path / "log.sqlite3"
    await write(path, 0, None)
    assert b"secret-press" in path.read_bytes()
    await write(path, 100, SECRET)
    assert [body[:2] for body in bodies(path).values()] == [b"YS", b"YS", b"YE", b"YE"]
    assert b"secret-press" not in path.read_bytes(), "also not in what was freed"
    async with open_log(path, CLOCK, secret=SECRET) as log:
        assert values(await everything(log)) == list(range(200))
        assert log.catalogue[1].path == "secret-press.hidden-force"
        parcel = await log.outbox().next(1000)
        assert parcel is not None


@pytest.mark.parametrize(
    ("secret", "words"),
    [("another secret altogether", "is not the one"), (None, "names no secret"), ("short", "shorter than 16")],
)
async def test_a_wrong_or_missing_secret_is_an_error_and_changes_nothing(
    tmp_path: Path, secret: str | None, words: str
) -> None:
    path = tmp_path / "log.sqlite3"
    await write(path, 0, SECRET)
    before = dump(path)
    with pytest.raises(LogError, match=words):
        await write(path, 100, secret)
    assert dump(path) == before
    assert not list(tmp_path.glob("*damaged*"))
    async with open_log(path, CLOCK, secret=SECRET) as log:
        assert values(await everything(log)) == list(range(100))


OTHER = "a wholly different secret"


def wrapped_keys(path: Path) -> list[bytes]:
    with sqlite3.connect(path) as db:
        found = [row[0] for row in db.execute("SELECT wrapped FROM key ORDER BY id")]
    db.close()
    return found


async def reopened(path: Path, **secrets: str | None) -> None:
    """Open a log of two runs under these secrets, write a third, and read everything, also as the uplink does."""
    async with open_log(path, CLOCK, **secrets) as log:  # type: ignore[arg-type]
        tag = log.catalogue.intern("secret-press", "hidden-force", ValueKind.INT64, "kN")
        assert tag.id == 1
        await log.append([numbered(200, 100, tag.id)])
        assert values(await everything(log)) == list(range(300))
        delivered = []
        while (parcel := await log.outbox().next(1000)) is not None:
            delivered += values(parcel.records)
            assert not parcel.gaps
        assert sorted(delivered) == list(range(300))


async def test_the_secret_can_be_changed_and_the_old_one_opens_nothing_any_more(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "log.sqlite3"
    await write(path, 0, SECRET)
    await write(path, 100, SECRET)
    before, sealed = wrapped_keys(path), bodies(path)
    await reopened(path, secret=OTHER, secret_before=SECRET)
    assert [record.getMessage() for record in caplog.records] == [
        "the log's secret was changed; `encrypt_before` may go"
    ]
    assert all(bodies(path)[position] == body for position, body in sealed.items()), "no reading was touched"
    assert not any(key in file.read_bytes() for key in before for file in tmp_path.iterdir()), "overwritten"
    with pytest.raises(LogError, match="is not the one"):
        await write(path, 300, SECRET)
    now = wrapped_keys(path)
    async with open_log(path, CLOCK, secret=OTHER, secret_before=SECRET) as log:  # left in the settings: no harm
        assert len(await everything(log)) == 5
    assert wrapped_keys(path)[: len(now)] == now
    async with open_log(path, CLOCK, secret=OTHER) as log:
        assert values(await everything(log)) == list(range(300))
    assert len(caplog.records) == 1


async def test_encryption_can_be_ended_and_begun_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "log.sqlite3"
    await write(path, 0, SECRET)
    await write(path, 100, SECRET)
    await reopened(path, secret_before=SECRET)
    assert "no longer encrypted" in caplog.records[0].getMessage()
    assert [body[:2] for body in bodies(path).values()] == [b"YE"] * 4 + [b"YS"]
    async with open_log(path, CLOCK) as log:  # without any secret
        assert values(await everything(log)) == list(range(300))
        assert log.catalogue[1].path == "secret-press.hidden-force"
    plain = wrapped_keys(path)
    async with open_log(path, CLOCK, secret=OTHER) as log:
        assert values(await everything(log)) == list(range(300))
    assert not any(key in path.read_bytes() for key in plain)
    assert b"secret-press" not in path.read_bytes()
    with pytest.raises(LogError, match="names no secret"):
        await write(path, 300, None)


@pytest.mark.parametrize("secret", [OTHER, None])
async def test_a_change_of_secret_cut_off_by_a_crash_goes_through_at_the_next_start(
    tmp_path: Path, secret: str | None
) -> None:
    path = tmp_path / "log.sqlite3"
    await write(path, 0, SECRET)
    await write(path, 100, SECRET)
    began = b"".join(wrapped_keys(path))
    for statements in (3, 6, 7):  # the process dies before this statement: the first change, the commit, what follows
        folder = tmp_path / str(statements)
        folder.mkdir()
        program = [sys.executable, "-c", CRASH, str(path), str(folder), str(statements), secret or ""]
        died = await asyncio.create_subprocess_exec(*program)
        assert await died.wait() == -signal.SIGKILL
        changed = b"".join(wrapped_keys(folder / "log.sqlite3")) != began
        assert changed is (statements > 6), "all or nothing"
        await reopened(folder / "log.sqlite3", secret=secret, secret_before=SECRET)


CRASH = """
import asyncio, os, shutil, signal, sys
from pathlib import Path
import aiosqlite
from buffer import change_secret
from buffer.log import open_log
from edge.core.clock import SystemClock

async def main():
    source, folder, left, secret = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4] or None
    path = folder / source.name
    shutil.copy(source, path)
    real = change_secret.change_secret

    class Dying:
        def __init__(self, db):
            self.db, self.left = db, left
        def __getattr__(self, name):
            wanted = getattr(self.db, name)
            async def run(*arguments):
                if not arguments[0].startswith("SELECT"):
                    self.left -= 1
                    if not self.left:
                        os.kill(os.getpid(), signal.SIGKILL)
                return await wanted(*arguments)
            return run

    async def change(db, vault):
        await real(Dying(db), vault)
        os.kill(os.getpid(), signal.SIGKILL)

    import buffer.log
    buffer.log.change_secret = change
    async with open_log(path, SystemClock(), secret=secret, secret_before="correct horse battery staple"):
        pass

asyncio.run(main())
"""


async def test_with_two_wrong_secrets_nothing_is_changed(tmp_path: Path) -> None:
    path = tmp_path / "log.sqlite3"
    await write(path, 0, SECRET)
    before = dump(path)
    with pytest.raises(LogError, match="is not the one"):
        await reopened(path, secret=OTHER, secret_before="yet another wrong secret")
    with pytest.raises(LogError, match="is not the one"):
        await reopened(path, secret_before=OTHER)
    assert dump(path) == before


async def test_segments_cannot_be_exchanged_changed_or_cut(tmp_path: Path) -> None:
    path = tmp_path / "log.sqlite3"
    async with open_log(path, CLOCK, secret=SECRET) as log:
        for start in range(0, 50, 10):
            await log.append([numbered(start, 10)])
    with sqlite3.connect(path) as db:
        one, two, three, four = (
            db.execute("SELECT data FROM body WHERE position = ?", (each,)).fetchone()[0] for each in (1, 2, 3, 4)
        )
        changed = bytearray(three)
        changed[-20] ^= 1
        for position, body in ((1, two), (2, one), (3, bytes(changed)), (4, four[:-1])):
            db.execute("UPDATE body SET data = ? WHERE position = ?", (body, position))
    db.close()
    async with open_log(path, CLOCK, secret=SECRET) as log:
        assert values(await everything(log)) == list(range(40, 50))
        parcel = await log.outbox().next(1000)
        assert parcel is not None
        assert [(gap.rows, gap.reason) for gap in parcel.gaps] == [(10, "corrupt segment")] * 4


async def test_no_nonce_is_used_twice_also_by_a_restored_copy(tmp_path: Path) -> None:
    path, copy = tmp_path / "log.sqlite3", tmp_path / "copy" / "log.sqlite3"
    copy.parent.mkdir()
    await write(path, 0, SECRET)
    shutil.copy(path, copy)
    seen: set[tuple[bytes, bytes]] = set()
    for folder in (path, copy):  # the same positions and key ids are written in both lives of the log
        for start in (100, 200):
            await write(folder, start, SECRET)
        with sqlite3.connect(folder) as db:
            wrapped = dict(db.execute("SELECT id, wrapped FROM key"))
        db.close()
        for position, body in bodies(folder).items():
            if position > 2:
                key_id, counter = struct.unpack_from("<IQ", body, 4)
                assert (wrapped[key_id], counter.to_bytes(8, "big")) not in seen
                seen.add((wrapped[key_id], counter.to_bytes(8, "big")))
    assert len(seen) == 8


def test_a_body_opens_as_the_format_says() -> None:
    vault = Vault(SECRET)
    vault.new_key(3)
    key = vault._keys[3]
    assert isinstance(key, AESGCM)
    body = vault.write(17, numbered(0, 10))
    assert vault.write(17, numbered(0, 10)) != body, "a second sealing has a nonce of its own"
    head, counter = body[:16], struct.unpack_from("<Q", body, 8)[0]
    assert head[:4] == b"YE\x01\x00"
    assert key.decrypt(counter.to_bytes(12, "big"), body[16:], head + struct.pack("<q", 17))[:2] == b"YS"
    assert vault.read(17, body) == numbered(0, 10)
    with pytest.raises(CorruptSegment):
        vault.read(18, body)


async def test_keys_of_runs_of_which_nothing_is_left_are_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "log.sqlite3"
    for start in range(0, 500, 100):
        async with open_log(path, CLOCK, secret=SECRET, keep_s=0) as log:
            await log.append([numbered(start, 100)])
            outbox = log.outbox()
            if start < 400:
                while (parcel := await outbox.next(1000)) is not None:
                    await outbox.committed(parcel.epoch, parcel.seq)
            else:
                await log.prune()
    with sqlite3.connect(path) as db:
        assert db.execute("SELECT count(*) FROM key").fetchone()[0] <= 2
    db.close()
    async with open_log(path, CLOCK, secret=SECRET) as log:
        assert values(await everything(log)) == list(range(400, 500))


@pytest.mark.parametrize("table", ["tag", "key", "segment", "body"])
async def test_a_damaged_encrypted_log_is_salvaged_like_a_plain_one(tmp_path: Path, table: str) -> None:
    path = tmp_path / "log.sqlite3"
    for start in (0, 100):
        await write(path, start, SECRET)
    with sqlite3.connect(path) as db:
        (root,) = db.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)).fetchone()
    db.close()
    with path.open("r+b") as file:
        file.seek((root - 1) * 4096)
        file.write(random.Random(1).randbytes(4096))
    async with open_log(path, CLOCK, secret=SECRET, commit_interval_s=0.001) as log:
        tag = log.catalogue.intern("secret-press", "hidden-force", ValueKind.INT64, "kN")
        await log.append([numbered(200, 100, tag.id)])
        outbox = log.outbox()
        seen, told = set[int](), 0
        while (parcel := await outbox.next(1000)) is not None:
            seen |= set(values(parcel.records))
            told += sum(gap.rows for gap in parcel.gaps)
        assert set(range(200, 300)) <= seen
        # A key that is gone takes with it what it sealed: that, and only that, is told as lost.
        assert len(seen) == (100 if table == "key" else 300) or told
        assert len(seen) + told >= 300
        assert tag.id == 1
