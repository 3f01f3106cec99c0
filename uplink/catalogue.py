"""Catalogue messages: what the tag ids in the batches mean, a retained message a device."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from google.protobuf.message import DecodeError

from edge.core.catalogue import Tag, ValueKind
from edge.core.zstd import compress
from uplink import batch_pb2 as pb
from uplink.encode import BadMessage, unpack

KINDS = {
    ValueKind.BOOL: pb.BOOL,
    ValueKind.INT64: pb.INT64,
    ValueKind.UINT64: pb.UINT64,
    ValueKind.FLOAT64: pb.FLOAT64,
    ValueKind.TEXT: pb.TEXT,
    ValueKind.WAVEFORM: pb.WAVEFORM,
}

# Unit as people write it → UCUM case-sensitive code (ucum.org). What is not here is delivered as it was written only.
UCUM = {
    "%": "%", "degC": "Cel", "°C": "Cel", "℃": "Cel", "K": "K", "rpm": "/min", "r/min": "/min", "Hz": "Hz",
    "kHz": "kHz", "s": "s", "ms": "ms", "min": "min", "h": "h", "d": "d", "m": "m", "mm": "mm", "um": "um", "µm": "um",
    "m/s": "m/s", "mm/s": "mm/s", "mm/min": "mm/min", "m/s2": "m/s2", "m/s²": "m/s2", "g": "[g]",
    "kg": "kg", "t": "t", "N": "N", "kN": "kN", "Nm": "N.m", "N·m": "N.m",
    "Pa": "Pa", "kPa": "kPa", "MPa": "MPa", "bar": "bar", "mbar": "mbar",
    "V": "V", "mV": "mV", "kV": "kV", "A": "A", "mA": "mA", "W": "W", "kW": "kW", "MW": "MW", "VA": "V.A",
    "kVA": "kV.A", "var": "var", "kvar": "kvar", "Wh": "W.h", "kWh": "kW.h", "MWh": "MW.h", "J": "J", "kJ": "kJ",
    "GJ": "GJ", "l": "l", "L": "L", "m3": "m3", "m³": "m3", "l/min": "l/min", "L/min": "L/min", "l/h": "l/h",
    "m3/h": "m3/h", "m³/h": "m3/h", "kg/h": "kg/h", "t/h": "t/h", "dB": "dB", "pcs": "{pcs}", "件": "{pcs}",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Equipment:
    """What the catalogue says of a device beyond its tags: ISA-95 path; of tags by name their data class, and of
    derived ones the paths of what they are made of."""

    protocol: str = ""
    path: str = ""
    classification: Mapping[str, str] = field(default_factory=dict)
    inputs: Mapping[str, Sequence[str]] = field(default_factory=dict)


def encode_catalogue(gateway: str, device: str, tags: Iterable[Tag], equipment: Equipment, revision: int) -> bytes:
    """Return the payload of a device's catalogue message."""
    message = pb.Catalogue(gateway=gateway, device=device, protocol=equipment.protocol)
    for tag in tags:
        message.tags.add(
            id=tag.id,
            name=tag.name,
            kind=KINDS[tag.kind],
            unit=tag.unit,
            ucum=UCUM.get(tag.unit, ""),
            path=equipment.path,
            inputs=equipment.inputs.get(tag.name, ()),
            classification=equipment.classification.get(tag.name.partition("[")[0], ""),
        )
    message.hash = hashlib.sha256(message.SerializeToString(deterministic=True)).digest()
    message.revision = revision
    return compress(message.SerializeToString(deterministic=True), 3)


def decode_catalogue(payload: bytes) -> pb.Catalogue:
    """Return the catalogue in a payload. Raises BadMessage."""
    try:
        message = pb.Catalogue.FromString(unpack(payload))
    except DecodeError as error:
        raise BadMessage(f"not a catalogue of this contract: {error}") from error
    if not message.gateway or not message.device:
        raise BadMessage("a catalogue without gateway or device")
    return message
