"""What a server's variables hold arrives exactly: by id, path or glob; scalars, arrays, structures, enumerations."""

import struct
from datetime import UTC, datetime
from typing import Any

import pytest
from asyncua import ua
from asyncua.common.structures104 import new_enum, new_struct, new_struct_field
from hypothesis import given
from hypothesis import strategies as st

from drivers.opcua import SPEC
from drivers.opcua.parts import parts, pick, waveform
from simulators.opcua import SimulatedServer, Variable, serve_opcua
from tests.drivers.support import Follower, following

_STRUCTURE = ua.NodeId(ua.Int32(ua.ObjectIds.Structure))
OUT_OF_RANGE = 0x803C0000
TYPE_MISMATCH = 0x80740000


def _opaque(encoding: ua.NodeId, body: bytes) -> ua.ExtensionObject:
    return ua.ExtensionObject(encoding, body)  # type: ignore[arg-type]


def settings(server: SimulatedServer, tags: Any, **more: Any) -> dict[str, Any]:
    return {"opcua": server.url, "every": "50ms", "tags": tags, **more}


async def arrived(device: Follower, count: int) -> dict[str, Any]:
    await device.until(lambda: len(device.last()) >= count)
    return {name: value if quality == 0 else hex(quality) for name, (value, quality) in device.last().items()}


async def test_every_form_of_node_id_and_every_scalar_is_exact() -> None:
    guid = "ns=2;g=09087e75-8e5e-499b-954f-f2a9603db28a"
    when = datetime(2026, 1, 2, 3, 4, 5, 678_901, UTC)
    variables = [
        Variable("ns=2;i=4711", 2**53 + 1, "Int64"),
        Variable("ns=2;s=Line 1/Counter;a=b", 2**64 - 3, "UInt64"),
        Variable(guid, -(2**63), "Int64"),
        Variable("ns=2;b=TUFDSElORQ==", when, "DateTime"),
        Variable("ns=2;s=words", ua.LocalizedText("主轴", "zh-CN"), "LocalizedText"),
        Variable("ns=2;s=name", ua.QualifiedName("Cnc", 2), "QualifiedName"),
        Variable("ns=2;s=byte", 255, "Byte"),
        Variable("ns=2;s=on", True, "Boolean"),
        Variable("ns=2;s=float", 0.1, "Float"),
        Variable("ns=2;s=bytes", b"\x01\x02", "ByteString"),
    ]
    tags = {f"t{number}": {"node": variable.node} for number, variable in enumerate(variables)}
    async with serve_opcua(variables) as server, following(SPEC, settings(server, tags)) as device:
        found = await arrived(device, len(tags))
    single = struct.unpack("<f", struct.pack("<f", 0.1))[0]
    assert [found[name] for name in tags] == [
        2**53 + 1, 2**64 - 3, -(2**63), "2026-01-02T03:04:05.678901+00:00", "主轴", "Cnc", 255, True, single,
        hex(TYPE_MISMATCH),
    ]  # fmt: skip
    assert [type(found[f"t{number}"]) for number in (0, 3, 6, 7, 8)] == [int, str, int, bool, float]


async def test_a_glob_makes_a_tag_for_each_variable_below_and_a_path_names_one() -> None:
    variables = [
        Variable("ns=2;i=1001", 1, "Int32", path="Cnc/Axes/X/Load"),
        Variable("ns=2;i=1002", 2, "Int32", path="Cnc/Axes/Y/Load"),
        Variable("ns=2;i=1003", 3, "Int32", path="Cnc/Axes/Y/Position"),
        Variable("ns=2;i=1004", [4.0, 5.0], "Double", path="Cnc/Pressures"),
        Variable("ns=2;i=1005", 6, "Int32", path="Robot/Load"),
    ]
    tags = {
        "cnc": {"node": "/Objects/Cnc/**"},
        "load": {"node": "/Objects/Cnc/Axes/*/Load"},
        "robot": {"node": "/Robot/Lo?d"},
        "one": {"node": "/Objects/2:Cnc/2:Axes/2:Y/2:Position"},
        "other": {"node": "/Objects/3:Cnc/Pressures"},
        "nothing": {"node": "/Objects/Cnc/Nothing/*"},
    }
    async with serve_opcua(variables) as server, following(SPEC, settings(server, tags)) as device:
        assert await arrived(device, 10) == {
            "cnc[Axes.X.Load]": 1, "cnc[Axes.Y.Load]": 2, "cnc[Axes.Y.Position]": 3,
            "cnc[Pressures.0]": 4.0, "cnc[Pressures.1]": 5.0,
            "load[X.Load]": 1, "load[Y.Load]": 2, "robot[Load]": 6, "one": 3, "other": "0x80340000",
        }  # fmt: skip
        await server.add(Variable("ns=2;i=1006", 7, "Int32", path="Cnc/Nothing/Now"))
        await device.until(lambda: device.last().get("nothing[Now]") == (7, 0))


