"""Values a second that a Read and a Publish response give, from their bytes to columns: ours beside asyncua's decoder.

Both ways end in the same columns. asyncua: its response objects, then `row` for each value, then a batch a lane.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua.ua_binary import struct_from_binary, struct_to_binary

from drivers.opcua.decode import Values, decode_publish, decode_read
from drivers.opcua.rows import Items
from edge.core.catalogue import Catalogue, ValueKind

VALUES = 2000
REPEATS = 15
MIXED = ("Double", "Int32", "Boolean", "Float", "UInt64", "Double", "UInt16", "Double")
_KIND = {"Boolean": ValueKind.BOOL, "Int32": ValueKind.INT64, "UInt16": ValueKind.INT64, "UInt64": ValueKind.UINT64}


def messages(types: tuple[str, ...], second: int) -> tuple[bytes, bytes, list[ValueKind]]:
    """Return a Read and a Publish response of `VALUES` values of that second, and the values' kinds."""
    now = datetime(2026, 1, 2, 3, 4, second, 678_900, UTC)
    data, kinds = [], []
    for number in range(VALUES):
        name = types[number % len(types)]
        value: Any = number % 2 == 0 if name == "Boolean" else number * 1.5 if name in ("Double", "Float") else number
        variant = ua.Variant(value, getattr(ua.VariantType, name))
        data.append(ua.DataValue(variant, SourceTimestamp=now, ServerTimestamp=now))  # type: ignore[arg-type]
        kinds.append(_KIND.get(name, ValueKind.FLOAT64))
    read = ua.ReadResponse()
    read.Results = data
    publish = ua.PublishResponse()
    publish.Parameters.SubscriptionId = 7
    items = [ua.MonitoredItemNotification(ua.UInt32(at), one) for at, one in enumerate(data)]
    change = ua.DataChangeNotification(MonitoredItems=items)
    publish.Parameters.NotificationMessage.NotificationData = [change]
    return struct_to_binary(read), struct_to_binary(publish), kinds


def items(kinds: list[ValueKind]) -> Items:
    """Return the tags that the values belong to."""
    catalogue = Catalogue()
    table = Items()
    for number, kind in enumerate(kinds):
        table.add(catalogue.intern("machine", f"tag-{number}", kind))
    return table


def best(work: Callable[[bytes], object], given: list[bytes]) -> float:
    """Return the least CPU seconds of several runs. The messages take turns, so that each value is new."""
    times = []
    for turn in range(REPEATS):
        start = time.process_time()
        work(given[turn % len(given)])
        times.append(time.process_time() - start)
    return min(times)


def main() -> None:
    """Print the figures."""
    print(f"{VALUES} values a response          asyncua      ours   (values a second and core)   ratio   target")
    for title, types in (("Double", ("Double",)), ("mixed types", MIXED)):
        made = [messages(types, second) for second in range(3)]
        reads, publishes = [one[0] for one in made], [one[1] for one in made]
        table, now = items(made[0][2]), time.time_ns()

        def slow_read(body: bytes, table: Items = table, now: int = now) -> None:
            response = struct_from_binary(ua.ReadResponse, Buffer(body))
            table.batches(Values(rest=[(at, at, one) for at, one in enumerate(response.Results)]), now)

        def slow_publish(body: bytes, table: Items = table, now: int = now) -> None:
            message = struct_from_binary(ua.PublishResponse, Buffer(body)).Parameters.NotificationMessage
            found = message.NotificationData[0].MonitoredItems
            table.batches(Values(rest=[(at, one.ClientHandle, one.Value) for at, one in enumerate(found)]), now)

        def fast_read(body: bytes, table: Items = table, now: int = now) -> None:
            table.batches(decode_read(body), now)

        def fast_publish(body: bytes, table: Items = table, now: int = now) -> None:
            table.batches(decode_publish(body).values, now)

        for name, slow, fast, given in (
            ("Read", slow_read, fast_read, reads),
            ("Publish", slow_publish, fast_publish, publishes),
        ):
            theirs, ours = VALUES / best(slow, given), VALUES / best(fast, given)
            print(f"  {name + ', ' + title:22} {theirs:12,.0f} {ours:12,.0f} {'':26} {ours / theirs:7.1f}   5")


if __name__ == "__main__":
    main()
