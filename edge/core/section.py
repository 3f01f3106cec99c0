"""Base of all configuration models, and the quantities users write with units.

A field's docstring is the user's documentation: the JSON Schema and the reference page are made from it.
Unknown keys are refused. A model raises nothing itself: pydantic collects every problem.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any, NoReturn, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from edge.core.language import say


class Section(BaseModel):
    """A part of the configuration. Immutable; unknown keys are refused."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, strict=False, defer_build=True
    )


def fields_by_key(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """Return a model's fields by the keys users write."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def refuse(message: str, hint: str = "", *, on: str = "value") -> NoReturn:
    """Reject a value from inside a validator, with the next step for the user. `on`: "key" or "value"."""
    raise PydanticCustomError("yulink", "{message}", {"message": message, "hint": hint, "on": on})


_NUMBER = re.compile(r"\s*([+-]?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)\s*(\D*?)\s*")


def _parse(units: dict[str, float], example: str, words: Mapping[str, float] = MappingProxyType({})) -> BeforeValidator:
    base = next(unit for unit, factor in units.items() if factor == 1)

    def parse(given: Any) -> Any:
        if isinstance(given, str) and given in words:
            return words[given]
        match = _NUMBER.fullmatch(given) if isinstance(given, str) else None
        if isinstance(given, int | float) and not isinstance(given, bool):
            refuse(
                say("{given} has no unit", given=given),
                say("write a unit, e.g. {example}", example=f"{given}{example}"),
            )
        if match is None:
            refuse(say("{given!r} is not a quantity", given=given), say("write e.g. {example}", example=f"10{example}"))
        number, unit = match.groups()
        if not unit:
            refuse(
                say("{given} has no unit", given=given),
                say("write a unit, e.g. {example}", example=f"{number}{example}"),
            )
        if unit not in units:
            refuse(
                say("{unit!r} is not a unit this setting knows", unit=unit),
                say("units here: {units}", units=", ".join(units)),
            )
        return float(number) * units[unit]

    parse.__doc__ = f"Quantity in {base}."
    return BeforeValidator(parse, json_schema_input_type=str)


_TIME = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE = {"B": 1.0, "KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_RATE = {"Hz": 1.0, "kHz": 1e3, "MHz": 1e6}

Duration = Annotated[float, _parse(_TIME, "s"), Field(gt=0, examples=["1s", "200ms", "10min", "7d"])]
"""A positive time, held in seconds. Written `200ms`, `1s`, `10min`, `7d`."""

DurationOrNever = Annotated[float, _parse(_TIME, "s", {"never": math.inf}), Field(gt=0, examples=["10min", "never"])]
"""A positive time, held in seconds, or `never`, which is infinite."""

Pause = Annotated[float, _parse(_TIME, "ms"), Field(ge=0, examples=["0ms", "20ms"])]
"""A time that may be zero, held in seconds."""

Size = Annotated[float, _parse(_SIZE, " MB"), Field(gt=0, examples=["500 MB", "4 GB"])]
"""An amount of bytes. Written `500 MB`, `4 GB`."""

Frequency = Annotated[float, _parse(_RATE, " Hz"), Field(gt=0, examples=["6.4 kHz"])]
"""A rate in hertz. Written `6.4 kHz`."""

_LENGTH = {"mm": 1.0, "in": 25.4}
_ANGLE = {"deg": 1.0, "°": 1.0}
_POWER = {"kW": 1.0, "W": 1e-3, "MW": 1e3}

Length = Annotated[float, _parse(_LENGTH, " mm"), Field(gt=0, examples=["7.94 mm"])]
"""A length, held in millimetres. Written `7.94 mm`, `0.3126 in`."""

Angle = Annotated[float, _parse(_ANGLE, " deg"), Field(ge=0, lt=90, examples=["15 deg"])]
"""An angle, held in degrees. Written `15 deg`."""

Power = Annotated[float, _parse(_POWER, " kW"), Field(gt=0, examples=["22 kW", "1.2 MW"])]
"""A power, held in kilowatts. Written `22 kW`."""


@dataclass(frozen=True, slots=True)
class ChangeRate:
    """How quickly something changes: an amount of a unit in a second."""

    per_second: float
    unit: str


_CHANGE = re.compile(r"\s*(\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)\s*(.*?)\s*/\s*(\w+)\s*")


def _parse_change(given: Any) -> ChangeRate:
    match = _CHANGE.fullmatch(given) if isinstance(given, str) else None
    if match is None:
        refuse(
            say("{given!r} is not a rate of change", given=given), say("write amount, unit and time, e.g. 5 degC/min")
        )
    number, unit, time = match.groups()
    if time not in _TIME:
        refuse(
            say("{unit!r} is not a time to change in", unit=time), say("units here: {units}", units=", ".join(_TIME))
        )
    if not float(number):
        refuse(say("a rate of change is above 0"), say("a value that may never change has no rule for it"))
    return ChangeRate(float(number) / _TIME[time], unit)


Change = Annotated[
    ChangeRate,
    PlainValidator(_parse_change, json_schema_input_type=str),
    Field(examples=["5 degC/min", "200 kW/s"]),
]
"""A rate of change: amount, unit and time. Written `5 degC/min`."""

Percent = Annotated[float, _parse({"%": 1.0}, " %"), Field(ge=0, examples=["20 %"])]
"""A share, held in percent. Written `20 %`."""

CURRENT_UNITS = {"A": 1.0, "mA": 1e-3, "kA": 1e3}

Current = Annotated[float, _parse(CURRENT_UNITS, " A"), Field(gt=0, examples=["42 A"])]
"""An electric current, held in amperes. Written `42 A`."""

Level = Annotated[float, _parse({"dB": 1.0}, " dB"), Field(examples=["-45 dB"])]
"""A level over or below a reference, held in dB. Written `-45 dB`."""

_SECRET = object()
_SECRET_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"
SecretName = Annotated[str, Field(pattern=_SECRET_NAME, examples=["cnc-07"]), _SECRET]
"""The name of a secret; the secret itself stands in a file, the environment or a systemd credential."""


def secret_names(
    section: type[BaseModel], raw: Mapping[str, Any], path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield place and name of every secret that a section's raw settings refer to, as far as the names are right."""
    for key, field in fields_by_key(section).items():
        value = raw.get(key)
        if isinstance(value, str) and _is_secret(field.annotation, field.metadata) and re.match(_SECRET_NAME, value):
            yield (*path, key), value
        elif isinstance(value, Mapping):
            for part in (field.annotation, *get_args(field.annotation)):
                if isinstance(part, type) and issubclass(part, BaseModel):
                    yield from secret_names(part, value, (*path, key))


def _is_secret(annotation: Any, metadata: Iterable[Any]) -> bool:
    own = (*metadata, *getattr(annotation, "__metadata__", ()))
    return _SECRET in own or any(_is_secret(part, ()) for part in get_args(annotation))
