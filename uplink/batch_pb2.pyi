from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    KIND_UNSPECIFIED: _ClassVar[Kind]
    BOOL: _ClassVar[Kind]
    INT64: _ClassVar[Kind]
    UINT64: _ClassVar[Kind]
    FLOAT64: _ClassVar[Kind]
    TEXT: _ClassVar[Kind]
    WAVEFORM: _ClassVar[Kind]
KIND_UNSPECIFIED: Kind
BOOL: Kind
INT64: Kind
UINT64: Kind
FLOAT64: Kind
TEXT: Kind
WAVEFORM: Kind

class Batch(_message.Message):
    __slots__ = ("gateway", "epoch", "seq", "historical", "catalogue", "tables", "waveforms", "events", "gaps", "texts", "instead_of", "gone", "hour", "uplink")
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    HISTORICAL_FIELD_NUMBER: _ClassVar[int]
    CATALOGUE_FIELD_NUMBER: _ClassVar[int]
    TABLES_FIELD_NUMBER: _ClassVar[int]
    WAVEFORMS_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    GAPS_FIELD_NUMBER: _ClassVar[int]
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    INSTEAD_OF_FIELD_NUMBER: _ClassVar[int]
    GONE_FIELD_NUMBER: _ClassVar[int]
    HOUR_FIELD_NUMBER: _ClassVar[int]
    UPLINK_FIELD_NUMBER: _ClassVar[int]
    gateway: str
    epoch: int
    seq: int
    historical: bool
    catalogue: int
    tables: _containers.RepeatedCompositeFieldContainer[Table]
    waveforms: _containers.RepeatedCompositeFieldContainer[Waveform]
    events: _containers.RepeatedCompositeFieldContainer[Event]
    gaps: _containers.RepeatedCompositeFieldContainer[Gap]
    texts: _containers.RepeatedScalarFieldContainer[str]
    instead_of: _containers.RepeatedCompositeFieldContainer[Range]
    gone: _containers.RepeatedCompositeFieldContainer[Range]
    hour: int
    uplink: str
    def __init__(self, gateway: _Optional[str] = ..., epoch: _Optional[int] = ..., seq: _Optional[int] = ..., historical: _Optional[bool] = ..., catalogue: _Optional[int] = ..., tables: _Optional[_Iterable[_Union[Table, _Mapping]]] = ..., waveforms: _Optional[_Iterable[_Union[Waveform, _Mapping]]] = ..., events: _Optional[_Iterable[_Union[Event, _Mapping]]] = ..., gaps: _Optional[_Iterable[_Union[Gap, _Mapping]]] = ..., texts: _Optional[_Iterable[str]] = ..., instead_of: _Optional[_Iterable[_Union[Range, _Mapping]]] = ..., gone: _Optional[_Iterable[_Union[Range, _Mapping]]] = ..., hour: _Optional[int] = ..., uplink: _Optional[str] = ...) -> None: ...

class Range(_message.Message):
    __slots__ = ("epoch", "first", "last")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    FIRST_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    first: int
    last: int
    def __init__(self, epoch: _Optional[int] = ..., first: _Optional[int] = ..., last: _Optional[int] = ...) -> None: ...

class Table(_message.Message):
    __slots__ = ("tags", "rows", "time_unit", "times", "starts", "paces", "forms", "integers", "singles", "doubles", "quality", "revisions")
    TAGS_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    TIME_UNIT_FIELD_NUMBER: _ClassVar[int]
    TIMES_FIELD_NUMBER: _ClassVar[int]
    STARTS_FIELD_NUMBER: _ClassVar[int]
    PACES_FIELD_NUMBER: _ClassVar[int]
    FORMS_FIELD_NUMBER: _ClassVar[int]
    INTEGERS_FIELD_NUMBER: _ClassVar[int]
    SINGLES_FIELD_NUMBER: _ClassVar[int]
    DOUBLES_FIELD_NUMBER: _ClassVar[int]
    QUALITY_FIELD_NUMBER: _ClassVar[int]
    REVISIONS_FIELD_NUMBER: _ClassVar[int]
    tags: _containers.RepeatedScalarFieldContainer[int]
    rows: int
    time_unit: int
    times: _containers.RepeatedScalarFieldContainer[int]
    starts: _containers.RepeatedScalarFieldContainer[int]
    paces: _containers.RepeatedScalarFieldContainer[int]
    forms: _containers.RepeatedScalarFieldContainer[int]
    integers: _containers.RepeatedScalarFieldContainer[int]
    singles: _containers.RepeatedScalarFieldContainer[float]
    doubles: _containers.RepeatedScalarFieldContainer[float]
    quality: _containers.RepeatedCompositeFieldContainer[QualityRun]
    revisions: _containers.RepeatedCompositeFieldContainer[RevisionRun]
    def __init__(self, tags: _Optional[_Iterable[int]] = ..., rows: _Optional[int] = ..., time_unit: _Optional[int] = ..., times: _Optional[_Iterable[int]] = ..., starts: _Optional[_Iterable[int]] = ..., paces: _Optional[_Iterable[int]] = ..., forms: _Optional[_Iterable[int]] = ..., integers: _Optional[_Iterable[int]] = ..., singles: _Optional[_Iterable[float]] = ..., doubles: _Optional[_Iterable[float]] = ..., quality: _Optional[_Iterable[_Union[QualityRun, _Mapping]]] = ..., revisions: _Optional[_Iterable[_Union[RevisionRun, _Mapping]]] = ...) -> None: ...

