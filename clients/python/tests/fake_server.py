"""A server in this process that keeps the protocol's promises, and breaks connections where a test asks for it.

It shares no code with the client but the generated messages.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage

from ingestor_client._proto.ingestor_client import status_pb2
from ingestor_client._proto.metrics.v1 import metrics_pb2
from ingestor_client._proto.storage import common_pb2, ingestion_pb2

Request = ingestion_pb2.WriteBatchRequest
Response = ingestion_pb2.WriteBatchResponse
BatchError = common_pb2.BatchError
Hook = Callable[["FakeServer", Request], BatchError | str | None]
"""Looks at a batch before it is stored. A BatchError refuses it; "drop" stores it and breaks the stream without an
answer; "lose" breaks the stream without storing it; "silent" stores it and never answers; "ignore" neither stores nor
answers it."""

WINDOW = 128


@dataclass
class _Producer:
    last: int = 0
    stored: OrderedDict[int, int] = field(default_factory=OrderedDict)  # sequence -> first LSN


class FakeServer:
    """Stores batches in memory, with the server's rules for sequences."""

    def __init__(self, api_key: str = "test-key", port: int = 0) -> None:
        self.api_key = api_key
        self.hook: Hook = lambda server, request: None
        self.stored: list[Request] = []
        self.received: list[Request] = []
        self.metrics: list[metrics_pb2.LogMetricsRequest] = []
        self.metric_errors: list[tuple[grpc.StatusCode, BatchError | None]] = []
        self.streams = 0
        self.authorizations: list[str] = []
        self._producers: dict[tuple[bytes, int], _Producer] = {}
        self._contexts: set[grpc.ServicerContext] = set()
        self._lsn = 1
        self._lock = threading.Lock()
        self._grpc: Any = None
        self.port = port
        self.start()

    @property
    def target(self) -> str:
        return f"localhost:{self.port}"

    def start(self) -> None:
        """Listens, again on the same port after stop(). What was stored stays."""
        self._pool = ThreadPoolExecutor(max_workers=16)
        options = [("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", 4 << 20)]
        self._grpc = grpc.server(self._pool, options=options)
        ingestion = grpc.stream_stream_rpc_method_handler(
            self._write_stream, Request.FromString, Response.SerializeToString
        )
        metric = grpc.unary_unary_rpc_method_handler(
            self._log_metric,
            metrics_pb2.LogMetricsRequest.FromString,
            metrics_pb2.LogMetricsResponse.SerializeToString,
        )
        self._grpc.add_generic_rpc_handlers(
            (
                grpc.method_handlers_generic_handler("storage.IngestionService", {"WriteStream": ingestion}),
                grpc.method_handlers_generic_handler("metrics.v1.MetricsService", {"LogMetric": metric}),
            )
        )
        self.port = self._grpc.add_insecure_port(f"localhost:{self.port}")
        self._grpc.start()

    def stop(self) -> None:
        """Breaks all connections."""
        self._grpc.stop(None).wait()
        self._pool.shutdown(wait=True)

    def break_streams(self) -> None:
        """Ends all streams with an error, and leaves their connections open."""
        for context in list(self._contexts):
            context.cancel()

    def event_ids(self) -> list[bytes]:
        """The ids of all stored records, in the order of storing."""
        return [event_id for request in self.stored for event_id in event_ids(request)]

    def _check_credential(self, context: grpc.ServicerContext) -> None:
        metadata = dict(context.invocation_metadata())
        authorization = str(metadata.get("authorization", ""))
        self.authorizations.append(authorization)
        if authorization != f"Bearer {self.api_key}":
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "unknown credential")

    def _write_stream(self, requests: Iterator[Request], context: grpc.ServicerContext) -> Iterator[Response]:
        self._check_credential(context)
        self.streams += 1
        self._contexts.add(context)
        context.add_callback(lambda: self._contexts.discard(context))
        for request in requests:
            self.received.append(request)
            verdict = self.hook(self, request)
            if isinstance(verdict, BatchError):
                yield Response(batch_id=request.batch_id, error=verdict)
            elif verdict == "ignore":
                continue
            elif verdict == "lose":
                context.abort(grpc.StatusCode.UNAVAILABLE, "lost")
            else:
                response = self._store(request)
                if verdict == "drop":
                    context.abort(grpc.StatusCode.UNAVAILABLE, "dropped")
                if verdict != "silent":
                    yield response

    def _store(self, request: Request) -> Response:
        count = len(event_ids(request))
        with self._lock:
            producer = self._producers.setdefault((request.producer_id, request.producer_epoch), _Producer())
            first = producer.stored.get(request.sequence)
            duplicate = first is not None
            if first is None:
                if request.sequence <= producer.last:
                    return Response(batch_id=request.batch_id, error=refuse("SEQUENCE_OUT_OF_ORDER"))
                first = self._lsn
                self._lsn += count
                producer.last = request.sequence
                producer.stored[request.sequence] = first
                if len(producer.stored) > WINDOW:
                    producer.stored.popitem(last=False)
                self.stored.append(request)
        ack = common_pb2.Ack(
            level=request.ack_level,
            first_lsn=first,
            last_lsn=first + count - 1,
            record_count=count,
            duplicate=duplicate,
        )
        return Response(batch_id=request.batch_id, ack=ack)

    def _log_metric(
        self, request: metrics_pb2.LogMetricsRequest, context: grpc.ServicerContext
    ) -> metrics_pb2.LogMetricsResponse:
        self._check_credential(context)
        if self.metric_errors:
            code, error = self.metric_errors.pop(0)
            if error is not None:
                packed = AnyMessage()
                packed.Pack(error)
                status = status_pb2.Status(code=code.value[0], message=error.message, details=[packed])
                context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
            context.abort(code, error.message if error is not None else "no details")
        self.metrics.append(request)
        return metrics_pb2.LogMetricsResponse(level=request.ack_level, accepted_count=len(request.metrics))


def event_ids(request: Request) -> list[bytes]:
    """The ids of a batch, rows or columns."""
    if request.HasField("columns"):
        ids = request.columns.event_ids
        return [ids[start : start + 16] for start in range(0, len(ids), 16)]
    return [record.event_id for record in request.records]


def refuse(name: str, **fields: Any) -> BatchError:
    """A BatchError by the name of its code, without prefix."""
    return BatchError(code=f"ERROR_CODE_{name}", message=name.lower(), **fields)
