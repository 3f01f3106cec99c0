"""`yulink quarantine`: messages that cannot pass, set aside in the log: listed, tried again, exported."""

import asyncio
import json
import os
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from buffer.quarantine_view import Content, read_quarantine, retry_at_next_start
from edge.agent.app import LOG_NAME
from edge.agent.commands.table import render
from edge.agent.configuration.loader import load
from edge.agent.configuration.settings import Settings
from edge.agent.status import NoAgent, ask_status, give_order
from edge.core.batch import Batch, Event, Record, Waveform
from edge.core.catalogue import Catalogue
from edge.core.clock import SystemClock, iso8601
from edge.core.errors import WrongInput, YulinkError
from edge.core.language import say
from uplink.catalogue import KINDS
from uplink.receiver import lines

EXIT_OK, EXIT_FAILED = 0, 1


def show(config: Path | None, data_dir: Path, uplink: str | None, *, json_output: bool) -> int:
    """Print what is set aside, oldest first, and return the exit code."""
    contents = asyncio.run(_contents(_settings(config), data_dir, uplink))
    if json_output:
        for each in contents:
            print(json.dumps(as_json(each), ensure_ascii=False))
    elif contents:
        print(_table(contents))
        print(say("try again: yulink quarantine retry ID…   keep a copy: yulink quarantine export FILE"))
    else:
        print(say("nothing is set aside"))
    return EXIT_OK


def retry(data_dir: Path, ids: Collection[int], uplink: str | None, *, everything: bool) -> int:
    """Send again what is set aside: by a running agent at once, else at the next start. Returns the exit code."""
    if not ids and not everything and uplink is None:
        raise WrongInput(say("which messages?"), say("name their ids, --uplink, or --all"))
    if ids and everything:
        raise WrongInput(say("ids and --all together"), say("write one of them"))
    going, words = asyncio.run(_retry(data_dir, list(ids) or None, uplink))
    if going or not ids:
        print(words if going else say("nothing is set aside that is not on its way already"))
    left = sorted(set(ids) - set(going))
    for each in left:
        print(say("message {id} is not set aside, or on its way already", id=each), file=sys.stderr)
    return EXIT_FAILED if left else EXIT_OK


def export(config: Path | None, data_dir: Path, file: Path, uplink: str | None) -> int:
    """Write every value that is set aside to a file, as `yulink receive --jsonl` prints it. Returns the exit code.

    A waveform comes with its samples. What the disk has damaged is told, and the rest written.
    """
    settings = _settings(config)
    contents = asyncio.run(_contents(settings, data_dir, uplink))
    gateway = settings.site if settings is not None else asyncio.run(_site(data_dir))
    rows = 0
    with _to(file) as out:
        for each in contents:
            for line in _lines(each, gateway):
                out.write(json.dumps(line, ensure_ascii=False) + "\n")
                rows += 1
    damaged = [each.entry.id for each in contents if each.records is None]
    for entry in damaged:
        print(say("message {id}: the disk has damaged it; it cannot be written", id=entry), file=sys.stderr)
    words = say("{rows} values of {messages} messages", rows=rows, messages=len(contents) - len(damaged))
    print(words, file=sys.stderr)
    return EXIT_FAILED if damaged else EXIT_OK


def as_json(content: Content) -> dict[str, Any]:
    """Return what is told of one message to programs."""
    entry = content.entry
    return {
        "id": entry.id,
        "uplink": entry.uplink,
        "epoch": entry.epoch,
        "seq": entry.seq,
        "devices": content.devices,
        "rows": entry.rows,
        "from": iso8601(entry.ts_min),
        "to": iso8601(entry.ts_max),
        "bytes": entry.stored_bytes,
        "since": iso8601(entry.since),
        "reason": entry.reason,
        "retrying": content.retrying,
        "damaged": content.records is None,
    }


def _settings(config: Path | None) -> Settings | None:
    return load(config, offline=True) if config is not None else None


