"""The client."""

from __future__ import annotations

import atexit
import os
import secrets
import threading
import time
import weakref
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from datetime import datetime
from types import TracebackType
from typing import Any
from uuid import UUID

from ingestor_client._clock import Clock
from ingestor_client._columns import AttributeValues, Columns, EventIds, Payloads, Timestamps, columns_of
from ingestor_client._connection import TLS, Credential, Retry, TokenProvider, logger, open_channel
from ingestor_client._frames import TableMapping, arrow_table, table_columns
from ingestor_client._rows import JSONEncoder, batch_header, encode_json, encode_rows
from ingestor_client._sender import MAX_IN_FLIGHT, QueueLimits, Sender
from ingestor_client.batcher import Batcher, OnAck, OnError
from ingestor_client.errors import ClientClosedError, DeliveryTimeoutError, IngestorError, InvalidRecordError, combined
from ingestor_client.metrics import Metric, MetricsAck, MetricsCaller, MetricType, metrics_request
from ingestor_client.record import Ack, AckLevel, RecordLike

DEFAULT_TARGET = "localhost:9090"
JSON = "application/json"


class Client:
    """Sends records and metrics to one server. Use it as a context manager, or call close().

    All methods are safe for use by several threads at the same time. A client does not survive a fork: make one in
    each process. Its repr and its logs never show the credential.

    Every batch goes out over one stream, under one producer id, with a sequence. A batch whose answer was lost is sent
    again with the same sequence, until its delivery timeout, and the server stores it once.
    """

    def __init__(
        self,
        target: str = DEFAULT_TARGET,
        *,
        api_key: str | TokenProvider | None = None,
        tls: TLS | bool = False,
        producer_id: UUID | bytes | None = None,
        producer_epoch: int = 0,
        ack_level: AckLevel = AckLevel.WAL_SYNCED,
        delivery_timeout: float = 60.0,
        block_timeout: float | None = None,
        retry: Retry | None = None,
        max_in_flight: int = MAX_IN_FLIGHT,
        max_queue_bytes: int = 64 << 20,
        max_queue_batches: int = 1024,
        max_batch_rows: int = 10_000,
        max_batch_bytes: int = 1 << 20,
        max_delay: float = 0.05,
        json_encoder: JSONEncoder = encode_json,
        channel_options: Sequence[tuple[str, Any]] = (),
    ) -> None:
        """Connects when it is first used.

        Args:
            target: The server's gRPC address, "host:port".
            api_key: An API key or JWT, or a function that returns the one to use now (called for each stream and each
                metrics call, and again after it was refused). None: the environment's INGESTOR_API_KEY.
            tls: True, or a TLS with files. False: clear text, meant for the same host.
            producer_id: None: 16 random bytes, right for nearly all programs. A fixed one asks for a producer_epoch
                that is higher for each new client with that id, and above 0: a repeated epoch repeats sequences.
            producer_epoch: See producer_id.
            ack_level: What an answer shall mean, where a call does not say.
            delivery_timeout: Seconds from the taking of a batch until its delivery is given up.
            block_timeout: Seconds that calls wait for room in the full queue; None: as long as it takes.
            retry: Waits between attempts.
            max_in_flight: Batches sent and unanswered, at most 64.
            max_queue_bytes: Bytes taken and unanswered, beyond which calls wait.
            max_queue_batches: Batches taken and unanswered, beyond which calls wait.
            max_batch_rows: Default of batchers and of write_dataframe and write_arrow.
            max_batch_bytes: Default of batchers.
            max_delay: Default of batchers, in seconds.
            json_encoder: Encodes payloads that are neither bytes nor text.
            channel_options: More options for the gRPC channel.
        """
        if producer_id is not None and producer_epoch < 1:
            raise ValueError("a fixed producer_id needs a producer_epoch above 0, higher for each new client")
        if delivery_timeout <= 0:
            raise ValueError("delivery_timeout must be above 0")
        self._target = target
        self._producer_id = _producer_bytes(producer_id)
        self._producer_epoch = producer_epoch
        self._ack_level = ack_level
        self._delivery_timeout = delivery_timeout
        self._block_timeout = block_timeout
        self._max_batch_rows = max_batch_rows
        self._max_batch_bytes = max_batch_bytes
        self._max_delay = max_delay
        self._json_encoder = json_encoder

        retry = retry or Retry()
        credential = Credential.of(api_key if api_key is not None else os.environ.get("INGESTOR_API_KEY"))
        self._channel = open_channel(target, tls, retry, channel_options)
        self._clock = Clock()
        self._sender = Sender(
            self._channel,
            credential,
            self._producer_id,
            producer_epoch,
            retry,
            QueueLimits(max_queue_bytes, max_queue_batches),
            self._clock.at,
            max_in_flight,
        )
        self._clock.add(self._sender.expire)
        self._metrics = MetricsCaller(self._channel, credential, retry)
        self._batchers: list[Batcher] = []
        self._default_batchers: dict[str, Batcher] = {}
        self._lock = threading.Lock()  # guards _default_batchers and _closed
        self._closed = False
        _open_clients.add(self)

    def __repr__(self) -> str:
        return f"Client(target={self._target!r}, producer_id={self._producer_id.hex()})"

    def __enter__(self) -> Client:
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

    # Records, as rows.

    def write(
        self,
        endpoint: str,
        records: Iterable[RecordLike],
        *,
        ack_level: AckLevel | None = None,
        content_type: str = JSON,
        timeout: float | None = None,
    ) -> Ack:
        """Sends records as one batch, now, and waits for the answer. The batch is stored whole or not at all.

        Args:
            endpoint: Where the records belong.
            records: Records, or bare payloads.
            ack_level: What the answer shall mean; None: the client's.
            content_type: Of all payloads.
            timeout: Seconds until the delivery is given up; None: the client's delivery_timeout.

        Raises:
            InvalidRecordError: a record cannot be sent; nothing was sent.
            RefusedError: the server refused the batch.
            DeliveryTimeoutError: no positive answer came in time.
            BackpressureError: the queue stayed full for the client's block_timeout.
        """
        return self.submit(endpoint, records, ack_level=ack_level, content_type=content_type, timeout=timeout).result()

    def submit(
        self,
        endpoint: str,
        records: Iterable[RecordLike],
        *,
        ack_level: AckLevel | None = None,
        content_type: str = JSON,
        timeout: float | None = None,
    ) -> Future[Ack]:
        """Like write, but returns at once, with a future. It waits only where the queue is full.

        Callbacks of the future run on the client's own thread: they must be quick and must not wait for other answers.
        """
        rows = encode_rows(list(records), self._json_encoder)
        if not rows:
            raise InvalidRecordError("there are no records")
        return self._submit(self._header(endpoint, ack_level, content_type) + b"".join(rows), timeout)

    def batcher(
        self,
        endpoint: str,
        *,
        max_rows: int | None = None,
        max_bytes: int | None = None,
        max_delay: float | None = None,
        ack_level: AckLevel | None = None,
        content_type: str = JSON,
        block_timeout: float | None = None,
        on_ack: OnAck | None = None,
        on_error: OnError | None = None,
    ) -> Batcher:
        """Gathers single records into batches in the background.

        Args:
            endpoint: Where the records belong.
            max_rows: A batch is sent when it has that many records,
            max_bytes: or would grow beyond that many bytes,
            max_delay: or its first record has waited that many seconds. None: the client's, for each.
            ack_level: What answers shall mean; None: the client's.
            content_type: Of all payloads.
            block_timeout: Seconds that add waits for room in the full queue; None: the client's.
            on_ack: Called with each answer, on the client's own thread: it must be quick.
            on_error: Called with the error of each failed batch, likewise. None: flush and close raise it.
        """
        batcher = Batcher(
            self._header(endpoint, ack_level, content_type),
            self._submit_batch,
            self._clock.at,
            self._json_encoder,
            max_rows=self._max_batch_rows if max_rows is None else max_rows,
            max_bytes=self._max_batch_bytes if max_bytes is None else max_bytes,
            max_delay=self._max_delay if max_delay is None else max_delay,
            block_timeout=self._block_timeout if block_timeout is None else block_timeout,
            on_ack=on_ack,
            on_error=on_error,
            on_close=self._forget,
        )
        self._batchers.append(batcher)
        self._clock.add(batcher.ship_due)
        return batcher

    def send(self, endpoint: str, record: RecordLike) -> Future[Ack]:
        """Adds a record to the endpoint's own batcher, which has the client's default limits. See Batcher.add.

        Failed batches are raised by the client's flush and close.
        """
        batcher = self._default_batchers.get(endpoint)
        if batcher is None:
            with self._lock:
                batcher = self._default_batchers.get(endpoint)
                if batcher is None:
                    batcher = self._default_batchers[endpoint] = self.batcher(endpoint)
        return batcher.add(record)

    # Records, as columns.

    def write_columns(
        self,
        endpoint: str,
        timestamps: Timestamps,
        payloads: Payloads,
        *,
        event_ids: EventIds | None = None,
        versions: int | Sequence[int] = 0,
        attributes: Mapping[str, AttributeValues] | None = None,
        ack_level: AckLevel | None = None,
        content_type: str = JSON,
        timeout: float | None = None,
    ) -> Ack:
        """Sends columns of equal length as one batch, and waits for the answer.

        Numpy arrays, bytes and Blobs go out without work per row.

        Args:
            endpoint: Where the records belong.
            timestamps: Integers (nanoseconds since the Unix epoch), aware datetimes, a numpy array, or bytes.
            payloads: One a row, or a Blob.
            event_ids: UUIDs or bytes; None: new UUIDv7s.
            versions: One for all, or one a row.
            attributes: For each key one value a row, or a Blob.
            ack_level: As in write.
            content_type: As in write.
            timeout: As in write.

        Raises:
            IngestorError: as write.
        """
        columns = columns_of(timestamps, payloads, event_ids, versions, attributes, self._json_encoder)
        if len(columns) == 0:
            raise InvalidRecordError("there are no records")
        return self._submit_columns(columns, endpoint, ack_level, content_type, timeout).result()

    def write_dataframe(
        self,
        frame: Any,
        endpoint: str,
        *,
        timestamp_column: str,
        payload_column: str | None = None,
        payload_columns: Sequence[str] | None = None,
        event_id_column: str | None = None,
        attribute_columns: Sequence[str] = (),
        max_rows: int | None = None,
        ack_level: AckLevel | None = None,
        content_type: str = JSON,
        timeout: float | None = None,
    ) -> list[Ack]:
        """Sends a DataFrame of pandas or polars in batches of at most max_rows, and waits for all answers.

        It needs pyarrow. Timestamps without zone are taken as UTC. Without payload_column, the payload of a row is a
        JSON object of payload_columns, or of all columns not used otherwise; that is the only work per row, about a
        microsecond for each row and three columns.

        Args:
            frame: The DataFrame. pandas' index is not sent.
            endpoint: Where the records belong.
            timestamp_column: Of datetimes, or of integers (nanoseconds since the Unix epoch).
            payload_column: Of bytes or text, sent as they are.
            payload_columns: Columns of the JSON object.
            event_id_column: Of 16 bytes or UUIDs as text; without it, new UUIDv7s.
            attribute_columns: Columns that become attributes. A missing value or empty text: no such attribute.
            max_rows: Rows in a batch; None: the client's max_batch_rows.
            ack_level: As in write.
            content_type: As in write.
            timeout: As in write, for each batch.

        Returns:
            The answers, in the order of the rows.

        Raises:
            IngestorError: as write. Where several batches failed, batch_errors has an error for each; the other batches
                are stored.
        """
        return self.write_arrow(
            arrow_table(frame),
            endpoint,
            timestamp_column=timestamp_column,
            payload_column=payload_column,
            payload_columns=payload_columns,
            event_id_column=event_id_column,
            attribute_columns=attribute_columns,
            max_rows=max_rows,
            ack_level=ack_level,
            content_type=content_type,
            timeout=timeout,
        )

    def write_arrow(
        self,
        table: Any,
        endpoint: str,
        *,
        timestamp_column: str,
        payload_column: str | None = None,
        payload_columns: Sequence[str] | None = None,
        event_id_column: str | None = None,
        attribute_columns: Sequence[str] = (),
        max_rows: int | None = None,
        ack_level: AckLevel | None = None,
        content_type: str = JSON,
        timeout: float | None = None,
    ) -> list[Ack]:
        """Sends an Arrow table or record batch. See write_dataframe."""
        mapping = TableMapping(timestamp_column, payload_column, payload_columns, event_id_column, attribute_columns)
        rows = self._max_batch_rows if max_rows is None else max_rows
        if rows < 1:
            raise ValueError("max_rows must be above 0")
        futures = [
            self._submit_columns(columns, endpoint, ack_level, content_type, timeout)
            for columns in table_columns(arrow_table(table), mapping, rows, self._json_encoder)
        ]
        return _results(futures)

    # Metrics.

    def log_metric(
        self,
        service: str,
        name: str,
        value: float,
        *,
        labels: Mapping[str, str] | None = None,
        instance: str = "",
        timestamp: datetime | int | None = None,
        unit: str = "",
        type: MetricType = MetricType.GAUGE,
        ack_level: AckLevel = AckLevel.BUFFERED,
        timeout: float | None = None,
    ) -> MetricsAck:
        """Sends one value. See log_metrics."""
        metric = Metric(name, value, labels or {}, timestamp, unit, type)
        return self.log_metrics(service, [metric], instance=instance, ack_level=ack_level, timeout=timeout)

    def log_metrics(
        self,
        service: str,
        metrics: Iterable[Metric],
        *,
        instance: str = "",
        ack_level: AckLevel = AckLevel.BUFFERED,
        timeout: float | None = None,
    ) -> MetricsAck:
        """Sends values of one service in one call, and waits for the answer. All of them are taken, or none.

        Metrics have no sequence: after a lost connection the call is repeated, and the values may be stored twice, with
        equal timestamps. Send them as records where each one must be stored exactly once.

        Args:
            service: The service that was measured.
            metrics: The values.
            instance: Host, pod or process.
            ack_level: BUFFERED, or COMMITTED to wait for the database. WAL_SYNCED is refused.
            timeout: Seconds until it is given up; None: the client's delivery_timeout.

        Raises:
            InvalidRecordError: a value cannot be sent; nothing was sent.
            RefusedError: the server refused the call.
            DeliveryTimeoutError: no positive answer came in time.
        """
        listed = list(metrics)
        request = metrics_request(service, listed, instance, ack_level)
        if self._closed or self._sender.is_forked():
            raise ClientClosedError("the client is closed, or was made before a fork")
        return self._metrics.log(request, self._delivery_timeout if timeout is None else timeout)

    # Lifetime.

    def flush(self, timeout: float | None = None) -> None:
        """Sends what batchers have gathered, and waits until everything taken so far is answered.

        Raises:
            IngestorError: batches of a batcher without on_error failed.
            DeliveryTimeoutError: the time was up.
        """
        end = None if timeout is None else time.monotonic() + timeout
        errors = []
        for batcher in list(self._batchers):
            try:
                batcher.flush(_left(end))
            except IngestorError as error:
                errors.append(error)
        if not self._sender.flush(_left(end)) and not errors:
            raise DeliveryTimeoutError("not all batches were answered in time", maybe_stored=True)
        if errors:
            raise combined(errors)

    def close(self, timeout: float | None = None) -> None:
        """Flushes, then ends the stream and the threads. May be called again.

        Raises:
            IngestorError: as flush. The client is closed all the same.
        """
        if self._sender.is_forked():
            return  # it is the parent's to close
        with self._lock:
            if self._closed:
                return
            self._closed = True
        end = None if timeout is None else time.monotonic() + timeout
        errors = []
        for batcher in list(self._batchers):
            try:
                batcher.close(_left(end))
            except IngestorError as error:
                errors.append(error)
        self._sender.close(_left(end))
        self._clock.close()
        self._channel.close()
        _open_clients.discard(self)
        if errors:
            raise combined(errors)

    # Inside.

    def _header(self, endpoint: str, ack_level: AckLevel | None, content_type: str) -> bytes:
        return batch_header(endpoint, self._ack_level if ack_level is None else ack_level, content_type)

    def _submit(self, body: bytes, timeout: float | None) -> Future[Ack]:
        return self._sender.submit(body, self._delivery_timeout if timeout is None else timeout, self._block_timeout)

    def _submit_batch(self, body: bytes, block_timeout: float | None) -> Future[Ack]:
        return self._sender.submit(body, self._delivery_timeout, block_timeout)

    def _submit_columns(
        self, columns: Columns, endpoint: str, ack_level: AckLevel | None, content_type: str, timeout: float | None
    ) -> Future[Ack]:
        return self._submit(self._header(endpoint, ack_level, content_type) + columns.encode(), timeout)

    def _forget(self, batcher: Batcher) -> None:
        self._clock.remove(batcher.ship_due)
        self._batchers.remove(batcher)


def _producer_bytes(producer_id: UUID | bytes | None) -> bytes:
    if producer_id is None:
        return secrets.token_bytes(16)
    encoded = producer_id.bytes if isinstance(producer_id, UUID) else producer_id
    if len(encoded) != 16:
        raise ValueError(f"producer_id must have 16 bytes, has {len(encoded)}")
    return encoded


def _results(futures: Sequence[Future[Ack]]) -> list[Ack]:
    errors = [error for future in futures if isinstance(error := future.exception(), IngestorError)]
    if errors:
        raise combined(errors)
    return [future.result() for future in futures]


def _left(end: float | None) -> float | None:
    return None if end is None else max(0.0, end - time.monotonic())


_open_clients: weakref.WeakSet[Client] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    """Gives clients that nobody closed a last chance to send what they have taken."""
    for client in list(_open_clients):
        try:
            client.close(timeout=10.0)
        except IngestorError as error:
            logger.error("at exit: %s", error)
