"""`yulink read`: connect to one device, read it once, print what came. Nothing is stored or sent."""

import asyncio
import difflib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from drivers.api import DeviceContext, Inspectable, Shared
from edge.agent.configuration.loader import load
from edge.agent.configuration.settings import Device, Settings
from edge.core.batch import Event, Record, Waveform
from edge.core.catalogue import Catalogue, Tag
from edge.core.clock import SystemClock
from edge.core.errors import Disconnected, WrongInput
from edge.core.language import say
from edge.core.quality import describe, is_bad

CONNECT_DEADLINE_S = 20.0
COMPLETE_DEADLINE_S = 15.0


def run(config: Path, device: str, tags: Sequence[str], data_dir: Path, *, json_output: bool) -> int:
    """Print name, value, unit, quality and raw origin of each tag. Returns 0, or 1 when a value is bad."""
    settings = load(config, offline=True)
    chosen = find_device(settings, device, config)
    rows = asyncio.run(_read(settings, chosen, data_dir))
    if unknown := [tag for tag in tags if tag not in {row["tag"] for row in rows}]:
        raise WrongInput(
            say("{device} has no tag {tag!r}", device=device, tag=unknown[0]),
            hint=say("tags: {names}", names=", ".join(row["tag"] for row in rows)),
        )
    shown = [row for row in rows if not tags or row["tag"] in tags]
    print(json.dumps({"device": device, "tags": shown}, ensure_ascii=False) if json_output else _table(shown))
    return 1 if any(is_bad(int(row["quality"], 16)) for row in shown) else 0


def find_device(settings: Settings, device: str, config: Path) -> Device:
    """Return a device by its name. Raises WrongInput, with the nearest name that there is."""
    if device not in settings.devices:
        near = difflib.get_close_matches(device, settings.devices, 1)
        raise WrongInput(
            say("there is no device {device!r} in {config}", device=device, config=config),
            hint=say("did you mean {name!r}?", name=near[0])
            if near
            else say("devices: {names}", names=", ".join(settings.devices)),
        )
    return settings.devices[device]


async def _read(settings: Settings, device: Device, data_dir: Path) -> list[dict[str, Any]]:
    """Read until every tag has come once, or for 15 s: a subscription delivers in several pieces."""
    catalogue = Catalogue()
    shared = Shared()
    context = DeviceContext(device.name, device.every, catalogue, SystemClock(), settings.secret, shared, data_dir)
    driver = device.spec.create(device.section, context)
    rows: dict[str, dict[str, Any]] = {}
    raw: dict[str, str] = {}
    try:
        async with asyncio.timeout(CONNECT_DEADLINE_S + COMPLETE_DEADLINE_S), driver.connect() as session:
            try:
                async with asyncio.timeout(COMPLETE_DEADLINE_S):
                    while any(catalogue[tag].name not in rows for tag in driver.tag_ids):
                        for record in await session.read():
                            rows.update((row["tag"], row) for row in _rows(catalogue, record))
            except TimeoutError:
                if not rows:
                    raise
            if isinstance(session, Inspectable):
                raw.update(session.raw())
    except TimeoutError as error:
        raise Disconnected(say("{device}: no answer within the deadline", device=device.name)) from error
    finally:
        shared.close()
    for tag in (catalogue[tag] for tag in driver.tag_ids):
        missing = {"tag": tag.name, "value": None, "unit": tag.unit, "quality": "0x80320000"}
        rows.setdefault(tag.name, missing)["raw"] = raw.get(tag.name, "")
    return list(rows.values())


def _rows(catalogue: Catalogue, record: Record) -> list[dict[str, Any]]:
    if isinstance(record, Event):
        return []
    if isinstance(record, Waveform):
        value = say("{samples} samples at {rate:g} Hz", samples=len(record), rate=record.rate_hz)
        return [_row(catalogue[record.tag], value, record.quality)]
    return [
        _row(catalogue[tag], catalogue[tag].present(value), quality)
        for tag, value, quality in zip(record.tag.tolist(), record.value.tolist(), record.quality.tolist(), strict=True)
    ]


def _row(tag: Tag, value: object, quality: int) -> dict[str, Any]:
    shown = None if is_bad(quality) else value
    return {"tag": tag.name, "value": shown, "unit": tag.unit, "quality": f"0x{quality:08X}"}


def _table(rows: Sequence[dict[str, Any]]) -> str:
    cells = [
        (
            row["tag"],
            "-"
            if row["value"] is None
            else f"{row['value']:.6g}"
            if isinstance(row["value"], float)
            else str(row["value"]),
            row["unit"],
            describe(int(row["quality"], 16)),
            row["raw"],
        )
        for row in rows
    ]
    widths = [max((len(cell[column]) for cell in cells), default=0) for column in range(4)]
    return "\n".join(
        "  ".join([*(cell[column].ljust(widths[column]) for column in range(4)), cell[4]]).rstrip() for cell in cells
    )
