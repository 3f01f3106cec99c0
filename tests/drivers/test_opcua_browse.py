"""What a server has, as a tree: types, values, access, units; any number of pages, circles, an end to everything."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from asyncua import Node, ua
from asyncua.server.uaprocessor import UaProcessor
from asyncua.ua.ua_binary import struct_from_binary

from drivers.api import Browsed, BrowseWish, DeviceContext
from drivers.opcua import browse as browsing
from drivers.opcua import limits
from drivers.opcua.browse import browse
from drivers.opcua.limits import Limits
from edge.agent.cli import main
from edge.core.catalogue import Catalogue
from edge.core.clock import SystemClock
from edge.core.errors import Disconnected, WrongInput
from simulators.faults import fault_line
from simulators.opcua import SimulatedServer, serve_opcua


def at(node: str) -> ua.NodeId:
    return ua.NodeId.from_string(node)


def named(name: str) -> ua.QualifiedName:
    return ua.QualifiedName(name, ua.UInt16(2))


async def unit(node: Node, text: str) -> None:
    information = ua.EUInformation(DisplayName=ua.LocalizedText(text), Description=ua.LocalizedText(text))
    await node.add_property(
        at(f"ns=2;s={text}.EU"),
        ua.QualifiedName("EngineeringUnits", 0),
        information,
        datatype=ua.NodeId(ua.Int32(ua.ObjectIds.EUInformation)),
    )


@asynccontextmanager
async def machine() -> AsyncIterator[SimulatedServer]:
    """A machine with names in Chinese, numbers as ids, two variables of one name, and a circle."""
    async with serve_opcua([]) as server:
        objects = server.server.nodes.objects
        cnc = await objects.add_object(at("ns=2;s=Cnc"), named("Cnc"))
        spindle = await cnc.add_object(at("ns=2;i=7001"), named("主轴"))
        speed = await spindle.add_variable(at("ns=2;i=7002"), named("转速"), 1480.5)
        await unit(speed, "1/min")
        load = await spindle.add_variable(at("ns=2;s=主轴.负载"), named("Load"), [1.0, 2.0])
        await load.set_writable()
        axis = await cnc.add_object(at("ns=2;s=Axis"), named("Axis"))
        await axis.add_variable(at("ns=2;s=Axis, {X}: Load"), named("Load"), 7)
        hidden = await axis.add_variable(at("ns=2;s=Secret"), named("Secret"), "x")
        await hidden.write_attribute(ua.AttributeIds.UserAccessLevel, ua.DataValue(ua.Variant(0, ua.VariantType.Byte)))
        await axis.add_reference(cnc, ua.ObjectIds.Organizes)  # a circle
        yield server


async def tree(server: SimulatedServer, folder: Path, **wish: Any) -> Browsed:
    context = DeviceContext("cnc", 1.0, Catalogue(), SystemClock(), str, data_dir=folder)
    async with asyncio.timeout(20):
        return await browse({"opcua": server.url}, context, BrowseWish(**wish))


async def test_a_tree_has_types_values_access_and_units_and_a_circle_ends(tmp_path: Path) -> None:
    async with machine() as server:
        found = await tree(server, tmp_path)
        assert not found.is_cut
        assert [(node.path, node.type, node.value, node.access, node.unit) for node in found.nodes] == [
            ("/Objects", "", "", "", ""),
            ("/Objects/Cnc", "", "", "", ""),
            ("/Objects/Cnc/主轴", "", "", "", ""),
            ("/Objects/Cnc/主轴/转速", "Double", "1480.5", "r", "1/min"),
            ("/Objects/Cnc/主轴/Load", "Double[2]", "[1.0, 2.0]", "rw", ""),
            ("/Objects/Cnc/Axis", "", "", "", ""),
            ("/Objects/Cnc/Axis/Load", "Int64", "7", "r", ""),
            ("/Objects/Cnc/Axis/Secret", "String", "x", "", ""),
        ]
        globs = {
            "/Objects/Cnc/**": ["Cnc", "主轴", "转速", "Load", "Axis", "Load", "Secret"],
            "/Objects/Cnc/*/Load": ["Load", "Load"],
            "/Cnc/2:主轴/**": ["主轴", "转速", "Load"],
            "/Objects/*/*/L?ad": ["Load", "Load"],
            "/Objects/Cnc/主轴/转速": ["转速"],
        }
        for glob, names in globs.items():
            assert [node.name for node in (await tree(server, tmp_path, match=glob)).nodes] == names, glob
        shallow = await tree(server, tmp_path, depth=1)
        assert [node.path for node in shallow.nodes] == ["/Objects", "/Objects/Cnc"]
        with pytest.raises(WrongInput, match=r"nothing at /Objects/Lathe/\*"):
            await tree(server, tmp_path, match="/Objects/Lathe/*")
        with pytest.raises(WrongInput, match="is not a path"):
            await tree(server, tmp_path, match="Cnc/*")


async def test_many_nodes_come_page_by_page_up_to_the_number_that_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serve_opcua([]) as server:
        folder = await server.server.nodes.objects.add_object(at("ns=2;s=F"), named("F"))
        for number in range(20):
            await folder.add_variable(at(f"ns=2;s=V{number}"), named(f"V{number}"), number)
        pages = Pages(server, 3, monkeypatch)
        found = await tree(server, tmp_path)
        assert [node.name for node in found.nodes[2:]] == [f"V{number}" for number in range(20)]
        assert pages.asked >= 6
        matched = await tree(server, tmp_path, match="/Objects/F/V1*", nodes_max=12)
        assert (len(matched.nodes), matched.is_cut) == (11, False)  # what does not fit is not counted
        cut = await tree(server, tmp_path, nodes_max=5)
        assert (len(cut.nodes), cut.is_cut) == (6, True)
        assert not pages.points, "a continuation point was left with the server"


class Pages:
    """Makes a server answer Browse in pages of a size, and BrowseNext, which asyncua's does not do by itself."""

    def __init__(self, server: SimulatedServer, size: int, patch: pytest.MonkeyPatch) -> None:
        self._size = size
        self.asked = 0
        self.points: dict[bytes, Any] = {}
        view: Any = server.server.iserver.view_service
        whole = view.browse
        patch.setattr(view, "browse", lambda params: [self._first_of(result) for result in whole(params)])
        serve_others: Any = UaProcessor._process_message

        async def serve(processor: Any, typeid: Any, header: Any, sequence: Any, body: Any) -> Any:
            if typeid != ua.NodeId(ua.Int32(ua.ObjectIds.BrowseNextRequest_Encoding_DefaultBinary)):
                return await serve_others(processor, typeid, header, sequence, body)
            response = ua.BrowseNextResponse()
            response.Parameters.Results = self._next(struct_from_binary(ua.BrowseNextParameters, body))
            processor.send_response(header.RequestHandle, sequence, response)
            return True

        patch.setattr(UaProcessor, "_process_message", serve)

    def _first_of(self, result: Any) -> Any:
        rest, result.References = result.References[self._size :], result.References[: self._size]
        if rest:
            result.ContinuationPoint = f"point {len(self.points)} of {self.asked}".encode()
            self.points[result.ContinuationPoint] = rest
        return result

    def _next(self, parameters: Any) -> list[Any]:
        self.asked += 1
        rests = [self.points.pop(point) for point in parameters.ContinuationPoints]
        if parameters.ReleaseContinuationPoints:
            return [ua.BrowseResult() for _ in rests]
        return [self._first_of(ua.BrowseResult(References=rest)) for rest in rests]


