"""Starts, kills and drains the server's real binary."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import secrets
import signal
import subprocess
import time
from pathlib import Path

_REPOSITORY = Path(__file__).resolve().parents[3]
_START_SECONDS = 30.0

TENANT = "acme"


def find_binary() -> Path | None:
    """The binary named by INGESTOR_SERVER_BIN, or the repository's bin/ingestion-server; None where there is none."""
    path = Path(os.environ.get("INGESTOR_SERVER_BIN") or _REPOSITORY / "bin" / "ingestion-server")
    return path.resolve() if path.is_file() else None


class ServerProcess:
    """One server on one data directory. Its port stays the same from start to start."""

    def __init__(self, binary: Path, directory: Path, settings: str = "") -> None:
        """Starts nothing yet. settings are more sections of the configuration file."""
        self.binary = binary
        self.directory = directory
        self.settings = settings
        self.data = directory / "data"
        self.api_key = "ik_" + base64.urlsafe_b64encode(secrets.token_bytes(32)).decode().rstrip("=")
        self.target = ""
        self._address_file = directory / "address.json"
        self._log = directory / "server.log"
        self._port = 0
        self._process: subprocess.Popen[bytes] | None = None
        digest = hashlib.sha256(self.api_key.encode()).hexdigest()
        (directory / "keys.yaml").write_text(
            f'keys:\n  - id: test\n    tenant: {TENANT}\n    sha256: {digest}\n    endpoints: ["orders", "sensor-*"]\n'
        )

    def start(self) -> None:
        """Starts it and waits until it is ready."""
        (self.directory / "server.yaml").write_text(
            f"data_dir: {self.data}\n"
            f"listen:\n  grpc: 127.0.0.1:{self._port}\n  admin: 127.0.0.1:0\n"
            f"auth:\n  keys_file: {self.directory / 'keys.yaml'}\n"
            "wal:\n  segment_bytes: 32MiB\n"
            "memtable:\n  generation_age: 300ms\n"
            "log:\n  level: warn\n" + self.settings
        )
        self._address_file.unlink(missing_ok=True)
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    self.binary,
                    "serve",
                    "--config",
                    str(self.directory / "server.yaml"),
                    "--address-file",
                    str(self._address_file),
                ],
                stdout=log,
                stderr=log,
            )
        end = time.monotonic() + _START_SECONDS
        while not self._address_file.exists():
            if self._process.poll() is not None or time.monotonic() > end:
                self.stop()
                raise RuntimeError(f"the server did not start:\n{self._log.read_text()}")
            time.sleep(0.01)
        self.target = json.loads(self._address_file.read_text())["grpc"]
        self._port = int(self.target.rpartition(":")[2])

    def kill(self) -> None:
        """kill -9, and waits for the end."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def drain(self) -> None:
        """SIGTERM; asserts that it ends by itself, cleanly: everything is flushed then."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        code = self._process.wait(timeout=30)
        assert code == 0, f"exit code {code} after SIGTERM:\n{self._log.read_text()}"

    def stop(self) -> None:
        """Ends it whatever its state."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
