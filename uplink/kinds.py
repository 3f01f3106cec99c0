"""The uplinks there are, by the key that names one in the configuration. A new one is a line here.

A section is cheap to load; the code that speaks is imported when it is made.
"""

from uplink.api import Uplink, UplinkContext, UplinkKind
from uplink.section import MqttSection, UplinkSection


def _brain(section: MqttSection, context: UplinkContext) -> Uplink:
    from uplink.pump import Pump

    return Pump(section, context.site, context.outbox, context.clock, equipment=context.equipment, put=context.put)


KINDS = {
    "mqtt": UplinkKind("a brain that acknowledges", MqttSection, _brain),
}


def kind_of(section: UplinkSection) -> UplinkKind:
    """Return the kind a section is of."""
    return next(kind for kind in KINDS.values() if type(section) is kind.section)
