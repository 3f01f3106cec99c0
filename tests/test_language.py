"""Every sentence the program says has a Chinese translation with the same places to fill in."""

import ast
import json
import re
from pathlib import Path

import pytest

from edge.core import language
from edge.core.language import PACKAGES, say

ROOT = Path(__file__).parents[1]
PLACE = re.compile(r"\{(\w*)[^{}]*\}")


def sentences() -> dict[str, str]:
    """Return every literal given to `say`, with where it stands."""
    found: dict[str, str] = {}
    for package in PACKAGES:
        for file in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text("utf-8"))):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "say":
                    where = f"{file.relative_to(ROOT)}:{node.lineno}"
                    (first, *_) = node.args
                    assert isinstance(first, ast.Constant), f"{where}: `say` wants a literal"
                    found[str(first.value)] = where
    return found


def translations() -> dict[str, str]:
    merged: dict[str, str] = {}
    for package in PACKAGES:
        for file in (ROOT / package).rglob("zh.json"):
            merged |= json.loads(file.read_text("utf-8"))
    return merged


def test_nothing_said_lacks_a_translation_and_none_is_left_over() -> None:
    said, known = sentences(), translations()
    assert len(said) > 100
    assert sorted(said.keys() - known.keys()) == []
    assert sorted(known.keys() - said.keys()) == []


def test_a_translation_has_the_same_places() -> None:
    for english, chinese in translations().items():
        assert sorted(PLACE.findall(english)) == sorted(PLACE.findall(chinese)), english
        assert re.search(r"[\u4e00-\u9fff]", chinese) or not re.search(r"[A-Za-z]{3}", english), english


def test_the_environment_chooses_the_language(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("LC_ALL", "LC_MESSAGES"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("LANG", "zh_CN.UTF-8")
    language.chinese_wanted.cache_clear()
    try:
        assert say("the connection was cut") == translations()["the connection was cut"]
        monkeypatch.setenv("LC_ALL", "C.UTF-8")
        language.chinese_wanted.cache_clear()
        assert say("the connection was cut") == "the connection was cut"
    finally:
        language.chinese_wanted.cache_clear()
