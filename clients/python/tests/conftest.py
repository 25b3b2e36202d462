"""Fixtures. Servers are started by the tests that need them and end with them."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_server import FakeServer
from server_process import ServerProcess, find_binary

from ingestor_client import Client, Retry

FAST = Retry(initial_seconds=0.005, max_seconds=0.05)

Connect = Callable[..., Client]


@pytest.fixture
def server() -> Iterator[FakeServer]:
    fake = FakeServer()
    yield fake
    fake.stop()


@pytest.fixture
def connect(server: FakeServer) -> Iterator[Connect]:
    """Makes clients of the fake server, with quick retries, and closes them."""
    clients: list[Client] = []

    def make(**settings: Any) -> Client:
        settings = {"api_key": server.api_key, "retry": FAST, "delivery_timeout": 20.0, **settings}
        client = Client(server.target, **settings)
        clients.append(client)
        return client

    yield make
    for client in clients:
        client.close(timeout=5)


@pytest.fixture
def real_server(tmp_path: Path) -> Iterator[ServerProcess]:
    """The server's own binary, on a data directory of its own."""
    process = ServerProcess(require_binary(), tmp_path)
    process.start()
    yield process
    process.stop()


def require_binary() -> Path:
    """The server's binary. Without it the test is skipped, or fails where CI is set."""
    binary = find_binary()
    if binary is None:
        message = "no server binary: set INGESTOR_SERVER_BIN, or run `make build`"
        if os.environ.get("CI", "").lower() in ("true", "1"):
            pytest.fail(message)
        pytest.skip(message)
    return binary


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> random.Random:
    """Random numbers from INGESTOR_TEST_SEED or a new seed, which is printed where the test fails."""
    seed = int(os.environ.get("INGESTOR_TEST_SEED", random.SystemRandom().randrange(1 << 32)))
    print(f"seed: INGESTOR_TEST_SEED={seed} ({request.node.name})")
    return random.Random(seed)
