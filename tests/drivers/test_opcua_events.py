"""A server's events, alarms and conditions become events of the log."""

from typing import Any

from asyncua import ua

from drivers.opcua import SPEC
from edge.core.batch import Event, Severity
from simulators.opcua import Variable, serve_opcua
from tests.drivers.support import following

SPEED = Variable("ns=2;s=Speed", 1480.5, "Double")


def settings(url: str, **more: Any) -> dict[str, Any]:
    return {"opcua": url, "every": "50ms", "tags": {"speed": {"node": SPEED.node}}, **more}


async def test_an_event_keeps_its_time_severity_source_and_words() -> None:
    for mode in ("subscribe", "poll"):
        async with serve_opcua([SPEED]) as server:
            events = await server.server.get_event_generator()
            async with following(SPEC, settings(server.url, events=True, mode=mode)) as device:
                await device.until(lambda: len(device.rows) > 0)
                events.event.Severity = 650
                await events.trigger(message="冷却液液位低")
                await device.until(lambda: len(device.events) == 1)
                (event,) = device.events
        assert (event.source, event.kind, event.message) == ("machine", "opcua_event", "冷却液液位低")
        assert event.severity == max(step for step in Severity if step <= 650)
        assert event.facts["severity"] == 650
        assert event.facts["source"] == "Server"
        assert abs(event.ts - events.event.Time.timestamp() * 1e9) < 2000


async def test_an_alarm_tells_that_it_came_and_that_it_went() -> None:
    async with serve_opcua([SPEED]) as server:
        alarm = await server.server.get_event_generator(ua.ObjectIds.AlarmConditionType)
        alarm.event.ConditionName = "SpindleOverload"
        async with following(SPEC, settings(server.url, events=True)) as device:
            await device.until(lambda: len(device.rows) > 0)
            for active in (True, False):
                alarm.event.Retain = active
                setattr(alarm.event, "ActiveState/Id", active)
                setattr(alarm.event, "AckedState/Id", False)
                await alarm.trigger(message="spindle overload")
            await device.until(lambda: len(device.events) == 2)
    came, went = device.events
    assert came.kind == went.kind == "opcua_condition"
    for event, active in ((came, True), (went, False)):
        assert event.facts["condition"] == "SpindleOverload"
        assert (event.facts["active"], event.facts["acknowledged"]) == (active, False)


async def test_events_that_came_while_the_line_was_cut_are_told() -> None:
    async with serve_opcua([SPEED]) as server:
        events = await server.server.get_event_generator()
        async with following(SPEC, settings(server.url, events=True)) as device:
            await device.until(lambda: len(device.rows) > 0)
            await server.cut()
            for number in range(5):
                await events.trigger(message=f"number {number}")
            await device.until(lambda: len(device.events) == 5)
            assert [event.message for event in device.events] == [f"number {number}" for number in range(5)]
            assert device.counters["resumed_total"] == 1


async def test_without_events_none_are_asked_for() -> None:
    async with serve_opcua([SPEED]) as server:
        events = await server.server.get_event_generator()
        async with following(SPEC, settings(server.url)) as device:
            await device.until(lambda: len(device.rows) > 0)
            await events.trigger(message="nobody listens")
            await server.write(SPEED.node, 1.0)
            await device.until(lambda: device.last()["speed"] == (1.0, 0))
            assert device.events == list[Event]()
