from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class AckLevel(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ACK_LEVEL_UNSPECIFIED: _ClassVar[AckLevel]
    ACK_LEVEL_BUFFERED: _ClassVar[AckLevel]
    ACK_LEVEL_WAL_SYNCED: _ClassVar[AckLevel]
    ACK_LEVEL_COMMITTED: _ClassVar[AckLevel]

class ErrorCode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ERROR_CODE_UNSPECIFIED: _ClassVar[ErrorCode]
    ERROR_CODE_MALFORMED: _ClassVar[ErrorCode]
    ERROR_CODE_MISSING_FIELD: _ClassVar[ErrorCode]
    ERROR_CODE_INVALID_FIELD: _ClassVar[ErrorCode]
    ERROR_CODE_TOO_LARGE: _ClassVar[ErrorCode]
    ERROR_CODE_EMPTY_BATCH: _ClassVar[ErrorCode]
    ERROR_CODE_WRONG_TENANT: _ClassVar[ErrorCode]
    ERROR_CODE_FORBIDDEN_ENDPOINT: _ClassVar[ErrorCode]
    ERROR_CODE_PRODUCER_FENCED: _ClassVar[ErrorCode]
    ERROR_CODE_SEQUENCE_OUT_OF_ORDER: _ClassVar[ErrorCode]
    ERROR_CODE_OVERLOADED: _ClassVar[ErrorCode]
    ERROR_CODE_NO_SPACE: _ClassVar[ErrorCode]
    ERROR_CODE_OUTCOME_UNKNOWN: _ClassVar[ErrorCode]
    ERROR_CODE_UNAVAILABLE: _ClassVar[ErrorCode]
    ERROR_CODE_UNSUPPORTED: _ClassVar[ErrorCode]
ACK_LEVEL_UNSPECIFIED: AckLevel
ACK_LEVEL_BUFFERED: AckLevel
ACK_LEVEL_WAL_SYNCED: AckLevel
ACK_LEVEL_COMMITTED: AckLevel
ERROR_CODE_UNSPECIFIED: ErrorCode
ERROR_CODE_MALFORMED: ErrorCode
ERROR_CODE_MISSING_FIELD: ErrorCode
ERROR_CODE_INVALID_FIELD: ErrorCode
ERROR_CODE_TOO_LARGE: ErrorCode
ERROR_CODE_EMPTY_BATCH: ErrorCode
ERROR_CODE_WRONG_TENANT: ErrorCode
ERROR_CODE_FORBIDDEN_ENDPOINT: ErrorCode
ERROR_CODE_PRODUCER_FENCED: ErrorCode
ERROR_CODE_SEQUENCE_OUT_OF_ORDER: ErrorCode
ERROR_CODE_OVERLOADED: ErrorCode
ERROR_CODE_NO_SPACE: ErrorCode
ERROR_CODE_OUTCOME_UNKNOWN: ErrorCode
ERROR_CODE_UNAVAILABLE: ErrorCode
ERROR_CODE_UNSUPPORTED: ErrorCode

class DataRecord(_message.Message):
    __slots__ = ("event_id", "tenant_id", "endpoint_id", "timestamp_unix_nano", "version", "payload", "attributes")
    class AttributesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    TENANT_ID_FIELD_NUMBER: _ClassVar[int]
    ENDPOINT_ID_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_UNIX_NANO_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    event_id: bytes
    tenant_id: str
    endpoint_id: str
    timestamp_unix_nano: int
    version: int
    payload: bytes
    attributes: _containers.ScalarMap[str, str]
    def __init__(self, event_id: _Optional[bytes] = ..., tenant_id: _Optional[str] = ..., endpoint_id: _Optional[str] = ..., timestamp_unix_nano: _Optional[int] = ..., version: _Optional[int] = ..., payload: _Optional[bytes] = ..., attributes: _Optional[_Mapping[str, str]] = ...) -> None: ...

class RecordColumns(_message.Message):
    __slots__ = ("event_ids", "timestamps_unix_nano", "versions", "payloads", "payload_lengths", "attributes")
    EVENT_IDS_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMPS_UNIX_NANO_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    PAYLOADS_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_LENGTHS_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    event_ids: bytes
    timestamps_unix_nano: _containers.RepeatedScalarFieldContainer[int]
    versions: _containers.RepeatedScalarFieldContainer[int]
    payloads: bytes
    payload_lengths: _containers.RepeatedScalarFieldContainer[int]
    attributes: _containers.RepeatedCompositeFieldContainer[AttributeColumn]
    def __init__(self, event_ids: _Optional[bytes] = ..., timestamps_unix_nano: _Optional[_Iterable[int]] = ..., versions: _Optional[_Iterable[int]] = ..., payloads: _Optional[bytes] = ..., payload_lengths: _Optional[_Iterable[int]] = ..., attributes: _Optional[_Iterable[_Union[AttributeColumn, _Mapping]]] = ...) -> None: ...

class AttributeColumn(_message.Message):
    __slots__ = ("key", "values", "value_lengths")
    KEY_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    VALUE_LENGTHS_FIELD_NUMBER: _ClassVar[int]
    key: str
    values: bytes
    value_lengths: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, key: _Optional[str] = ..., values: _Optional[bytes] = ..., value_lengths: _Optional[_Iterable[int]] = ...) -> None: ...

class Ack(_message.Message):
    __slots__ = ("level", "first_lsn", "last_lsn", "record_count", "duplicate")
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    FIRST_LSN_FIELD_NUMBER: _ClassVar[int]
    LAST_LSN_FIELD_NUMBER: _ClassVar[int]
    RECORD_COUNT_FIELD_NUMBER: _ClassVar[int]
    DUPLICATE_FIELD_NUMBER: _ClassVar[int]
    level: AckLevel
    first_lsn: int
    last_lsn: int
    record_count: int
    duplicate: bool
    def __init__(self, level: _Optional[_Union[AckLevel, str]] = ..., first_lsn: _Optional[int] = ..., last_lsn: _Optional[int] = ..., record_count: _Optional[int] = ..., duplicate: bool = ...) -> None: ...

class BatchError(_message.Message):
    __slots__ = ("code", "message", "record_index", "event_id", "field", "retry_delay_ms")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    RECORD_INDEX_FIELD_NUMBER: _ClassVar[int]
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    FIELD_FIELD_NUMBER: _ClassVar[int]
    RETRY_DELAY_MS_FIELD_NUMBER: _ClassVar[int]
    code: ErrorCode
    message: str
    record_index: int
    event_id: bytes
    field: str
    retry_delay_ms: int
    def __init__(self, code: _Optional[_Union[ErrorCode, str]] = ..., message: _Optional[str] = ..., record_index: _Optional[int] = ..., event_id: _Optional[bytes] = ..., field: _Optional[str] = ..., retry_delay_ms: _Optional[int] = ...) -> None: ...
