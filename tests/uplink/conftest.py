from collections.abc import Callable
from pathlib import Path

import pytest

from simulators.pki import Pki, make_pki


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    return make_pki(tmp_path / "pki")


@pytest.fixture
def mosquitto(program: Callable[[str], str]) -> str:
    program("mosquitto")
    return "mosquitto"
