"""From the tariff, the calendar and the factors that `energy:` names to what the plan has of them."""

import csv
import difflib
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from edge.agent.configuration.energy_meters import Wrong, instant
from edge.analytics.energy.factors import FactorSet
from edge.analytics.energy.section import EnergySection, Hours, TariffSection
from edge.analytics.energy.tariff_rules import HourRule, Rate, uncovered
from edge.analytics.energy.working_calendar import DayType
from edge.core.language import say

DATA_FOLDERS = ("tariffs", "calendars", "factors")


def data_files(kind: str, folder: Path) -> dict[str, Path]:
    """Return the files of tariffs, calendars or factors by name: the plant's own, then those shipped."""
    packed, shipped = Path(__file__).parent / kind, Path(__file__).parents[3] / "config" / kind
    found: dict[str, Path] = {}
    for base in (folder / kind, packed if packed.is_dir() else shipped):
        for file in sorted(base.rglob("*.yaml")):
            found.setdefault(str(file.relative_to(base).with_suffix("")), file)
    return found


class DataPlanner:
    """Reads the dated data files."""

    def __init__(self, section: EnergySection, folder: Path, zone: ZoneInfo, wrong: Wrong) -> None:
        self._section, self._folder, self._zone, self._wrong = section, folder, zone, wrong

    def _read(self, kind: str, name: str, place: tuple[str | int, ...]) -> dict[str, Any] | None:
        files = data_files(kind, self._folder)
        if name not in files:
            near = difflib.get_close_matches(name, files, 2, 0.5)
            hint = say("did you mean {near}?", near=say(" or ").join(near)) if near else ""
            hint = hint or say("there are: {names}", names=", ".join(files))
            self._wrong(place, say("there is no {name!r} in {folder}", name=name, folder=kind), hint)
            return None
        try:
            content: dict[str, Any] = YAML(typ="safe").load(files[name])
        except (OSError, YAMLError) as error:
            self._wrong(place, say("{file} cannot be read: {error}", file=files[name].name, error=str(error)[:200]))
            return None
        return content

    def calendar(self) -> dict[str, Any]:
        """Return the working calendar."""
        content = self._read("calendars", self._section.calendar, ("calendar",)) or {"years": {}}
        return {
            "years": {
                str(year): {
                    "holidays": {name: str(span) for name, span in each.get("holidays", {}).items()},
                    "workdays": [str(day) for day in each.get("workdays", ())],
                }
                for year, each in content["years"].items()
            }
        }

    def factors(self) -> list[dict[str, Any]]:
        """Return the rows of all factor files that can be used."""
        files = data_files("factors", self._folder)
        contents = [content for name in files if (content := self._read("factors", name, ("factors",))) is not None]
        try:
            rows = FactorSet.of(contents).rows
        except (ValueError, KeyError, TypeError) as error:
            self._wrong(("factors",), say("a factor file is wrong: {error}", error=error))
            return []
        sets = {content["set"] for content in contents}
        if self._section.factors and self._section.factors not in sets:
            hint = say("there are: {names}", names=", ".join(sorted(sets)))
            self._wrong(("factors",), say("there is no factor set {name!r}", name=self._section.factors), hint)
        areas = sorted({row.area for row in rows} - {""})
        if self._section.area and self._section.area not in areas:
            message = say("no factor is of the area {name!r}", name=self._section.area)
            hint = say("there are: {names}; without `area` the nation's factors hold", names=", ".join(areas))
            self._wrong(("area",), message, hint)
        carriers = {meter.carrier for meter in self._section.meters.values()} | {"electricity"}
        return [
            {
                "id": row.id, "carrier": row.carrier, "purpose": str(row.purpose), "value": row.value, "unit": row.unit,
                "area": row.area, "scope": row.scope, "valid_from": row.valid_from.isoformat(),
                "valid_to": row.valid_to.isoformat() if row.valid_to else None, "document": row.document,
                "confidence": str(row.confidence),
            }
            for row in rows
            if row.carrier in carriers and row.area in ("", self._section.area)
        ]  # fmt: skip

    def tariff(self) -> tuple[list[dict[str, Any]], TariffSection | None]:
        """Return the editions of the tariff, and what the last of them says."""
        given = self._section.tariff
        if given is None:
            return [], None
        each_of = [TariffSection.model_validate({"use": given})] if isinstance(given, str) else listed(given)
        editions: list[dict[str, Any]] = []
        for number, each in enumerate(each_of):
            place = ("tariff",) if isinstance(given, str | TariffSection) else ("tariff", number)
            editions += self._editions(each, place, is_name=isinstance(given, str))
        return editions, each_of[-1] if each_of else None

    def events(self, editions: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
        """Return the days on which events were declared, by name."""
        given = self._section.tariff
        known = {rule["event"] for edition in editions for rule in edition["rules"] if rule["event"]}
        found: dict[str, list[str]] = {}
        for number, each in enumerate(() if isinstance(given, str) else listed(given)):
            place = ("tariff", "events") if isinstance(given, TariffSection) else ("tariff", number, "events")
            for event, days in each.events.items():
                if event not in known:
                    near = difflib.get_close_matches(event, known, 1, 0.6)
                    hint = say('did you mean "{near}"?', near=near[0]) if near else say("name it in `hours`")
                    self._wrong(
                        (*place, event), say("no hours ask for the event {event!r}", event=event), hint, on="key"
                    )
                found.setdefault(event, []).extend(day.isoformat() for day in days)
        return found

    def curve(self, tariff: TariffSection) -> list[tuple[int, float]]:
        """Return the list of prices as (from, price), in order of time."""
        place = ("tariff", "curve")
        file = self._folder / str(tariff.curve)
        found: dict[int, float] = {}
        extra = sum(tariff.fixed.values()) + tariff.fund
        try:
            with file.open(encoding="utf-8-sig", newline="") as lines:
                for number, row in enumerate(csv.reader(lines), 1):
                    if (number == 1 and row[:1] == ["from"]) or not row:
                        continue
                    try:
                        when, price = instant(self._zone, datetime.fromisoformat(row[0])), float(row[1])
                    except (ValueError, IndexError):
                        hint = say("write e.g. {example}", example="2026-07-01T00:15,0.412")
                        message = say("{file}:{line} is no price", file=file.name, line=number)
                        self._wrong(place, message, hint)
                        return []
                    found[when] = round(price + extra, 10)
        except (OSError, UnicodeDecodeError) as error:
            self._wrong(place, say("{file} cannot be read: {error}", file=file.name, error=str(error)[:200]))
        return sorted(found.items())

    def _editions(self, given: TariffSection, place: tuple[str | int, ...], *, is_name: bool) -> list[dict[str, Any]]:
        begin = given.begins or date(2000, 1, 1)
        if given.use is None:
            rules = [_rule(hours) for hours in given.hours]
            return self._edition(given, place, begin, rules, {}, {})
        content = self._read("tariffs", given.use, place if is_name else (*place, "use"))
        if content is None:
            return []
        found: list[dict[str, Any]] = []
        for each in content["editions"]:
            rules = [_rule(Hours(**hours)) for hours in each["hours"]]
            own = max(begin, each["valid_from"])
            found += self._edition(given, place, own, rules, each.get("ratios", {}), content.get("about", {}))
        return found

    def _edition(
        self,
        given: TariffSection,
        place: tuple[str | int, ...],
        begin: date,
        rules: Sequence[dict[str, Any]],
        ratios: Mapping[str, float],
        about: Mapping[str, Any],
    ) -> list[dict[str, Any]]:
        if not rules:
            hint = say("write `hours`, or `use` a tariff that is shipped")
            self._wrong(place, say("the tariff has no hours"), hint, on="key")
            return []
        bare = uncovered([_hour_rule(rule) for rule in rules])
        if bare:
            hint = say("write a last line without `at`: {example}", example="{rate: flat}")
            self._wrong((*place, "hours") if given.hours else place, say("no rate holds at {when}", when=bare), hint)
        rates = {rule["rate"] for rule in rules}
        prices = {str(rate): price for rate, price in given.prices.items()}
        if given.base is not None:
            prices = {rate: given.base * ratios.get(rate, 1.0) for rate in rates} | prices
        missing = sorted(rates - set(prices))
        if prices and missing:
            listed = ", ".join(missing)
            self._wrong(
                (*place, "prices"), say("no price for {rates}", rates=listed), say("write one for each"), on="key"
            )
        extra = sum(given.fixed.values()) + given.fund
        prices = {rate: round(price + extra, 10) for rate, price in prices.items()}
        source = {key: str(about.get(key, "")) for key in ("document", "confidence")}
        return [{"valid_from": begin.isoformat(), "rules": list(rules), "prices": prices, **source}]


def bill_of(tariff: TariffSection | None) -> dict[str, Any] | None:
    """Return what a month's bill has besides energy."""
    if tariff is None or not (tariff.fixed or tariff.fund or tariff.basic):
        return None
    basic = tariff.basic
    return {
        "fixed": dict(tariff.fixed),
        "fund": tariff.fund,
        "basic": {"price": basic.price, "capacity": basic.capacity, "contract": basic.contract} if basic else None,
    }


def _rule(hours: Hours) -> dict[str, Any]:
    return {
        "rate": str(hours.rate),
        "months": list(hours.months),
        "days": [str(day) for day in hours.days],
        "dates": [[list(first), list(last)] for first, last in hours.dates],
        "spans": [list(span) for span in hours.at],
        "event": hours.event,
    }


def _hour_rule(rule: Mapping[str, Any]) -> HourRule:
    spans = tuple((begin, end) for begin, end in rule["spans"])
    dates = tuple((tuple(first), tuple(last)) for first, last in rule["dates"])
    days = frozenset(DayType(day) for day in rule["days"])
    return HourRule(Rate(rule["rate"]), frozenset(rule["months"]), days, dates, spans, rule["event"])


def listed(given: Any) -> Sequence[Any]:
    """Return one, several or none as a list."""
    if given is None:
        return ()
    return given if isinstance(given, list | tuple) else [given]
