"""Configuration of a Modbus device."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from drivers.api import DriverSection, TagSection
from drivers.modbus.endpoint import FORMS, Endpoint, parse_registration, parse_url
from drivers.modbus.types import NAMES, Order, ValueType, parse_type
from edge.core.errors import Problem
from edge.core.language import say
from edge.core.section import Duration, Frequency, Pause, SecretName, Section, refuse

ADDRESSES = 65_536

Table = Literal["coil", "discrete", "input", "holding"]
TABLES: tuple[Table, ...] = ("coil", "discrete", "input", "holding")

_MODICON_TABLES: dict[str, Table] = {"0": "coil", "1": "discrete", "3": "input", "4": "holding"}


def _check_url(url: str) -> str:
    if parse_url(url) is None:
        refuse(say("{url!r} is not a Modbus address", url=url), say("write one of: {forms}", forms=FORMS))
    return url


def _check_registration(text: str) -> str:
    if parse_registration(text) is None:
        refuse(say("{text!r} are no bytes", text=text), say("write the text itself, or hex:86 7A 01"))
    return text


@dataclass(frozen=True, slots=True)
class Address:
    """A place in one of the four tables, zero-based. `modicon` says that it was written as 40001."""

    table: Table
    number: int
    modicon: bool = False

    def __str__(self) -> str:
        return f"{self.table}/{self.number}"


def parse_address(text: str) -> Address | None:
    """Return the address written as `holding/40` or, in Modicon notation, `40041` or `400041`; None for neither."""
    table, slash, number = text.partition("/")
    if slash:
        known = next((name for name in TABLES if name == table), None)
        fits = number.isdecimal() and len(number) <= 5 and int(number) < ADDRESSES
        return Address(known, int(number)) if known and fits else None
    if not text.isdecimal() or len(text) not in (5, 6):
        return None
    known = _MODICON_TABLES.get(text[0])
    return Address(known, int(text[1:]) - 1, True) if known and 1 <= int(text[1:]) <= ADDRESSES else None


def _check_address(given: Any) -> str:
    text = str(given)
    if parse_address(text) is None:
        refuse(
            say("{text!r} is not a Modbus address in a device", text=text),
            say("write table/number, zero-based: holding/0 is what manuals call 40001; or coil, discrete, input"),
        )
    return text


def _check_type(text: str) -> str:
    if parse_type(text) is None:
        refuse(say("{text!r} is not a type", text=text), say("types: {names}", names=NAMES))
    return text


_SCALE_TEXT = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(\S.*?)\s*")


def _check_full_scale(text: str) -> str:
    if _SCALE_TEXT.fullmatch(text) is None:
        refuse(say("{text!r} is not a quantity", text=text), say("write number and unit, e.g. 8 g"))
    return text


class Limits(Section):
    """What the device can stand."""

    registers: Annotated[int, Field(ge=1, le=125)] = 125
    """Most registers in one request."""

    bits: Annotated[int, Field(ge=1, le=2000)] = 2000
    """Most coils or discrete inputs in one request."""

    gap: Annotated[int, Field(ge=0, le=124)] = 16
    """Unused registers (or, times 16, bits) that may be read along to save a request."""

    pause: Pause = 0.0
    """Rest between two requests to this device."""

    timeout: Duration = 1.0
    """How long an answer may take to begin; the rest of it may take as long again."""

    retry: Duration = 60.0
    """How soon registers that the device refused are tried again; the pause doubles, up to a day."""


class Tls(Section):
    """Modbus/TCP Security: certificates on both sides."""

    ca: SecretName
    """Name of the secret that holds the PEM of the authority that signed the device's certificate."""

    identity: SecretName
    """Name of the secret that holds a PEM with our certificate and key."""

    server_name: str | None = None
    """The name in the device's certificate. Default: the host in the address."""

    role: str | None = None
    """The role our certificate must carry (OID 1.3.6.1.4.1.50316.802.1), e.g. `Viewer`; the device decides by it."""


