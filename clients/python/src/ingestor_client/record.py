"""Records as callers see them, and the answers to them."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias
from uuid import UUID

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

Payload: TypeAlias = bytes | str | Mapping[str, Any] | Sequence[Any]
"""Bytes go out as they are, text as UTF-8, everything else as JSON."""


class AckLevel(enum.IntEnum):
    """What a positive answer means."""

    UNSPECIFIED = 0
    """The service's default: WAL_SYNCED for records, BUFFERED for metrics."""
    BUFFERED = 1
    """Accepted into memory. Lost if the server's process dies."""
    WAL_SYNCED = 2
    """In the write-ahead log and synced to disk. Survives kill -9 and power loss."""
    COMMITTED = 3
    """Committed by every sink. Takes seconds, since the answer waits for a flush."""

    @classmethod
    def of(cls, value: int) -> AckLevel:
        """The level of that number; UNSPECIFIED for one that only a newer server knows."""
        try:
            return cls(value)
        except ValueError:
            return cls.UNSPECIFIED


@dataclass(frozen=True, slots=True)
class Ack:
    """The positive answer to a batch.

    Attributes:
        level: The level that was reached.
        first_lsn: Log sequence number of the first record; 0 at level BUFFERED.
        last_lsn: Log sequence number of the last record.
        record_count: Records in the batch.
        duplicate: True where an earlier attempt had stored the batch. It is stored once all the same.
    """

    level: AckLevel
    first_lsn: int
    last_lsn: int
    record_count: int
    duplicate: bool


@dataclass(slots=True)
class Record:
    """One event.

    Attributes:
        payload: The body: bytes, text, or anything that encodes as JSON.
        timestamp: An aware datetime, or nanoseconds since the Unix epoch. None: now.
        event_id: None: a new UUIDv7. The server does not check that ids are unique.
        version: Version of the payload's schema, chosen by you.
        attributes: Small labels beside the payload. Keys must not be empty.
    """

    payload: Payload
    timestamp: datetime | int | None = None
    event_id: UUID | bytes | None = None
    version: int = 0
    attributes: Mapping[str, str] | None = None


RecordLike: TypeAlias = Record | Mapping[str, Any] | bytes | str
"""A Record, or a bare payload: a mapping (sent as JSON), bytes or text."""


def unix_nanoseconds(timestamp: datetime | int) -> int:
    """Nanoseconds since the Unix epoch, exactly.

    Raises:
        ValueError: timestamp is a datetime without time zone.
    """
    if isinstance(timestamp, datetime):
        if timestamp.tzinfo is None:
            raise ValueError("a datetime without time zone is ambiguous; use datetime.now(timezone.utc)")
        # pandas' Timestamp is a datetime that holds nanoseconds beside its microseconds.
        extra: int = getattr(timestamp, "nanosecond", 0)
        return (timestamp - _EPOCH) // _MICROSECOND * 1000 + extra
    return timestamp
