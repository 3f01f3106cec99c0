"""Writes what is generated, `config/yulink.schema.json` and `config/reference.md`, or checks that it is up to date."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from edge.agent.configuration.loader import driver_specs
from edge.agent.configuration.settings import SiteSection
from edge.analytics.condition.section import MachineSection
from edge.core.section import fields_by_key
from uplink.kinds import KINDS

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = ROOT / "config" / "yulink.schema.json"
REFERENCE = ROOT / "config" / "reference.md"


def schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a configuration, for editors."""
    whole = SiteSection.model_json_schema()
    definitions = whole.setdefault("$defs", {})
    choices = []
    for kind, spec in driver_specs().items():
        device = spec.section.model_json_schema(ref_template="#/$defs/" + kind + "_{model}")
        for name, definition in device.pop("$defs", {}).items():
            definitions[f"{kind}_{name}"] = definition
        device["properties"]["machine"] = {"$ref": "#/$defs/machine"}
        device["required"].remove("tags")
        device["anyOf"] = [{"required": ["tags"]}, {"required": ["use"]}]
        definitions[f"{kind}_device"] = device
        choices.append({"$ref": f"#/$defs/{kind}_device"})
    machine = MachineSection.model_json_schema(ref_template="#/$defs/machine_{model}")
    for name, definition in machine.pop("$defs", {}).items():
        definitions[f"machine_{name}"] = definition
    definitions["machine"] = machine
    whole["properties"]["devices"] = {
        "type": "object",
        "description": "The devices by name. The key that names the protocol has the device's URL as its value.",
        "additionalProperties": {"oneOf": choices},
    }
    ways = []
    for key, uplink in KINDS.items():
        way = uplink.section.model_json_schema(ref_template="#/$defs/uplink_" + key + "_{model}")
        for name, definition in way.pop("$defs", {}).items():
            definitions[f"uplink_{key}_{name}"] = definition
        definitions[f"uplink_{key}"] = way
        ways.append({"$ref": f"#/$defs/uplink_{key}"})
    one = ways[0] if len(ways) == 1 else {"oneOf": ways}
    several = {"type": "array", "minItems": 1, "items": one}
    described = whole["properties"]["uplink"]["description"]
    whole["properties"]["uplink"] = {"description": described, "oneOf": [one, several]}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **whole}


def reference() -> str:
    """Return the reference page: every key with its type, default and meaning."""
    parts = [
        "# Configuration reference · 配置参考",
        "Generated from the program; do not edit. Durations and quantities carry units: `200ms`, `1s`, `7d`, `4 GB`.",
        "## Top level · 顶层",
        *_table(SiteSection),
        "## uplink · 上行",
        "One of the sections below, or a list of them. It has one of the keys "
        + ", ".join(f"`{key}`" for key in KINDS)
        + ".",
    ]
    for key, way in KINDS.items():
        parts += [f"### {key}: {way.title}", *_table(way.section)]
    parts += [
        "## devices · 设备",
        "Each device has one of the keys " + ", ".join(f"`{kind}`" for kind in driver_specs()) + ".",
    ]
    for kind, spec in driver_specs().items():
        parts += [f"### {kind}: {spec.title}", *_table(spec.section)]
    parts += ["## machine · 机器", "Below a device.", *_table(MachineSection)]
    return "\n\n".join(parts) + "\n"


def _table(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Yield a model's table, then those of the models inside it."""
    rows = ["| key · 键 | type · 类型 | default · 默认 | meaning · 含义 |", "|---|---|---|---|"]
    whole = model.model_json_schema()
    inner: list[tuple[str, type[BaseModel]]] = []
    for name, shape in whole["properties"].items():
        field = fields_by_key(model)[name]
        default = "required" if field.is_required() else _default(shape.get("default"))
        meaning = " ".join((field.description or "").split())
        rows.append(f"| `{prefix}{name}` | {_type(shape, whole)} | {default} | {meaning} |")
        inner += [
            (f"{prefix}{name}.{'NAME.' if mapping else ''}", found) for found, mapping in _models(field.annotation)
        ]
    yield "\n".join(rows)
    for path, found in inner:
        yield from _table(found, path)


def _default(value: Any) -> str:
    return (
        "" if value is None or isinstance(value, dict) else f"`{value:g}`" if isinstance(value, float) else f"`{value}`"
    )


def _type(shape: dict[str, Any], whole: dict[str, Any]) -> str:
    if "$ref" in shape:
        return "keys"
    if "enum" in shape:
        return " ".join(f"`{value}`" for value in shape["enum"])
    if "anyOf" in shape:
        return " or ".join(_type(part, whole) for part in shape["anyOf"] if part.get("type") != "null")
    return {"object": "keys"}.get(shape.get("type", ""), str(shape.get("type", "")))


def _models(annotation: Any, mapping: bool = False) -> Iterator[tuple[type[BaseModel], bool]]:
    """Yield the models in an annotation and whether they are the values of a mapping."""
    from typing import get_args, get_origin

    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation, mapping
        return
    is_mapping = "Mapping" in str(get_origin(annotation))
    for part in get_args(annotation):
        yield from _models(part, mapping or is_mapping)


def generated() -> dict[Path, str]:
    """Return what each generated file should hold."""
    return {SCHEMA: json.dumps(schema(), ensure_ascii=False, indent=2) + "\n", REFERENCE: reference()}


def main() -> int:
    """Write the files; with `--check` only say which are stale, and return 1 for any."""
    stale = [file for file, text in generated().items() if not file.exists() or file.read_text("utf-8") != text]
    if "--check" in sys.argv:
        for file in stale:
            print(f"{file.relative_to(ROOT)} is stale: run `make docs`")
        return 1 if stale else 0
    for file in stale:
        file.write_text(generated()[file], "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
