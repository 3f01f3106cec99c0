"""Files in a folder: complete before they are taken, taken exactly once whatever is killed, refused with a reason."""

import asyncio
import os
import random
import struct
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.api import DeviceContext
from drivers.files import SPEC
from drivers.files.driver import FilesDriver
from drivers.files.folder import Folder
from drivers.files.names import finder
from drivers.files.recording import PIECE_SAMPLES
from edge.core.batch import Event, Record, Waveform
from edge.core.catalogue import Catalogue
from edge.core.clock import VirtualClock
from edge.core.errors import Disconnected, WrongInput
from edge.core.quality import StatusCode
from edge.core.waveform_formats import FORMATS, decode

T0 = 1_767_225_600 * 10**9
RAMP = (np.arange(2000) % 500 - 250).astype(np.int16)


class Log:
    """What the agent's log does for a driver: keeps waveforms; those that are not durable a crash takes."""

    def __init__(self) -> None:
        self.waves: list[Waveform] = []
        self.events: list[Event] = []
        self.durable_count = 0

    def put(self, record: Record) -> None:
        if isinstance(record, Waveform):
            self.waves.append(record)
        elif isinstance(record, Event):
            self.events.append(record)

    def crash(self) -> None:
        del self.waves[self.durable_count :]

    async def durable(self) -> None:
        self.durable_count = len(self.waves)

    async def held(self, tag: int, times: Sequence[int]) -> set[int]:
        return {wave.ts for wave in self.waves if wave.tag == tag} & set(times)


def driver(folder: Path, log: Log | None, tags: dict[str, Any] | None = None, **more: Any) -> FilesDriver:
    tags = tags or {"de": {"rate": "1 kHz", "unit": "g"}}
    section = SPEC.section.model_validate({"files": str(folder), "settle": "0ms", "tags": tags, **more})
    assert not section.problems()
    context = DeviceContext("pump", 0.05, Catalogue(), VirtualClock(T0), str, kept=log)
    made = SPEC.create(section, context)
    assert isinstance(made, FilesDriver)
    return made


def drop(folder: Path, name: str, samples: Any = RAMP, modified_s: float = 0.0) -> None:
    """Write a file whose recording ended so long after T0."""
    np.save(folder / name, samples)
    os.utime(folder / name, ns=(T0, T0 + round(modified_s * 1e9)))


async def taken(made: FilesDriver, log: Log, files: int = 1) -> None:
    """Read so many files, and once more, which finishes the last."""
    async with made.connect() as session:
        for _ in range(files + 1):
            for record in await _soon(made, session.read()):
                log.put(record)


async def _soon(made: FilesDriver, reading: Any) -> Sequence[Record]:
    """Await a read while its virtual clock runs on."""
    task = asyncio.ensure_future(reading)
    clock = made.context.clock
    assert isinstance(clock, VirtualClock)
    while not task.done():
        await asyncio.wait({task}, timeout=0.001)
        await clock.advance(10.0)
    found: Sequence[Record] = task.result()
    return found


def names(folder: Path) -> list[str]:
    return sorted(str(each.relative_to(folder)) for each in folder.rglob("*") if each.is_file())


