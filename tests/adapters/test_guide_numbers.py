"""The guide's own numbers, from its page of metrics to the words of its answer: 125 requests, 5 errors, 4 %."""

from __future__ import annotations

import math

from reconciler.core.desired import RolloutSpec
from reconciler.core.evidence import begin, measure, summarise
from reconciler.core.evidence.limits import limits_of
from reconciler.core.evidence.readings import Counted, Reading, Unread
from reconciler.formats.exposition import Names, read
from reconciler.formats.policy import AskedWindow, CanaryQuestion, question_canary
from tests.adapters.test_opa import Engine, binary  # noqa: F401  (binary is a fixture)
from tests.adapters.test_opa_canary import running  # noqa: F401  (running is a fixture)

PAGE = b"""\
http_requests_total{method="GET",path="/",status="200"} 120
http_requests_total{method="GET",path="/",status="500"} 5
http_request_duration_seconds_bucket{le="0.5"} 100
http_request_duration_seconds_bucket{le="1"} 110
http_request_duration_seconds_bucket{le="+Inf"} 125
app_uptime_seconds 360
app_mode 1
chaos_active 2
"""


def test_the_guides_page_becomes_the_guides_answer(running: Engine) -> None:  # noqa: F811
    page = read(PAGE, Names())
    assert (page.mode, page.chaos, page.uptime_s) == ("canary", "error", 360.0)
    reading = Reading(
        1000.0, 640.0, page.requests, page.errors, page.buckets, page.uptime_s or 0.0, page.mode, page.chaos
    )
    counted = {"c": Counted(reading, Unread("no proxy here", is_absent=True))}
    limits = limits_of({"warmup_seconds": 0.0})
    known = measure(begin("guide", 630.0), counted, {}, limits, provider="app", now=1000.0, horizon_s=600.0, share=None)
    window = summarise(known, limits, 1000.0).window
    assert (window.requests, window.error_rate) == (125, 0.04)
    assert window.p99_ms is not None
    assert math.isclose(window.p99_ms, 1000.0), "the 99th percentile is beyond the last finite bound, which is 1 s"
    asked = CanaryQuestion(
        service="app",
        mode="canary",
        window=AskedWindow(window.requests, window.error_rate, 600.0, 30.0),
        purpose="promote",
        rollout=RolloutSpec(),
        chaos=page.chaos,
    )
    verdict = running.port.evaluate("canary", question_canary(asked), running.revision)
    assert not verdict.allow
    assert verdict.violations[0].message == "Error rate exceeds 1% threshold"


def test_the_guides_flat_question_has_the_guides_answer(running: Engine) -> None:  # noqa: F811
    verdict = running.port.evaluate(
        "canary", {"error_rate": 0.04, "p99_latency": 100, "mode": "canary"}, running.revision
    )
    assert (verdict.allow, verdict.reason) == (False, "Error rate exceeds 1% threshold")
    both = running.port.evaluate("canary", {"error_rate": 0.04, "p99_latency": 600, "mode": "canary"}, running.revision)
    assert (both.allow, both.reason) == (False, "Error rate exceeds 1% threshold; P99 latency exceeds 500ms")
