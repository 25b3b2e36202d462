"""Delivers batches over one WriteStream, each exactly once.

Why a batch is stored once, whatever breaks:

1.  One stream at a time, and new batches take ever higher sequences. So the server sees sequences for the first time in
    ascending order, even where remains of a broken stream arrive late, between those of its successor.
2.  Whatever was sent and not answered when a stream broke is *in doubt*. It is sent again with its sequence, before
    anything new: the server, if it has stored it, acknowledges it again and stores nothing.
3.  The server remembers a producer's last 128 batches. No sequence is handed out that lies MAX_IN_FLIGHT or more above
    the lowest unanswered one, so a batch in doubt is always among those that the server would remember.
4.  Therefore SEQUENCE_OUT_OF_ORDER for a batch in doubt proves that it is not stored: it may take a new sequence.
5.  A refusal of a batch that is not in doubt proves the same. A refusal of one that is in doubt proves nothing about
    its earlier attempt: it keeps its sequence.

Threads: `_run` opens streams and reads answers; gRPC's own thread pulls requests through `_requests`; callers submit
and wait; the client's clock calls `expire`. All state is guarded by `_changed`. Futures are resolved without the lock.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import grpc

from ingestor_client._batch import Batch
from ingestor_client._connection import Credential, Metadata, Retry, fatal, logger, passes, refusal, status_of
from ingestor_client._proto.storage import common_pb2, ingestion_pb2
from ingestor_client.errors import (
    AuthenticationError,
    BackpressureError,
    ClientClosedError,
    DeliveryTimeoutError,
    ErrorCode,
    IngestorError,
    RefusedError,
)
from ingestor_client.record import Ack, AckLevel

MAX_IN_FLIGHT = 64
_METHOD = "/storage.IngestionService/WriteStream"
_HANGUP_SECONDS = 2.0  # how long the server may take to end a stream on which it has answered everything

_RETRYABLE = frozenset({ErrorCode.OVERLOADED, ErrorCode.NO_SPACE, ErrorCode.UNAVAILABLE})
_FATAL = frozenset({grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNIMPLEMENTED})


@dataclass(eq=False, slots=True)
class _Stream:
    """One attempt at a WriteStream."""

    ended: bool = False
    answers: int = 0
    sent: int = 0
    unanswered: int = 0


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """How much may be outstanding: waiting, sent and unanswered, or waiting to be sent again."""

    max_bytes: int = 64 << 20
    max_batches: int = 1024


_Outcome = tuple[Batch, Ack | IngestorError]


class Sender:
    """Owns the stream and everything outstanding on it. See the module's comment."""

    def __init__(
        self,
        channel: grpc.Channel,
        credential: Credential,
        producer_id: bytes,
        producer_epoch: int,
        retry: Retry,
        limits: QueueLimits,
        at: Callable[[float], None],
        max_in_flight: int = MAX_IN_FLIGHT,
    ) -> None:
        """Starts nothing yet. `at` asks the clock to call `expire` at a monotonic time."""
        if not 1 <= max_in_flight <= MAX_IN_FLIGHT:
            raise ValueError(f"max_in_flight must be from 1 to {MAX_IN_FLIGHT}")
        self._channel = channel
        self._method: grpc.StreamStreamMultiCallable[bytes, ingestion_pb2.WriteBatchResponse] = channel.stream_stream(
            _METHOD, lambda message: message, ingestion_pb2.WriteBatchResponse.FromString
        )
        self._credential = credential
        self._producer_id = producer_id
        self._producer_epoch = producer_epoch
        self._retry = retry
        self._limits = limits
        self._at = at
        self._max_in_flight = max_in_flight
        self._pid = os.getpid()

        self._changed = threading.Condition()
        self._pending: deque[Batch] = deque()  # without sequence, by order
        self._resend: list[Batch] = []  # with sequence, by sequence
        self._in_flight: dict[int, Batch] = {}  # by sequence
        self._bytes = 0
        self._untold = 0  # resolved, but the futures do not know yet
        self._submitted = 0
        self._sequence = 0
        self._hold_until = 0.0  # the server asked for a pause
        self._isolating = False  # one at a time, to find the batch that kills streams
        self._connected = False
        self._closing = False
        self._failures = 0
        self._last_error = "the server was not reached yet"
        self._call: Any = None
        self._thread: threading.Thread | None = None

    # Callers' side.

    def submit(self, body: bytes, delivery_timeout: float, block_timeout: float | None) -> Future[Ack]:
        """Takes a batch; body is an encoded WriteBatchRequest without the fields that `_message` adds.

        Waits for room for at most block_timeout seconds; None: as long as it takes.

        Raises:
            BackpressureError: there was no room. The batch was not taken.
            ClientClosedError: the client is closed, or belongs to the parent process.
        """
        future: Future[Ack] = Future()
        future.set_running_or_notify_cancel()  # what is on its way cannot be cancelled
        if self.is_forked():
            raise ClientClosedError("the client was made before a fork; make one in each process")
        with self._changed:
            self._check_open()
            if not self._has_room(len(body)):
                if threading.current_thread() is self._thread:
                    raise BackpressureError("the queue is full, and a callback of an ack must not wait for room")
                self._changed.wait_for(lambda: self._has_room(len(body)) or self._closing, block_timeout)
                self._check_open()
                if not self._has_room(len(body)):
                    raise BackpressureError(f"the queue is full ({self._count()} batches, {self._bytes} bytes)")
            self._submitted += 1
            batch = Batch(self._submitted, body, time.monotonic() + delivery_timeout, future)
            self._pending.append(batch)
            self._bytes += len(body)
            if self._thread is None:
                self._start()
            self._changed.notify_all()
        self._at(batch.deadline)
        return future

    def flush(self, timeout: float | None) -> bool:
        """Waits until everything submitted before the call is answered. False: the time was up."""
        with self._changed:
            if threading.current_thread() is self._thread:
                raise RuntimeError("a callback of an ack must not wait for other acks")
            last = self._submitted
            return self._changed.wait_for(
                lambda: self._untold == 0 and all(batch.order > last for batch in self._outstanding()), timeout
            )

    def close(self, timeout: float | None) -> None:
        """Refuses new batches, waits for the answers to the old ones, fails what is left, joins the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
            thread = self._thread
            if thread is None or thread is threading.current_thread():
                return
            self._changed.wait_for(lambda: self._count() == 0 and self._untold == 0, timeout)
            left = self._fail_all(lambda doubt: ClientClosedError("closed before an answer came", maybe_stored=doubt))
        self._tell(left)
        thread.join(0 if left else _HANGUP_SECONDS)
        with self._changed:
            call = self._call
        if call is not None:
            call.cancel()
        thread.join(_HANGUP_SECONDS)
        self._channel.unsubscribe(self._on_connectivity)

    def expire(self, now: float) -> float | None:
        """Fails the batches whose deadline has passed. Returns the next deadline."""
        with self._changed:
            late = [batch for batch in self._outstanding() if batch.deadline <= now]
            outcomes = []
            for batch in late:
                doubt = self._is_in_doubt(batch)
                message = f"no positive answer in time; last: {self._last_error}"
                outcomes.append(self._resolve(batch, DeliveryTimeoutError(message, maybe_stored=doubt)))
            following = min((batch.deadline for batch in self._outstanding()), default=None)
        self._tell(outcomes)
        return following

    def is_forked(self) -> bool:
        """Whether this is a child of the process that made the client: without its threads, perhaps with held locks."""
        return os.getpid() != self._pid

    def _check_open(self) -> None:
        if self._closing:
            raise ClientClosedError("the client is closed")

    def _has_room(self, size: int) -> bool:
        count = self._count()
        return count == 0 or (count < self._limits.max_batches and self._bytes + size <= self._limits.max_bytes)

    # Bookkeeping. All of it requires the lock.

    def _start(self) -> None:
        self._channel.subscribe(self._on_connectivity)
        self._thread = threading.Thread(target=self._run, name="ingestor-sender", daemon=True)
        self._thread.start()

    def _count(self) -> int:
        return len(self._pending) + len(self._resend) + len(self._in_flight)

    def _outstanding(self) -> Iterator[Batch]:
        yield from self._in_flight.values()
        yield from self._resend
        yield from self._pending

    def _is_in_doubt(self, batch: Batch) -> bool:
        return batch.in_doubt or batch.sequence in self._in_flight

    def _resolve(self, batch: Batch, outcome: Ack | IngestorError) -> _Outcome:
        """Forgets a batch. The caller passes what is returned to `_tell`, after it has released the lock."""
        if self._in_flight.get(batch.sequence) is batch:
            del self._in_flight[batch.sequence]
        elif batch in self._resend:
            self._resend.remove(batch)
        elif batch in self._pending:
            self._pending.remove(batch)
        self._bytes -= len(batch.body)
        self._untold += 1
        self._changed.notify_all()
        return batch, outcome

    def _fail_all(self, error: Callable[[bool], IngestorError]) -> list[_Outcome]:
        return [self._resolve(batch, error(self._is_in_doubt(batch))) for batch in list(self._outstanding())]

    def _tell(self, outcomes: list[_Outcome]) -> None:
        """Resolves futures, which runs callers' callbacks. Must be called without the lock."""
        for batch, outcome in outcomes:
            if isinstance(outcome, Ack):
                batch.future.set_result(outcome)
            else:
                batch.future.set_exception(outcome)
        if outcomes:
            with self._changed:
                self._untold -= len(outcomes)
                self._changed.notify_all()

    def _send_again(self, batch: Batch) -> None:
        """Queues a batch with the sequence it has."""
        self._resend.append(batch)
        self._resend.sort(key=lambda each: each.sequence)

    def _put_back(self, batch: Batch) -> None:
        """Queues a batch that is certainly not stored, for a new sequence."""
        batch.in_doubt = False
        batch.sequence = 0
        place = sum(1 for each in self._pending if each.order < batch.order)
        self._pending.insert(place, batch)

    # Requests: gRPC's thread.

    def _requests(self, stream: _Stream) -> Iterator[bytes]:
        while (message := self._next_message(stream)) is not None:
            yield message

    def _next_message(self, stream: _Stream) -> bytes | None:
        with self._changed:
            while not stream.ended and not (self._closing and self._count() == 0):
                pause = self._hold_until - time.monotonic()
                batch = self._take() if self._connected and pause <= 0 else None
                if batch is not None:
                    stream.sent += 1
                    return self._message(batch)
                self._changed.wait(pause if pause > 0 else None)
        return None

    def _take(self) -> Batch | None:
        """Moves the next batch to those in flight."""
        if len(self._in_flight) >= (1 if self._isolating else self._max_in_flight):
            return None
        if self._resend:
            batch = self._resend.pop(0)
        elif self._pending and self._sequence + 1 - min(self._in_flight, default=self._sequence + 1) < MAX_IN_FLIGHT:
            batch = self._pending.popleft()
            self._sequence += 1
            batch.sequence = self._sequence
        else:
            return None
        self._in_flight[batch.sequence] = batch
        return batch

    def _message(self, batch: Batch) -> bytes:
        """The request: concatenated encodings of a protobuf message are the encoding of the merged message."""
        head = ingestion_pb2.WriteBatchRequest(
            batch_id=batch.sequence,
            producer_id=self._producer_id,
            producer_epoch=self._producer_epoch,
            sequence=batch.sequence,
        )
        return head.SerializeToString() + batch.body

    # Answers: the sender's own thread.

    def _on_connectivity(self, state: grpc.ChannelConnectivity) -> None:
        with self._changed:
            self._connected = state is grpc.ChannelConnectivity.READY
            self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._count() > 0 or self._closing)
                if self._count() == 0:
                    return
            stream = _Stream()
            try:
                metadata = self._credential.metadata()
            except Exception as error:
                self._give_up(AuthenticationError, f"the token provider failed: {error!r}")
                continue
            try:
                ended_by = self._exchange(stream, metadata)
                self._after(stream, ended_by)
            except Exception as error:  # a defect; nobody may wait for ever because of it
                logger.exception("the sender failed")
                self._give_up(IngestorError, f"the sender failed: {error!r}")

    def _exchange(self, stream: _Stream, metadata: Metadata) -> grpc.RpcError | RefusedError | None:
        """Runs one stream to its end and returns why it ended; None: the server ended it without an error."""
        with self._changed:
            call = self._call = self._method(self._requests(stream), metadata=metadata)
        try:
            for response in call:
                unknown = self._on_response(stream, response)
                if unknown is not None:
                    return unknown
        except grpc.RpcError as error:
            return error
        finally:
            with self._changed:
                stream.ended = True
                self._call = None
                self._changed.notify_all()
            call.cancel()
        return None

    def _on_response(self, stream: _Stream, response: ingestion_pb2.WriteBatchResponse) -> RefusedError | None:
        """Handles an answer. Returns the error after which the stream must be given up."""
        with self._changed:
            batch = self._in_flight.get(response.batch_id)
            if batch is None:
                return None  # its deadline has passed, the caller was told
            stream.answers += 1
            if response.HasField("ack"):
                self._failures = 0
                outcomes = [self._resolve(batch, _ack(response.ack, batch))]
            else:
                refused = refusal(response.error, batch.record, maybe_stored=batch.in_doubt)
                if refused.code is ErrorCode.OUTCOME_UNKNOWN:
                    return refused  # it stays in flight, and is in doubt when the stream ends
                outcomes = self._on_refusal(batch, refused)
            if not self._resend:
                self._isolating = False
            self._changed.notify_all()
        self._tell(outcomes)
        return None

    def _on_refusal(self, batch: Batch, refused: RefusedError) -> list[_Outcome]:
        """Queues the batch again where that helps. See the module's comment, 4 and 5, for its sequence."""
        if refused.code in _RETRYABLE:
            self._last_error = str(refused)
            self._failures += 1
            delay = self._retry.delay_seconds(self._failures, random.random())
            self._hold_until = time.monotonic() + max(delay, refused.retry_delay_seconds * (1 + random.random() / 4))
            del self._in_flight[batch.sequence]
            (self._send_again if batch.in_doubt else self._put_back)(batch)
        elif refused.code is ErrorCode.SEQUENCE_OUT_OF_ORDER and batch.in_doubt:
            del self._in_flight[batch.sequence]
            self._put_back(batch)
        else:
            return [self._resolve(batch, refused)]
        return []

    def _after(self, stream: _Stream, error: grpc.RpcError | RefusedError | None) -> None:
        """Decides what to do once a stream has ended."""
        code, text = _reason(error)
        # A stream that was refused as such was refused before its first batch was looked at.
        looked_at = code not in _FATAL or stream.answers > 0
        with self._changed:
            stream.unanswered = len(self._in_flight)
            for batch in self._in_flight.values():
                batch.in_doubt |= looked_at
                self._send_again(batch)
            self._in_flight.clear()
            if self._count() == 0:
                return
            self._last_error = f"{code.name}: {text}"
            self._failures = 1 if stream.answers else self._failures + 1
            delay = self._retry.delay_seconds(self._failures, random.random())
            outcomes = self._judge(stream, code, text)
            left = self._count()
        self._tell(outcomes)
        if left == 0:
            return
        logger.warning("stream ended (%s: %s); %d batches outstanding, again in %.2f s", code.name, text, left, delay)
        with self._changed:
            self._changed.wait_for(lambda: self._count() == 0, delay)

    def _judge(self, stream: _Stream, code: grpc.StatusCode, text: str) -> list[_Outcome]:
        """Fails those batches that another stream would not help."""
        if code is grpc.StatusCode.UNAUTHENTICATED and self._credential.renewable and self._failures == 1:
            return []  # the token may have expired; the next stream asks for a new one
        if code in _FATAL:
            return self._fail_all(lambda doubt: fatal(code, text, maybe_stored=doubt))
        too_large = code is grpc.StatusCode.RESOURCE_EXHAUSTED and "larger than max" in text.lower()
        if passes(code) or (code is grpc.StatusCode.RESOURCE_EXHAUSTED and not too_large):
            return []
        if stream.sent == 0:
            return self._fail_all(lambda doubt: fatal(code, text, maybe_stored=doubt))
        # One of the batches kills the stream. Alone on a stream, it is convicted.
        outcomes = []
        if stream.unanswered == 1 and self._resend:
            verdict = RefusedError(ErrorCode.TOO_LARGE, text) if too_large else fatal(code, text, maybe_stored=True)
            outcomes.append(self._resolve(self._resend[0], verdict))
        self._isolating = bool(self._resend)
        return outcomes

    def _give_up(self, kind: type[IngestorError], message: str) -> None:
        with self._changed:
            # A batch in flight was sent by this very stream, and its fate is as open as that of one in doubt.
            outcomes = self._fail_all(lambda doubt: kind(message, maybe_stored=doubt))
        self._tell(outcomes)


def _ack(ack: common_pb2.Ack, batch: Batch) -> Ack | IngestorError:
    """The answer to give; an error where the batch was taken for another one's repetition, and so is not stored."""
    if ack.duplicate and not batch.in_doubt:
        return IngestorError("not stored: another client has used this producer id and epoch; take a higher epoch")
    return Ack(AckLevel.of(ack.level), ack.first_lsn, ack.last_lsn, ack.record_count, ack.duplicate)


def _reason(error: grpc.RpcError | RefusedError | None) -> tuple[grpc.StatusCode, str]:
    if error is None:
        return grpc.StatusCode.UNAVAILABLE, "the server ended the stream"
    if isinstance(error, RefusedError):
        return grpc.StatusCode.UNKNOWN, str(error)
    return status_of(error)
