"""Whose turn it is at the model: one call at a time, visitors before the worker.

Two torch jobs beside each other are many times slower than one after the other. A visitor who typed a
query waits for the step in progress and no longer; a run that has waited for `patience` seconds gets
one step in, so that a room full of visitors cannot stop it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Visitor:
    """Somebody who asks: an address, and one of the pages or programs there ("" where none is known)."""

    host: str = ""
    session: str = ""


class Turns:
    """A lock with two kinds of callers.

    patience: seconds after which a waiting worker goes before visitors.
    """

    def __init__(self, patience: float = 4.0) -> None:
        self._free = threading.Condition()
        self._busy = False
        self._visitors = 0
        self._worker_since: float | None = None
        self._patience = patience

    @contextmanager
    def visitor(self) -> Iterator[None]:
        """A short call for somebody who is waiting in front of the page."""
        with self._free:
            self._visitors += 1
            self._free.wait_for(lambda: not self._busy and not self._worker_is_due())
            self._visitors -= 1
            self._busy = True
        try:
            yield
        finally:
            self._release()

    @contextmanager
    def worker(self) -> Iterator[None]:
        """One piece of a long job; inside it, call `give_way` wherever the job can pause."""
        self._wait_as_worker()
        try:
            yield
        finally:
            self._release()

    def give_way(self) -> None:
        """Let visitors who are waiting go first; called by a worker that has the turn."""
        with self._free:
            if not self._visitors:
                return
        self._release()
        self._wait_as_worker()

    def worker_is_due(self) -> bool:
        """A worker has waited for its step long enough: whoever has the turn for more than one piece of
        work gives it away now."""
        with self._free:
            return self._worker_is_due()

    def _wait_as_worker(self) -> None:
        with self._free:
            self._worker_since = time.monotonic()
            while self._busy or (self._visitors and not self._worker_is_due()):
                self._free.wait(self._patience / 8)
            self._worker_since = None
            self._busy = True

    def _worker_is_due(self) -> bool:
        return self._worker_since is not None and time.monotonic() - self._worker_since > self._patience

    def _release(self) -> None:
        with self._free:
            self._busy = False
            self._free.notify_all()
