"""Encodes records as rows of a WriteBatchRequest."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from typing import Any, NoReturn
from uuid import UUID

from ingestor_client._proto.storage import common_pb2, ingestion_pb2
from ingestor_client._wire import FIXED64, VARINT, prefix, tag, varint
from ingestor_client.errors import InvalidRecordError
from ingestor_client.record import AckLevel, Record, RecordLike, unix_nanoseconds
from ingestor_client.uuid7 import uuid7_bytes

_RECORDS_FIELD = ingestion_pb2.WriteBatchRequest.RECORDS_FIELD_NUMBER
_Row = common_pb2.DataRecord
_EVENT_ID_PREFIX = prefix(_Row.EVENT_ID_FIELD_NUMBER, 16)
_TIMESTAMP_TAG = tag(_Row.TIMESTAMP_UNIX_NANO_FIELD_NUMBER, FIXED64)
_VERSION_TAG = tag(_Row.VERSION_FIELD_NUMBER, VARINT)
_MAX_NAME_BYTES = 255
_MAX_INT64 = (1 << 63) - 1
_MAX_UINT32 = (1 << 32) - 1

JSONEncoder = Callable[[Any], str | bytes]
"""Turns a payload that is neither bytes nor text into JSON."""


def _json_default(value: object) -> str:
    if isinstance(value, (datetime, date)):
        return value.isoformat()
    if isinstance(value, UUID):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form; pass json_encoder to the client")


_encoder = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False, default=_json_default)


def encode_json(value: object) -> str:
    """The client's default JSON: compact; datetimes in ISO 8601, UUIDs as text; NaN and infinities are refused."""
    return _encoder.encode(value)


def batch_header(endpoint: str, ack_level: AckLevel, content_type: str) -> bytes:
    """The fields of a batch that stay the same whatever its sequence, encoded.

    Raises:
        InvalidRecordError: endpoint or content_type is not sendable.
    """
    encoded = checked_text(endpoint, "endpoint_id")
    if not 1 <= len(encoded) <= _MAX_NAME_BYTES:
        raise InvalidRecordError(f"must have 1 to 255 bytes, has {len(encoded)}", field="endpoint_id")
    if len(checked_text(content_type, "content_type")) > _MAX_NAME_BYTES:
        raise InvalidRecordError("must have at most 255 bytes", field="content_type")
    return ingestion_pb2.WriteBatchRequest(
        endpoint_id=endpoint, ack_level=common_pb2.AckLevel.Name(ack_level), content_type=content_type
    ).SerializeToString()


def checked_text(text: object, field: str) -> bytes:
    """The UTF-8 of text.

    Raises:
        InvalidRecordError: text is no str, or holds a lone surrogate.
    """
    if not isinstance(text, str):
        raise InvalidRecordError(f"must be str, not {type(text).__name__}", field=field)
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise InvalidRecordError(f"is not valid Unicode: {error.reason}", field=field) from None


def encode_row(item: RecordLike, json_encoder: JSONEncoder = encode_json) -> bytes:
    """One record as an element of WriteBatchRequest.records, with tag and length: ready to be joined with others.

    Raises:
        InvalidRecordError: the record cannot be sent. It has no record_index.
    """
    record = item if isinstance(item, Record) else Record(item)
    payload = _payload(record, item, json_encoder)
    attributes = _attributes(record, item)
    # The fields of a DataRecord in the wire format; building the generated message takes a third longer.
    encoded = b"".join(
        [
            _EVENT_ID_PREFIX,
            _event_id(record, item),
            _TIMESTAMP_TAG,
            _timestamp(record, item).to_bytes(8, "little"),
            _VERSION_TAG + varint(_version(record, item)) if record.version else b"",
            prefix(_Row.PAYLOAD_FIELD_NUMBER, len(payload)) if payload else b"",
            payload,
            _Row(attributes=attributes).SerializeToString() if attributes else b"",
        ]
    )
    return prefix(_RECORDS_FIELD, len(encoded)) + encoded


def encode_rows(items: Sequence[RecordLike], json_encoder: JSONEncoder = encode_json) -> list[bytes]:
    """Encodes each record; an error names its index.

    Raises:
        InvalidRecordError: a record cannot be sent.
    """
    rows = []
    for index, item in enumerate(items):
        try:
            rows.append(encode_row(item, json_encoder))
        except InvalidRecordError as error:
            raise InvalidRecordError(error.reason, record_index=index, field=error.field, record=item) from error
    return rows


def _invalid(item: object, field: str, reason: str) -> NoReturn:
    raise InvalidRecordError(reason, field=field, record=item)


def _event_id(record: Record, item: object) -> bytes:
    event_id = record.event_id
    if event_id is None:
        return uuid7_bytes()
    if isinstance(event_id, UUID):
        return event_id.bytes
    if not isinstance(event_id, bytes):
        _invalid(item, "event_id", f"must be a UUID or 16 bytes, not {type(event_id).__name__}")
    if len(event_id) != 16:
        _invalid(item, "event_id", f"must have 16 bytes, has {len(event_id)}")
    return event_id


def _timestamp(record: Record, item: object) -> int:
    timestamp = record.timestamp
    if timestamp is None:
        return time.time_ns()
    if isinstance(timestamp, bool) or not isinstance(timestamp, (int, datetime)):
        _invalid(item, "timestamp_unix_nano", f"must be a datetime or int, not {type(timestamp).__name__}")
    try:
        nanoseconds = unix_nanoseconds(timestamp)
    except ValueError as error:
        _invalid(item, "timestamp_unix_nano", str(error))
    if not 0 < nanoseconds <= _MAX_INT64:
        _invalid(item, "timestamp_unix_nano", f"{nanoseconds} ns lies outside 1970-01-01 (exclusive) to 2262-04-11")
    return nanoseconds


def _version(record: Record, item: object) -> int:
    version = record.version
    if not isinstance(version, int) or not 0 <= version <= _MAX_UINT32:
        _invalid(item, "version", f"must be an int from 0 to {_MAX_UINT32}, is {version!r}")
    return version


def _payload(record: Record, item: object, json_encoder: JSONEncoder) -> bytes:
    payload = record.payload
    if isinstance(payload, bytes):
        return payload
    if isinstance(payload, (bytearray, memoryview)):
        return bytes(payload)
    try:
        text = payload if isinstance(payload, str) else json_encoder(payload)
        return text if isinstance(text, bytes) else text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        _invalid(item, "payload", str(error))


def _attributes(record: Record, item: object) -> Mapping[str, str] | None:
    attributes = record.attributes
    if not attributes:
        return None
    if not isinstance(attributes, Mapping):
        _invalid(item, "attributes", f"must be a mapping, not {type(attributes).__name__}")
    for key, value in attributes.items():
        try:
            if not checked_text(key, "attributes"):
                _invalid(item, "attributes", "a key must not be empty")
            checked_text(value, "attributes")
        except InvalidRecordError as error:
            _invalid(item, "attributes", f"{key!r}: {error.reason}")
    return attributes
