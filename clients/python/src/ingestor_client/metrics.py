"""Metrics as callers see them, and how they are sent."""

from __future__ import annotations

import enum
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import grpc

from ingestor_client._connection import Credential, Retry, batch_error, fatal, passes, refusal, status_of
from ingestor_client._proto.metrics.v1 import metrics_pb2
from ingestor_client._proto.storage import common_pb2
from ingestor_client.errors import DeliveryTimeoutError, ErrorCode, IngestorError, InvalidRecordError
from ingestor_client.record import AckLevel, unix_nanoseconds

_METHOD = "/metrics.v1.MetricsService/LogMetric"
_RETRYABLE = frozenset({ErrorCode.OVERLOADED, ErrorCode.NO_SPACE, ErrorCode.UNAVAILABLE, ErrorCode.OUTCOME_UNKNOWN})


class MetricType(enum.IntEnum):
    """How values of a metric combine."""

    GAUGE = 1
    """A value at a point in time."""
    COUNTER = 2
    """A running total that only grows, apart from restarts."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One measured value.

    Attributes:
        name: 1 to 255 bytes.
        value: Any float but NaN.
        labels: Dimensions. Keys must not be empty.
        timestamp: An aware datetime, or nanoseconds since the Unix epoch. None: now.
        unit: For example "seconds" or "bytes".
        type: Gauge or counter.
    """

    name: str
    value: float
    labels: Mapping[str, str] = field(default_factory=dict)
    timestamp: datetime | int | None = None
    unit: str = ""
    type: MetricType = MetricType.GAUGE


@dataclass(frozen=True, slots=True)
class MetricsAck:
    """The positive answer to metrics: the level that was reached, and how many were taken."""

    level: AckLevel
    accepted_count: int


class MetricsCaller:
    """Makes LogMetric calls, again and again where that helps. Safe for use by several threads."""

    def __init__(self, channel: grpc.Channel, credential: Credential, retry: Retry) -> None:
        self._call = channel.unary_unary(
            _METHOD,
            metrics_pb2.LogMetricsRequest.SerializeToString,
            metrics_pb2.LogMetricsResponse.FromString,
        )
        self._credential = credential
        self._retry = retry

    def log(self, request: metrics_pb2.LogMetricsRequest, timeout: float) -> MetricsAck:
        """Sends one request, for at most timeout seconds.

        Raises:
            IngestorError: as Client.log_metrics says.
        """
        end = time.monotonic() + timeout
        failures = 0
        maybe_stored = False
        while True:
            try:
                response = self._call(
                    request, timeout=max(0.001, end - time.monotonic()), metadata=self._credential.metadata()
                )
                return MetricsAck(AckLevel.of(response.level), response.accepted_count)
            except grpc.RpcError as error:
                failures += 1
                failure, pause = self._judge(error, maybe_stored)
            maybe_stored = failure.maybe_stored
            if pause is None:
                raise failure
            delay = max(pause, self._retry.delay_seconds(failures, random.random()))
            if time.monotonic() + delay >= end:
                raise DeliveryTimeoutError(
                    f"no positive answer in time; last: {failure}", maybe_stored=maybe_stored
                ) from failure
            time.sleep(delay)

    @staticmethod
    def _judge(error: grpc.RpcError, maybe_stored: bool) -> tuple[IngestorError, float | None]:
        """The exception for a failed call, and how long to wait before the next one; None: it would not help."""
        detail = batch_error(error)
        if detail is not None:
            unknown = detail.code == common_pb2.ERROR_CODE_OUTCOME_UNKNOWN
            refused = refusal(detail, maybe_stored=maybe_stored or unknown)
            return refused, refused.retry_delay_seconds if refused.code in _RETRYABLE else None
        code, text = status_of(error)
        transient = passes(code)
        failure = fatal(code, text, maybe_stored=maybe_stored or transient)
        return failure, 0.0 if transient or code is grpc.StatusCode.RESOURCE_EXHAUSTED else None


def metrics_request(
    service: str, metrics: Sequence[Metric], instance: str, ack_level: AckLevel
) -> metrics_pb2.LogMetricsRequest:
    """Encodes metrics.

    Raises:
        InvalidRecordError: a metric cannot be sent.
    """
    request = metrics_pb2.LogMetricsRequest(
        service=service, instance=instance, ack_level=common_pb2.AckLevel.Name(ack_level)
    )
    now = time.time_ns()
    for index, metric in enumerate(metrics):
        if metric.value != metric.value:
            raise InvalidRecordError("must not be NaN", record_index=index, field="value", record=metric)
        try:
            request.metrics.add(
                name=metric.name,
                value=metric.value,
                timestamp_unix_nano=now if metric.timestamp is None else unix_nanoseconds(metric.timestamp),
                type=metrics_pb2.MetricType.Name(metric.type),
                unit=metric.unit,
                labels=metric.labels,
            )
        except (TypeError, ValueError) as error:
            raise InvalidRecordError(str(error), record_index=index, field="metrics", record=metric) from error
    return request
