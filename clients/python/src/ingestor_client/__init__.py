"""Client of Ingestor: sends batches of records and metrics over gRPC.

    from ingestor_client import Client

    with Client("localhost:9090", api_key="ik_...") as client:
        ack = client.write("orders", [{"id": 1}, {"id": 2}])

An Ack at level WAL_SYNCED, the default, means that the records are on the server's disk. A batch whose answer was lost
is sent again by itself and stored once.
"""

from ingestor_client._columns import Blob
from ingestor_client._connection import TLS, Retry
from ingestor_client.batcher import Batcher
from ingestor_client.client import Client
from ingestor_client.errors import (
    AuthenticationError,
    BackpressureError,
    ClientClosedError,
    ConnectionFailedError,
    DeliveryTimeoutError,
    ErrorCode,
    IngestorError,
    InvalidRecordError,
    PermissionDeniedError,
    ProducerFencedError,
    RefusedError,
)
from ingestor_client.metrics import Metric, MetricsAck, MetricType
from ingestor_client.record import Ack, AckLevel, Record
from ingestor_client.uuid7 import uuid7

__version__ = "0.1.0"

__all__ = [
    "TLS",
    "Ack",
    "AckLevel",
    "AuthenticationError",
    "BackpressureError",
    "Batcher",
    "Blob",
    "Client",
    "ClientClosedError",
    "ConnectionFailedError",
    "DeliveryTimeoutError",
    "ErrorCode",
    "IngestorError",
    "InvalidRecordError",
    "Metric",
    "MetricType",
    "MetricsAck",
    "PermissionDeniedError",
    "ProducerFencedError",
    "Record",
    "RefusedError",
    "Retry",
    "uuid7",
]
