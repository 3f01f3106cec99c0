"""One session: which variables there are, and how their values come: told by subscriptions, or polled."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from asyncua import ua

from drivers.opcua.client import FAILURES, REQUEST_TIMEOUT_S, Connection
from drivers.opcua.decode import Notification, Run, Values, decode_read
from drivers.opcua.events import HANDLE, event_filter, event_of, refresh
from drivers.opcua.history import Gap, read_gaps
from drivers.opcua.limits import PER_CALL_MAX, Limits, read_limits
from drivers.opcua.parts import is_composite, kind_of_part, pick
from drivers.opcua.resolve import is_glob, resolve, tag_name
from drivers.opcua.rows import Items, Parts, Picked, Wave
from drivers.opcua.section import OpcUaTag
from drivers.opcua.subscription import Subscription, Subscriptions, Wanted
from drivers.opcua.values import kind_of, kind_of_number, kind_of_type
from edge.core.batch import Batch, Lane, Record
from edge.core.catalogue import Tag, ValueKind
from edge.core.clock import Clock
from edge.core.errors import Disconnected
from edge.core.language import say

if TYPE_CHECKING:
    from drivers.opcua.driver import OpcUaDriver

QUIET_S = 2.0
RETRY_FIRST_S, RETRY_MAX_S = 2.0, 60.0
DOUBT_S = 5.0
"""After so long without values a subscription is compared with what the server answers to a Read."""
DOUBT_ITEMS_MAX = 50
_UNKNOWN = int(ua.StatusCodes.BadNodeIdUnknown)

log = logging.getLogger("yulink.opcua")


@dataclass(slots=True)
class Item:
    """A variable that is read: its tag as configured, its node once found, its handle once its kind is known."""

    name: str
    tag: OpcUaTag
    node: ua.NodeId | None
    every: float
    heartbeat: float | None
    handle: int = -1
    read_as: ua.NodeId | None = None
    shown: str = ""


@dataclass(slots=True)
class Apart:
    """An item that the server refuses; tried again alone, ever more seldom."""

    item: Item
    due: float
    delay: float = RETRY_FIRST_S


class Model:
    """What a session knows of its variables. Outlives the connection."""

    def __init__(self, clock: Clock) -> None:
        self.limits = Limits()
        self.items: list[Item] = []
        self.rows = Items()
        self.subscriptions = Subscriptions(clock, self.limits)
        self.apart: list[Apart] = []
        self.lost_at: int | None = None
        self.seen: dict[str, int] = {}

    def suspend(self, now: int) -> None:
        """Note when the connection broke, and the last reading of each tag until then."""
        self.lost_at = now if self.lost_at is None else self.lost_at
        for item in self.items:
            if item.handle >= 0 and (last := self.rows.last_ts(item.handle)) is not None:
                self.seen[item.name] = last


@dataclass(slots=True)
class _Doubt:
    """A value that a Read gave and the subscription had not: it must be told soon."""

    subscription: Subscription
    since: float = field(default=0.0)


class OpcUaSession:
    """Implements `drivers.api.Session` and `Inspectable`."""

    def __init__(self, driver: "OpcUaDriver", connection: Connection, model: Model) -> None:
        self.model = model
        self._driver = driver
        self._connection = connection
        self._clock = driver.context.clock
        self._ready: list[Record] = []
        self._confirmed: list[Notification] = []
        self._due: dict[int, float] = {}
        self._revive: set[int] = set()
        self._doubt: _Doubt | None = None
        self._checked = self._clock.monotonic()

    # -- beginning and end

    async def start(self) -> None:
        """Find every variable, read each once, which gives kinds and first values, and subscribe where wanted."""
        old, self.model = self.model, Model(self._clock)
        model, section = self.model, self._driver.section
        model.lost_at, model.seen = old.lost_at, old.seen
        model.limits = model.subscriptions._limits = await read_limits(self._connection.client)
        self._ready += self._records(old.subscriptions.take(), old.rows)
        await self._find()
        first = await self._values([item for item in model.items if item.node is not None])
        if any(_is_opaque(data) for data in first.values()):
            async with asyncio.timeout(4 * REQUEST_TIMEOUT_S):
                await self._connection.client.load_data_type_definitions()
            first = await self._values([item for item in model.items if item.node is not None])
        await self._learn_kinds(first)
        if model.lost_at is not None and section.history:
            await self._fill_gap()
        self._ready += self._first_rows(first)
        now = self._clock.monotonic()
        self._due = {item.handle: now + item.every for item in model.items if item.node is not None}
        if section.mode == "subscribe":
            await self._subscribe([item for item in model.items if item.node is not None])
            model.subscriptions.start(self._connection)
        else:
            await self._register()
        model.apart += [Apart(item, now + RETRY_FIRST_S) for item in model.items if item.node is None]
        self._returned([item.handle for item in model.items])

    async def resume(self) -> bool:
        """Take the subscriptions of the broken session over. Returns False when all must be made anew."""
        model = self.model
        if self._driver.section.mode == "poll" or not await model.subscriptions.resume(self._connection):
            return False
        model.subscriptions.start(self._connection)
        self._revive = set(model.subscriptions.all)
        return True

    async def stop(self) -> None:
        """End the tasks of this session."""
        await self.model.subscriptions.stop()

    # -- finding variables and their kinds

    async def _find(self) -> None:
        section, model = self._driver.section, self.model
        found = await resolve(self._connection.client, model.limits, [tag.node for tag in section.tags.values()])
        names: set[str] = set(section.tags)
        for name, tag in section.tags.items():
            every = tag.every or section.every or self._driver.context.every
            heartbeat = tag.heartbeat or section.heartbeat
            nodes = found[tag.node]
            if not is_glob(tag.node):
                node = nodes[0][1] if nodes else None
                model.items.append(Item(name, tag, node, every, heartbeat, shown=tag.node))
                continue
            for path, node in nodes:
                own = wanted = tag_name(name, path)
                number = 2
                while own in names:
                    own, number = f"{wanted}_{number}", number + 1
                names.add(own)
                model.items.append(Item(own, tag, node, every, heartbeat, shown=node.to_string()))

    async def _values(
        self, items: Sequence[Item], attribute: ua.AttributeIds = ua.AttributeIds.Value
    ) -> dict[str, ua.DataValue]:
        """Read one attribute of each item by asyncua, in parts that the server takes."""

        async def call(part: Sequence[Item]) -> Sequence[Any]:
            nodes = [item.node for item in part if item.node is not None]
            return await self._connection.client.uaclient.read_attributes(nodes, attribute)

        results = await self.model.limits.each("read", items, call)
        return {item.name: data for item, data in zip(items, results, strict=True)}

    async def _learn_kinds(self, first: Mapping[str, ua.DataValue]) -> None:
        """Give each item its tag. Where the value does not say the kind, its data type does."""
        asked = [item for item in self.model.items if item.node is not None and self._needs_type(item, first)]
        types = await self._values(asked, ua.AttributeIds.DataType)
        words: dict[ua.NodeId, dict[int, str]] = {}
        for item in self.model.items:
            data = first.get(item.name)
            variant = types[item.name].Value if item.name in types else None
            type_ = variant.Value if variant is not None else None
            form: Picked | None = None
            if item.tag.type == "text" and isinstance(type_, ua.NodeId):
                if type_ not in words:
                    words[type_] = await self._enumeration(type_)
                if words[type_]:
                    form = Picked((), words[type_])
            self._add(item, data, kind_of_type(type_), form)

    def _needs_type(self, item: Item, first: Mapping[str, ua.DataValue]) -> bool:
        known = item.tag.type is not None or item.name in self._driver.tags
        return item.tag.type == "text" or (kind_of(first[item.name]) is None and not known)

    def _add(self, item: Item, data: ua.DataValue | None, stated: ValueKind | None, form: Picked | None) -> None:
        driver, rows, tag = self._driver, self.model.rows, item.tag
        value = data.Value.Value if data is not None and data.Value is not None else None
        if tag.rate is not None:
            wave = Wave(tag.rate, tag.full_scale or 0.0)
            item.handle = rows.add(driver.intern(item.name, ValueKind.WAVEFORM, tag.unit), wave)
            return
        if tag.pick is None and is_composite(value):
            given = ValueKind(tag.type) if tag.type else None

            def tag_of(part: str, kind: ValueKind) -> Tag:
                return driver.intern(f"{item.name}_{part}", given or kind, tag.unit)

            item.handle = rows.add(None, Parts(tag_of))
            return
        kind = kind_of(data) if data is not None else None
        if tag.pick is not None:
            form = Picked(tuple(tag.pick.split(".")), form.words if form else {})
            kind = _kind_of_pick(value, form.steps, data)
        known = driver.tags.get(item.name)
        kind = ValueKind(tag.type) if tag.type else kind or (known.kind if known else None) or stated
        item.handle = rows.add(driver.intern(item.name, kind or ValueKind.FLOAT64, tag.unit), form)

    async def _enumeration(self, type_: ua.NodeId) -> dict[int, str]:
        """Return the words of an enumeration's numbers; none for any other type."""
        node = self._connection.client.get_node(type_)
        async with asyncio.timeout(2 * REQUEST_TIMEOUT_S):
            try:
                for property_ in await node.get_properties():
                    name = (await property_.read_browse_name()).Name
                    if name == "EnumStrings":
                        return {at: one.Text or "" for at, one in enumerate(await property_.read_value())}
                    if name == "EnumValues":
                        return {int(one.Value): one.DisplayName.Text or "" for one in await property_.read_value()}
            except ua.UaStatusCodeError:
                return {}
        return {}

    def _first_rows(self, first: Mapping[str, ua.DataValue]) -> list[Record]:
        values = Values()
        missing = ua.DataValue(StatusCode=ua.StatusCode(ua.UInt32(_UNKNOWN)))
        for at, item in enumerate(self.model.items):
            values.rest.append((at, item.handle, first.get(item.name, missing)))
            self._show(item, first.get(item.name))
        return self._rows(values)

    def _show(self, item: Item, data: ua.DataValue | None) -> None:
        item.shown = f"{item.tag.node} = {data.Value.Value if data is not None and data.Value else None!r}"

    # -- subscribing

    async def _subscribe(self, items: Sequence[Item]) -> None:
        """Put each item into a subscription of its interval; one that is refused is tried again apart."""
        subscriptions = self.model.subscriptions
        by_interval: dict[float, list[Item]] = {}
        for item in items:
            by_interval.setdefault(item.every, []).append(item)
        for every, group in sorted(by_interval.items()):
            made = next((one for one in subscriptions.all.values() if abs(one.every - every) < 1e-3), None)
            made = made or await subscriptions.create(self._connection, every)
            # A server with no more subscriptions has the items in the nearest: sampled at their own interval.
            made = made or min(subscriptions.all.values(), key=lambda one: abs(one.every - every))
            await self._monitor(made, group)
        if self._driver.section.events and subscriptions.all:
            await self._monitor_events(next(iter(subscriptions.all.values())))

    async def _monitor(self, subscription: Subscription, items: Sequence[Item]) -> None:
        wanted = [self._wanted(item) for item in items]
        refused = await self.model.subscriptions.monitor(self._connection, subscription, wanted)
        now = self._clock.monotonic()
        for item in items:
            if (code := refused.get(item.handle)) is not None:
                self.model.apart.append(Apart(item, now + RETRY_FIRST_S))
                self._ready += self._bad([item.handle], code)
        self._driver.set_counter("refused_items", len(self.model.apart))

    def _wanted(self, item: Item) -> Wanted:
        assert item.node is not None
        tag = self.model.rows.tags[item.handle]
        number = tag is not None and tag.kind in (ValueKind.INT64, ValueKind.UINT64, ValueKind.FLOAT64)
        band = item.tag.deadband if number and item.tag.pick is None else None
        sampling = item.tag.sampling if item.tag.sampling is not None else item.every
        return Wanted(item.handle, item.node, sampling, item.tag.queue, band or 0.0)

    async def _monitor_events(self, subscription: Subscription) -> None:
        code = await self.model.subscriptions.events(self._connection, subscription, HANDLE, event_filter())
        if code & 0x80000000:
            log.warning(say("{device}: the server has no events", device=self._driver.context.device))
            return
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                await refresh(self._connection.client, subscription.id)
        except ua.UaStatusCodeError:
            pass  # it has no conditions

    def _bad(self, handles: Sequence[int], code: int) -> list[Record]:
        n = len(handles)
        now = np.full(n, self._clock.now())
        status = np.full(n, code, np.uint32)
        return self._rows(Values([Run(np.arange(n), np.array(handles, np.int64), 0, np.zeros(n), now, status)]))

    # -- after a loss

    def _returned(self, handles: Sequence[int]) -> None:
        """Report again, as of now, what has not changed while the device was lost and stands marked bad since."""
        if self.model.lost_at is None:
            return
        rows = self.model.rows
        old = [one for handle in handles for one in rows.own(handle) if (rows.last_ts(one) or 0) < self.model.lost_at]
        self._ready += rows.repeat(np.array(old, np.int64), self._clock.now())

    async def _fill_gap(self) -> None:
        model = self.model
        gaps = [
            Gap(item.handle, item.node, model.seen[item.name])
            for item in model.items
            if item.name in model.seen and item.node is not None
        ]
        try:
            found = await read_gaps(self._connection, model.limits, gaps, self._clock.now()) if gaps else []
        except ua.UaStatusCodeError:
            return  # the server has no history
        if found:
            self._driver.count("history_rows_total", len(found))
            rest: list[tuple[int, int, Any]] = [(at, *one) for at, one in enumerate(found)]
            self._ready += self._rows(Values(rest=rest))

    # -- reading

    async def read(self) -> list[Record]:
        """Wait for changes, or the next interval when polling; return at most one batch a lane.

        What was returned last time is acknowledged now: the caller has stored it. Returns nothing after two quiet
        seconds in which the server was asked and answered. Cancelling loses nothing.

        Raises:
            Disconnected: the connection is gone, the server does not answer, or a subscription is dead.
        """
        subscriptions = self.model.subscriptions
        subscriptions.confirm(self._confirmed)
        self._confirmed = []
        try:
            if not self._ready and not subscriptions.waiting:
                await (self._poll() if self._driver.section.mode == "poll" else self._wait())
                await self._retry()
        except FAILURES as error:
            raise Disconnected(
                say("the server stopped answering: {reason}", reason=str(error) or type(error).__name__)
            ) from error
        taken = subscriptions.take()
        self._count()
        if not taken and not self._ready:
            self._judge()
        self._confirmed = taken
        records, self._ready = self._ready, []
        records += self._records(taken, self.model.rows)
        self._revived()
        records += self._ready
        self._ready = []
        return _joined(records)

    def _judge(self) -> None:
        subscriptions = self.model.subscriptions
        if self._connection.lost.is_set():
            raise Disconnected(say("the connection was cut"))
        if subscriptions.broken:
            raise Disconnected(say("the server stopped answering: {reason}", reason=subscriptions.broken))
        if (silent := subscriptions.silent()) is not None:
            self._dead(silent)

    def _dead(self, subscription: Subscription) -> None:
        self._driver.count("dead_subscriptions_total")
        self.model.subscriptions.all.clear()  # none of them is worth taking over
        raise Disconnected(
            say("subscription {id} is dead", id=subscription.id), say("it is made anew; check the server's load")
        )

    def _records(self, taken: Sequence[Notification], rows: Items) -> list[Record]:
        records: list[Record] = []
        for one in taken:
            records += self._rows(one.values, rows) if len(one.values) else []
            for part in one.other:
                if isinstance(part, ua.EventNotificationList):
                    found = [event_of(self._driver.context.device, event.EventFields, self._clock.now())
                             for event in part.Events or ()]  # fmt: skip
                    records += [event for event in found if event is not None]
        return records

    def _rows(self, values: Values, rows: Items | None = None) -> list[Record]:
        rows = self.model.rows if rows is None else rows
        rows.moment = self._clock.monotonic()
        return [*rows.batches(values, self._clock.now()), *rows.take_waveforms()]

    def _revived(self) -> None:
        for one in list(self._revive):
            subscription = self.model.subscriptions.all.get(one)
            if subscription is None or subscription.heard > self._checked:
                self._revive.discard(one)
                if subscription is not None:
                    self._returned(subscription.handles)
        if not self._revive:
            self.model.lost_at = None

    async def _wait(self) -> None:
        """Wait for a notification; in two quiet seconds ask the server, and compare what it says."""
        subscriptions = self.model.subscriptions
        arrived = asyncio.create_task(subscriptions.arrived.wait())
        lost = asyncio.create_task(self._connection.lost.wait())
        try:
            await asyncio.wait({arrived, lost}, timeout=self._patience(), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (arrived, lost):
                task.cancel()
            await asyncio.wait({arrived, lost})
        subscriptions.arrived.clear()
        self._beat()
        if not subscriptions.waiting and not subscriptions.broken and not self._connection.lost.is_set():
            await self._compare()

    def _patience(self) -> float:
        beats = [item.heartbeat / 2 for item in self.model.items if item.heartbeat]
        return max(0.02, min([QUIET_S, *beats]))

    def _beat(self) -> None:
        """Report again what has not changed for its heartbeat."""
        rows, now = self.model.rows, self._clock.monotonic()
        due = [one for item in self.model.items if item.heartbeat
               for one in rows.own(item.handle) if now - rows.reported(one) >= item.heartbeat]  # fmt: skip
        if due:
            rows.moment = now
            self._ready += rows.repeat(np.array(due, np.int64), self._clock.now())

    async def _compare(self) -> None:
        """Find a subscription that sends keep-alives but no values: read some of its variables.

        What the Read gives and it had not told is reported; if it stays silent about it, it is dead.
        """
        now = self._clock.monotonic()
        if self._doubt is not None:
            if self._doubt.subscription.told > self._doubt.since:
                self._doubt = None
            elif now - self._doubt.since > 1.0 + 3 * self._doubt.subscription.every:
                self._dead(self._doubt.subscription)
        quiet = [one for one in self.model.subscriptions.all.values()
                 if one.handles and now - one.told > max(DOUBT_S, 3 * one.every)]  # fmt: skip
        if not quiet or self._doubt is not None:
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                await self._connection.client.nodes.server_state.read_value()
            return
        subscription = quiet[int(now) % len(quiet)]
        of_handle = {item.handle: item for item in self.model.items}
        items = [of_handle[handle] for handle in subscription.handles if handle in of_handle]
        start = int(now) % max(1, len(items))
        asked = [one for one in (items[start:] + items[:start])[:DOUBT_ITEMS_MAX] if one.tag.deadband is None]
        found = await self._columns(asked)
        if not self.model.subscriptions.waiting and (new := self._rows(found)):
            self._ready += new
            self._doubt = _Doubt(subscription, now)

    async def _columns(self, items: Sequence[Item]) -> Values:
        """Read values on the fast path; handles as in the items."""
        values = Values()

        async def call(part: Sequence[Item]) -> Sequence[Any]:
            request = ua.ReadRequest()
            request.Parameters.TimestampsToReturn = ua.TimestampsToReturn.Both
            for item in part:
                one = ua.ReadValueId()
                one.NodeId = item.read_as or item.node
                one.AttributeId = ua.AttributeIds.Value
                request.Parameters.NodesToRead.append(one)
            body = await self._connection.client.uaclient._send_request(request)
            found = decode_read(bytes(body))
            handles = np.array([item.handle for item in part], np.int64)
            if len(found) != len(part):
                raise ua.UaError(f"{len(found)} values for {len(part)} nodes")
            values.runs += [
                Run(run.place, handles[run.handle], run.type, run.value, run.ts, run.status) for run in found.runs
            ]
            values.rest += [(place, int(handles[at]), data) for place, at, data in found.rest]
            return part

        await self.model.limits.each("read", items, call)
        return values

    async def _register(self) -> None:
        """Let the server prepare the nodes that are polled; one that cannot is read by its own id."""
        items = [item for item in self.model.items if item.node is not None]

        async def call(part: Sequence[Item]) -> Sequence[Any]:
            return await self._connection.client.uaclient.register_nodes([i.node for i in part if i.node is not None])

        try:
            for item, node in zip(items, await self.model.limits.each("register", items, call), strict=True):
                item.read_as = node
        except ua.UaStatusCodeError:
            return

    async def _poll(self) -> None:
        now = self._clock.monotonic()
        next_due = min(self._due.values(), default=now + QUIET_S)
        if next_due > now:
            await self._clock.sleep(min(next_due - now, QUIET_S))
            now = self._clock.monotonic()
        due = [item for item in self.model.items if item.handle in self._due and self._due[item.handle] <= now]
        if due:
            self._ready += self._rows(await self._columns(due))
            for item in due:
                late = int((now - self._due[item.handle]) / item.every)
                self._due[item.handle] += (late + 1) * item.every
        else:
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                await self._connection.client.nodes.server_state.read_value()
        self._beat()

    async def _retry(self) -> None:
        """Try the refused again, each alone: found under its path, read, subscribed."""
        now = self._clock.monotonic()
        due = [one for one in self.model.apart if one.due <= now][:PER_CALL_MAX]
        if not due:
            return
        self.model.apart = [one for one in self.model.apart if one.due > now]
        for one in due:
            await self._again(one)
        self._driver.set_counter("refused_items", len(self.model.apart))

    async def _again(self, one: Apart) -> None:
        item, model = one.item, self.model
        if not is_glob(item.tag.node):
            found = (await resolve(self._connection.client, model.limits, [item.tag.node]))[item.tag.node]
            item.node = found[0][1] if found else None
        refused = {item.handle: _UNKNOWN}
        if item.node is not None and self._driver.section.mode == "subscribe":
            every = min(model.subscriptions.all.values(), key=lambda known: abs(known.every - item.every), default=None)
            every = every or await model.subscriptions.create(self._connection, item.every)
            if every is not None:
                refused = await model.subscriptions.monitor(self._connection, every, [self._wanted(item)])
        elif item.node is not None:
            self._due[item.handle] = self._clock.monotonic()
            refused = {}
        if refused:
            delay = min(RETRY_MAX_S, 2 * one.delay)
            model.apart.append(Apart(item, self._clock.monotonic() + delay, delay))

    def _count(self) -> None:
        for name in ("republished_total", "lost_notifications_total"):
            if number := self.model.subscriptions.counters[name]:
                self._driver.count(name, number)
                self.model.subscriptions.counters[name] = 0

    def raw(self) -> Mapping[str, str]:
        """Return per tag its node and the value as the server gave it first."""
        return {item.name: item.shown for item in self.model.items}


def _is_opaque(data: ua.DataValue) -> bool:
    value = data.Value.Value if data.Value is not None else None
    return any(isinstance(one, ua.ExtensionObject) for one in (value if isinstance(value, list) else [value]))


def _kind_of_pick(value: Any, steps: Sequence[str], data: ua.DataValue | None) -> ValueKind | None:
    try:
        part = pick(value, steps)
    except LookupError:
        return None
    variant = data.Value.VariantType if data is not None and data.Value is not None else None
    return None if part is None else kind_of_part(part, kind_of_number(variant))


def _joined(records: Sequence[Record]) -> list[Record]:
    """Return at most one batch a lane, in order, then the rest."""
    lanes: dict[Lane, list[Batch]] = {}
    rest: list[Record] = []
    for record in records:
        if isinstance(record, Batch):
            lanes.setdefault(record.lane, []).append(record)
        else:
            rest.append(record)
    return [*(Batch.concat(parts) for parts in lanes.values()), *rest]
