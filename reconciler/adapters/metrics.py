"""The Metrics port: what services say of themselves, or a server of them, beside what nginx says of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from reconciler.adapters import clock
from reconciler.adapters.app_metrics import AppMetrics
from reconciler.adapters.prometheus import PrometheusMetrics
from reconciler.core.evidence.readings import Counted, Reading, Unread
from reconciler.core.observed import ObservedContainer
from reconciler.ports import MeasureTarget

TIMEOUT_S = 2.0
LOOKS = 80
"""Looks of nginx's count that are kept, to be laid beside scrapes: at one in 2.5 s these are three minutes."""

SAME_MOMENT_S = 3.0

Readings = Mapping[str, Reading | Unread]


class ProxyCounts(Protocol):
    """nginx's own count, see `ingress_metrics`."""

    def read(self, targets: Sequence[MeasureTarget], proxy: ObservedContainer | None) -> Readings:
        """By container ID. Never raises."""
        ...


class CountedTwice:
    """Metrics: pages and servers are asked while nginx's log is read."""

    def __init__(
        self,
        app: AppMetrics,
        ingress: ProxyCounts,
        server: PrometheusMetrics,
        *,
        monotonic: Callable[[], float] = clock.monotonic,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._app = app
        self._ingress = ingress
        self._server = server
        self._monotonic = monotonic
        self._timeout_s = timeout_s
        self._in_step = InStep()

    def read(self, targets: Sequence[MeasureTarget], proxy: ObservedContainer | None) -> Mapping[str, Counted]:
        """What is counted now, by container ID, for every target, within about 2 s. Never raises."""
        deadline = self._monotonic() + self._timeout_s
        by_server = [target for target in targets if target.service.metrics.provider == "prometheus"]
        pages = self._app.ask([target for target in targets if target not in by_server], deadline)
        questions = self._server.ask(by_server, deadline)
        by_proxy = self._ingress.read(targets, proxy)
        by_service = self._app.answers(pages, deadline)
        scraped = self._server.answers(questions, deadline)
        found = {container: Counted(by_service[container], by_proxy[container]) for container in pages}
        return found | self._in_step.counted(by_server, scraped, by_proxy)

    def close(self) -> None:
        """Let the threads go."""
        self._app.close()
        self._server.close()


class InStep:
    """Gives scrapes of one service's containers out together, each with nginx's count of the same moment.

    A server scrapes each container at another moment of its interval, and looks come more often than scrapes. A
    comparison needs what both sides counted in the same cycle, so a new scrape waits until all have one; until then
    everybody's last one is told again, which adds nothing. nginx's count of now beside a scrape of 15 s ago would
    be a disagreement, so its earlier counts are kept for that long.
    """

    def __init__(self) -> None:
        self._given: dict[str, Counted] = {}
        self._by_proxy: dict[str, deque[Reading]] = {}

    def counted(self, targets: Sequence[MeasureTarget], scraped: Readings, by_proxy: Readings) -> dict[str, Counted]:
        """By container ID, for every target. What cannot be read now is said at once, and keeps nobody waiting."""
        ids = [target.container.id for target in targets]
        self._given = {each: self._given[each] for each in ids if each in self._given}
        self._by_proxy = {each: self._by_proxy.get(each) or deque(maxlen=LOOKS) for each in ids}
        for each in ids:
            if isinstance(count := by_proxy[each], Reading):
                self._by_proxy[each].append(count)
        services: dict[str, list[str]] = {}
        for target in targets:
            services.setdefault(target.service.name, []).append(target.container.id)
        return {
            each: counted
            for those in services.values()
            for each, counted in self._of_one_service(those, scraped, by_proxy).items()
        }

    def _of_one_service(self, ids: Iterable[str], scraped: Readings, by_proxy: Readings) -> dict[str, Counted]:
        fresh = {each: found for each in ids if isinstance(found := scraped[each], Reading)}
        are_all_new = all(self._is_newer(each, found) for each, found in fresh.items())
        for each, found in fresh.items():
            if are_all_new or self._begins_anew(each, found):
                self._given[each] = Counted(found, self._of_that_moment(each, found.at, by_proxy[each]))
        return {each: self._given[each] if each in fresh else Counted(scraped[each], by_proxy[each]) for each in ids}

    def _begins_anew(self, container: str, found: Reading) -> bool:
        given = self._given.get(container)
        return given is None or not isinstance(given.service, Reading) or given.service.began != found.began

    def _is_newer(self, container: str, found: Reading) -> bool:
        given = self._given.get(container)
        return given is None or not isinstance(given.service, Reading) or found.at > given.service.at

    def _of_that_moment(self, container: str, at: float, now: Reading | Unread) -> Reading | Unread:
        nearest = min(self._by_proxy[container], key=lambda each: abs(each.at - at), default=None)
        if nearest is not None and abs(nearest.at - at) <= SAME_MOMENT_S:
            return nearest
        return now if isinstance(now, Unread) else Unread("it was not read at the moment of the scrape")
