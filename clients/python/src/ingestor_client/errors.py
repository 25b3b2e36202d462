"""Errors of the client. Each one tells whether the records may nevertheless be stored."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from uuid import UUID

from ingestor_client.record import Record


class ErrorCode(enum.IntEnum):
    """The machine-readable reason of a refusal; the values are those of ``storage.ErrorCode``."""

    UNSPECIFIED = 0
    MALFORMED = 1
    MISSING_FIELD = 2
    INVALID_FIELD = 3
    TOO_LARGE = 4
    EMPTY_BATCH = 5
    WRONG_TENANT = 6
    FORBIDDEN_ENDPOINT = 7
    PRODUCER_FENCED = 8
    SEQUENCE_OUT_OF_ORDER = 9
    OVERLOADED = 10
    NO_SPACE = 11
    OUTCOME_UNKNOWN = 12
    UNAVAILABLE = 13
    UNSUPPORTED = 14


class IngestorError(Exception):
    """Base of all errors that this package raises on purpose.

    Attributes:
        maybe_stored: False where it is certain that no record of the batch is stored. True where an answer was lost,
            so that the batch may or may not be stored.
        batch_errors: The errors of the single batches, where this error stands for several.
    """

    def __init__(self, message: str, *, maybe_stored: bool = False) -> None:
        super().__init__(message)
        self.maybe_stored = maybe_stored
        self.batch_errors: tuple[IngestorError, ...] = ()


class InvalidRecordError(IngestorError, ValueError):
    """A record cannot be encoded. It was found before anything was sent.

    Attributes:
        record_index: The record's place in the call's records, from 0; None where no single record is to blame.
        field: The offending field.
        record: The record as it was passed in.
    """

    def __init__(
        self, message: str, *, record_index: int | None = None, field: str = "", record: object = None
    ) -> None:
        where = f"record {record_index}: " if record_index is not None else ""
        super().__init__(f"{where}{field}: {message}" if field else f"{where}{message}")
        self.reason = message
        self.record_index = record_index
        self.field = field
        self.record = record


class RefusedError(IngestorError):
    """The server refused the batch, whole: none of its records was stored by that attempt.

    Attributes:
        code: Why.
        record_index: The first offending record's place in the batch, from 0, where one is to blame.
        event_id: That record's event id.
        field: The offending field, as named in the proto files.
        record: That record, as it was sent.
        retry_delay_seconds: How long the server asks to wait; 0 where trying again does not help.
    """

    def __init__(
        self,
        code: ErrorCode,
        message: str,
        *,
        record_index: int | None = None,
        event_id: bytes = b"",
        field: str = "",
        record: Record | None = None,
        retry_delay_seconds: float = 0.0,
        maybe_stored: bool = False,
    ) -> None:
        self.code = code
        self.reason = message
        self.record_index = record_index
        self.event_id = UUID(bytes=event_id) if len(event_id) == 16 else None
        self.field = field
        self.record = record
        self.retry_delay_seconds = retry_delay_seconds
        parts = [code.name]
        if record_index is not None:
            parts.append(f"record {record_index}" + (f" (event_id {self.event_id})" if self.event_id else ""))
        if field:
            parts.append(f"field {field}")
        super().__init__(", ".join(parts) + f": {message}", maybe_stored=maybe_stored)


class AuthenticationError(IngestorError):
    """The credential is missing, unknown or expired."""


class PermissionDeniedError(RefusedError):
    """The credential may not write there, or a record names another tenant."""


class ProducerFencedError(RefusedError):
    """Another client writes under the same producer id with a higher epoch. This client is of no more use."""


class DeliveryTimeoutError(IngestorError, TimeoutError):
    """No positive answer came within the delivery timeout. ``maybe_stored`` tells whether the batch was ever sent."""


class BackpressureError(IngestorError, TimeoutError):
    """The client's queue stayed full for as long as the caller was willing to wait. The records were not taken."""


class ClientClosedError(IngestorError):
    """The client or batcher is closed, or was made in the parent of this forked process."""


class ConnectionFailedError(IngestorError):
    """The server refused the stream or the call as such, for a reason that trying again does not mend."""


def combined(errors: Sequence[IngestorError]) -> IngestorError:
    """One error to raise for all of errors: the only one itself, or the first one's message and the number."""
    if len(errors) == 1:
        return errors[0]
    error = IngestorError(
        f"{len(errors)} batches failed; the first: {errors[0]}",
        maybe_stored=any(single.maybe_stored for single in errors),
    )
    error.batch_errors = tuple(errors)
    return error
