"""How long commands take to start, against a bare interpreter in the same run."""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

RUNS = 7

CONFIG = """
site: chongqing/plant-1
devices:
  plc-1:
    modbus: tcp://127.0.0.1
    tags:
      level: {at: input/0, type: i16, scale: 0.1}
"""


def seconds(*arguments: str) -> float:
    """Return the median wall time of a command."""
    times = []
    for _ in range(RUNS):
        began = time.perf_counter()
        subprocess.run([sys.executable, *arguments], capture_output=True, check=True)
        times.append(time.perf_counter() - began)
    return sorted(times)[RUNS // 2]


def main() -> None:
    """Print the figures."""
    with tempfile.TemporaryDirectory() as name:
        config = Path(name) / "plant.yaml"
        config.write_text(CONFIG)
        bare = seconds("-c", "pass")
        shown = seconds("-m", "edge.agent.cli", "--help")
        checked = seconds("-m", "edge.agent.cli", "check", str(config), "--offline")
    print(f"python -c pass                {bare:6.3f} s")
    print(f"yulink --help                 {shown:6.3f} s, {shown / bare:4.1f} x (target ≤ 0.3 s)")
    print(f"yulink check --offline        {checked:6.3f} s, {checked / bare:4.1f} x (target ≤ 0.5 s)")


if __name__ == "__main__":
    main()
