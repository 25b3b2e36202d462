"""Columns, DataFrames and Arrow tables: every value arrives, in its row, and bad ones are named."""

from __future__ import annotations

import json
import random
from array import array
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from conftest import Connect
from fake_server import FakeServer

from ingestor_client import Blob, InvalidRecordError, uuid7
from ingestor_client._columns import columns_of
from ingestor_client._proto.storage import common_pb2, ingestion_pb2


def split(data: bytes, lengths: Any) -> list[bytes]:
    values, start = [], 0
    for length in lengths:
        values.append(data[start : start + length])
        start += length
    assert start == len(data)
    return values


def rows(columns: common_pb2.RecordColumns) -> list[tuple[bytes, int, int, bytes, dict[str, str]]]:
    """The rows that the server would see."""
    payloads = split(columns.payloads, columns.payload_lengths)
    attributes = {column.key: split(column.values, column.value_lengths) for column in columns.attributes}
    assert len(columns.timestamps_unix_nano) == len(payloads)
    assert len(columns.event_ids) == 16 * len(payloads)
    assert len(columns.versions) in (0, len(payloads))
    return [
        (
            columns.event_ids[16 * index : 16 * index + 16],
            columns.timestamps_unix_nano[index],
            columns.versions[index] if columns.versions else 0,
            payload,
            {key: values[index].decode() for key, values in attributes.items() if values[index]},
        )
        for index, payload in enumerate(payloads)
    ]


def decoded(columns: Any) -> list[tuple[bytes, int, int, bytes, dict[str, str]]]:
    return rows(ingestion_pb2.WriteBatchRequest.FromString(columns.encode()).columns)


def test_columns_equal_the_generated_encoding(rng: random.Random) -> None:
    """The hand-written encoding is, byte for byte, the one that protobuf writes."""
    for count in [1, 2, 127, 128, 300, 5000]:
        ids = [rng.randbytes(16) for _ in range(count)]
        timestamps = [rng.randrange(1, 1 << 63) for _ in range(count)]
        versions = [rng.randrange(1 << 32) for _ in range(count)]
        payloads = [rng.randbytes(rng.choice([0, 1, 130])) for _ in range(count)]
        labels = ["é" * rng.randint(0, 3) for _ in range(count)]
        expected = common_pb2.RecordColumns(
            event_ids=b"".join(ids),
            timestamps_unix_nano=timestamps,
            versions=versions,
            payloads=b"".join(payloads),
            payload_lengths=list(map(len, payloads)),
        )
        encoded = [label.encode() for label in labels]
        expected.attributes.add(key="k", values=b"".join(encoded), value_lengths=list(map(len, encoded)))
        columns = columns_of(timestamps, payloads, ids, versions, {"k": labels})
        assert columns.encode() == ingestion_pb2.WriteBatchRequest(columns=expected).SerializeToString()


@pytest.mark.parametrize(
    "timestamps",
    [
        [1_500, 2_000],
        (1_500, 2_000),
        array("q", [1_500, 2_000]),
        array("q", [1_500, 2_000]).tobytes(),
        memoryview(array("q", [1_500, 2_000])),
        np.array([1_500, 2_000]),
        np.array([1_500, 2_000], dtype=">i8"),
        np.array([0, 1_500, 7, 2_000])[1::2],
        np.array([1_500, 2_000], dtype="datetime64[ns]"),
    ],
)
def test_timestamps(timestamps: Any) -> None:
    assert [row[1] for row in decoded(columns_of(timestamps, [b"a", b"b"]))] == [1_500, 2_000]


def test_more_kinds_of_values() -> None:
    moments: list[datetime | int] = [datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC), 5]
    first, second = uuid7(), uuid7().bytes
    columns = columns_of(moments, [{"a": 1}, "text"], [first, second], 3, {"k": ["v", None], "l": Blob.of([b"", b"w"])})
    assert decoded(columns) == [
        (first.bytes, 1_000_000_000, 3, b'{"a":1}', {"k": "v"}),
        (second, 5, 3, b"text", {"l": "w"}),
    ]
    packed = columns_of([1, 2], Blob.of([b"x", b"yz"]), b"a" * 16 + b"b" * 16)
    assert decoded(packed) == [(b"a" * 16, 1, 0, b"x", {}), (b"b" * 16, 2, 0, b"yz", {})]


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"timestamps": [1]}, "timestamps_unix_nano: has 1 entries, but there are 2"),
        ({"event_ids": b"x" * 31}, "event_ids"),
        ({"event_ids": [b"x" * 16, b"x"]}, "record 1: event_ids: must have 16 bytes"),
        ({"versions": [1]}, "versions"),
        ({"versions": -1}, "versions"),
        ({"attributes": {"": ["a", "b"]}}, "must not be empty"),
        ({"attributes": {"k": ["a"]}}, "attributes"),
        ({"attributes": {"k": ["a", 5]}}, "record 1: attributes"),
        ({"payloads": [b"a", object()]}, "record 1: payloads"),
        ({"timestamps": [1, datetime(2024, 1, 1)]}, "record 1: timestamps_unix_nano: a datetime without"),
        ({"timestamps": [1, 1 << 64]}, "64 bits"),
        ({"timestamps": np.array([1.5, 2.5])}, "float64"),
    ],
)
def test_bad_columns(arguments: dict[str, Any], match: str) -> None:
    with pytest.raises(InvalidRecordError, match=match):
        columns_of(**{"timestamps": [1, 2], "payloads": [b"a", b"b"], **arguments})


