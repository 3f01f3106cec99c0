"""Recorded sessions break no assertion; and each check of the auditor fails when a recording is made wrong."""

import asyncio
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from edge.core.batch import Event, Severity
from tests.sparkplug.assertions import CHECKS, NOT_APPLICABLE, checked
from tests.sparkplug.audit import Expectation, audit
from tests.sparkplug.conformance import PAGE, page
from tests.sparkplug.support import CLOCK, host_at, open_edge, recorded, said
from tests.sparkplug.wire import CONNECT, DISCONNECT, PUBLISH, SUBSCRIBE, Packet, Recording
from tests.support import until
from tests.uplink.support import background
from uplink.sparkplug.payload import parse
from uplink.sparkplug.sparkplug_b_pb2 import Payload

ROOT = Path(__file__).parents[2]
EXPECTED = Expectation("chongqing", "plant-1", primary_host="scada", servers=2, losses={"pump-3": 1}, walks=1)
Change = Callable[[Recording], None]


async def play(folder: Path, version: str) -> Recording:
    """Everything that happens to an edge node: host, data, loss, rebirth, a server switch, a cut, an orderly end."""
    async with (
        recorded(folder, servers=2) as (recording, (near, far), (first, second)),
        open_edge(folder, near.url, protocol=version, servers=[far.url], primary_host="scada", host_wait="300ms") as (
            plant,
            edge,
        ),
        host_at(first) as here,
        host_at(second) as there,
    ):

        async def sent() -> None:
            await until(lambda: not plant.log.outbox("sparkplug").backlog().rows, 20)

        await here.say(True)
        async with background(edge.run):
            await until(lambda: len(said(recording, "DBIRTH")) == 2)
            for count in range(1, 6):
                await plant.put("pump-3", count)
                await plant.put("press-1", count)
                await sent()
            await plant.log.append([Event(CLOCK.now(), "gateway", "test", Severity.LOW, "a note")])
            await plant.lose("pump-3")
            await until(lambda: said(recording, "DDEATH", "pump-3"))
            await plant.find("pump-3")
            await plant.put("pump-3", 7)
            await sent()
            await plant.put("pump-3", 6, CLOCK.now() - 3600 * 10**9)
            await sent()
            await here.ask_rebirth()
            await until(lambda: len(said(recording, "NBIRTH")) == 2)
            await plant.put("pump-3", 8)
            await here.say(False, 1)  # older than what is known
            await plant.put("press-1", 9)
            await sent()
            await there.say(True)
            await here.say(False)
            await until(lambda: len(said(recording, "NBIRTH")) == 3, 20)
            await plant.put("press-1", 10)
            await sent()
            far.cut()
            await until(lambda: len(said(recording, "NBIRTH")) == 4, 20)
            await plant.put("press-1", 11)
            await sent()
    return recording


