from collections.abc import Callable

import pytest


@pytest.fixture
def mosquitto(program: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> str:
    """Require the broker; reconnect at once, so that a test sees in a second what a plant sees in ten."""
    monkeypatch.setattr("uplink.backoff.BACKOFF_MAX_S", 0.2)
    return program("mosquitto")
