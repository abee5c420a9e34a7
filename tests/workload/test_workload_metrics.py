"""/metrics, read by Prometheus's own parser."""

import pytest
from prometheus_client.parser import text_string_to_metric_families
from workload_client import Workload, wait_until

BOUNDS = ["0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10", "+Inf"]


def test_the_families_and_their_types(stable: Workload):
    reply = stable.request("GET", "/metrics")
    families = {family.name: family.type for family in text_string_to_metric_families(reply.body.decode())}
    assert reply.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert families == {
        "http_requests": "counter",
        "http_request_duration_seconds": "histogram",
        "app_uptime_seconds": "gauge",
        "app_mode": "gauge",
        "chaos_active": "gauge",
    }


def test_counters_begin_with_explicit_zeros(start_workload):
    samples = start_workload().samples()
    for method in ("GET", "POST"):
        for status_code in ("200", "500"):
            labels = {"method": method, "path": "/", "status_code": status_code}
            assert samples["http_requests_total", frozenset(labels.items())] == 0
    assert samples["http_request_duration_seconds_count", frozenset()] == 0


def test_requests_are_counted_by_method_path_and_status(start_workload):
    workload = start_workload(MODE="canary")
    for method, path in [("GET", "/")] * 3 + [("POST", "/")] * 2 + [("PUT", "/"), ("HEAD", "/"), ("GET", "/nowhere")]:
        workload.request(method, path)
    workload.inject({"mode": "error", "rate": 1})
    workload.request("GET", "/")
    counted = {
        tuple(dict(labels)[name] for name in ("method", "path", "status_code")): value
        for (name, labels), value in workload.samples().items()
        if name == "http_requests_total" and value
    }
    assert counted == {
        ("GET", "/", "200"): 3,
        ("POST", "/", "200"): 2,
        ("PUT", "/", "405"): 1,
        ("HEAD", "/", "200"): 1,
        ("GET", "other", "404"): 1,
        ("GET", "/", "500"): 1,
    }


def test_the_histogram_is_cumulative_and_agrees_with_the_counter(start_workload):
    workload = start_workload(MODE="canary")
    for _ in range(20):
        workload.request("GET", "/")
    workload.inject({"mode": "slow", "duration": 0.3})
    workload.request("GET", "/")
    samples = workload.samples()
    buckets = [samples["http_request_duration_seconds_bucket", frozenset({("le", bound)})] for bound in BOUNDS]
    below_300_ms = buckets[BOUNDS.index("0.25")]
    assert buckets == sorted(buckets)
    assert below_300_ms <= 20
    assert buckets[-1] == 21 == samples["http_request_duration_seconds_count", frozenset()]
    assert 0.3 <= samples["http_request_duration_seconds_sum", frozenset()] < 5
    assert sum(value for (name, _), value in samples.items() if name == "http_requests_total") == 21


def test_the_buckets_are_the_standard_ones(stable: Workload):
    bounds = [dict(labels)["le"] for name, labels in stable.samples() if name.endswith("_bucket")]
    assert bounds == BOUNDS


def test_questions_about_the_service_count_for_nothing(start_workload):
    workload = start_workload(MODE="canary")
    for path in ("/healthz", "/metrics", "/chaos"):
        for method in ("GET", "POST", "OPTIONS"):
            workload.request(method, path)
    samples = workload.samples()
    assert samples["http_request_duration_seconds_count", frozenset()] == 0
    assert sum(value for (name, _), value in samples.items() if name == "http_requests_total") == 0


def test_no_client_can_grow_the_exposition(start_workload):
    workload = start_workload()
    for number in range(100):
        workload.request("GET", f"/{number}")
    for method in ("PROPFIND", "SEARCH", "TRACE", "LOCK"):
        workload.request(method, "/")
    labels = [dict(labels) for name, labels in workload.samples() if name == "http_requests_total"]
    assert {label["path"] for label in labels} == {"/", "other"}
    assert {label["method"] for label in labels} == {"GET", "POST", "OTHER"}


@pytest.mark.parametrize(("mode", "code"), [("stable", 0), ("canary", 1)])
def test_the_mode_is_a_number(start_workload, mode: str, code: int):
    assert start_workload(MODE=mode).sample("app_mode") == code


def test_the_chaos_is_a_number(canary: Workload):
    codes = [canary.sample("chaos_active")]
    for chaos in ({"mode": "slow", "duration": 1}, {"mode": "error", "rate": 0.1}, {"mode": "recover"}):
        canary.inject(chaos)
        codes.append(canary.sample("chaos_active"))
    assert codes == [0, 1, 2, 0]


def test_the_uptime_grows(stable: Workload):
    first = stable.sample("app_uptime_seconds")
    assert 0 < first < 3600
    wait_until(lambda: stable.sample("app_uptime_seconds") > first)
