"""Whose turn it is to work on our copy of a repository: one thread of one process at a time."""

from __future__ import annotations

import fcntl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from reconciler.adapters import clock
from reconciler.core.errors import Refused

_ASK_AGAIN_S = 0.02


class Turns:
    """`lock` is a file that every process which works there locks; `source` is told to whoever waits in vain."""

    def __init__(self, lock: Path, source: str, stopping: threading.Event) -> None:
        self.here = threading.Lock()
        self._lock, self._source, self._stopping = lock, source, stopping

    @contextmanager
    def alone(self, timeout_s: float) -> Iterator[None]:
        """Nobody else works there until the block's end. Refused where somebody does for too long, or we stop."""
        give_up_at = clock.monotonic() + timeout_s
        if not self.here.acquire(timeout=timeout_s):
            raise self._refused(timeout_s)
        try:
            with self._lock.open("ab") as lock:
                while not _is_locked(lock.fileno()):
                    if clock.monotonic() > give_up_at or self._stopping.wait(_ASK_AGAIN_S):
                        raise self._refused(timeout_s)
                yield
        finally:
            self.here.release()

    def _refused(self, timeout_s: float) -> Refused:
        return Refused(f"{self._source} is still being read after {timeout_s:g} s. Try again later.")


def _is_locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
