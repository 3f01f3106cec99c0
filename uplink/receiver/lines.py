"""The JSON lines of `yulink receive --jsonl`: one object a reading, waveform or event."""

from typing import Any

import numpy as np

from edge.core.clock import iso8601
from edge.core.quality import KEEPS_VALUE
from uplink import batch_pb2 as pb


def reading(
    gateway: str, device: str, tag: str, ts: int, value: Any, unit: str, quality: int, kind: int, revision: int = 0
) -> dict[str, Any]:
    """Return a reading; a bad one has no value, only a correction a revision. `kind` is the `pb.Kind` of its tag.

    A bad one that was read all the same, and broke a rule, has what the device said as `raw`.
    """
    told: dict[str, Any] = {"revision": revision} if revision else {}
    if quality in KEEPS_VALUE:
        told["raw"] = _shown(value, kind)
    return {
        "gateway": gateway,
        "device": device,
        "tag": tag,
        "ts": iso8601(ts),
        "value": None if quality & 0x80000000 else _shown(value, kind),
        "unit": unit,
        "quality": f"0x{quality:08X}",
        **told,
    }


def waveform(
    gateway: str,
    device: str,
    tag: str,
    ts: int,
    rate_hz: float,
    full_scale: float,
    unit: str,
    samples: int,
    quality: int,
) -> dict[str, Any]:
    """Return what is told of a waveform; `samples` is how many it has."""
    return {
        "gateway": gateway,
        "device": device,
        "tag": tag,
        "ts": iso8601(ts),
        "rate_hz": rate_hz,
        "full_scale": full_scale,
        "unit": unit,
        "samples": samples,
        "quality": f"0x{quality:08X}",
    }


def event(gateway: str, ts: int, source: str, kind: str, severity: int, text: str, facts: Any) -> dict[str, Any]:
    """Return an event."""
    return {
        "gateway": gateway,
        "ts": iso8601(ts),
        "source": source,
        "kind": kind,
        "severity": severity,
        "text": text,
        "facts": facts,
    }


def _shown(value: Any, kind: int) -> Any:
    if kind == pb.BOOL:
        return bool(value)
    if kind == pb.UINT64:
        return int(value)
    if kind == pb.FLOAT64 and isinstance(value, float) and not np.isfinite(value):
        return "NaN" if np.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value