class ModbusTag(TagSection):
    """One value in the device's tables."""

    at: Annotated[str, BeforeValidator(_check_address, json_schema_input_type=str | int)]
    """Where it begins: `holding/40`, `input/6`, `coil/3`, `discrete/1`; zero-based."""

    type: Annotated[str, AfterValidator(_check_type)] | None = None
    """bool, i16, u16, i32, u32, i64, u64, f32, f64, `string[20]` (bytes), `f32[3]`. Default: u16, for coils bool."""

    order: Order | None = None
    """Byte order over registers, for this tag. Default: the device's."""

    bit: Annotated[int, Field(ge=0, le=15)] | None = None
    """One bit of a register, 0 the lowest; the value is then true or false."""

    scale: float = Field(1.0, allow_inf_nan=False)
    """The delivered value is raw × scale + offset."""

    offset: float = Field(0.0, allow_inf_nan=False)
    """See `scale`."""

    rate: Frequency | None = None
    """Samples a second: makes an array a waveform."""

    full_scale: Annotated[str, AfterValidator(_check_full_scale)] | None = None
    """What the largest sample of a waveform means, with its unit: `8 g`."""

    guard: Annotated[str, BeforeValidator(_check_address, json_schema_input_type=str | int)] | None = None
    """A register that changes with each new waveform, e.g. its number: read before and after, it shows a torn one."""

    encoding: Literal["utf-8", "gb18030", "ascii"] = "utf-8"
    """Of a string."""

    @property
    def address(self) -> Address:
        """The parsed `at`."""
        address = parse_address(self.at)
        assert address is not None
        return address

    @property
    def value_type(self) -> ValueType:
        """The parsed `type`, or the table's default."""
        given = "u16" if self.address.table in ("input", "holding") and self.bit is None else "bool"
        value_type = parse_type(self.type or given)
        assert value_type is not None
        return value_type

    @property
    def scaled(self) -> bool:
        """Tell whether `scale` or `offset` changes the value."""
        return self.scale != 1.0 or self.offset != 0.0

    def value_kind(self) -> str:
        """Return what its values are."""
        value_type = self.value_type
        if value_type.array and self.rate is not None:
            return "waveform"
        if value_type.name == "bool" or self.bit is not None:
            return "bool"
        if value_type.name == "string":
            return "text"
        if value_type.is_float or self.scaled:
            return "float64"
        return "uint64" if value_type.name == "u64" else "int64"

    @property
    def lacks_full_scale(self) -> bool:
        """Whether its samples are integers without full scale, and no `scale` makes values of them."""
        integers = self.rate is not None and not self.value_type.is_float
        return integers and not self.scaled and self.full_scale is None

    @property
    def full_scale_quantity(self) -> tuple[float, str]:
        """Number and unit of `full_scale`; (0, "") when it is not given."""
        match = _SCALE_TEXT.fullmatch(self.full_scale or "")
        return (float(match[1]), match[2]) if match else (0.0, "")

    @property
    def span(self) -> int:
        """Registers, or bits, that the tag takes."""
        if self.address.table in ("coil", "discrete"):
            return self.value_type.count
        return 1 if self.bit is not None else max(self.value_type.registers, 1)


