"""Subscriptions: created within the server's limits, acknowledged once stored, taken up again after a break."""

import asyncio
import struct
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from asyncua import ua
from asyncua.ua.ua_binary import struct_from_binary

from drivers.opcua.client import REQUEST_TIMEOUT_S, Connection
from drivers.opcua.decode import Notification, decode_publish, of_message
from drivers.opcua.limits import Limits
from edge.core.cancelling import check_cancelled
from edge.core.clock import Clock

PUBLISHES = 3
"""Publish requests that wait at the server: one on its way each direction and one to spare."""
KEEP_ALIVE_S = 2.0
LIFETIME_S = 300.0
WAITING_MAX = 200
"""Notifications that wait for `read`; above it none is asked for, and the server keeps them."""

_FILTERS = frozenset(
    getattr(ua.StatusCodes, name)
    for name in (
        "BadMonitoredItemFilterUnsupported", "BadMonitoredItemFilterInvalid", "BadFilterNotAllowed",
        "BadDeadbandFilterInvalid",
    )
)  # fmt: skip


@dataclass(slots=True)
class Wanted:
    """What to monitor. `deadband` in the tag's unit, 0 for none; times in seconds."""

    handle: int
    node: ua.NodeId
    sampling: float
    queue: int
    deadband: float


@dataclass(slots=True)
class Subscription:
    """One subscription. `sequence` is the last notification's number; times are monotonic seconds.

    asked    the publishing interval that was asked for
    every    the interval that the server granted
    slowest  that, or the longest sampling interval that it granted
    heard    when any message came, also a keep-alive
    told     when the last values came
    silence  seconds after which it is taken for dead
    items    the server's id of each monitored item by its client handle
    """

    id: int
    asked: float
    every: float
    silence: float
    sequence: int
    heard: float
    told: float
    slowest: float
    items: dict[int, int] = field(default_factory=dict)


