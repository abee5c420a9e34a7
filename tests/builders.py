"""Small worlds with defaults, for tests of the core: name only what the test is about."""

from __future__ import annotations

import dataclasses
from typing import Any

from reconciler.core.containers import KeptRevision, Layout
from reconciler.core.desired import DesiredState, Mode, Network, Nginx, RolloutSpec, Service, Step, spec_hash
from reconciler.core.evidence import Summary, begin, limits_of, measure, summarise
from reconciler.core.evidence.readings import Counted, Reading, Unread
from reconciler.core.observed import (
    EngineState,
    Health,
    ObservedContainer,
    ObservedImage,
    ObservedNetwork,
    ObservedProxy,
    ObservedState,
    PolicyHealth,
    Slot,
    Status,
)
from reconciler.core.planner import PROXY_CONFIG, Wish, make_plan, sha256
from reconciler.core.rollout import Course, Group, Member, Phase, Release, Rollout, ServiceRollout
from reconciler.core.targets import PolicyTarget, Targets, make_targets

NETWORK = ObservedNetwork("net1", "web", ours=True, subnet="10.1.0.0/22", ip_range="10.1.3.0/24", attached=2)
CONFIG = "events {}\n"
CONFIG_HASH = "c" * 64
POLICY_REVISION = "p" * 64
LAYOUT = Layout("/state/rendered", "/state/run", "65534:65534")


def service(**changes: Any) -> Service:
    """A service that moves to another revision without analysis and watch, unless a test is about these."""
    quick = RolloutSpec(steps=(), watch_s=0.0)
    return dataclasses.replace(Service("app", "demo:1", 3000, log_volume="demo-logs", rollout=quick), **changes)


def desired(*services: Service, **changes: Any) -> DesiredState:
    state = DesiredState(
        "demo", "m" * 64, services or (service(),), Nginx("nginx:1.30", 8080, service_name="app"), Network("web")
    )
    return dataclasses.replace(state, **changes)


def image(reference: str, image_id: str | None = None) -> ObservedImage:
    return ObservedImage(reference, image_id or f"sha256:{reference}", reference)


IMAGES = {name: image(name) for name in ("demo:1", "demo:2", "nginx:1.30", "openpolicyagent/opa:1.19.0-static")}


def targets(wanted: DesiredState | None = None, stored: tuple[KeptRevision, ...] = (), **changes: Any) -> Targets:
    wanted = wanted or desired()
    made = make_targets(wanted, IMAGES, stored, LAYOUT, ())
    opa = dataclasses.replace(made.proxy, image="opa", network=None)  # type: ignore[type-var]
    policy = PolicyTarget(POLICY_REVISION, opa, {"opa/pppp/data.json": "{}\n"})  # type: ignore[arg-type]
    return dataclasses.replace(made, **{"policies": (policy,), **changes})


def kept(of: Service) -> KeptRevision:
    found = IMAGES[of.image]
    return KeptRevision(spec_hash(of, found.id, "web"), of, found, "web")


def release(of: Service | None = None, mode: Mode = Mode.STABLE) -> Release:
    return Release(kept(of or service()).revision, mode)


def group(of: Service | None = None, mode: Mode = Mode.STABLE, slot: Slot = Slot.BLUE) -> Group:
    return Group(release(of, mode), slot)


def canary(of: Service, slot: Slot = Slot.GREEN) -> Group:
    """What is tried of `of` beside stable, in the slot that is free."""
    return group(of, Mode.CANARY, slot)