async def test_arrays_spread_or_give_one_element_and_may_become_shorter() -> None:
    loads = Variable("ns=2;s=Loads", [1, 2, 2**64 - 1], "UInt64")
    tags = {"load": {"node": loads.node}, "second": {"node": loads.node, "pick": "1"}}
    async with serve_opcua([loads]) as server, following(SPEC, settings(server, tags)) as device:
        assert await arrived(device, 4) == {"load[0]": 1, "load[1]": 2, "load[2]": 2**64 - 1, "second": 2}
        await server.write(loads.node, [7])
        await device.until(lambda: device.last()["second"][1] == OUT_OF_RANGE)
        assert device.last()["load[0]"] == (7, 0)
        assert device.last()["load[1]"][1] == device.last()["load[2]"][1] == OUT_OF_RANGE
        await server.write(loads.node, [8, 9, 10, 11])
        await device.until(lambda: device.last().get("load[3]") == (11, 0))
        assert device.last()["second"] == (9, 0)


@pytest.mark.parametrize("mode", ["subscribe", "poll"])
async def test_structures_are_decoded_by_the_servers_own_definitions(mode: str) -> None:
    """Nested, with optional fields, arrays and 64 bits without a sign; as a scalar and as an array of structures."""
    async with serve_opcua([]) as server:
        axis, (axis_encoding,) = await new_struct(
            server.server, 2, "Axis",
            [new_struct_field("Name", ua.VariantType.String), new_struct_field("Count", ua.VariantType.UInt64)],
        )  # fmt: skip
        _, (machine_encoding,) = await new_struct(
            server.server, 2, "Machine",
            [
                new_struct_field("Speed", ua.VariantType.Double),
                new_struct_field("Limit", ua.VariantType.Int16, optional=True),
                new_struct_field("Note", ua.VariantType.LocalizedText, optional=True),
                new_struct_field("Axes", axis, array=True),
                new_struct_field("Time", ua.NodeId(ua.Int32(294))),  # UtcTime, a subtype of DateTime
            ],
        )  # fmt: skip

        def text(value: str) -> bytes:
            return struct.pack("<i", len(value.encode())) + value.encode()

        def an_axis(name: str, count: int) -> bytes:
            return text(name) + struct.pack("<Q", count)

        body = struct.pack("<Id", 0b10, 1480.5) + b"\x02" + text("满") + struct.pack("<i", 2)
        body += an_axis("X", 2**64 - 1) + an_axis("Y", 7) + struct.pack("<q", 116_444_736_000_000_000)
        one = _opaque(machine_encoding.nodeid, body)
        two = [_opaque(axis_encoding.nodeid, an_axis(name, 1)) for name in "AB"]
        cut = _opaque(machine_encoding.nodeid, body[:20])
        await server.add(Variable("ns=2;s=Machine", one, "ExtensionObject", data_type=_STRUCTURE))
        await server.add(Variable("ns=2;s=Two", two, "ExtensionObject", data_type=_STRUCTURE))
        await server.add(Variable("ns=2;s=Cut", cut, "ExtensionObject", data_type=_STRUCTURE))
        tags = {
            "m": {"node": "ns=2;s=Machine"},
            "count": {"node": "ns=2;s=Machine", "pick": "Axes.0.Count"},
            "two": {"node": "ns=2;s=Two"},
            "cut": {"node": "ns=2;s=Cut"},
        }
        async with following(SPEC, settings(server, tags, mode=mode)) as device:
            assert await arrived(device, 13) == {
                "m[Speed]": 1480.5, "m[Note]": "满", "m[Axes.0.Name]": "X", "m[Axes.0.Count]": 2**64 - 1,
                "m[Axes.1.Name]": "Y", "m[Axes.1.Count]": 7, "m[Time]": "1970-01-01T00:00:00+00:00",
                "count": 2**64 - 1,
                "two[0.Name]": "A", "two[0.Count]": 1, "two[1.Name]": "B", "two[1.Count]": 1,
                "cut": hex(TYPE_MISMATCH),
            }  # fmt: skip
            await server.cut()
            await device.until(lambda: bool(device.losses) and device.last()["m[Speed]"][1] == 0)
            changed = struct.pack("<Id", 0b10, 7.5) + body[12:]
            await server.write("ns=2;s=Machine", _opaque(machine_encoding.nodeid, changed))
            await device.until(lambda: device.last()["m[Speed]"] == (7.5, 0))


