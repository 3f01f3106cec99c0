"""What a server tells of a variable beside its value: the unit, and the same reading twice."""

from typing import Any

import numpy as np
from asyncua import Node, ua

from drivers.opcua import SPEC
from drivers.opcua.decode import Values
from drivers.opcua.driver import OpcUaDriver
from drivers.opcua.rows import Items
from edge.agent.unit_watch import UnitWatch
from edge.core.batch import Severity
from edge.core.catalogue import Catalogue, ValueKind
from simulators.opcua import Variable, serve_opcua
from tests.drivers.support import following
from tests.support import until

NOW = 1_767_225_600 * 10**9


async def unit(node: Node, text: str) -> None:
    information = ua.EUInformation(DisplayName=ua.LocalizedText(text))
    kind = ua.NodeId(ua.Int32(ua.ObjectIds.EUInformation))
    name = ua.NodeId.from_string(f"ns=2;s={text}.EU")
    await node.add_property(name, ua.QualifiedName("EngineeringUnits"), information, datatype=kind)


async def test_units_are_asked_for_where_the_configuration_has_one() -> None:
    told = {"t": "°C", "p": "", "f": "°F", "n": "K"}
    tags: dict[str, Any] = {
        name: {"node": f"ns=2;s={name}"} | ({"unit": "degC"} if name != "n" else {}) for name in told
    }
    async with serve_opcua([Variable(f"ns=2;s={name}", 1.0) for name in told]) as server:
        for name, text in told.items():
            if text:
                await unit(server.server.get_node(f"ns=2;s={name}"), text)
        async with following(SPEC, {"opcua": server.url, "every": "50ms", "tags": tags}) as device:
            driver = device.driver
            assert isinstance(driver, OpcUaDriver)
            await device.until(lambda: len(device.last()) == len(tags))
            await until(lambda: len(driver.units) == 3)
    assert {driver.context.catalogue[tag].name: unit for tag, unit in driver.units.items()} == {
        "t": "°C", "p": "", "f": "°F",
    }  # fmt: skip
    assert not driver.repeated


def test_a_unit_that_differs_is_told_once_with_both_and_so_is_its_end() -> None:
    catalogue = Catalogue()
    ids = [catalogue.intern("cnc", name, ValueKind.FLOAT64, "degC").id for name in ("t", "f", "x")]
    watch = UnitWatch("cnc", catalogue)
    mismatch, unknown = watch.look(dict(zip(ids, ("°C", "°F", "warm"), strict=True)), NOW)
    assert (mismatch.kind, mismatch.severity, mismatch.facts) == ("unit_mismatch", Severity.MEDIUM, {"f": "°F"})
    assert mismatch.message == "cnc: units differ: f is in °F at the device, in degC here"
    assert (unknown.kind, unknown.facts) == ("unit_unknown", {"x": "warm"})
    assert watch.wrong == {ids[1]: "°F"}
    assert watch.look(dict(zip(ids, ("°C", "°F", "warm"), strict=True)), NOW) == []
    (over,) = watch.look(dict(zip(ids, ("°C", "CEL", ""), strict=True)), NOW)
    assert (over.severity, over.message, watch.wrong) == (Severity.INFO, "cnc: units agree again", {})


def test_a_reading_that_a_server_tells_again_is_left_out_and_counted_but_not_one_that_was_read_before() -> None:
    catalogue, items = Catalogue(), Items()
    tag = catalogue.intern("cnc", "speed", ValueKind.FLOAT64)
    items.add(tag)

    def told(second: int, value: float, **how: bool) -> int:
        return sum(map(len, items.batches(Values(rest=[(0, 0, (NOW + second, value, 0))]), NOW, **how)))

    assert [told(1, 5.0, read=True), told(1, 5.0)] == [1, 0]  # the first notification says what was read
    assert items.take_repeated() == []
    assert [told(1, 5.0), told(1, 5.0), told(1, 6.0), told(2, 6.0)] == [0, 0, 1, 1]
    assert items.take_repeated() == [tag.id] * 2
    assert [told(2, 6.0, read=True), told(2, 6.0, changed=True), told(2, np.nan), told(2, np.nan)] == [0, 0, 1, 0]
    assert items.take_repeated() == [tag.id]
