"""The fast decoder gives what asyncua's gives, for every DataValue; and refuses what is no response."""

import math
from datetime import UTC, datetime
from typing import Any

import pytest
from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua.ua_binary import struct_from_binary, struct_to_binary
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.opcua.decode import Values, decode_publish, decode_read
from drivers.opcua.rows import Items
from edge.core.batch import Batch
from edge.core.catalogue import Catalogue, ValueKind

NOW = 1_700_000_000_000_000_000
INTEGERS = {"SByte": (8, True), "Byte": (8, False), "Int16": (16, True), "UInt16": (16, False), "Int32": (32, True),
            "UInt32": (32, False), "Int64": (64, True), "UInt64": (64, False)}  # fmt: skip


def integers(bits: int, signed: bool) -> st.SearchStrategy[int]:
    return st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else st.integers(0, 2**bits - 1)


SCALARS: dict[str, st.SearchStrategy[Any]] = {name: integers(*form) for name, form in INTEGERS.items()} | {
    "Boolean": st.booleans(),
    "Float": st.floats(width=32),
    "Double": st.floats(),
    "String": st.none() | st.text(max_size=6),
    "ByteString": st.none() | st.binary(max_size=6),
    "DateTime": st.datetimes(datetime(1602, 1, 1), datetime(9000, 1, 1), timezones=st.just(UTC)),
    "LocalizedText": st.builds(ua.LocalizedText, st.text(max_size=4), st.none() | st.just("zh-CN")),
}


@st.composite
def variants(draw: st.DrawFn) -> ua.Variant:
    name = draw(st.sampled_from([*SCALARS, "Null", "Variant"]))
    if name == "Null":
        return ua.Variant()
    if name == "Variant":
        inner = st.lists(st.builds(ua.Variant, st.integers(0, 9), st.just(ua.VariantType.Int32)), max_size=3)
        return ua.Variant(draw(inner), ua.VariantType.Variant, is_array=True)
    kind = getattr(ua.VariantType, name)
    if draw(st.integers(0, 5)) == 0:
        return ua.Variant(draw(st.lists(SCALARS[name], max_size=3)), kind, is_array=True)
    return ua.Variant(draw(SCALARS[name]), kind)


stamps = st.none() | st.datetimes(datetime(1602, 1, 1), datetime(9000, 1, 1), timezones=st.just(UTC))


@st.composite
def data_values(draw: st.DrawFn) -> ua.DataValue:
    source, server = draw(stamps), draw(stamps)
    status = draw(st.none() | st.sampled_from([0, 0x40910000, 0x808C0000, 0x480, 0x80340000]))
    return ua.DataValue(
        draw(st.none() | variants()),
        ua.StatusCode(ua.UInt32(status)) if status is not None else None,
        source,  # type: ignore[arg-type]
        server,  # type: ignore[arg-type]
        # asyncua writes both picosecond fields last; the standard puts the source's before the server's time.
        draw(st.none() | st.just(ua.UInt16(7))) if source is not None else None,
        draw(st.none() | st.just(ua.UInt16(9))),
    )


def batches(values: Values, kinds: list[ValueKind]) -> list[Batch]:
    catalogue, table = Catalogue(), Items()
    for number, kind in enumerate(kinds):
        table.add(catalogue.intern("machine", f"t{number}", kind))
    return sorted(table.batches(values, NOW), key=lambda batch: batch.lane)


def exact(found: list[Batch]) -> list[Any]:
    """The columns with the bits of every number, so that -0.0, NaN and 2⁶³ are told apart."""
    return [
        (batch.lane, batch.tag.tolist(), batch.ts.tolist(), batch.quality.tolist(),
         [("nan" if math.isnan(one) else one.hex()) if isinstance(one, float) else one for one in batch.value.tolist()])
        for batch in found
    ]  # fmt: skip


KINDS = st.sampled_from([kind for kind in ValueKind if kind is not ValueKind.WAVEFORM])


