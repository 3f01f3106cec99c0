"""Events, alarms and conditions of a server (OPC 10000-9) as events of the log."""

from typing import Any

from asyncua import ua

from drivers.opcua.values import text, time_of
from edge.core.batch import Event, Severity

HANDLE = 2**31
"""Client handle of the item that gives events; above those of all values."""

_FIELDS: tuple[tuple[int, tuple[str, ...]], ...] = (
    (ua.ObjectIds.BaseEventType, ("EventType",)),
    (ua.ObjectIds.BaseEventType, ("SourceName",)),
    (ua.ObjectIds.BaseEventType, ("Time",)),
    (ua.ObjectIds.BaseEventType, ("Message",)),
    (ua.ObjectIds.BaseEventType, ("Severity",)),
    (ua.ObjectIds.ConditionType, ("ConditionName",)),
    (ua.ObjectIds.ConditionType, ("Retain",)),
    (ua.ObjectIds.AcknowledgeableConditionType, ("AckedState", "Id")),
    (ua.ObjectIds.AlarmConditionType, ("ActiveState", "Id")),
)
_REFRESH = (ua.ObjectIds.RefreshStartEventType, ua.ObjectIds.RefreshEndEventType, ua.ObjectIds.RefreshRequiredEventType)


def event_filter() -> ua.EventFilter:
    """Return a filter that asks for the fields of an event, a condition and an alarm; what one lacks comes as null."""
    wanted = ua.EventFilter()
    for type_, path in _FIELDS:
        operand = ua.SimpleAttributeOperand()
        operand.TypeDefinitionId = ua.NodeId(ua.Int32(type_))
        operand.BrowsePath = [ua.QualifiedName(name, ua.UInt16(0)) for name in path]
        operand.AttributeId = ua.AttributeIds.Value
        wanted.SelectClauses.append(operand)
    return wanted


def event_of(device: str, fields: list[Any], now: int) -> Event | None:
    """Return an event of the log; None for those that only frame a refresh."""
    values = [variant.Value for variant in fields] + [None] * (len(_FIELDS) - len(fields))
    type_, source, time, message, severity, condition, retain, acked, active = values[: len(_FIELDS)]
    if isinstance(type_, ua.NodeId) and type_.NamespaceIndex == 0 and type_.Identifier in _REFRESH:
        return None
    grade = int(severity) if isinstance(severity, int) else int(Severity.INFO)
    facts: dict[str, str | int | float | bool | None] = {"severity": grade}
    if isinstance(type_, ua.NodeId):
        facts["type"] = type_.to_string()
    for name, value in (("source", source), ("condition", condition)):
        if value is not None:
            facts[name] = text(value)
    states = {"active": active, "acknowledged": acked, "retain": retain}
    facts |= {name: state for name, state in states.items() if isinstance(state, bool)}
    is_condition = condition is not None or active is not None
    words = text(message) if message is not None else ""
    return Event(
        time_of(time, now), device, "opcua_condition" if is_condition else "opcua_event", _grade(grade), words, facts
    )


def _grade(severity: int) -> Severity:
    """Return the step of our scale at or below a severity of 1 to 1000."""
    return max((step for step in Severity if step <= severity), default=Severity.INFO)


async def refresh(client: Any, subscription: int) -> None:
    """Ask for the conditions that stand now; a server without conditions refuses, which is fine."""
    call = ua.CallMethodRequest()
    call.ObjectId = ua.NodeId(ua.Int32(ua.ObjectIds.ConditionType))
    call.MethodId = ua.NodeId(ua.Int32(ua.ObjectIds.ConditionType_ConditionRefresh))
    call.InputArguments = [ua.Variant(subscription, ua.VariantType.UInt32)]
    await client.uaclient.call([call])
