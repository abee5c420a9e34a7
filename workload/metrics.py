"""Counters kept by hand, in the Prometheus text format 0.0.4.

A request costs one dictionary update and one bisection. Label values come from closed sets, so that no client can grow
the exposition.
"""

from bisect import bisect_left
from collections.abc import Iterator
from itertools import accumulate

BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
PATHS = frozenset(("/",))


class Metrics:
    """Requests to the product itself: what asks about the service (health, metrics, chaos) is never recorded."""

    def __init__(self) -> None:
        # Explicit zeros: whoever takes differences sees the first request and the first error as an increase.
        self._requests = {("GET", "/", 200): 0, ("GET", "/", 500): 0, ("POST", "/", 200): 0, ("POST", "/", 500): 0}
        self._bucket_counts = [0] * (len(BUCKETS_S) + 1)
        self._duration_sum_s = 0.0

    def record(self, method: str, path: str, status: int, duration_s: float) -> None:
        key = (method if method in METHODS else "OTHER", path if path in PATHS else "other", status)
        self._requests[key] = self._requests.get(key, 0) + 1
        self._bucket_counts[bisect_left(BUCKETS_S, duration_s)] += 1
        self._duration_sum_s += duration_s

    def exposition(self, uptime_s: float, is_canary: bool, chaos_code: int) -> str:
        """The whole page; `chaos_code` is 0 for none, 1 for slow, 2 for error."""
        lines = [
            *_family("http_requests_total", "counter", "Requests answered."),
            *self._request_samples(),
            *_family("http_request_duration_seconds", "histogram", "From the request's head to its answer."),
            *self._duration_samples(),
            *_family("app_uptime_seconds", "gauge", "Seconds since the process started."),
            f"app_uptime_seconds {uptime_s:.3f}",
            *_family("app_mode", "gauge", "0 stable, 1 canary."),
            f"app_mode {int(is_canary)}",
            *_family("chaos_active", "gauge", "0 none, 1 slow, 2 error."),
            f"chaos_active {chaos_code}",
        ]
        return "\n".join(lines) + "\n"

    def _request_samples(self) -> Iterator[str]:
        for (method, path, status), count in sorted(self._requests.items()):
            yield f'http_requests_total{{method="{method}",path="{path}",status_code="{status}"}} {count}'

    def _duration_samples(self) -> Iterator[str]:
        bounds = [*(f"{bound:g}" for bound in BUCKETS_S), "+Inf"]
        for bound, count in zip(bounds, accumulate(self._bucket_counts), strict=True):
            yield f'http_request_duration_seconds_bucket{{le="{bound}"}} {count}'
        yield f"http_request_duration_seconds_sum {self._duration_sum_s!r}"
        yield f"http_request_duration_seconds_count {sum(self._bucket_counts)}"


def _family(name: str, kind: str, meaning: str) -> tuple[str, str]:
    return f"# HELP {name} {meaning}", f"# TYPE {name} {kind}"
