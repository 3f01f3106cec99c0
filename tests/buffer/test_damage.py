"""What becomes of a log whose file is damaged, cut, removed, or met by a power cut. Outcomes: `buffer/FORMAT.md`."""

import asyncio
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from buffer import pages
from buffer.log import Log, open_log
from edge.core.batch import Batch, Event, Lane
from edge.core.catalogue import ValueKind
from edge.core.clock import SystemClock
from edge.core.delivery import Gap
from tests.buffer.support import event, everything, numbered, values

CLOCK = SystemClock()
TABLES = ["tag", "segment", "body", "consumer", "backlog", "parcel", "gap", "epoch", "selection", "sqlite_master"]
ROWS = 4000


async def fill(log: Log) -> None:
    """Ten segments a call that made it to the brain, a backlog, live data, events, and texts of several pages each."""
    tag = log.catalogue.intern("plc", "count", ValueKind.INT64)
    outbox = log.outbox()
    for start in range(0, ROWS, 10):
        await log.append([numbered(start, 10, tag.id)])
        if start == 1000:
            await log.append([event("first")])
            while (parcel := await outbox.next(100)) is not None:
                await outbox.committed(parcel.epoch, parcel.seq)
        if start == 1500:
            for _ in range(3):  # on their way, unanswered
                assert await outbox.next(100) is not None
    await log.append([event("last"), Batch.of(Lane.TEXT, [tag.id] * 50, 5, [os.urandom(200).hex() for _ in range(50)])])


async def rest(log: Log) -> tuple[Counter[int], list[Gap], list[str]]:
    """What is still delivered: each value with how often, the gaps, and the events."""
    found: Counter[int] = Counter()
    gaps: list[Gap] = []
    events: list[str] = []
    outbox = log.outbox()
    while (parcel := await outbox.next(1000)) is not None:
        found.update(values(record for record in parcel.records if isinstance(record, Batch) and record.lane == 1))
        events += [record.message for record in parcel.records if isinstance(record, Event)]
        gaps += parcel.gaps
        await outbox.committed(parcel.epoch, parcel.seq)
    return found, gaps, events


def pages_of(path: Path, table: str) -> list[int]:
    """The pages that belong to a table or its indexes, first the root."""
    with sqlite3.connect(path) as db:
        if table == "sqlite_master":
            return [1]
        names = [row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE tbl_name = ?", (table,))]
        (root,) = db.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)).fetchone()
        marks = ",".join("?" * len(names))
        try:
            found = [row[0] for row in db.execute(f"SELECT DISTINCT pageno FROM dbstat WHERE name IN ({marks})", names)]
        except sqlite3.OperationalError:  # built without dbstat
            found = []
    db.close()
    return [root, *sorted(set(found) - {root})]


def spoil(path: Path, page: int, chance: random.Random) -> None:
    """Write random bytes over a whole page."""
    with path.open("r+b") as file:
        file.seek((page - 1) * pages.PAGE_BYTES)
        file.write(chance.randbytes(pages.PAGE_BYTES))


