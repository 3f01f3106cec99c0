"""A recording: wrong rows are named with file and line before anything is played; right ones keep time and order."""

from pathlib import Path
from typing import Any

import pytest

from drivers.replay import SPEC
from edge.core.errors import ConfigError
from tests.drivers.support import make_driver, read_rows

TAGS = {"speed": {}, "count": {"type": "uint64"}, "on": {"type": "bool"}, "text": {"type": "text"}}


def play(file: Path, text: str, **more: Any) -> Any:
    file.write_text(text, "utf-8")
    return make_driver(SPEC, {"replay": str(file), "speed": 0, "tags": TAGS, **more})


async def test_every_kind_is_read_exactly_and_other_devices_rows_are_passed_over(tmp_path: Path) -> None:
    driver, catalogue = play(
        tmp_path / "r.csv",
        "ts,device,tag,value,quality\n"
        "2026-01-01T00:00:00.000001Z,machine,speed,1480.5,\n"
        "2026-01-01T08:00:01+08:00,machine,count,18446744073709551613,0x0\n"
        "1767225602000000003,machine,on,true,0x40000000\n"
        "2026-01-01T00:00:03Z,machine,text,法兰-7,\n"
        "2026-01-01T00:00:04Z,other,speed,not a number,\n"
        "2026-01-01T00:00:05Z,machine,speed,,0x80000000\n",
    )
    async with driver.connect() as session:
        rows = await read_rows(session, catalogue)
    second = 1_767_225_600_000_000_000
    assert rows["count"] == (2**64 - 3, 0, second + 10**9)
    assert rows["on"] == (True, 0x40000000, second + 2 * 10**9 + 3)
    assert rows["text"] == ("法兰-7", 0, second + 3 * 10**9)
    assert rows["speed"][1:] == (0x80000000, second + 5 * 10**9)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("when,device,tag,value\n", ":1: the column ts is missing"),
        ("ts,device,tag,value\n2026-01-01,machine,speed,fast\n", ":2: "),
        ("ts,device,tag,value\n2026-01-01,machine,speed,1\nyesterday,machine,speed,2\n", ":3: "),
        ("ts,device,tag,value\n2026-01-01,machine,count,-1\n", "'-1' is below 0"),
        ("ts,device,tag,value\n2026-01-01,machine,on,perhaps\n", "neither true nor false"),
        ("ts,device,tag,value\n2026-01-01,machine,speed\n", ":2: "),
        ("ts,device,tag,value\n2026-01-01,elsewhere,speed,1\n", "no row belongs"),
        ("", ":1: the column ts is missing"),
    ],
)
def test_a_wrong_row_is_named_with_file_and_line(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigError) as refused:
        play(tmp_path / "r.csv", text)
    assert str(tmp_path / "r.csv") in refused.value.problems[0].message
    assert words in refused.value.problems[0].message
    assert refused.value.problems[0].hint


def test_every_wrong_row_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        play(tmp_path / "r.csv", "ts,device,tag,value\n" + "x,machine,speed,y\n" * 5)
    assert len(refused.value.problems) == 5


def test_a_file_that_is_not_there_or_no_text_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        make_driver(SPEC, {"replay": str(tmp_path / "none.csv"), "tags": TAGS})
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="cannot be read"):
        make_driver(SPEC, {"replay": str(tmp_path / "binary.csv"), "tags": TAGS})


async def test_repeating_goes_on_in_time(tmp_path: Path) -> None:
    driver, catalogue = play(
        tmp_path / "r.csv", "ts,device,tag,value\n1000,machine,speed,1\n2000,machine,speed,2\n", repeat=True
    )
    async with driver.connect() as session:
        times = [(await read_rows(session, catalogue))["speed"][2] for _ in range(3)]
    assert times[0] < times[1] < times[2]