async def test_a_server_that_falls_silent_ends_the_browse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with machine() as server, fault_line("127.0.0.1", _port(server)) as line:
        context = DeviceContext("cnc", 1.0, Catalogue(), SystemClock(), str, data_dir=tmp_path)

        async def limits_then_silence(client: Any) -> Any:
            line.freeze()
            return Limits()

        monkeypatch.setattr(browsing, "read_limits", limits_then_silence)
        monkeypatch.setattr(limits, "REQUEST_TIMEOUT_S", 0.5)
        with pytest.raises(Disconnected, match="stopped answering"):
            async with asyncio.timeout(15):
                await browse({"opcua": f"opc.tcp://{line.host}:{line.port}/yulink"}, context, BrowseWish())
        line.heal()


def _port(server: SimulatedServer) -> int:
    return int(server.url.rpartition(":")[2].partition("/")[0])


CONFIG = """\
# The plant in 渝北
site: chongqing/plant-1

devices:
  cnc-07:          # the lathe
    opcua: URL
    tags:
      Load: {node: "ns=2;s=Axis, {X}: Load", deadband: 5}   # of the X axis

  # not wired yet
  pump: {modbus: "tcp://10.0.0.4", id: 1, tags: {a: {at: input/0}}}
"""


async def yulink(*arguments: object) -> int:
    return await asyncio.to_thread(main, [str(argument) for argument in arguments])