async def filled(path: Path) -> None:
    async with open_log(path, CLOCK, commit_interval_s=0.0001) as log:
        await fill(log)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log as `fill` leaves it."""
    path = tmp_path_factory.mktemp("original") / "log.sqlite3"
    asyncio.run(filled(path))
    return path


def asides(folder: Path) -> list[Path]:
    return sorted(each for each in folder.glob("log.sqlite3.damaged-*") if not each.name.endswith(("-wal", "-shm")))


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("which", ["root", "any"])
async def test_random_bytes_in_a_page_of_any_table_lose_no_more_than_is_told(
    original: Path, tmp_path: Path, table: str, which: str
) -> None:
    path = tmp_path / "log.sqlite3"
    shutil.copy(original, path)
    seed = random.randrange(2**32)
    print("seed", seed)
    chance = random.Random(seed)
    found = pages_of(path, table)
    spoil(path, found[0] if which == "root" else chance.choice(found), chance)
    damaged = path.read_bytes()
    async with open_log(path, CLOCK, commit_interval_s=0.0001) as log:
        await log.append([numbered(ROWS, 10), event("after")])
        seen, gaps, events = await rest(log)
        statistics = log.statistics()
        # It goes on: what came after is there, and of what the brain did not have, all but what the gaps tell.
        assert set(range(ROWS, ROWS + 10)) <= set(seen)
        assert events[-1] == "after"
        lost = set(range(1010, ROWS)) - set(seen)
        told = sum(gap.rows for gap in gaps)
        assert len(lost) <= told or any(gap.rows == 0 for gap in gaps)
        assert {gap.reason for gap in gaps} <= {"log damaged", "corrupt segment"}
        # Twice only where the record of what was delivered is itself gone.
        twice = [value for value, count in seen.items() if count > 1 or value <= 1000]
        assert not twice or table in ("parcel", "consumer", "backlog", "sqlite_master")
        tag = log.catalogue.find("plc", "count")
        assert table == "sqlite_master" or (tag is not None and tag.id == 1), "names have a copy on other pages"
        assert len(lost) < ROWS // 2
    if statistics.damaged_total:
        (aside,) = asides(tmp_path)
        assert aside.stat().st_size >= len(damaged), "nothing is deleted"
        async with open_log(path, CLOCK) as log:
            assert not log.statistics().damaged_total, "the new file is sound"
            assert (await rest(log))[0] == Counter()


async def test_damage_met_while_running_is_repaired_and_the_agent_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "log.sqlite3"
    chance = random.Random(7)
    async with open_log(path, CLOCK, commit_interval_s=0.0001) as log:
        await fill(log)
        await log._writer._db.execute_fetchall("PRAGMA wal_checkpoint(TRUNCATE)")
        bodies = pages_of(path, "body")
        spoil(path, bodies[0], chance)
        spoil(path, bodies[len(bodies) // 2], chance)
        for connection in (log._writer._db, log._database.reader):
            await connection.execute_fetchall("PRAGMA cache_size=1")  # a log of days is not in the cache either
            await connection.execute_fetchall("PRAGMA shrink_memory")
        producing = asyncio.create_task(log.append([numbered(ROWS, 10)]))
        seen, gaps, events = await rest(log)
        await producing
        again, more, _ = await rest(log)
        assert log.statistics().damaged_total == 1
        both = seen + again
        lost = set(range(1310, ROWS + 10)) - set(both)  # three parcels are on their way
        assert len(lost) <= sum(gap.rows for gap in gaps + more)
        assert len(lost) < 1000
        assert set(range(ROWS, ROWS + 10)) <= set(both)
        assert max(both.values()) == 1
        assert events == ["last"]
        assert log.catalogue.find("plc", "count") is not None
        assert len(asides(tmp_path)) == 1
        await log.append([numbered(ROWS + 10, 10)])
        assert set((await rest(log))[0]) == set(range(ROWS + 10, ROWS + 20))
    words = [record.getMessage() for record in caplog.records if "was damaged" in record.getMessage()]
    assert len(words) == 1
    assert str(asides(tmp_path)[0]) in words[0]


async def test_a_name_with_a_changed_byte_is_read_from_its_copy(original: Path, tmp_path: Path) -> None:
    path = tmp_path / "log.sqlite3"
    (root, *_) = pages_of(original, "tag")
    data = original.read_bytes()
    at = data.index(b"count", (root - 1) * pages.PAGE_BYTES)
    assert at < root * pages.PAGE_BYTES
    path.write_bytes(data[:at] + b"\xff" + data[at + 1 :])
    async with open_log(path, CLOCK) as log:
        assert log.statistics().damaged_total == 1
        assert log.catalogue[1].path == "plc.count"
        assert set((await rest(log))[0]) == set(range(1010, ROWS))


@pytest.mark.parametrize("part", [0.9, 0.5, 0.02, 0.0])
async def test_a_file_cut_short_gives_what_is_left_of_it(original: Path, tmp_path: Path, part: float) -> None:
    path = tmp_path / "log.sqlite3"
    shutil.copy(original, path)
    os.truncate(path, int(path.stat().st_size * part))
    async with open_log(path, CLOCK, first_tag_id=1000, commit_interval_s=0.0001) as log:
        await log.append([numbered(ROWS, 10)])
        seen, gaps, _ = await rest(log)
        assert set(range(ROWS, ROWS + 10)) <= set(seen)
        lost = set(range(1010, ROWS)) - set(seen)
        # Of a file without its end, nothing is left that could tell how much it was: a gap of no known rows says so.
        assert len(lost) <= sum(gap.rows for gap in gaps) or any(gap.rows == 0 for gap in gaps) or part == 0
        assert log.catalogue.intern("plc", "new", ValueKind.INT64).id >= 1000, "no id gets another meaning"


async def test_a_file_that_is_no_database_moves_aside_untouched(tmp_path: Path) -> None:
    path = tmp_path / "log.sqlite3"
    path.write_bytes(b"notes about pumps " * 100)
    async with open_log(path, CLOCK) as log:
        await log.append([numbered(0, 10)])
        assert values(await everything(log)) == list(range(10))
    (aside,) = asides(tmp_path)
    assert aside.read_bytes() == b"notes about pumps " * 100


@pytest.mark.parametrize("with_wal", [False, True])
async def test_a_log_deleted_while_running_is_written_again_and_loses_nothing(tmp_path: Path, with_wal: bool) -> None:
    path = tmp_path / "log.sqlite3"
    async with open_log(path, CLOCK, commit_interval_s=0.0001) as log:
        await log.append([numbered(0, 100)])
        for file in tmp_path.glob("log.sqlite3*") if with_wal else [path]:
            if not file.name.endswith(".lock"):
                file.unlink()
        await log.append([numbered(100, 100)])
        assert values(await everything(log)) == list(range(200))
        assert path.exists()
    assert {each.name for each in tmp_path.iterdir()} == {"log.sqlite3", "log.sqlite3.lock"}
    async with open_log(path, CLOCK) as log:
        assert values(await everything(log)) == list(range(200))


async def test_a_log_replaced_while_running_keeps_its_own_and_moves_the_other_aside(tmp_path: Path) -> None:
    path = tmp_path / "log.sqlite3"
    async with open_log(path, CLOCK, commit_interval_s=0.0001) as log:
        await log.append([numbered(0, 10)])
        path.unlink()
        path.write_bytes(b"someone's copy")
        await log.append([numbered(10, 10)])
    async with open_log(path, CLOCK) as log:
        assert values(await everything(log)) == list(range(20))
    (found,) = (each for each in tmp_path.glob("log.sqlite3.found-*") if not each.name.endswith(("-wal", "-shm")))
    assert found.read_bytes() == b"someone's copy"


async def test_a_log_deleted_before_the_start_begins_anew_and_reuses_no_id(tmp_path: Path) -> None:
    path = tmp_path / "log.sqlite3"
    async with open_log(path, CLOCK, first_tag_id=5000) as log:
        old = log.catalogue.intern("plc", "a", ValueKind.BOOL)
        await log.append([numbered(0, 10, old.id)])
        epoch = log.outbox().epoch
    path.unlink()
    async with open_log(path, CLOCK, first_tag_id=6000) as log:  # the agent counts seconds
        assert log.catalogue.intern("plc", "b", ValueKind.BOOL).id >= 6000 > old.id
        assert log.outbox().epoch != epoch
        assert await everything(log) == []


WRITER = """
import asyncio, sys
from pathlib import Path
from buffer.log import open_log
from edge.core.clock import SystemClock
from tests.buffer.support import everything, numbered, values

