"""What the gateway as a whole says of its state: small, whatever the number of devices."""

from collections import deque
from collections.abc import Iterable
from typing import Any

from buffer.log import LogStatistics
from edge.agent.clock_watch import ClockHealth, is_synchronised
from edge.agent.supervise import DeviceHealth, DeviceState
from edge.core.clock import Clock, iso8601

FAILING_MAX = 100
REASON_MAX = 200
RATE_WINDOW_S = 60.0


class Rate:
    """Values read a second over about the last minute."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._looks: deque[tuple[float, int]] = deque()

    def of(self, total: int) -> float:
        """Return the rate, given how many values were read so far; less than before is a new count."""
        now = self._clock.monotonic()
        if self._looks and total < self._looks[-1][1]:
            self._looks.clear()
        self._looks.append((now, total))
        while len(self._looks) > 2 and self._looks[1][0] <= now - RATE_WINDOW_S:
            self._looks.popleft()
        then, before = self._looks[0]
        return (total - before) / (now - then) if now > then else 0.0


def facts(devices: Iterable[DeviceHealth], rate: Rate, log: LogStatistics, clock: ClockHealth) -> dict[str, Any]:
    """Return the gateway's part of the health message; see `contract/v1/schemas/health.schema.json`."""
    known = list(devices)
    return {
        "values_s": round(rate.of(sum(device.values_read for device in known)), 1),
        "devices": {state.value: sum(device.state is state for device in known) for state in DeviceState},
        "failing": _failing(known),
        "log": {
            "disk_bytes": log.disk_bytes,
            "disk_bytes_max": log.disk_bytes_max,
            "disk_free_bytes": log.disk_free_bytes,
            "outage_h": None if log.outage_s is None else round(log.outage_s / 3600, 1),
            "rows_dropped": log.rows_dropped_total,
            "rows_thinned": log.rows_thinned_total,
            "segments_corrupt": log.segments_corrupt_total,
            "damaged": log.damaged_total,
            "writable": log.writable,
            "last_error": log.last_error[:REASON_MAX],
        },
        "clock": {"synchronised": is_synchronised(), "steps": clock.steps, "last_step_s": round(clock.last_step_s, 3)},
    }


def _failing(devices: list[DeviceHealth]) -> list[dict[str, Any]]:
    """Return the devices that are not connected, and why; the first hundred, for `devices` counts them all."""
    failing = [device for device in devices if device.state is not DeviceState.CONNECTED]
    return [
        {
            "device": device.name,
            "state": device.state.value,
            "since": iso8601(device.since),
            "reason": device.reason[:REASON_MAX],
        }
        for device in failing[:FAILING_MAX]
    ]
