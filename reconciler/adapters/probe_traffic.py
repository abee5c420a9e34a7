"""Requests of our own, for services that have too few to be judged by: the same to every container under comparison.

They go through nginx's private listener to one slot each, so that both counts see them: the service's and nginx's. What
comes back is nobody's business here.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from reconciler.adapters import clock
from reconciler.adapters.http_client import HttpError, Request, Unix, fetch
from reconciler.core.desired import Service
from reconciler.core.observed import Slot
from reconciler.formats.nginx import probe_path

TIMEOUT_S = 5.0
IN_FLIGHT_MAX = 8
"""Requests to one slot at a time; where all hang, the next ones are left out."""

BODY_MAX_BYTES = 64 * 1024
_SIDE_BY_SIDE = 16


@dataclass(frozen=True, slots=True)
class _Stream:
    """What one slot is asked for."""

    path: str
    host: str


class ProbeTraffic:
    """Asks through nginx's `socket`. Nothing is sent before the first `set`, nor after `close`."""

    def __init__(
        self, socket: Path, *, monotonic: Callable[[], float] = clock.monotonic, timeout_s: float = TIMEOUT_S
    ) -> None:
        self._server = Unix(socket)
        self._monotonic = monotonic
        self._timeout_s = timeout_s
        self._changed = threading.Condition()
        self._rates: dict[_Stream, float] = {}
        self._due: dict[_Stream, float] = {}
        self._in_flight: Counter[_Stream] = Counter()
        self._is_closed = False
        self._pool = ThreadPoolExecutor(_SIDE_BY_SIDE, thread_name_prefix="traffic")
        self._clock: threading.Thread | None = None

    def set(self, slots: Iterable[tuple[Service, Slot]]) -> None:
        """From now on these slots are asked, each at its service's `rollout.probe.rate`, and nobody else."""
        rates = _rates(slots)
        with self._changed:
            now = self._monotonic()
            self._due = {stream: self._due.get(stream, now) for stream in rates}
            self._rates = rates
            self._changed.notify_all()
            if rates and self._clock is None and not self._is_closed:
                self._clock = threading.Thread(target=self._run, name="traffic", daemon=True)
                self._clock.start()

    def close(self) -> None:
        """Nothing more is sent; what is under way ends within its time."""
        with self._changed:
            self._is_closed = True
            self._rates = {}
            self._changed.notify_all()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _run(self) -> None:
        with self._changed:
            while not self._is_closed:
                now = self._monotonic()
                for stream, rate_per_s in self._rates.items():
                    if self._due[stream] <= now:
                        self._send(stream)
                        self._due[stream] = max(self._due[stream] + 1 / rate_per_s, now)  # what was missed stays so
                next_due = min((self._due[stream] for stream in self._rates), default=None)
                self._changed.wait(None if next_due is None else max(0.0, next_due - self._monotonic()))

    def _send(self, stream: _Stream) -> None:
        """Holding `_changed`."""
        if self._in_flight[stream] < IN_FLIGHT_MAX and self._in_flight.total() < _SIDE_BY_SIDE:
            self._in_flight[stream] += 1
            self._pool.submit(self._ask, stream)

    def _ask(self, stream: _Stream) -> None:
        request = Request(stream.path, host=stream.host)
        try:
            with suppress(HttpError):
                fetch(self._server, request, self._timeout_s, body_max_bytes=BODY_MAX_BYTES, monotonic=self._monotonic)
        finally:
            with self._changed:
                self._in_flight[stream] -= 1


def _rates(slots: Iterable[tuple[Service, Slot]]) -> dict[_Stream, float]:
    """Requests per second by slot: nginx shares them out among the slot's containers."""
    rates: dict[_Stream, float] = {}
    for service, slot in slots:
        if service.rollout.probe_path is not None:
            host = service.route.host if service.route else None
            rates[_Stream(probe_path(service.name, slot), host or "localhost")] = service.rollout.probe_rate_per_s
    return rates
