"""One session: its variables, and how their values come: told by subscriptions, or polled."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from asyncua import ua

from drivers.opcua.client import FAILURES, REQUEST_TIMEOUT_S, Connection
from drivers.opcua.decode import Notification, Values
from drivers.opcua.events import HANDLE, event_filter, event_of, refresh
from drivers.opcua.history import Gaps
from drivers.opcua.limits import read_limits
from drivers.opcua.polling import Polling
from drivers.opcua.refused import Refused
from drivers.opcua.resolve import is_path
from drivers.opcua.rows import Items
from drivers.opcua.structures import Definitions
from drivers.opcua.subscription import Subscription, Subscriptions, Wanted
from drivers.opcua.units import told_units
from drivers.opcua.values import parts_of
from drivers.opcua.variables import Item, Variables
from drivers.opcua.watch import Watch
from edge.core.batch import Batch, History, Lane, Record
from edge.core.cancelling import check_cancelled
from edge.core.catalogue import ValueKind
from edge.core.clock import Clock
from edge.core.errors import Disconnected
from edge.core.language import say
from edge.core.quality import is_bad

if TYPE_CHECKING:
    from drivers.opcua.driver import OpcUaDriver

QUIET_S = 2.0
BEATS = 4
"""Looks at the heartbeats in the shortest of them."""
UNITS_AT_ONCE = 200
_UNKNOWN = int(ua.StatusCodes.BadNodeIdUnknown)

log = logging.getLogger("yulink.opcua")


class Model:
    """What is known of a server's variables. Outlives the connection.

    ready     records that wait for `read`
    lost_at   when the connection broke, ns; None while all is told
    seen      the time of each item's last row until then, by name
    gaps      what is still to be asked from the server's history
    told      globs of which it was said that they find nothing
    """

    def __init__(self, clock: Clock) -> None:
        self.items: list[Item] = []
        self.definitions = Definitions()
        self.rows = Items(self.definitions.decode)
        self.subscriptions = Subscriptions(clock)
        self.refused = Refused(clock)
        self.ready: list[Record] = []
        self.lost_at: int | None = None
        self.seen: dict[str, int] = {}
        self.gaps = Gaps()
        self.told: set[str] = set()
        self.unasked: list[tuple[int, ua.NodeId]] = []
        """Tags, with their nodes, whose unit the server is still to be asked for."""

    def suspend(self, now: int) -> None:
        """Note when the connection broke, and the last row of each item until then."""
        self.lost_at = now if self.lost_at is None else self.lost_at
        for item in self.items:
            times = [self.rows.last_ts(one) for one in self.rows.own(item.handle)]
            if known := [ts for ts in times if ts is not None]:
                self.seen[item.name] = max(known)


class OpcUaSession:
    """Implements `drivers.api.Session` and `Inspectable`."""

    def __init__(self, driver: "OpcUaDriver", connection: Connection, model: Model) -> None:
        self.model = model
        self._driver = driver
        self._connection = connection
        self._clock = driver.context.clock
        self._polls = driver.section.mode == "poll"
        self._confirmed: list[Notification] = []
        self._revive: set[int] = set()
        self._watch = Watch()
        self._checked = self._beaten = self._started = self._clock.monotonic()
        self._attach()

    def _attach(self) -> None:
        """Let the parts of this session work on its model."""
        model, limits = self.model, self.model.subscriptions.limits
        self._variables = Variables(self._driver, self._connection, limits, model.definitions, model.rows)
        self._polling = Polling(self._connection, limits, self._clock)
        self._beating = [item for item in model.items if self._heartbeat(item)]

    # -- beginning and end

    async def start(self) -> None:
        """Find every variable, read each once, which gives kinds and first values, and subscribe where wanted."""
        old, self.model = self.model, Model(self._clock)
        model = self.model
        model.lost_at, model.seen, model.told = old.lost_at, old.seen, old.told
        model.gaps.take_over(old.gaps)
        model.ready = old.ready + self._records(old.subscriptions.take(), old.rows)
        await old.subscriptions.delete(self._connection)
        model.subscriptions.limits = await read_limits(self._connection.client)
        self._attach()
        await self._admit(await self._variables.find(self._driver.section.tags))
        if self._driver.section.events:
            await self._monitor_events()
        self._returned([item.handle for item in model.items])
        model.lost_at = None

    async def resume(self) -> bool:
        """Take the subscriptions of the broken session over. Returns False when all must be made anew."""
        model = self.model
        polled = self._polls or any(item.read_as is not None for item in model.items)
        if polled or not await model.subscriptions.resume(self._connection):
            return False
        model.subscriptions.start(self._connection)
        self._revive = set(model.subscriptions.all)
        self._started = self._clock.monotonic()
        return True

    async def stop(self) -> None:
        """End the tasks of this session."""
        await self.model.subscriptions.stop()

    # -- taking up variables

    async def _admit(self, items: Sequence[Item]) -> None:
        """Read items for the first time, give them tags, fill a gap from history, and subscribe or poll them."""
        model, known = self.model, set(self.model.items)
        model.items += [item for item in items if item not in known]
        first = await self._variables.read(items)
        fresh = [item for item in items if item.handle < 0 or item.guessed]
        await self._variables.describe([item for item in fresh if not self._nothing_found(item)], first)
        model.unasked += self._variables.with_unit(items)
        self._beating = [item for item in model.items if self._heartbeat(item)]
        if model.lost_at is not None and self._driver.section.history:
            self._miss(items, first)
        model.ready += self._first_rows(items, first)
        found = [item for item in items if item.node is not None]
        model.refused.put(item for item in items if item.node is None)
        if self._polls:
            await self._polling.add(found)
        else:
            await self._subscribe(found, first)
        if model.subscriptions.all:
            model.subscriptions.start(self._connection)
        self._driver.set_counter("refused_items", len(model.refused))

    def _nothing_found(self, item: Item) -> bool:
        """Tell whether it is a glob without a node: no tag can be named then."""
        nothing = item.node is None and item.tag.spreads
        if nothing and item.name not in self.model.told:
            self.model.told.add(item.name)
            log.warning(say("{device}: nothing is found at {node}", device=self._device, node=item.tag.node))
        return nothing

    @property
    def _device(self) -> str:
        return self._driver.context.device

    def _first_rows(self, items: Sequence[Item], first: Mapping[str, ua.DataValue]) -> list[Record]:
        values = Values()
        missing = ua.DataValue(StatusCode=ua.StatusCode(ua.UInt32(_UNKNOWN)))
        for at, item in enumerate(item for item in items if item.handle >= 0):
            data = first.get(item.name, missing)
            values.rest.append((at, item.handle, data))
            where = item.node.to_string() if item.tag.spreads and item.node is not None else item.tag.node
            item.shown = f"{where} = {data.Value.Value if data.Value else None!r}"
        return self._rows(values, read=True)

    # -- subscribing

    async def _subscribe(self, items: Sequence[Item], first: Mapping[str, ua.DataValue]) -> None:
        """Put each item into a subscription of its interval; one that is refused is polled, or tried again apart."""
        polled: list[Item] = []
        unreadable: list[Item] = []
        by_interval: dict[float, list[Item]] = {}
        for item in items:
            by_interval.setdefault(item.every, []).append(item)
        for every, group in sorted(by_interval.items()):
            refused = await self.model.subscriptions.monitor(
                self._connection, await self._subscription(every), [self._wanted(item) for item in group]
            )
            for item in group:
                if item.handle in refused:
                    status = first[item.name].StatusCode
                    (unreadable if status is not None and is_bad(int(status.value)) else polled).append(item)
        self.model.refused.put(unreadable)
        await self._polling.add(polled)  # the server has no room for them, or no way to monitor them

    async def _subscription(self, every: float) -> Subscription:
        """Return the subscription of an interval. Where the server has no more of them, the nearest: each item is
        sampled at its own interval anyway."""
        known = self.model.subscriptions.all
        for one in known.values():
            if abs(one.asked - every) < 1e-3:
                return one
        made = await self.model.subscriptions.create(self._connection, every)
        return made or min(known.values(), key=lambda one: abs(one.every - every))

    def _wanted(self, item: Item) -> Wanted:
        assert item.node is not None
        tag = self.model.rows.tags[item.handle]
        number = tag is not None and tag.kind in (ValueKind.INT64, ValueKind.UINT64, ValueKind.FLOAT64)
        band = item.tag.deadband if number and item.tag.pick is None else None
        sampling = item.tag.sampling if item.tag.sampling is not None else item.every
        return Wanted(item.handle, item.node, sampling, item.tag.queue, band or 0.0)

    async def _monitor_events(self) -> None:
        subscriptions = self.model.subscriptions
        subscription = next(iter(subscriptions.all.values()), None) or await self._subscription(QUIET_S)
        subscriptions.start(self._connection)
        code = await self.model.subscriptions.events(self._connection, subscription, HANDLE, event_filter())
        if is_bad(code):
            log.warning(say("{device}: the server has no events", device=self._device))
            return
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                await refresh(self._connection.client, subscription.id)
        except ua.UaStatusCodeError:
            pass  # it has no conditions

    # -- after a loss

    def _returned(self, handles: Sequence[int]) -> None:
        """Report again, as of now, what has not changed while the device was lost and stands marked bad since."""
        lost_at, rows = self.model.lost_at, self.model.rows
        if lost_at is None:
            return
        old = [one for handle in handles for one in rows.own(handle) if (rows.last_ts(one) or 0) < lost_at]
        self.model.ready += rows.repeat(np.array(old, np.int64), self._clock.now())

    def _miss(self, items: Sequence[Item], first: Mapping[str, ua.DataValue]) -> None:
        """Note what is missing of each: from its last row until what it is now."""
        now = self._clock.now()
        for item in items:
            if (start := self.model.seen.get(item.name)) is not None and item.name in first:
                ts, _, status = parts_of(first[item.name], now)
                self.model.gaps.add(item.name, start, now if is_bad(status) else ts)

    async def _fill(self) -> None:
        """Read some of what is missing from the server's history, beside what comes live."""
        items = {item.name: item for item in self.model.items if item.node is not None}
        nodes = {name: item.node for name, item in items.items() if item.node is not None}
        values = Values()
        for name, rows in (await self.model.gaps.read(self._connection, nodes)).items():
            values.rest += [(at, items[name].handle, one) for at, one in enumerate(rows)]
        self._driver.count("history_rows_total", len(values))
        found = self.model.rows.batches(values, self._clock.now(), late=True)
        self.model.ready += [History(one.tag, one.ts, one.value, one.quality) for one in found]

    def _revived(self) -> None:
        """Once a subscription that was taken over speaks, repeat what it will not tell: nothing of it has changed."""
        for one in list(self._revive):
            subscription = self.model.subscriptions.all.get(one)
            if subscription is None or subscription.heard > self._started:
                self._revive.discard(one)
                self._returned(list(subscription.items) if subscription is not None else [])
        if not self._revive:
            self.model.lost_at = None

    # -- reading

    async def read(self) -> list[Record]:
        """Wait for changes, or the next interval when polling; return at most one batch a lane.

        What was returned last time is acknowledged now: the caller has stored it. Returns nothing after two quiet
        seconds in which the server was asked and answered. Cancelling loses nothing.

        Raises:
            Disconnected: the connection is gone, the server does not answer, or a subscription is dead.
        """
        check_cancelled()
        model, subscriptions = self.model, self.model.subscriptions
        subscriptions.confirm(self._confirmed)
        self._confirmed = []
        try:
            if not model.ready and not subscriptions.waiting:
                await self._wait()
            await self._care()
        except FAILURES as error:
            raise Disconnected(
                say("the server stopped answering: {reason}", reason=str(error) or type(error).__name__)
            ) from error
        finally:
            self._count()
        self._judge()
        self._confirmed = taken = subscriptions.take()
        model.ready += self._records(taken, model.rows)
        self._revived()
        self._beat()
        records, model.ready = model.ready, []
        return _joined(records)

    async def _wait(self) -> None:
        """Wait for a notification, the next poll, a heartbeat, or two quiet seconds."""
        subscriptions = self.model.subscriptions
        busy = self.model.gaps or self.model.unasked
        patience = 0.0 if busy else min(QUIET_S, self._polling.next_in(), self._beat_in())
        if subscriptions.all:
            waits = [asyncio.create_task(each.wait()) for each in (subscriptions.arrived, self._connection.lost)]
            try:
                await asyncio.wait(waits, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in waits:
                    task.cancel()
                await asyncio.wait(waits)
            subscriptions.arrived.clear()
        elif patience > 0:
            await self._clock.sleep(patience)

    async def _care(self) -> None:
        """Poll what is due; now and then ask the server, and try again what was refused."""
        if found := await self._polling.poll():
            self.model.ready += self._rows(found, read=True)
        self._note_gone()
        self._note_overflows()
        if self.model.gaps:
            await self._fill()
        if self.model.unasked:
            await self._ask_units()
        now = self._clock.monotonic()
        if now - self._checked < QUIET_S:
            return
        if not self._connection.lost.is_set() and not self.model.subscriptions.broken:
            await self._compare(now)
            await self._retry()
        self._checked = self._clock.monotonic()

    def _judge(self) -> None:
        """Raise Disconnected when the session is of no use any more. What has come waits for the next one."""
        subscriptions = self.model.subscriptions
        dead = subscriptions.silent() or self._watch.dead(self._clock.monotonic())
        if dead is not None:
            self._driver.count("dead_subscriptions_total")
            subscriptions.all.clear()  # none of them is worth taking over
            raise Disconnected(
                say("subscription {id} is dead", id=dead.id), say("it is made anew; check the server's load")
            )
        if subscriptions.waiting or self.model.ready:
            return
        if self._connection.lost.is_set():
            raise Disconnected(say("the connection was cut"))
        if subscriptions.broken:
            raise Disconnected(say("the server stopped answering: {reason}", reason=subscriptions.broken))

    def _records(self, taken: Sequence[Notification], rows: Items) -> list[Record]:
        records: list[Record] = []
        for one in taken:
            records += self._rows(one.values, rows) if len(one.values) else []
            for part in one.other:
                if isinstance(part, ua.EventNotificationList):
                    found = [event_of(self._device, event.EventFields, self._clock.now())
                             for event in part.Events or ()]  # fmt: skip
                    records += [event for event in found if event is not None]
        return records

    def _rows(
        self, values: Values, rows: Items | None = None, *, changed: bool = False, read: bool = False
    ) -> list[Record]:
        rows = self.model.rows if rows is None else rows
        rows.moment = self._clock.monotonic()
        batches = rows.batches(values, self._clock.now(), changed=changed, read=read)
        self._driver.repeated.update(rows.take_repeated())
        return [*batches, *rows.take_waveforms()]

    # -- what is done beside

    def _heartbeat(self, item: Item) -> float | None:
        return self._driver.section.heartbeat_of(item.tag)

    def _beat_in(self) -> float:
        shortest = min((self._heartbeat(item) or QUIET_S for item in self._beating), default=QUIET_S)
        return shortest / BEATS

    def _beat(self) -> None:
        """Report again what has not changed for its heartbeat."""
        now = self._clock.monotonic()
        if not self._beating or now - self._beaten < self._beat_in():
            return
        self._beaten = now
        rows = self.model.rows
        due = [one for item in self._beating for one in rows.own(item.handle)
               if now - rows.reported(one) >= (self._heartbeat(item) or 0)]  # fmt: skip
        rows.moment = now
        self.model.ready += rows.repeat(np.array(due, np.int64), self._clock.now())

    async def _ask_units(self) -> None:
        """Ask for the units of some of the variables that have one in the configuration, beside what comes."""
        some, self.model.unasked = self.model.unasked[:UNITS_AT_ONCE], self.model.unasked[UNITS_AT_ONCE:]
        limits = self.model.subscriptions.limits
        units = await told_units(self._connection.client, limits, [node for _, node in some])
        self._driver.units.update({tag: unit for (tag, _), unit in zip(some, units, strict=True)})

    async def _compare(self, now: float) -> None:
        """Ask the server something; where a subscription is quiet, what its variables are."""
        asked = self._watch.ask(self.model.subscriptions.all.values(), self.model.items, now)
        if asked is None:
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                await self._connection.client.nodes.server_state.read_value()
            return
        subscription, items = asked
        found = await self._polling.read(items)
        told = any(one.subscription == subscription.id for one in self.model.subscriptions.waiting)
        if not told and (new := self._rows(found, changed=True)):
            self.model.ready += new
            self._watch.doubt(subscription, now)

    def _note_gone(self) -> None:
        """Set apart what is found by a path and has lost its node: the server may have it under another id."""
        gone, self.model.rows.gone = self.model.rows.gone, set()
        by_path = [item for item in self.model.items if is_path(item.tag.node) and not item.tag.spreads]
        self.model.refused.put(item for item in by_path if item.handle in gone)

    def _note_overflows(self) -> None:
        """Remember what the server dropped, to ask its history for it."""
        overflows, self.model.rows.overflows = self.model.rows.overflows, []
        self._driver.count("overflows_total", len(overflows))
        if overflows and self._driver.section.history:
            names = {item.handle: item.name for item in self.model.items}
            for handle, start, end in overflows:
                if handle in names:
                    self.model.gaps.add(names[handle], start, end)

    async def _retry(self) -> None:
        """Try the refused again: found under their paths, read, subscribed."""
        model = self.model
        if not (due := model.refused.take_due()):
            return
        empty = [item for item in due if item.tag.spreads and item.node is None]
        plain = {item.name: item.tag for item in due if not item.tag.spreads}
        found = {item.name: item.node for item in await self._variables.find(plain)}
        grown = [item for item in await self._variables.find({item.name: item.tag for item in empty}) if item.node]
        filled = {id(item.tag) for item in grown}
        again = [item for item in due if item not in empty or id(item.tag) not in filled]
        for item in again:
            await model.subscriptions.forget(self._connection, item.handle)
            item.node = found.get(item.name, item.node)
        model.items = [item for item in model.items if item in again or item not in due]
        await self._admit([*again, *grown])
        model.refused.settle(due)

    def _count(self) -> None:
        for name in ("republished_total", "lost_notifications_total"):
            self._driver.count(name, self.model.subscriptions.counters[name])
            self.model.subscriptions.counters[name] = 0
        self._driver.count("overruns_total", self._polling.take_overruns())
        self._driver.set_counter("polled_items", len(self._polling))
        self._driver.set_counter("parts_left_out", self.model.rows.left_out)

    def raw(self) -> Mapping[str, str]:
        """Return per tag its node and the value as the server gave it first."""
        rows = self.model.rows
        tags = ((rows.tags[one], item) for item in self.model.items for one in rows.own(item.handle))
        return {tag.name: item.shown for tag, item in tags if tag is not None}


def _joined(records: Sequence[Record]) -> list[Record]:
    """Return at most one batch a lane, in order, then the rest, of which is what the device kept."""
    lanes: dict[Lane, list[Batch]] = {}
    rest: list[Record] = []
    for record in records:
        if isinstance(record, Batch) and not isinstance(record, History):
            lanes.setdefault(record.lane, []).append(record)
        else:
            rest.append(record)
    return [*(Batch.concat(parts) for parts in lanes.values()), *rest]
