"""Gathers single records into batches in the background."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from types import TracebackType
from typing import Protocol

from ingestor_client._connection import logger
from ingestor_client._rows import JSONEncoder, encode_row
from ingestor_client.errors import BackpressureError, ClientClosedError, DeliveryTimeoutError, IngestorError, combined
from ingestor_client.record import Ack, RecordLike

OnAck = Callable[[Ack], None]
OnError = Callable[[IngestorError], None]


class Submit(Protocol):
    """Takes an encoded batch; block_timeout as in Client.submit."""

    def __call__(self, body: bytes, block_timeout: float | None) -> Future[Ack]:
        """Takes a batch."""
        ...


class Batcher:
    """Gathers the records of one endpoint and sends a batch when max_rows or max_bytes is reached, or when its first
    record has waited for max_delay.

    Made by Client.batcher(). Safe for use by several threads; records of one thread keep their order. Use it as a
    context manager: its end flushes, and raises where a batch failed.
    """

    def __init__(
        self,
        header: bytes,
        submit: Submit,
        at: Callable[[float], None],
        json_encoder: JSONEncoder,
        *,
        max_rows: int,
        max_bytes: int,
        max_delay: float,
        block_timeout: float | None,
        on_ack: OnAck | None,
        on_error: OnError | None,
        on_close: Callable[[Batcher], None],
    ) -> None:
        if max_rows < 1 or max_bytes < 1 or max_delay < 0:
            raise ValueError("need max_rows >= 1, max_bytes >= 1 and max_delay >= 0")
        self._header = header
        self._submit = submit
        self._at = at
        self._json_encoder = json_encoder
        self._max_rows = max_rows
        self._max_bytes = max_bytes
        self._max_delay = max_delay
        self._block_timeout = block_timeout
        self._on_ack = on_ack
        self._on_error = on_error
        self._on_close = on_close

        self._lock = threading.RLock()  # guards what follows; held while a batch waits for room
        self._rows: list[bytes] = []
        self._size = 0
        self._oldest = 0.0
        self._future = _promise()
        self._closed = False

        self._settled = threading.Condition()  # guards what follows
        self._unsettled: set[Future[Ack]] = set()
        self._errors: list[IngestorError] = []

    def add(self, record: RecordLike) -> Future[Ack]:
        """Adds a record and returns the future of the batch that it will travel in.

        Blocks while the client's queue is full. The future is shared by all records of the batch.

        Raises:
            InvalidRecordError: the record cannot be sent; nothing was added.
            BackpressureError: the queue stayed full for block_timeout; the record was not added.
            ClientClosedError: the batcher or its client is closed.
        """
        row = encode_row(record, self._json_encoder)
        with self._lock:
            if self._closed:
                raise ClientClosedError("the batcher is closed")
            if self._rows and (len(self._rows) >= self._max_rows or self._size + len(row) > self._max_bytes):
                self._ship(self._block_timeout)
            if not self._rows:
                self._oldest = time.monotonic()
                self._at(self._oldest + self._max_delay)
            self._rows.append(row)
            self._size += len(row)
            future = self._future
            if len(self._rows) >= self._max_rows or self._size >= self._max_bytes:
                self._ship_if_room()
        return future

    def flush(self, timeout: float | None = None) -> None:
        """Sends what is gathered and waits for all answers.

        Raises:
            IngestorError: batches failed since the last flush, and there is no on_error. It is the batch's error, or
                one whose batch_errors holds several.
            DeliveryTimeoutError: the answers did not come within timeout seconds. They may come later.
        """
        end = None if timeout is None else time.monotonic() + timeout
        with self._lock:
            if self._rows:
                self._ship(_left(end))
        with self._settled:
            done = self._settled.wait_for(lambda: not self._unsettled, _left(end))
            errors, self._errors = self._errors, []
        if errors:
            raise combined(errors)
        if not done:
            raise DeliveryTimeoutError("not all batches were answered in time", maybe_stored=True)

    def close(self, timeout: float | None = None) -> None:
        """Takes no more records, then does what flush does. May be called again."""
        with self._lock:
            closed, self._closed = self._closed, True
        try:
            self.flush(timeout)
        finally:
            self._abandon()
            if not closed:
                self._on_close(self)

    def __enter__(self) -> Batcher:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except IngestorError as failed:
            if error is None:
                raise
            logger.error("batches failed while another error was raised: %s", failed)

    def ship_due(self, now: float) -> float | None:
        """For the client's clock: sends a batch that has waited long enough, and returns when to ask again."""
        if not self._lock.acquire(blocking=False):
            return now + self._max_delay  # somebody is adding, or waits for room
        try:
            if not self._rows:
                return None
            due = self._oldest + self._max_delay
            if now < due:
                return due
            return None if self._ship_if_room() else now + max(self._max_delay, 0.01)
        finally:
            self._lock.release()

    def _ship_if_room(self) -> bool:
        try:
            self._ship(0)
        except BackpressureError:
            return False
        except IngestorError as error:
            logger.warning("a batch stays in its batcher: %s", error)
        return True

    def _ship(self, block_timeout: float | None) -> None:
        """Hands the rows to the sender. They stay here where it raises. Requires the lock."""
        sent = self._submit(self._header + b"".join(self._rows), block_timeout)
        future, self._future = self._future, _promise()
        self._rows = []
        self._size = 0
        with self._settled:
            self._unsettled.add(future)
        sent.add_done_callback(lambda answered: self._settle(future, answered))

    def _abandon(self) -> None:
        """Fails the rows that could not be handed over, when the batcher closes."""
        with self._lock:
            if self._rows:
                self._rows = []
                self._size = 0
                self._future.set_exception(ClientClosedError("closed before the batch was sent"))

    def _settle(self, future: Future[Ack], answered: Future[Ack]) -> None:
        error = answered.exception()
        try:
            if error is None:
                future.set_result(answered.result())
                if self._on_ack is not None:
                    self._on_ack(answered.result())
            else:
                future.set_exception(error)
                if self._on_error is not None and isinstance(error, IngestorError):
                    self._on_error(error)
        finally:
            with self._settled:
                self._unsettled.discard(future)
                if self._on_error is None and isinstance(error, IngestorError):
                    self._errors.append(error)
                self._settled.notify_all()


def _promise() -> Future[Ack]:
    """A future that callers cannot cancel."""
    future: Future[Ack] = Future()
    future.set_running_or_notify_cancel()
    return future


def _left(end: float | None) -> float | None:
    return None if end is None else max(0.0, end - time.monotonic())
