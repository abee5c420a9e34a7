"""The daemon's own Prometheus metrics, on the loopback address only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from reconciler.core.plan import WAITING
from reconciler.core.rollout import Phase

if TYPE_CHECKING:
    from reconciler.core.record import Cycle

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class OwnMetrics:
    """Gauges and counters, all taken from finished cycles."""

    def __init__(self, version: str) -> None:
        self._registry = CollectorRegistry()
        build = Gauge("swiftdeploy_build_info", "Always 1.", ["version"], registry=self._registry)
        build.labels(version).set(1)
        self._cycles = Counter("swiftdeploy_cycles", "Finished cycles.", ["trigger"], registry=self._registry)
        self._seconds = Histogram(
            "swiftdeploy_cycle_seconds", "Duration of a cycle.", buckets=_SECONDS, registry=self._registry
        )
        self._actions = Counter(
            "swiftdeploy_actions", "Actions carried out, waits left out.", ["verb", "outcome"], registry=self._registry
        )
        self._errors = Counter("swiftdeploy_cycle_errors", "Cycles that an error spoiled.", registry=self._registry)
        self._converged = Gauge("swiftdeploy_converged", "1 when nothing is left to do.", registry=self._registry)
        self._valid = Gauge("swiftdeploy_manifest_valid", "1 when the manifest can be used.", registry=self._registry)
        self._last = Gauge(
            "swiftdeploy_last_cycle_timestamp_seconds", "End of the last cycle.", registry=self._registry
        )
        self._phase = Gauge(
            "swiftdeploy_service_phase",
            "1 for the phase a service is in.",
            ["service", "phase"],
            registry=self._registry,
        )

    def serve(self, port: int) -> bool:
        """Serve on 127.0.0.1 until the process ends; false when the port is taken."""
        try:
            start_http_server(port, addr="127.0.0.1", registry=self._registry)
        except OSError:
            return False
        return True

    def finished(self, cycle: Cycle) -> None:
        """Count a cycle."""
        self._cycles.labels(cycle.trigger.kind).inc()
        self._seconds.observe(cycle.duration_ms / 1000)
        for step, result in zip(cycle.plan.steps, cycle.results, strict=True):
            if not isinstance(step.action, WAITING):
                self._actions.labels(step.verb, result.outcome.value).inc()
        if cycle.errors:
            self._errors.inc()
        self._converged.set(1 if cycle.is_converged else 0)
        self._valid.set(0 if cycle.problems else 1)
        self._last.set_to_current_time()
        for name, state in cycle.rollout.services.items():
            for phase in Phase:
                self._phase.labels(name, phase.value).set(1 if state.phase is phase else 0)
