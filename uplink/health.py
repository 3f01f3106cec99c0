"""The gateway's state for whoever watches it: a retained message of which only the newest counts, and a will.

It is a state and no history: nothing of it lies in the log, and what was not sent in time is never sent.
"""

import asyncio
import json
from collections.abc import Callable, Mapping
from enum import StrEnum
from importlib.metadata import version
from typing import Any

from edge.core.clock import Clock, iso8601
from edge.core.delivery import Outbox

CONTRACT = 1
EVERY_S = 60.0
LOOK_S = 1.0
FAREWELL_DEADLINE_S = 2.0


class State(StrEnum):
    """Where the gateway stands. `offline` is the broker's word, or ours when a connection is given up."""

    ONLINE = "online"
    STOPPING = "stopping"
    STOPPED = "stopped"
    OFFLINE = "offline"


class Health:
    """What one uplink tells of the gateway, over all its connections.

    facts   returns what the gateway as a whole says of itself
    uplink  returns what the uplink adds: its name and totals
    """

    def __init__(
        self,
        gateway: str,
        outbox: Outbox,
        clock: Clock,
        facts: Callable[[], Mapping[str, Any]],
        uplink: Callable[[], Mapping[str, Any]],
    ) -> None:
        self._gateway = gateway
        self._outbox = outbox
        self._clock = clock
        self._facts = facts
        self._uplink = uplink
        self._started = iso8601(clock.now())
        self._version = version("yulink")
        self._connection = self._number = 0
        self._state = State.OFFLINE
        self._since = self._started

    def will(self) -> bytes:
        """Begin a connection and return what the broker is to publish when it is lost.

        It holds no number: it comes after all messages of its connection, and before those of the next.
        """
        self._connection += 1
        self._number = 0
        return json.dumps(self._identity(State.OFFLINE)).encode()

    def _identity(self, state: State) -> dict[str, Any]:
        return {
            "gateway": self._gateway,
            "state": state,
            "started": self._started,
            "connection": self._connection,
            "version": self._version,
            "contract": CONTRACT,
        }

    async def tell(self, publish: Callable[[bytes], object], is_stopping: Callable[[], bool]) -> None:
        """Publish the state when it changes, at most once a second, and each minute, until cancelled."""
        told: Any = None
        due = 0.0
        while True:
            state = State.STOPPING if is_stopping() else State.ONLINE
            facts, now = self._facts(), self._clock.monotonic()
            news = _news(state, facts, self._outbox.backlog().quarantined)
            if news != told or now >= due:
                told, due = news, now + EVERY_S
                publish(await self._message(state, facts))
            await self._clock.sleep(LOOK_S)

    async def farewell(
        self, publish: Callable[[bytes], "asyncio.Future[int]"], lost: "asyncio.Future[str]", *, stopped: bool
    ) -> None:
        """Publish the last state of a connection that we end ourselves: then the broker forgets the will.

        One that is given up because nothing comes back is not waited for.
        """
        if lost.done():
            return
        puback = publish(await self._message(State.STOPPED if stopped else State.OFFLINE, self._facts()))
        if stopped:
            ended: set[asyncio.Future[Any]] = {puback, lost}
            await asyncio.wait(ended, timeout=FAREWELL_DEADLINE_S, return_when=asyncio.FIRST_COMPLETED)

    async def _message(self, state: State, facts: Mapping[str, Any]) -> bytes:
        now = iso8601(self._clock.now())
        if state is not self._state or not self._number:
            self._state, self._since = state, now
        self._number += 1
        backlog, oldest = self._outbox.backlog(), await self._outbox.oldest()
        waiting = {
            "rows": backlog.rows,
            "bytes": backlog.stored_bytes,
            "oldest": None if oldest is None else iso8601(oldest),
            "quarantined": backlog.quarantined,
        }
        told = {
            "number": self._number,
            "at": now,
            "since": self._since,
            **facts,
            "uplink": {**self._uplink(), **waiting},
        }
        return json.dumps(self._identity(state) | told, ensure_ascii=False).encode()


def _news(state: State, facts: Mapping[str, Any], quarantined: int) -> Any:
    """Return what is told at once when it changes; all else waits for its minute."""
    log, clock = facts.get("log", {}), facts.get("clock", {})
    failing = [(each["device"], each["state"], each["reason"]) for each in facts.get("failing", ())]
    return (
        *(state, quarantined, facts.get("devices"), failing),
        *(log.get("writable"), log.get("last_error"), bool(log.get("rows_dropped")), log.get("damaged")),
        *(clock.get("synchronised"), clock.get("steps")),
    )
