"""Delivery over a stream that breaks, refuses and answers late: all records stored once, all callers told the truth."""

from __future__ import annotations

import os
import random
import threading
from collections import Counter
from concurrent.futures import FIRST_COMPLETED, Future, wait
from uuid import UUID

import pytest
from conftest import Connect
from fake_server import BatchError, FakeServer, Hook, Request, refuse

from ingestor_client import (
    Ack,
    AckLevel,
    AuthenticationError,
    BackpressureError,
    Client,
    ClientClosedError,
    DeliveryTimeoutError,
    ErrorCode,
    IngestorError,
    InvalidRecordError,
    PermissionDeniedError,
    ProducerFencedError,
    Record,
    RefusedError,
    uuid7,
)


def new_records(count: int) -> list[Record]:
    return [Record({"n": n}, event_id=uuid7()) for n in range(count)]


def ids(records: list[Record]) -> list[bytes]:
    return [record.event_id.bytes for record in records if isinstance(record.event_id, UUID)]


def first_time_only(verdict: BatchError | str, sequence: int = 1) -> Hook:
    """A hook that gives a verdict on the first arrival of a sequence, and lets everything else pass."""
    seen: set[int] = set()

    def hook(_: FakeServer, request: Request) -> BatchError | str | None:
        if request.sequence != sequence or request.sequence in seen:
            return None
        seen.add(request.sequence)
        return verdict

    return hook


def test_write_is_acknowledged(server: FakeServer, connect: Connect) -> None:
    records = new_records(3)
    ack = connect().write("orders", records)
    assert ack == Ack(AckLevel.WAL_SYNCED, first_lsn=1, last_lsn=3, record_count=3, duplicate=False)
    assert server.event_ids() == ids(records)
    [request] = server.stored
    assert request.endpoint_id == "orders"
    assert [record.payload for record in request.records] == [b'{"n":0}', b'{"n":1}', b'{"n":2}']
    assert len(request.producer_id) == 16
    assert request.sequence == 1


def test_sequences_ascend_and_order_is_kept(server: FakeServer, connect: Connect) -> None:
    client = connect()
    records = new_records(300)
    wait([client.submit("orders", [record]) for record in records])
    assert server.event_ids() == ids(records)
    assert [request.sequence for request in server.stored] == list(range(1, 301))


@pytest.mark.parametrize("verdict", ["drop", "lose", refuse("OUTCOME_UNKNOWN")])
def test_unknown_outcome_is_sent_again_with_its_sequence(
    server: FakeServer, connect: Connect, verdict: BatchError | str
) -> None:
    server.hook = first_time_only(verdict, sequence=2)
    # A server whose log has failed stores nothing more. The fake one goes on, so nothing may follow on that stream.
    client = connect(max_in_flight=1 if isinstance(verdict, BatchError) else 64)
    records = new_records(5)
    acks = [future.result() for future in [client.submit("orders", [record]) for record in records]]
    assert server.event_ids() == ids(records)
    assert [request.sequence for request in server.stored] == [1, 2, 3, 4, 5]
    assert acks[1].duplicate == (verdict == "drop")
    assert [ack.first_lsn for ack in acks] == [1, 2, 3, 4, 5]


def test_overload_is_retried_with_a_new_sequence(server: FakeServer, connect: Connect) -> None:
    server.hook = first_time_only(refuse("OVERLOADED", retry_delay_ms=5))
    client = connect(max_in_flight=1)
    records = new_records(3)
    for future in [client.submit("orders", [record]) for record in records]:
        assert not future.result().duplicate
    assert server.event_ids() == ids(records)  # one in flight: even the order is kept
    assert [request.sequence for request in server.stored] == [2, 3, 4]


def test_overload_of_a_batch_in_doubt_keeps_its_sequence(server: FakeServer, connect: Connect) -> None:
    """Its first attempt was stored: a new sequence would store it twice."""
    verdicts: list[BatchError | str | None] = ["drop", refuse("OVERLOADED", retry_delay_ms=1), refuse("NO_SPACE")]

    def hook(_: FakeServer, request: Request) -> BatchError | str | None:
        return verdicts.pop(0) if verdicts else None

    server.hook = hook
    records = new_records(1)
    assert connect().write("orders", records).duplicate
    assert server.event_ids() == ids(records)
    assert [request.sequence for request in server.received] == [1, 1, 1, 1]


