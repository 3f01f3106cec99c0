"""What stands in the messages of the JSON view, in every shape, and that all of it is JSON which loses nothing."""

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.core.batch import Batch, Event, Lane, Record, Severity, Waveform
from edge.core.catalogue import Catalogue, ValueKind
from edge.core.delivery import Gap, Parcel, Priority
from edge.core.quality import StatusCode
from tests.core.strategies import events, waveforms
from uplink.plain.messages import Message, Renderer
from uplink.plain.section import JsonSection

SITE = "chongqing/plant-1"
START = 1_767_225_600_000_000_000
CATALOGUE = Catalogue()
TAGS = {
    name: CATALOGUE.intern("pump-3", name, kind, unit)
    for name, kind, unit in (
        ("temperature", ValueKind.FLOAT64, "degC"),
        ("count", ValueKind.INT64, "pcs"),
        ("energy", ValueKind.UINT64, "Wh"),
        ("running", ValueKind.BOOL, ""),
        ("program", ValueKind.TEXT, ""),
        ("vibration", ValueKind.WAVEFORM, "g"),
    )
}
OTHER = CATALOGUE.intern("press-1", "temperature", ValueKind.FLOAT64, "degC")


def render(*records: Record, gaps: tuple[Gap, ...] = (), backlog: bool = False, **settings: Any) -> list[Message]:
    section = JsonSection.model_validate({"json": "mqtt://127.0.0.1", **settings})
    priority = Priority.BACKLOG if backlog else Priority.LIVE
    parcel = Parcel(7, 1, records, gaps, historical=backlog, priority=priority)
    return Renderer(section, SITE, CATALOGUE).messages(parcel)


def read(payload: bytes) -> Any:
    """Parse JSON as RFC 8259 has it: no NaN, no Infinity."""

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    return json.loads(payload, parse_constant=refuse)


def rows(
    lane: Lane, name: str, values: list[Any], quality: int | list[int] = StatusCode.GOOD, ts: int = START
) -> Batch:
    return Batch.of(lane, [TAGS[name].id] * len(values), [ts + n * 10**9 for n in range(len(values))], values, quality)


def poll() -> tuple[Batch, ...]:
    return (
        rows(Lane.FLOAT, "temperature", [20.5, 21.5]),
        rows(Lane.INT, "count", [7, 8], [StatusCode.GOOD, StatusCode.BAD_NO_COMMUNICATION]),
        rows(Lane.INT, "running", [1, 0]),
    )


def test_the_long_shape_is_an_object_a_reading() -> None:
    first, *_, last = render(*poll())
    assert first.topic == "chongqing/plant-1/pump-3"
    assert read(first.payload) == {
        "device": "pump-3",
        "tag": "temperature",
        "unit": "degC",
        "ts": "2026-01-01T00:00:00.000000Z",
        "value": 20.5,
        "quality": "0x00000000",
    }
    assert read(last.payload)["value"] is False
    assert "unit" not in read(last.payload), "it has none"


def test_the_wide_shape_is_an_object_a_device_and_time() -> None:
    first, second = (read(message.payload) for message in render(*poll(), shape="wide"))
    assert first == {
        "device": "pump-3",
        "ts": "2026-01-01T00:00:00.000000Z",
        "temperature": 20.5,
        "count": 7,
        "running": True,
    }
    assert (second["count"], second["count_quality"]) == (None, "0x80310000"), "what is not good says so"
    assert len(render(*poll(), rows(Lane.INT, "count", [9]), shape="wide")) == 3, "a second value of one time is kept"


def test_a_value_that_broke_a_rule_is_shown_beside_as_the_device_said_it() -> None:
    doubted = rows(Lane.FLOAT, "temperature", [151.0, math.nan, 7.0], [*[StatusCode.BAD_OUT_OF_RANGE] * 2, 0])
    long = [read(message.payload) for message in render(doubted)]
    assert [(each["value"], each.get("raw")) for each in long] == [(None, 151.0), (None, "NaN"), (7.0, None)]
    wide = [read(message.payload) for message in render(doubted, shape="wide")]
    assert [(each["temperature"], each.get("temperature_raw")) for each in wide] == [
        (None, 151.0), (None, "NaN"), (7.0, None),
    ]  # fmt: skip


