"""A PostgreSQL server of one's own on loopback, for tests and benchmarks; nothing of it survives."""

import asyncio
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from simulators.broker import free_port

START_DEADLINE_S = 30.0
NOBODY = 65534  # PostgreSQL refuses to run as root


def find_postgres() -> Path | None:
    """Return the folder with PostgreSQL's programs: Debian keeps them out of everyone's way, the newest last."""
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    return folders[-1].parent if folders else None


class Postgres:
    """A running server with one user `yulink` and a database of that name, reached by password."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self._programs = programs
        self._folder = folder
        self._process: asyncio.subprocess.Process | None = None
        self.port = free_port()

    @property
    def pid(self) -> int:
        """The number of the running process."""
        assert self._process is not None
        return self._process.pid

    @property
    def dsn(self) -> str:
        """The address of the database."""
        return f"postgresql://yulink:secret@127.0.0.1:{self.port}/yulink"

    async def make(self) -> None:
        """Make the files of the server."""
        word = self._folder / "password"
        word.write_text("secret\n")
        if os.getuid() == 0:
            for path in (self._folder, word):
                os.chown(path, NOBODY, NOBODY)
        await self._run(
            *("initdb", "-D", "data", "-U", "yulink", "--pwfile", "password", "-A", "scram-sha-256"),
            *("-E", "UTF8", "--no-sync", "--locale", "C.UTF-8"),
        )
        await self.start()
        await self._run("createdb", "yulink")

    async def start(self) -> None:
        """Start the server and wait until it answers."""
        server = (
            *("postgres", "-D", "data", "-p", str(self.port), "-h", "127.0.0.1", "-k", str(self._folder)),
            *("-c", "max_connections=40", "-c", "max_wal_size=4GB"),
        )
        self._process = await self._spawn(*server)
        async with asyncio.timeout(START_DEADLINE_S):
            while await (await self._spawn("pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port))).wait():
                await asyncio.sleep(0.05)
                if self._process.returncode is not None:
                    tail = (self._folder / "log").read_text("utf-8", "replace")[-500:]
                    if "shared memory" not in tail:
                        raise RuntimeError(f"PostgreSQL did not start: {tail}")
                    self._process = await self._spawn(*server)  # the last of those killed was still going

    async def kill(self) -> None:
        """End it as a power cut would: the server and every process of it at once."""
        if self._process is not None and self._process.returncode is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            await self._process.wait()

    async def _run(self, *command: str) -> None:
        if await (await self._spawn(*command)).wait():
            raise RuntimeError((self._folder / "log").read_text("utf-8", "replace")[-500:])

    async def _spawn(self, program: str, *arguments: str) -> asyncio.subprocess.Process:
        env = {"PGPASSWORD": "secret", "PGUSER": "yulink", "PGHOST": "127.0.0.1", "PGPORT": str(self.port)}
        identity = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.getuid() == 0 else {}
        with (self._folder / "log").open("ab") as log:
            return await asyncio.create_subprocess_exec(
                *(str(self._programs / program), *arguments),
                cwd=self._folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=os.environ | env,
                **identity,  # type: ignore[arg-type]
            )


@asynccontextmanager
async def start_postgres() -> AsyncIterator[Postgres]:
    """Run a server while the block runs, in a folder of its own: pytest's folders are closed to other users.

    Raises:
        RuntimeError: it is not installed or did not start.
    """
    programs = find_postgres()
    if programs is None:
        raise RuntimeError("PostgreSQL is not installed; `make test` as root installs it")
    with tempfile.TemporaryDirectory(prefix="yulink-postgres-") as name:
        server = Postgres(programs, Path(name))
        try:
            await server.make()
            yield server
        finally:
            await server.kill()
