"""A passive auditor: reads what an edge node and its servers said to each other and names the assertions it breaks."""

import itertools
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.sparkplug.assertions import CHECKS
from tests.sparkplug.wire import CONNACK, CONNECT, DISCONNECT, PUBLISH, SUBSCRIBE, Packet, Recording
from uplink.sparkplug.payload import BDSEQ, BOOLEAN, INT32, REBIRTH, HostState, asks_rebirth, host_state, parse
from uplink.sparkplug.sparkplug_b_pb2 import Payload

REBIRTH_DEADLINE_MS = 5000
STOP_DATA_MS = 1000
YEAR_2000_MS, YEAR_2100_MS = 946_684_800_000, 4_102_444_800_000
DATATYPES = {*range(1, 20), *range(22, 35)}
PROPERTY_TYPES = {*range(1, 15), 20, 21}
TYPES = {"NBIRTH", "NDEATH", "DBIRTH", "DDEATH", "NDATA", "DDATA"}


@dataclass(frozen=True, slots=True)
class Finding:
    """A check that failed: at which packet of the recording, and what is wrong."""

    check: str
    packet: int
    words: str

    @property
    def ids(self) -> tuple[str, ...]:
        """The assertions that are broken."""
        return CHECKS[self.check]


@dataclass(frozen=True, slots=True)
class Expectation:
    """What a recording alone cannot tell: how the node is configured, and which devices were lost how often."""

    group: str
    node: str
    primary_host: str = ""
    servers: int = 1
    losses: dict[str, int] = field(default_factory=dict)
    walks: int = 0
    bdseq_first: int = 0


@dataclass(slots=True)
class _Session:
    """One MQTT connection as far as it has been seen."""

    connection: int
    server: str
    version: int
    is_open: bool = False
    ended: bool = False
    will_bdseq: int | None = None
    filters: set[str] = field(default_factory=set)
    is_born: bool = False
    died: bool = False
    bdseq: int | None = None
    seq: int = -1
    born: dict[str, set[int]] = field(default_factory=dict)
    known: dict[str, set[int]] = field(default_factory=dict)
    aliases: dict[int, tuple[str, str]] = field(default_factory=dict)
    host: HostState | None = None
    host_is_online: bool = False
    rebirth_at: int | None = None
    offline_at: int | None = None
    stale_offline_at: int | None = None


def audit(recording: Recording, expected: Expectation) -> list[Finding]:
    """Return every check that failed, in order."""
    return list(_Auditor(expected).run(recording.packets))