def stored_rows(server: FakeServer) -> list[tuple[bytes, int, int, bytes, dict[str, str]]]:
    return [row for request in server.stored for row in rows(request.columns)]


FRAME: dict[str, list[Any]] = {
    "at": [datetime(2024, 1, 1, 0, 0, n, 123_456, tzinfo=UTC) for n in range(5)],
    "device": ["a", "b", None, "d", "ü"],
    "count": [1, 2, 3, 4, 1 << 60],
    "value": [0.1, 1e300, float("nan"), 1 / 3, None],
    "ok": [True, False, True, False, None],
    'odd "%s" name': ["x", "y\n", "z", None, "\u2028"],
}
EXPECTED = [
    {"count": 1, "value": 0.1, "ok": True, 'odd "%s" name': "x"},
    {"count": 2, "value": 1e300, "ok": False, 'odd "%s" name': "y\n"},
    {"count": 3, "value": None, "ok": True, 'odd "%s" name': "z"},
    {"count": 4, "value": 1 / 3, "ok": False, 'odd "%s" name': None},
    {"count": 1 << 60, "value": None, "ok": None, 'odd "%s" name': "\u2028"},
]


@pytest.mark.parametrize("kind", [pd.DataFrame, pl.DataFrame, pa.table])
def test_frames_arrive_exactly(server: FakeServer, connect: Connect, kind: Any) -> None:
    frame = kind(FRAME)
    acks = connect().write_dataframe(frame, "orders", timestamp_column="at", attribute_columns=["device"], max_rows=2)
    assert [ack.record_count for ack in acks] == [2, 2, 1]
    arrived = stored_rows(server)
    assert [json.loads(row[3]) for row in arrived] == EXPECTED
    assert [row[4] for row in arrived] == [{"device": d} if d else {} for d in FRAME["device"]]
    start = 1_704_067_200_123_456_000
    assert [row[1] for row in arrived] == [start + n * 1_000_000_000 for n in range(5)]
    assert [row[0] for row in arrived] == sorted({row[0] for row in arrived})


def test_frame_without_zone_and_with_index(server: FakeServer, connect: Connect) -> None:
    frame = pd.DataFrame({"at": pd.to_datetime(["2024-01-01", "2024-01-02"]), "n": [1, 2]}, index=["x", "y"])
    connect().write_dataframe(frame, "orders", timestamp_column="at")
    assert [(row[1], row[3]) for row in stored_rows(server)] == [
        (1_704_067_200_000_000_000, b'{"n":1}'),
        (1_704_153_600_000_000_000, b'{"n":2}'),
    ]


@pytest.mark.parametrize("text", [pa.string(), pa.large_string(), pa.binary(), pa.dictionary(pa.int32(), pa.string())])
def test_ready_payloads_and_ids_of_slices(server: FakeServer, connect: Connect, text: Any) -> None:
    """Slices and chunks have offsets into their buffers."""
    ids = [uuid7() for _ in range(10)]
    payloads = [f"payload {n}" * (n % 3) for n in range(10)]
    as_binary = pa.array([payload.encode() for payload in payloads])
    as_text = as_binary if pa.types.is_binary(text) else pa.array(payloads).cast(text)
    table = pa.table(
        {
            "at": pa.array(range(100, 110), pa.int64()),
            "body": as_text,
            "id": pa.array([event_id.bytes for event_id in ids], pa.binary(16)),
        }
    )
    chunked = pa.concat_tables([table.slice(1, 3), table.slice(4, 1), table.slice(5, 4)])
    connect().write_arrow(
        chunked, "orders", timestamp_column="at", payload_column="body", event_id_column="id", max_rows=5
    )
    assert [row[:4] for row in stored_rows(server)] == [
        (ids[n].bytes, 100 + n, 0, payloads[n].encode()) for n in range(1, 9)
    ]


def test_ids_as_text(server: FakeServer, connect: Connect) -> None:
    ids = [str(uuid7()) for _ in range(2)]
    frame = pl.DataFrame({"at": [1, 2], "id": ids, "n": [1, 2]})
    connect().write_dataframe(frame, "orders", timestamp_column="at", event_id_column="id")
    assert [str(UUID(bytes=row[0])) for row in stored_rows(server)] == ids


@pytest.mark.parametrize(
    ("columns", "arguments", "match"),
    [
        ({"n": [1]}, {}, "no column 'at'"),
        ({"at": [1, None]}, {}, "record 1: at: is null"),
        ({"at": ["x"]}, {}, "does not cast|not cast"),
        ({"at": [1], "b": [None]}, {"payload_column": "b"}, "record 0: b: is null"),
        ({"at": [1], "id": ["x"]}, {"event_id_column": "id"}, "record 0: id: is not a UUID"),
    ],
)
def test_bad_tables(connect: Connect, columns: dict[str, Any], arguments: dict[str, Any], match: str) -> None:
    with pytest.raises(InvalidRecordError, match=match):
        connect().write_arrow(pa.table(columns), "orders", timestamp_column="at", **arguments)


def test_empty_table_sends_nothing(server: FakeServer, connect: Connect) -> None:
    table = pa.table({"at": pa.array([], pa.int64())})
    assert connect().write_arrow(table, "orders", timestamp_column="at") == []
    with pytest.raises(TypeError, match="neither"):
        connect().write_dataframe([1], "orders", timestamp_column="at")
    assert server.received == []
