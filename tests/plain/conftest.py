from tests.uplink.conftest import mosquitto, pki

__all__ = ["mosquitto", "pki"]