class ModbusSection(DriverSection):
    """A device on Modbus TCP, RTU over TCP, or a serial line."""

    modbus: Annotated[str, AfterValidator(_check_url)]
    """`tcp://host`, `tls://host`, `rtu+tcp://host:port`, `rtu:/dev/serial/by-id/NAME?9600-8N1`, or `dtu:0.0.0.0:5020`
    for modems that dial in. Devices may share one."""

    id: Annotated[int, Field(ge=0, le=255)] = 1
    """Unit identifier, 1 to 247 on a serial line."""

    tls: Tls | None = None
    """Certificates of a `tls://` address."""

    registration: Annotated[str, AfterValidator(_check_registration)] | None = None
    """What the modem of a `dtu:` address sends first: its text, e.g. the IMEI, or `hex:86 7A 01`."""

    heartbeat: Annotated[str, AfterValidator(_check_registration)] | None = None
    """What the modem sends now and then to keep its connection: text or `hex:FE`."""

    addressing: Literal["zero-based", "modicon"] = "zero-based"
    """`modicon` accepts addresses as manuals print them: 40001, 400001."""

    order: Order = "ABCD"
    """Byte order over registers, for every width."""

    limits: Limits = Limits()
    """What the device can stand."""

    tags: Annotated[Mapping[str, ModbusTag], Field(min_length=1)]
    """The values to read, by name. `velocity_{x,y,z}` makes three tags, each behind the one before."""

    @property
    def endpoint(self) -> Endpoint:
        """The parsed `modbus`."""
        endpoint = parse_url(self.modbus, parse_registration(self.registration or "") or b"")
        assert endpoint is not None
        return endpoint

    def is_polled(self, tag: TagSection) -> bool:
        """Modbus tells nothing by itself."""
        return True

    @classmethod
    def expand_tag(cls, tag: Mapping[str, Any], index: int, word: str) -> dict[str, Any]:
        """Advance the address by the type's width for each alternative; text with `{}` is filled in as well."""
        expanded = super().expand_tag(tag, index, word)
        address = parse_address(str(tag.get("at", "")))
        kind = parse_type(str(tag.get("type", "u16")))
        if address is None or kind is None or "{}" in str(tag["at"]):
            return expanded
        step = kind.count if address.table in ("coil", "discrete") else max(kind.registers, 1)
        number = address.number + index * step
        digit = next(d for d, table in _MODICON_TABLES.items() if table == address.table)
        width = len(str(tag["at"])) - 1
        expanded["at"] = f"{digit}{number + 1:0{width}}" if address.modicon else f"{address.table}/{number}"
        return expanded

    def problems(self) -> Sequence[Problem]:
        """Return contradictions between settings, of the device and of each tag."""
        tags = [
            Problem(("tags", name, key), message, hint)
            for name, tag in self.tags.items()
            for key, message, hint in self._contradictions(tag)
        ]
        return [*self._device_problems(), *tags]

    def _device_problems(self) -> Iterator[Problem]:
        endpoint = self.endpoint
        secure, dials = endpoint.transport == "tls", endpoint.transport == "dtu"
        if secure and self.tls is None:
            yield Problem(
                ("modbus",), say("tls:// needs certificates"), say("add `tls:` with the secrets `ca` and `identity`")
            )
        if not secure and self.tls is not None:
            yield Problem(
                ("tls",), say("only a tls:// address has certificates"), say("write modbus: tls://host"), on="key"
            )
        if dials and self.registration is None:
            yield Problem(
                ("modbus",),
                say("a dtu: address needs a registration"),
                say("add registration: the modem's first bytes"),
            )
        for key in ("registration", "heartbeat"):
            if not dials and getattr(self, key) is not None:
                yield Problem(
                    (key,), say("only a dtu: address has it"), say("write modbus: dtu:0.0.0.0:5020"), on="key"
                )
        if endpoint.is_renumbered:
            yield Problem(
                ("modbus",),
                say("{path} is another port after replugging", path=endpoint.path),
                say("write rtu:/dev/serial/by-id/NAME; `yulink scan` lists them"),
                severity="warning",
            )

    def _contradictions(self, tag: ModbusTag) -> Iterator[tuple[str, str, str]]:
        address, value_type = tag.address, tag.value_type
        if address.modicon and self.addressing != "modicon":
            yield (
                "at",
                say("{text!r} is in Modicon notation", text=tag.at),
                say("write {plain}, or set addressing: modicon for the device", plain=address),
            )
        elif not address.modicon and self.addressing == "modicon":
            yield "at", say("{text!r} is not in Modicon notation", text=tag.at), say("write it like 40001")
        if address.number + tag.span > ADDRESSES:
            yield (
                "at",
                say("the value reaches beyond address 65535"),
                say("it takes {count} from {at}", count=tag.span, at=address),
            )
        bits = address.table in ("coil", "discrete")
        if bits and value_type.name != "bool":
            yield "type", say("a {table} holds bool only", table=address.table), say("remove `type`")
        if not bits and value_type.name == "bool" and tag.bit is None:
            yield "type", say("a bool in a register needs its bit"), say("add bit: 0, or read a coil")
        if tag.bit is not None and (bits or (tag.type is not None and value_type.name not in ("bool", "u16", "i16"))):
            yield "bit", say("`bit` picks from one 16-bit register"), say("remove `type`, or remove `bit`")
        if tag.scaled and (value_type.name in ("bool", "string") or tag.bit is not None):
            yield "scale", say("only numbers can be scaled"), say("remove `scale` and `offset`")
        if tag.rate is not None and (not value_type.array or value_type.name == "bool"):
            yield "rate", say("a waveform is an array of numbers"), say("write type: i16[2048]")
        if tag.guard is not None:
            guard = parse_address(tag.guard)
            if tag.rate is None:
                yield "guard", say("only a waveform has a guard"), say("remove `guard`, or add rate: 6.4 kHz")
            elif guard is not None and guard.modicon != (self.addressing == "modicon"):
                yield "guard", say("{text!r} is not written like `at`", text=tag.guard), say("use one notation")
        if tag.full_scale is not None and tag.rate is None:
            yield "full_scale", say("only a waveform has a full scale"), say("add rate: 6.4 kHz, or use `scale`")
