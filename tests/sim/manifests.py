"""What people ask for, spelt in words: `"2 hold x2 job"` is demo:2, kept as a canary, two replicas, beside a worker."""

from __future__ import annotations

import dataclasses
import functools
import hashlib

from reconciler.core.desired import DesiredState, Mode, Network, Nginx, RolloutSpec, Route, Service, Step, Strategy

HEALTH_DEADLINE_S = 20.0
UNKNOWN_BUDGET_S = 8.0
DRAIN_S = 6.0
STEP_S = 1.0
IMAGES = ("demo:1", "demo:2", "demo:3")
HELPERS = ("nginx:1.30", "openpolicyagent/opa:1.19.0-static")

_BASE = RolloutSpec(
    steps=(Step(10, STEP_S), Step(50, STEP_S)),
    min_requests=5,
    watch_s=5.0,
    max_wait_s=60.0,
    drain_s=DRAIN_S,
    health_deadline_s=HEALTH_DEADLINE_S,
    unknown_budget_s=UNKNOWN_BUDGET_S,
)
ROLLOUTS = {
    "canary": _BASE,
    "adopt": dataclasses.replace(_BASE, promotion="adopt"),
    "blue_green": dataclasses.replace(_BASE, strategy=Strategy.BLUE_GREEN, probe_path="/healthz"),
    "quick": dataclasses.replace(_BASE, steps=(), watch_s=0.0),
    "rolling": dataclasses.replace(_BASE, strategy=Strategy.ROLLING, steps=()),
    "patient": dataclasses.replace(_BASE, steps=(Step(10, 3.0), Step(50, 3.0))),
    "recreate": dataclasses.replace(_BASE, strategy=Strategy.RECREATE, steps=()),
}
EXTRAS = ("job", "shop", "strict", "port", "hold", "x2", "x3")
"""A worker, a second routed service, other limits, another port of nginx, a canary that is kept, replicas."""


@functools.cache
def manifest(words: str) -> DesiredState:
    """The manifest that `words` stand for: a version, then any of ROLLOUTS and EXTRAS."""
    version, *rest = words.split()
    extras = frozenset(rest)
    unknown = extras - ROLLOUTS.keys() - set(EXTRAS)
    assert not unknown, f"no such words: {unknown}"
    spec = next((ROLLOUTS[word] for word in rest if word in ROLLOUTS), _BASE)
    replicas = 3 if "x3" in extras else 2 if "x2" in extras else 1
    mode = Mode.CANARY if "hold" in extras else Mode.STABLE
    image = f"demo:{version}"
    services = [Service("app", image, 3000, mode=mode, replicas=replicas, rollout=spec, log_volume="demo-logs")]
    if "job" in extras:
        services.append(Service("job", image, None, route=None, healthcheck=None, rollout=ROLLOUTS["recreate"]))
    if "shop" in extras:
        services.append(Service("shop", image, 3000, route=Route(path="/shop/"), rollout=spec))
    rate = 0.005 if "strict" in extras else 0.01
    return DesiredState(
        "demo",
        hashlib.sha256(words.encode()).hexdigest(),
        tuple(services),
        Nginx("nginx:1.30", 8081 if "port" in extras else 8080, service_name="app"),
        Network("web"),
        limits={"canary": {"warmup_seconds": 0.0, "max_error_rate": rate}},
    )