def test_a_lost_refusal_is_found_out_and_sent_anew(server: FakeServer, connect: Connect) -> None:
    """Sequence 1 is refused and the answer lost, 2 is stored. Sent again, 1 is out of order: hence it is not stored."""
    verdicts: list[BatchError | str | None] = ["ignore", "drop"]
    server.hook = lambda _, __: verdicts.pop(0) if verdicts else None
    records = new_records(2)
    client = connect()
    acks = [future.result() for future in [client.submit("orders", [record]) for record in records]]
    assert server.event_ids() == ids([records[1], records[0]])
    assert [request.sequence for request in server.received] == [1, 2, 1, 2, 3]
    assert [ack.duplicate for ack in acks] == [False, True]


def test_window_of_unanswered_sequences_is_bounded(server: FakeServer, connect: Connect) -> None:
    """While sequence 1 stays unanswered, none above 64 may be sent, though all others are answered."""
    server.hook = lambda _, request: "silent" if request.sequence == 1 and server.streams == 1 else None
    client = connect()
    futures = [client.submit("orders", [record]) for record in new_records(100)]
    wait(futures[1:64])
    assert not wait(futures[64:], timeout=0.3, return_when=FIRST_COMPLETED).done
    assert max(request.sequence for request in server.received) == 64
    server.break_streams()
    assert [future.result().first_lsn for future in futures] == list(range(1, 101))


def test_server_down_at_first_and_gone_in_between(server: FakeServer, connect: Connect) -> None:
    server.stop()
    client = connect()
    records = new_records(200)
    futures = [client.submit("orders", [record]) for record in records[:100]]
    server.start()
    wait(futures)
    server.stop()
    futures += [client.submit("orders", [record]) for record in records[100:]]
    server.start()
    assert all(isinstance(future.result(), Ack) for future in futures)
    assert server.event_ids() == ids(records)


def test_unreachable_server_times_out_and_nothing_is_in_doubt(server: FakeServer, connect: Connect) -> None:
    server.stop()
    with pytest.raises(DeliveryTimeoutError, match="UNAVAILABLE") as caught:
        connect().write("orders", new_records(1), timeout=0.3)
    assert not caught.value.maybe_stored
    server.start()


def test_silent_server_times_out_and_the_batch_is_in_doubt(server: FakeServer, connect: Connect) -> None:
    server.hook = lambda _, __: "silent"
    with pytest.raises(DeliveryTimeoutError) as caught:
        connect().write("orders", new_records(1), timeout=0.3)
    assert caught.value.maybe_stored


def test_refusal_names_the_record(server: FakeServer, connect: Connect) -> None:
    records = [Record(b"{}", 1_000 + n, uuid7(), 7, {"color": "red"}) for n in range(3)]
    bad = ids(records)[1]
    server.hook = lambda _, __: refuse("INVALID_FIELD", record_index=1, event_id=bad, field="timestamp_unix_nano")
    client = connect()
    with pytest.raises(RefusedError, match=r"INVALID_FIELD, record 1 \(event_id .*timestamp_unix_nano") as caught:
        client.write("orders", records)
    error = caught.value
    assert error.code is ErrorCode.INVALID_FIELD
    assert (error.record_index, error.event_id, error.field) == (1, UUID(bytes=bad), "timestamp_unix_nano")
    assert error.record == Record(b"{}", 1_001, bad, 7, {"color": "red"})
    assert not error.maybe_stored

    columns: dict[str, list[str | None]] = {"color": ["red", None, "blue"], "size": ["", "xl", "m"]}
    with pytest.raises(RefusedError) as caught:
        client.write_columns("orders", [5, 6, 7], [b"a", b"bc", b"d"], event_ids=ids(records), attributes=columns)
    assert caught.value.record == Record(b"bc", 6, bad, 0, {"size": "xl"})
    server.hook = lambda _, __: None
    client.write("orders", records)  # a refused batch does not end the stream
    assert server.streams == 1


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("WRONG_TENANT", PermissionDeniedError),
        ("FORBIDDEN_ENDPOINT", PermissionDeniedError),
        ("PRODUCER_FENCED", ProducerFencedError),
        ("UNSUPPORTED", RefusedError),
        ("SEQUENCE_OUT_OF_ORDER", RefusedError),
        ("TOO_LARGE", RefusedError),
    ],
)
def test_definite_refusals_are_raised_at_once(
    server: FakeServer, connect: Connect, code: str, kind: type[RefusedError]
) -> None:
    server.hook = lambda _, __: refuse(code)
    with pytest.raises(kind) as caught:
        connect().write("orders", new_records(1))
    assert type(caught.value) is kind
    assert caught.value.code is ErrorCode[code]
    assert len(server.received) == 1