def test_fields_and_topics_have_the_names_that_were_asked_for() -> None:
    long = render(
        *poll(),
        topic="factory/{tenant}/{gateway}/{device}/{tag}",
        fields={"ts": "time", "value": "v", "unit": None, "device": None, "tag": None, "quality": "q", "gateway": "gw"},
        time="ms",
        quality="word",
    )
    assert long[3].topic == "factory/chongqing/plant-1/pump-3/count"
    assert read(long[3].payload) == {"gw": SITE, "time": START // 10**6 + 1000, "v": None, "q": "bad"}
    wide = render(
        *poll(), shape="wide", fields={"value": "{device}.{tag}", "unit": "{tag}_u", "quality": None}, time="us"
    )
    assert read(wide[1].payload) == {
        "device": "pump-3",
        "ts": START // 1000 + 10**6,
        "pump-3.temperature": 21.5,
        "temperature_u": "degC",
        "pump-3.count": None,
        "count_u": "pcs",
        "pump-3.running": False,
    }


def test_what_goes_together_is_a_list_a_topic_and_none_is_too_long() -> None:
    other = Batch.of(Lane.FLOAT, [OTHER.id], START, [1.0])
    messages = render(*poll(), other, together=True)
    assert [(message.topic, len(read(message.payload))) for message in messages] == [
        ("chongqing/plant-1/pump-3", 6),
        ("chongqing/plant-1/press-1", 1),
    ]
    section = JsonSection.model_validate({"json": "mqtt://127.0.0.1", "together": True})
    parcel = Parcel(7, 1, (rows(Lane.INT, "count", list(range(1000))),))
    parts = Renderer(section, SITE, CATALOGUE).messages(parcel, 2000)
    assert all(len(part.payload) <= 2000 for part in parts)
    assert [each["value"] for part in parts for each in read(part.payload)] == list(range(1000))


def test_backlog_is_marked_and_never_retained() -> None:
    live, old = render(*poll(), retain=True), render(*poll(), retain=True, backlog=True)
    assert all(message.retain and "historical" not in read(message.payload) for message in live)
    assert all(not message.retain and read(message.payload)["historical"] is True for message in old)
    assert "historical" not in read(render(*poll(), backlog=True, fields={"historical": None})[0].payload)


@pytest.mark.parametrize(
    ("kind", "value", "shown"),
    [
        ("temperature", float("nan"), "NaN"),
        ("temperature", float("-inf"), "-Infinity"),
        ("temperature", 1e300, 1e300),
        ("count", 2**53 - 1, 2**53 - 1),
        ("count", 2**53, str(2**53)),
        ("count", -(2**63), str(-(2**63))),
        ("energy", -1, str(2**64 - 1)),
        ("program", "法兰-7\ud800\x00", "法兰-7?\x00"),
    ],
)
def test_what_a_json_number_does_not_hold_is_a_string(kind: str, value: Any, shown: Any) -> None:
    lane = {"temperature": Lane.FLOAT, "program": Lane.TEXT}.get(kind, Lane.INT)
    (message,) = render(rows(lane, kind, [value]))
    assert read(message.payload)["value"] == shown


@given(
    st.lists(st.floats(width=64), min_size=1),
    st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1),
    st.sampled_from(["long", "wide"]),
    st.booleans(),
)
def test_every_number_comes_back(floats: list[float], integers: list[int], shape: str, together: bool) -> None:
    messages = render(
        rows(Lane.FLOAT, "temperature", floats), rows(Lane.INT, "count", integers), shape=shape, together=together
    )
    objects = [
        each for message in messages for each in (read(message.payload) if together else [read(message.payload)])
    ]

    def column(tag: str) -> list[Any]:
        if shape == "long":
            return [each["value"] for each in objects if each["tag"] == tag]
        return [each[tag] for each in objects if tag in each]

    back = [float(value) for value in column("temperature")]
    assert np.array_equal(back, floats, equal_nan=True)
    assert [math.copysign(1, value) for value in back if value == 0] == [math.copysign(1, x) for x in floats if x == 0]
    assert [int(value) for value in column("count")] == integers


def test_a_waveform_is_samples_and_a_scale() -> None:
    short = Waveform(TAGS["vibration"].id, START, 6400.0, 8.0, np.array([-32768, 0, 16384], np.int16))
    single = Waveform(TAGS["vibration"].id, START, 6400.0, 0.0, np.array([0.1, np.nan, -3e38], np.float32))
    first, second = render(short, single)
    assert first.topic == "chongqing/plant-1/pump-3/waveform/vibration"
    told = read(first.payload)
    assert [sample * told["scale"] for sample in told["samples"]] == [-8.0, 0.0, 4.0]
    assert (told["rate_hz"], told["unit"], told["quality"]) == (6400.0, "g", "0x00000000")
    assert read(second.payload)["samples"] == [0.1, "NaN", -3e38]
    assert read(second.payload)["scale"] == 1


def test_events_and_gaps_are_told_and_what_is_left_out_is_counted() -> None:
    event = Event(START, "gateway", "clock_step", Severity.HIGH, "the clock was set", {"step_s": float("inf")})
    gap = Gap(10, START, START + 9 * 10**9, "log full", "telemetry", ((TAGS["count"].id, 10),))
    told, lost = render(event, gaps=(gap,))
    assert told.topic == "chongqing/plant-1/gateway/event"
    assert read(told.payload) == {
        "gateway": SITE,
        "ts": "2026-01-01T00:00:00.000000Z",
        "source": "gateway",
        "kind": "clock_step",
        "severity": 700,
        "text": "the clock was set",
        "facts": {"step_s": "Infinity"},
    }
    assert lost.topic == "chongqing/plant-1/gateway/gap"
    assert read(lost.payload) == {
        "gateway": SITE,
        "rows": 10,
        "from": "2026-01-01T00:00:00.000000Z",
        "to": "2026-01-01T00:00:09.000000Z",
        "reason": "log full",
        "class": "telemetry",
        "tags": {"pump-3.count": 10},
    }
    section = JsonSection.model_validate({"json": "mqtt://127.0.0.1", "event_topic": None, "gap_topic": None})
    renderer = Renderer(section, SITE, CATALOGUE)
    assert renderer.messages(Parcel(7, 1, (event,), (gap,))) == []
    assert renderer.left_out_total == 2


@given(waveforms(), events())
def test_whatever_a_device_sends_is_valid_json(wave: Waveform, event: Event) -> None:
    wave = replace(wave, tag=TAGS["vibration"].id)
    for message in render(wave, event, event_topic="{site}/events"):
        assert read(message.payload)["gateway"] == SITE
