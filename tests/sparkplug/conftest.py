from collections.abc import Callable

import pytest

from uplink.sparkplug import uplink as uplink_module


@pytest.fixture
def mosquitto(program: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> str:
    """Require the broker; reconnect at once, so that a test sees in a second what a plant sees in ten."""
    monkeypatch.setattr(uplink_module, "BACKOFF_MAX_S", 0.2)
    return program("mosquitto")
