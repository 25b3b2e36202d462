"""The committed protobuf code is what the pinned generator writes; the enums written by hand equal the protocol's."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ingestor_client import AckLevel, ErrorCode, MetricType
from ingestor_client._proto.metrics.v1 import metrics_pb2
from ingestor_client._proto.storage import common_pb2


def test_generated_code_is_current(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(Path(__file__).parents[1] / "scripts"), *sys.path])
    import generate_proto

    assert generate_proto.stale() == []


def test_enums_equal_the_protocols() -> None:
    def without(prefix: str, items: list[tuple[str, int]]) -> dict[str, int]:
        return {name.removeprefix(prefix): value for name, value in items}

    assert {level.name: level.value for level in AckLevel} == without("ACK_LEVEL_", common_pb2.AckLevel.items())
    assert {code.name: code.value for code in ErrorCode} == without("ERROR_CODE_", common_pb2.ErrorCode.items())
    types = without("METRIC_TYPE_", metrics_pb2.MetricType.items())
    assert {"UNSPECIFIED": 0, **{kind.name: kind.value for kind in MetricType}} == types
