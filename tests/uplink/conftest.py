import os
from collections.abc import Callable
from pathlib import Path

import pytest

from simulators.pki import Pki, make_pki
from tests.postgres import find_postgres
from uplink import pump as pump_module


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    return make_pki(tmp_path / "pki")


@pytest.fixture
def mosquitto(program: Callable[[str], str]) -> str:
    program("mosquitto")
    return "mosquitto"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorter deadlines, so that a test sees in a second what a plant sees in ten."""
    monkeypatch.setattr(pump_module, "ACK_TIMEOUT_S", 0.5)
    monkeypatch.setattr(pump_module, "SENT_TOLD_AFTER_S", 0.1)
    monkeypatch.setattr(pump_module, "PUBACK_TIMEOUT_S", 2.0)
    monkeypatch.setattr(pump_module, "REFUSED_RETRY_S", 0.5)
    monkeypatch.setattr("uplink.backoff.BACKOFF_MAX_S", 0.5)


@pytest.fixture
def postgres() -> None:
    """Skip without PostgreSQL, but fail in CI."""
    if find_postgres() is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("PostgreSQL is not installed; try `make test` as root")
