"""What every driver must do, as functions over its specification. A new driver is tested by being installed.

The checks of one variant share its simulated device and leave it as they found it. A check that the device's
abilities do not allow returns False.
"""

import asyncio
from typing import Any

from drivers.api import DeviceContext, Driver, DriverSpec, Session, Simulated
from edge.core.batch import Batch, Waveform
from edge.core.catalogue import Catalogue
from edge.core.clock import SystemClock
from edge.core.errors import Disconnected
from edge.core.quality import is_bad

DEVICE = "machine"
ARRIVE_DEADLINE_S = 10.0
END_DEADLINE_S = 4.0
LOSS_DEADLINE_S = 20.0


def make_driver(spec: DriverSpec, device: Simulated) -> tuple[Driver, Catalogue]:
    """Return a driver for a simulated device, and the catalogue that names its tags."""
    catalogue = Catalogue()
    section = spec.section.model_validate(device.section)
    assert not section.problems(), section.problems()
    context = DeviceContext(DEVICE, 0.05, catalogue, SystemClock(), lambda name: device.secrets[name], device.shared)
    return spec.create(section, context), catalogue


async def _collect(
    session: Session, catalogue: Catalogue, wanted: set[str], bad: bool = False
) -> dict[str, tuple[Any, int]]:
    """Read until each wanted tag has come; with `bad`, until one of them came with bad quality."""
    seen: dict[str, tuple[Any, int]] = {}
    async with asyncio.timeout(ARRIVE_DEADLINE_S):
        while wanted - seen.keys() or (bad and not any(is_bad(seen[name][1]) for name in wanted)):
            for record in await session.read():
                if isinstance(record, Batch):
                    for tag_id, value, quality in zip(
                        record.tag.tolist(), record.value.tolist(), record.quality.tolist(), strict=True
                    ):
                        tag = catalogue[tag_id]
                        seen[tag.name] = (tag.present(value), quality)
                elif isinstance(record, Waveform):
                    seen[catalogue[record.tag].name] = (len(record), record.quality)
    return seen


async def check_values(spec: DriverSpec, device: Simulated) -> bool:
    """Every tag arrives with good quality and equals the simulated device's value, exactly and in its type."""
    driver, catalogue = make_driver(spec, device)
    async with driver.connect() as session:
        seen = await _collect(session, catalogue, set(device.expected))
        for name, expected in device.expected.items():
            value, quality = seen[name]
            assert not is_bad(quality), (name, hex(quality))
            assert value == expected, (name, value, expected)
            assert type(value) is type(expected), (name, value, expected)
        assert {catalogue[tag].name for tag in driver.tag_ids} == set(device.expected)
    return True


async def check_closing(spec: DriverSpec, device: Simulated) -> bool:
    """Closing and cancelling end within four seconds, in the middle of a read too, and can be repeated."""
    driver, _ = make_driver(spec, device)
    for reads in (0, 1):
        async with asyncio.timeout(END_DEADLINE_S + ARRIVE_DEADLINE_S), driver.connect() as session:
            for _ in range(reads):
                await session.read()

    async def live() -> None:
        async with driver.connect() as session:
            while True:
                await session.read()

    for patience_s in (0.0, 0.3):
        living = asyncio.create_task(live())
        await asyncio.sleep(patience_s)
        living.cancel()
        done, _ = await asyncio.wait({living}, timeout=END_DEADLINE_S)
        assert done, "cancelling did not end the session"
        assert living.cancelled(), living
    return True


async def check_cut(spec: DriverSpec, device: Simulated) -> bool:
    """A cut gives `Disconnected` in bounded time; after the repair the driver connects and reads again."""
    driver, catalogue = make_driver(spec, device)
    if device.cut is None:
        return False
    async with driver.connect() as session:
        await _collect(session, catalogue, set(device.expected))
        await device.cut()
        await _expect_disconnected(session)
    await device.restore()
    async with driver.connect() as session:
        await _collect(session, catalogue, set(device.expected))
    return True


async def _expect_disconnected(session: Session) -> None:
    try:
        async with asyncio.timeout(LOSS_DEADLINE_S):
            while True:
                await session.read()
    except Disconnected:
        return


async def check_spoiled_tag(spec: DriverSpec, device: Simulated) -> bool:
    """A tag that cannot be read is a row with bad quality, and no other tag is touched."""
    driver, catalogue = make_driver(spec, device)
    if device.spoil is None:
        return False
    async with driver.connect() as session:
        await _collect(session, catalogue, set(device.expected))
        victim = sorted(device.expected)[0]
        await device.spoil(victim)
        seen = await _collect(session, catalogue, {victim}, bad=True)
        assert is_bad(seen[victim][1])
        for name in seen.keys() - {victim}:
            assert seen[name] == (device.expected[name], seen[name][1]), name
            assert not is_bad(seen[name][1]), name
    await device.restore()
    return True


async def check_garbage(spec: DriverSpec, device: Simulated) -> bool:
    """Nonsense from the device never hangs a read and never becomes a good value."""
    driver, catalogue = make_driver(spec, device)
    if device.garbage is None:
        return False
    async with driver.connect() as session:
        await _collect(session, catalogue, set(device.expected))
        await device.garbage()
        try:
            async with asyncio.timeout(LOSS_DEADLINE_S):
                while not await _saw_bad(session, catalogue, device):
                    pass
        except Disconnected:
            pass
    await device.restore()
    return True


async def _saw_bad(session: Session, catalogue: Catalogue, device: Simulated) -> bool:
    bad = False
    for record in await session.read():
        if isinstance(record, Batch):
            for tag, value, quality in zip(
                record.tag.tolist(), record.value.tolist(), record.quality.tolist(), strict=True
            ):
                bad = bad or is_bad(quality)
                known = catalogue[tag]
                assert is_bad(quality) or known.present(value) == device.expected[known.name], known.name
        elif isinstance(record, Waveform):
            bad = bad or is_bad(record.quality)
            assert is_bad(record.quality) or len(record) == device.expected[catalogue[record.tag].name]
    return bad


async def check_times(spec: DriverSpec, device: Simulated) -> bool:
    """The times of a tag never go back."""
    driver, _ = make_driver(spec, device)
    async with driver.connect() as session:
        last: dict[int, int] = {}
        for _ in range(3):
            async with asyncio.timeout(LOSS_DEADLINE_S):
                for record in await session.read():
                    if isinstance(record, Batch):
                        for tag, ts in zip(record.tag.tolist(), record.ts.tolist(), strict=True):
                            assert ts >= last.get(tag, ts)
                            last[tag] = ts
    return True


async def check_unknown_keys(spec: DriverSpec, device: Simulated) -> bool:
    """Unknown keys are refused, in the section and in a tag."""
    from pydantic import ValidationError

    tags = dict(device.section["tags"])
    name = next(iter(tags))
    for wrong in (
        {**device.section, "no_such_key": 1},
        {**device.section, "tags": {**tags, name: {**tags[name], "no_such_key": 1}}},
    ):
        try:
            spec.section.model_validate(wrong)
        except ValidationError:
            continue
        raise AssertionError("an unknown key was taken")
    return True


CHECKS = (
    check_values,
    check_closing,
    check_cut,
    check_spoiled_tag,
    check_garbage,
    check_times,
    check_unknown_keys,
)