async def main():
    async with open_log(Path(sys.argv[1]), SystemClock(), commit_interval_s=0.002) as log:
        row = max(values(await everything(log)), default=-1) + 1
        while True:
            await log.append([numbered(row, 50)])
            row += 50
            print(row, flush=True)

asyncio.run(main())
"""


@pytest.mark.timeout(120)
async def test_a_power_cut_at_any_instant_leaves_what_was_durable(tmp_path: Path) -> None:
    """The writer is stopped and its files are copied as they are; then the end of the WAL is torn as well."""
    seed = random.randrange(2**32)
    print("seed", seed)
    chance = random.Random(seed)
    path = tmp_path / "log.sqlite3"
    child = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    try:
        for number in range(6):
            for _ in range(chance.randint(1, 40)):
                durable = int(child.stdout.readline())
            child.send_signal(signal.SIGSTOP)
            await asyncio.to_thread(os.waitid, os.P_PID, child.pid, os.WSTOPPED)
            whole, torn = tmp_path / f"whole-{number}", tmp_path / f"torn-{number}"
            for copy in (whole, torn):
                copy.mkdir()
                for end in ("", "-wal"):
                    shutil.copy(f"{path}{end}", copy / f"log.sqlite3{end}")
            child.send_signal(signal.SIGCONT)
            wal = torn / "log.sqlite3-wal"
            size = wal.stat().st_size
            kept = chance.randint(size // 2, size)
            tail = chance.choice([b"", chance.randbytes(size - kept), bytes(size - kept)])
            os.truncate(wal, kept)
            with wal.open("ab") as file:
                file.write(tail)
            async with open_log(whole / "log.sqlite3", CLOCK) as log:
                stored = values(await everything(log))
                assert stored == list(range(len(stored)))
                assert len(stored) >= durable
                assert not log.statistics().damaged_total
            async with open_log(torn / "log.sqlite3", CLOCK) as log:  # less, but whole transactions in their order
                stored = values(await everything(log))
                assert stored == list(range(len(stored)))
                assert not log.statistics().damaged_total
    finally:
        child.kill()
        child.stdout.close()
        child.wait(10)


FULL = """
import asyncio, os, resource, sys
from pathlib import Path
from buffer.log import open_log
from edge.core.clock import SystemClock
from edge.core.batch import Batch, Lane
from tests.buffer.support import everything, numbered, values
from tests.support import until

