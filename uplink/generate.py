"""Generates the protobuf modules from their `.proto` files, or checks that they are up to date."""

import sys
import tempfile
from importlib import resources
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCES = {
    ROOT / "contract" / "v1" / "batch.proto": ROOT / "uplink",
    ROOT / "uplink" / "sparkplug" / "sparkplug_b.proto": ROOT / "uplink" / "sparkplug",
}
"""Each source, and the folder its modules lie in."""


def generate(source: Path, folder: Path) -> None:
    """Write the modules of one source into `folder`. Raises RuntimeError when the compiler refuses the file."""
    from grpc_tools import protoc

    wellknown = resources.files("grpc_tools") / "_proto"
    arguments = [
        "protoc",
        f"-I{source.parent}",
        f"-I{wellknown}",
        f"--python_out={folder}",
        f"--pyi_out={folder}",
        source.name,
    ]
    if protoc.main(arguments):
        raise RuntimeError(f"protoc refused {source.relative_to(ROOT)}")


def stale() -> list[str]:
    """Return the names of generated files that differ from what would be generated now."""
    found = []
    for source, home in SOURCES.items():
        with tempfile.TemporaryDirectory() as name:
            generate(source, Path(name))
            found += [
                file.name for file in sorted(Path(name).iterdir()) if file.read_text() != (home / file.name).read_text()
            ]
    return found


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(f"stale, run `make docs`: {', '.join(stale())}" if stale() else 0)
    for source, home in SOURCES.items():
        generate(source, home)
