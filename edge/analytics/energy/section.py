"""`energy:` of the configuration: meters and their tree, tariff, demand, factors. Models; names are resolved later."""

import re
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag, model_validator

from edge.analytics.energy.power_factor import STANDARDS
from edge.analytics.energy.power_quality_section import PowerQuality
from edge.analytics.energy.tariff_rules import Rate, parse_span
from edge.analytics.energy.working_calendar import DayType
from edge.core.language import say
from edge.core.section import Duration, Power, Section, refuse

Carrier = Literal[
    "electricity",
    "heat",
    "natural_gas_oil_field",
    "natural_gas_gas_field",
    "raw_coal",
    "coke",
    "crude_oil",
    "fuel_oil",
    "gasoline",
    "kerosene",
    "diesel",
    "lpg",
    "lng",
    "steam_low_pressure",
    "fresh_water",
    "softened_water",
    "deaerated_water",
    "compressed_air",
    "oxygen",
    "carbon_dioxide",
    "nitrogen_by_product",
    "nitrogen",
    "acetylene",
]
"""What can flow through a meter, as the factor sets call it."""

_CLOCK = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)")


def _minute(given: Any) -> Any:
    match = _CLOCK.fullmatch(given) if isinstance(given, str) else None
    if match is None:
        refuse(say("{given!r} is not a time of day", given=given), say("write hours and minutes in quotes: '06:00'"))
    return int(match[1]) * 60 + int(match[2])


def _spans(given: Any) -> Any:
    listed = given if isinstance(given, list) else [given]
    spans = []
    for each in listed:
        try:
            spans.append(parse_span(str(each)))
        except ValueError:
            refuse(say("{given!r} is not a span of the day", given=each), say("write from and to: 11:00-17:00"))
    return spans


def _dates(given: Any) -> Any:
    listed = given if isinstance(given, list) else [given]
    found = []
    for each in listed:
        first, _, last = str(each).partition("..")
        try:
            days = [datetime.strptime(f"2024-{day.strip()}", "%Y-%m-%d") for day in (first, last or first)]
        except ValueError:
            refuse(say("{given!r} are not days of the year", given=each), say("write month and day: 02-10..02-17"))
        found.append(tuple((day.month, day.day) for day in days))
    return found


def _standard(given: float) -> float:
    if round(100 * given) not in STANDARDS:
        refuse(say("{given} is not a power factor that is asked for", given=given), say("one of: 0.9, 0.85, 0.8"))
    return given


TimeOfDay = Annotated[int, BeforeValidator(_minute, json_schema_input_type=str), Field(examples=["06:00"])]
"""A time of the day, held in minutes. Written `'06:00'`."""


class Hours(Section):
    """When a rate holds. What is left out holds always; the first of the list that fits an instant wins."""

    rate: Rate
    """`sharp` 尖, `peak` 峰, `flat` 平, `valley` 谷 or `deep_valley` 深谷."""

    at: Annotated[Sequence[tuple[int, int]], BeforeValidator(_spans, json_schema_input_type=str | list[str])] = ()
    """Times of the day: `12:00-14:00`, or a list. `22:00-06:00` goes over midnight."""

    months: Sequence[Annotated[int, Field(ge=1, le=12)]] = ()
    """Months, 1 to 12."""

    days: Sequence[DayType] = ()
    """Kinds of day: `workday`, `weekend`, `holiday`, by the working calendar with its make-up days."""

    dates: Annotated[Sequence[Any], BeforeValidator(_dates, json_schema_input_type=str | list[str])] = ()
    """Days of the year: `02-10..02-17`, or a list."""

    event: str = ""
    """Holds only on days for which this event was declared, e.g. a heat wave."""


def _days(given: Any) -> Any:
    found: list[date] = []
    for each in given if isinstance(given, list) else [given]:
        first, _, last = str(each).partition("..")
        try:
            begin, end = date.fromisoformat(first.strip()), date.fromisoformat((last or first).strip())
        except ValueError:
            refuse(
                say("{given!r} are not days", given=str(each)),
                say("write e.g. {example}", example="2026-07-15..2026-07-18"),
            )
        if not 0 <= (end - begin).days < 366:
            refuse(say("{given!r} are not days", given=str(each)), say("write the first day first, a year at most"))
        found += [begin + timedelta(days=number) for number in range((end - begin).days + 1)]
    return found


Days = Annotated[Sequence[date], BeforeValidator(_days, json_schema_input_type=str | list[str])]
"""Days: `2026-07-15`, `2026-07-15..2026-07-18`, or a list."""


