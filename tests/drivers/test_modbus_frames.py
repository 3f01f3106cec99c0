"""Frames against the specification's own examples, and whatever else may come over the wire."""

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.modbus.frame import Answer, OutOfStep, RtuFraming, TcpFraming, WrongAnswer
from drivers.modbus.image import Image
from drivers.modbus.plan import Request
from drivers.modbus.section import ModbusSection
from edge.core.batch import Batch
from simulators.modbus import crc

# Modbus Application Protocol 1.1b3, 6.1 to 6.4: request and answer PDUs of the worked examples, and what they mean.
EXAMPLES: list[tuple[Request, str, str, dict[str, Any], list[int]]] = [
    (
        Request("coil", 0x13, 0x13), "01 00 13 00 13", "01 03 CD 6B 05", {"at": "coil/19", "type": "bool[19]"},
        [1, 0, 1, 1, 0, 0, 1, 1, 1, 1, 0, 1, 0, 1, 1, 0, 1, 0, 1],
    ),
    (
        Request("discrete", 0xC4, 0x16), "02 00 C4 00 16", "02 03 AC DB 35", {"at": "discrete/196", "type": "bool[22]"},
        [0, 0, 1, 1, 0, 1, 0, 1, 1, 1, 0, 1, 1, 0, 1, 1, 1, 0, 1, 0, 1, 1],
    ),
    (
        Request("holding", 0x6B, 3), "03 00 6B 00 03", "03 06 02 2B 00 00 00 64",
        {"at": "holding/107", "type": "u16[3]"}, [555, 0, 100],
    ),
    (Request("input", 8, 1), "04 00 08 00 01", "04 02 00 0A", {"at": "input/8", "type": "u16[1]"}, [10]),
]  # fmt: skip


@pytest.mark.parametrize(("request_", "asked", "answered", "tag", "values"), EXAMPLES)
def test_the_specifications_examples(
    request_: Request, asked: str, answered: str, tag: dict[str, Any], values: list[int]
) -> None:
    """Bit order included: the library has turned it round twice."""
    tcp, rtu = TcpFraming(), RtuFraming()
    frame = tcp.request(17, request_)
    assert frame[2:] == b"\0\0\0\x06\x11" + bytes.fromhex(asked)
    pdu = bytes.fromhex(answered)
    received = bytearray(frame[:2] + b"\0\0" + (len(pdu) + 1).to_bytes(2, "big") + b"\x11" + pdu)
    answer = tcp.take(received)
    assert answer == Answer(pdu[2:])
    frame = rtu.request(17, request_)
    body = b"\x11" + bytes.fromhex(asked)
    assert frame == body + crc(body)
    assert rtu.take(bytearray(b"\x11" + pdu + crc(b"\x11" + pdu))) == answer
    section = ModbusSection.model_validate({"modbus": "tcp://127.0.0.1", "tags": {"t": tag}})
    names = [f"t[{place}]" for place in range(len(values))]
    image = Image(section.tags, {name: n for n, name in enumerate(names)}, section.order, section.limits)
    assert image.requests == [request_]
    image.fill(0, pdu[2:])
    (batch,) = image.decode(0, [0])
    assert isinstance(batch, Batch)
    assert dict(zip(batch.tag.tolist(), batch.value.tolist(), strict=True)) == dict(enumerate(values))


def test_the_checksum_of_the_serial_line_specification() -> None:
    """02 07 → 41 12 (Modbus over Serial Line 1.02, 6.2.2)."""
    assert crc(b"\x02\x07") == b"\x41\x12"


REQUEST = Request("holding", 100, 2)


def answer(unit: int = 1, function: int = 3, data: bytes = b"\0\x07\0\x08") -> bytes:
    return bytes([unit, function, len(data)]) + data


def mbap(transaction: int, body: bytes, protocol: int = 0, length: int | None = None) -> bytes:
    return (
        transaction.to_bytes(2, "big") + protocol.to_bytes(2, "big") + (length or len(body)).to_bytes(2, "big") + body
    )


def test_a_late_and_a_second_answer_are_strays() -> None:
    framing = TcpFraming()
    first = int.from_bytes(framing.request(1, REQUEST)[:2], "big")
    second = int.from_bytes(framing.request(1, REQUEST)[:2], "big")
    received = bytearray(mbap(first, answer(data=b"\0\1\0\1")) + mbap(second, answer()) + mbap(second, answer()))
    assert framing.take(received) == Answer(b"\0\x07\0\x08")
    assert framing.strays == 1
    framing.drop(received)
    assert (framing.strays, len(received)) == (2, 0)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (answer(unit=2), "unit 2 answered"),
        (answer(function=4), "function 4"),
        (answer(data=b"\0\1"), "2 bytes were answered, 4"),
        (b"\x01\x03\x02\0\1\0\2", "4 bytes"),
    ],
)
def test_an_answer_with_our_transaction_and_anything_else_wrong_is_refused(body: bytes, words: str) -> None:
    framing = TcpFraming()
    transaction = int.from_bytes(framing.request(1, REQUEST)[:2], "big")
    with pytest.raises(WrongAnswer, match=words):
        framing.take(bytearray(mbap(transaction, body)))


@pytest.mark.parametrize(("protocol", "length"), [(1, None), (0, 1), (0, 300), (0, 65535)])
def test_a_head_that_cannot_be_puts_the_connection_out_of_step(protocol: int, length: int | None) -> None:
    framing = TcpFraming()
    framing.request(1, REQUEST)
    with pytest.raises(OutOfStep):
        framing.take(bytearray(mbap(1, answer(), protocol, length)))


@given(st.binary(max_size=60), st.binary(max_size=60), st.integers(1, 30))
def test_an_rtu_answer_is_found_in_any_noise_and_in_any_pieces(before: bytes, after: bytes, piece: int) -> None:
    framing = RtuFraming()
    framing.request(1, REQUEST)
    frame = answer() + crc(answer())
    received, found = bytearray(), None
    stream = before + frame + after
    for place in range(0, len(stream), piece):
        received += stream[place : place + piece]
        found = found or framing.take(received)
    assert found == Answer(b"\0\x07\0\x08")


@given(st.binary(max_size=300), st.sampled_from([TcpFraming, RtuFraming]))
def test_noise_is_never_an_answer(noise: bytes, framing: type[TcpFraming | RtuFraming]) -> None:
    """Not one in 65,536: noise must meet unit, function and length before its checksum counts."""
    made = framing()
    made.request(247, REQUEST)
    with contextlib.suppress(WrongAnswer):
        assert made.take(bytearray(noise)) is None


@given(st.integers(0, 255), st.integers(0, 255), st.binary(max_size=20))
def test_an_rtu_frame_of_another_unit_or_function_is_none_of_ours(unit: int, function: int, data: bytes) -> None:
    framing = RtuFraming()
    framing.request(1, REQUEST)
    body = bytes([unit, function, len(data)]) + data
    taken = framing.take(bytearray(body + crc(body)))
    assert taken is None or (unit, function, len(data)) == (1, 3, 4) or taken.exception
