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
        "traffic": {"req_per_sec": None, "p99_latency_ms": None, "error_rate": None},
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
