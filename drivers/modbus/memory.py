"""What was learned of a device, in a file beside the gateway's others, so that a restart costs no search.

A hint, never a setting: it may be gone, and is learned again; it may be wrong, and is found out as `Known` tries
everything again. It is of one unit at one address; under another it is not used.
"""

import json
import logging
from pathlib import Path
from typing import Any
from urllib.parse import quote

from drivers.modbus.known import Known, Refusal
from drivers.modbus.section import ADDRESSES, ModbusSection
from edge.core.language import say

FOLDER = "modbus"
ENTRIES_MAX = 5000
_TABLES = ("coil", "discrete", "input", "holding")

log = logging.getLogger("yulink.modbus")


class Memory:
    """The file of one device. Without a data directory nothing is kept."""

    def __init__(self, data_dir: Path | None, device: str, section: ModbusSection) -> None:
        self._path = data_dir / FOLDER / f"{quote(device, safe='')}.json" if data_dir else None
        self._device = device
        self._of = [section.modbus, section.id]
        self._kept = ""

    def recall(self, known: Known, now: float, pause: float) -> None:
        """Take up what was kept, to be tried again after a pause. Blocks for as long as the disk takes."""
        if self._path is None or not self._path.exists():
            return
        try:
            told = json.loads(self._path.read_text("utf-8"))
            if told["of"] == self._of:
                _take_up(known, told, now, pause)
        except (OSError, ValueError, KeyError, TypeError) as error:
            words = say("{device}: what was learned cannot be read and is learned again", device=self._device)
            log.warning("%s: %s", words, error)

    def keep(self, known: Known) -> None:
        """Keep what is known now, if it is anything else than was kept last. Blocks for as long as the disk takes."""
        text = json.dumps({"of": self._of, **_as_json(known)})
        if self._path is None or text == self._kept:
            return
        self._kept = text
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            new = self._path.with_name(self._path.name + ".new")
            new.write_text(text, "utf-8")
            new.replace(self._path)
        except OSError as error:
            log.warning(say("{device}: what was learned cannot be kept: {error}", device=self._device, error=error))


def _as_json(known: Known) -> dict[str, Any]:
    return {
        "registers": known.registers_max,
        "bits": known.bits_max,
        "barriers": sorted(known.barriers)[:ENTRIES_MAX],
        "refused": [(*place, why.code) for place, why in sorted(known.refused.items())][:ENTRIES_MAX],
        "unsupported": sorted((table, why.code) for table, why in known.unsupported.items()),
    }


def _take_up(known: Known, told: Any, now: float, pause: float) -> None:
    """Raises ValueError, KeyError, TypeError for what cannot be; then nothing was taken up."""
    registers, bits = _within(told["registers"], 125), _within(told["bits"], 2000)
    barriers = {(_table(table), _within(address, ADDRESSES)) for table, address in told["barriers"]}
    refused = {
        (_table(table), _within(address, ADDRESSES, 0)): Refusal(int(code), now + pause, pause)
        for table, address, code in told["refused"]
    }
    unsupported = {_table(table): Refusal(int(code), now + pause, pause) for table, code in told["unsupported"]}
    known.registers_max, known.bits_max = registers, bits
    known.barriers |= barriers
    known.refused |= refused
    known.unsupported |= unsupported
    known.doubt(now, pause)


def _within(number: Any, most: int, least: int = 1) -> int:
    if type(number) is not int or not least <= number <= most:
        raise ValueError(f"{number!r} is not from {least} to {most}")
    return number


def _table(name: Any) -> Any:
    if name not in _TABLES:
        raise ValueError(f"{name!r} is no table")
    return name
