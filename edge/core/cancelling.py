"""A cancellation that a library has swallowed is owed nevertheless."""

import asyncio


def check_cancelled() -> None:
    """Raise CancelledError when the current task was asked to end and goes on all the same.

    `asyncio.wait_for` returns a result that comes at the same moment as a cancellation and forgets the latter (until
    Python 3.12), and so does whatever library waits with it.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
