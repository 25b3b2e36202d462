from ingestor_client._proto.storage import common_pb2 as _common_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class MetricType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    METRIC_TYPE_UNSPECIFIED: _ClassVar[MetricType]
    METRIC_TYPE_GAUGE: _ClassVar[MetricType]
    METRIC_TYPE_COUNTER: _ClassVar[MetricType]
METRIC_TYPE_UNSPECIFIED: MetricType
METRIC_TYPE_GAUGE: MetricType
METRIC_TYPE_COUNTER: MetricType

class Metric(_message.Message):
    __slots__ = ("name", "value", "timestamp_unix_nano", "type", "unit", "labels")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_UNIX_NANO_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    name: str
    value: float
    timestamp_unix_nano: int
    type: MetricType
    unit: str
    labels: _containers.ScalarMap[str, str]
    def __init__(self, name: _Optional[str] = ..., value: _Optional[float] = ..., timestamp_unix_nano: _Optional[int] = ..., type: _Optional[_Union[MetricType, str]] = ..., unit: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ...) -> None: ...

class LogMetricsRequest(_message.Message):
    __slots__ = ("service", "instance", "metrics", "ack_level")
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    ACK_LEVEL_FIELD_NUMBER: _ClassVar[int]
    service: str
    instance: str
    metrics: _containers.RepeatedCompositeFieldContainer[Metric]
    ack_level: _common_pb2.AckLevel
    def __init__(self, service: _Optional[str] = ..., instance: _Optional[str] = ..., metrics: _Optional[_Iterable[_Union[Metric, _Mapping]]] = ..., ack_level: _Optional[_Union[_common_pb2.AckLevel, str]] = ...) -> None: ...

class LogMetricBatchRequest(_message.Message):
    __slots__ = ("requests", "ack_level")
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    ACK_LEVEL_FIELD_NUMBER: _ClassVar[int]
    requests: _containers.RepeatedCompositeFieldContainer[LogMetricsRequest]
    ack_level: _common_pb2.AckLevel
    def __init__(self, requests: _Optional[_Iterable[_Union[LogMetricsRequest, _Mapping]]] = ..., ack_level: _Optional[_Union[_common_pb2.AckLevel, str]] = ...) -> None: ...

class LogMetricsResponse(_message.Message):
    __slots__ = ("level", "accepted_count", "error")
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_COUNT_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    level: _common_pb2.AckLevel
    accepted_count: int
    error: _common_pb2.BatchError
    def __init__(self, level: _Optional[_Union[_common_pb2.AckLevel, str]] = ..., accepted_count: _Optional[int] = ..., error: _Optional[_Union[_common_pb2.BatchError, _Mapping]] = ...) -> None: ...
