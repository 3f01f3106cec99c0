"""A package of a common name from elsewhere must not be run in place of ours."""

import os
import subprocess
import sys
from pathlib import Path

from edge.agent.install_guard import check_packages


def test_our_own_packages_are_accepted() -> None:
    check_packages()


def test_a_foreign_package_in_front_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "buffer").mkdir()
    (tmp_path / "buffer" / "__init__.py").touch()
    program = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from edge.agent.install_guard import check_packages\n"
        "try:\n    check_packages()\nexcept Exception as error:\n    print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env=os.environ | {"LC_ALL": "C.UTF-8"},
        check=True,
    )
    assert "'buffer' comes from" in done.stdout
    assert "environment of its own" in done.stdout
