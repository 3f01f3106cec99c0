"""Waveforms as blocks of registers: whole, of one moment, or marked; and wide values a device gives in pieces."""

from collections.abc import Sequence
from typing import Any

import pytest

from drivers.modbus import SPEC
from edge.core.batch import Batch, Waveform
from edge.core.errors import Disconnected
from edge.core.quality import StatusCode
from simulators.modbus import Unit, serve_tcp
from tests.drivers.support import make_driver

SAMPLES = 512


def wave(generation: int) -> list[int]:
    return [(place * 7 + generation * 1000) % 4096 - 2048 for place in range(SAMPLES)]


class Sensor:
    """Measures anew whenever it was asked so often; its registers then all change at once."""

    def __init__(self, requests_a_measurement: int, changes_max: int = 10**9) -> None:
        self.unit = Unit()
        self.generation = 0
        self._every = requests_a_measurement
        self._left = changes_max
        self._asked = 0
        self._put()
        self.unit.on_request = self._count

    def _put(self) -> None:
        self.unit.put("holding", 1000, "i16", wave(self.generation))
        self.unit.put("holding", 900, "u16", self.generation)

    def _count(self, *_: Any) -> None:
        self._asked += 1
        if self._asked % self._every == 0 and self._left:
            self._left -= 1
            self.generation += 1
            self._put()


def settings(url: str, **more: Any) -> dict[str, Any]:
    tag = {"at": "holding/1000", "type": f"i16[{SAMPLES}]", "rate": "6.4 kHz", "full_scale": "8 g", **more}
    return {"modbus": url, "every": "10ms", "limits": {"timeout": "300ms"}, "tags": {"w": tag}}


async def record(sensor: Sensor, polls: int = 1, **more: Any) -> tuple[list[Waveform], Any]:
    async with serve_tcp({1: sensor.unit}) as server:
        driver, _ = make_driver(SPEC, settings(server.url, **more))
        waves: list[Waveform] = []
        async with driver.connect() as session:
            while len(waves) < polls:
                waves += [each for each in await session.read() if isinstance(each, Waveform)]
        return waves, driver


def is_of_one_moment(samples: Sequence[int]) -> bool:
    return any(list(samples) == wave(generation) for generation in range(100))


@pytest.mark.parametrize("more", [{}, {"guard": "holding/900"}])
async def test_a_waveform_of_many_requests_comes_whole(more: dict[str, Any]) -> None:
    (first,), _ = await record(Sensor(10**9), **more)
    assert (first.rate_hz, first.full_scale, first.quality) == (6400.0, 8.0, 0)
    assert first.samples.tolist() == wave(0)


@pytest.mark.parametrize("more", [{}, {"guard": "holding/900"}])
@pytest.mark.parametrize("at", range(2, 8))
async def test_a_block_that_was_measured_anew_meanwhile_is_read_again(at: int, more: dict[str, Any]) -> None:
    (first,), driver = await record(Sensor(at, changes_max=1), **more)
    assert first.quality == 0
    assert is_of_one_moment(first.samples.tolist())
    assert driver.counters["torn_total"] == 0


@pytest.mark.parametrize("more", [{}, {"guard": "holding/900"}])
async def test_a_block_that_keeps_changing_is_marked(more: dict[str, Any]) -> None:
    (first,), driver = await record(Sensor(3), **more)
    assert first.quality == StatusCode.UNCERTAIN
    assert len(first) == SAMPLES
    assert driver.counters["torn_total"] == 1


@pytest.mark.parametrize("every", range(1, 12))
async def test_no_torn_waveform_is_ever_called_good(every: int) -> None:
    waves, _ = await record(Sensor(every), polls=3)
    for each in waves:
        assert each.quality == StatusCode.UNCERTAIN or is_of_one_moment(each.samples.tolist())


async def test_a_waveform_that_cannot_be_read_is_a_bad_record_without_samples() -> None:
    sensor = Sensor(10**9)
    sensor.unit.exceptions["holding", 1300] = 2
    waves, _ = await record(sensor, polls=2)
    assert {(each.quality, len(each)) for each in waves} == {(StatusCode.BAD_CONFIGURATION_ERROR, 0)}


async def test_wide_integers_mean_their_full_scale_too() -> None:
    sensor = Sensor(10**9)
    sensor.unit.put("holding", 1000, "i32", [2**30, -(2**31)])
    (first,), _ = await record(sensor, type="i32[2]")
    assert (first.samples.tolist(), first.samples.dtype.kind) == ([4.0, -8.0], "f")


async def test_other_tags_keep_their_pace_beside_a_waveform() -> None:
    sensor = Sensor(10**9)
    sensor.unit.put("input", 0, "u16", 5)
    async with serve_tcp({1: sensor.unit}) as server:
        section = settings(server.url, every="1s")
        section["tags"]["level"] = {"at": "input/0", "every": "5ms"}
        driver, _ = make_driver(SPEC, section)
        kinds: list[str] = []
        async with driver.connect() as session:
            while "Waveform" not in kinds or kinds.count("Batch") < 5:
                kinds += [type(each).__name__ for each in await session.read() if isinstance(each, Batch | Waveform)]
        assert kinds.count("Waveform") == 1


async def test_a_counter_in_pieces_is_never_a_mixture() -> None:
    """A device of single registers counts on between our two requests; around a carry the halves do not belong."""
    unit, count = Unit(registers_max=1), [0x0001_FFF0]

    def count_on(*_: Any) -> None:
        count[0] += 5
        unit.put("holding", 0, "u32", count[0])

    unit.put("holding", 0, "u32", count[0])
    unit.on_request = count_on
    async with serve_tcp({1: unit}) as server:
        section = {"modbus": server.url, "every": "1ms", "limits": {"registers": 1, "timeout": "300ms"}}
        driver, _ = make_driver(SPEC, {**section, "tags": {"total": {"at": "holding/0", "type": "u32"}}})
        async with driver.connect() as session:
            for _ in range(40):
                before = count[0]
                for batch in await session.read():
                    assert isinstance(batch, Batch)
                    (value,), (quality,) = batch.value.tolist(), batch.quality.tolist()
                    assert quality == StatusCode.UNCERTAIN or before <= value <= count[0], hex(value)


@pytest.mark.parametrize(
    "more", [{"guard": "holding/x"}, {"guard": "40901"}, {"type": "i16", "guard": "holding/900"}, {"rate": "6.4"}]
)
def test_wrong_waveform_settings_are_refused(more: dict[str, Any]) -> None:
    try:
        section = SPEC.section.model_validate(settings("tcp://127.0.0.1", **more))
    except ValueError:
        return
    assert section.problems()


async def test_a_device_lost_in_the_middle_of_a_waveform_is_lost() -> None:
    sensor = Sensor(10**9)

    def stop(table: str, address: int, count: int) -> None:
        sensor.unit.silent = address > 1100

    sensor.unit.on_request = stop
    with pytest.raises(Disconnected):
        await record(sensor)