async def test_unions_give_the_field_that_is_set() -> None:
    async with serve_opcua([]) as server:
        fields = [new_struct_field("Number", ua.VariantType.Int32), new_struct_field("Words", ua.VariantType.String)]
        _, (encoding,) = await new_struct(server.server, 2, "Either", fields, is_union=True)
        one = _opaque(encoding.nodeid, struct.pack("<Ii", 1, -5))
        await server.add(Variable("ns=2;s=E", one, "ExtensionObject", data_type=_STRUCTURE))
        async with following(SPEC, settings(server, {"e": {"node": "ns=2;s=E"}})) as device:
            assert await arrived(device, 1) == {"e[Number]": -5}


async def test_enumerations_are_numbers_or_their_words() -> None:
    async with serve_opcua([]) as server:
        state = await new_enum(server.server, 2, "State", ["停止", "运行", "故障"])
        await server.add(Variable("ns=2;s=State", 1, "Int32", data_type=state.nodeid))
        tags = {"number": {"node": "ns=2;s=State"}, "words": {"node": "ns=2;s=State", "type": "text"}}
        async with following(SPEC, settings(server, tags)) as device:
            assert await arrived(device, 2) == {"number": 1, "words": "运行"}
            await server.write("ns=2;s=State", 2)
            await device.until(lambda: device.last() == {"number": (2, 0), "words": ("故障", 0)})
            await server.write("ns=2;s=State", 9)
            await device.until(lambda: device.last() == {"number": (9, 0), "words": ("9", 0)})


async def test_a_value_of_another_type_than_before_is_converted_or_marked() -> None:
    """As when a controller was loaded with another program."""
    node = "ns=2;s=a"
    tags = {"a": {"node": node}}
    async with (
        serve_opcua([Variable(node, 1, "Int32")]) as server,
        following(SPEC, settings(server, tags, mode="poll")) as device,
    ):
        assert await arrived(device, 1) == {"a": 1}
        for value, kind, expected in ((2.0, "Double", (2, 0)), ("off", "String", (0, TYPE_MISMATCH))):
            await server.remove(node)
            await server.add(Variable(node, value, kind))
            await device.until(lambda expected=expected: device.last()["a"] == expected)  # type: ignore[misc]


LEAVES = st.integers() | st.booleans() | st.text(max_size=3)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
)


@given(VALUES)
def test_each_part_is_what_pick_gives_under_its_name(value: Any) -> None:
    found = list(parts(value))
    assert len({name for name, _ in found}) == len(found)
    for name, part in found:
        assert pick(value, name.split(".") if name else ()) == part


@pytest.mark.parametrize(
    ("value", "full_scale", "samples", "quality"),
    [
        ([1, -2, 32767], 8.0, [1, -2, 32767], 0), ([1, -2, 3], 0.0, [1, -2, 3], 0), ([3.0, -1.0], 8.0, [3, -1], 0),
        ([0.5, -1.0], 0.0, [0.5, -1.0], 0), ([0.5, 2.0], 8.0, [0.5, 2.0], 0), ([65536, -32768], 8.0, [16.0, -8.0], 0),
        ([65536, -32768], 0.0, [65536.0, -32768.0], 0x80890000),
    ],
)  # fmt: skip
def test_integers_are_counts_and_without_a_full_scale_nobody_takes_them_for_values(
    value: list[Any], full_scale: float, samples: list[Any], quality: int
) -> None:
    wave = waveform(1, 0, value, 0, 6400.0, full_scale)
    assert (wave.samples.tolist(), wave.quality) == (samples, quality)
    kept_as_counts = max(map(abs, value)) <= 32767 and all(each == int(each) for each in value)
    assert (wave.samples.dtype.kind == "i") is (kept_as_counts and (bool(full_scale) or isinstance(value[0], int)))
