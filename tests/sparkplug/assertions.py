"""The 200 assertions of Sparkplug 3.0 on edge nodes: the check of the auditor that can fail each, or why none applies.

Ids are written without the prefix `tck-id-`.
"""

_M = "message-flow-edge-node-birth-publish-"
_D = "message-flow-device-birth-publish-"
_O = "operational-behavior-"
_B = "operational-behavior-data-publish-"
_R = "operational-behavior-data-commands-rebirth-"
_P = "payloads-"
_T = "topics-"
_N = "topic-structure-namespace-"

CHECKS: dict[str, tuple[str, ...]] = {
    # the session
    "clean session 3.1.1": ("principles-persistence-clean-session-311",),
    "clean start 5": ("principles-persistence-clean-session-50",),
    "session before messages": (_M + "connect",),
    "one session at a time": (
        "intro-edge-node-id-uniqueness",
        _N + "unique-edge-node-descriptor",
        _P + "nbirth-edge-node-descriptor",
        _O + "primary-application-state-with-multiple-servers-single-server",
    ),
    "NCMD subscription": ("message-flow-edge-node-ncmd-subscribe",),
    # the will and NDEATH
    "will is there": (_M + "will-message", _P + "ndeath-will-message"),
    "NDEATH topic": (_M + "will-message-topic", _T + "ndeath-topic"),
    "NDEATH payload": (_M + "will-message-payload", _T + "ndeath-payload"),
    "NDEATH bdSeq": (_M + "will-message-payload-bdSeq", _P + "ndeath-bdseq"),
    "NDEATH has no seq": (_P + "ndeath-seq", _T + "ndeath-seq"),
    "will QoS 1": (_M + "will-message-qos", _P + "ndeath-will-message-qos"),
    "will not retained": (_M + "will-message-will-retained", _P + "ndeath-will-message-retain"),
    "NDEATH before DISCONNECT 3.1.1": (
        _O + "edge-node-intentional-disconnect-ndeath",
        _P + "ndeath-will-message-publisher",
        _P + "ndeath-will-message-publisher-disconnect-mqtt311",
    ),
    "NDEATH before DISCONNECT 5": (
        _O + "edge-node-intentional-disconnect-ndeath",
        _P + "ndeath-will-message-publisher",
        _P + "ndeath-will-message-publisher-disconnect-mqtt50",
    ),
    # topics
    "topic form": (
        "topic-structure",
        "intro-group-id-string",
        "intro-edge-node-id-string",
        "intro-device-id-string",
    ),
    "namespace": (_N + "a",),
    "group id": ("intro-group-id-chars", _N + "valid-group-id"),
    "node id": ("intro-edge-node-id-chars", _N + "valid-edge-node-id"),
    "device id": ("intro-device-id-chars", _N + "valid-device-id"),
    "no device in node messages": (_N + "device-id-non-associated-message-types",),
    "device in device messages": (_N + "device-id-associated-message-types",),
    "device id is of one device": (_N + "unique-device-id",),
    "ids differ by more than case": ("case-sensitivity-sparkplug-ids",),
    "names differ by more than case": ("case-sensitivity-metric-names",),
    "NBIRTH topic": (_M + "nbirth-topic", _T + "nbirth-topic"),
    "DBIRTH topic": (_D + "dbirth-topic", _D + "dbirth-match-edge-node-topic", _T + "dbirth-topic"),
    "NDATA topic": (_T + "ndata-topic",),
    "DDATA topic": (_T + "ddata-topic",),
    "DDEATH topic": (_T + "ddeath-topic",),
    # QoS and retain
    "NBIRTH QoS": (_M + "nbirth-qos", _P + "nbirth-qos", _T + "nbirth-mqtt"),
    "NBIRTH retain": (_M + "nbirth-retained", _P + "nbirth-retain", _T + "nbirth-mqtt"),
    "DBIRTH QoS": (_D + "dbirth-qos", _P + "dbirth-qos", _T + "dbirth-mqtt"),
    "DBIRTH retain": (_D + "dbirth-retained", _P + "dbirth-retain", _T + "dbirth-mqtt"),
    "NDATA QoS": (_P + "ndata-qos", _T + "ndata-mqtt"),
    "NDATA retain": (_P + "ndata-retain", _T + "ndata-mqtt"),
    "DDATA QoS": (_P + "ddata-qos", _T + "ddata-mqtt"),
    "DDATA retain": (_P + "ddata-retain", _T + "ddata-mqtt"),
    "DDEATH QoS": (_T + "ddeath-mqtt",),
    "DDEATH retain": (_T + "ddeath-mqtt",),
    # seq
    "NBIRTH seq": (
        _M + "nbirth-payload-seq",
        _P + "nbirth-seq",
        _P + "sequence-num-req-nbirth",
        _T + "nbirth-seq-num",
    ),
    "DBIRTH seq": (
        _D + "dbirth-payload-seq",
        _P + "dbirth-seq",
        _P + "dbirth-seq-inc",
        _T + "dbirth-seq",
        _P + "sequence-num-incrementing",
    ),
    "NDATA seq": (_P + "ndata-seq", _P + "ndata-seq-inc", _T + "ndata-seq-num", _P + "sequence-num-incrementing"),
    "DDATA seq": (_P + "ddata-seq", _P + "ddata-seq-inc", _T + "ddata-seq-num", _P + "sequence-num-incrementing"),
    "DDEATH seq": (
        _P + "ddeath-seq",
        _P + "ddeath-seq-inc",
        _P + "ddeath-seq-number",
        _T + "ddeath-seq-num",
        _P + "sequence-num-incrementing",
    ),
    "seq is there": (_P + "sequence-num-always-included",),
    # bdSeq
    "NBIRTH bdSeq": (_T + "nbirth-bdseq-included", _P + "nbirth-bdseq"),
    "bdSeq matches the will": (_T + "nbirth-bdseq-matching", _M + "nbirth-payload-bdSeq"),
    "bdSeq counts sessions": (_T + "nbirth-bdseq-increment",),
    "bdSeq stays at a rebirth": (_P + "nbirth-bdseq-repeat", _R + "action-3"),
    # births
    "NBIRTH comes first": ("principles-birth-certificates-order", _D + "nbirth-wait"),
    "NBIRTH payload": (_M + "nbirth-payload",),
    "DBIRTH payload": (_D + "dbirth-payload",),
    "births before data": (_P + "dbirth-order", _P + "ndata-order", _P + "ddata-order"),
    "NBIRTH has all metrics": (_T + "nbirth-metrics", _B + "nbirth", _T + "ndata-payload"),
    "DBIRTH has all metrics": (_T + "dbirth-metrics", _B + "dbirth", _T + "ddata-payload"),
    "NBIRTH metrics are whole": (_T + "nbirth-metric-reqs",),
    "DBIRTH metrics are whole": (_T + "dbirth-metric-reqs",),
    "NBIRTH values": (_B + "nbirth-values",),
    "DBIRTH values": (_B + "dbirth-values",),
    "NBIRTH order": (_B + "nbirth-order",),
    "DBIRTH order": (_B + "dbirth-order",),
    "NDATA has changes only": (_B + "nbirth-change",),
    "DDATA has changes only": (_B + "dbirth-change", "principles-rbe-recommended"),
    "DDEATH of a lost device": (_O + "device-ddeath",),
    # rebirth
    "rebirth metric": (_R + "name", _T + "nbirth-rebirth-metric", _P + "nbirth-rebirth-req"),
    "rebirth datatype": (_R + "datatype",),
    "rebirth value": (_R + "value",),
    "rebirth has no alias": (_R + "name-aliases",),
    "rebirth stops data": (_R + "action-1",),
    "rebirth is answered": (_R + "action-2",),
    # timestamps
    "NBIRTH timestamp": (_P + "nbirth-timestamp", _T + "nbirth-timestamp"),
    "DBIRTH timestamp": (_P + "dbirth-timestamp", _T + "dbirth-timestamp"),
    "NDATA timestamp": (_P + "ndata-timestamp", _T + "ndata-timestamp"),
    "DDATA timestamp": (_P + "ddata-timestamp", _T + "ddata-timestamp"),
    "DDEATH timestamp": (_P + "ddeath-timestamp",),
    "timestamp in UTC": (_P + "timestamp-in-UTC",),
    "metric timestamp": (_P + "name-birth-data-requirement",),
    "metric timestamp in UTC": (_P + "metric-timestamp-in-UTC",),
    # metrics
    "metric name": (_P + "name-requirement",),
    "alias is unique": (_P + "alias-uniqueness",),
    "birth has name and alias": (_P + "alias-birth-requirement",),
    "data has the alias alone": (_P + "alias-data-cmd-requirement",),
    "datatype in births": (_P + "metric-datatype-req",),
    "datatype is known": (_P + "metric-datatype-value", _P + "metric-datatype-value-type"),
    "no datatype in data": (_P + "metric-datatype-not-req",),
    "properties are pairs": (_P + "propertyset-keys-array-size", _P + "propertyset-values-array-size"),
    "property has a type": (_P + "metric-propertyvalue-type-req",),
    "property type is known": (_P + "metric-propertyvalue-type-type", _P + "metric-propertyvalue-type-value"),
    "quality is Int32": (_P + "propertyset-quality-value-type",),
    "quality is 0, 192 or 500": (_P + "propertyset-quality-value-value",),
    # the primary host
    "STATE subscription": (_M + "phid-wait-id",),
    "births wait for the host": (
        _M + "phid-wait",
        _M + "phid-wait-online",
        _O + "edge-node-birth-sequence-wait",
    ),
    "an older online is no online": (_M + "phid-wait-timestamp",),
    "the host's absence ends the session": (
        _M + "phid-offline",
        _O + "edge-node-termination-host-offline",
        _O + "edge-node-termination-host-offline-reconnect",
    ),
    "an older offline ends nothing": (_O + "edge-node-termination-host-offline-timestamp",),
    "the next server is tried": (_O + "primary-application-state-with-multiple-servers-walk",),
}

