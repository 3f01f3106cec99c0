"""Wrong configurations and exactly what the user sees. A changed message shows as a changed `.expected` file."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.agent.cli import main
from edge.agent.configuration.loader import examine, load
from edge.agent.generate import generated
from edge.core.language import chinese_wanted

FOLDER = Path(__file__).parent / "wrong"
ROOT = Path(__file__).parents[2]
CASES = sorted(FOLDER.glob("*.expected"))


Check = Callable[..., tuple[int, str, str]]


@pytest.fixture
def check(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Check]:
    """Run `yulink check FILE --offline …` in the folder of the wrong files: exit code, what is printed, and errors."""

    def run(file: str, language: str, *options: str) -> tuple[int, str, str]:
        monkeypatch.chdir(FOLDER)
        monkeypatch.setenv("LC_ALL", language)
        chinese_wanted.cache_clear()
        code = main(["check", file, "--offline", *options])
        return code, *capsys.readouterr()

    yield run
    monkeypatch.undo()
    chinese_wanted.cache_clear()


def test_every_wrong_file_has_its_expected_output() -> None:
    assert len(list(FOLDER.glob("*.yaml"))) >= 18
    assert {file.stem for file in FOLDER.glob("*.yaml")} == {case.name.split(".")[0] for case in CASES}
    assert sum(".zh." in case.name for case in CASES) >= 3


@pytest.mark.parametrize("expected", CASES, ids=lambda case: case.name)
def test_wrong_file(expected: Path, check: Check) -> None:
    name, *language = expected.name.removesuffix(".expected").split(".")
    code, printed, errors = check(f"{name}.yaml", "zh_CN.UTF-8" if language else "C.UTF-8")
    assert printed == expected.read_text("utf-8")
    assert (code, errors) == (2, "")


@given(st.text(st.characters(codec="utf-8"), max_size=80))
def test_any_text_is_a_configuration_error_and_nothing_worse(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    file = tmp_path_factory.getbasetemp() / "any.yaml"
    file.write_text("site: chongqing/plant-1\n" + text, "utf-8", newline="")
    settings, problems = examine(file)
    assert settings is not None or problems


def test_every_example_is_right() -> None:
    examples = sorted((ROOT / "config" / "examples").glob("*.yaml"))
    assert len(examples) >= 3
    for example in examples:
        assert load(example).devices


def test_the_generated_files_are_up_to_date() -> None:
    for file, text in generated().items():
        assert file.read_text("utf-8") == text, f"{file.name} is stale: run `make docs`"


def test_checking_offline_imports_no_protocol_and_no_numpy() -> None:
    program = (
        "import sys; from edge.agent.cli import main; code = main(sys.argv[1:]);"
        "print(code, *sorted({'asyncua', 'numba', 'numpy', 'pymodbus', 'paho'} & sys.modules.keys()))"
    )
    example = ROOT / "config" / "examples" / "modbus-tcp.yaml"
    done = subprocess.run(
        [sys.executable, "-c", program, "check", str(example), "--offline"], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1].split() == ["0"]