async def _contents(settings: Settings | None, data_dir: Path, uplink: str | None) -> list[Content]:
    secrets = settings.log_secrets() if settings is not None else ()
    return [each async for each in read_quarantine(data_dir / LOG_NAME, uplink, *secrets)]


async def _retry(data_dir: Path, ids: list[int] | None, uplink: str | None) -> tuple[list[int], str]:
    """Return the ids of what goes again, and the words for it."""
    try:
        told = await give_order(data_dir, "quarantine_retry", ids=ids, uplink=uplink)
        going: list[int] = told["ids"]
        return going, say("{count} messages go again now", count=len(going))
    except NoAgent:
        entries = await retry_at_next_start(data_dir / LOG_NAME, SystemClock().now(), uplink, ids)
        return [each.id for each in entries], say(
            "{count} messages go again at the next start of the agent", count=len(entries)
        )


async def _site(data_dir: Path) -> str:
    """Return the name of the gateway at work on a data directory, "" when none is."""
    try:
        return str((await ask_status(data_dir))["site"])
    except NoAgent:
        return ""


def _table(contents: Sequence[Content]) -> str:
    head = [say("id"), say("uplink"), say("devices"), say("values"), say("from"), say("to"), say("bytes")]
    rows = [[*head, say("set aside"), say("reason")]]
    for each in contents:
        entry, reason = each.entry, each.entry.reason
        if each.records is None:
            reason += " — " + say("damaged on the disk")
        elif each.retrying:
            reason += " — " + say("on its way again")
        times = [_time(ts) for ts in (entry.ts_min, entry.ts_max)]
        named = ", ".join(each.devices) or "–"
        size = [f"{entry.rows:,}", *times, f"{entry.stored_bytes:,}"]
        rows.append([str(entry.id), entry.uplink, named, *size, _time(entry.since), reason])
    return render(rows, left=(1, 2, 4, 5, 7, 8))


def _time(ts: int) -> str:
    return datetime.fromtimestamp(ts // 10**9, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


@contextmanager
def _to(file: Path) -> Iterator[IO[str]]:
    """Open a new file that is there, whole and durable, after the block and not before; `-` is the standard output."""
    if str(file) == "-":
        yield sys.stdout
        return
    if file.exists():
        raise WrongInput(say("{file} is there already", file=file), say("name a new file; none is overwritten"))
    unfinished = file.with_name(f".{file.name}.unfinished")
    try:
        with unfinished.open("w", encoding="utf-8") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        unfinished.rename(file)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise YulinkError(
            say("{file} cannot be written: {error}", file=file, error=error), say("check the folder and its rights")
        ) from error


def _lines(content: Content, gateway: str) -> Iterator[dict[str, Any]]:
    for record in content.records or ():
        yield from _of_record(record, gateway, content.catalogue, {"seq": content.entry.seq, "historical": True})


def _of_record(record: Record, gateway: str, catalogue: Catalogue, common: dict[str, Any]) -> Iterator[dict[str, Any]]:
    match record:
        case Batch():
            columns = record.tag, record.ts, record.value, record.quality, record.revisions()
            for number, ts, value, quality, revision in zip(*(column.tolist() for column in columns), strict=True):
                tag = catalogue[number]
                shown = tag.present(value)
                worth = quality, KINDS[tag.kind], revision
                yield lines.reading(gateway, tag.device, tag.name, ts, shown, tag.unit, *worth) | common
        case Waveform():
            tag = catalogue[record.tag]
            facts = (record.ts, record.rate_hz, record.full_scale, tag.unit, len(record), record.quality)
            wave = lines.waveform(gateway, tag.device, tag.name, *facts)
            yield {"waveform": wave | {f"{record.samples.dtype}_samples": record.samples.tolist()} | common}
        case Event():
            told = (record.source, record.kind, int(record.severity), record.message, dict(record.facts))
            yield {"event": lines.event(gateway, record.ts, *told) | common}