async def test_tags_are_added_and_the_file_stays_as_it_was_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "plant.yaml"
    async with machine() as server:
        config.write_text(CONFIG.replace("URL", server.url), "utf-8")
        options = ("--match", "/Objects/Cnc/**", "--data-dir", tmp_path / "data")
        assert await yulink("browse", config, "cnc-07", *options, "--add", "cnc-07") == 0
        shown = capsys.readouterr().out
        assert "1480.5 1/min" in shown
        added = (
            '      "转速": {node: "/Objects/Cnc/主轴/转速", unit: "1/min"}\n'
            '      "主轴_Load": {node: "ns=2;s=主轴.负载"}\n'
        )
        before, comment, after = CONFIG.replace("URL", server.url).partition("   # of the X axis\n")
        assert config.read_text("utf-8") == before + comment + added + after
        assert await yulink("check", config, "--offline") == 0
        assert await yulink("read", config, "cnc-07", "--data-dir", tmp_path / "data", "--json") == 0
        values = {row["tag"]: row["value"] for row in json.loads(capsys.readouterr().out.splitlines()[-1])["tags"]}
        assert values["转速"] == 1480.5
        once_more = config.read_text("utf-8")
        assert await yulink("browse", config, "cnc-07", *options, "--add", "cnc-07") == 0
        assert "are there already" in capsys.readouterr().out
        assert config.read_text("utf-8") == once_more


async def test_a_device_is_begun_from_its_address_or_from_its_settings_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "plant.yaml"
    async with machine() as server:
        config.write_text("site: chongqing/plant-1\n", "utf-8")
        options = ("--match", "/Objects/Cnc/主轴/**", "--data-dir", tmp_path / "data")
        assert await yulink("browse", server.url, *options, "--add", "cnc-07", "--config", config, "--json") == 0
        captured = capsys.readouterr()
        assert json.loads(captured.out)["is_cut"] is False
        assert "2 tags added" in captured.err
        assert await yulink("check", config, "--offline") == 0
        config.write_text(f"site: chongqing/plant-1\ndevices:\n  lathe:\n    opcua: {server.url}\n", "utf-8")
        assert await yulink("browse", config, "lathe", *options, "--add", "lathe") == 0
        assert await yulink("check", config, "--offline") == 0
        assert "    tags:\n      " in config.read_text("utf-8")
        capsys.readouterr()
        for wrong in (
            ("browse", server.url, "cnc-07"),
            ("browse", server.url, "--add", "cnc-07"),
            ("browse", tmp_path / "nowhere.yaml", "cnc-07"),
            ("browse", config, "pump"),
            ("browse", config),
            ("browse", "opc.tcp://"),
            ("browse", server.url, "--security", "strong"),
            ("browse", server.url, "--depth", "0"),
        ):
            assert await yulink(*wrong) == 2, wrong
            assert "error:" in capsys.readouterr().err
        assert await yulink("browse", "opc.tcp://127.0.0.1:1") == 1
