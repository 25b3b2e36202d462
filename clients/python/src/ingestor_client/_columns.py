"""Encodes columns as the RecordColumns of a WriteBatchRequest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol, TypeAlias, cast, runtime_checkable
from uuid import UUID

from ingestor_client import _wire
from ingestor_client._proto.storage import common_pb2, ingestion_pb2
from ingestor_client._rows import JSONEncoder, checked_text, encode_json
from ingestor_client.errors import InvalidRecordError
from ingestor_client.record import Payload, unix_nanoseconds
from ingestor_client.uuid7 import uuid7_block

_Request = ingestion_pb2.WriteBatchRequest
_Columns = common_pb2.RecordColumns
_Attribute = common_pb2.AttributeColumn


@dataclass(frozen=True, slots=True)
class Blob:
    """A column of byte strings in the form of the wire: no work per row is left.

    Attributes:
        data: All values, concatenated.
        lengths: The length of each value in bytes, as little-endian unsigned 32-bit integers.
    """

    data: bytes | memoryview
    lengths: bytes | memoryview

    @classmethod
    def of(cls, values: Iterable[bytes]) -> Blob:
        """Concatenates values."""
        listed = values if isinstance(values, list) else list(values)
        return cls(b"".join(listed), _wire.fixed32(map(len, listed)))

    def __len__(self) -> int:
        return len(self.lengths) // 4


@runtime_checkable
class _Numeric(Protocol):
    """What of a numpy array is used here; numpy itself is not needed."""

    @property
    def dtype(self) -> Any: ...
    def astype(self, dtype: str) -> _Numeric: ...
    def view(self, dtype: str) -> _Numeric: ...
    def tobytes(self) -> bytes: ...


Timestamps: TypeAlias = "Sequence[int | datetime] | _Numeric | bytes | memoryview"
"""Nanoseconds since the Unix epoch or aware datetimes; a numpy array (int64, or datetime64 in UTC); or the bytes of
little-endian 64-bit integers. Arrays and bytes cost nothing per row."""

Payloads: TypeAlias = "Sequence[Payload] | Blob"
EventIds: TypeAlias = "Sequence[UUID | bytes] | bytes | memoryview"
"""UUIDs, or their bytes, one by one or all concatenated."""

AttributeValues: TypeAlias = "Sequence[str | None] | Blob"
"""One value a row; None and the empty text both mean that the row does not have the attribute."""


@dataclass(frozen=True, slots=True)
class Columns:
    """A batch in the form of the wire. All members are little-endian arrays or concatenations; see RecordColumns."""

    event_ids: bytes
    timestamps: bytes
    payloads: Blob
    versions: bytes = b""
    attributes: Mapping[str, Blob] = field(default_factory=dict)

    def __post_init__(self) -> None:
        count = len(self)
        sizes = {"timestamps_unix_nano": len(self.timestamps) / 8, "event_ids": len(self.event_ids) / 16}
        if self.versions:
            sizes["versions"] = len(self.versions) / 4
        sizes.update((f"attributes[{key!r}]", len(blob)) for key, blob in self.attributes.items())
        for name, size in sizes.items():
            if size != count:
                raise InvalidRecordError(f"has {size:g} entries, but there are {count} payloads", field=name)

    def __len__(self) -> int:
        return len(self.payloads)

    def encode(self) -> bytes:
        """The field WriteBatchRequest.columns with its tag: to be appended to a batch's header."""
        pieces: list[bytes | memoryview] = [
            *_wire.field(_Columns.EVENT_IDS_FIELD_NUMBER, self.event_ids),
            *_wire.field(_Columns.TIMESTAMPS_UNIX_NANO_FIELD_NUMBER, self.timestamps),
            *_wire.field(_Columns.VERSIONS_FIELD_NUMBER, self.versions),
            *_wire.field(_Columns.PAYLOADS_FIELD_NUMBER, self.payloads.data),
            *_wire.field(_Columns.PAYLOAD_LENGTHS_FIELD_NUMBER, self.payloads.lengths),
        ]
        for key, blob in self.attributes.items():
            attribute = b"".join(
                [
                    *_wire.field(_Attribute.KEY_FIELD_NUMBER, key.encode()),
                    *_wire.field(_Attribute.VALUES_FIELD_NUMBER, blob.data),
                    *_wire.field(_Attribute.VALUE_LENGTHS_FIELD_NUMBER, blob.lengths),
                ]
            )
            pieces += _wire.field(_Columns.ATTRIBUTES_FIELD_NUMBER, attribute)
        length = sum(map(len, pieces))
        return b"".join([_wire.prefix(_Request.COLUMNS_FIELD_NUMBER, length), *pieces])


