"""Secrets stand beside the configuration, never in it: credential before environment before file."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.agent.configuration.loader import examine
from edge.agent.configuration.secrets import find_secret, missing_secret, variable

CONFIG = """
site: chongqing/plant-1
devices:
  cnc-07:
    opcua: opc.tcp://127.0.0.1:4840
    login: {{user: reader, secret: {name}}}
    tags: {{speed: {{node: ns=2;s=Speed}}}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "secrets").mkdir()
    return tmp_path


def put(folder: Path, text: str, mode: int = 0o600) -> None:
    file = folder / "secrets" / "cnc-07"
    file.write_text(text, "utf-8")
    file.chmod(mode)


def test_a_file_gives_its_text_without_the_editors_line_end(folder: Path) -> None:
    for text in ("pä55", "pä55\n", "pä55\r\n"):
        put(folder, text)
        found = find_secret("cnc-07", folder)
        assert found is not None
        assert found.text == "pä55"
        assert "pä55" not in repr(found)


def test_a_credential_comes_before_the_environment_and_that_before_the_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def text() -> str | None:
        found = find_secret("cnc-07", folder)
        return found.text if found else None

    assert text() is None
    put(folder, "file")
    assert text() == "file"
    monkeypatch.setenv("YULINK_SECRET_CNC_07", "environment")
    assert text() == "environment"
    (folder / "credentials").mkdir()
    (folder / "credentials" / "cnc-07").write_text("credential")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(folder / "credentials"))
    assert text() == "credential"


def test_a_missing_secret_is_a_problem_with_its_place_and_every_place_to_put_it(folder: Path) -> None:
    file = folder / "plant.yaml"
    file.write_text(CONFIG.format(name="cnc-07"))
    _, problems = examine(file)
    (problem,) = problems
    assert (problem.span.line, problem.severity) == (6, "error")
    assert all(place in problem.hint for place in ("cnc-07", "YULINK_SECRET_CNC_07", str(folder / "secrets")))


def test_a_file_that_others_may_read_is_a_warning(folder: Path) -> None:
    file = folder / "plant.yaml"
    file.write_text(CONFIG.format(name="cnc-07"))
    put(folder, "text", 0o644)
    settings, problems = examine(file)
    assert settings is not None
    assert [problem.severity for problem in problems] == ["warning"]
    assert "chmod 600" in problems[0].hint


@pytest.mark.parametrize("name", ["../../etc/passwd", "a/b", "", ".hidden", "a\\u0000b", "\\ud800"])
def test_a_name_cannot_leave_the_folder(folder: Path, name: str) -> None:
    file = folder / "plant.yaml"
    file.write_text(CONFIG.format(name=f'"{name}"'))
    _, problems = examine(file)
    assert problems
    assert {(problem.span.line, problem.severity) for problem in problems} == {(6, "error")}
    assert not any(str(folder / "secrets") in problem.hint for problem in problems)


@given(st.text(max_size=20))
def test_any_name_has_a_variable_and_a_message(name: str) -> None:
    assert variable(name).isascii()
    assert all(missing_secret(name, Path("plant")))