@settings(max_examples=120, deadline=None)
@given(st.lists(st.tuples(data_values(), KINDS), max_size=12))
def test_a_read_response_gives_the_same_rows_both_ways(given: list[tuple[ua.DataValue, ValueKind]]) -> None:
    response = ua.ReadResponse()
    response.Results = [data for data, _ in given]
    body = struct_to_binary(response)
    kinds = [kind for _, kind in given]
    theirs = struct_from_binary(ua.ReadResponse, Buffer(body)).Results
    slowly = Values(rest=[(at, at, data) for at, data in enumerate(theirs)])
    assert exact(batches(decode_read(body), kinds)) == exact(batches(slowly, kinds))


@settings(max_examples=120, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 5), data_values()), max_size=12),
    st.lists(KINDS, min_size=4, max_size=4),
    st.lists(st.integers(0, 2**32 - 1), max_size=3),
    st.booleans(),
)
def test_a_publish_response_gives_the_same_rows_both_ways(
    given: list[tuple[int, ua.DataValue]], kinds: list[ValueKind], available: list[int], event: bool
) -> None:
    """Handles repeat, as from a queue, and some are of nobody; an event beside them comes through too."""
    response = ua.PublishResponse()
    parameters = response.Parameters
    parameters.SubscriptionId, parameters.AvailableSequenceNumbers = ua.UInt32(77), available
    parameters.NotificationMessage.SequenceNumber = ua.UInt32(5)
    items = [ua.MonitoredItemNotification(ua.UInt32(handle), data) for handle, data in given]
    parts: list[Any] = [ua.DataChangeNotification(MonitoredItems=items)]
    if event:
        fields = [ua.Variant("hot", ua.VariantType.String)]
        parts.append(ua.EventNotificationList(Events=[ua.EventFieldList(ua.UInt32(3), fields)]))
    parameters.NotificationMessage.NotificationData = parts
    body = struct_to_binary(response)
    message = struct_from_binary(ua.PublishResponse, Buffer(body)).Parameters.NotificationMessage
    theirs = [(at, item.ClientHandle, item.Value) for at, item in enumerate(message.NotificationData[0].MonitoredItems)]
    ours = decode_publish(body)
    assert (ours.subscription, ours.sequence, ours.available) == (77, 5, available)
    assert len(ours.other) == event
    assert exact(batches(ours.values, kinds)) == exact(batches(Values(rest=theirs), kinds))


def test_picoseconds_of_the_source_stand_before_the_servers_time() -> None:
    """OPC 10000-6, 5.2.2.17: a server's bytes with all six fields; the source's time is absent in the second."""
    second = 10_000_000
    first = (133_500_000_000_000_000).to_bytes(8, "little")
    later = (133_500_000_000_000_000 + second).to_bytes(8, "little")
    head = struct_to_binary(ua.ReadResponse())[:28]
    both = bytes([0x3D, 4]) + (-5).to_bytes(2, "little", signed=True) + first + b"\x07\x00" + later + b"\x09\x00"
    server = bytes([0x39, 4]) + (6).to_bytes(2, "little") + b"\x07\x00" + later + b"\x09\x00"
    body = head + (2).to_bytes(4, "little") + both + server + bytes(4)
    (found,) = batches(decode_read(body), [ValueKind.INT64] * 2)
    assert found.value.tolist() == [-5, 6]
    assert (found.ts[1] - found.ts[0]) == 10**9


def test_a_service_fault_is_raised_with_its_code() -> None:
    response = ua.ReadResponse()
    response.ResponseHeader.ServiceResult = ua.StatusCode(ua.UInt32(ua.StatusCodes.BadTooManyOperations))
    with pytest.raises(ua.UaStatusCodeError) as failed:
        decode_read(struct_to_binary(response))
    assert failed.value.code == ua.StatusCodes.BadTooManyOperations


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=60), st.integers(0, 200))
def test_cut_and_foreign_bytes_never_give_a_value(noise: bytes, cut: int) -> None:
    """Whatever arrives, decoding ends with an error or with the message's own values."""
    response = ua.ReadResponse()
    response.Results = [ua.DataValue(ua.Variant(number, ua.VariantType.Double)) for number in range(8)]
    whole = struct_to_binary(response)
    body = whole[: min(cut, len(whole) - 5)]
    for bad in (body, noise):
        try:
            values = decode_read(bad)
        except Exception:
            continue
        assert not len(values)
