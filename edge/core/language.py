"""English and Chinese in one place: code speaks English, `zh.json` beside it holds the translation."""

import functools
import json
import os
from pathlib import Path

PACKAGES = ("edge", "drivers", "buffer", "uplink", "simulators")


def say(english: str, /, **facts: object) -> str:
    """Return the sentence `english` in the user's language with `facts` filled into its `{name}` places.

    The English sentence is the key of its translation, so code reads as what it prints. A sentence
    without a translation stays English; the tests refuse that for every literal in the source.
    """
    sentence = _chinese().get(english, english) if chinese_wanted() else english
    return sentence.format(**facts) if facts else sentence


@functools.cache
def chinese_wanted() -> bool:
    """Tell whether the environment asks for Chinese (`LC_ALL`, `LC_MESSAGES`, `LANG`, in POSIX order)."""
    for variable in ("LC_ALL", "LC_MESSAGES", "LANG"):
        if value := os.environ.get(variable):
            return value.lower().startswith("zh")
    return False


@functools.cache
def _chinese() -> dict[str, str]:
    root = Path(__file__).resolve().parents[2]
    sentences: dict[str, str] = {}
    for package in PACKAGES:
        for file in sorted((root / package).rglob("zh.json")):
            sentences.update(json.loads(file.read_text("utf-8")))
    return sentences