def test_a_message_that_kills_the_stream_fails_alone(server: FakeServer, connect: Connect) -> None:
    """gRPC itself ends a stream on which too large a message arrives. The other batches must not suffer."""
    client = connect()
    small = new_records(6)
    futures = [client.submit("orders", [record]) for record in small[:3]]
    large = client.submit("orders", [Record(b"x" * (5 << 20))])
    futures += [client.submit("orders", [record]) for record in small[3:]]
    error = large.exception()
    assert isinstance(error, RefusedError)
    assert error.code is ErrorCode.TOO_LARGE
    assert not error.maybe_stored
    wait(futures)
    assert server.event_ids() == ids(small)


def test_wrong_key_fails_at_once_and_nothing_is_in_doubt(server: FakeServer, connect: Connect) -> None:
    with pytest.raises(AuthenticationError) as caught:
        connect(api_key="wrong").write("orders", new_records(1))
    assert not caught.value.maybe_stored
    assert server.stored == []


def test_expired_token_is_renewed(server: FakeServer, connect: Connect) -> None:
    tokens = ["expired", server.api_key]
    connect(api_key=lambda: tokens.pop(0)).write("orders", new_records(1))
    assert server.authorizations == ["Bearer expired", "Bearer test-key"]


def test_failing_token_provider_is_reported(connect: Connect) -> None:
    def provider() -> str:
        raise OSError("vault is sealed")

    with pytest.raises(AuthenticationError, match="vault is sealed"):
        connect(api_key=provider).write("orders", new_records(1))


def test_credential_is_never_shown(server: FakeServer, connect: Connect, caplog: pytest.LogCaptureFixture) -> None:
    client = connect(api_key="ik_secret")
    with caplog.at_level("DEBUG"), pytest.raises(AuthenticationError) as caught:
        client.write("orders", new_records(1))
    assert "ik_secret" not in caplog.text + repr(client) + repr(vars(client)) + repr(caught.value)


def test_a_repeated_epoch_is_noticed(server: FakeServer, connect: Connect) -> None:
    """A second client with the same producer id and epoch would be told "stored already" for records never stored."""
    producer = uuid7()
    connect(producer_id=producer, producer_epoch=1).write("orders", new_records(1))
    with pytest.raises(IngestorError, match="higher epoch"):
        connect(producer_id=producer, producer_epoch=1).write("orders", new_records(1))
    connect(producer_id=producer, producer_epoch=2).write("orders", new_records(1))
    assert len(server.event_ids()) == 2


def test_full_queue_blocks_then_raises(server: FakeServer, connect: Connect) -> None:
    gate = threading.Event()

    def wait_for_gate(_: FakeServer, __: Request) -> None:
        gate.wait()

    server.hook = wait_for_gate
    client = connect(max_queue_batches=2, block_timeout=0.05)
    records = new_records(3)
    futures = [client.submit("orders", [record]) for record in records[:2]]
    with pytest.raises(BackpressureError):
        client.submit("orders", records[2:])
    gate.set()
    wait(futures)
    assert server.event_ids() == ids(records[:2])


