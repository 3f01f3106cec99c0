"""`yulink replay`: a recording through the same pipeline as in `yulink run`, in event time, as fast as it goes.

Same input, same output, byte for byte: nothing here looks at a clock.
"""

import heapq
import json
import math
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edge.agent.commands.event_line import as_line, as_text
from edge.agent.commands.recorded import Recording, near, read
from edge.agent.configuration.loader import load
from edge.agent.configuration.rules import rules_of
from edge.agent.configuration.settings import Settings
from edge.agent.ingest import Ingest
from edge.analytics import registry
from edge.analytics.operator import Output, Reading
from edge.analytics.pipeline import Outcome, Pipeline
from edge.core.batch import Batch, Event, Lane
from edge.core.catalogue import Catalogue, Tag, ValueKind
from edge.core.clock import iso8601
from edge.core.errors import WrongInput
from edge.core.language import say
from edge.core.quality import describe, is_bad

CHUNK_ROWS = 20_000
LINES_HELD_MAX = 200_000


def run(config: Path, file: Path, *, jsonl: bool) -> int:
    """Print every derived row and event that a recording gives, in order of time. Returns the exit code."""
    settings = load(config)
    if settings.analytics is None:
        raise WrongInput(say("nothing is derived in this configuration"), say("add `derived:` or `alarms:` to it"))
    line = registry.build(settings.analytics)
    known = _known(settings)
    recording = read(file, known)
    told = set(line.outputs)
    for path, rows in recording.unknown.items():
        if path not in told:  # a derived tag in a recording is made anew
            print(_passed_over(path, rows, near(path, known)), file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="yulink-replay-") as folder:
        lines = _Lines(Path(folder))
        for outcome in play(line, settings, recording):
            for path, reading in outcome.readings:
                lines.put(reading.ts, _reading(line.outputs[path], reading, jsonl=jsonl))
            for event in outcome.events:
                lines.put(event.ts, _event(event, jsonl=jsonl))
        for text in lines.in_order():
            sys.stdout.write(text + "\n")
        sys.stdout.flush()
    return 0


def _passed_over(path: str, rows: int, nearest: str) -> str:
    message = say("{rows} rows of {path} were passed over: it is not in the configuration", rows=rows, path=path)
    return f"{message} ({say('did you mean {name}?', name=nearest)})" if nearest else message


def _known(settings: Settings) -> dict[str, ValueKind | None]:
    """Return the kind of each device's tags, as far as the configuration tells it."""
    kinds: dict[str, ValueKind | None] = {}
    for name, device in settings.devices.items():
        for tag, section in device.section.tags.items():
            kind = section.value_kind()
            if kind != "waveform":
                kinds[f"{name}.{tag}"] = None if kind is None else ValueKind(kind)
    for part in (settings.analytics or {"parts": []})["parts"]:
        for path in part["settings"] if part["kind"] == "derived" else ():
            kinds.pop(path, None)
    return kinds


def play(line: Pipeline, settings: Settings, recording: Recording) -> Iterator[Outcome]:
    """Yield what comes of one piece of a recording after the other."""
    catalogue = Catalogue()
    tags = [_tag(settings, catalogue, path, kind) for path, kind in zip(recording.paths, recording.kinds, strict=True)]
    line.learn(tags)
    ids = np.array([tag.id for tag in tags], np.int32)
    lanes = np.array([tag.kind.lane for tag in tags], np.int8)
    devices = np.array([list(settings.devices).index(tag.device) for tag in tags], np.int32)
    rules = {
        name: {
            tag: replace(rule, clock_tolerance=None)  # a recording has no clock beside it
            for tag, rule in rules_of(device.section, device.frozen_after, None).items()
        }
        for name, device in settings.devices.items()
    }
    ingests = [Ingest(name, rules[name], catalogue) for name in settings.devices]
    columns = {Lane.FLOAT: recording.number, Lane.INT: recording.whole, Lane.TEXT: recording.text}
    first = 0
    while first < len(recording.ts):
        last = min(first + CHUNK_ROWS, len(recording.ts))
        last = int(np.searchsorted(recording.ts, recording.ts[last - 1], side="right"))  # a moment stays whole
        rows = np.arange(first, last)
        batches = []
        for lane, values in columns.items():
            for number, ingest in enumerate(ingests):
                place = recording.place[rows]
                chosen = rows[(lanes[place] == lane) & (devices[place] == number)]
                if len(chosen):
                    tag = ids[recording.place[chosen]]
                    batch = Batch.of(lane, tag, recording.ts[chosen], values[chosen], recording.quality[chosen])
                    batches.append(ingest.take(batch))
        yield line.play(batches, int(recording.ts[last - 1]))
        first = last


def _tag(settings: Settings, catalogue: Catalogue, path: str, kind: ValueKind) -> Tag:
    device, _, name = path.partition(".")
    section = settings.devices[device].section.tag_of(name)
    return catalogue.intern(device, name, kind, section.unit if section is not None else "")


def _reading(output: Output, reading: Reading, *, jsonl: bool) -> str:
    value: Any = None if is_bad(reading.quality) else reading.value
    if isinstance(value, float) and not math.isfinite(value):
        value = "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if not jsonl:
        shown = describe(reading.quality) if value is None else json.dumps(value, ensure_ascii=False)
        unit = f" {output.unit}" if output.unit and value is not None else ""
        unsure = f" ({describe(reading.quality)})" if reading.quality and value is not None else ""
        again = f" r{reading.revision}" if reading.revision else ""
        return f"{iso8601(reading.ts)} {output.path} = {shown}{unit}{unsure}{again}"
    return json.dumps(
        {
            "ts": iso8601(reading.ts),
            "device": output.device,
            "tag": output.name,
            "value": value,
            "unit": output.unit,
            "quality": f"0x{reading.quality:08X}",
            "revision": reading.revision,
            "inputs": list(output.inputs),
        },
        ensure_ascii=False,
    )


def _event(event: Event, *, jsonl: bool) -> str:
    return as_line(event) if jsonl else f"{iso8601(event.ts)} {as_text(event)}"


class _Lines:
    """Lines in order of their time, of equal times as they came; many wait in files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held: list[tuple[int, int, str]] = []
        self._files: list[Path] = []
        self._number = 0

    def put(self, ts: int, text: str) -> None:
        """Take a line."""
        self._held.append((ts, self._number, text))
        self._number += 1
        if len(self._held) >= LINES_HELD_MAX:
            self._held.sort()
            self._files.append(self._folder / str(len(self._files)))
            with self._files[-1].open("w", encoding="utf-8") as file:
                file.writelines(f"{ts} {number} {text}\n" for ts, number, text in self._held)
            self._held = []

    def in_order(self) -> Iterator[str]:
        """Yield all lines."""
        self._held.sort()
        return (text for _, _, text in heapq.merge(self._held, *map(_stored, self._files)))


def _stored(path: Path) -> Iterator[tuple[int, int, str]]:
    with path.open(encoding="utf-8") as file:
        for line in file:
            ts, number, text = line.rstrip("\n").split(" ", 2)
            yield int(ts), int(number), text
