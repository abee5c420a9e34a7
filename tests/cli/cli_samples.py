"""What a daemon answers to `status`, to be changed at will."""

from __future__ import annotations

import sys
from typing import Any

PROGRAM = [
    sys.executable,
    "-c",
    "import signal, sys; sys.argv[0] = 'swiftdeploy'\n"
    "signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests may ignore it\n"
    "from reconciler.cli.main import main; sys.exit(main())",
]
"""The command line, for a process of its own; words follow."""


def status_of_one_service() -> dict[str, Any]:
    """What a healthy stack of one service answers."""
    return {
        "project": "demo",
        "manifest": {"path": "/srv/demo/manifest.yaml", "revision": "3f2a9c04d1e7aa", "valid": True, "problems": []},
        "url": "http://localhost:8080",
        "state": "converged",
        "services": [service()],
        "nginx": {"status": "running", "port": 8080, "live_hash": "a1b2c3d4e5f6a7", "wanted_hash": "a1b2c3d4e5f6a7"},
        "opa": {"ready": True, "detail": "", "revision": "51d0"},
        "policy": {
            "infrastructure": {"status": "PASS", "reason": ""},
            "canary": {"status": "UNKNOWN", "reason": "no traffic in the window"},
        },
        "traffic": {
            "req_per_sec": None,
            "p99_latency_ms": None,
            "error_rate": None,
            "why_unknown": "no requests in the last 30 s",
        },
        "last_cycle": {
            "number": 812,
            "at": "2026-05-06T12:00:00.000Z",
            "trigger": "interval",
            "plan": [],
            "errors": [],
        },
        "daemon": {"pid": 4711, "version": "0.1.0", "since": 1778061600.0},
    }


def service(**changes: Any) -> dict[str, Any]:
    return {
        "name": "app",
        "mode": "stable",
        "phase": "stable",
        "reason": "",
        "revision": "9b1c22d0e4f3aa",
        "image": "swift-deploy-1-node:latest",
        "version": "1.0.0",
        "slot": "blue",
        "ready": 1,
        "wanted": 1,
        "since": 1778068500.0,
        "quarantined": [],
        "rollout": None,
        "containers": [container()],
        **changes,
    }


def container(**changes: Any) -> dict[str, Any]:
    return {
        "name": "demo-app-blue-9b1c22-1-g1",
        "id": "ab" * 32,
        "slot": "blue",
        "status": "running",
        "health": "ready",
        "detail": "",
        "address": "10.83.0.2",
        "revision": "9b1c22d0e4f3aa",
        "mode": "stable",
        **changes,
    }


def status_of_a_rollout() -> dict[str, Any]:
    """The guide's example: a canary that is too slow, beside stable."""
    value = status_of_one_service()
    canary = container(
        name="demo-app-green-51d0aa-1-g2", slot="green", address="10.83.0.3", revision="51d0aa7c51d0aa", mode="canary"
    )
    value["state"] = "converging"
    value["services"] = [service(mode="canary", phase="analyzing", rollout=rollout(), containers=[container(), canary])]
    value["traffic"] = {"req_per_sec": 15, "p99_latency_ms": 620, "error_rate": 0.03, "why_unknown": ""}
    value["policy"]["canary"] = {
        "status": "FAIL",
        "reason": "P99 latency exceeds 500ms; Error rate exceeds 1% threshold",
        "violations": rollout()["policy"]["violations"],
    }
    return value


def rollout(**changes: Any) -> dict[str, Any]:
    """What `status` says of a rollout under way, as in the guide's example."""
    return {
        "phase": "analyzing",
        "step": 2,
        "steps": 3,
        "weight": 25,
        "since": 1778068886.0,
        "step_seconds": 34.0,
        "step_duration": 60.0,
        "held": False,
        "paused": None,
        "stable": {"revision": "9b1c22d0e4f3aa", "version": "1.0.0", "image": "demo:1", "ready": 2, "wanted": 2},
        "canary": {"revision": "51d0aa7c51d0aa", "version": "1.1.0", "image": "demo:2", "ready": 1, "wanted": 1},
        "reason": "P99 latency exceeds 500ms; Error rate exceeds 1% threshold",
        "next": "stays here until the limits are kept; rolls back once it is proven bad",
        "policy": {
            "status": "FAIL",
            "action": "hold",
            "reason": "P99 latency exceeds 500ms; Error rate exceeds 1% threshold",
            "violations": [
                {
                    "id": "max_error_rate",
                    "message": "Error rate exceeds 1% threshold",
                    "observed": "0.03",
                    "limit": "0.01",
                },
                {"id": "max_p99_latency_ms", "message": "P99 latency exceeds 500ms", "observed": "620", "limit": "500"},
            ],
            "revision": "77ab77ab77ab77ab",
            "decision_id": "4c1f0c1e-7d5e-4f0e-9b59-0d8f1b7c2a10",
        },
        "window": {
            "requests": 450,
            "req_per_sec": 15.0,
            "error_rate": 0.03,
            "p99_ms": 620.0,
            "seconds": 30.0,
            "why_unknown": "",
        },
        "limits": {"max_error_rate": 0.01, "max_p99_latency_ms": 500.0},
        "evidence": evidence(),
        "quarantined": [],
        "chaos": "none",
        **changes,
    }


def evidence() -> dict[str, Any]:
    """What was counted in a whole run, as `core.summary.as_json` gives it."""
    errors = {
        "requests": 1412,
        "baseline_requests": 4236,
        "count": 31,
        "rate": 0.021955,
        "rate_low": 0.0142,
        "rate_high": 0.0317,
        "baseline_rate": 0.0041,
        "excess": 0.017855,
        "e_above_limit": 43.2,
        "e_below_limit": 0.02,
        "e_worse": 12.5,
        "baseline_e_above_limit": 0.02,
        "bad_cycles": 4,
        "design_effect": 1.3,
        "threshold_ms": None,
        "bucket_exact": None,
        "p99_low_ms": None,
        "p99_high_ms": None,
    }
    slow = {"count": 5, "rate": 0.003541, "rate_low": 0.0008, "rate_high": 0.0094, "baseline_rate": 0.0012}
    odds = {"e_above_limit": 0.1, "e_below_limit": 7.3, "e_worse": 1.4}
    buckets = {"threshold_ms": 500.0, "bucket_exact": True, "p99_low_ms": 250.0, "p99_high_ms": 1000.0}
    return {
        "about": "canary/51d0",
        "source": "service",
        "requests": {"canary": 1412, "baseline": 4236},
        "window": {},
        "errors": errors,
        "latency": {**errors, **slow, **odds, **buckets},
        "e_catastrophic": 0.001,
        "traffic": {"expected_share": 0.25, "observed_share": 0.244, "e_mismatch": 0.6},
        "data_quality": {
            "ok": True,
            "why": "",
            "missed_scrapes": 0,
            "counter_resets": 0,
            "canary_restarts": 0,
            "disagreement": "",
        },
        "observed_s": 94.0,
        "evidence_s": 79.0,
        "chaos": "none",
        "needs": {"requests": 300, "seconds": 49.0},
    }
