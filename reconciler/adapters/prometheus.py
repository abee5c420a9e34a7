"""What a Prometheus server has scraped from services: one question per look, for all containers together.

The server's address is the operator's word; what it answers is checked like any other page. Nothing is followed,
nothing is sent but the question, and no answer by the deadline is no answer.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from urllib.parse import urlencode, urlsplit

from reconciler.adapters import clock
from reconciler.adapters.app_metrics import began_at, reading_of
from reconciler.adapters.http_client import Failure, HttpError, Request, Response, Tcp, fetch
from reconciler.core.evidence.readings import Reading, Unread
from reconciler.formats import exposition, prometheus_answer
from reconciler.formats.prometheus_answer import SLACK_S, AnswerError
from reconciler.ports import MeasureTarget

ANSWER_MAX_BYTES = 8 * 1024 * 1024
_SIDE_BY_SIDE = 4

Readings = Mapping[str, Reading | Unread]
Resolve = Callable[[str, int], Sequence[Tcp]]


@dataclass(frozen=True, slots=True)
class _About:
    """What one question is about: a server, and how the series of all containers in it are named."""

    server: str
    names: exposition.Names
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Asked:
    """Questions under way: whom each is about, and the answer to come; None where none could be asked."""

    questions: tuple[tuple[tuple[MeasureTarget, ...], Future[Readings] | None], ...]


class PrometheusMetrics:
    """Asks servers. A question that hangs (a name that is looked up for ever) is not asked a second time meanwhile."""

    def __init__(
        self,
        *,
        now: Callable[[], float] = clock.now,
        monotonic: Callable[[], float] = clock.monotonic,
        resolve: Resolve | None = None,
    ) -> None:
        self._now = now
        self._monotonic = monotonic
        self._resolve = resolve or resolved
        self._pool = ThreadPoolExecutor(_SIDE_BY_SIDE, thread_name_prefix="prometheus")
        self._under_way: dict[_About, Future[Readings]] = {}

    def ask(self, targets: Sequence[MeasureTarget], deadline: float) -> Asked:
        """Begin to ask; `deadline` (monotonic seconds) holds for all of it."""
        groups: dict[_About, list[MeasureTarget]] = {}
        for target in targets:
            groups.setdefault(_about(target), []).append(target)
        self._under_way = {about: one for about, one in self._under_way.items() if not one.done()}
        return Asked(tuple((tuple(those), self._begun(about, those, deadline)) for about, those in groups.items()))

    def answers(self, asked: Asked, deadline: float) -> dict[str, Reading | Unread]:
        """What was answered by `deadline`, by container ID. Never raises."""
        wait([one for _, one in asked.questions if one is not None], timeout=max(0.0, deadline - self._monotonic()))
        found: dict[str, Reading | Unread] = {}
        for targets, one in asked.questions:
            if one is not None and one.done():
                found |= one.result()
            else:
                found |= _all(targets, f"{targets[0].service.metrics.server} did not answer in time")
        return found

    def close(self) -> None:
        """Let the threads go."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _begun(self, about: _About, targets: Sequence[MeasureTarget], deadline: float) -> Future[Readings] | None:
        if about in self._under_way:
            return None
        self._under_way[about] = self._pool.submit(self._readings, about, targets, deadline)
        return self._under_way[about]

    def _readings(self, about: _About, targets: Sequence[MeasureTarget], deadline: float) -> Readings:
        found: dict[str, Reading | Unread] = {}
        running = []
        for target in targets:
            container = target.container
            if not container.is_running:
                found[container.id] = Unread(f"it is {container.status}")
            elif container.address is None or began_at(container) is None:
                found[container.id] = Unread("it has no address or no age")
            else:
                running.append(target)
        if not running:
            return found
        wanted = [prometheus_answer.labels_of(target.container, target.service) for target in running]
        try:
            body = self._asked(about.server, prometheus_answer.query(wanted, about.names), deadline)
            series = prometheus_answer.series_of(body, about.names)
        except HttpError as error:
            return found | _all(running, f"Prometheus could not be asked: {error}")
        except AnswerError as error:
            return found | _all(running, f"{about.server}: {error}")
        return found | {target.container.id: self._reading(target, series, about.names) for target in running}

    def _asked(self, server: str, query: str, deadline: float) -> bytes:
        """The body of the answer. Raises HttpError and AnswerError."""
        at = urlsplit(server)
        left_s = deadline - self._monotonic()
        request = Request(
            f"{at.path.rstrip('/')}/api/v1/query",
            "POST",
            at.netloc,
            (("Content-Type", "application/x-www-form-urlencoded"), ("Accept", "application/json")),
            urlencode({"query": query, "timeout": f"{max(1, int(1000 * left_s))}ms"}).encode("ascii"),
        )
        began = self._now()
        response = self._fetched(self._resolve(at.hostname or "", at.port or 80), request, deadline)
        if response.status != 200:
            why = prometheus_answer.complaint(response.body)
            raise AnswerError(f"it answers {response.status}{f': {why}' if why else ''}")
        _must_be_on_time(response, began, self._now())
        return response.body

    def _fetched(self, servers: Sequence[Tcp], request: Request, deadline: float) -> Response:
        """From the first address where somebody listens: `localhost` has two."""
        first, *others = servers
        try:
            return self._fetch(first, request, deadline)
        except HttpError as error:
            if not others or error.failure not in (Failure.REFUSED, Failure.UNREACHABLE):
                raise
        return self._fetch(others[0], request, deadline)

    def _fetch(self, server: Tcp, request: Request, deadline: float) -> Response:
        left_s = deadline - self._monotonic()
        return fetch(server, request, left_s, body_max_bytes=ANSWER_MAX_BYTES, monotonic=self._monotonic)

    def _reading(
        self, target: MeasureTarget, series: Sequence[prometheus_answer.Series], names: exposition.Names
    ) -> Reading | Unread:
        container, service = target.container, target.service
        began = began_at(container) or 0.0
        wanted, uncounted = prometheus_answer.labels_of(container, service), exposition.uncounted_paths(service)
        try:
            found = prometheus_answer.scraped(series, wanted, names, uncounted, since=began, now=self._now())
        except (AnswerError, exposition.ExpositionError) as error:
            return Unread(str(error))
        return reading_of(found.exposed, found.at, began)


def _all(targets: Sequence[MeasureTarget], why: str) -> dict[str, Reading | Unread]:
    return {target.container.id: Unread(why) for target in targets}


def _about(target: MeasureTarget) -> _About:
    metrics = target.service.metrics
    return _About(metrics.server, exposition.names_of(metrics), tuple(label for label, _ in metrics.match))


def resolved(host: str, port: int) -> Sequence[Tcp]:
    """The addresses of a host. Raises HttpError; may take long, so it is called where others do not wait for it."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise HttpError(Failure.UNREACHABLE, f"{host} is not known here: {error}") from error
    return [Tcp(str(address[0]), port) for *_, address in found]


def _must_be_on_time(response: Response, asked_at: float, answered_at: float) -> None:
    """Raises AnswerError where the server's clock is not ours: its times would name another container's life."""
    try:
        there = parsedate_to_datetime(response.header("date") or "").timestamp()
    except (ValueError, TypeError, OverflowError):
        raise AnswerError("it does not tell its time (no Date header)") from None
    off_s = max(there - answered_at, 0.0) or min(there + 1.0 - asked_at, 0.0)  # it tells whole seconds
    if abs(off_s) > SLACK_S:
        raise AnswerError(f"its clock is {abs(off_s):.0f} s {'ahead' if off_s > 0 else 'behind'}. Set both by NTP")
