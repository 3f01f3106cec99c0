"""Generates `uplink/batch_pb2.py` from `contract/v1/batch.proto`, or checks that it is up to date."""

import sys
import tempfile
from importlib import resources
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
GENERATED = ("batch_pb2.py", "batch_pb2.pyi")


def generate(folder: Path) -> None:
    """Write the generated modules into `folder`. Raises RuntimeError when the compiler refuses the file."""
    from grpc_tools import protoc

    source = ROOT / "contract" / "v1"
    wellknown = resources.files("grpc_tools") / "_proto"
    arguments = [
        "protoc",
        f"-I{source}",
        f"-I{wellknown}",
        f"--python_out={folder}",
        f"--pyi_out={folder}",
        "batch.proto",
    ]
    if protoc.main(arguments):
        raise RuntimeError("protoc refused contract/v1/batch.proto")


def stale() -> list[str]:
    """Return the names of generated files that differ from what would be generated now."""
    with tempfile.TemporaryDirectory() as name:
        generate(Path(name))
        return [file for file in GENERATED if (Path(name) / file).read_text() != (ROOT / "uplink" / file).read_text()]


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(f"stale, run `make docs`: {', '.join(stale())}" if stale() else 0)
    generate(ROOT / "uplink")