class RevisionRun(_message.Message):
    __slots__ = ("revision", "count")
    REVISION_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    revision: int
    count: int
    def __init__(self, revision: _Optional[int] = ..., count: _Optional[int] = ...) -> None: ...

class QualityRun(_message.Message):
    __slots__ = ("code", "count")
    CODE_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    code: int
    count: int
    def __init__(self, code: _Optional[int] = ..., count: _Optional[int] = ...) -> None: ...

class Waveform(_message.Message):
    __slots__ = ("tag", "ts", "rate_hz", "full_scale", "quality", "int16_samples", "float32_samples")
    TAG_FIELD_NUMBER: _ClassVar[int]
    TS_FIELD_NUMBER: _ClassVar[int]
    RATE_HZ_FIELD_NUMBER: _ClassVar[int]
    FULL_SCALE_FIELD_NUMBER: _ClassVar[int]
    QUALITY_FIELD_NUMBER: _ClassVar[int]
    INT16_SAMPLES_FIELD_NUMBER: _ClassVar[int]
    FLOAT32_SAMPLES_FIELD_NUMBER: _ClassVar[int]
    tag: int
    ts: int
    rate_hz: float
    full_scale: float
    quality: int
    int16_samples: bytes
    float32_samples: bytes
    def __init__(self, tag: _Optional[int] = ..., ts: _Optional[int] = ..., rate_hz: _Optional[float] = ..., full_scale: _Optional[float] = ..., quality: _Optional[int] = ..., int16_samples: _Optional[bytes] = ..., float32_samples: _Optional[bytes] = ...) -> None: ...

class Event(_message.Message):
    __slots__ = ("ts", "source", "kind", "severity", "message", "facts_json")
    TS_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    SEVERITY_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    FACTS_JSON_FIELD_NUMBER: _ClassVar[int]
    ts: int
    source: str
    kind: str
    severity: int
    message: str
    facts_json: str
    def __init__(self, ts: _Optional[int] = ..., source: _Optional[str] = ..., kind: _Optional[str] = ..., severity: _Optional[int] = ..., message: _Optional[str] = ..., facts_json: _Optional[str] = ...) -> None: ...

class Gap(_message.Message):
    __slots__ = ("rows", "ts_min", "ts_max", "reason", "data_class", "tags", "tag_rows")
    ROWS_FIELD_NUMBER: _ClassVar[int]
    TS_MIN_FIELD_NUMBER: _ClassVar[int]
    TS_MAX_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    DATA_CLASS_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    TAG_ROWS_FIELD_NUMBER: _ClassVar[int]
    rows: int
    ts_min: int
    ts_max: int
    reason: str
    data_class: str
    tags: _containers.RepeatedScalarFieldContainer[int]
    tag_rows: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, rows: _Optional[int] = ..., ts_min: _Optional[int] = ..., ts_max: _Optional[int] = ..., reason: _Optional[str] = ..., data_class: _Optional[str] = ..., tags: _Optional[_Iterable[int]] = ..., tag_rows: _Optional[_Iterable[int]] = ...) -> None: ...

class Catalogue(_message.Message):
    __slots__ = ("gateway", "revision", "device", "protocol", "tags", "hash")
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    HASH_FIELD_NUMBER: _ClassVar[int]
    gateway: str
    revision: int
    device: str
    protocol: str
    tags: _containers.RepeatedCompositeFieldContainer[Tag]
    hash: bytes
    def __init__(self, gateway: _Optional[str] = ..., revision: _Optional[int] = ..., device: _Optional[str] = ..., protocol: _Optional[str] = ..., tags: _Optional[_Iterable[_Union[Tag, _Mapping]]] = ..., hash: _Optional[bytes] = ...) -> None: ...

class Tag(_message.Message):
    __slots__ = ("id", "name", "kind", "unit", "ucum", "path", "classification", "inputs")
    ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    UCUM_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    CLASSIFICATION_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    id: int
    name: str
    kind: Kind
    unit: str
    ucum: str
    path: str
    classification: str
    inputs: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, id: _Optional[int] = ..., name: _Optional[str] = ..., kind: _Optional[_Union[Kind, str]] = ..., unit: _Optional[str] = ..., ucum: _Optional[str] = ..., path: _Optional[str] = ..., classification: _Optional[str] = ..., inputs: _Optional[_Iterable[str]] = ...) -> None: ...
