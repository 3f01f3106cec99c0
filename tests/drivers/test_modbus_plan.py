"""Planning and decoding as properties: fewest requests, nothing outside, every value from its own registers."""

import itertools
import math
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.modbus.endpoint import parse_url
from drivers.modbus.image import Image, element_names, kind_of
from drivers.modbus.plan import Request, Span, plan_requests, span_of, summarise
from drivers.modbus.section import Limits, ModbusSection, parse_address
from drivers.modbus.types import ORDERS, byte_places
from edge.core.batch import Batch, Waveform
from edge.core.catalogue import Catalogue
from edge.core.quality import StatusCode
from simulators.modbus import Unit

SPANS = st.lists(
    st.builds(
        Span,
        st.sampled_from(["coil", "discrete", "input", "holding"]),
        st.integers(0, 400) | st.integers(65_000, 65_400),
        st.integers(1, 12) | st.integers(100, 130),
    ),
    max_size=30,
)
LIMITS = st.builds(
    lambda registers, bits, gap: Limits(registers=registers, bits=bits, gap=gap),
    st.integers(1, 125),
    st.integers(1, 300),
    st.integers(0, 30),
)


def addresses(request: Request | Span) -> set[tuple[str, int]]:
    return {(request.table, address) for address in range(request.address, request.address + request.count)}


@given(SPANS, LIMITS)
def test_every_span_is_read_by_legal_requests_within_the_gap_budget(spans: list[Span], limits: Limits) -> None:
    requests = plan_requests(spans, limits)
    wanted = {place for span in spans for place in addresses(span)}
    read = {place for request in requests for place in addresses(request)}
    assert wanted <= read
    for request in requests:
        bits = request.table in ("coil", "discrete")
        assert 1 <= request.count <= (limits.bits if bits else limits.registers)
        assert (request.table, request.address) in wanted, "nothing unused at the beginning"
        assert (request.table, request.address + request.count - 1) in wanted, "or at the end"
        unused = sorted(address for table, address in addresses(request) - wanted)
        run = 0
        for before, after in itertools.pairwise(unused):
            run = run + 1 if after == before + 1 else 0
            assert run < max(limits.gap * (16 if bits else 1), 1)


@given(SPANS, LIMITS)
def test_there_are_never_more_requests_than_one_a_tag(spans: list[Span], limits: Limits) -> None:
    longest = {"coil": limits.bits, "discrete": limits.bits, "input": limits.registers, "holding": limits.registers}
    alone = sum(math.ceil(span.count / longest[span.table]) for span in set(spans))
    assert len(plan_requests(spans, limits)) <= alone


def fewest(spans: list[Span], longest: int, gap: int) -> int:
    """Try all partitions: the obvious twin of the planner for a handful of spans of one table."""
    if not spans:
        return 0
    first, rest = spans[0], spans[1:]
    best = len(spans)
    for mask in range(1 << len(rest)):
        group = [first] + [span for place, span in enumerate(rest) if mask >> place & 1]
        end = group[0].end
        legal = True
        for span in group[1:]:
            legal = legal and span.address <= end + gap
            end = max(end, span.end)
        if legal and end - first.address <= longest:
            others = [span for place, span in enumerate(rest) if not mask >> place & 1]
            best = min(best, 1 + fewest(others, longest, gap))
    return best


@given(
    st.lists(st.builds(Span, st.just("holding"), st.integers(0, 40), st.integers(1, 6)), max_size=6),
    st.integers(6, 20),
    st.integers(0, 5),
)
def test_no_plan_has_fewer_requests(spans: list[Span], longest: int, gap: int) -> None:
    unique = sorted(set(spans), key=lambda span: (span.address, span.end))
    assert len(plan_requests(spans, Limits(registers=longest, gap=gap))) == fewest(unique, longest, gap)


def read(unit: Unit, request: Request) -> bytes:
    """The data bytes of a slave's answer."""
    function = {"coil": 1, "discrete": 2, "holding": 3, "input": 4}[request.table]
    answer = unit.answer(struct.pack(">BHH", function, request.address, request.count))
    assert answer is not None
    assert answer[0] == function
    return answer[2:]


