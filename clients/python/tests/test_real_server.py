"""The client against the server's own binary, judged by what lies on the disk afterwards."""

from __future__ import annotations

import json
import random
import threading
import time
from concurrent.futures import wait
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
from conftest import FAST, require_binary
from judge import Stored, assert_stored_once, stored_records
from server_process import TENANT, ServerProcess

from ingestor_client import (
    TLS,
    AckLevel,
    AuthenticationError,
    Client,
    DeliveryTimeoutError,
    ErrorCode,
    PermissionDeniedError,
    Record,
    RefusedError,
    uuid7,
)

CERTS = Path(__file__).parent / "certs"


def client_of(server: ServerProcess, **settings: object) -> Client:
    return Client(server.target, api_key=server.api_key, retry=FAST, **settings)  # type: ignore[arg-type]


def new_record(rng: random.Random, endpoint: str) -> tuple[Record, Stored]:
    """A record, and what must be stored of it."""
    event_id = uuid7()
    timestamp = time.time_ns() - rng.randrange(10**9)
    payload = json.dumps({"n": rng.randrange(1 << 40), "pad": "ü" * rng.randrange(40)}, ensure_ascii=False).encode()
    attributes = {key: rng.choice(["a", 'q"', "ü"]) for key in ("z", "b") if rng.random() < 0.5}
    version = rng.randrange(1 << 31)
    canonical = json.dumps(attributes, sort_keys=True, separators=(",", ":"), ensure_ascii=False) if attributes else ""
    return (
        Record(payload, timestamp, event_id, version, attributes),
        Stored(event_id.bytes, timestamp, version, payload, canonical, endpoint),
    )


def test_every_way_of_writing_arrives(real_server: ServerProcess, rng: random.Random) -> None:
    sent: list[Stored] = []
    with client_of(real_server) as client:
        rows = [new_record(rng, "orders") for _ in range(100)]
        ack = client.write("orders", [record for record, _ in rows])
        assert (ack.level, ack.record_count) == (AckLevel.WAL_SYNCED, 100)
        assert ack.last_lsn - ack.first_lsn == 99
        sent += [stored for _, stored in rows]

        with client.batcher("sensor-1", max_rows=30) as batcher:
            for _ in range(100):
                record, stored = new_record(rng, "sensor-1")
                batcher.add(record)
                sent.append(stored)

        rows = [new_record(rng, "sensor-2") for _ in range(50)]
        keys = {key for record, _ in rows for key in record.attributes or {}}
        client.write_columns(
            "sensor-2",
            [stored.timestamp_unix_nano for _, stored in rows],
            [stored.payload for _, stored in rows],
            event_ids=[stored.event_id for _, stored in rows],
            versions=[stored.version for _, stored in rows],
            attributes={key: [(record.attributes or {}).get(key) for record, _ in rows] for key in keys},
        )
        sent += [stored for _, stored in rows]

        ids = [uuid7().bytes for _ in range(1000)]
        at = time.time_ns()
        table = pa.table({"at": pa.array([at] * 1000), "id": pa.array(ids, pa.binary(16)), "n": list(range(1000))})
        acks = client.write_arrow(table, "orders", timestamp_column="at", event_id_column="id", max_rows=300)
        assert [ack.record_count for ack in acks] == [300, 300, 300, 100]
        sent += [Stored(event_id, at, 0, b'{"n":%d}' % n, "", "orders") for n, event_id in enumerate(ids)]

        frame = pd.DataFrame({"at": pd.to_datetime([at]), "body": ["{}"], "host": ["h"], "id": [str(uuid7())]})
        client.write_dataframe(
            frame,
            "orders",
            timestamp_column="at",
            payload_column="body",
            event_id_column="id",
            attribute_columns=["host"],
        )
        event_id = bytes.fromhex(frame["id"][0].replace("-", ""))
        sent.append(Stored(event_id, at, 0, b"{}", '{"host":"h"}', "orders"))
    real_server.drain()
    assert_stored_once(stored_records(real_server.data, TENANT), sent)


def test_committed_means_stored(real_server: ServerProcess, rng: random.Random) -> None:
    with client_of(real_server) as client:
        record, stored = new_record(rng, "orders")
        assert client.write("orders", [record], ack_level=AckLevel.COMMITTED).level is AckLevel.COMMITTED
        real_server.kill()  # not drained: the answer alone must suffice
    assert_stored_once(stored_records(real_server.data, TENANT), [stored])


