"""The uplinks there are, by the key that names one in the configuration. A new one is a line here.

A section is cheap to load; the code that speaks is imported when it is made.
"""

from uplink.api import Uplink, UplinkContext, UplinkKind
from uplink.plain.section import JsonSection
from uplink.section import MqttSection, UplinkSection
from uplink.sparkplug.section import SparkplugSection


def _brain(section: MqttSection, context: UplinkContext) -> Uplink:
    from uplink.pump import Pump

    return Pump(
        section,
        context.site,
        context.outbox,
        context.clock,
        equipment=context.equipment,
        put=context.put,
        health=context.health,
    )


def _sparkplug(section: SparkplugSection, context: UplinkContext) -> Uplink:
    from uplink.sparkplug.uplink import SparkplugUplink

    return SparkplugUplink(section, context)


def _json(section: JsonSection, context: UplinkContext) -> Uplink:
    from uplink.plain.uplink import JsonUplink

    return JsonUplink(section, context)


KINDS = {
    "mqtt": UplinkKind("a brain that acknowledges", MqttSection, _brain),
    "json": UplinkKind("plain JSON for whoever subscribes", JsonSection, _json),
    "sparkplug": UplinkKind("a SCADA host that speaks Sparkplug B 3.0", SparkplugSection, _sparkplug),
}


def kind_of(section: UplinkSection) -> UplinkKind:
    """Return the kind a section is of."""
    return next(kind for kind in KINDS.values() if type(section) is kind.section)
