"""Reads what a server has stored, with nothing but a JSON parser and pyarrow, and compares it with what was sent.

Files that the manifest does not list do not exist.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

_COLUMNS = ["event_id", "timestamp", "version", "payload", "attributes", "tenant_id", "endpoint_id", "lsn"]


@dataclass(frozen=True)
class Stored:
    """One stored record."""

    event_id: bytes
    timestamp_unix_nano: int
    version: int
    payload: bytes
    attributes: str  # canonical JSON, "" where there are none
    endpoint: str


def listed_files(data: Path) -> list[Path]:
    """The Parquet files that the manifest lists."""
    [manifest] = [path for path in (data / "manifest").iterdir() if path.suffix in (".log", ".jsonl", ".json")]
    files: dict[str, Path] = {}
    for line in manifest.read_text().splitlines():
        edit = json.loads(line)["edit"]
        for path in edit.get("remove_files", []):
            del files[path]
        for added in edit.get("add_files", []):
            files[added["path"]] = data / "parquet" / added["path"]
    return list(files.values())


def stored_records(data: Path, tenant: str) -> list[Stored]:
    """All stored records in the order of the log; asserts that no LSN occurs twice and that all belong to tenant."""
    by_lsn: dict[int, Stored] = {}
    for path in listed_files(data):
        # Not the directory's name but the columns in the file tell tenant and endpoint.
        table = pq.ParquetFile(path).read(columns=_COLUMNS)
        values = {name: table.column(name) for name in _COLUMNS}
        values["timestamp"] = values["timestamp"].cast("int64")
        for row in zip(*(values[name].to_pylist() for name in _COLUMNS), strict=True):
            event_id, timestamp, version, payload, attributes, tenant_id, endpoint, lsn = row
            raw = event_id if isinstance(event_id, bytes) else event_id.bytes
            assert tenant_id == tenant
            assert lsn not in by_lsn, f"LSN {lsn} is stored twice"
            by_lsn[lsn] = Stored(raw, timestamp, version, payload, attributes or "", endpoint)
    return [by_lsn[lsn] for lsn in sorted(by_lsn)]


def assert_stored_once(stored: list[Stored], sent: list[Stored]) -> None:
    """Every sent record is stored exactly once, byte for byte, and nothing else is."""
    counts = Counter(record.event_id for record in stored)
    expected = {record.event_id: record for record in sent}
    assert len(expected) == len(sent), "the test sent an event id twice"
    doubled = [event_id.hex() for event_id, count in counts.items() if count > 1]
    missing = [event_id.hex() for event_id in expected if event_id not in counts]
    unexpected = [event_id.hex() for event_id in counts if event_id not in expected]
    assert (doubled, missing, unexpected) == ([], [], [])
    damaged = [(record, expected[record.event_id]) for record in stored if record != expected[record.event_id]]
    assert damaged == []
