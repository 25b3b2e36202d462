"""One thread that does what falls due: batches that have waited long enough, deliveries whose deadline has passed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from ingestor_client._connection import logger

Task = Callable[[float], float | None]
"""Does what is due at the given monotonic time, and returns when it wants to be called next."""


class Clock:
    """Runs tasks at the times they ask for. The thread starts with the first time asked for, and ends with close()."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._tasks: list[Task] = []
        self._next: float | None = None
        self._closing = False
        self._thread: threading.Thread | None = None

    def add(self, task: Task) -> None:
        """Adds a task. It is called whenever any task is due."""
        with self._changed:
            self._tasks.append(task)

    def remove(self, task: Task) -> None:
        """Removes a task; it may be running still."""
        with self._changed:
            self._tasks.remove(task)

    def at(self, when: float) -> None:
        """Asks for the tasks to be called at a monotonic time, or earlier."""
        with self._changed:
            if self._closing or (self._next is not None and self._next <= when):
                return
            self._next = when
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="ingestor-clock", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def close(self) -> None:
        """Ends and joins the thread."""
        with self._changed:
            self._closing = True
            thread = self._thread
            self._changed.notify_all()
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._closing and (self._next is None or self._next > time.monotonic()):
                    self._changed.wait(None if self._next is None else self._next - time.monotonic())
                if self._closing:
                    return
                tasks = list(self._tasks)
                self._next = None
            for task in tasks:
                try:
                    following = task(time.monotonic())
                except Exception:
                    logger.exception("a background task failed")
                    continue
                if following is not None:
                    self.at(following)
