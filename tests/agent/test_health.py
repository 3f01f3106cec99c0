import sys
from dataclasses import replace
from pathlib import Path

import pytest

from buffer.log import open_log
from edge.agent.clock_watch import ClockHealth, is_synchronised
from edge.agent.health import FAILING_MAX, REASON_MAX, Rate, facts
from edge.agent.supervise import DeviceHealth, DeviceState
from edge.core.clock import VirtualClock, iso8601


async def test_failing_devices_are_named_and_all_are_counted_however_many_there_are(tmp_path: Path) -> None:
    clock = VirtualClock()
    good = DeviceHealth("pump-3", "modbus", "none", DeviceState.CONNECTED, values_read=600)
    bad = DeviceHealth("plc-1", "modbus", "none", DeviceState.LOST, "no answer", since=clock.now())
    async with open_log(tmp_path / "log.sqlite3", clock) as log:
        rate, kept = Rate(clock), log.statistics()
        assert facts([], rate, kept, ClockHealth())["values_s"] == 0
        await clock.advance(30)
        told = facts([good, bad], rate, kept, ClockHealth(2, -7200.0))
        assert told["values_s"] == 20
        assert told["devices"] == {"connecting": 0, "connected": 1, "lost": 1}
        assert told["failing"] == [
            {"device": "plc-1", "state": "lost", "since": iso8601(bad.since), "reason": "no answer"}
        ]
        assert told["clock"] == {"synchronised": is_synchronised(), "steps": 2, "last_step_s": -7200.0}
        assert told["log"]["writable"]
        many = [replace(bad, name=f"plc-{n}", reason="x" * 1000) for n in range(1000)]
        told = facts(many, rate, kept, ClockHealth())
        assert told["devices"]["lost"] == 1000
        assert len(told["failing"]) == FAILING_MAX
        assert len(told["failing"][0]["reason"]) == REASON_MAX


async def test_the_rate_forgets_what_is_long_ago_and_begins_anew_when_a_device_goes() -> None:
    clock = VirtualClock()
    rate = Rate(clock)
    total, shown = 0, 0.0
    for second in range(200):
        total += 10 if second < 100 else 1000
        shown = rate.of(total)
        await clock.advance(1)
    assert shown == 1000
    assert rate.of(5) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="other kernels are asked otherwise")
def test_the_kernel_says_whether_its_clock_is_kept() -> None:
    assert isinstance(is_synchronised(), bool)
