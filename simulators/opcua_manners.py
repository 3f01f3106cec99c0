"""How a simulated OPC UA server behaves towards its clients: what it takes at once, and what it cannot do."""

import dataclasses
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from asyncua import ua
from asyncua.common.utils import ServiceError
from asyncua.server.internal_server import InternalServer
from asyncua.server.internal_session import InternalSession
from asyncua.server.internal_subscription import InternalSubscription

_OVERFLOW = 0x480


@dataclass
class Manners:
    """How a server behaves; may be changed while it runs.

    per_call       operations it takes in one call, 0 for any number; more are BadTooManyOperations
    stated         what it says of that
    subscriptions  how many a session may have
    items          how many monitored items there may be
    dead_bands     whether it filters by dead-bands
    transfers      whether it gives a subscription to another session
    calls          what was asked of it, and with how many operations, by service
    """

    per_call: int = 0
    stated: int = 0
    subscriptions: int = 100
    items: int = 100_000
    dead_bands: bool = True
    transfers: bool = True
    calls: Counter[str] = field(default_factory=Counter)
    operations: Counter[str] = field(default_factory=Counter)

    def count(self, service: str, operations: int) -> None:
        """Count a call. Raises ServiceError when it asks for too much."""
        self.calls[service] += 1
        self.operations[service] += operations
        if 0 < self.per_call < operations:
            raise ServiceError(ua.StatusCodes.BadTooManyOperations)


class Session(InternalSession):
    """A session with manners."""

    manners: Manners

    async def read(self, params: Any) -> Any:
        self.manners.count("read", len(params.NodesToRead))
        return await super().read(params)

    async def browse(self, params: Any) -> Any:
        self.manners.count("browse", len(params.NodesToBrowse))
        return await super().browse(params)

    async def history_read(self, params: Any) -> Any:
        self.manners.count("history", len(params.NodesToRead))
        return await super().history_read(params)

    async def create_subscription(self, params: Any, callback: Any, request_callback: Any = None) -> Any:
        if len(self.own_subscriptions()) >= self.manners.subscriptions:
            raise ServiceError(ua.StatusCodes.BadTooManySubscriptions)
        result = await super().create_subscription(params, callback, request_callback)
        _mark_overflows(self.subscription_service.subscriptions[result.SubscriptionId])
        return result

    async def create_monitored_items(self, params: Any) -> Any:
        self.manners.count("items", len(params.ItemsToCreate))
        results, taken = [], list(params.ItemsToCreate)
        for item in taken:
            held = sum(len(one.monitored_item_srv._monitored_items) for one in self.own_subscriptions())
            refusal = ua.MonitoredItemCreateResult()
            if held >= self.manners.items:
                refusal.StatusCode = ua.StatusCode(ua.UInt32(ua.StatusCodes.BadTooManyMonitoredItems))
            elif not self.manners.dead_bands and hasattr(item.RequestedParameters.Filter, "DeadbandValue"):
                refusal.StatusCode = ua.StatusCode(ua.UInt32(ua.StatusCodes.BadMonitoredItemFilterUnsupported))
            else:
                params.ItemsToCreate = [item]
                results += await super().create_monitored_items(params)
                continue
            results.append(refusal)
        return results

    async def transfer_subscriptions(self, params: Any, callback: Any) -> Any:  # type: ignore[override]
        self.manners.count("transfer", len(params.SubscriptionIds))
        if not self.manners.transfers:
            raise ServiceError(ua.StatusCodes.BadServiceUnsupported)
        results = await super().transfer_subscriptions(params, callback)
        for each in params.SubscriptionIds:
            if moved := self.subscription_service.subscriptions.get(int(each)):
                moved.pub_request_callback = callback.__self__.get_publish_request  # asyncua leaves the old one
        return results

    def republish(self, params: Any) -> Any:
        self.manners.count("republish", 1)
        return super().republish(params)

    def own_subscriptions(self) -> list[InternalSubscription]:
        """Return this session's subscriptions."""
        every = self.subscription_service.subscriptions.values()
        return [one for one in every if one.session_id == self.session_id]


def give_manners(server: InternalServer, manners: Manners) -> None:
    """Let all sessions of a server that come from now on have these manners."""
    own = type("OwnSession", (Session,), {"manners": manners})

    def create(name: str, user: Any = None, external: bool = False) -> InternalSession:
        session: InternalSession = own(server, server.aspace, server.subscription_service, name, external=external)
        return session

    server.create_session = create  # type: ignore[method-assign]


def _mark_overflows(subscription: InternalSubscription) -> None:
    """Let a subscription say where its queue overflowed, as the standard has it and asyncua does not."""
    plain = subscription._enqueue_event

    async def enqueue(item: int, data: Any, size: int, queue: dict[int, list[Any]]) -> None:
        full = 0 < size <= len(queue.get(item, ()))
        await plain(item, data, size, queue)
        if full and isinstance(oldest := queue[item][0], ua.MonitoredItemNotification):
            status = int(oldest.Value.StatusCode.value) | _OVERFLOW
            marked = dataclasses.replace(oldest.Value, StatusCode=ua.StatusCode(ua.UInt32(status)))
            queue[item][0] = ua.MonitoredItemNotification(oldest.ClientHandle, marked)

    subscription._enqueue_event = enqueue  # type: ignore[assignment, method-assign]