_NO_DATASET = "no DataSet is sent: stock hosts disagree about them"
_NO_TEMPLATE = "no Template is sent"
_NO_COMMAND = "an edge node sends no NCMD or DCMD"

NOT_APPLICABLE: dict[str, str] = {
    "message-flow-device-dcmd-subscribe": "devices are not written to over Sparkplug: no DCMD to subscribe to",
    _N + "duplicate-device-id-across-edge-node": "a permission (MAY); nothing can break it",
    _O + "edge-node-intentional-disconnect-packet": "a permission (MAY); nothing can break it",
    _P + "name-cmd-requirement": _NO_COMMAND,
    **{
        _P + "dataset-" + name: _NO_DATASET
        for name in (
            "column-num-headers",
            "column-size",
            "parameter-type-req",
            "types-def",
            "types-num",
            "types-type",
            "types-value",
        )
    },
    _T + "nbirth-templates": _NO_TEMPLATE,
    **{
        _P + "template-" + name: _NO_TEMPLATE
        for name in (
            "dataset-value",
            "definition-is-definition",
            "definition-members",
            "definition-nbirth",
            "definition-nbirth-only",
            "definition-parameters",
            "definition-parameters-default",
            "definition-ref",
            "instance-is-definition",
            "instance-members",
            "instance-members-birth",
            "instance-members-data",
            "instance-parameters",
            "instance-ref",
            "is-definition",
            "is-definition-definition",
            "is-definition-instance",
            "parameter-name-required",
            "parameter-name-type",
            "parameter-type-req",
            "parameter-type-value",
            "parameter-value",
            "parameter-value-type",
            "ref-definition",
            "ref-instance",
            "version",
        )
    },
}


def checked() -> dict[str, list[str]]:
    """Return the checks that can fail each assertion."""
    found: dict[str, list[str]] = {}
    for check, ids in CHECKS.items():
        for each in ids:
            found.setdefault(each, []).append(check)
    return found
