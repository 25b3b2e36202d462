"""UUIDs of version 7 (RFC 9562), which sort by the time of their making.

Layout: 48 bits of Unix milliseconds, 4 bits of version, 12 random bits, 2 bits of variant, 62 bits of counter. The
counter starts at a random value below 2**61 each millisecond and grows by one, so that ids of one process are strictly
increasing, even where the clock stands still or goes back.
"""

from __future__ import annotations

import os
import secrets
import sys
import threading
import time
from array import array
from uuid import UUID

_VERSION = 0x7 << 12
_VARIANT = 0b10 << 62
_COUNTER_LIMIT = 1 << 62


class _Generator:
    """Hands out runs of consecutive ids. Safe for use by several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._milliseconds = 0
        self._random = 0
        self._counter = 0

    def take(self, count: int) -> tuple[int, int]:
        """The upper 64 bits, common to count ids, and the lower 64 bits of the first; the others follow it by one."""
        now = time.time_ns() // 1_000_000
        with self._lock:
            if now > self._milliseconds:
                self._restart(now)
            elif self._counter + count > _COUNTER_LIMIT:
                self._restart(self._milliseconds + 1)
            first = self._counter
            self._counter += count
            return self._milliseconds << 16 | _VERSION | self._random, _VARIANT | first

    def _restart(self, milliseconds: int) -> None:
        self._milliseconds = milliseconds
        self._random = secrets.randbits(12)
        self._counter = secrets.randbits(61)


_generator = _Generator()


def _reset() -> None:
    """Gives a forked child a state of its own, lest it repeat its parent's ids."""
    global _generator  # noqa: PLW0603
    _generator = _Generator()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset)


def uuid7() -> UUID:
    """A new UUID of version 7, greater than every earlier one of this process."""
    high, low = _generator.take(1)
    return UUID(int=high << 64 | low)


def uuid7_bytes() -> bytes:
    """The 16 bytes of a new UUID of version 7."""
    high, low = _generator.take(1)
    return (high << 64 | low).to_bytes(16, "big")


def uuid7_block(count: int) -> bytes:
    """The bytes of count new UUIDs of version 7, concatenated, in ascending order. No Python code runs per id."""
    if count == 0:
        return b""
    high, low = _generator.take(count)
    words = array("Q", bytes(16 * count))
    words[0::2] = array("Q", [high]) * count
    words[1::2] = array("Q", range(low, low + count))
    if sys.byteorder == "little":
        words.byteswap()
    return words.tobytes()
