"""Work that takes long, on threads that die with the process."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from reconciler.core.plan import OK, Outcome, Result


@dataclass(slots=True)
class Errand:
    """One piece of work on its own thread: what it is doing, and how it ended."""

    words: str = ""
    done: threading.Event = field(default_factory=threading.Event)
    result: Result = OK


class Errands:
    """Work that takes long, at most one of a kind. What failed waits to be read, what went well is forgotten."""

    def __init__(self, wake: Callable[[str], None]) -> None:
        self._wake = wake
        self._running: dict[str, Errand] = {}
        self._lock = threading.Lock()

    def running(self, key: str) -> Errand | None:
        """The errand of that kind that has not ended."""
        with self._lock:
            errand = self._running.get(key)
        return errand if errand is not None and not errand.done.is_set() else None

    def take_failed(self, key: str) -> Errand | None:
        """One that failed since anybody looked; read once."""
        with self._lock:
            errand = self._running.get(key)
            if errand is None or not errand.done.is_set():
                return None
            return self._running.pop(key)

    def start(self, key: str, work: Callable[[Errand], Result]) -> Errand:
        """Start `work` unless it runs already."""
        with self._lock:
            present = self._running.get(key)
            if present is not None and not present.done.is_set():
                return present
            errand = self._running[key] = Errand()
        threading.Thread(target=self._run, args=(key, errand, work), name=key, daemon=True).start()
        return errand

    def _run(self, key: str, errand: Errand, work: Callable[[Errand], Result]) -> None:
        errand.result = Result(Outcome.UNKNOWN, f"{key}: ended by a bug of ours")
        try:
            errand.result = work(errand)
        finally:
            with self._lock:
                if errand.result.outcome is Outcome.OK:
                    self._running.pop(key, None)
                errand.done.set()
            self._wake(key)
