"""The documentation is part of the product: its blocks run, both languages carry the same ones, nothing is left out."""

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from edge.agent.cli import parser

ROOT = Path(__file__).parents[1]
READMES = ["README.md", "README.zh-CN.md"]
FENCE = re.compile(r"^```(\w+)\n(.*?)^```", re.M | re.S)
TEST = re.compile(r"`(tests/\w[\w/]*\.py)::(\w+)`")
LINK = re.compile(r"\]\(([^)#:]+)\)")


def blocks(readme: str, language: str) -> list[str]:
    return [body for kind, body in FENCE.findall((ROOT / readme).read_text("utf-8")) if kind == language]


def test_both_languages_carry_the_same_blocks() -> None:
    assert len(FENCE.findall((ROOT / READMES[0]).read_text("utf-8"))) >= 4
    for language in ("console", "yaml"):
        assert blocks(READMES[0], language) == blocks(READMES[1], language)


@pytest.fixture
def plant(tmp_path: Path) -> Path:
    """The folder a reader has after following the README: plant.yaml, a secret, a certificate."""
    (tmp_path / "plant.yaml").write_text(blocks("README.md", "yaml")[0], "utf-8")
    for name in ("secrets/cnc-07", "pki/gateway.pem", "pki/ca.pem", "pki/brain.pub"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("placeholder\n")
        (tmp_path / name).chmod(0o600)
    return tmp_path


def test_the_readmes_yulink_commands_run(plant: Path) -> None:
    commands = [line for block in blocks("README.md", "console") for line in block.splitlines()]
    ran = 0
    for line in commands:
        if not line.startswith(".venv/bin/yulink"):
            continue
        _, *arguments = line.split()
        done = subprocess.run(
            [sys.executable, "-m", "edge.agent.cli", *arguments], cwd=plant, capture_output=True, text=True, timeout=30
        )
        assert done.returncode == 0, done.stdout + done.stderr
        ran += 1
    assert ran >= 1


def test_the_readmes_make_targets_exist_and_the_demo_target_runs_the_demo() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = [
        line.split()[1]
        for block in blocks("README.md", "console")
        for line in block.splitlines()
        if line.startswith("make ")
    ]
    assert targets == ["demo", "test"]
    for target in targets:
        shown = subprocess.run(
            ["make", "-n", target], cwd=ROOT, capture_output=True, text=True, env={**os.environ, "MAKEFLAGS": ""}
        )
        assert shown.returncode == 0, shown.stderr
        assert f"\n{target}:" in makefile
        assert ("yulink demo" if target == "demo" else "pytest") in shown.stdout


def commands() -> dict[str, argparse.ArgumentParser]:
    actions = parser()._actions
    (chosen,) = (action for action in actions if isinstance(action, argparse._SubParsersAction))
    return dict(chosen.choices)


@pytest.mark.parametrize("name", sorted(commands()))
def test_every_command_has_help_with_an_example(name: str) -> None:
    shown = commands()[name].format_help()
    assert f"yulink {name}" in shown.split("example:")[1]


@pytest.mark.parametrize("name", sorted(commands()))
def test_every_command_is_in_both_commands_pages(name: str) -> None:
    for page in ("docs/commands.md", "docs/commands.zh-CN.md"):
        assert f"`{name}" in (ROOT / page).read_text("utf-8")


def test_links_between_documents_lead_somewhere() -> None:
    pages = [page for page in ROOT.rglob("*.md") if not {".venv", ".tools", "node_modules"} & set(page.parts)]
    assert len(pages) > 5
    for page in pages:
        for target in LINK.findall(page.read_text("utf-8")):
            assert (page.parent / target).exists(), f"{page.relative_to(ROOT)} links to {target}"


def test_tests_that_documents_name_exist() -> None:
    pages = [page for page in ROOT.rglob("*.md") if not {".venv", ".tools", "node_modules"} & set(page.parts)]
    named = {found for page in pages for found in TEST.findall(page.read_text("utf-8"))}
    assert len(named) > 10
    for file, name in named:
        assert re.search(rf"^(async )?def {name}\(", (ROOT / file).read_text("utf-8"), re.M), f"no test {file}::{name}"


def test_no_registry_and_no_machine_is_named_in_any_file() -> None:
    words = ["pypi" + ".org", "python" + "hosted", "npmjs" + ".org", "deb.debian" + ".org"]
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True)
    files = listed.stdout.split("\n") if listed.returncode == 0 else []
    for file in filter(None, files):
        text = (ROOT / file).read_bytes().decode("utf-8", "ignore") if (ROOT / file).is_file() else ""
        for word in words:
            assert word not in text, f"{file} names {word}"
