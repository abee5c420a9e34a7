"""A plan is its own expectation: what would be done is read, line by line."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest

from reconciler.core.desired import RolloutSpec, Strategy
from reconciler.core.membership import is_of, remember
from reconciler.core.observed import (
    Health,
    ObservedContainer,
    ObservedNetwork,
    ObservedProxy,
    ObservedState,
    PolicyHealth,
    Slot,
    Status,
)
from reconciler.core.plan import (
    CreateContainer,
    Plan,
    PrepareProxy,
    RemoveContainer,
    SetTraffic,
    StartContainer,
    StopContainer,
    WaitProxy,
)
from reconciler.core.planner import PROXY_CONFIG, is_on_trial, make_plan
from reconciler.core.rollout import Course, Phase, Rollout, ServiceRollout
from tests.builders import (
    CONFIG,
    CONFIG_HASH,
    IMAGES,
    NETWORK,
    POLICY_REVISION,
    STEPS,
    canary,
    container,
    desired,
    group,
    image,
    kept,
    nginx,
    observed,
    opa,
    plan_text,
    release,
    rollout,
    service,
    state,
    targets,
    wish,
)

V2 = service(image="demo:2")
REV1, REV2 = release().revision[:8], release(V2).revision[:8]
TRIED, FRESH = canary(V2), group(V2)
OLD, CANARY, NEW = container(), container(TRIED, restart_policy="no"), container(FRESH)
PARKED = dataclasses.replace(OLD, status=Status.EXITED, exit_code=0, health=Health.UNKNOWN)


def host(*containers: ObservedContainer, weight: int = 0, **proxy: object) -> ObservedState:
    """nginx and OPA run, and `weight` % go to the slot that is not the default one."""
    seen = ObservedProxy(CONFIG_HASH, weights={"app": weight}, **proxy)  # type: ignore[arg-type]
    return observed(*containers, nginx(), opa(), proxy=seen)


def planned(of: ServiceRollout, seen: ObservedState, wanted=V2, **wishes: object) -> Plan:
    """The plan where both revisions can be started."""
    made = targets(desired(wanted), stored=(kept(service()), kept(V2)))
    return make_plan(wish(desired(wanted), made, **wishes), seen, rollout(of))


def touched(plan: Plan, kind: type) -> list[str]:
    return [step.target for step in plan.steps if isinstance(step.action, kind)]


def test_a_converged_host_gets_an_empty_plan() -> None:
    assert plan_text(observed(container(), nginx(), opa())) == ""


def test_opa_comes_first_and_alone() -> None:
    seen = observed(networks=(), volumes=frozenset(), policies={})
    text = plan_text(seen, Rollout())
    digest = targets().policies[0].spec.digest()[:8]
    assert text == (
        f"prepare opa: missing\ncreate demo-opa-{digest}-g1: missing\nstart opa: missing\nwait for opa: starting\n"
    )


@pytest.mark.fault("B8")
def test_a_missing_image_is_pulled_and_what_failed_is_said() -> None:
    seen = observed(opa(), images_failed={"demo:1": "no such host"})
    wanted = wish(made=targets(missing=("demo:1",)))
    assert plan_text(seen, Rollout(), wanted) == "pull demo:1: not here; last try: no such host\n"


def test_a_first_release_is_created_beside_nginx_and_nothing_is_stopped() -> None:
    starting = state(Phase.STARTING, stable=None, candidate=group(), blue=())
    seen = observed(opa(), networks=(), volumes=frozenset(), proxy=ObservedProxy(), files={})
    wanted = dataclasses.replace(wish(), files={PROXY_CONFIG: "x"})
    text = plan_text(seen, rollout(starting, subnet="10.9.0.0/22", ip_range="10.9.3.0/24"), wanted)
    spec = targets().proxy
    assert spec is not None
    assert text.splitlines() == [
        "write opa/pppp/data.json: missing",
        "create network web: missing",
        "create volume demo-logs: missing",
        f"write {PROXY_CONFIG}: missing",
        "prepare nginx: missing",
        f"create demo-nginx-{spec.digest()[:8]}-g1: missing",
        "start nginx: missing",
        "wait for nginx: starting",
        f"create demo-app-blue-{REV1}-0-g1: new release {release()}",
        f"start demo-app-blue-{REV1}-0-g1: new release {release()}",
        f"wait for demo-app-blue-{REV1}-0-g1: starting",
        "set traffic app → 0 %: the default slot serves",
    ]


def test_a_candidate_starts_in_the_other_slot_at_an_address_of_ours() -> None:
    starting = state(Phase.STARTING, candidate=TRIED)
    plan = make_plan(wish(desired(V2)), observed(container(), nginx(), opa()), rollout(starting))
    (create,) = [step.action for step in plan.steps if isinstance(step.action, CreateContainer)]
    assert create.name == f"demo-app-green-{REV2}-0-g2"
    assert create.address is not None
    assert create.address.startswith("10.1.")
    assert not create.address.startswith("10.1.3.")
    labels = dict(create.labels)
    assert labels["io.swiftdeploy.slot"] == "green"
    assert labels["io.swiftdeploy.revision"] == release(V2).revision
    assert not any(isinstance(step.action, StopContainer | RemoveContainer) for step in plan.steps)


@pytest.mark.fault("I2")
def test_traffic_moves_only_after_nginx_runs_the_new_configuration() -> None:
    promoting = state(Phase.PROMOTING, candidate=TRIED, reason="policy says so")
    seen = host(OLD, dataclasses.replace(CANARY, restart_policy=""))
    plan = planned(promoting, seen, files={PROXY_CONFIG: "both slots"})
    assert str(plan) == (
        f"test {PROXY_CONFIG}: changed\n"
        f"write {PROXY_CONFIG}: not as rendered\n"
        "reload nginx: its configuration changed\n"
        "wait for nginx: reloading\n"
        "set traffic app → 100 %: policy says so\n"
    )
    move = next(step for step in plan.steps if isinstance(step.action, SetTraffic))
    wait = next(i for i, step in enumerate(plan.steps) if isinstance(step.action, WaitProxy))
    assert move.after == (wait,)


def settling(**proxy: object) -> tuple[ServiceRollout, ObservedState]:
    """New stable containers serve; the canary's are to go, the old ones stand by."""
    of = state(Phase.SETTLING, stable=FRESH, kept=group())
    return of, host(PARKED, NEW, CANARY, **proxy)  # type: ignore[arg-type]


