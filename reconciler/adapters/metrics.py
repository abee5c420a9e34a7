"""The Metrics port: what services say of themselves, beside what nginx says of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from reconciler.adapters import clock
from reconciler.adapters.app_metrics import AppMetrics
from reconciler.core.evidence.readings import Counted, Reading, Unread
from reconciler.core.observed import ObservedContainer
from reconciler.ports import MeasureTarget

TIMEOUT_S = 2.0


class ProxyCounts(Protocol):
    """nginx's own count, see `ingress_metrics`."""

    def read(self, targets: Sequence[MeasureTarget], proxy: ObservedContainer | None) -> Mapping[str, Reading | Unread]:
        """By container ID. Never raises."""
        ...


class CountedTwice:
    """Metrics: pages are asked for while nginx's log is read."""

    def __init__(
        self,
        app: AppMetrics,
        ingress: ProxyCounts,
        *,
        monotonic: Callable[[], float] = clock.monotonic,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._app = app
        self._ingress = ingress
        self._monotonic = monotonic
        self._timeout_s = timeout_s

    def read(self, targets: Sequence[MeasureTarget], proxy: ObservedContainer | None) -> Mapping[str, Counted]:
        """What is counted now, by container ID, for every target, within about 2 s. Never raises."""
        deadline = self._monotonic() + self._timeout_s
        asked = self._app.ask(targets, deadline)
        by_proxy = self._ingress.read(targets, proxy)
        by_service = self._app.answers(asked, deadline)
        return {container: Counted(by_service[container], by_proxy[container]) for container in asked}

    def close(self) -> None:
        """Let the threads go."""
        self._app.close()