def columns_of(
    timestamps: Timestamps,
    payloads: Payloads,
    event_ids: EventIds | None = None,
    versions: int | Sequence[int] = 0,
    attributes: Mapping[str, AttributeValues] | None = None,
    json_encoder: JSONEncoder = encode_json,
) -> Columns:
    """Brings what callers hold into the form of the wire.

    Raises:
        InvalidRecordError: a value cannot be sent, or the columns differ in length. It names the row where one is to
            blame.
    """
    blob = payloads if isinstance(payloads, Blob) else _payload_blob(payloads, json_encoder)
    count = len(blob)
    return Columns(
        event_ids=uuid7_block(count) if event_ids is None else _event_id_bytes(event_ids),
        timestamps=_timestamp_bytes(timestamps),
        payloads=blob,
        versions=_version_bytes(versions, count),
        attributes={key: _attribute_blob(key, values) for key, values in (attributes or {}).items()},
    )


def _timestamp_bytes(timestamps: Timestamps) -> bytes:
    if isinstance(timestamps, (bytes, memoryview)):
        return bytes(timestamps)
    if isinstance(timestamps, _Numeric):
        return _numpy_timestamps(timestamps)
    try:
        return _wire.fixed64(cast("Sequence[int]", timestamps))  # in C, where all are int
    except TypeError:
        pass
    except OverflowError:
        raise InvalidRecordError("a value needs more than 64 bits", field="timestamps_unix_nano") from None
    converted = []
    for index, timestamp in enumerate(timestamps):
        try:
            converted.append(unix_nanoseconds(timestamp))
        except ValueError as error:
            raise InvalidRecordError(
                str(error), record_index=index, field="timestamps_unix_nano", record=timestamp
            ) from None
    return _wire.fixed64(converted)


def _numpy_timestamps(array: _Numeric) -> bytes:
    kind = array.dtype.kind
    if kind == "M":
        return array.astype("datetime64[ns]").view("int64").astype("<i8").tobytes()
    if kind in "iu":
        return array.astype("<i8").tobytes()
    raise InvalidRecordError(
        f"an array must be of integers or datetime64, not {array.dtype}", field="timestamps_unix_nano"
    )


def _payload_blob(payloads: Sequence[Payload], json_encoder: JSONEncoder) -> Blob:
    encoded = []
    for index, payload in enumerate(payloads):
        try:
            value = payload if isinstance(payload, (bytes, str)) else json_encoder(payload)
            encoded.append(value if isinstance(value, bytes) else value.encode())
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidRecordError(str(error), record_index=index, field="payloads", record=payload) from error
    return Blob.of(encoded)


def _event_id_bytes(event_ids: EventIds) -> bytes:
    if isinstance(event_ids, (bytes, memoryview)):
        return bytes(event_ids)
    listed = [event_id.bytes if isinstance(event_id, UUID) else event_id for event_id in event_ids]
    for index, event_id in enumerate(listed):
        if len(event_id) != 16:
            raise InvalidRecordError(
                f"must have 16 bytes, has {len(event_id)}", record_index=index, field="event_ids", record=event_id
            )
    return b"".join(listed)


def _version_bytes(versions: int | Sequence[int], count: int) -> bytes:
    if versions == 0:
        return b""
    try:
        return _wire.fixed32([versions] * count if isinstance(versions, int) else versions)
    except (OverflowError, TypeError) as error:
        raise InvalidRecordError(str(error), field="versions") from None


def _attribute_blob(key: str, values: AttributeValues) -> Blob:
    if not checked_text(key, "attributes"):
        raise InvalidRecordError("a key must not be empty", field="attributes")
    if isinstance(values, Blob):
        return values
    encoded = []
    for index, value in enumerate(values):
        try:
            encoded.append(checked_text(value, "attributes") if value is not None else b"")
        except InvalidRecordError as error:
            raise InvalidRecordError(
                f"{key!r}: {error.reason}", record_index=index, field="attributes", record=value
            ) from None
    return Blob.of(encoded)
