"""The gRPC channel, the credential, and what gRPC's errors mean."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from ingestor_client._proto.ingestor_client import status_pb2
from ingestor_client._proto.storage import common_pb2
from ingestor_client.errors import (
    AuthenticationError,
    ConnectionFailedError,
    ErrorCode,
    IngestorError,
    PermissionDeniedError,
    ProducerFencedError,
    RefusedError,
)
from ingestor_client.record import Record

logger = logging.getLogger("ingestor_client")

TokenProvider = Callable[[], str]
"""Returns the credential to use now. It is asked for each stream and each unary call, from several threads."""

Metadata = tuple[tuple[str, str | bytes], ...]
"""The metadata of a call."""

_LOOPBACK = ("localhost", "127.", "[::1]", "unix:", "ipv4:127.", "ipv6:[::1]")


@dataclass(frozen=True, slots=True)
class TLS:
    """How to talk TLS.

    Attributes:
        ca_file: PEM file of the authorities to trust; None: gRPC's built-in roots.
        cert_file: PEM file of this client's certificate, for mutual TLS.
        key_file: PEM file of its key.
        server_name: The name to expect in the server's certificate, where it differs from the target's.
    """

    ca_file: str | os.PathLike[str] | None = None
    cert_file: str | os.PathLike[str] | None = None
    key_file: str | os.PathLike[str] | None = None
    server_name: str | None = None


@dataclass(frozen=True, slots=True)
class Retry:
    """How long to wait between attempts: exponential, with full jitter above the half.

    Attributes:
        initial_seconds: Before the first repetition.
        max_seconds: The longest wait.
        multiplier: From each wait to the next.
    """

    initial_seconds: float = 0.05
    max_seconds: float = 2.0
    multiplier: float = 2.0

    def __post_init__(self) -> None:
        if not 0 < self.initial_seconds <= self.max_seconds or self.multiplier < 1:
            raise ValueError("need 0 < initial_seconds <= max_seconds and multiplier >= 1")

    def delay_seconds(self, failures: int, random: float) -> float:
        """The wait after that many failures in a row, from 1; random is from 0 to 1."""
        exponent = min(failures - 1, 64)
        longest = min(self.max_seconds, self.initial_seconds * self.multiplier**exponent)
        return longest * (0.5 + 0.5 * random)


@dataclass(frozen=True, slots=True)
class Credential:
    """An API key or JWT, or where to get one. Its repr shows neither."""

    provider: TokenProvider | None = field(repr=False)
    renewable: bool = False

    @classmethod
    def of(cls, api_key: str | TokenProvider | None) -> Credential:
        """Wraps what the caller gave."""
        if callable(api_key):
            return cls(api_key, renewable=True)
        return cls((lambda: api_key) if api_key is not None else None)

    def metadata(self) -> Metadata:
        """The call metadata that carries the credential."""
        return (("authorization", f"Bearer {self.provider()}"),) if self.provider else ()


def open_channel(target: str, tls: TLS | bool, retry: Retry, options: Sequence[tuple[str, Any]]) -> grpc.Channel:
    """A channel that reconnects as fast as retry says. It does not connect yet."""
    all_options: list[tuple[str, Any]] = [
        ("grpc.max_send_message_length", -1),
        ("grpc.initial_reconnect_backoff_ms", int(retry.initial_seconds * 1000)),
        ("grpc.min_reconnect_backoff_ms", 5000),
        ("grpc.max_reconnect_backoff_ms", max(100, int(retry.max_seconds * 1000))),
        # Without it, channels of one process share connections and their backoff.
        ("grpc.use_local_subchannel_pool", 1),
        # The client resends by itself: only it knows a batch's sequence.
        ("grpc.enable_retries", 0),
        *options,
    ]
    if tls is False:
        if not target.startswith(_LOOPBACK):
            logger.warning("the credential travels in clear text to %s; pass tls=True", target)
        return grpc.insecure_channel(target, options=all_options)
    settings = TLS() if tls is True else tls
    if settings.server_name:
        all_options.append(("grpc.ssl_target_name_override", settings.server_name))
    credentials = grpc.ssl_channel_credentials(
        root_certificates=_read(settings.ca_file),
        private_key=_read(settings.key_file),
        certificate_chain=_read(settings.cert_file),
    )
    return grpc.secure_channel(target, credentials, options=all_options)


def _read(path: str | os.PathLike[str] | None) -> bytes | None:
    return Path(path).read_bytes() if path is not None else None


def refusal(
    error: common_pb2.BatchError,
    find_record: Callable[[int], Record | None] = lambda _: None,
    *,
    maybe_stored: bool = False,
) -> RefusedError:
    """The exception for a BatchError. find_record gives the record at an index of the batch."""
    try:
        code = ErrorCode(error.code)
    except ValueError:  # of a newer server
        code = ErrorCode.UNSPECIFIED
    kinds: dict[ErrorCode, type[RefusedError]] = {
        ErrorCode.WRONG_TENANT: PermissionDeniedError,
        ErrorCode.FORBIDDEN_ENDPOINT: PermissionDeniedError,
        ErrorCode.PRODUCER_FENCED: ProducerFencedError,
    }
    index = error.record_index if error.HasField("record_index") else None
    return kinds.get(code, RefusedError)(
        code,
        error.message,
        record_index=index,
        event_id=error.event_id,
        field=error.field,
        record=find_record(index) if index is not None else None,
        retry_delay_seconds=error.retry_delay_ms / 1000,
        maybe_stored=maybe_stored,
    )


def batch_error(error: grpc.RpcError) -> common_pb2.BatchError | None:
    """The BatchError among the details of a call's status; None where gRPC itself or a proxy failed the call."""
    trailers: Any = error.trailing_metadata() if isinstance(error, grpc.Call) else None
    for key, value in trailers or ():
        if key != "grpc-status-details-bin" or not isinstance(value, bytes):
            continue
        try:
            for detail in status_pb2.Status.FromString(value).details:
                found = common_pb2.BatchError()
                if detail.Unpack(found):
                    return found
        except DecodeError:
            logger.warning("the details of a gRPC status do not decode")
    return None


def status_of(error: grpc.RpcError) -> tuple[grpc.StatusCode, str]:
    """The status code and its text for people."""
    if isinstance(error, grpc.Call):
        return error.code(), error.details() or ""
    return grpc.StatusCode.UNKNOWN, str(error)


_PASSING = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
    }
)


def passes(code: grpc.StatusCode) -> bool:
    """Whether a stream or call that ended so may succeed when tried again."""
    return code in _PASSING


def fatal(code: grpc.StatusCode, text: str, *, maybe_stored: bool) -> IngestorError:
    """The exception for a status that trying again does not mend, and that carries no BatchError."""
    message = f"{code.name}: {text}"
    if code is grpc.StatusCode.UNAUTHENTICATED:
        return AuthenticationError(message, maybe_stored=maybe_stored)
    if code is grpc.StatusCode.PERMISSION_DENIED:
        return PermissionDeniedError(ErrorCode.UNSPECIFIED, text, maybe_stored=maybe_stored)
    return ConnectionFailedError(message, maybe_stored=maybe_stored)