def container(
    of: Release | Group | None = None, slot: Slot = Slot.BLUE, replica: int = 0, **changes: Any
) -> ObservedContainer:
    """One that is ready; of a group, in the slot that the group was born in."""
    if isinstance(of, Group):
        of, slot = of.release, of.slot
    of = of or release()
    made = ObservedContainer(
        id=f"id-{slot}-{replica}-{of.revision[:4]}-{of.mode}",
        name=f"demo-app-{slot}-{of.revision[:8]}-{replica}-g1",
        service="app",
        revision=of.revision,
        status=Status.RUNNING,
        slot=slot,
        replica=replica,
        mode=of.mode.value,
        generation=1,
        address=f"10.1.0.{20 + replica + (100 if slot is Slot.GREEN else 0) + (50 if of.mode is Mode.CANARY else 0)}",
        networks=("net1",),
        health=Health.READY,
    )
    return dataclasses.replace(made, **changes)


def nginx(**changes: Any) -> ObservedContainer:
    spec = targets().proxy
    assert spec is not None
    made = ObservedContainer(
        "id-nginx", "demo-nginx-1", "nginx", spec.digest(), Status.RUNNING, generation=1, networks=("net1",), pid=77
    )
    return dataclasses.replace(made, **changes)


def opa(**changes: Any) -> ObservedContainer:
    made = ObservedContainer(
        "id-opa", "demo-opa-1", "opa", targets().policies[0].spec.digest(), Status.RUNNING, generation=1
    )
    return dataclasses.replace(made, **changes)


def observed(*containers: ObservedContainer, **changes: Any) -> ObservedState:
    """A converged host but for `containers`, which are all there is of ours."""
    engine = EngineState(
        containers=containers,
        networks=changes.pop("networks", (NETWORK,)),
        volumes=changes.pop("volumes", frozenset({"demo-logs"})),
        images=changes.pop("images", IMAGES),
        ports_taken=changes.pop("ports_taken", {}),
        images_failed=changes.pop("images_failed", {}),
    )
    files = {PROXY_CONFIG: sha256(CONFIG), "opa/pppp/data.json": sha256("{}\n")}
    state = ObservedState(
        engine,
        files=files,
        proxy=ObservedProxy(live_hash=CONFIG_HASH, weights={"app": 0}),
        policies={POLICY_REVISION: PolicyHealth(True)},
    )
    return dataclasses.replace(state, **changes)


STEPS = (Step(5, 60.0), Step(25, 60.0), Step(50, 60.0))


def state(phase: Phase = Phase.STABLE, **changes: Any) -> ServiceRollout:
    """A service whose stable containers were born and serve in blue, with three steps to climb."""
    made = ServiceRollout(
        "app",
        phase,
        stable=group(),
        course=Course(steps=STEPS),
        blue=(Member(container().id, "10.1.0.20"),),
        since=1000.0,
        seen=1000.0,
        run=1,
    )
    return dataclasses.replace(made, **changes)


def rollout(of: ServiceRollout | None = None, **changes: Any) -> Rollout:
    return dataclasses.replace(Rollout({"app": of or state()}), **changes)


def wish(wanted: DesiredState | None = None, made: Targets | None = None, **changes: Any) -> Wish:
    wanted = wanted or desired()
    plain = Wish(wanted, made or targets(wanted), "inst", {PROXY_CONFIG: CONFIG}, CONFIG_HASH)
    return dataclasses.replace(plain, **changes)


def plan_text(seen: ObservedState, of: Rollout | None = None, wanted: Wish | None = None) -> str:
    return str(make_plan(wanted or wish(), seen, of or rollout()))


def summary(about: str = "canary/x/1/y", chaos: str = "none") -> Summary:
    """A minute in which a canary answered 300 requests, 3 of them badly."""
    limits, absent, evidence = limits_of({}), Unread("not counted", is_absent=True), begin(about, 1000.0)
    for second in range(0, 61, 5):
        now, total = 1000.0 + second, 5 * second
        buckets = ((0.5, total), (float("inf"), total))
        reading = Reading(now, 1000.0, {"/": total}, {"/": second // 20}, buckets, float(second), "canary", chaos)
        seen = {"c": Counted(reading, absent)}
        evidence = measure(evidence, seen, {}, limits, provider="auto", now=now, horizon_s=600.0, share=None)
    return summarise(evidence, limits, 1060.0)