@pytest.fixture(scope="module", params=["3.1.1", "5"])
def recording(
    request: pytest.FixtureRequest, program: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Recording:
    program("mosquitto")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("uplink.backoff.BACKOFF_MAX_S", 0.2)
        return asyncio.run(play(tmp_path_factory.mktemp("recorded"), request.param))


def test_a_recorded_session_breaks_nothing(recording: Recording) -> None:
    kinds = {packet.topic.split("/")[2] for packet in recording.packets if packet.topic.startswith("spBv1.0/chong")}
    assert kinds == {"NBIRTH", "DBIRTH", "NDATA", "DDATA", "DDEATH", "NDEATH", "NCMD"}
    assert audit(recording, EXPECTED) == []


async def test_bdseq_wraps_and_a_killed_edge_begins_again(tmp_path: Path, mosquitto: str) -> None:
    async with (
        recorded(tmp_path) as (recording, (tap,), _),
        open_edge(tmp_path, tap.url) as (_plant, edge),
        background(edge.run),
    ):
        edge._node._bdseq = 253 if edge._node._bdseq < 0 else edge._node._bdseq
        for births in range(1, 5):
            await until(lambda births=births: len(said(recording, "NBIRTH")) == births)  # type: ignore[misc]
            tap.cut()
    assert [payload.metrics[0].long_value for payload in said(recording, "NBIRTH")][:4] == [254, 255, 0, 1]
    assert audit(recording, Expectation("chongqing", "plant-1", bdseq_first=254)) == []


# Changes to a recording, by the check that must find them.


def packets(recording: Recording, kind: str) -> list[Packet]:
    return [
        packet
        for packet in recording.packets
        if packet.from_edge and packet.kind == PUBLISH and packet.topic.split("/")[2] == kind
    ]


def edit(kind: str, change: Callable[[Payload], Any], number: int = 0) -> Change:
    """Change the payload of a message of a kind."""

    def apply(recording: Recording) -> None:
        packet = packets(recording, kind)[number]
        payload = parse(packet.payload)
        assert payload is not None
        change(payload)
        packet.payload = payload.SerializePartialToString()

    return apply


def put(kind: str, **fields: Any) -> Change:
    """Set fields of the packet of a kind."""

    def apply(recording: Recording) -> None:
        for name, value in fields.items():
            setattr(packets(recording, kind)[0], name, value)

    return apply


def topic(kind: str, change: Callable[[str], str]) -> Change:
    def apply(recording: Recording) -> None:
        packet = packets(recording, kind)[0]
        packet.topic = change(packet.topic)

    return apply


def will(**fields: Any) -> Change:
    def apply(recording: Recording) -> None:
        (first, *_) = (packet for packet in recording.packets if packet.kind == CONNECT)
        if "gone" in fields:
            first.will = None
            return
        assert first.will is not None
        for name, value in fields.items():
            setattr(first.will, name, value(first.will.payload) if callable(value) else value)

    return apply


def connect(**fields: Any) -> Change:
    def apply(recording: Recording) -> None:
        (first, *_) = (packet for packet in recording.packets if packet.kind == CONNECT)
        for name, value in fields.items():
            setattr(first, name, value)

    return apply


def payload_with(change: Callable[[Payload], Any]) -> Callable[[bytes], bytes]:
    def apply(data: bytes) -> bytes:
        payload = parse(data)
        assert payload is not None
        change(payload)
        return payload.SerializeToString()

    return apply


def without(wanted: Callable[[Packet], bool]) -> Change:
    def apply(recording: Recording) -> None:
        recording.packets[:] = [packet for packet in recording.packets if not wanted(packet)]

    return apply


def is_kind(packet: Packet, kind: str) -> bool:
    return packet.from_edge and packet.kind == PUBLISH and packet.topic.split("/")[2] == kind


def repeat(kind: str) -> Change:
    """Say the same once more, with the right number: as if nothing had changed."""

    def apply(recording: Recording) -> None:
        at = max(n for n, packet in enumerate(recording.packets) if is_kind(packet, kind))
        again = deepcopy(recording.packets[at])
        payload = parse(again.payload)
        assert payload is not None
        payload.seq = (payload.seq + 1) % 256
        again.payload = payload.SerializeToString()
        recording.packets.insert(at + 1, again)

    return apply


def first_metric(**fields: Any) -> Callable[[Payload], None]:
    def apply(payload: Payload) -> None:
        for name, value in fields.items():
            if value is None:
                payload.metrics[0].ClearField(name)
            else:
                setattr(payload.metrics[0], name, value)

    return apply


def rebirth_metric(**fields: Any) -> Callable[[Payload], None]:
    def apply(payload: Payload) -> None:
        (metric,) = (each for each in payload.metrics if each.name == "Node Control/Rebirth")
        for name, value in fields.items():
            setattr(metric, name, value)

    return apply


def quality(change: Callable[[Payload.PropertyValue], Any]) -> Change:
    def apply(payload: Payload) -> None:
        change(payload.metrics[0].properties.values[0])

    return edit("DBIRTH", apply)


def swap_first_and_last(payload: Payload) -> None:
    payload.metrics[0].timestamp += 10_000


def late(kind: str) -> Change:
    """Let a server's message be heard ten seconds before the next packets of the node."""

    def apply(recording: Recording) -> None:
        at = next(
            n for n, packet in enumerate(recording.packets) if f"/{kind}" in packet.topic and not packet.from_edge
        )
        for packet in recording.packets[at + 1 :]:
            packet.at_ms += 10_000

    return apply


def move_ncmd_before_data(recording: Recording) -> None:
    ncmd = next(packet for packet in recording.packets if "/NCMD/" in packet.topic and not packet.from_edge)
    recording.packets.remove(ncmd)
    at = next(n for n, packet in enumerate(recording.packets) if is_kind(packet, "DDATA"))
    ncmd.at_ms = recording.packets[at].at_ms - 2000
    recording.packets.insert(at, ncmd)


def overlap(recording: Recording) -> None:
    at = max(n for n, packet in enumerate(recording.packets) if packet.kind == CONNECT)
    old = next(n for n, packet in enumerate(recording.packets) if is_kind(packet, "DDATA"))
    recording.packets.insert(at + 1, recording.packets.pop(old))


def states(recording: Recording) -> list[Packet]:
    return [packet for packet in recording.packets if "/STATE/" in packet.topic and not packet.from_edge]


def host_never_online(recording: Recording) -> None:
    for packet in states(recording):
        recording.packets.remove(packet)


def online_is_older(recording: Recording) -> None:
    first = states(recording)[0]
    newer = deepcopy(first)
    newer.payload = b'{"online": false, "timestamp": 4000000000000}'
    recording.packets.insert(recording.packets.index(first), newer)


def stale_offline_then_disconnect(recording: Recording) -> None:
    last = max(n for n, packet in enumerate(recording.packets) if packet.kind == DISCONNECT)
    old = deepcopy(states(recording)[0])
    old.connection, old.payload = recording.packets[last].connection, b'{"online": false, "timestamp": 1}'
    old.at_ms = recording.packets[last].at_ms
    recording.packets.insert(last, old)


def data_after_offline(recording: Recording) -> None:
    """The host goes offline and the node neither dies nor stops."""
    at = next(n for n, packet in enumerate(recording.packets) if is_kind(packet, "NDEATH"))
    del recording.packets[at]


def death_missing(recording: Recording) -> None:
    at = max(n for n, packet in enumerate(recording.packets) if is_kind(packet, "NDEATH"))
    del recording.packets[at]


def one_server(recording: Recording) -> None:
    for packet in recording.packets:
        packet.server = "server-0"


def twin(kind: str, change: Callable[[str], str]) -> Change:
    """Let a later message have ids that differ by case."""

    def apply(recording: Recording) -> None:
        packet = packets(recording, kind)[-1]
        packet.topic = change(packet.topic)

    return apply


def same_alias(payload: Payload) -> None:
    payload.metrics[1].alias = payload.metrics[0].alias


def other_aliases(payload: Payload) -> None:
    for metric in payload.metrics:
        metric.alias += 1000


def case_twin(payload: Payload) -> None:
    payload.metrics[1].name = payload.metrics[0].name.upper()


def second_bdseq(recording: Recording) -> None:
    """The second connection repeats the number of the first."""
    connects = [packet for packet in recording.packets if packet.kind == CONNECT]
    assert connects[1].will is not None
    connects[1].will.payload = payload_with(first_metric(long_value=0))(connects[1].will.payload)


MUTATIONS: dict[str, Change] = {
    "clean session 3.1.1": connect(version=4, clean=False),
    "clean start 5": connect(version=5, expiry_s=60),
    "session before messages": without(lambda packet: packet.kind == 2),
    "one session at a time": overlap,
    "NCMD subscription": without(lambda packet: packet.kind == SUBSCRIBE and "NCMD" in packet.filters[0]),
    "will is there": will(gone=True),
    "NDEATH topic": will(topic="spBv1.0/chongqing/NDEATH/other"),
    "NDEATH payload": will(payload=payload_with(lambda payload: payload.metrics.add(name="more"))),
    "NDEATH bdSeq": put("NDEATH", payload=b""),
    "NDEATH has no seq": will(payload=payload_with(lambda payload: setattr(payload, "seq", 1))),
    "will QoS 1": will(qos=0),
    "will not retained": will(retain=True),
    "NDEATH before DISCONNECT 3.1.1": death_missing,
    "NDEATH before DISCONNECT 5": death_missing,
    "topic form": topic("DDATA", lambda given: given.replace("DDATA", "DATA")),
    "namespace": topic("DDATA", lambda given: given.replace("spBv1.0", "spAv1.0")),
    "group id": topic("DDATA", lambda given: given.replace("chongqing", "chong#")),
    "node id": topic("DDATA", lambda given: given.replace("plant-1", "plant+1")),
    "device id": topic("DDATA", lambda given: given + "#"),
    "no device in node messages": topic("NBIRTH", lambda given: given + "/pump-3"),
    "device in device messages": topic("DDATA", lambda given: given.rpartition("/")[0]),
    "device id is of one device": edit("DBIRTH", other_aliases, 2),
    "ids differ by more than case": twin("DDATA", lambda given: given.replace("press", "PRESS")),
    "names differ by more than case": edit("DBIRTH", case_twin),
    **{
        f"{kind} topic": topic(kind, lambda given: given.replace("plant-1", "plant-2"))
        for kind in ("NBIRTH", "DBIRTH", "NDATA", "DDATA", "DDEATH")
    },
    **{f"{kind} QoS": put(kind, qos=1) for kind in ("NBIRTH", "DBIRTH", "NDATA", "DDATA", "DDEATH")},
    **{f"{kind} retain": put(kind, retain=True) for kind in ("NBIRTH", "DBIRTH", "NDATA", "DDATA", "DDEATH")},
    **{
        f"{kind} seq": edit(kind, lambda payload: setattr(payload, "seq", payload.seq + 1))
        for kind in ("NBIRTH", "DBIRTH", "NDATA", "DDATA", "DDEATH")
    },
    "seq is there": edit("DDATA", lambda payload: payload.ClearField("seq")),
    "NBIRTH bdSeq": edit("NBIRTH", lambda payload: payload.metrics.pop(0)),
    "bdSeq matches the will": edit("NBIRTH", first_metric(long_value=7)),
    "bdSeq counts sessions": second_bdseq,
    "bdSeq stays at a rebirth": edit("NBIRTH", first_metric(long_value=7), 1),
    "NBIRTH comes first": without(lambda packet: is_kind(packet, "NBIRTH")),
    "NBIRTH payload": put("NBIRTH", payload=b"\xff"),
    "DBIRTH payload": put("DBIRTH", payload=b"\xff"),
    "births before data": without(lambda packet: is_kind(packet, "DBIRTH")),
    "NBIRTH has all metrics": edit("NDATA", first_metric(alias=99)),
    "DBIRTH has all metrics": edit("DDATA", first_metric(alias=99)),
    "NBIRTH metrics are whole": edit("NBIRTH", first_metric(datatype=None)),
    "DBIRTH metrics are whole": edit("DBIRTH", first_metric(datatype=None)),
    "NBIRTH values": edit("NBIRTH", first_metric(long_value=None)),
    "DBIRTH values": edit("DBIRTH", first_metric(is_null=False)),
    "NBIRTH order": edit("NBIRTH", swap_first_and_last),
    "DBIRTH order": edit("DBIRTH", swap_first_and_last),
    "NDATA has changes only": repeat("NDATA"),
    "DDATA has changes only": repeat("DDATA"),
    "DDEATH of a lost device": without(lambda packet: is_kind(packet, "DDEATH")),
    "rebirth metric": edit("NBIRTH", lambda payload: payload.metrics.pop(1)),
    "rebirth datatype": edit("NBIRTH", rebirth_metric(datatype=3)),
    "rebirth value": edit("NBIRTH", rebirth_metric(boolean_value=True)),
    "rebirth has no alias": edit("NBIRTH", rebirth_metric(alias=3)),
    "rebirth stops data": move_ncmd_before_data,
    "rebirth is answered": late("NCMD"),
    **{
        f"{kind} timestamp": edit(kind, lambda payload: payload.ClearField("timestamp"))
        for kind in ("NBIRTH", "DBIRTH", "NDATA", "DDATA", "DDEATH")
    },
    "timestamp in UTC": edit("DDATA", lambda payload: setattr(payload, "timestamp", 1_700_000_000)),
    "metric timestamp": edit("DDATA", first_metric(timestamp=None)),
    "metric timestamp in UTC": edit("DDATA", first_metric(timestamp=1_700_000_000)),
    "metric name": edit("DBIRTH", first_metric(name=None)),
    "alias is unique": edit("DBIRTH", same_alias),
    "birth has name and alias": edit("DBIRTH", first_metric(alias=None)),
    "data has the alias alone": edit("DDATA", first_metric(name="count")),
    "datatype in births": edit("DBIRTH", first_metric(datatype=None)),
    "datatype is known": edit("DBIRTH", first_metric(datatype=99)),
    "no datatype in data": edit("DDATA", first_metric(datatype=4)),
    "properties are pairs": edit("DBIRTH", lambda payload: payload.metrics[0].properties.keys.append("more")),
    "property has a type": quality(lambda value: value.ClearField("type")),
    "property type is known": quality(lambda value: setattr(value, "type", 99)),
    "quality is Int32": quality(lambda value: setattr(value, "type", 4)),
    "quality is 0, 192 or 500": quality(lambda value: setattr(value, "int_value", 193)),
    "STATE subscription": without(lambda packet: packet.kind == SUBSCRIBE and "STATE" in packet.filters[0]),
    "births wait for the host": host_never_online,
    "an older online is no online": online_is_older,
    "the host's absence ends the session": data_after_offline,
    "an older offline ends nothing": stale_offline_then_disconnect,
    "the next server is tried": one_server,
}


def test_every_check_has_a_recording_that_breaks_it() -> None:
    assert set(MUTATIONS) == set(CHECKS)


@pytest.mark.parametrize("check", CHECKS)
def test_a_wrong_recording_is_found(recording: Recording, check: str) -> None:
    is_5 = recording.packets[0].version == 5
    if check in ("NDEATH before DISCONNECT 3.1.1", "NDEATH before DISCONNECT 5") and is_5 != check.endswith(" 5"):
        return  # each is of one version
    wrong = deepcopy(recording)
    MUTATIONS[check](wrong)
    found = audit(wrong, EXPECTED)
    assert check in {finding.check for finding in found}
    assert set(CHECKS[check]) <= {each for finding in found for each in finding.ids}


def test_all_200_assertions_on_edge_nodes_are_accounted_for() -> None:
    assert not checked().keys() & NOT_APPLICABLE.keys()
    assert len(checked()) + len(NOT_APPLICABLE) == 200
    assert all(NOT_APPLICABLE.values())
    published = ROOT.parent / "shared" / "reference" / "sparkplug-assertions.tsv"
    if published.exists():
        rows = [line.split("\t") for line in published.read_text().splitlines()]
        ids = {row[0].removeprefix("tck-id-") for row in rows if row[1] == "edge"}
        assert ids == checked().keys() | NOT_APPLICABLE.keys()


def test_the_table_in_the_documentation_is_up_to_date() -> None:
    assert PAGE.read_text("utf-8") == page(), "run `make docs`"
