"""The examples run as they stand, as programs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from fake_server import FakeServer, event_ids

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(server: FakeServer, *command: str) -> str:
    environment = {**os.environ, "INGESTOR_TARGET": server.target, "INGESTOR_API_KEY": server.api_key}
    result = subprocess.run(
        [sys.executable, *command],
        cwd=EXAMPLES,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_quickstart(server: FakeServer) -> None:
    """With the fake server's address in place of the default one."""
    program = (EXAMPLES / "quickstart.py").read_text()
    assert '"localhost:9090"' in program
    output = run(server, "-c", program.replace("localhost:9090", server.target))
    assert output == "2 records are on disk, log positions 1 to 2\n"
    assert [record.payload for record in server.stored[0].records] == [
        b'{"id":1,"total":9.5}',
        b'{"id":2,"total":12.0}',
    ]


def test_quickstart_is_the_readmes(server: FakeServer) -> None:
    code = (EXAMPLES / "quickstart.py").read_text().partition('"""\n\n')[2]
    assert code in (EXAMPLES.parent / "README.md").read_text()


def test_dataframe(server: FakeServer) -> None:
    assert run(server, "dataframe.py") == "100000 rows in 10 batches are on disk\n"
    assert sum(len(event_ids(request)) for request in server.stored) == 100_000


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="the example reads Linux's /proc")
def test_host_metrics(server: FakeServer, tmp_path: Path) -> None:
    recording = tmp_path / "host.ndjson"
    run(server, "host_metrics.py", "--count", "3", "--interval", "0.01", "--record", str(recording))
    lines = [json.loads(line) for line in recording.read_text().splitlines()]
    assert [line["endpoint"] for line in lines[:5]] == [
        "host.cpu",
        "host.memory",
        "host.load",
        "host.disk",
        "host.network",
    ]
    assert len(lines) == 15
    assert len(server.metrics) == 3
    for request, group in zip(server.metrics, range(0, 15, 5), strict=True):
        sent = {metric.name: metric.value for metric in request.metrics}
        recorded = {
            f"{line['endpoint']}.{name}": value
            for line in lines[group : group + 5]
            for name, value in line.items()
            if name not in ("endpoint", "timestamp_unix_nano")
        }
        assert sent == recorded
        assert {metric.timestamp_unix_nano for metric in request.metrics} == {lines[group]["timestamp_unix_nano"]}
    assert server.metrics[0].metrics[0].value > 0

    run(server, "host_metrics.py", "--count", "2", "--interval", "0.01", "--as-records")
    assert sum(len(event_ids(request)) for request in server.stored) == 10