class Subscriptions:
    """All subscriptions of a session. Outlives a connection: `resume` takes it to the next one."""

    def __init__(self, clock: Clock) -> None:
        self.all: dict[int, Subscription] = {}
        self.waiting: deque[Notification] = deque()
        self.arrived = asyncio.Event()
        self.broken: str = ""
        self.counters = {"republished_total": 0, "lost_notifications_total": 0, "publish_failures_total": 0}
        self._clock = clock
        self.limits = Limits()
        self._acks: list[tuple[int, int]] = []
        self._made: set[int] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._taking = asyncio.Lock()
        self._room = asyncio.Event()
        self._room.set()

    async def create(self, connection: Connection, every: float) -> Subscription | None:
        """Make a subscription of this publishing interval (s); None when the server has no more of them."""
        parameters = ua.CreateSubscriptionParameters()
        parameters.RequestedPublishingInterval = ua.Double(every * 1000)
        keep_alive = max(1, round(KEEP_ALIVE_S / every))
        parameters.RequestedMaxKeepAliveCount = ua.UInt32(keep_alive)
        parameters.RequestedLifetimeCount = ua.UInt32(max(3 * keep_alive, round(LIFETIME_S / every)))
        parameters.PublishingEnabled = True
        request = ua.CreateSubscriptionRequest()
        request.Parameters = parameters
        if len(self.all) >= self.limits.subscriptions:
            return None
        try:
            body = await _ask(connection, request)
        except ua.UaStatusCodeError as error:
            if error.code != ua.StatusCodes.BadTooManySubscriptions or not self.all:
                raise
            return None
        given = struct_from_binary(ua.CreateSubscriptionResponse, body).Parameters
        revised = given.RevisedPublishingInterval / 1000
        now = self._clock.monotonic()
        silence = 2.0 + 3 * revised * max(1, given.RevisedMaxKeepAliveCount)
        made = Subscription(given.SubscriptionId, every, revised, silence, 0, now, now, revised)
        self.all[made.id] = made
        self._made.add(made.id)
        return made

    async def monitor(
        self, connection: Connection, subscription: Subscription, wanted: Sequence[Wanted]
    ) -> dict[int, int]:
        """Add items; return the StatusCode of each handle that the server refuses.

        A dead-band that it cannot do is left to us: the item is made without.
        """
        refused: dict[int, int] = {}
        banded: list[Wanted] = []
        results = await self._items(connection, subscription, wanted)
        for one, (code, number, sampling) in zip(wanted, results, strict=True):
            if code in _FILTERS and one.deadband:
                banded.append(one)
            elif code & 0x80000000:
                refused[one.handle] = code
            else:
                subscription.items[one.handle] = number
                subscription.slowest = max(subscription.slowest, sampling)
        if banded:
            plain = [Wanted(one.handle, one.node, one.sampling, one.queue, 0.0) for one in banded]
            refused |= await self.monitor(connection, subscription, plain)
        return refused

    async def forget(self, connection: Connection, handle: int) -> None:
        """Delete a monitored item, before it is made anew; one that the server has not is fine."""
        for subscription in self.all.values():
            if (number := subscription.items.pop(handle, None)) is not None:
                parameters = ua.DeleteMonitoredItemsParameters()
                parameters.SubscriptionId = ua.UInt32(subscription.id)
                parameters.MonitoredItemIds = [ua.UInt32(number)]
                async with asyncio.timeout(REQUEST_TIMEOUT_S):
                    await connection.client.uaclient.delete_monitored_items(parameters)

    async def _items(
        self, connection: Connection, subscription: Subscription, wanted: Sequence[Wanted]
    ) -> list[tuple[int, int, float]]:
        """Return StatusCode, the server's id and the sampling interval granted of each."""

        async def call(part: Sequence[Wanted]) -> list[tuple[int, int, float]]:
            parameters = ua.CreateMonitoredItemsParameters()
            parameters.SubscriptionId = ua.UInt32(subscription.id)
            parameters.TimestampsToReturn = ua.TimestampsToReturn.Both
            parameters.ItemsToCreate = [_item(one) for one in part]
            results = await connection.client.uaclient.create_monitored_items(parameters)
            return [
                (int(one.StatusCode.value), int(one.MonitoredItemId), one.RevisedSamplingInterval / 1000)
                for one in results
            ]

        return await self.limits.each("items", wanted, call)

    async def events(self, connection: Connection, subscription: Subscription, handle: int, filter_: Any) -> int:
        """Monitor the events of the whole server; return the StatusCode."""
        request = _item(Wanted(handle, ua.NodeId(ua.Int32(ua.ObjectIds.Server)), 0.0, 1000, 0.0))
        request.ItemToMonitor.AttributeId = ua.AttributeIds.EventNotifier
        request.RequestedParameters.Filter = filter_
        parameters = ua.CreateMonitoredItemsParameters()
        parameters.SubscriptionId = ua.UInt32(subscription.id)
        parameters.TimestampsToReturn = ua.TimestampsToReturn.Both
        parameters.ItemsToCreate = [request]
        async with asyncio.timeout(REQUEST_TIMEOUT_S):
            (result,) = await connection.client.uaclient.create_monitored_items(parameters)
        return int(result.StatusCode.value)

    async def resume(self, connection: Connection) -> bool:
        """Move to a new connection: transfer what the old session had, fetch again what was not received.

        Returns False when the server has forgotten any of it; what came until then stays in `waiting`.
        """
        if not self.all:
            return False
        try:
            available = {} if connection.resumed else await self._transfer(connection)
            for subscription in list(self.all.values()):
                await self._republish(connection, subscription, available.get(subscription.id, ()))
                await self._republish_rest(connection, subscription)
        except ua.UaStatusCodeError:
            return False
        now = self._clock.monotonic()
        for subscription in self.all.values():
            subscription.heard = subscription.told = now
        return True

    async def _transfer(self, connection: Connection) -> dict[int, Sequence[int]]:
        """Take the subscriptions of an old session over into this one; return what each still has for us.

        Raises:
            ua.UaStatusCodeError: the server cannot, or has forgotten one.
        """
        parameters = ua.TransferSubscriptionsParameters()
        parameters.SubscriptionIds = [ua.UInt32(one) for one in self.all]
        parameters.SendInitialValues = True
        async with asyncio.timeout(REQUEST_TIMEOUT_S):
            results = await connection.client.uaclient.session.transfer_subscriptions(parameters)
        for result in results:
            result.StatusCode.check()
        return {one: list(result.AvailableSequenceNumbers or ()) for one, result in zip(self.all, results, strict=True)}

    async def _republish(self, connection: Connection, subscription: Subscription, numbers: Iterable[int]) -> None:
        for number in sorted(numbers):
            if number <= subscription.sequence:
                self._acks.append((subscription.id, number))
                continue
            if not await self._fetch(connection, subscription, number):
                self.counters["lost_notifications_total"] += 1
            subscription.sequence = number

    async def _republish_rest(self, connection: Connection, subscription: Subscription) -> None:
        """Fetch what the server sent into the broken connection; it says that with the first number it has not."""
        while await self._fetch(connection, subscription, subscription.sequence + 1):
            subscription.sequence += 1

    async def _fetch(self, connection: Connection, subscription: Subscription, number: int) -> bool:
        """Ask for a message again, and put it with those that wait. Returns False when the server has it not."""
        async with asyncio.timeout(REQUEST_TIMEOUT_S):
            try:
                message = await connection.client.uaclient.session.republish(subscription.id, number)
            except ua.UaStatusCodeError as error:
                if error.code != ua.StatusCodes.BadMessageNotAvailable:
                    raise
                return False
            except (ValueError, LookupError, struct.error):
                return False  # bytes that mean nothing would mean nothing the next time, too
        if not message.NotificationData:
            return False
        self.counters["republished_total"] += 1
        self._put(of_message(message, subscription.id, []))
        return True

    async def delete(self, connection: Connection) -> None:
        """Delete what was made here and is made anew elsewhere: a server may allow few. What it has not is fine."""
        made, self._made = list(self._made), set()
        if made:
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                with suppress(ua.UaStatusCodeError):
                    await connection.client.uaclient.session.delete_subscriptions(made)

    def start(self, connection: Connection) -> None:
        """Begin to publish on a connection, unless it was begun."""
        if self._tasks:
            return
        self.broken = ""
        for _ in range(PUBLISHES):
            task = asyncio.create_task(self._publish(connection), name="opcua-publish")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """End publishing. What has been received stays in `waiting`."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _publish(self, connection: Connection) -> None:
        while True:
            check_cancelled()
            await self._room.wait()
            acks, self._acks = self._acks, []
            request = ua.PublishRequest()
            request.Parameters.SubscriptionAcknowledgements = [
                ua.SubscriptionAcknowledgement(ua.UInt32(one), ua.UInt32(number)) for one, number in acks
            ]
            try:
                body = await connection.client.uaclient._send_request(request, timeout=0)
                notification = decode_publish(bytes(body))
            except ua.UaStatusCodeError as error:
                self.counters["publish_failures_total"] += 1
                if error.code == ua.StatusCodes.BadTimeout:
                    continue
                if error.code == ua.StatusCodes.BadNoSubscription:
                    self.all.clear()
                if error.code != ua.StatusCodes.BadTooManyPublishRequests:
                    self._break(type(error).__name__)
                elif len(self._tasks) == 1:
                    await self._clock.sleep(KEEP_ALIVE_S)
                    continue
                return
            except Exception as error:
                # The connection broke, or its bytes are no message: the channel is out of step.
                self._break(str(error) or type(error).__name__)
                return
            try:
                async with self._taking:  # one that waits for what is missing keeps the later ones waiting
                    await self._take(connection, notification)
            except Exception as error:
                # A notification half taken is lost here: the connection ends, and the server is asked for it again.
                self._break(str(error) or type(error).__name__)
                return

    def _break(self, reason: str) -> None:
        self.broken = self.broken or reason
        self.arrived.set()

    async def _take(self, connection: Connection, notification: Notification) -> None:
        subscription = self.all.get(notification.subscription)
        if subscription is None:
            return
        announced = notification.sequence - 1 if notification.keeps_alive else notification.sequence
        missing = notification.sequence - subscription.sequence - 1
        if announced > subscription.sequence and missing:
            kept = [n for n in notification.available if subscription.sequence < n < notification.sequence]
            if subscription.sequence:
                self.counters["lost_notifications_total"] += missing - len(kept)
            await self._republish(connection, subscription, kept)
        subscription.heard = self._clock.monotonic()
        if notification.keeps_alive:
            subscription.sequence = max(subscription.sequence, announced)
            return
        if notification.sequence <= subscription.sequence and subscription.sequence - notification.sequence < 2**31:
            self._acks.append((subscription.id, notification.sequence))  # republished meanwhile
            return
        subscription.sequence = notification.sequence
        if len(notification.values):
            subscription.told = subscription.heard
        for part in notification.other:
            if isinstance(part, ua.StatusChangeNotification) and part.Status is not None and part.Status.is_bad():
                self._break(part.Status.name)
                self.all.clear()  # all are made anew: its variables must not stay behind
        self._put(notification)

    def _put(self, notification: Notification) -> None:
        self.waiting.append(notification)
        self.arrived.set()
        if len(self.waiting) >= WAITING_MAX:
            self._room.clear()

    def take(self) -> list[Notification]:
        """Return what has come since. It is acknowledged by `confirm`."""
        taken = list(self.waiting)
        self.waiting.clear()
        self.arrived.clear()
        self._room.set()
        return taken

    def confirm(self, taken: Iterable[Notification]) -> None:
        """Acknowledge what has been stored; until then the server keeps it."""
        self._acks += [(one.subscription, one.sequence) for one in taken]

    def silent(self) -> Subscription | None:
        """Return a subscription from which nothing has come for too long, not even a keep-alive."""
        now = self._clock.monotonic()
        return next((one for one in self.all.values() if now - one.heard > one.silence), None)


def _item(wanted: Wanted) -> ua.MonitoredItemCreateRequest:
    request = ua.MonitoredItemCreateRequest()
    request.ItemToMonitor.NodeId = wanted.node
    request.ItemToMonitor.AttributeId = ua.AttributeIds.Value
    request.MonitoringMode = ua.MonitoringMode.Reporting
    parameters = ua.MonitoringParameters()
    parameters.ClientHandle = ua.UInt32(wanted.handle)
    parameters.SamplingInterval = ua.Double(wanted.sampling * 1000)
    parameters.QueueSize = ua.UInt32(wanted.queue)
    parameters.DiscardOldest = True
    if wanted.deadband:
        band = ua.DataChangeFilter()
        band.Trigger = ua.DataChangeTrigger.StatusValue
        band.DeadbandType = ua.UInt32(ua.DeadbandType.Absolute)
        band.DeadbandValue = ua.Double(wanted.deadband)
        parameters.Filter = band
    request.RequestedParameters = parameters
    return request


async def _ask(connection: Connection, request: Any) -> Any:
    async with asyncio.timeout(REQUEST_TIMEOUT_S):
        return await connection.client.uaclient._send_request(request)
