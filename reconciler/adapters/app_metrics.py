"""What services say of themselves: their metrics pages, asked for at the addresses of their containers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from datetime import datetime

from reconciler.adapters import clock
from reconciler.adapters.http_client import HttpError, Request, Response, Tcp, fetch
from reconciler.core.evidence.readings import Reading, Unread
from reconciler.core.observed import ObservedContainer
from reconciler.formats import exposition
from reconciler.ports import MeasureTarget

PAGE_MAX_BYTES = 4 * 1024 * 1024
_SIDE_BY_SIDE = 16
_NO_PAGE = frozenset((*range(300, 400), 401, 403, 404, 405, 406, 410, 501))
"""Answers that mean "here is no metrics page", as opposed to "not now"."""

_KINDS = ("text/plain", "application/openmetrics-text")

Asked = Mapping[str, "Future[Reading | Unread]"]


class AppMetrics:
    """Asks all containers side by side; nothing is followed, nothing is asked of any other address."""

    def __init__(
        self, *, now: Callable[[], float] = clock.now, monotonic: Callable[[], float] = clock.monotonic
    ) -> None:
        self._now = now
        self._monotonic = monotonic
        self._pool = ThreadPoolExecutor(_SIDE_BY_SIDE, thread_name_prefix="metrics")

    def ask(self, targets: Sequence[MeasureTarget], deadline: float) -> Asked:
        """Begin to ask; `deadline` (monotonic seconds) holds for all of it."""
        return {target.container.id: self._pool.submit(self._reading, target, deadline) for target in targets}

    def answers(self, asked: Asked, deadline: float) -> dict[str, Reading | Unread]:
        """What was answered by `deadline`, by container ID. Never raises."""
        wait(asked.values(), timeout=max(0.0, deadline - self._monotonic()))
        late = Unread("its metrics page was not read in time")
        return {
            container: late if future.cancel() or not future.done() else future.result()
            for container, future in asked.items()
        }

    def close(self) -> None:
        """Let the threads go."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _reading(self, target: MeasureTarget, deadline: float) -> Reading | Unread:
        container, service = target.container, target.service
        if service.metrics.provider == "ingress":
            return Unread("it is not asked: metrics.provider is ingress", is_absent=True)
        if service.port is None:
            return Unread("it has no port", is_absent=True)
        began = began_at(container)
        if not container.is_running or container.address is None or began is None:
            return Unread(f"it is {container.status}" if not container.is_running else "it has no address or no age")
        try:
            page = self._page(Tcp(container.address, service.port), service.metrics.path, deadline)
            at = self._now()
            names, uncounted = exposition.names_of(service.metrics), exposition.uncounted_paths(service)
            return reading_of(exposition.read(page, names, uncounted), at, began)
        except exposition.ExpositionError as error:
            return Unread(str(error), error.is_absent)
        except HttpError as error:
            return Unread(f"its metrics page was not read: {error}")

    def _page(self, server: Tcp, path: str, deadline: float) -> bytes:
        """The page. Raises HttpError and ExpositionError."""
        left_s = deadline - self._monotonic()
        request = Request(path, host=str(server), headers=(("Accept", "text/plain;version=0.0.4"),))
        response = fetch(server, request, left_s, body_max_bytes=PAGE_MAX_BYTES, monotonic=self._monotonic)
        if response.status != 200:
            why = f"{path} answers {response.status}"
            raise exposition.ExpositionError(why, is_absent=response.status in _NO_PAGE)
        if not _is_exposition(response):
            raise exposition.ExpositionError(f"{path} is no page in the Prometheus text format", is_absent=True)
        return response.body


def reading_of(found: exposition.Exposed, at: float, began: float) -> Reading:
    """A page as the reading of a moment; `began` is the container's start, its age stands in for an uptime not told."""
    uptime_s = found.uptime_s if found.uptime_s is not None else max(0.0, at - began)
    return Reading(at, began, found.requests, found.errors, found.buckets, uptime_s, found.mode, found.chaos)


def _is_exposition(response: Response) -> bool:
    kind = (response.header("content-type") or _KINDS[0]).partition(";")[0].strip().lower()
    return kind in _KINDS


def began_at(container: ObservedContainer) -> float | None:
    """When the engine started a container, in seconds since the epoch; None where it says "never" or nothing."""
    try:
        started = datetime.fromisoformat(container.started_at)
    except ValueError:
        return None
    return started.timestamp() if started.tzinfo is not None and started.year > 1 else None