@pytest.mark.fault("I3")
def test_what_served_is_stopped_only_after_no_worker_knows_it() -> None:
    of, seen = settling(retiring=1, retiring_for_s=0.4, weight=100)
    plan = planned(of, seen)
    assert str(plan) == (
        "wait for nginx: 1 old workers still serve\n"
        "set traffic app → 0 %: the default slot serves\n"
        f"stop {CANARY.name}: not wanted any more\n"
        f"remove {CANARY.name}: not wanted any more\n"
    )
    assert [step.after for step in plan.steps] == [(), (0,), (0, 1), (2,)]


def test_a_drain_that_reached_its_limit_does_not_wait_for_ever() -> None:
    of, seen = settling(retiring=1, retiring_for_s=31.0)
    assert str(planned(of, seen)).startswith("stop ")


def test_long_lived_connections_at_rest_are_nobodys_business_once_the_drain_is_over() -> None:
    assert str(planned(state(), host(OLD, retiring=2, retiring_for_s=31.0), service())) == ""
    text = str(planned(state(), host(OLD, retiring=2, retiring_for_s=9.0), service()))
    assert text in ("", "wait for nginx: 2 old workers still serve\n")


def test_a_killed_container_is_started_again() -> None:
    dead = container(status=Status.EXITED, exit_code=137, health=Health.UNKNOWN)
    assert plan_text(observed(dead, nginx(), opa())) == (
        f"start {dead.name}: exited with code 137\nwait for {dead.name}: starting\n"
    )


@pytest.mark.fault("B6", "B26")
def test_a_removed_container_is_replaced_under_a_new_name() -> None:
    text = plan_text(observed(nginx(), opa()))
    assert text == (
        f"create demo-app-blue-{REV1}-0-g1: missing\n"
        f"start demo-app-blue-{REV1}-0-g1: missing\n"
        f"wait for demo-app-blue-{REV1}-0-g1: starting\n"
    )


@pytest.mark.fault("B10")
def test_a_tag_that_has_moved_changes_nothing_of_what_is_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    stored, of = (kept(service()),), rollout()
    monkeypatch.setitem(IMAGES, "demo:1", image("demo:1", "sha256:another"))
    plan = make_plan(wish(desired(), targets(desired(), stored)), observed(nginx(), opa()), of)
    (create,) = [step.action for step in plan.steps if isinstance(step.action, CreateContainer)]
    assert create.spec.image_id == "sha256:demo:1"


@pytest.mark.fault("B25")
def test_what_a_person_paused_is_left_paused_and_said() -> None:
    paused = container(status=Status.PAUSED, health=Health.UNKNOWN)
    plan = make_plan(wish(), observed(paused, nginx(), opa()), rollout())
    hint = f"{paused.name} is paused: `docker unpause {paused.name}` lets it go on"
    assert (plan.steps, plan.notes) == ((), (hint,))


