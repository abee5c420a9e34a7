"""Asks containers whether they can serve: an HTTP request, a TCP connection, or only a look at their age."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

from reconciler.adapters import clock
from reconciler.adapters.http_client import Failure, HttpError, Request, Tcp, can_connect, fetch
from reconciler.core.desired import HealthCheck
from reconciler.core.observed import Health, ObservedContainer
from reconciler.ports import ProbeTarget

TIMEOUT_S = 1.0
PAGE_MAX_BYTES = 64 * 1024
_SIDE_BY_SIDE = 32

_Answer = tuple[Health, str]


class AddressProber:
    """The Prober port: probes go to the containers' addresses, straight from here.

    Whatever happens, `probe` is back after about TIMEOUT_S: who had no turn until then counts as not asked.
    """

    def __init__(
        self,
        *,
        now: Callable[[], float] = clock.now,
        monotonic: Callable[[], float] = clock.monotonic,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._now = now
        self._monotonic = monotonic
        self._timeout_s = timeout_s
        self._pool = ThreadPoolExecutor(_SIDE_BY_SIDE, thread_name_prefix="probe")

    def probe(self, targets: Sequence[ProbeTarget]) -> Mapping[str, tuple[Health, str]]:
        """Health and a few words for each target's container ID. Never raises."""
        deadline = self._monotonic() + self._timeout_s
        answers = self._pool.map(lambda target: self._answer(target, deadline), targets)
        return {target.container.id: answer for target, answer in zip(targets, answers, strict=True)}

    def close(self) -> None:
        """Let the threads go."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _answer(self, target: ProbeTarget, deadline: float) -> _Answer:
        container, check = target.container, target.check
        if not container.is_running:
            return Health.UNKNOWN, f"is {container.status}"
        if check is None or target.port is None:
            return self._old_enough(container, target.min_uptime_s)
        if check.path is None and check.test is not None and container.docker_health != "healthy":
            return Health.SICK, f"its own check says {container.docker_health or 'nothing yet'}"
        if container.address is None:
            return Health.SICK, "has no address"
        return self._reached(Tcp(container.address, target.port), check, deadline)

    def _reached(self, server: Tcp, check: HealthCheck, deadline: float) -> _Answer:
        timeout_s = min(check.timeout_s, deadline - self._monotonic())
        if timeout_s <= 0:
            return Health.UNKNOWN, "not asked: the other probes took too long"
        try:
            if check.path is None:
                can_connect(server, timeout_s, monotonic=self._monotonic)
                return Health.READY, "accepts connections"
            return self._asked(server, check.path, timeout_s)
        except HttpError as error:
            return Health.SICK, _words(error, timeout_s)

    def _asked(self, server: Tcp, path: str, timeout_s: float) -> _Answer:
        request = Request(path, host=str(server))
        response = fetch(server, request, timeout_s, body_max_bytes=PAGE_MAX_BYTES, monotonic=self._monotonic)
        health = Health.READY if 200 <= response.status < 400 else Health.SICK
        return health, f"HTTP {response.status}"

    def _old_enough(self, container: ObservedContainer, min_uptime_s: float) -> _Answer:
        """Nothing to be asked: one that has not fallen over for a while is fine."""
        started = _seconds(container.started_at)
        if started is None:
            return Health.UNKNOWN, "nobody knows since when it runs"
        uptime_s = self._now() - started
        if uptime_s >= min_uptime_s:
            return Health.READY, f"has run for {min_uptime_s:g} s"
        return Health.SICK, f"has run for {max(uptime_s, 0.0):.0f} of {min_uptime_s:g} s"


def _words(error: HttpError, timeout_s: float) -> str:
    match error.failure:
        case Failure.REFUSED:
            return "connection refused"
        case Failure.TIMEOUT:
            return f"no answer within {timeout_s:.1f} s"
        case Failure.UNREACHABLE | Failure.MALFORMED | Failure.TOO_LARGE:
            return str(error)


def _seconds(moment: str) -> float | None:
    """RFC 3339 as seconds since the epoch; None where it is not that, or Docker's "never" (year 1)."""
    try:
        started = datetime.fromisoformat(moment)
    except ValueError:
        return None
    return started.timestamp() if started.tzinfo is not None and started.year > 1 else None
