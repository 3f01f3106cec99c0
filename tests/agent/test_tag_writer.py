"""Tags are written into a file by hand-sized steps: what stood there stays, letter for letter."""

import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from drivers.api import BrowsedNode
from edge.agent.commands.browse import nodes_of, reference, tag_names
from edge.agent.commands.tag_writer import Addition, add, find_file, quoted
from edge.core.errors import WrongInput

TAGS = {"new": {"node": "ns=2;s=New", "unit": "%"}}
ADDITION = Addition("cnc", TAGS, {"opcua": "opc.tcp://m:4840"})


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
def test_any_text_stands_safely_within_braces(text: str) -> None:
    other = text + "b"
    loaded = YAML(typ="rt").load(io.StringIO(f"a: {{{quoted(text)}: {quoted(text)}, {quoted(other)}: 1}}"))
    assert loaded["a"] == {text: text, other: 1}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("site: a/b", 'site: a/b\n\ndevices:\n  cnc:\n    opcua: "opc.tcp://m:4840"\n    tags:\n      NEW'),
        ("devices:\n", 'devices:\n  cnc:\n    opcua: "opc.tcp://m:4840"\n    tags:\n      NEW\n'),
        (
            "devices:\n    pump: {modbus: x}   # p\n\nuplink: {a: 1}\n",
            "devices:\n    pump: {modbus: x}   # p\n\n"
            '    cnc:\n      opcua: "opc.tcp://m:4840"\n      tags:\n        NEW\n\nuplink: {a: 1}\n',
        ),
        (
            "devices:\n  cnc:\n    opcua: u # c\n    # end\n",
            "devices:\n  cnc:\n    opcua: u # c\n    tags:\n      NEW\n    # end\n",
        ),
        ("devices:\n  cnc:\n    tags:\n    opcua: u\n", "devices:\n  cnc:\n    tags:\n      NEW\n    opcua: u\n"),
        (
            "devices:\n  cnc:\n    tags:\n      a:\n        node: i=1\n\n        unit: m\n# c\n\n    b: u\n",
            "devices:\n  cnc:\n    tags:\n      a:\n        node: i=1\n\n        unit: m\n      NEW\n# c\n\n    b: u\n",
        ),
        (
            "devices:\r\n  cnc:\r\n    tags:\r\n      a: {node: i=1}\r\n",
            "devices:\r\n  cnc:\r\n    tags:\r\n      a: {node: i=1}\r\n      NEW\r\n",
        ),
        (
            "devices:\n  cnc:\n    tags:\n      a: {node: i=1,\n          unit: mm}\n",
            "devices:\n  cnc:\n    tags:\n      a: {node: i=1,\n          unit: mm}\n      NEW\n",
        ),
    ],
)
def test_lines_come_where_the_devices_tags_end(tmp_path: Path, before: str, after: str) -> None:
    file = tmp_path / "plant.yaml"
    file.write_bytes(before.encode())
    file.chmod(0o640)
    assert add(file, ADDITION) == before
    assert file.read_bytes().decode() == after.replace("NEW", 'new: {node: "ns=2;s=New", unit: "%"}').replace(
        'node: "ns=2;s=New"', f"node: {quoted('ns=2;s=New')}"
    )
    assert file.stat().st_mode & 0o777 == 0o640
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(
    "written",
    [
        "devices: {cnc: {opcua: u, tags: {a: {node: i=1}}}}\n",
        "devices:\n  cnc:\n    tags: {a: {node: i=1}}\n",
        "devices:\n  cnc:\n    tags: list.csv\n",
        "devices:\n  cnc:\n    tags: {}\n",
    ],
)
def test_what_lines_cannot_be_added_to_stays_and_the_lines_are_told(tmp_path: Path, written: str) -> None:
    file = tmp_path / "plant.yaml"
    file.write_text(written)
    with pytest.raises(WrongInput, match="no lines can be added to cnc") as refused:
        add(file, ADDITION)
    assert "new: {node: " in refused.value.hint
    assert file.read_text() == written


def test_a_folder_is_searched_for_the_devices_file(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("site: a/b\n")
    (tmp_path / "b.yaml").write_text("devices:\n  pump: {modbus: x}\n")
    (tmp_path / "c.yml").write_text("devices:\n  cnc: {opcua: u}\n")
    assert find_file(tmp_path, "cnc").name == "c.yml"
    assert find_file(tmp_path, "other").name == "b.yaml"
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(WrongInput, match="no YAML file"):
        find_file(empty, "cnc")


def test_what_a_device_reads_by_braces_and_by_its_profile_is_known(tmp_path: Path) -> None:
    file = tmp_path / "plant.yaml"
    file.write_text(
        "site: a/b\ndevices:\n  cnc:\n    opcua: opc.tcp://m\n    use: siemens/sinumerik-840d-sl\n"
        '    tags:\n      load_{x,y}: {node: "ns=2;s=Axis/{}/Load"}\n'
    )
    known = nodes_of(file, file, "cnc")
    assert known["load_y"] == "ns=2;s=Axis/y/Load"
    assert known["spindle_speed"] == "ns=2;s=/Channel/Spindle/actSpeed"
    assert nodes_of(file, file, "new") == {}


def node(path: str, id: str = "ns=2;i=7") -> BrowsedNode:
    return BrowsedNode(path, id, path.rpartition("/")[2], "variable", 2)


def test_names_are_the_servers_own_and_grow_only_where_they_must() -> None:
    paths = [
        "/Objects/Cnc/Speed", "/Objects/Cnc/X/Load", "/Objects/Cnc/Y/Load", "/Objects/Other/Y/Load",
        "/Objects/机床/转速", "/Objects/Cnc/Act. Feed [mm]", "/Objects/Cnc/***", "/Objects/Cnc/Known",
    ]  # fmt: skip
    assert tag_names([node(path) for path in paths], {"Known": 1}) == [
        "Speed", "X_Load", "Cnc_Y_Load", "Other_Y_Load", "转速", "Act_Feed_mm", "Cnc", "Cnc_Known",
    ]  # fmt: skip
    assert tag_names([node("/Objects/A/B")] * 3, {}) == ["A_B", "A_B_2", "A_B_3"]
    assert len(tag_names([node("/Objects/" + "x" * 500)], {})[0]) == 80


def test_numbers_as_ids_are_written_as_paths_where_that_means_one_node() -> None:
    unique, twin = node("/Objects/Cnc/Speed"), node("/Objects/Cnc/Twin")
    among = [unique, twin, node("/Objects/Cnc/Twin", "ns=2;i=8")]
    assert reference(unique, among) == "/Objects/Cnc/Speed"
    assert reference(twin, among) == "ns=2;i=7"
    assert reference(node("/Objects/Cnc/S*"), among) == "ns=2;i=7"
    assert reference(node("/Objects/Cnc/Speed", "ns=2;s=Cnc.Speed"), among) == "ns=2;s=Cnc.Speed"