class TariffSection(Section):
    """What electricity costs. Prices are the plant's own; hours come from a shipped tariff or stand here."""

    use: str | None = None
    """A tariff of `config/tariffs` or of `tariffs/` beside the configuration, e.g. `chongqing/2021-14`."""

    begins: date | None = Field(None, alias="from")
    """From which day on it holds, in a list of several."""

    currency: str = "CNY"
    """The currency of the prices."""

    base: Annotated[float, Field(gt=0)] | None = None
    """Price of a kWh that the tariff's ratios multiply."""

    prices: Mapping[Rate, Annotated[float, Field(ge=0)]] = {}
    """Price of a kWh by rate, instead of `base`."""

    hours: Sequence[Hours] = ()
    """When which rate holds."""

    events: Mapping[str, Days] = {}
    """Days on which an event that `hours` name was declared: `{heat wave: [2026-07-15, 2026-07-20..2026-07-22]}`. Write
    them beforehand: hours that change hold from then on."""

    curve: str | None = None
    """A file of prices by the quarter hour or hour, `from,price` a line: where it has one, that holds instead."""

    fixed: Mapping[str, float] = {}
    """What a kWh costs besides and does not float, by name: losses, transmission, system operation."""

    fund: float = 0.0
    """Government funds a kWh, which the power factor does not adjust."""

    basic: "BasicCharge | None" = None
    """The basic charge of a two-part tariff."""

    power_factor: Annotated[float, AfterValidator(_standard)] = 0.9
    """The power factor that is asked for: 0.9, 0.85 or 0.8."""


class BasicCharge(Section):
    """By the month's highest demand, or by the transformer's capacity."""

    price: Annotated[float, Field(ge=0)]
    """Of a kW, or of a kVA with `capacity`, each month."""

    capacity: Annotated[float, Field(gt=0)] | None = None
    """kVA of the transformers; leave it out to be billed by demand."""

    contract: Power | None = None
    """The demand agreed upon."""


class Exchange(Section):
    """Another meter in the same place."""

    at: datetime
    """When, in the plant's time."""

    end: float
    """What the old meter showed last, in the tag's unit."""

    start: float
    """What the new one showed first."""

    ratio: Annotated[float, Field(gt=0)] | None = None
    """Its transformer ratio, if that is another."""

    rates: Mapping[Rate, "RateExchange"] = {}
    """What its registers by rate showed: `{peak: {end: 4321.0, start: 0.5}}`."""


class RateExchange(Section):
    """A register by rate when its meter was exchanged."""

    end: float
    """What the old meter showed last, in the tag's unit."""

    start: float
    """What the new one showed first."""


class Ratio(Section):
    """A transformer ratio from an instant on."""

    at: datetime
    """When, in the plant's time."""

    ratio: Annotated[float, Field(gt=0)]
    """What the reading is multiplied with from then on."""


class Meter(Section):
    """A meter. What is left out is found among the tags of the device of the same name."""

    energy: str | None = None
    """Path of its register: `incomer.energy_import`. A power (kW) is integrated where there is no register."""

    carrier: Carrier = "electricity"
    """What flows, as the factor sets call it."""

    ratio: Annotated[float, Field(gt=0)] = 1.0
    """What the reading is multiplied with: current times voltage transformers, where the meter does not do it."""

    ratios: Sequence[Ratio] = ()
    """Later ratios, by date."""

    exchanges: Sequence[Exchange] = ()
    """Other meters in the same place, by date."""

    rolls_over_at: Annotated[float, Field(gt=0)] | None = None
    """Where the register begins again at 0, in the tag's unit: 1000000."""

    max: Power | None = None
    """The most power that can flow: tells a roll-over from a reset, after a silence too, and a leap from a reading."""

    accuracy: Annotated[float, Field(gt=0, le=10, alias="class")] = 1.0
    """Its accuracy class in percent: 0.5."""

    level: Literal[1, 2, 3] | None = None
    """Metering level (GB 17167): 1 the plant, 2 a part of it, 3 equipment. Default: how deep it hangs in the tree."""

    calibrated_until: date | None = None
    """When its calibration ends; from a month before it is told."""

    reactive: str | None = None
    """Path of its reactive register (kvarh), for the power factor."""

    rates: Mapping[Rate, str] = {}
    """Paths of its own registers by rate, to compare with the tariff: `{peak: incomer.energy_t2}`. Default: the tags
    `energy_peak` … or `energy_import_peak` … of the device."""

    power: str | None = None
    """Path of a power tag, to compare the register with."""

    voltages: Annotated[Sequence[str], Field(min_length=3, max_length=3)] | None = None
    """Paths of the three line voltages, for their unbalance."""

    power_quality: PowerQuality | None = None
    """Limits of unbalance, harmonics, voltage and frequency."""

    gas: "GasState | None" = None
    """How a gas volume becomes one at 0 °C and 101.325 kPa."""

    density: Annotated[float, Field(gt=0)] | None = None
    """kg of a litre, for a fuel that is measured by volume and counted by weight: diesel 0.84."""

    bought: bool | None = None
    """Whether it comes from outside, and so counts in the site's coal and CO2. Default: meters that are in no other
    one, but for compressed air, softened and deaerated water: what makes them is counted already; and but for what is
    given away, registers whose tag says `export`."""

    billed: bool | None = None
    """Whether the tariff is applied. Default: meters of electricity that are in no other one, and are no `export`."""


