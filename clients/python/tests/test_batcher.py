"""Background batching: when batches are sent, and what callers learn of them."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections import defaultdict

import pytest
from conftest import Connect
from fake_server import FakeServer, Request, event_ids, refuse

from ingestor_client import (
    Ack,
    BackpressureError,
    ClientClosedError,
    IngestorError,
    InvalidRecordError,
    Record,
    RefusedError,
    uuid7,
)


def sizes(server: FakeServer) -> list[int]:
    return [len(event_ids(request)) for request in server.stored]


def test_batches_by_rows(server: FakeServer, connect: Connect) -> None:
    with connect().batcher("orders", max_rows=10, max_delay=60) as batcher:
        futures = [batcher.add({"n": n}) for n in range(25)]
    assert sizes(server) == [10, 10, 5]
    assert [future.result().record_count for future in futures] == [10] * 20 + [5] * 5
    assert len(set(map(id, futures))) == 3


def test_batches_by_bytes(server: FakeServer, connect: Connect) -> None:
    with connect().batcher("orders", max_bytes=1000, max_delay=60) as batcher:
        for _ in range(20):
            batcher.add(Record(b"x" * 250))
        batcher.add(Record(b"x" * 5000))
    assert all(request.ByteSize() < 1100 for request in server.stored[:-1])
    assert sum(sizes(server)) == 21
    assert sizes(server)[-1] == 1


def test_batches_by_delay(server: FakeServer, connect: Connect) -> None:
    batcher = connect().batcher("orders", max_delay=0.02)
    assert batcher.add({"n": 1}).result(timeout=10).record_count == 1
    assert batcher.add({"n": 2}).result(timeout=10).record_count == 1
    assert sizes(server) == [1, 1]


def test_threads_keep_their_own_order(server: FakeServer, connect: Connect) -> None:
    expected: dict[int, list[bytes]] = defaultdict(list)
    with connect().batcher("orders", max_rows=7, max_delay=0.001) as batcher:

        def produce(worker: int) -> None:
            for n in range(200):
                event_id = uuid7()
                expected[worker].append(event_id.bytes)
                batcher.add(Record({"n": n}, event_id=event_id, attributes={"worker": str(worker)}))

        threads = [threading.Thread(target=produce, args=(worker,)) for worker in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    stored: dict[int, list[bytes]] = defaultdict(list)
    for request in server.stored:
        for record in request.records:
            stored[int(record.attributes["worker"])].append(record.event_id)
    assert stored == expected


def test_callbacks(server: FakeServer, connect: Connect) -> None:
    server.hook = lambda _, request: refuse("INVALID_FIELD") if request.sequence == 2 else None
    acks: list[Ack] = []
    errors: list[IngestorError] = []
    with connect().batcher("orders", max_rows=1, on_ack=acks.append, on_error=errors.append) as batcher:
        for n in range(3):
            batcher.add({"n": n})
    assert [ack.record_count for ack in acks] == [1, 1]
    assert [type(error) for error in errors] == [RefusedError]


def test_flush_raises_what_failed_once(server: FakeServer, connect: Connect) -> None:
    server.hook = lambda _, request: refuse("INVALID_FIELD") if request.sequence in (1, 3) else None
    batcher = connect().batcher("orders", max_rows=1)
    futures = [batcher.add({"n": n}) for n in range(4)]
    with pytest.raises(IngestorError, match="2 batches failed") as caught:
        batcher.flush()
    assert [type(error) for error in caught.value.batch_errors] == [RefusedError, RefusedError]
    assert isinstance(futures[0].exception(), RefusedError)
    batcher.flush()
    batcher.close()
    with pytest.raises(ClientClosedError):
        batcher.add({})


def test_an_error_of_the_body_goes_first(server: FakeServer, connect: Connect) -> None:
    server.hook = lambda _, __: refuse("INVALID_FIELD")

    def body() -> None:
        with connect().batcher("orders") as batcher:
            batcher.add({})
            raise KeyError("mine")

    with pytest.raises(KeyError):
        body()
    assert len(server.received) == 1


def test_a_bad_record_is_not_added(server: FakeServer, connect: Connect) -> None:
    bad = Record({"at": object()})
    with connect().batcher("orders") as batcher:
        batcher.add({"n": 1})
        with pytest.raises(InvalidRecordError, match="no JSON form") as caught:
            batcher.add(bad)
        assert caught.value.record is bad
    assert sizes(server) == [1]


def test_backpressure_takes_nothing(server: FakeServer, connect: Connect) -> None:
    """A record whose add raised is not sent; all others are."""
    gate = threading.Event()

    def wait_for_gate(_: FakeServer, __: Request) -> None:
        gate.wait()

    server.hook = wait_for_gate
    taken: list[bytes] = []
    refused = 0
    batcher = connect(max_queue_batches=2).batcher("orders", max_rows=2, max_delay=60, block_timeout=0.01)
    for _ in range(10):
        event_id = uuid7()
        try:
            batcher.add(Record({}, event_id=event_id))
            taken.append(event_id.bytes)
        except BackpressureError:
            refused += 1
    assert refused == 4  # two batches are outstanding, and a full one waits in the batcher
    gate.set()
    batcher.close()
    assert server.event_ids() == taken


def test_send_has_a_batcher_for_each_endpoint(server: FakeServer, connect: Connect) -> None:
    client = connect(max_delay=60)
    for n in range(6):
        client.send(f"sensor-{n % 2}", {"n": n})
    client.flush()
    assert sorted((request.endpoint_id, len(event_ids(request))) for request in server.stored) == [
        ("sensor-0", 3),
        ("sensor-1", 3),
    ]


def test_closing_the_client_sends_what_is_gathered(server: FakeServer, connect: Connect) -> None:
    client = connect(max_delay=60)
    future = client.send("orders", {"n": 1})
    client.close()
    assert future.result().record_count == 1
    with pytest.raises(ClientClosedError):
        client.send("orders", {"n": 2})


def test_exit_without_close_sends_what_is_gathered(server: FakeServer) -> None:
    program = (
        "from ingestor_client import Client\n"
        f"client = Client({server.target!r}, api_key={server.api_key!r}, max_delay=60)\n"
        "client.send('orders', {'n': 1})\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    assert sizes(server) == [1]
