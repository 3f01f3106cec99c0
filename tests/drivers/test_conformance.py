"""Every installed driver, every variant of its simulated device, every check."""

import subprocess
import sys
from importlib.metadata import entry_points

import pytest

from drivers.api import DriverSpec
from drivers.conformance import CHECKS, check_cut, check_garbage, check_spoiled_tag

SPECS: dict[str, DriverSpec] = {entry.name: entry.load() for entry in entry_points(group=DriverSpec.GROUP)}
CASES = [(name, variant) for name, spec in sorted(SPECS.items()) for variant in spec.simulate]

# A recording has no wire: what cannot be disturbed is named here, so that nothing is left out unnoticed.
CANNOT = {("replay", check) for check in (check_cut, check_spoiled_tag, check_garbage)}


def test_the_shipped_drivers_are_installed() -> None:
    assert {"files", "modbus", "opcua", "replay"} <= SPECS.keys()
    assert all(spec.kind == name for name, spec in SPECS.items())


@pytest.mark.timeout(120)
@pytest.mark.parametrize(("name", "variant"), CASES)
async def test_driver(name: str, variant: str) -> None:
    async with SPECS[name].simulate[variant]() as device:
        for check in CHECKS:
            try:
                assert await check(SPECS[name], device) is ((name, check) not in CANNOT)
            except Exception as error:
                error.add_note(f"{check.__name__} of {name}, {variant}")
                raise
        device.shared.close()


def test_loading_all_specifications_imports_no_protocol_library() -> None:
    program = (
        "import sys; from edge.agent.configuration.loader import driver_specs; driver_specs();"
        "print(*sorted({'asyncua', 'pymodbus', 'numba', 'paho'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