def wav(samples: np.ndarray[Any, Any], tag: int, bits: int, rate: int = 8000, extra: bytes = b"") -> bytes:
    channels = 1 if samples.ndim == 1 else samples.shape[1]
    if bits == 24:
        body = samples.astype("<i4").tobytes()
        body = b"".join(body[4 * k : 4 * k + 3] for k in range(samples.size))
    else:
        body = samples.tobytes()
    form = struct.pack("<HHIIHH", tag, channels, rate, rate * channels * bits // 8, channels * bits // 8, bits)
    chunks = b"fmt " + struct.pack("<I", len(form)) + form + extra + b"data" + struct.pack("<I", len(body)) + body
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


@pytest.mark.parametrize(
    ("data", "share"),
    [
        (wav(RAMP, 1, 16), 2**15), (wav((RAMP // 2 + 128).astype(np.uint8), 1, 8), 2**15 / 128),
        (wav(RAMP.astype(np.int32) * 256, 1, 24), 2**15), (wav(RAMP.astype(np.int32) * 2**16, 1, 32), 2**15),
        (wav((RAMP / 2**15).astype(np.float32), 3, 32), 2**15), (wav(RAMP / 2**15, 3, 64), 2**15),
        (wav(np.stack([RAMP, RAMP], axis=1), 1, 16), 2**15),
        (wav(RAMP, 1, 16, extra=b"LIST" + struct.pack("<I", 3) + b"abc\0"), 2**15),
    ],
)  # fmt: skip
def test_every_wav_has_the_samples_that_were_written(data: bytes, share: float) -> None:
    found = decode("x.wav", data)
    raw = found.channels["0"]
    values = raw / (float(np.iinfo(raw.dtype).max) + 1 if raw.dtype.kind == "i" else 1.0)
    expected = RAMP / 2**15 if share == 2**15 else (RAMP // 2 + 128).astype(np.uint8) / 128 - 1
    assert np.allclose(values, expected, atol=1e-9)
    assert found.facts.rate_hz == 8000


HEADS = st.sampled_from([b"", b"RIFF\0\0\0\0WAVE", b"\x93NUMPY", wav(RAMP[:9], 1, 16)[:40]])


@given(st.sampled_from(sorted(FORMATS)), st.binary(max_size=300), HEADS)
def test_any_bytes_are_a_recording_or_refused(ending: str, data: bytes, head: bytes) -> None:
    """Nothing but `WrongInput` comes out of a foreign file."""
    with suppress(WrongInput):
        assert all(row.ndim == 1 for row in decode(f"x{ending}", head + data).channels.values())


def test_an_archive_that_unpacks_to_too_much_is_refused(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "x.npz", a=np.zeros(10**6))
    with pytest.raises(WrongInput, match="8 MB when unpacked"):
        decode("x.npz", (tmp_path / "x.npz").read_bytes(), 10**6)


def test_a_file_is_complete_when_it_stays_as_it_is(tmp_path: Path) -> None:
    folder = Folder(tmp_path, 2.0, lambda name: True)
    for name in (".hidden.npy", "a.npy.part", "b.pdf", "c.npy"):
        drop(tmp_path, "x.npy")
        (tmp_path / "x.npy").rename(tmp_path / name)
    assert folder.complete(0.0) == []
    with (tmp_path / "c.npy").open("ab") as file:
        file.write(b"more")
    assert folder.complete(2.0) == [], "it has grown"
    assert folder.complete(3.9) == []
    assert [each.path.name for each in folder.complete(4.0)] == ["c.npy"]


async def test_what_is_older_comes_first_and_a_long_one_in_pieces_without_a_gap(tmp_path: Path) -> None:
    log, n = Log(), PIECE_SAMPLES + 1000
    drop(tmp_path, "b.npy", RAMP, 100.0)
    drop(tmp_path, "a.npy", np.arange(n, dtype=np.float32), 200.0)
    made = driver(tmp_path, log, {"de": {"rate": "1 kHz", "full_scale": "8 g"}})
    await taken(made, log, 2)
    assert [(wave.ts - T0) / 1e9 for wave in log.waves] == [98.0, 200 - n / 1000, 200 - 1.0]
    assert [len(wave) for wave in log.waves] == [2000, PIECE_SAMPLES, 1000]
    assert log.waves[0].samples.dtype == np.int16
    assert (log.waves[0].full_scale, log.waves[1].samples[-1]) == (8.0, 8.0 * (PIECE_SAMPLES - 1))
    assert made.context.catalogue[log.waves[0].tag].unit == "g"
    assert names(tmp_path) == ["done/a.npy", "done/b.npy"]
    assert made.counters["files_total"] == 2


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_is_killed_each_file_is_in_the_log_exactly_once(tmp_path: Path, seed: int) -> None:
    chance, log = random.Random(seed), Log()
    tags = {"de": {"channel": 0, "rate": "1 kHz"}, "nde": {"channel": 1, "rate": "1 kHz"}}
    for number in range(6):
        drop(tmp_path, f"{number}.npy", np.stack([RAMP, -RAMP]), 10.0 * number)
    for life in range(40):
        made = driver(tmp_path, log, tags)
        async with made.connect() as session:
            for _ in range(chance.randrange(1, 4)):
                if not any(each.suffix == ".npy" for each in tmp_path.iterdir()) and life > 30:
                    break
                records = await _soon(made, session.read())
                put = chance.choice([0, 1, len(records), len(records)])
                for record in records[:put]:
                    log.put(record)
                if chance.random() < 0.5:
                    await log.durable()
                if put < len(records) or chance.random() < 0.3:
                    break  # who is cut off while it puts them reads no more
            log.crash()
    await taken(driver(tmp_path, log, tags), log, 7)
    count = Counter((wave.tag, wave.ts) for wave in log.waves)
    assert set(count.values()) == {1}
    assert len(count) == 12
    assert names(tmp_path) == [f"done/{number}.npy" for number in range(6)]


async def test_a_bad_file_goes_away_with_its_reason_and_a_name_that_is_there_gets_a_number(tmp_path: Path) -> None:
    log = Log()
    made = driver(tmp_path, log, {"de": {"rate": "1 kHz"}, "nde": {"channel": "NDE", "rate": "1 kHz"}}, max="1 MB")
    for number, (name, data) in enumerate(
        [("a.wav", b"RIFF"), ("b.mat", b"MATLAB 5.0"), ("a.wav", b"RIFF"), ("c.csv", b"DE;NDE\n1;2\n3;x\n"),
         ("d.csv", b"DE\n1\n2\n"), ("e.wav", wav(RAMP, 1, 16)), ("f.npy", b"\0" * 2_000_000)]
    ):  # fmt: skip
        (tmp_path / name).write_bytes(data)
        os.utime(tmp_path / name, ns=(T0, T0 + number * 10**9))
        await taken(made, log, 1)
    reasons = [str(event.facts["reason"]) for event in log.events]
    for reason, words in zip(
        reasons,
        ["a.wav cannot be read", "savez", "a.wav cannot", "c.csv, line 3, column 2", "has no channel 'NDE'",
         "e.wav says 8000 Hz, the configuration 1000 Hz", "f.npy has 2 MB"],
        strict=True,
    ):  # fmt: skip
        assert words in reason, reason
    assert {event.kind for event in log.events} == {"file_refused"}
    good = [wave for wave in log.waves if wave.quality == 0]
    assert [wave.samples.tolist() for wave in good] == [[1.0, 2.0]], "the channel that is there comes all the same"
    assert {wave.quality for wave in log.waves} == {0, StatusCode.BAD_DECODING_ERROR}
    assert {"bad/a.wav", "bad/a~1.wav", "bad/a.wav.reason.txt", "bad/d.csv"} <= set(names(tmp_path))
    assert "channel" in (tmp_path / "bad" / "d.csv.reason.txt").read_text("utf-8")


@pytest.mark.parametrize(
    ("form", "name", "moment"),
    [
        ("%Y%m%d_%H%M%S", "DE_20260101_080001.wav", 1.0), ("%Y-%m-%dT%H-%M-%S.%f", "2026-01-01T08-00-00.250.npy", 0.25),
        ("%Y%m%d%H%M%S%z", "x20260101000002+0000.csv", 2.0), ("%s", "pump-1767225603-de.npy", 3.0),
    ],
)  # fmt: skip
def test_a_name_tells_the_time(form: str, name: str, moment: float) -> None:
    found = finder(form)
    assert found is not None
    assert found.find(name, ZoneInfo("Asia/Shanghai")) == T0 + round(moment * 1e9)
    assert found.find("nothing-99999999_999999.wav", None) is None


@pytest.mark.parametrize("form", ["", "%H%M%S", "%Y", "%Q", "noon", "%Y-%m-%d"])
def test_a_form_without_a_moment_is_refused(form: str) -> None:
    assert finder(form) is None


async def test_a_file_tells_the_time(tmp_path: Path) -> None:
    bext = b"bext" + struct.pack("<I", 602) + (b"\0" * 320 + b"2026-01-0108:00:05").ljust(602, b"\0")
    (tmp_path / "a.wav").write_bytes(wav(RAMP, 1, 16, 1000, bext))
    np.savez(tmp_path / "b.npz", x=RAMP, t0="2026-01-01T00:00:06+00:00", fs=1000)
    np.savez(tmp_path / "c.npz", x=RAMP, t0="2026-01-01T08:00:07", fs=1000)
    (tmp_path / "d.csv").write_text("t,x\n" + "".join(f"{1767225608 + k / 1000:.3f},{k}\n" for k in range(100)))
    for number, name in enumerate("abcd"):
        (file,) = tmp_path.glob(f"{name}.*")
        os.utime(file, ns=(T0, T0 + number))
    log = Log()
    made = driver(tmp_path, log, {"x": {"unit": "g"}}, time="file", timezone="Asia/Shanghai")
    await taken(made, log, 4)
    assert [round((wave.ts - T0) / 1e9, 3) for wave in log.waves] == [5.0, 6.0, 7.0, 8.0]
    assert [round(wave.rate_hz, 1) for wave in log.waves] == [1000.0] * 4


async def test_without_a_log_nothing_is_moved_and_a_lost_folder_is_told(tmp_path: Path) -> None:
    drop(tmp_path, "a.npy")
    made = driver(tmp_path, None)
    async with made.connect() as session:
        (wave,) = await session.read()
        assert isinstance(wave, Waveform)
        assert session.raw() == {"de": "a.npy"}  # type: ignore[attr-defined]
    assert names(tmp_path) == ["a.npy"]
    with pytest.raises(Disconnected, match="gone"):
        async with driver(tmp_path / "gone", Log()).connect():
            pass


async def test_old_files_are_deleted_only_where_that_is_wanted(tmp_path: Path) -> None:
    log = Log()
    for keep, left in ((None, ["done/a.npy"]), ("1h", [])):
        drop(tmp_path, "a.npy", modified_s=-7200.0) if keep is None else None
        made = driver(tmp_path, log) if keep is None else driver(tmp_path, log, keep=keep)
        await taken(made, log, 1 if keep is None else 0)
        assert names(tmp_path) == left
