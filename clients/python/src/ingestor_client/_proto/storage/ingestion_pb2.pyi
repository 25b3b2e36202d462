from ingestor_client._proto.storage import common_pb2 as _common_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class WriteBatchRequest(_message.Message):
    __slots__ = ("batch_id", "endpoint_id", "ack_level", "producer_id", "producer_epoch", "sequence", "content_type", "records", "columns")
    BATCH_ID_FIELD_NUMBER: _ClassVar[int]
    ENDPOINT_ID_FIELD_NUMBER: _ClassVar[int]
    ACK_LEVEL_FIELD_NUMBER: _ClassVar[int]
    PRODUCER_ID_FIELD_NUMBER: _ClassVar[int]
    PRODUCER_EPOCH_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    CONTENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    batch_id: int
    endpoint_id: str
    ack_level: _common_pb2.AckLevel
    producer_id: bytes
    producer_epoch: int
    sequence: int
    content_type: str
    records: _containers.RepeatedCompositeFieldContainer[_common_pb2.DataRecord]
    columns: _common_pb2.RecordColumns
    def __init__(self, batch_id: _Optional[int] = ..., endpoint_id: _Optional[str] = ..., ack_level: _Optional[_Union[_common_pb2.AckLevel, str]] = ..., producer_id: _Optional[bytes] = ..., producer_epoch: _Optional[int] = ..., sequence: _Optional[int] = ..., content_type: _Optional[str] = ..., records: _Optional[_Iterable[_Union[_common_pb2.DataRecord, _Mapping]]] = ..., columns: _Optional[_Union[_common_pb2.RecordColumns, _Mapping]] = ...) -> None: ...

class WriteBatchResponse(_message.Message):
    __slots__ = ("batch_id", "ack", "error")
    BATCH_ID_FIELD_NUMBER: _ClassVar[int]
    ACK_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    batch_id: int
    ack: _common_pb2.Ack
    error: _common_pb2.BatchError
    def __init__(self, batch_id: _Optional[int] = ..., ack: _Optional[_Union[_common_pb2.Ack, _Mapping]] = ..., error: _Optional[_Union[_common_pb2.BatchError, _Mapping]] = ...) -> None: ...
