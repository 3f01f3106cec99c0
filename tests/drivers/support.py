"""A driver from raw settings, and its values by name."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from drivers.api import DeviceContext, Driver, DriverSpec, Session, Shared
from edge.core.batch import Batch
from edge.core.catalogue import Catalogue
from edge.core.clock import Clock, SystemClock


def make_driver(
    spec: DriverSpec,
    settings: Mapping[str, Any],
    *,
    device: str = "machine",
    secrets: Mapping[str, str] | None = None,
    shared: Shared | None = None,
    clock: Clock | None = None,
    data_dir: Path | None = None,
) -> tuple[Driver, Catalogue]:
    """The driver of a section as YAML would give it, and the catalogue that names its tags."""
    catalogue = Catalogue()
    section = spec.section.model_validate(settings)
    assert not [problem for problem in section.problems() if problem.severity == "error"]
    known = secrets or {}
    context = DeviceContext(
        device,
        0.05,
        catalogue,
        clock or SystemClock(),
        lambda name: known[name],
        Shared() if shared is None else shared,
        data_dir,
    )
    return spec.create(section, context), catalogue


async def read_rows(session: Session, catalogue: Catalogue) -> dict[str, tuple[Any, int, int]]:
    """One read as {tag: (value, quality, ts)}."""
    rows: dict[str, tuple[Any, int, int]] = {}
    for record in await session.read():
        if isinstance(record, Batch):
            for tag, ts, value, quality in zip(
                record.tag.tolist(), record.ts.tolist(), record.value.tolist(), record.quality.tolist(), strict=True
            ):
                rows[catalogue[tag].name] = (catalogue[tag].present(value), quality, ts)
    return rows