TYPES = ("u16", "i16", "u32", "i32", "u64", "i64", "f32", "f64")


def numbers(kind: str) -> st.SearchStrategy[Any]:
    if kind[0] == "f":
        return st.floats(width=int(kind[1:]), allow_nan=False)  # type: ignore[arg-type]
    bits = int(kind[1:])
    return st.integers(0, 2**bits - 1) if kind[0] == "u" else st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


@st.composite
def devices(draw: st.DrawFn) -> tuple[Unit, dict[str, Any], dict[str, Any]]:
    """A slave with values of any type and order in any table, the tags that read them, and what they hold.

    Some values have a second tag, and some registers of a wide value a tag of their own.
    """
    unit, tags = Unit(), {}
    held: dict[str, Any] = {}
    ends = dict.fromkeys(("coil", "discrete", "input", "holding"), 0)
    for number in range(draw(st.integers(1, 15))):
        table = draw(st.sampled_from(sorted(ends)))
        address = ends[table] + draw(st.integers(0, 40))
        kind, order, value = "bool", "ABCD", draw(st.booleans())
        if table in ("input", "holding"):
            kind, order = draw(st.sampled_from(TYPES)), draw(st.sampled_from(ORDERS))
            value = draw(numbers(kind))
        unit.put(table, address, kind, value, order)
        ends[table] = address + (1 if kind == "bool" else int(kind[1:]) // 16)
        for twin in range(draw(st.integers(1, 2))):
            name = f"t{number}{'ab'[twin]}"
            tags[name] = {"at": f"{table}/{address}"} | ({} if kind == "bool" else {"type": kind, "order": order})
            held[name] = value
        if kind != "bool" and draw(st.booleans()):
            tags[f"t{number}w"] = {"at": f"{table}/{ends[table] - 1}"}
            held[f"t{number}w"] = unit.tables[table][ends[table] - 1]
    for table, end in ends.items():
        for place in range(end + 200):  # everything between exists, too
            unit.tables[table].setdefault(place, 1 if table in ("coil", "discrete") else 0xDEAD)
    names = draw(st.permutations(list(tags)))
    return unit, {name: tags[name] for name in names}, held


@given(devices(), st.integers(1, 125), st.integers(0, 40), st.data())
def test_decoding_what_was_planned_and_read_gives_back_what_the_device_holds(
    device: tuple[Unit, dict[str, Any], dict[str, Any]], registers: int, gap: int, data: st.DataObject
) -> None:
    """For any tag list, in any order, with any set of failed requests: a failure spoils its own values only."""
    unit, tags, held = device
    section = ModbusSection.model_validate(
        {"modbus": "tcp://127.0.0.1", "tags": tags, "limits": {"registers": max(registers, 4), "gap": gap}}
    )
    catalogue = Catalogue()
    ids = {name: catalogue.intern("d", name, kind_of(tag)).id for name, tag in section.tags.items()}
    image = Image(section.tags, ids, section.order, section.limits)
    assert len(image.requests) <= len(tags)
    failed = data.draw(st.sets(st.integers(0, len(image.requests) - 1)))
    statuses = []
    for number, request in enumerate(image.requests):
        if number in failed:
            statuses.append(int(StatusCode.BAD_TIMEOUT))
            continue
        image.fill(number, read(unit, request))
        statuses.append(0)
    seen = {}
    for record in image.decode(7, statuses):
        assert isinstance(record, Batch)
        for tag, value, quality in zip(
            record.tag.tolist(), record.value.tolist(), record.quality.tolist(), strict=True
        ):
            seen[catalogue[tag].name] = (catalogue[tag].present(value), quality)
    for name, tag in section.tags.items():
        lost = any(addresses(span_of(tag)) <= addresses(image.requests[n]) for n in failed)
        value, quality = seen[name]
        if lost and quality:
            assert quality == StatusCode.BAD_TIMEOUT
        else:
            assert (value, quality) == (held[name], 0)


@given(st.sampled_from([2, 4, 8]), st.data())
def test_the_four_orders_are_what_their_letters_say(width: int, data: st.DataObject) -> None:
    value = data.draw(st.binary(min_size=width, max_size=width))
    words = [value[place : place + 2] for place in range(0, width, 2)]
    wire = {
        "ABCD": b"".join(words),
        "CDAB": b"".join(reversed(words)),
        "BADC": b"".join(word[::-1] for word in words),
        "DCBA": value[::-1],
    }
    for order in ORDERS:
        assert bytes(wire[order][place] for place in byte_places(width, order)) == value


def test_a_long_waveform_is_read_by_consecutive_requests_and_comes_whole() -> None:
    unit = Unit()
    samples = [n % 4096 - 2048 for n in range(2048)]
    unit.put("holding", 1000, "i16", samples)
    section = ModbusSection.model_validate(
        {
            "modbus": "tcp://127.0.0.1",
            "tags": {"w": {"at": "holding/1000", "type": "i16[2048]", "rate": "6.4 kHz", "full_scale": "8 g"}},
        }
    )
    assert section.problems() == []
    image = Image(section.tags, {"w": 1}, section.order, section.limits)
    assert len(image.requests) == math.ceil(2048 / 125)
    for number, request in enumerate(image.requests):
        image.fill(number, read(unit, request))
    (wave,) = image.decode(7, [0] * len(image.requests))
    assert isinstance(wave, Waveform)
    assert (wave.rate_hz, wave.full_scale, wave.samples.tolist()) == (6400.0, 8.0, samples)
    (bad,) = image.decode(7, [0] * 16 + [int(StatusCode.BAD_TIMEOUT)])
    assert isinstance(bad, Waveform)
    assert bad.quality == StatusCode.BAD_TIMEOUT


def test_arrays_are_elements_with_names() -> None:
    tag = ModbusSection.model_validate(
        {"modbus": "tcp://127.0.0.1", "tags": {"t": {"at": "input/0", "type": "f32[3]"}}}
    ).tags["t"]
    assert element_names("t", tag) == ["t[0]", "t[1]", "t[2]"]


def test_500_single_register_tags_take_four_requests() -> None:
    assert len(plan_requests([Span("holding", address, 1) for address in range(500)], Limits())) == 4


def test_a_slow_line_is_estimated_by_its_speed() -> None:
    tags = {f"t{n}": {"at": f"holding/{n * 100}", "type": "u16"} for n in range(20)}
    section = ModbusSection.model_validate({"modbus": "rtu:/dev/ttyS0?9600-8N1", "every": "100ms", "tags": tags})
    plan = summarise(section, 1.0)
    assert (plan.requests_per_cycle, plan.registers_per_cycle, plan.cycle_ms_asked) == (20, 20, 100)
    characters_ms = 20 * (8 + 7) * 10 / 9600 * 1e3
    assert characters_ms < plan.cycle_ms_estimated < 3 * characters_ms


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("holding/0", "holding/0"),
        ("coil/65535", "coil/65535"),
        ("40001", "holding/0"),
        ("400001", "holding/0"),
        ("30007", "input/6"),
        ("10001", "discrete/0"),
        ("00001", "coil/0"),
        ("holding/65536", None),
        ("holding/-1", None),
        ("40000", None),
        ("50001", None),
        ("register/1", None),
        ("", None),
    ],
)
def test_addresses(text: str, address: str | None) -> None:
    parsed = parse_address(text)
    assert (str(parsed) if parsed else None) == address


@pytest.mark.parametrize(
    ("url", "line"),
    [
        ("tcp://10.0.0.5", "tcp://10.0.0.5:502"),
        ("tcp://10.0.0.5:1502", "tcp://10.0.0.5:1502"),
        ("rtu+tcp://10.0.0.5:4001", "rtu+tcp://10.0.0.5:4001"),
        ("rtu:/dev/ttyUSB0?19200-8E1", "serial:/dev/ttyUSB0"),
        ("rtu:/dev/ttyUSB0", "serial:/dev/ttyUSB0"),
        ("rtu+tcp://10.0.0.5", None),
        ("tcp://", None),
        ("tcp://host:99999", None),
        ("rtu:/dev/ttyUSB0?fast", None),
        ("http://host", None),
    ],
)
def test_endpoints(url: str, line: str | None) -> None:
    endpoint = parse_url(url)
    assert (endpoint.line if endpoint else None) == line