@pytest.mark.fault("B14")
def test_the_longest_names_that_a_manifest_may_give_make_a_name_that_docker_takes() -> None:
    longest = dataclasses.replace(service(), name="s" * 63)
    wanted = desired(longest, project="p" * 63)
    of = Rollout({longest.name: state(service=longest.name, stable=group(longest))})
    plan = make_plan(wish(wanted, targets(wanted)), observed(nginx(), opa()), of)
    (create,) = [step.action for step in plan.steps if isinstance(step.action, CreateContainer)]
    assert re.fullmatch(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{1,250}", create.name)


def test_a_stopped_nginx_is_prepared_and_started() -> None:
    stopped = nginx(status=Status.EXITED, exit_code=0)
    text = plan_text(observed(container(), stopped, opa(), proxy=ObservedProxy(weights={"app": 0})))
    assert text == ("prepare nginx: exited with code 0\nstart nginx: exited with code 0\nwait for nginx: starting\n")


@pytest.mark.fault("I5", "I11")
def test_a_hand_edited_configuration_is_written_tested_and_reloaded() -> None:
    files = {PROXY_CONFIG: "0" * 64, "opa/pppp/data.json": observed().files["opa/pppp/data.json"]}
    text = plan_text(observed(container(), nginx(), opa(), files=files))
    assert text == (
        f"test {PROXY_CONFIG}: changed\n"
        f"write {PROXY_CONFIG}: not as rendered\n"
        "reload nginx: its configuration changed\n"
        "wait for nginx: reloading\n"
    )


@pytest.mark.fault("I2", "I9")
def test_a_reload_that_did_not_show_is_asked_for_again_but_not_at_once() -> None:
    early = ObservedProxy("old", retiring=2, retiring_for_s=1.0, weights={"app": 0})
    late = ObservedProxy("old", retiring=2, retiring_for_s=6.0, weights={"app": 0})
    assert plan_text(observed(container(), nginx(), opa(), proxy=early)) == "wait for nginx: reloading\n"
    assert plan_text(observed(container(), nginx(), opa(), proxy=late)) == (
        "reload nginx: runs an older configuration\nwait for nginx: reloading\n"
    )


@pytest.mark.fault("B18", "B27")
def test_a_lost_network_is_made_again_and_everybody_reattached() -> None:
    lost = observed(container(networks=()), nginx(networks=()), opa(), networks=())
    text = plan_text(lost, rollout(subnet="10.1.0.0/22", ip_range="10.1.3.0/24"))
    assert text == (
        "create network web: missing\n"
        "connect demo-nginx-1: not on the network\n"
        f"connect {container().name}: not on the network\n"
    )


def test_a_foreign_network_gets_no_fixed_addresses() -> None:
    theirs = ObservedNetwork("net1", "web", ours=False, subnet="10.1.0.0/24", ip_range=None, attached=3)
    plan = make_plan(wish(), observed(nginx(), opa(), networks=(theirs,)), rollout())
    (create,) = [step.action for step in plan.steps if isinstance(step.action, CreateContainer)]
    assert create.address is None


@pytest.mark.fault("B33")
def test_an_unused_duplicate_of_our_network_is_removed() -> None:
    twin = ObservedNetwork("net2", "web", ours=True, subnet="10.2.0.0/22", ip_range="10.2.3.0/24", attached=0)
    text = plan_text(observed(container(), nginx(), opa(), networks=(twin, NETWORK)))
    assert text == "remove network web: a duplicate that nobody uses\n"


def test_new_policies_run_before_the_old_ones_stop() -> None:
    old = opa(id="id-old", name="demo-opa-0", revision="other")
    waiting = {POLICY_REVISION: PolicyHealth(False, "not asked yet")}
    assert "remove" not in plan_text(observed(container(), nginx(), opa(), old, policies=waiting))
    text = plan_text(observed(container(), nginx(), opa(), old))
    assert text == "stop demo-opa-0: another OPA answers\nremove demo-opa-0: another OPA answers\n"


def test_replacing_nginx_needs_an_operators_word() -> None:
    other = nginx(revision="other")
    seen = observed(container(), other, opa())
    plan = make_plan(wish(), seen, rollout())
    assert str(plan) == ""
    assert "deploy --allow-interruption" in plan.notes[0]
    text = plan_text(seen, wanted=wish(allow_interruption=True))
    assert text.splitlines()[:2] == [
        "stop demo-nginx-1: nginx's image, port or settings changed",
        "remove demo-nginx-1: nginx's image, port or settings changed",
    ]


def test_fewer_replicas_go_after_nginx_forgot_them() -> None:
    three = [container(replica=i) for i in range(3)]
    seen = observed(*three, nginx(), opa(), files={**observed().files, PROXY_CONFIG: "0" * 64})
    plan = make_plan(wish(), seen, rollout())
    removed = [step for step in plan.steps if isinstance(step.action, StopContainer)]
    assert [step.target for step in removed] == [three[1].name, three[2].name]
    wait = next(i for i, step in enumerate(plan.steps) if isinstance(step.action, WaitProxy))
    assert all(wait in step.after for step in removed)


def test_a_stable_release_that_left_the_manifest_is_still_healed() -> None:
    starting = state(Phase.STARTING, candidate=TRIED)
    made = targets(desired(V2), stored=(kept(service()),))
    text = plan_text(observed(nginx(), opa()), rollout(starting), wish(desired(V2), made))
    assert f"create demo-app-blue-{REV1}-0-g1: missing" in text


def test_what_cannot_be_started_again_is_said() -> None:
    starting = state(Phase.STARTING, candidate=TRIED)
    plan = make_plan(wish(desired(V2)), observed(nginx(), opa()), rollout(starting))
    assert "cannot be started again" in plan.notes[0]


def test_a_canary_is_told_that_it_is_one_and_is_not_restarted_by_docker() -> None:
    plan = planned(state(Phase.STARTING, candidate=TRIED), host(OLD))
    (create,) = [step.action for step in plan.steps if isinstance(step.action, CreateContainer)]
    assert dict(create.spec.environment)["MODE"] == "canary"
    assert dict(create.labels)["io.swiftdeploy.mode"] == "canary"
    assert create.spec.restart_policy == "no"


def test_stable_containers_are_told_that_they_are_and_are_restarted_by_docker() -> None:
    for of, seen in (
        (state(), host()),
        (state(Phase.RENEWING, candidate=TRIED, fresh=FRESH), host(CANARY, PARKED, weight=100)),
    ):
        plan = planned(of, seen)
        (create,) = [step.action for step in plan.steps if isinstance(step.action, CreateContainer)]
        assert dict(create.spec.environment)["MODE"] == "stable"
        assert create.spec.restart_policy == "unless-stopped"


def test_a_teardown_stops_nginx_first_and_spares_data_volumes() -> None:
    seen = observed(container(), nginx(), opa(), volumes=frozenset({"demo-logs", "data"}))
    text = plan_text(seen, rollout(torn_down=True))
    assert text == (
        "stop demo-nginx-1: torn down\n"
        "remove demo-nginx-1: torn down\n"
        f"stop {container().name}: torn down\n"
        f"remove {container().name}: torn down\n"
        "stop demo-opa-1: torn down\n"
        "remove demo-opa-1: torn down\n"
        "remove network web: torn down\n"
        "remove volume demo-logs: torn down\n"
    )
    assert "remove volume data" in plan_text(seen, rollout(torn_down=True, drop_volumes=True))


def test_a_network_that_others_use_stays() -> None:
    shared = dataclasses.replace(NETWORK, attached=3)
    plan = make_plan(wish(), observed(container(), nginx(), networks=(shared,)), rollout(torn_down=True))
    assert "remove network" not in str(plan)
    assert "other containers use it" in plan.notes[0]


@pytest.mark.fault("B40")
def test_containers_of_another_instance_are_never_touched() -> None:
    theirs = container(ours=False)
    plan = make_plan(wish(), observed(theirs, nginx(), opa()), rollout(torn_down=True))
    assert theirs.name not in str(plan)


def test_nginx_that_lost_sight_of_its_files_is_restarted_with_a_word_only() -> None:
    blind = ObservedProxy(CONFIG_HASH, weights={"app": 0}, sees_files=False)
    seen = observed(container(), nginx(), opa(), proxy=blind)
    plan = make_plan(wish(), seen, rollout())
    assert str(plan) == "wait for nginx: does not see our files\n"
    assert "--allow-interruption" in plan.notes[0]
    text = plan_text(seen, wanted=wish(allow_interruption=True))
    assert "stop demo-nginx-1" not in text
    assert text.splitlines()[-3:] == [
        "stop nginx: its folder was replaced",
        "start nginx: its folder was replaced",
        "wait for nginx: starting",
    ]


def test_a_file_that_nginx_includes_is_mended_and_loaded() -> None:
    harmed = ObservedProxy(CONFIG_HASH, weights={"app": 0}, has_includes=False)
    plan = make_plan(wish(), observed(container(), nginx(), opa(), proxy=harmed), rollout())
    assert str(plan) == (
        "prepare nginx: a file that it includes is not as it should be\n"
        "reload nginx: a file that it includes was mended\n"
        "wait for nginx: reloading\n"
    )
    assert [step.after for step in plan.steps] == [(), (0,), (1,)]
    assert plan.steps[0].action == PrepareProxy(("app",), CONFIG)


def test_nginx_gets_what_its_configuration_includes_before_it_starts() -> None:
    stopped = dataclasses.replace(nginx(), status=Status.EXITED)
    plan = make_plan(wish(), observed(container(), stopped, opa(), proxy=ObservedProxy(weights={"app": 0})), rollout())
    assert PrepareProxy(("app",), CONFIG) in [step.action for step in plan.steps]


# ---------------------------------------------------------------- what each phase wants


ADOPTED = Course(steps=STEPS, is_adopted=True)
RUNNING_AND_KEPT = [
    (state(Phase.STARTING, candidate=TRIED), [OLD, CANARY], 0),
    (state(Phase.ANALYZING, candidate=TRIED), [OLD, CANARY], 5),
    (state(Phase.SUSPENDED, candidate=TRIED), [OLD, CANARY], 0),
    (state(Phase.PROMOTING, candidate=TRIED), [OLD, dataclasses.replace(CANARY, restart_policy="unless-stopped")], 100),
    (state(Phase.PARKING, candidate=TRIED), [PARKED, CANARY], 100),
    (state(Phase.RENEWING, candidate=TRIED, fresh=FRESH), [PARKED, CANARY, NEW], 100),
    (state(Phase.HALTED, candidate=TRIED, fresh=FRESH), [PARKED, CANARY], 100),
    (state(Phase.SWITCHING, candidate=TRIED, fresh=FRESH), [PARKED, CANARY, NEW], 0),
    (state(Phase.SETTLING, stable=FRESH, kept=group()), [PARKED, NEW], 0),
    (state(Phase.WATCHING, stable=FRESH, kept=group()), [PARKED, NEW], 0),
    (state(Phase.TURNING, stable=TRIED, kept=group(), serving=Slot.GREEN, course=ADOPTED), [OLD, CANARY], 0),
    (state(Phase.PARKING, stable=TRIED, kept=group(), serving=Slot.GREEN, course=ADOPTED), [PARKED, CANARY], 0),
    (state(Phase.RETURNING, candidate=TRIED), [OLD, CANARY], 100),
    (state(Phase.RETURNING, stable=FRESH, kept=group()), [OLD, NEW], 0),
    (state(Phase.RESTORING, candidate=TRIED), [OLD, CANARY], 0),
    (state(Phase.RESTORING, stable=FRESH, kept=group()), [OLD, NEW], 100),
    (state(Phase.ROLLING_BACK), [OLD], 0),
    (state(), [OLD], 0),
]


@pytest.mark.parametrize(
    ("of", "containers", "weight"), RUNNING_AND_KEPT, ids=lambda value: getattr(value, "phase", "")
)
def test_a_phase_that_has_what_it_wants_leaves_it_alone(
    of: ServiceRollout, containers: list[ObservedContainer], weight: int
) -> None:
    carrying = [dataclasses.replace(c, restart_policy="") for c in containers]
    assert str(planned(of, host(*carrying, weight=weight))) == ""


@pytest.mark.parametrize("is_back", [True, False])
def test_what_is_condemned_is_healed_only_as_long_as_nobody_serves_in_its_place(is_back: bool) -> None:
    of = state(Phase.RESTORING, stable=FRESH, kept=group())
    back = OLD if is_back else dataclasses.replace(OLD, health=Health.SICK)
    dead = dataclasses.replace(NEW, status=Status.EXITED, exit_code=137, health=Health.UNKNOWN)
    plan = planned(of, host(back, dead, weight=0))
    assert touched(plan, StartContainer) == ([] if is_back else [NEW.name])


@pytest.mark.parametrize(
    ("old", "new", "moves"),
    [
        ({}, {}, True),
        ({"health": Health.SICK}, {}, False),
        ({"health": Health.SICK}, {"health": Health.SICK}, True),
        ({"status": Status.PAUSED}, {"networks": (), "health": Health.SICK}, False),
        ({"status": Status.PAUSED}, {"status": Status.PAUSED}, True),
    ],
)
def test_requests_go_back_to_old_ones_unless_only_the_new_ones_may_serve(
    old: dict[str, Any], new: dict[str, Any], moves: bool
) -> None:
    of = state(Phase.RESTORING, stable=FRESH, kept=group())
    plan = planned(of, host(dataclasses.replace(OLD, **old), dataclasses.replace(NEW, **new), weight=0))
    assert any(isinstance(step.action, SetTraffic) for step in plan.steps) is moves


@pytest.mark.parametrize(
    ("of", "containers", "weight"), RUNNING_AND_KEPT, ids=lambda value: getattr(value, "phase", "")
)
def test_whoever_serves_is_healed_in_every_phase(
    of: ServiceRollout, containers: list[ObservedContainer], weight: int
) -> None:
    tried = {c.id for c in containers if any(is_on_trial(of, g) and is_of(c, g) for g in of.groups)}
    for dead in (c for c in containers if (c.is_running and c is not OLD) or (c is OLD and of.kept is None)):
        if dead.id in tried or (of.phase is Phase.RESTORING and dead is not OLD):
            continue  # that it ended speaks against it, and nobody helps it up; nor what is condemned, and replaced
        gone = dataclasses.replace(dead, status=Status.EXITED, exit_code=137, health=Health.UNKNOWN)
        plan = planned(of, host(*(gone if c is dead else c for c in containers), weight=weight))
        assert touched(plan, StartContainer) == [dead.name]
        assert touched(plan, RemoveContainer) == []


@pytest.mark.parametrize(
    ("of", "containers", "weight"),
    [case for case in RUNNING_AND_KEPT if PARKED in case[1]],
    ids=lambda value: getattr(value, "phase", ""),
)
def test_what_is_kept_is_neither_started_nor_removed_nor_missed(
    of: ServiceRollout, containers: list[ObservedContainer], weight: int
) -> None:
    for seen in (containers, [c for c in containers if c is not PARKED]):
        plan = planned(of, host(*seen, weight=weight))
        assert not [s for s in plan.steps if isinstance(s.action, CreateContainer | StartContainer | RemoveContainer)]


@pytest.mark.parametrize(
    ("of", "there"),
    [
        (state(Phase.PARKING, candidate=TRIED), CANARY),
        (state(Phase.PARKING, stable=TRIED, kept=group(), serving=Slot.GREEN, course=ADOPTED), CANARY),
        (state(Phase.SETTLING, stable=FRESH, kept=group()), NEW),
        (state(Phase.WATCHING, stable=FRESH, kept=group()), NEW),
    ],
)
def test_what_is_kept_is_stopped_once_nginx_has_forgotten_it(of: ServiceRollout, there: ObservedContainer) -> None:
    weight = of.weight_pct
    there = dataclasses.replace(there, restart_policy="")
    draining = planned(of, host(OLD, there, weight=weight, retiring=2, retiring_for_s=1.0))
    if of.phase is Phase.WATCHING:
        assert str(draining) == f"stop {OLD.name}: kept for a roll back\n", "nothing drains any more"
    else:
        assert str(draining) == f"wait for nginx: 2 old workers still serve\nstop {OLD.name}: kept for a roll back\n"
        assert draining.steps[1].after == (0,)
    drained = planned(of, host(OLD, there, weight=weight))
    assert str(drained) == f"stop {OLD.name}: kept for a roll back\n"


def test_kept_containers_go_when_the_watch_is_over() -> None:
    over = state(stable=FRESH, course=Course())
    assert str(planned(over, host(PARKED, NEW))) == f"remove {PARKED.name}: not wanted any more\n"


@pytest.mark.parametrize("phase", [Phase.STARTING, Phase.ANALYZING, Phase.SUSPENDED])
def test_a_canary_on_trial_keeps_its_restart_policy(phase: Phase) -> None:
    plan = planned(state(phase, candidate=TRIED), host(OLD, CANARY, weight=5 if phase is Phase.ANALYZING else 0))
    assert str(plan) == ""


@pytest.mark.parametrize(
    "of",
    [
        state(Phase.PROMOTING, candidate=TRIED),
        state(Phase.PARKING, candidate=TRIED),
        state(stable=TRIED, serving=Slot.GREEN),
    ],
)
def test_a_canary_that_carries_everything_is_healed_by_docker(of: ServiceRollout) -> None:
    containers = [CANARY] if of.candidate is None else [OLD, CANARY]
    plan = planned(of, host(*containers, weight=of.weight_pct))
    assert f"set restart policy of {CANARY.name}: it carries all requests now" in str(plan)
    again = planned(of, host(*(dataclasses.replace(c, restart_policy="unless-stopped") for c in containers)))
    assert "restart policy" not in str(again)


def test_a_halted_promotion_removes_what_would_not_do_so_that_a_retry_starts_afresh() -> None:
    bad = dataclasses.replace(NEW, status=Status.RESTARTING, restarts=3, exit_code=1, health=Health.UNKNOWN)
    halted = state(Phase.HALTED, candidate=TRIED, fresh=FRESH)
    plan = planned(halted, host(PARKED, dataclasses.replace(CANARY, restart_policy=""), bad, weight=100))
    assert [step.verb for step in plan.steps] == ["stop", "remove"]
    assert touched(plan, RemoveContainer) == [NEW.name]


def test_a_roll_back_removes_the_canary_after_its_weight_is_gone_and_nginx_forgot_it() -> None:
    back = state(Phase.ROLLING_BACK, candidate=TRIED, reason="Error rate exceeds 1% threshold")
    plan = planned(back, host(OLD, CANARY, weight=25, retiring=1, retiring_for_s=1.0))
    assert str(plan) == (
        "wait for nginx: 1 old workers still serve\n"
        "set traffic app → 0 %: Error rate exceeds 1% threshold\n"
        f"stop {CANARY.name}: not wanted any more\n"
        f"remove {CANARY.name}: not wanted any more\n"
    )
    assert [step.after for step in plan.steps] == [(), (), (0, 1), (2,)], "the weight goes down without waiting"


@pytest.mark.fault("B24")
def test_dead_leftovers_and_doubles_are_removed_and_the_newest_stays() -> None:
    old = dataclasses.replace(OLD, status=Status.DEAD)
    double = dataclasses.replace(OLD, id="id-2", name="demo-app-blue-2", generation=2)
    assert touched(planned(state(), host(old, double), service()), RemoveContainer) == [OLD.name]
    seen = host(OLD, double)
    newer = remember(rollout(), seen, {"app": 1}).of("app")
    assert touched(planned(newer, seen, service()), RemoveContainer) == [OLD.name]


# ---------------------------------------------------------------- weights


@pytest.mark.parametrize(
    ("phase", "seen", "weight", "waits"),
    [
        (Phase.ANALYZING, 0, 25, True),
        (Phase.ANALYZING, 50, 25, False),
        (Phase.SUSPENDED, 25, 0, False),
        (Phase.ROLLING_BACK, 25, 0, False),
        (Phase.PROMOTING, 50, 100, True),
        (Phase.SWITCHING, 100, 0, True),
        (Phase.RESTORING, 100, 0, True),
    ],
)
def test_weight_goes_up_only_behind_nginx_and_down_to_a_proven_slot_at_once(
    phase: Phase, seen: int, weight: int, waits: bool
) -> None:
    of = state(phase, candidate=TRIED, step=1, fresh=FRESH if phase is Phase.SWITCHING else None)
    there = [OLD, dataclasses.replace(CANARY, restart_policy=""), *([NEW] if of.fresh else [])]
    plan = planned(of, host(*there, weight=seen), files={PROXY_CONFIG: "other members"})
    (move,) = [step for step in plan.steps if isinstance(step.action, SetTraffic)]
    wait = next(i for i, step in enumerate(plan.steps) if isinstance(step.action, WaitProxy))
    assert move.action == SetTraffic("app", weight)
    assert move.after == ((wait,) if waits else ())


def test_an_unready_canary_gets_nothing_until_it_is_back() -> None:
    sick = dataclasses.replace(CANARY, health=Health.SICK, restart_policy="")
    analyzing = state(Phase.ANALYZING, candidate=TRIED, step=1)
    text = str(planned(analyzing, host(OLD, sick, weight=25)))
    assert "set traffic app → 0 %" in text
    assert "set traffic" not in str(planned(analyzing, host(OLD, sick, weight=0)))
    assert "set traffic app → 25 %" in str(planned(analyzing, host(OLD, CANARY, weight=0)))


def test_lost_flags_are_set_again() -> None:
    seen = observed(OLD, nginx(), opa(), proxy=ObservedProxy(CONFIG_HASH, weights={}))
    assert str(planned(state(), seen, service())) == "set traffic app → 0 %: the default slot serves\n"


SICK_CANARY = dataclasses.replace(CANARY, health=Health.SICK, restart_policy="")


def test_a_promotion_gives_an_unready_canary_no_more_than_it_has() -> None:
    promoting = state(Phase.PROMOTING, candidate=TRIED)
    assert touched(planned(promoting, host(OLD, SICK_CANARY, weight=5)), SetTraffic) == []


def test_a_switch_to_new_stable_containers_that_fell_sick_does_not_happen() -> None:
    switching = state(Phase.SWITCHING, candidate=TRIED, fresh=FRESH)
    sick = dataclasses.replace(NEW, health=Health.SICK)
    seen = host(PARKED, dataclasses.replace(CANARY, restart_policy=""), sick, weight=100)
    assert touched(planned(switching, seen), SetTraffic) == []


def test_a_return_from_a_promotion_that_had_only_begun_raises_no_weight() -> None:
    returning = state(Phase.RETURNING, candidate=TRIED)
    assert touched(planned(returning, host(OLD, SICK_CANARY, weight=5)), SetTraffic) in ([], ["app → 0 %"])


# ---------------------------------------------------------------- replicas that take turns

THREE = service(replicas=3, rollout=RolloutSpec(strategy=Strategy.ROLLING))


def updating(strategy: Strategy, phase: Phase = Phase.UPDATING) -> ServiceRollout:
    return state(phase, candidate=FRESH, course=Course(strategy))


def replicas(of: object, *numbers: int) -> list[ObservedContainer]:
    return [container(of, replica=number) for number in numbers]  # type: ignore[arg-type]


def turn_text(of: ServiceRollout, *containers: ObservedContainer) -> str:
    return str(planned(of, host(*containers), dataclasses.replace(V2, replicas=3)))


def test_a_rolling_successor_starts_beside_the_old_one() -> None:
    text = turn_text(updating(Strategy.ROLLING), *replicas(group(), 0, 1, 2))
    assert text == "".join(
        f"{line}\n"
        for line in (
            f"create demo-app-blue-{REV2}-0-g2: new release {FRESH}",
            f"start demo-app-blue-{REV2}-0-g2: new release {FRESH}",
            f"wait for demo-app-blue-{REV2}-0-g2: starting",
        )
    )


def test_a_rolling_predecessor_goes_when_its_successor_is_ready_and_the_next_one_starts() -> None:
    plan = planned(
        updating(Strategy.ROLLING),
        host(*replicas(group(), 0, 1, 2), *replicas(FRESH, 0)),
        dataclasses.replace(V2, replicas=3),
    )
    assert touched(plan, RemoveContainer) == [container().name]
    assert touched(plan, CreateContainer) == [f"demo-app-blue-{REV2}-1-g2"]


def test_a_rolling_successor_that_is_not_ready_keeps_the_old_one_and_the_next_waiting() -> None:
    sick = dataclasses.replace(replicas(FRESH, 0)[0], health=Health.SICK, health_detail="503")
    text = turn_text(updating(Strategy.ROLLING), *replicas(group(), 0, 1, 2), sick)
    assert text == f"wait for {sick.name}: 503\n"


def test_a_recreated_successor_starts_after_its_predecessor_is_gone() -> None:
    plan = planned(updating(Strategy.RECREATE), host(*replicas(group(), 0, 1, 2)), dataclasses.replace(V2, replicas=3))
    assert touched(plan, RemoveContainer) == [container().name]
    removed = next(i for i, step in enumerate(plan.steps) if isinstance(step.action, RemoveContainer))
    created = next(step for step in plan.steps if isinstance(step.action, CreateContainer))
    assert created.target == f"demo-app-blue-{REV2}-0-g2"
    assert removed in created.after


@pytest.mark.parametrize("strategy", [Strategy.ROLLING, Strategy.RECREATE])
def test_an_old_replica_that_waits_for_its_turn_is_healed(strategy: Strategy) -> None:
    old = replicas(group(), 1, 2)
    dead = dataclasses.replace(old[1], status=Status.EXITED, exit_code=137, health=Health.UNKNOWN)
    text = turn_text(updating(strategy), old[0], dead, *replicas(FRESH, 0))
    assert f"start {dead.name}: exited with code 137" in text


@pytest.mark.parametrize("strategy", [Strategy.ROLLING, Strategy.RECREATE])
def test_a_failed_update_goes_back_the_way_it_came(strategy: Strategy) -> None:
    back = updating(strategy, Phase.ROLLING_BACK)
    plan = planned(back, host(*replicas(group(), 1, 2), *replicas(FRESH, 0)), dataclasses.replace(V2, replicas=3))
    assert touched(plan, CreateContainer) == [f"demo-app-blue-{REV1}-0-g2"]
    removes = touched(plan, RemoveContainer)
    assert removes == ([] if strategy is Strategy.ROLLING else [container(FRESH).name])
    done = planned(back, host(*replicas(group(), 0, 1, 2), *replicas(FRESH, 0)), dataclasses.replace(V2, replicas=3))
    assert touched(done, RemoveContainer) == [container(FRESH).name]


def test_a_service_without_a_route_moves_no_traffic() -> None:
    worker = service(port=None, route=None, healthcheck=None)
    seen = observed(container(group(worker)), nginx(), opa(), proxy=ObservedProxy(CONFIG_HASH, weights={}))
    text = plan_text(seen, rollout(state(stable=group(worker))), wish(desired(worker)))
    assert text == ""


@pytest.mark.fault("E2")
@pytest.mark.parametrize("phase", [Phase.STABLE, Phase.ANALYZING])
def test_a_service_that_left_the_manifest_goes_when_the_others_are_where_they_should_be(phase: Phase) -> None:
    left = dataclasses.replace(OLD, id="id-old", name="demo-old", service="old")
    of = Rollout(
        {"app": state(phase, candidate=TRIED if phase is Phase.ANALYZING else None), "old": state(service="old")}
    )
    seen = host(OLD, left) if phase is Phase.STABLE else host(OLD, left, CANARY, weight=5)
    wanted = service() if phase is Phase.STABLE else V2
    made = targets(desired(wanted), stored=(kept(service()), kept(V2)))
    removed = touched(make_plan(wish(desired(wanted), made), seen, of), RemoveContainer)
    assert removed == (["demo-old"] if phase is Phase.STABLE else [])
