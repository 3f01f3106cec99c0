"""The demo as a whole: time until it is ready, memory of the core, and the account of its values."""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

DURATION_S = 10


def main() -> None:
    """Print the figures."""
    with tempfile.TemporaryDirectory() as name:
        report = Path(name) / "demo.json"
        began = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "edge.agent.cli", "demo", "--duration", str(DURATION_S), "--json", str(report)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        process.stdout.readline()
        ready = time.perf_counter() - began
        process.stdout.read()
        process.stdout.close()
        code = process.wait()
        summary = json.loads(report.read_text())
    print(f"ready after                   {ready:6.1f} s (target ≤ 15)")
    print(f"core                          {summary['rss_mb']['core']:6.1f} MB RSS (target ≤ 100)")
    account = [summary[f"values_{what}"] for what in ("read", "lost", "duplicated")]
    print(f"read / lost / twice           {' / '.join(map(str, account))}")
    print(f"latency p50 / p99             {summary['latency_ms']['p50']} / {summary['latency_ms']['p99']} ms")
    print(f"exit code                     {code}")


if __name__ == "__main__":
    main()
