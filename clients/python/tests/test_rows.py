"""What callers may pass as a record, and what goes out."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest

from ingestor_client import AckLevel, InvalidRecordError, Record, uuid7
from ingestor_client._proto.storage import common_pb2, ingestion_pb2
from ingestor_client._rows import batch_header, encode_rows
from ingestor_client.record import unix_nanoseconds


def sent(*items: Any) -> list[common_pb2.DataRecord]:
    body = batch_header("orders", AckLevel.COMMITTED, "text/plain") + b"".join(encode_rows(items))
    request = ingestion_pb2.WriteBatchRequest.FromString(body)
    assert request.endpoint_id == "orders"
    assert request.ack_level == common_pb2.ACK_LEVEL_COMMITTED
    assert request.content_type == "text/plain"
    return list(request.records)


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (b"\x00\xff", b"\x00\xff"),
        (b"", b""),
        ("grün", "grün".encode()),
        ({"a": 1, "b": [True, None, 1.5]}, b'{"a":1,"b":[true,null,1.5]}'),
        ({"name": "grün"}, '{"name":"grün"}'.encode()),
        ([1, 2], b"[1,2]"),
        ({"at": datetime(2024, 1, 2, tzinfo=UTC)}, b'{"at":"2024-01-02T00:00:00+00:00"}'),
        ({"day": date(2024, 1, 2)}, b'{"day":"2024-01-02"}'),
        ({"id": UUID(int=1)}, b'{"id":"00000000-0000-0000-0000-000000000001"}'),
    ],
)
def test_payloads(payload: Any, expected: bytes) -> None:
    [record] = sent(Record(payload))
    assert record.payload == expected


def test_rows_equal_the_generated_encoding(rng: random.Random) -> None:
    """The hand-written encoding is, byte for byte, the one that protobuf writes."""
    for _ in range(500):
        row = common_pb2.DataRecord(
            event_id=rng.randbytes(16),
            timestamp_unix_nano=rng.randrange(1, 1 << rng.randint(1, 63)),
            version=rng.choice([0, 1, 127, 128, (1 << 32) - 1]),
            payload=rng.randbytes(rng.choice([0, 1, 90, 127, 128, 20_000])),
            attributes={f"k{n}": "ü" * n for n in range(rng.randint(0, 1))},
        )
        record = Record(row.payload, row.timestamp_unix_nano, row.event_id, row.version, dict(row.attributes))
        request = ingestion_pb2.WriteBatchRequest(records=[row])
        assert encode_rows([record]) == [request.SerializeToString()]


def test_bare_payloads_get_id_and_time() -> None:
    before = datetime.now(UTC)
    one, two = sent({"a": 1}, b"raw")
    after = datetime.now(UTC)
    assert (one.payload, two.payload) == (b'{"a":1}', b"raw")
    assert one.event_id < two.event_id
    assert unix_nanoseconds(before) <= one.timestamp_unix_nano <= unix_nanoseconds(after) + 1000


def test_all_fields() -> None:
    event_id = uuid7()
    [record] = sent(Record(b"x", 123, event_id, 4, {"k": "v"}))
    assert record == common_pb2.DataRecord(
        event_id=event_id.bytes, timestamp_unix_nano=123, version=4, payload=b"x", attributes={"k": "v"}
    )


def test_datetimes_are_exact() -> None:
    moment = datetime(2261, 12, 31, 23, 59, 59, 999_999, tzinfo=timezone(timedelta(hours=5, minutes=30)))
    assert unix_nanoseconds(moment) == 9_214_626_599_999_999_000


@pytest.mark.parametrize(
    ("record", "field", "reason"),
    [
        (Record(b"", 0), "timestamp_unix_nano", "lies outside"),
        (Record(b"", -1), "timestamp_unix_nano", "lies outside"),
        (Record(b"", 1 << 63), "timestamp_unix_nano", "lies outside"),
        (Record(b"", datetime(2024, 1, 1)), "timestamp_unix_nano", "without time zone"),
        (Record(b"", 1.5), "timestamp_unix_nano", "not float"),  # type: ignore[arg-type]
        (Record(b"", 1, b"short"), "event_id", "has 5"),
        (Record(b"", 1, "text"), "event_id", "not str"),  # type: ignore[arg-type]
        (Record(b"", 1, None, -1), "version", "from 0"),
        (Record(b"", 1, None, 1 << 32), "version", "from 0"),
        (Record(float("nan")), "payload", "JSON compliant"),  # type: ignore[arg-type]
        (Record("\ud800"), "payload", "surrogates"),
        (Record({"x": object()}), "payload", "no JSON form"),
        (Record(b"", attributes={"": "v"}), "attributes", "must not be empty"),
        (Record(b"", attributes={"k": 1}), "attributes", "must be str"),  # type: ignore[dict-item]
        (Record(b"", attributes={"k": "\ud800"}), "attributes", "not valid Unicode"),
        (Record(b"", attributes=["k"]), "attributes", "must be a mapping"),  # type: ignore[arg-type]
    ],
)
def test_errors_name_the_record(record: Record, field: str, reason: str) -> None:
    with pytest.raises(InvalidRecordError, match=reason) as caught:
        encode_rows([Record(b"fine"), record])
    assert (caught.value.record_index, caught.value.field) == (1, field)
    assert caught.value.record is record
    assert str(caught.value).startswith("record 1: ")


@pytest.mark.parametrize("endpoint", ["", "x" * 256, "ü" * 128, "\ud800", 5])
def test_endpoints(endpoint: Any) -> None:
    with pytest.raises(InvalidRecordError, match="endpoint_id"):
        batch_header(endpoint, AckLevel.UNSPECIFIED, "")
