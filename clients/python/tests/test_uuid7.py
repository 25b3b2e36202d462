"""UUIDv7: layout, order, uniqueness."""

from __future__ import annotations

import os
import threading
import time
from uuid import RFC_4122, UUID

import pytest

from ingestor_client import uuid7
from ingestor_client.uuid7 import _COUNTER_LIMIT, _Generator, uuid7_block, uuid7_bytes


def test_layout() -> None:
    before = time.time_ns() // 1_000_000
    value = uuid7()
    assert before <= value.int >> 80 <= time.time_ns() // 1_000_000
    assert (value.version, value.variant) == (7, RFC_4122)


def test_ascending_over_threads_and_blocks() -> None:
    made: list[list[bytes]] = [[] for _ in range(4)]

    def make(into: list[bytes]) -> None:
        for _ in range(500):
            into.append(uuid7_bytes())
            block = uuid7_block(3)
            into.extend(block[start : start + 16] for start in (0, 16, 32))

    threads = [threading.Thread(target=make, args=(into,)) for into in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(ids == sorted(ids) for ids in made)
    everything = [event_id for ids in made for event_id in ids]
    assert len(set(everything)) == len(everything) == 8000
    assert all(UUID(bytes=event_id).version == 7 for event_id in everything)


def test_clock_that_goes_back_and_counter_that_overflows(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_000_000_000_000_000
    monkeypatch.setattr(time, "time_ns", lambda: now)
    generator = _Generator()
    first = generator.take(1)
    now -= 500_000_000
    assert generator.take(1) == (first[0], first[1] + 1)
    generator._counter = _COUNTER_LIMIT - 2
    last = generator.take(2)
    following = generator.take(1)
    assert last[0] >> 16 == 1_000_000_000
    assert following[0] >> 16 == 1_000_000_001
    assert following > last


def test_empty_block() -> None:
    assert uuid7_block(0) == b""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this platform")
def test_forked_child_does_not_repeat_its_parents_ids() -> None:
    uuid7()
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(writer, uuid7_block(100))
        os._exit(0)
    os.waitpid(pid, 0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        child = pipe.read()
    parent = uuid7_block(100)
    ids = {data[start : start + 16] for data in (child, parent) for start in range(0, 1600, 16)}
    assert len(ids) == 200
