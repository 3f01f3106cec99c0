"""Every shipped profile, read from a real server whose registers are given beside it, delivers the expected values."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from asyncua import ua
from ruamel.yaml import YAML

from drivers.api import DeviceContext, Shared
from edge.agent.configuration.loader import examine, load
from edge.agent.configuration.profiles import known, shipped_folder
from edge.agent.configuration.settings import Device
from edge.core.catalogue import Catalogue
from edge.core.clock import SystemClock
from edge.core.quality import StatusCode
from simulators.modbus import Unit, serve_tcp
from simulators.opcua import Variable, serve_opcua
from tests.drivers.support import read_rows

FOLDER = Path(__file__).parent
PROFILES = {profile.name: profile.file for profile in known(Path("nowhere"))}


def content(file: Path) -> dict[str, Any]:
    data: dict[str, Any] = YAML(typ="safe").load(file.read_text("utf-8"))
    return data


def configure(folder: Path, url: str, name: str, more: str = "") -> Device:
    kind = content(PROFILES[name])["protocol"]
    file = folder / "plant.yaml"
    file.write_text(f"site: a/b\ndevices:\n  d:\n    use: {name}\n    {kind}: {url}\n{more}")
    return load(file).devices["d"]


@asynccontextmanager
async def served(name: str, recorded: dict[str, Any]) -> AsyncIterator[str]:
    """A server with the profile's registers, or its nodes."""
    if content(PROFILES[name])["protocol"] == "modbus":
        unit = Unit()
        for table in ("holding", "input"):
            places = recorded.get(table, {})
            for between in range(min(places, default=0), max(places, default=0)):
                unit.put(table, between, "u16", 0)  # what a meter answers where its manual says nothing
            for address, words in places.items():
                unit.put(table, address, "u16", [int(word, 16) for word in str(words).split()])
        async with serve_tcp({1: unit}) as server:
            yield server.url
        return
    nodes = [Variable(node, value) for node, value in recorded.get("nodes", {}).items()]
    for number, (path, value) in enumerate(recorded.get("paths", {}).items()):
        held = ua.LocalizedText(value["text"]) if isinstance(value, dict) else value
        nodes.append(Variable(f"ns=2;i={1000 + number}", held, path=path))
    async with serve_opcua(nodes) as server:
        yield server.url


@pytest.mark.parametrize("name", PROFILES)
async def test_the_registers_beside_it_give_the_expected_values(tmp_path: Path, name: str) -> None:
    recorded = content(FOLDER / f"{name}.yaml")
    async with served(name, recorded) as url:
        more = f"    parameters: {recorded['parameters']}\n" if "parameters" in recorded else ""
        more += "    security: none\n" if "nodes" in recorded or "paths" in recorded else ""
        device = configure(tmp_path, url, name, more)
        catalogue = Catalogue()
        context = DeviceContext("d", 0.05, catalogue, SystemClock(), lambda secret: "", Shared())
        rows: dict[str, Any] = {}
        async with device.spec.create(device.section, context).connect() as session:
            while len(rows) < len(recorded["expected"]):
                rows |= await read_rows(session, catalogue)
    got = {tag: value for tag, (value, _, _) in rows.items()}
    for tag, value in recorded["expected"].items():
        assert got.pop(tag) == (value if isinstance(value, str) else pytest.approx(value, rel=1e-12)), tag
    assert not got
    assert {quality for _, quality, _ in rows.values()} == {StatusCode.GOOD}


def test_every_profile_has_its_registers_and_says_where_it_is_from() -> None:
    assert len(PROFILES) >= 12
    beside = {str(file.relative_to(FOLDER).with_suffix("")) for file in FOLDER.glob("*/*.yaml")}
    assert beside == set(PROFILES)
    for name, file in PROFILES.items():
        about = content(file)["about"]
        assert about["name"], name
        assert len(about["source"]) > 20, name
        assert about["confidence"], name


def test_what_the_device_says_wins_and_null_leaves_a_tag_out(tmp_path: Path) -> None:
    more = "    order: CDAB\n    tags:\n      power: {deadband: 5}\n      voltage_{a,b}: null\n"
    more = more.replace("voltage_{a,b}: null", "energy: null\n      extra: {at: input/400}")
    section = configure(tmp_path, "tcp://127.0.0.1", "eastron/sdm630", more).section
    assert (section.tags["power"].deadband, section.tags["power"].unit) == (5, "W")
    assert "energy" not in section.tags
    assert "extra" in section.tags
    assert "voltage_c" in section.tags
    assert section.model_dump()["order"] == "CDAB"


def test_a_plants_own_profile_goes_before_a_shipped_one_and_its_mistakes_are_shown_in_its_file(tmp_path: Path) -> None:
    own = tmp_path / "profiles" / "eastron"
    own.mkdir(parents=True)
    (own / "sdm630.yaml").write_text("protocol: modbus\ndevice:\n  tags:\n    power: {at: inputt/52, type: f32}\n")
    file = tmp_path / "plant.yaml"
    file.write_text("site: a/b\ndevices:\n  d: {use: eastron/sdm630, modbus: 'tcp://127.0.0.1'}\n")
    _, problems = examine(file)
    (problem,) = problems
    assert problem.span is not None
    assert (Path(problem.span.file).name, problem.span.line) == ("sdm630.yaml", 4)
    assert "inputt/52" in problem.message


def test_the_shipped_profiles_are_those_of_the_checkout() -> None:
    assert shipped_folder() == Path(__file__).parents[2] / "config" / "profiles"