@pytest.mark.parametrize("round_number", range(3))
def test_kill_in_mid_stream(real_server: ServerProcess, rng: random.Random, round_number: int) -> None:
    """kill -9 while two threads send, several times; start again on the same data and port. All is stored once."""
    kills = 3
    sent: list[list[Stored]] = [[], []]
    acked = 0
    going_on = threading.Event()
    going_on.set()
    progress = threading.Condition()

    def count(_: object) -> None:
        nonlocal acked
        with progress:
            acked += 1
            progress.notify_all()

    def produce(worker: int, own: random.Random) -> None:
        endpoint = f"sensor-{worker}"
        batcher = client.batcher(endpoint, max_rows=own.choice([1, 20, 100]), max_delay=0.002, on_ack=count)
        while going_on.is_set() and len(sent[worker]) < 30_000:
            record, stored = new_record(own, endpoint)
            sent[worker].append(stored)
            batcher.add(record)
        batcher.close()

    with client_of(real_server, max_queue_batches=100) as client:
        workers = [threading.Thread(target=produce, args=(n, random.Random(rng.random()))) for n in range(2)]
        for thread in workers:
            thread.start()
        for _ in range(kills):
            with progress:
                target = acked + rng.randint(1, 60)
                assert progress.wait_for(lambda target=target: acked >= target, timeout=30)  # type: ignore[misc]
            real_server.kill()
            real_server.start()
        going_on.clear()
        for thread in workers:
            thread.join()
    real_server.drain()
    stored = stored_records(real_server.data, TENANT)
    assert_stored_once(stored, sent[0] + sent[1])
    for worker in range(2):
        in_log_order = [record.event_id for record in stored if record.endpoint == f"sensor-{worker}"]
        assert in_log_order == [record.event_id for record in sent[worker]]


def test_drain_under_load(real_server: ServerProcess, rng: random.Random) -> None:
    """SIGTERM while batches are on their way, then a new start: what the drain refused is sent to the successor."""
    rows = [new_record(rng, "orders") for _ in range(2000)]
    with client_of(real_server) as client:
        futures = [client.submit("orders", [record]) for record, _ in rows[:1000]]
        futures[rng.randrange(1000)].result()
        feeder = threading.Thread(target=lambda: futures.extend(client.submit("orders", [r]) for r, _ in rows[1000:]))
        feeder.start()
        real_server.drain()
        real_server.start()
        feeder.join()
        wait(futures)
        assert [future.exception() for future in futures] == [None] * 2000
    real_server.drain()
    assert_stored_once(stored_records(real_server.data, TENANT), [stored for _, stored in rows])


def test_refusals_name_the_record_and_store_nothing(real_server: ServerProcess, rng: random.Random) -> None:
    future_ns = time.time_ns() + 10**9 * 3600 * 24 * 365
    good, stored = new_record(rng, "orders")
    late = Record(b"{}", future_ns, uuid7())
    with client_of(real_server) as client:
        with pytest.raises(RefusedError) as caught:
            client.write("orders", [Record(b"{}"), late])
        error = caught.value
        assert (error.code, error.record_index, error.event_id) == (ErrorCode.INVALID_FIELD, 1, late.event_id)
        assert error.field == "timestamp_unix_nano"
        assert isinstance(error.record, Record)
        assert error.record.timestamp == future_ns
        with pytest.raises(PermissionDeniedError) as denied:
            client.write("secret", [Record(b"{}")])
        assert denied.value.code is ErrorCode.FORBIDDEN_ENDPOINT
        client.write("orders", [good])
        huge = client.submit("orders", [Record(b"x" * (80 << 20))])
        error = huge.exception()  # type: ignore[assignment]
        assert isinstance(error, RefusedError)
        assert error.code is ErrorCode.TOO_LARGE
    with Client(real_server.target, api_key="ik_unknown") as stranger, pytest.raises(AuthenticationError):
        stranger.write("orders", [Record(b"{}")])
    real_server.drain()
    assert_stored_once(stored_records(real_server.data, TENANT), [stored])


def test_mutual_tls(tmp_path: Path) -> None:
    files = {"cert_file": "server.pem", "key_file": "server.key", "client_ca_file": "ca.pem"}
    settings = "tls:\n" + "".join(f"  {key}: {CERTS / name}\n" for key, name in files.items())
    server = ServerProcess(require_binary(), tmp_path, settings)
    server.start()
    try:
        trusting = TLS(ca_file=CERTS / "ca.pem", server_name="ingestor.test")
        known = replace(trusting, cert_file=CERTS / "client.pem", key_file=CERTS / "client.key")
        with client_of(server, tls=known) as client:
            assert client.write("orders", [b"{}"]).record_count == 1
        for refused in [trusting, replace(known, ca_file=None), replace(known, server_name="other.test"), False]:
            with client_of(server, tls=refused) as client, pytest.raises(DeliveryTimeoutError):
                client.write("orders", [b"{}"], timeout=0.5)
        server.drain()
    finally:
        server.stop()
    assert len(stored_records(server.data, TENANT)) == 1


def test_metrics_without_database_are_refused_clearly(real_server: ServerProcess) -> None:
    with client_of(real_server) as client, pytest.raises(RefusedError) as caught:
        client.log_metric("billing", "a", 1.0)
    assert caught.value.code is ErrorCode.UNSUPPORTED