def test_full_queue_in_a_callback_raises_instead_of_deadlock(server: FakeServer, connect: Connect) -> None:
    client = connect(max_queue_batches=2)
    seen: Future[BaseException | None] = Future()
    release = threading.Event()

    def hook(_: FakeServer, request: Request) -> None:
        if request.sequence == 2:
            release.wait()

    server.hook = hook

    def submit_more(_: Future[Ack]) -> None:
        try:
            for record in new_records(2):
                client.submit("orders", [record])
            seen.set_result(None)
        except BackpressureError as error:
            seen.set_result(error)

    first, second = new_records(2)
    future = client.submit("orders", [first])
    client.submit("orders", [second])
    future.add_done_callback(submit_more)
    try:
        assert isinstance(seen.result(timeout=10), BackpressureError)
    finally:
        release.set()


def test_close_fails_what_is_left_and_refuses_more(server: FakeServer, connect: Connect) -> None:
    server.hook = lambda _, __: "silent"
    client = connect()
    future = client.submit("orders", new_records(1))
    with pytest.raises(DeliveryTimeoutError):
        client.flush(timeout=0.05)
    client.close(timeout=0.05)
    error = future.exception()
    assert isinstance(error, ClientClosedError)
    with pytest.raises(ClientClosedError):
        client.write("orders", new_records(1))
    client.close()


def test_close_waits_for_answers_and_joins_threads(server: FakeServer) -> None:
    with Client(server.target, api_key=server.api_key) as client:
        records = new_records(50)
        futures = [client.submit("orders", [record]) for record in records]
    assert all(future.done() for future in futures)
    assert server.event_ids() == ids(records)
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("ingestor-")] == []


def test_forked_child_is_refused(connect: Connect) -> None:
    """As after a fork: gRPC's own fork handlers are not what is tested here."""
    client = connect()
    client._sender._pid = os.getpid() - 1
    with pytest.raises(ClientClosedError, match="fork"):
        client.write("orders", new_records(1))
    with pytest.raises(ClientClosedError, match="fork"):
        client.log_metric("billing", "a", 1)
    client.close()  # leaves everything to the parent
    client._sender._pid = os.getpid()
    assert client.write("orders", new_records(1)).record_count == 1


def test_empty_batches_and_bad_settings_are_refused_locally(connect: Connect) -> None:
    client = connect()
    with pytest.raises(InvalidRecordError, match="no records"):
        client.write("orders", [])
    with pytest.raises(InvalidRecordError, match="endpoint_id"):
        client.write("", [{}])
    with pytest.raises(ValueError, match="producer_epoch"):
        Client(producer_id=uuid7())
    with pytest.raises(ValueError, match="max_in_flight"):
        Client(max_in_flight=65)


@pytest.mark.parametrize("round_number", range(3))
def test_random_faults_store_every_record_once(
    server: FakeServer, connect: Connect, rng: random.Random, round_number: int
) -> None:
    """Every kind of fault, at random. Each acknowledged record is stored once, each definitely failed one never."""
    kinds: list[BatchError | str | None] = [
        "drop", "lose", "ignore",
        refuse("OVERLOADED", retry_delay_ms=1), refuse("NO_SPACE", retry_delay_ms=1), refuse("UNAVAILABLE"),
        refuse("OUTCOME_UNKNOWN"), refuse("INVALID_FIELD", record_index=0),
    ]  # fmt: skip
    faults = 60

    def hook(_: FakeServer, __: Request) -> BatchError | str | None:
        nonlocal faults
        if faults > 0 and rng.random() < 0.2:
            faults -= 1
            return rng.choice(kinds)
        return None

    server.hook = hook
    client = connect(max_in_flight=rng.choice([1, 3, 64]))
    batches = [new_records(rng.randint(1, 5)) for _ in range(300)]
    futures = [client.submit("orders", batch) for batch in batches]
    while wait(futures, timeout=0.2).not_done:
        server.break_streams()  # an ignored batch is sent again only when its stream has broken
    stored = Counter(server.event_ids())
    for batch, future in zip(batches, futures, strict=True):
        error = future.exception()
        counts = {stored[event_id] for event_id in ids(batch)}
        if error is None:
            assert counts == {1}
        else:
            assert isinstance(error, RefusedError)
            assert counts <= ({0, 1} if error.maybe_stored else {0})
    assert sum(future.exception() is None for future in futures) > 200
