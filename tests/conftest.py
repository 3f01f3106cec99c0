"""Rules for every test: nothing may be left behind, and a missing program is no excuse in CI."""

import asyncio
import os
import shutil
import threading
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, settings

settings.register_profile("yulink", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("yulink")


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    """Fail a test that leaves a thread running."""
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        if not thread.name.startswith("asyncio_"):  # the loop's own pool ends with the loop
            thread.join(2)
            assert not thread.is_alive(), f"thread left behind: {thread.name}"


@pytest_asyncio.fixture(autouse=True)
async def no_task_left() -> AsyncIterator[None]:
    """Fail a test that leaves a task running."""
    before = asyncio.all_tasks()
    yield
    left = {task for task in asyncio.all_tasks() - before if not task.done()} - {asyncio.current_task()}
    assert not left, f"tasks left behind: {left}"


@pytest.fixture(scope="session")
def program() -> Callable[[str], str]:
    """Return the path of an installed program; skip without it, but fail in CI."""

    def find(name: str) -> str:
        path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
        if path is None:
            reason = f"{name} is not installed; `make test` as root installs it"
            (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)
        return path

    return find
