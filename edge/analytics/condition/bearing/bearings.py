"""Rolling bearings: fault frequencies from the geometry, and a catalogue in which every entry cites its source."""

import difflib
import math
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from edge.core.errors import WrongInput
from edge.core.language import say

CATALOGUE = Path(__file__).with_name("bearings.yaml")
MAKERS = re.compile(r"^(SKF|FAG|INA|NSK|NTN|KOYO|TIMKEN|NACHI|SNR|HRB|LYC|ZWZ)")
PITCH_TOLERANCE = 0.03


@dataclass(frozen=True, slots=True)
class Bearing:
    """Geometry of a rolling bearing whose outer ring stands still.

    elements    number of balls or rollers
    element_mm  their diameter
    pitch_mm    diameter of the circle through their centres
    angle_deg   contact angle
    is_inferred whether these follow from published frequencies and outer dimensions only, not from a published geometry
    """

    name: str
    elements: int
    element_mm: float
    pitch_mm: float
    angle_deg: float = 0.0
    is_inferred: bool = False

    @property
    def ratio(self) -> float:
        """Return element over pitch diameter, times the cosine of the contact angle."""
        return self.element_mm / self.pitch_mm * math.cos(math.radians(self.angle_deg))

    @property
    def orders(self) -> dict[str, float]:
        """Return the fault frequencies as multiples of the shaft's: `bpfo`, `bpfi`, `bsf2` (twice the spin), `ftf`.

        Source: the kinematics of rolling without slip, as in ISO 15242-1 and Randall & Antoni, MSSP 25 (2011) 485.
        """
        ratio = self.ratio
        return {
            "bpfo": self.elements / 2 * (1 - ratio),
            "bpfi": self.elements / 2 * (1 + ratio),
            "bsf2": self.pitch_mm / self.element_mm * (1 - ratio**2),
            "ftf": (1 - ratio) / 2,
        }

    def caveats(self) -> list[str]:
        """Return what a person must know before trusting the geometry."""
        if not self.is_inferred:
            return []
        words = say(
            "{count} elements of {size:g} mm in {name} are inferred, not published: check its data sheet, "
            "or give dimensions",
            count=self.elements, size=self.element_mm, name=self.name,
        )  # fmt: skip
        return [words]


def geometry_problem(elements: float, element_mm: float, pitch_mm: float, angle_deg: float) -> str:
    """Return why these dimensions cannot be a bearing, or nothing."""
    if not 3 <= elements <= 100 or elements != int(elements):
        return say("a bearing has 3 to 100 rolling elements, not {given:g}", given=elements)
    if not 0 < element_mm < pitch_mm / 2:
        return say(
            "rolling elements of {given:g} mm do not fit a pitch circle of {pitch:g} mm",
            given=element_mm,
            pitch=pitch_mm,
        )
    if elements * element_mm > math.pi * pitch_mm * 1.02:
        return say(
            "{count:g} elements of {given:g} mm do not fit a pitch circle of {pitch:g} mm",
            count=elements,
            given=element_mm,
            pitch=pitch_mm,
        )
    if not 0 <= angle_deg < 90:
        return say("a contact angle is 0 to 90 degrees, not {given:g}", given=angle_deg)
    return ""


@cache
def entries() -> tuple[dict[str, Any], ...]:
    """Return the catalogue as it is written."""
    from ruamel.yaml import YAML  # the worker, which gets the geometry told, does without

    return tuple(YAML(typ="safe", pure=True).load(CATALOGUE.read_text("utf-8")))


@cache
def _by_name() -> dict[str, Bearing]:
    found: dict[str, Bearing] = {}
    for entry in entries():
        bearing = Bearing(
            entry["name"],
            entry["elements"],
            entry["element_mm"],
            entry["pitch_mm"],
            entry.get("angle_deg", 0.0),
            entry.get("is_inferred", False),
        )
        for name in (entry["name"], *entry.get("also", ())):
            found[_plain(name)] = bearing
    return found


def known_names() -> list[str]:
    """Return the names of the catalogue."""
    return [entry["name"] for entry in entries()]


def near_names(name: str) -> list[str]:
    """Return the catalogue's names most like this one."""
    matches = difflib.get_close_matches(_plain(name), _by_name(), 3, 0.5)
    return list(dict.fromkeys(_by_name()[match].name for match in matches))


def find(name: str) -> Bearing | None:
    """Return a bearing by name; makers and suffixes for seals, cage and clearance do not matter."""
    plain = _plain(name)
    designation = _plain(re.split(r"[-/.]", name)[0])
    base = re.fullmatch(r"(\d{4,5})(?:[A-Z]+\d?)?", designation)
    return _by_name().get(plain) or (_by_name().get(base[1]) if base else None)


def bearing(given: str) -> Bearing:
    """Return a bearing by name, or by dimensions: `balls=9,ball=7.94,pitch=39.04,angle=0` (mm, degrees).

    Raises:
        WrongInput: it is not in the catalogue, or cannot be a bearing.
    """
    if "=" in given:
        return _by_dimensions(given)
    if found := find(given):
        return found
    near = near_names(given)
    raise WrongInput(
        say("the bearing {name!r} is not in the catalogue", name=given),
        hint=(
            say("did you mean {name}?", name=", ".join(near))
            if near
            else say("known: {names}", names=", ".join(known_names()))
        )
        + " · "
        + say("or give its dimensions in mm: {example}", example="balls=9,ball=7.94,pitch=39.04,angle=0"),
    )


def _by_dimensions(given: str) -> Bearing:
    example = "balls=9,ball=7.94,pitch=39.04,angle=0"
    try:
        parts = {key.strip(): float(value) for key, _, value in (part.partition("=") for part in given.split(","))}
    except ValueError:
        raise WrongInput(
            say("{given!r} are not dimensions", given=given), say("write e.g. {example}", example=example)
        ) from None
    unknown = sorted(parts.keys() - {"balls", "ball", "pitch", "angle"})
    missing = [key for key in ("balls", "ball", "pitch") if key not in parts]
    if unknown or missing:
        raise WrongInput(say("{given!r} are not dimensions", given=given), say("write e.g. {example}", example=example))
    angle = parts.get("angle", 0.0)
    if problem := geometry_problem(parts["balls"], parts["ball"], parts["pitch"], angle):
        raise WrongInput(problem, say("check the data sheet: numbers in mm and degrees"))
    return Bearing(given, int(parts["balls"]), parts["ball"], parts["pitch"], angle)


def _plain(name: str) -> str:
    return MAKERS.sub("", re.sub(r"[^A-Z0-9]", "", name.upper()))
