"""Metrics: what goes out, what is repeated, what is raised."""

from __future__ import annotations

from datetime import UTC, datetime

import grpc
import pytest
from conftest import Connect
from fake_server import FakeServer, refuse

from ingestor_client import (
    AckLevel,
    AuthenticationError,
    ClientClosedError,
    DeliveryTimeoutError,
    ErrorCode,
    InvalidRecordError,
    Metric,
    MetricsAck,
    MetricType,
    RefusedError,
)
from ingestor_client._proto.metrics.v1 import metrics_pb2

Status = grpc.StatusCode


def test_one_metric(server: FakeServer, connect: Connect) -> None:
    at = datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)
    ack = connect().log_metric(
        "billing", "seconds", 0.5, labels={"code": "200"}, instance="a", timestamp=at, unit="s", type=MetricType.COUNTER
    )
    assert ack == MetricsAck(AckLevel.BUFFERED, 1)
    [request] = server.metrics
    assert (request.service, request.instance) == ("billing", "a")
    assert list(request.metrics) == [
        metrics_pb2.Metric(
            name="seconds",
            value=0.5,
            timestamp_unix_nano=1_000_000_000,
            type=metrics_pb2.METRIC_TYPE_COUNTER,
            unit="s",
            labels={"code": "200"},
        )
    ]


def test_many_metrics_share_their_time(server: FakeServer, connect: Connect) -> None:
    ack = connect().log_metrics("billing", [Metric("a", 1), Metric("b", 2)], ack_level=AckLevel.COMMITTED)
    assert ack == MetricsAck(AckLevel.COMMITTED, 2)
    first, second = server.metrics[0].metrics
    assert first.timestamp_unix_nano == second.timestamp_unix_nano > 0


def test_overload_and_lost_connections_are_retried(server: FakeServer, connect: Connect) -> None:
    server.metric_errors = [
        (Status.RESOURCE_EXHAUSTED, refuse("OVERLOADED", retry_delay_ms=2)),
        (Status.UNAVAILABLE, None),
        (Status.RESOURCE_EXHAUSTED, None),
        (Status.UNAVAILABLE, refuse("UNAVAILABLE")),
    ]
    assert connect().log_metric("billing", "a", 1).accepted_count == 1
    assert len(server.metrics) == 1


def test_retry_delay_is_honoured(server: FakeServer, connect: Connect) -> None:
    server.metric_errors = [(Status.RESOURCE_EXHAUSTED, refuse("OVERLOADED", retry_delay_ms=60_000))]
    with pytest.raises(DeliveryTimeoutError, match="OVERLOADED") as caught:
        connect().log_metric("billing", "a", 1, timeout=5)
    assert not caught.value.maybe_stored


def test_refusals_are_raised(server: FakeServer, connect: Connect) -> None:
    server.metric_errors = [(Status.INVALID_ARGUMENT, refuse("INVALID_FIELD", field="name", record_index=0))]
    with pytest.raises(RefusedError, match="field name") as caught:
        connect().log_metric("billing", "a", 1)
    assert (caught.value.code, caught.value.record_index) == (ErrorCode.INVALID_FIELD, 0)
    with pytest.raises(AuthenticationError):
        connect(api_key="wrong").log_metric("billing", "a", 1)
    assert server.metrics == []


def test_bad_values_are_found_before_sending(server: FakeServer, connect: Connect) -> None:
    client = connect()
    with pytest.raises(InvalidRecordError, match="record 1: value: must not be NaN"):
        client.log_metrics("billing", [Metric("a", 1), Metric("a", float("nan"))])
    with pytest.raises(InvalidRecordError, match="record 0"):
        client.log_metric("billing", "a", "1")  # type: ignore[arg-type]
    with pytest.raises(InvalidRecordError, match="time zone"):
        client.log_metric("billing", "a", 1, timestamp=datetime(2024, 1, 1))
    client.close()
    with pytest.raises(ClientClosedError):
        client.log_metric("billing", "a", 1)
    assert server.authorizations == []