class _Auditor:
    def __init__(self, expected: Expectation) -> None:
        self._expected = expected
        self._sessions: dict[int, _Session] = {}
        self._bdseq: int | None = None
        self._last: dict[tuple[str, int], tuple[object, int]] = {}
        self._deaths: dict[str, int] = {}
        self._ids: dict[str, set[str]] = {}
        self._index = 0

    def _fail(self, check: str, words: str = "") -> Finding:
        assert check in CHECKS, check
        return Finding(check, self._index, words)

    def run(self, packets: list[Packet]) -> Iterator[Finding]:
        for self._index, packet in enumerate(packets):
            session = self._sessions.get(packet.connection)
            if packet.kind == CONNECT and packet.from_edge:
                yield from self._connect(packet)
            elif session is None:
                yield self._fail("session before messages", "a packet before CONNECT")
            elif packet.kind == CONNACK:
                session.is_open = packet.reason == 0
            elif not packet.from_edge:
                if packet.kind == PUBLISH:
                    yield from self._hears(session, packet)
            else:
                later = [other for other in self._sessions.values() if other.connection > session.connection]
                if later:
                    yield self._fail("one session at a time")
                if packet.kind == SUBSCRIBE:
                    session.filters |= set(packet.filters)
                elif packet.kind == DISCONNECT:
                    yield from self._disconnect(session, packet)
                elif packet.kind == PUBLISH:
                    yield from self._publish(session, packet)
        yield from self._end()

    def _connect(self, packet: Packet) -> Iterator[Finding]:
        for other in self._sessions.values():
            yield from self._ended(other)
        session = _Session(packet.connection, packet.server, packet.version)
        self._sessions[packet.connection] = session
        if packet.version == 4 and not packet.clean:
            yield self._fail("clean session 3.1.1")
        if packet.version == 5 and (not packet.clean or packet.expiry_s):
            yield self._fail("clean start 5")
        will = packet.will
        if will is None:
            yield self._fail("will is there")
            return
        if will.qos != 1:
            yield self._fail("will QoS 1")
        if will.retain:
            yield self._fail("will not retained")
        yield from self._ndeath(session, will, in_will=True)
        bdseq = session.will_bdseq
        if bdseq is not None:
            wanted = self._expected.bdseq_first if self._bdseq is None else (self._bdseq + 1) % 256
            if bdseq != wanted:
                yield self._fail("bdSeq counts sessions", f"{bdseq}, not {wanted}")
            self._bdseq = bdseq

    def _ndeath(self, session: _Session, packet: Packet, *, in_will: bool) -> Iterator[Finding]:
        if packet.topic != f"spBv1.0/{self._expected.group}/NDEATH/{self._expected.node}":
            yield self._fail("NDEATH topic", packet.topic)
        payload = parse(packet.payload)
        if payload is None or len(payload.metrics) != 1 or payload.metrics[0].name != BDSEQ:
            yield self._fail("NDEATH payload", "not bdSeq alone")
        if payload is None:
            return
        if payload.HasField("seq"):
            yield self._fail("NDEATH has no seq")
        bdseq = _bdseq(payload)
        if in_will:
            session.will_bdseq = bdseq
        if bdseq is None or bdseq != session.will_bdseq:
            yield self._fail("NDEATH bdSeq", str(bdseq))

    def _disconnect(self, session: _Session, packet: Packet) -> Iterator[Finding]:
        session.ended = True
        stale = session.stale_offline_at
        if stale is not None and session.host_is_online and packet.at_ms - stale < STOP_DATA_MS:
            yield self._fail("an older offline ends nothing")
        if not session.died and packet.reason != 4:
            version = "5" if session.version == 5 else "3.1.1"
            yield self._fail(f"NDEATH before DISCONNECT {version}")

    def _ended(self, session: _Session) -> Iterator[Finding]:
        """Judge what only the end of a connection shows."""
        if session.rebirth_at is not None and session.ended and not session.died:
            yield self._fail("rebirth is answered")
        if session.offline_at is not None and session.is_born and not session.died:
            yield self._fail("the host's absence ends the session", "without NDEATH")

    def _end(self) -> Iterator[Finding]:
        for session in list(self._sessions.values())[-1:]:
            yield from self._ended(session)
            if session.rebirth_at is not None and not session.died and not session.ended:
                yield self._fail("rebirth is answered")
        for device, times in self._expected.losses.items():
            if self._deaths.get(device, 0) < times:
                yield self._fail("DDEATH of a lost device", device)
        order = [session.server for session in self._sessions.values()]
        walks = sum(a != b for a, b in itertools.pairwise(order))
        if walks < self._expected.walks:
            yield self._fail("the next server is tried", f"{walks} changes of server")
        for kind, ids in self._ids.items():
            folded = {each.casefold() for each in ids}
            if len(folded) < len(ids):
                yield self._fail("names differ by more than case" if "/" in kind else "ids differ by more than case")

    def _hears(self, session: _Session, packet: Packet) -> Iterator[Finding]:
        """Take in what a server tells the node."""
        if packet.topic == f"spBv1.0/STATE/{self._expected.primary_host}":
            state = host_state(packet.payload)
            if state is None:
                return
            if session.host is None or state.timestamp >= session.host.timestamp:
                session.host, session.host_is_online = state, state.online
                session.offline_at = None if state.online else packet.at_ms
            elif not state.online:
                session.stale_offline_at = packet.at_ms
        elif "/NCMD/" in packet.topic and asks_rebirth(packet.payload) and session.is_born:
            session.rebirth_at = session.rebirth_at or packet.at_ms
        yield from ()

    def _publish(self, session: _Session, packet: Packet) -> Iterator[Finding]:
        if not session.is_open:
            yield self._fail("session before messages", packet.topic)
        parts = packet.topic.split("/")
        if not 4 <= len(parts) <= 5 or not all(parts) or len(parts) < 4 or parts[2] not in TYPES:
            yield self._fail("topic form", packet.topic)
            return
        kind, device = parts[2], parts[4] if len(parts) == 5 else ""
        yield from self._topic(session, packet, parts, kind)
        if kind == "NDEATH":
            session.died = True
            yield from self._ndeath(session, packet, in_will=False)
            return
        if packet.qos:
            yield self._fail(f"{kind} QoS", str(packet.qos))
        if packet.retain:
            yield self._fail(f"{kind} retain")
        payload = parse(packet.payload)
        if payload is None:
            yield self._fail("NBIRTH payload" if kind == "NBIRTH" else "DBIRTH payload")
            return
        yield from self._numbers(session, kind, payload)
        yield from self._times(kind, payload)
        for metric in payload.metrics:
            yield from self._metric(kind, metric)
        match kind:
            case "NBIRTH":
                yield from self._nbirth(session, packet, payload)
            case "DBIRTH":
                yield from self._dbirth(session, device, payload)
            case "DDEATH":
                self._deaths[device] = self._deaths.get(device, 0) + 1
                session.born.pop(device, None)
            case _:
                yield from self._data(session, kind, device, packet, payload)

    def _topic(self, session: _Session, packet: Packet, parts: list[str], kind: str) -> Iterator[Finding]:
        expected = self._expected
        if parts[0] != "spBv1.0":
            yield self._fail("namespace", parts[0])
        for check, given in (("group id", parts[1]), ("node id", parts[3]), ("device id", "".join(parts[4:]))):
            if re.search(r"[+#]", given):
                yield self._fail(check, given)
        self._ids.setdefault("group", set()).add(parts[1])
        self._ids.setdefault("node", set()).add(parts[3])
        if len(parts) == 5:
            self._ids.setdefault("device", set()).add(parts[4])
        if kind.startswith("N") and len(parts) != 4:
            yield self._fail("no device in node messages", packet.topic)
        if kind.startswith("D") and len(parts) != 5:
            yield self._fail("device in device messages", packet.topic)
        if kind != "NDEATH" and parts[:2] + parts[3:4] != ["spBv1.0", expected.group, expected.node]:
            yield self._fail(f"{kind} topic", packet.topic)
        if kind not in ("NBIRTH", "NDEATH") and not session.is_born:
            yield self._fail("NBIRTH comes first", kind)

    def _numbers(self, session: _Session, kind: str, payload: Payload) -> Iterator[Finding]:
        if not payload.HasField("seq"):
            yield self._fail("seq is there", kind)
        wanted = 0 if kind == "NBIRTH" else (session.seq + 1) % 256
        if payload.seq != wanted or not payload.HasField("seq"):
            yield self._fail(f"{kind} seq", f"{payload.seq}, not {wanted}")
        session.seq = wanted

    def _times(self, kind: str, payload: Payload) -> Iterator[Finding]:
        if not payload.HasField("timestamp"):
            yield self._fail(f"{kind} timestamp")
        elif not YEAR_2000_MS < payload.timestamp < YEAR_2100_MS:
            yield self._fail("timestamp in UTC", str(payload.timestamp))
        newest = 0
        for metric in payload.metrics:
            if not metric.HasField("timestamp"):
                yield self._fail("metric timestamp", metric.name)
            elif not YEAR_2000_MS < metric.timestamp < YEAR_2100_MS:
                yield self._fail("metric timestamp in UTC", str(metric.timestamp))
            if not metric.is_historical:
                if metric.timestamp < newest and kind != "DDEATH":
                    yield self._fail("NBIRTH order" if kind.startswith("N") else "DBIRTH order", metric.name)
                newest = max(newest, metric.timestamp)

    def _metric(self, kind: str, metric: Payload.Metric) -> Iterator[Finding]:
        is_birth = kind.endswith("BIRTH")
        if metric.HasField("datatype") and metric.datatype not in DATATYPES:
            yield self._fail("datatype is known", str(metric.datatype))
        if is_birth and not metric.HasField("datatype"):
            yield self._fail("datatype in births", metric.name)
        if not is_birth and metric.HasField("datatype"):
            yield self._fail("no datatype in data", metric.name)
        if is_birth and not metric.name:
            yield self._fail("metric name", kind)
            yield self._fail("birth has name and alias", kind)
        if is_birth and not metric.HasField("alias") and metric.name not in (BDSEQ, REBIRTH):
            yield self._fail("birth has name and alias", metric.name)
        if not is_birth and (metric.HasField("name") or not metric.HasField("alias")):
            yield self._fail("data has the alias alone", metric.name)
        has_value = metric.WhichOneof("value") is not None
        if is_birth and has_value == metric.is_null:
            yield self._fail(f"{kind} values", metric.name)
        if is_birth and not (metric.name and metric.HasField("datatype") and has_value != metric.is_null):
            yield self._fail(f"{kind} metrics are whole", metric.name)
        yield from self._properties(metric.properties)

    def _properties(self, properties: Payload.PropertySet) -> Iterator[Finding]:
        if len(properties.keys) != len(properties.values):
            yield self._fail("properties are pairs")
        for key, value in zip(properties.keys, properties.values, strict=False):
            if not value.HasField("type"):
                yield self._fail("property has a type", key)
            elif value.type not in PROPERTY_TYPES:
                yield self._fail("property type is known", str(value.type))
            if key == "Quality":
                if value.type != INT32 or value.WhichOneof("value") != "int_value":
                    yield self._fail("quality is Int32", str(value.type))
                if value.int_value not in (0, 192, 500):
                    yield self._fail("quality is 0, 192 or 500", str(value.int_value))

    def _nbirth(self, session: _Session, packet: Packet, payload: Payload) -> Iterator[Finding]:
        if f"spBv1.0/{self._expected.group}/NCMD/{self._expected.node}" not in session.filters:
            yield self._fail("NCMD subscription")
        yield from self._host(session)
        bdseq = _bdseq(payload)
        if bdseq is None:
            yield self._fail("NBIRTH bdSeq")
        elif session.is_born:
            if bdseq != session.bdseq:
                yield self._fail("bdSeq stays at a rebirth", str(bdseq))
        elif bdseq != session.will_bdseq:
            yield self._fail("bdSeq matches the will", f"{bdseq}, not {session.will_bdseq}")
        rebirth = [metric for metric in payload.metrics if metric.name == REBIRTH]
        if len(rebirth) != 1:
            yield self._fail("rebirth metric")
        for metric in rebirth:
            if metric.datatype != BOOLEAN:
                yield self._fail("rebirth datatype", str(metric.datatype))
            if metric.boolean_value or metric.WhichOneof("value") != "boolean_value":
                yield self._fail("rebirth value")
            if metric.HasField("alias"):
                yield self._fail("rebirth has no alias")
        if session.rebirth_at is not None and packet.at_ms - session.rebirth_at > REBIRTH_DEADLINE_MS:
            yield self._fail("rebirth is answered", "too late")
        session.is_born, session.bdseq, session.rebirth_at = True, bdseq, None
        session.born, session.aliases = {}, {}
        yield from self._names(session, "", payload)

    def _host(self, session: _Session) -> Iterator[Finding]:
        if not self._expected.primary_host:
            return
        if f"spBv1.0/STATE/{self._expected.primary_host}" not in session.filters:
            yield self._fail("STATE subscription")
        if not session.host_is_online:
            yield self._fail("births wait for the host")
            if session.host is not None:
                yield self._fail("an older online is no online")

    def _names(self, session: _Session, device: str, payload: Payload) -> Iterator[Finding]:
        aliases = {metric.alias for metric in payload.metrics if metric.HasField("alias")}
        for alias in [each for each, owner in session.aliases.items() if owner[0] == device]:
            del session.aliases[alias]
        for metric in payload.metrics:
            self._ids.setdefault(f"metric/{device}", set()).add(metric.name)
            if not metric.HasField("alias"):
                continue
            if metric.alias in session.aliases:
                yield self._fail("alias is unique", metric.name)
            session.aliases[metric.alias] = (device, metric.name)
        before = session.known.get(device)
        if before and aliases and not before & aliases:
            yield self._fail("device id is of one device", device)
        session.born[device] = session.known[device] = aliases
        for metric in payload.metrics:
            if metric.HasField("alias"):
                self._last[device, metric.alias] = (_value(metric), _quality(metric, 192))

    def _dbirth(self, session: _Session, device: str, payload: Payload) -> Iterator[Finding]:
        yield from self._names(session, device, payload)

    def _data(self, session: _Session, kind: str, device: str, packet: Packet, payload: Payload) -> Iterator[Finding]:
        if (kind == "DDATA" and device not in session.born) or not session.is_born:
            yield self._fail("births before data", device)
        if session.rebirth_at is not None and packet.at_ms - session.rebirth_at > STOP_DATA_MS:
            yield self._fail("rebirth stops data")
        if session.offline_at is not None and packet.at_ms - session.offline_at > STOP_DATA_MS:
            yield self._fail("the host's absence ends the session", "data goes on")
        known = session.born.get(device, set())
        for metric in payload.metrics:
            if metric.alias not in known:
                yield self._fail(f"{kind[0]}BIRTH has all metrics", str(metric.alias))
            previous = self._last.get((device, metric.alias))
            now = (_value(metric), _quality(metric, previous[1] if previous else 192))
            if previous == now and not metric.is_historical:
                yield self._fail(f"{kind} has changes only", str(metric.alias))
            self._last[device, metric.alias] = now


def _bdseq(payload: Payload) -> int | None:
    for metric in payload.metrics:
        if metric.name == BDSEQ and metric.WhichOneof("value") == "long_value" and metric.long_value < 256:
            return int(metric.long_value)
    return None


def _value(metric: Payload.Metric) -> object:
    name = metric.WhichOneof("value")
    value = None if name is None else getattr(metric, name)
    return "NaN" if isinstance(value, float) and math.isnan(value) else value


def _quality(metric: Payload.Metric, otherwise: int) -> int:
    for key, value in zip(metric.properties.keys, metric.properties.values, strict=False):
        if key == "Quality":
            return int(value.int_value)
    return otherwise
