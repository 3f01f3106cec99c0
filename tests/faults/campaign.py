"""The fault campaign: `make faults`. Real processes, real faults, and an account of every value at the end of each.

Each chapter runs a plant → agent → (a line that can fail) → mosquitto → brain, does its harm, heals, waits until the
brain holds everything, and accounts for every value that the simulated press answered. Nothing may be lost but what was
in memory when the agent was killed, which is counted.
"""

import argparse
import asyncio
import logging
import os
import platform
import random
import sys
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from edge.core.errors import YulinkError
from tests.faults.chapters import Chapter, chapters
from tests.faults.disk import SmallDisk
from tests.faults.press import TAGS, Account
from tests.faults.stage import EVERY_S

BEGIN, END = "<!-- written by make faults -->", "<!-- end -->"


@dataclass(frozen=True, slots=True)
class Result:
    """A chapter that was played; `account` is None when it could not be, on this machine or at all: see `why`."""

    chapter: Chapter
    kills: Counter[str]
    seconds: float
    account: Account | None
    why: str = ""

    @property
    def is_good(self) -> bool:
        """Tell whether the account closes and no end of the agent cost more than it may."""
        if self.account is None:
            return self.chapter.with_disk and not SmallDisk.is_possible()
        stops = self.kills["agent"] + 2  # it is also told to stop, twice at most, in the middle of a poll
        return self.account.closes and self.account.uncommitted <= stops * self.chapter.memory_s / EVERY_S * TAGS


async def play(chapter: Chapter, seed: int) -> Result:
    """Play a chapter."""
    began = time.monotonic()
    if chapter.with_disk and not SmallDisk.is_possible():
        return Result(chapter, Counter(), 0, None, "not played: only root can mount an ext4 file system")
    try:
        async with chapter.stage() as stage:
            await chapter.harm(stage, random.Random(seed))
            account = await stage.settle()
            return Result(chapter, stage.kills, time.monotonic() - began, account)
    except (AssertionError, TimeoutError, YulinkError) as error:
        traceback.print_exception(error)
        return Result(chapter, Counter(), time.monotonic() - began, None, f"failed: {type(error).__name__} {error}")


HEADS = (
    "chapter",
    "killed",
    "s",
    "read",
    "uncommitted",
    "stored",
    "told as dropped",
    "lost",
    "twice",
    "wrong",
    "order",
)


def row_of(result: Result) -> str:
    """Return a result as a row of the table."""
    account = result.account
    cells: list[object] = [result.chapter.title]
    if account is None:
        cells += [" ".join(result.why.split())] + [""] * (len(HEADS) - 2)
    else:
        killed = ", ".join(f"{name} {count}" for name, count in sorted(result.kills.items())) or "–"
        cells += [killed, round(result.seconds), account.read, account.uncommitted, account.stored, account.told]
        cells += [account.lost, account.twice, account.wrong, "kept" if account.in_order else "broken"]
    return "| " + " | ".join(f"{cell:,}" if type(cell) is int else str(cell) for cell in cells) + " |"


def table(results: list[Result], seed: int) -> str:
    """Return the campaign as Markdown."""
    day = time.strftime("%Y-%m-%d", time.gmtime())
    where = f"Python {platform.python_version()}, {os.cpu_count()} cores shared with other work"
    kills = sum((result.kills for result in results), Counter[str]())
    lines = [
        f"{day}, Yulink {version('yulink')}, {where}, seed {seed}: {kills.total()} kills.",
        "",
        "| " + " | ".join(HEADS) + " |",
        "|---|---|" + "--:|" * (len(HEADS) - 3) + "---|",
        *map(row_of, results),
    ]
    return "\n".join(lines)


def write_table(page: Path, text: str, *, only: Sequence[str] = ()) -> None:
    """Put the table into a page, between its marks; or the rows of some chapters `only`, in the place of theirs."""
    before, _, rest = page.read_text("utf-8").partition(BEGIN)
    old, mark, after = rest.partition(END)
    assert mark, f"{page} has no place for the table"
    if only:
        new = {row.split(" |")[0]: row for row in only}
        text = "\n".join(new.get(line.split(" |")[0], line) for line in old.strip("\n").split("\n"))
    page.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", "utf-8")


async def campaign(kills: int, seed: int, only: str, page: Path | None) -> bool:
    """Play the chapters and print the table. Returns whether every account closes."""
    print(f"seed {seed}", flush=True)
    results = []
    for chapter in chapters(kills):
        if only in chapter.title:
            print(f"{chapter.title} …", flush=True)
            results.append(await play(chapter, seed))
            print(row_of(results[-1]), flush=True)
    text = table(results, seed)
    print(text)
    if page is not None:
        write_table(page, text, only=[row_of(result) for result in results] if only else ())
    return all(result.is_good for result in results)


def main() -> None:
    """Run it; exit 1 when an account does not close."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help="on one machine; a quarter as many beyond it")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    parser.add_argument("--only", default="", help="chapters whose title holds this")
    parser.add_argument("--table", type=Path, help="the page that gets the table; with --only its rows")
    arguments = parser.parse_args()
    # Python and the stream's client disagree about the end of a TLS connection, loudly and without consequence.
    logging.getLogger("asyncio").addFilter(lambda record: "eof_received" not in record.getMessage())
    sys.exit(not asyncio.run(campaign(arguments.kills, arguments.seed, arguments.only, arguments.table)))


if __name__ == "__main__":
    main()
