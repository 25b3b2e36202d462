"""One batch between submission and its final answer."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from ingestor_client._proto.storage import common_pb2, ingestion_pb2
from ingestor_client.record import Ack, Record


@dataclass(eq=False, slots=True)
class Batch:
    """A batch as the sender keeps it.

    Attributes:
        order: Its place among all submitted batches.
        body: The encoded WriteBatchRequest, without batch id and producer.
        deadline: Monotonic time at which its delivery is given up.
        future: Where its answer goes.
        sequence: The producer's sequence; 0: none yet.
        in_doubt: True where an earlier attempt may have stored it.
    """

    order: int
    body: bytes
    deadline: float
    future: Future[Ack]
    sequence: int = 0
    in_doubt: bool = False

    def record(self, index: int) -> Record | None:
        """The record at index, decoded from the body."""
        request = ingestion_pb2.WriteBatchRequest.FromString(self.body)
        if request.records:
            if index >= len(request.records):
                return None
            row = request.records[index]
            return Record(row.payload, row.timestamp_unix_nano, row.event_id, row.version, dict(row.attributes))
        return _column_record(request.columns, index)


def _column_record(columns: common_pb2.RecordColumns, index: int) -> Record | None:
    if index >= len(columns.payload_lengths) or index >= len(columns.timestamps_unix_nano):
        return None

    def value(data: bytes, lengths: Any) -> bytes:
        start = sum(lengths[:index])
        return data[start : start + lengths[index]]

    attributes = {
        column.key: value(column.values, column.value_lengths).decode(errors="replace")
        for column in columns.attributes
        if index < len(column.value_lengths) and column.value_lengths[index]
    }
    return Record(
        value(columns.payloads, columns.payload_lengths),
        columns.timestamps_unix_nano[index],
        columns.event_ids[16 * index : 16 * index + 16],
        columns.versions[index] if index < len(columns.versions) else 0,
        attributes,
    )
