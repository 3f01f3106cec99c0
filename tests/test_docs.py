"""The documentation is part of the product: its blocks run, both languages carry the same ones, nothing is left out."""

import argparse
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from edge.agent.cli import main, parser

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


SURROUNDINGS = {
    "site": "site: chongqing/plant-1",
    "devices": """
every: 1s
devices:
  cnc-07:
    modbus: tcp://127.0.0.1:5020
    tags: {load: {at: input/0, unit: "%"}, spindle_temp: {at: input/1, unit: degC}}
  gauge: {modbus: 'tcp://127.0.0.1:5021', tags: {bore: {at: input/0, type: f32, unit: mm}}}
  hall: {modbus: 'tcp://127.0.0.1:5022', tags: {temperature: {at: input/0, unit: degC}}}
  plc-1: {modbus: 'tcp://127.0.0.1:5026', tags: {pump_running: {at: discrete/0}, pump_rpm: {at: input/0, unit: rpm}}}
  press:
    modbus: tcp://127.0.0.1:5023
    tags: {running: {at: discrete/0}, part_count: {at: input/0}, parts: {at: input/1}}
  pump-3:
    modbus: tcp://127.0.0.1:5024
    tags:
      {current: {at: input/0, unit: A}, pressure: {at: input/1, unit: bar}, flow: {at: input/2, unit: m3/h},
       temperature: {at: input/3, unit: degC}}
  spindle: {modbus: 'tcp://127.0.0.1:5025', tags: {running: {at: discrete/0}}}
""",
}
MACHINE = """
  m:
    opcua: opc.tcp://127.0.0.1:4840
    tags:
      de: {node: ns=2;s=de, rate: 25.6 kHz, unit: g}
      feed_active: {node: ns=2;s=feed_active, type: bool}
      spindle_load: {node: ns=2;s=spindle_load, unit: "%"}
      z_load: {node: ns=2;s=z_load, unit: "%"}
      tool_number: {node: ns=2;s=tool_number}
      insert_counter: {node: ns=2;s=insert_counter}
      program: {node: ns=2;s=program}
      block: {node: ns=2;s=block}
"""
"""What stands around a block that is a part of a configuration: the devices that its pages speak of."""


def completed(block: str) -> str:
    """Return a whole configuration around a block of a page."""
    block = textwrap.dedent(block)
    if block.startswith("machine:"):
        current = "      i1: {node: ns=2;s=i1, rate: 25.6 kHz, unit: A}\n" if "motor:" in block else ""
        wanted = ["standard: none", "rpm: 1480"] + ["group: 2", "support: rigid"] * ("iso20816" in block)
        missing = [f"{each}\n" for each in wanted if each.split(":")[0] + ":" not in block]
        return (
            "\n".join(SURROUNDINGS.values())
            + MACHINE
            + current
            + textwrap.indent(f"{block}  {'  '.join(missing)}", "    ")
        )
    return (
        "\n".join(text for key, text in SURROUNDINGS.items() if not re.search(rf"^{key}:", block, re.M)) + "\n" + block
    )


PAGES = [
    str(page.relative_to(ROOT))
    for page in sorted([*(ROOT / "docs").glob("*.md"), *(ROOT / "drivers").glob("*/README.md")])
    if "```yaml\n" in page.read_text("utf-8")
]


@pytest.mark.parametrize("page", PAGES)
def test_every_configuration_on_a_page_passes_check(page: str, plant: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for block in blocks(page, "yaml"):
        (plant / "plant.yaml").write_text(completed(block), "utf-8")
        assert main(["check", "--offline", str(plant / "plant.yaml")]) == 0, block + capsys.readouterr().out


@pytest.mark.parametrize("page", [page for page in PAGES if page.replace(".md", ".zh-CN.md") in PAGES])
def test_both_languages_of_a_page_carry_the_same_configuration(page: str) -> None:
    plain = [[re.sub(r" +#.*", "", each) for each in blocks(name, "yaml")]
             for name in (page, page.replace(".md", ".zh-CN.md"))]  # fmt: skip
    assert plain[0] == plain[1]


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
