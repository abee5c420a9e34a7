"""A plan is its own expectation: what would be done is read, line by line."""

from __future__ import annotations

import dataclasses
import re

import pytest

from reconciler.core.observed import (
    Health,
    ObservedNetwork,
    ObservedProxy,
    ObservedState,
    PolicyHealth,
    Status,
)
from reconciler.core.plan import (
    CreateContainer,
    PrepareProxy,
    RemoveContainer,
    SetTraffic,
    StopContainer,
    WaitProxy,
)
from reconciler.core.planner import PROXY_CONFIG, make_plan
from reconciler.core.rollout import Phase, Rollout, ServiceRollout
from tests.builders import (
    CONFIG,
    CONFIG_HASH,
    IMAGES,
    NETWORK,
    POLICY_REVISION,
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
from tests.core.planner_world import CANARY, FRESH, NEW, OLD, PARKED, REV1, REV2, TRIED, V2, host, planned


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