async def main():
    path = Path(sys.argv[1])
    async with open_log(path, SystemClock(), rows_waiting_max=2000, commit_interval_s=0.001) as log:
        await log.append([numbered(0, 100)])
        limit = path.with_name(path.name + "-wal").stat().st_size + 20_000
        hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))  # the kernel refuses to let a file grow beyond it

        async def produce():
            for start in range(100, 50_100, 1000):
                await log.put(numbered(start, 1000))

        producing = asyncio.create_task(produce())
        await until(lambda: not log.statistics().writable)
        print("refused", log.statistics().last_error, flush=True)
        await until(lambda: log.statistics().rows_waiting >= 1000)
        assert not producing.done()
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        await producing
        await log.flush()
        assert values(await everything(log)) == list(range(50_100))
        assert not log.statistics().damaged_total
        print("whole", flush=True)

asyncio.run(main())
"""


async def test_a_disk_that_refuses_to_write_holds_devices_back_and_loses_nothing(tmp_path: Path) -> None:
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", FULL, str(tmp_path / "log.sqlite3")],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.splitlines()[-1:] == ["whole"], done.stderr
    assert done.stdout.startswith("refused")


async def test_a_damaged_log_on_a_disk_without_room_is_an_error_and_stays_as_it_is(
    original: Path, tmp_path: Path
) -> None:
    path = tmp_path / "log.sqlite3"
    shutil.copy(original, path)
    spoil(path, pages_of(path, "segment")[0], random.Random(1))
    damaged = path.read_bytes()
    program = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (70_000, 70_000))" + READ_ONLY.replace(
        "os.geteuid() == 0", "False"
    )
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", program, str(path)], capture_output=True, text=True, timeout=60
    )
    assert "is damaged, and no new one can be made of it" in done.stdout, done.stderr
    assert path.read_bytes()[8192:] == damaged[8192:]
    assert not asides(tmp_path)
    async with open_log(path, CLOCK) as log:  # with room it is salvaged
        assert set((await rest(log))[0]) == set(range(1010, ROWS))


READ_ONLY = """
import asyncio, os, sys
from pathlib import Path
from buffer.log import open_log
from edge.core.clock import SystemClock
from edge.core.errors import LogError

async def main():
    os.chdir(Path(sys.argv[1]).parent)
    if os.geteuid() == 0:  # root may write anything: go on as a user who may not
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
    try:
        async with open_log(Path("log.sqlite3"), SystemClock()):
            print("opened")
    except LogError as error:
        print(error)

asyncio.run(main())
"""


async def test_a_read_only_folder_is_named_and_nothing_is_changed(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    path = folder / "log.sqlite3"
    async with open_log(path, CLOCK) as log:
        await log.append([numbered(0, 10)])
    before = path.read_bytes()
    for each in [*folder.iterdir(), folder]:
        each.chmod(0o555 if each.is_dir() else 0o444)
    try:
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-c", READ_ONLY, str(path)],
            capture_output=True,
            text=True,
            timeout=60,
        )
    finally:
        folder.chmod(0o755)
    assert "log.sqlite3" in done.stdout, done.stderr
    assert "cannot be" in done.stdout
    assert path.read_bytes() == before
    assert not asides(folder)


async def test_rows_found_in_the_pages_are_those_of_the_table(original: Path) -> None:
    with sqlite3.connect(original) as db:
        bodies = dict(db.execute("SELECT position, data FROM body"))
    db.close()
    pairs = [(rowid, columns) for rowid, columns in pages.rows(original) if len(columns) == 2]
    found = {rowid: columns[1] for rowid, columns in pairs if isinstance(columns[1], bytes)}
    assert found == bodies