class GasState(Section):
    """The state a gas meter measures in."""

    temperature: float = 20.0
    """°C."""

    pressure: Annotated[float, Field(gt=0)] = 101.325
    """kPa, absolute."""


def _shares(given: Any) -> Any:
    return dict.fromkeys(given, 1.0) if isinstance(given, list) else given


Shares = Annotated[
    Mapping[str, Annotated[float, Field(gt=0)]],
    BeforeValidator(_shares, json_schema_input_type=list[str] | dict[str, float]),
]
"""Meters, and how much of each counts: `[cnc-07, cnc-08]` or `{cnc-07: 1, compressor: 0.4}`."""


class VirtualMeter(Section):
    """A sum of meters: parts that count in full, or with a share, or against."""

    of: Mapping[str, float]
    """Meters and how much of each counts: `{incomer: 1, cnc-07: -1, compressor: -0.5}`."""

    @model_validator(mode="after")
    def _not_empty(self) -> "VirtualMeter":
        if not self.of:
            refuse(say("a sum of no meters"), say("write e.g. {example}", example="of: {incomer: 1, cnc-07: -1}"))
        return self


class Demand(Section):
    """Demand (需量): the mean power of a window."""

    meter: str | None = None
    """Which meter's. Default: the one at the top of the tree."""

    window: Duration = 900.0
    """How long a window is, in whole minutes."""

    method: Literal["block", "sliding"] = "block"
    """By which the month's highest is found: window after window (区间式), or sliding by the minute (滑差式)."""

    limit: Power | None = None
    """The power that must not be exceeded; one is warned before the window closes."""


def _one_or_several(given: Any) -> str:
    return "[several]" if isinstance(given, list) else "[one]"


def _shape(given: Any) -> str:
    return "[name]" if isinstance(given, str) else _one_or_several(given)


class EnergySection(Section):
    """Energy, cost and carbon."""

    meters: Mapping[str, Meter] = {}
    """Meters by name. Names of the tree that are devices need no entry."""

    tree: Mapping[str, Sequence[str]] = {}
    """Which meters hang below which: `{incomer: [cnc-07, pump-3]}`. What is in none of them shows as `residual`."""

    sums: Mapping[str, VirtualMeter] = {}
    """Virtual meters, by name."""

    processes: Mapping[str, Shares] = {}
    """Groups of meters, of whatever flows, with their energy, cost, coal and CO2: `{machining: [cnc-07, cnc-08]}`."""

    tariff: (
        Annotated[
            Annotated[str, Tag("[name]")]
            | Annotated[TariffSection, Tag("[one]")]
            | Annotated[list[TariffSection], Tag("[several]")],
            Discriminator(_shape),
        ]
        | None
    ) = None
    """Name of a tariff, or what it is made of, or a list of several with `from`."""

    calendar: str = "china"
    """The working calendar, of `config/calendars` or `calendars/` beside the configuration."""

    demand: (
        Annotated[
            Annotated[Demand, Tag("[one]")] | Annotated[list[Demand], Tag("[several]")], Discriminator(_one_or_several)
        ]
        | None
    ) = None
    """Demand and its limit."""

    area: str = ""
    """The area whose factors hold, as the factor sets write it: 重庆."""

    factors: str | None = None
    """The factor set to keep to, where several have a factor of a carrier for one purpose."""

    late: Duration = 3600.0
    """How late a reading may come and still correct what was given out."""


TariffSection.model_rebuild()
Exchange.model_rebuild()
Meter.model_rebuild()
