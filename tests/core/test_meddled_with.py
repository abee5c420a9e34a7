"""What is planned and decided when somebody, or Docker itself, did something to containers behind our back."""

from __future__ import annotations

import dataclasses

import pytest

from reconciler.core.decide import Context, decide, not_ahead_of
from reconciler.core.membership import current, named, recall, remember
from reconciler.core.observed import Health, ObservedContainer, ObservedProxy, ObservedState, Slot, Status
from reconciler.core.plan import ConnectContainer, Plan, ReloadProxy, RemoveContainer, SetTraffic, StopContainer
from reconciler.core.planner import PROXY_CONFIG, make_plan
from reconciler.core.record import Verdict
from reconciler.core.rollout import Course, Decision, Member, Move, Phase, Rollout, ServiceRollout
from tests.builders import (
    CONFIG_HASH,
    canary,
    container,
    desired,
    group,
    kept,
    nginx,
    observed,
    opa,
    release,
    rollout,
    service,
    state,
    targets,
    wish,
)

V2 = service(image="demo:2")
TRIED, FRESH = canary(V2), group(V2)
OLD, CANARY, NEW = container(), container(TRIED, restart_policy="no"), container(FRESH)
PARKED = dataclasses.replace(OLD, status=Status.EXITED, exit_code=0, health=Health.UNKNOWN)
ROLLBACK = Verdict("canary", False, "Error rate exceeds 1% threshold", action="rollback")


def hung(of: ObservedContainer) -> ObservedContainer:
    """As `docker pause` leaves it."""
    return dataclasses.replace(of, status=Status.PAUSED, health=Health.UNKNOWN)


def host(*containers: ObservedContainer, names: frozenset[str] | None = None, **proxy: object) -> ObservedState:
    """nginx and OPA run; `names` are the addresses in the configuration that nginx runs."""
    seen = ObservedProxy(CONFIG_HASH, **{"weights": {"app": 0}, **proxy}, named=names)  # type: ignore[arg-type]
    return observed(*containers, nginx(), opa(), proxy=seen)


def planned(of: ServiceRollout | Rollout, seen: ObservedState, wanted=V2, **wishes: object) -> Plan:
    made = targets(desired(wanted), stored=(kept(service()), kept(V2)))
    rolled = of if isinstance(of, Rollout) else rollout(of)
    return make_plan(wish(desired(wanted), made, **wishes), seen, rolled)


def decided(of: ServiceRollout, seen: ObservedState, verdict: Verdict | None = None, now: float = 1010.0) -> Decision:
    known = {"app": verdict} if verdict else {}
    (found,) = decide(rollout(of), Context(targets(desired(V2)), seen, now, None, known))
    return found


def taken_away(plan: Plan) -> set[str]:
    """The IDs of the containers that a plan stops or removes."""
    return {s.action.container_id for s in plan.steps if isinstance(s.action, StopContainer | RemoveContainer)}


# ---------------------------------------------------------------- networks and addresses


LOST = dataclasses.replace(OLD, networks=(), address=None, health=Health.SICK)


def test_a_container_without_its_network_comes_back_to_its_own_address() -> None:
    before = rollout(state())
    after = remember(before, host(LOST), {"app": 1})
    assert after.of("app").blue == (Member(OLD.id, "10.1.0.20", OLD.revision),)
    (step,) = (s for s in planned(after, host(LOST), wanted=service()).steps if isinstance(s.action, ConnectContainer))
    assert step.action.address == "10.1.0.20"


def test_a_container_whose_address_nobody_knows_gets_a_fixed_one_and_no_dynamic_one() -> None:
    (step,) = (
        s for s in planned(state(blue=()), host(LOST), wanted=service()).steps if isinstance(s.action, ConnectContainer)
    )
    assert step.action.address is not None
    assert step.action.address.startswith("10.1.")
    assert not step.action.address.startswith("10.1.3.")


def test_a_container_without_its_network_steps_aside_while_others_serve() -> None:
    other = container(replica=1)
    both = remember(rollout(), host(OLD, other), {"app": 2})
    assert [m.container_id for m in remember(both, host(LOST, other), {"app": 2}).of("app").blue] == [other.id]


# ---------------------------------------------------------------- what nginx runs


def test_all_that_nginx_is_told_is_what_its_shown_slots_name() -> None:
    shown = state(Phase.ANALYZING, candidate=TRIED, green=(Member("c", "10.1.0.99"),))
    assert named(rollout(shown)) == {"10.1.0.20", "10.1.0.99"}
    assert named(rollout(dataclasses.replace(shown, phase=Phase.STARTING))) == {"10.1.0.20"}


@pytest.mark.parametrize(("names", "at_once"), [(None, True), ({OLD.address}, True), ({"10.1.0.77"}, False)])
def test_requests_go_back_at_once_only_to_a_stable_container_that_nginx_knows(names, at_once: bool) -> None:
    leaving = state(Phase.ROLLING_BACK, candidate=TRIED)
    seen = host(OLD, CANARY, names=names and frozenset(names), weights={"app": 50})
    plan = planned(leaving, seen, files={PROXY_CONFIG: "with the new address"})
    (move,) = (step for step in plan.steps if isinstance(step.action, SetTraffic))
    assert any(isinstance(step.action, ReloadProxy) for step in plan.steps)
    assert (move.after == ()) is at_once


@pytest.mark.parametrize(
    ("may_name", "at_once"),
    [([], True), ([{OLD.address}], True), ([{"10.1.0.77"}, {OLD.address}], False), ([set()], False)],
    ids=["nobody remembers", "one that knows it", "the one before does not", "nobody in it"],
)
def test_where_nginx_does_not_say_what_it_runs_each_that_it_may_run_has_to_know_them(may_name, at_once: bool) -> None:
    of = state(Phase.ROLLING_BACK, candidate=TRIED, stable=group())
    silent = {"live_hash": None, "may_name": tuple(map(frozenset, may_name)), "weights": {"app": 50}}
    seen = dataclasses.replace(host(OLD, CANARY), proxy=ObservedProxy(**silent))
    (move,) = [s for s in planned(of, seen, wanted=service()).steps if isinstance(s.action, SetTraffic)]
    assert (move.after == ()) is at_once


@pytest.mark.parametrize(("names", "word"), [({CANARY.address}, "no answer"), ({"10.1.0.77"}, "moving to 5 %")])
def test_no_step_is_observed_before_nginx_names_the_canary_where_it_is(names, word: str) -> None:
    of = state(Phase.ANALYZING, candidate=TRIED)
    said = decided(of, host(OLD, CANARY, names=frozenset(names), weights={"app": 5}))
    assert said.reason.startswith(word)


def test_what_policy_condemns_goes_back_before_it_ever_got_its_share() -> None:
    said = decided(state(Phase.ANALYZING, candidate=TRIED), host(OLD, CANARY), verdict=ROLLBACK)
    assert (said.move, said.reason) == (Move.GIVE_UP, ROLLBACK.reason)


# ---------------------------------------------------------------- left over


def left(of: ServiceRollout | None = None, **changes: object) -> tuple[Rollout, ObservedContainer]:
    """`job` left the manifest before Docker made its container; app is at rest."""
    late = container(service="job", **{"id": "late", "status": Status.CREATED, "address": "10.1.0.40", **changes})
    return Rollout({"app": state(), "job": of or ServiceRollout("job", reason="the service left the manifest")}), late


def test_a_container_that_came_after_its_service_had_gone_is_removed() -> None:
    both, late = left()
    assert taken_away(planned(both, host(OLD, late, names=frozenset({"10.1.0.20"})), wanted=service())) == {"late"}


def test_it_is_removed_though_nothing_else_is_deployed() -> None:
    both, late = left()
    alone = Rollout({"job": both.of("job")})
    assert taken_away(planned(alone, host(late, names=frozenset()), wanted=service())) == {"late"}


@pytest.mark.parametrize("names", [None, frozenset({"10.1.0.40"})])
def test_what_nginx_names_or_may_name_is_never_left_over(names: frozenset[str] | None) -> None:
    both, late = left()
    assert taken_away(planned(both, host(OLD, late, names=names), wanted=service())) == set()


def test_what_is_left_over_is_removed_once_no_old_worker_is_left() -> None:
    both, late = left()
    watched = Rollout({**both.services, "app": state(Phase.WATCHING)})
    draining = host(OLD, late, names=frozenset({"10.1.0.20"}), retiring=1, retiring_for_s=0.2)
    (gone,) = (s for s in planned(watched, draining, wanted=service()).steps if isinstance(s.action, RemoveContainer))
    assert gone.after


def test_only_what_is_of_our_project_and_instance_is_left_over() -> None:
    both, late = left(ours=False)
    assert taken_away(planned(both, host(OLD, late, names=frozenset()), wanted=service())) == set()
    both, late = left(slot=None)
    assert taken_away(planned(both, host(OLD, late, names=frozenset()), wanted=service())) == set()


def test_what_an_operator_took_down_waits_for_deploy_however_late_it_is() -> None:
    down = ServiceRollout("app", last_stable=release().revision)
    booting = dataclasses.replace(OLD, health=Health.SICK)
    assert taken_away(planned(rollout(down), host(booting, names=frozenset()), wanted=service())) == set()
    assert recall(rollout(down), host(OLD, names=frozenset()), {}).of("app").phase is Phase.STABLE


def test_after_a_teardown_that_never_came_to_it_deploy_takes_what_was_being_watched() -> None:
    down = ServiceRollout("app", last_stable=release().revision)
    seen = host(PARKED, NEW)
    assert recall(rollout(down), seen, {}).of("app").stable == FRESH
    condemned = dataclasses.replace(down, quarantined=(FRESH.revision,))
    assert recall(rollout(condemned), seen, {}).of("app").phase is Phase.ABSENT


def test_a_lost_rollout_is_rebuilt_once_somebody_is_ready() -> None:
    booting = dataclasses.replace(OLD, health=Health.SICK)
    lost = recall(Rollout(), host(booting), {})
    assert lost.of("app").phase is Phase.ABSENT
    assert recall(lost, host(OLD), {}).of("app").stable == group()
    tried = dataclasses.replace(lost.of("app"), run=1)
    assert recall(rollout(tried), host(OLD), {}).of("app").phase is Phase.ABSENT


def test_what_was_rolled_back_is_left_over_in_the_manifest_too() -> None:
    condemned = ServiceRollout("app", quarantined=(release().revision,))
    seen = host(dataclasses.replace(OLD, status=Status.CREATED), names=frozenset())
    assert taken_away(planned(rollout(condemned), seen, wanted=service())) == {OLD.id}


# ---------------------------------------------------------------- two of one replica, one too many


def test_of_two_containers_of_one_replica_the_newest_that_is_well_counts() -> None:
    newer = dataclasses.replace(OLD, id="newer", name="newer", generation=2, address="10.1.0.30")
    starting = dataclasses.replace(newer, health=Health.SICK)
    gone = dataclasses.replace(newer, status=Status.DEAD)
    assert current((OLD, newer)) == (newer,)
    assert current((OLD, starting)) == (OLD,)
    assert current((OLD, gone)) == (OLD,)
    seen = host(OLD, newer)
    both = remember(rollout(), seen, {"app": 1})
    assert [m.container_id for m in both.of("app").blue] == ["newer"]
    assert taken_away(planned(both, seen, wanted=service())) == {OLD.id}


def test_a_replica_too_many_stays_while_the_others_hang() -> None:
    spare = container(replica=1)
    both = remember(rollout(), host(hung(OLD), spare), {"app": 1})
    assert [m.container_id for m in both.of("app").blue] == [spare.id]
    assert taken_away(planned(both, host(hung(OLD), spare), wanted=service())) == set()
    tried = dataclasses.replace(both.of("app"), phase=Phase.ANALYZING, candidate=TRIED)
    assert taken_away(planned(tried, host(hung(OLD), spare, CANARY), wanted=service())) == set()
    well = remember(both, host(OLD, spare), {"app": 1})
    assert [m.container_id for m in well.of("app").blue] == [OLD.id]
    assert taken_away(planned(well, host(OLD, spare), wanted=service())) == {spare.id}


def test_what_failed_in_a_promotion_goes_though_it_is_well_again() -> None:
    halted = state(Phase.HALTED, candidate=TRIED, fresh=FRESH, green=(Member(CANARY.id, CANARY.address or ""),))
    seen = host(PARKED, CANARY, dataclasses.replace(NEW, restarts=3), weights={"app": 100})
    known = remember(rollout(halted), seen, {"app": 1})
    assert taken_away(planned(known, seen)) == {NEW.id}


# ---------------------------------------------------------------- the last one that is well


def test_the_canary_stays_while_those_that_replaced_it_hang() -> None:
    settling = state(Phase.SETTLING, stable=FRESH, kept=group(), blue=(Member(NEW.id, "10.1.0.20"),))
    assert taken_away(planned(settling, host(PARKED, NEW, CANARY))) == {CANARY.id}
    assert taken_away(planned(settling, host(PARKED, hung(NEW), CANARY))) == set()


def test_a_canary_that_is_rolled_back_goes_where_another_revision_waits_for_its_place() -> None:
    leaving = state(Phase.ROLLING_BACK, candidate=TRIED)
    seen = host(hung(OLD), CANARY)
    assert taken_away(planned(leaving, seen)) == set()
    wanted = desired(service(image="demo:2", version="9.9.9"))
    assert taken_away(make_plan(wish(wanted, targets(wanted)), seen, rollout(leaving))) == {CANARY.id}


def test_new_containers_that_hang_before_the_watch_are_taken_back() -> None:
    settling = state(Phase.SETTLING, stable=FRESH, kept=group(), sick_since=1000.0)
    said = decided(settling, host(PARKED, hung(NEW), CANARY), now=1001.0)
    assert (said.move, said.is_sick) == (Move.HOLD, True)
    assert decided(settling, host(PARKED, hung(NEW), CANARY), now=1100.0).move is Move.RETURN
    assert not decided(settling, host(PARKED, NEW, CANARY)).is_sick


def test_an_adopted_canary_that_hangs_at_once_keeps_the_old_ones_running() -> None:
    course = Course(is_adopted=True)
    parking = state(
        Phase.PARKING, stable=TRIED, kept=group(), serving=Slot.GREEN, course=course, blue=(), sick_since=1000.0
    )
    assert taken_away(planned(parking, host(OLD, CANARY))) == {OLD.id}
    assert taken_away(planned(parking, host(OLD, hung(CANARY)))) == set()
    assert decided(parking, host(OLD, CANARY), now=1002.0) == Decision(
        "app", Move.HOLD, "waiting for the old containers to finish"
    )
    assert decided(parking, host(OLD, hung(CANARY)), now=1000.5).is_sick
    assert decided(parking, host(OLD, hung(CANARY)), now=1002.0).move is Move.RETURN


# ---------------------------------------------------------------- clocks


@pytest.mark.fault("D1")
def test_moments_that_a_clock_wrote_down_before_it_was_set_back_begin_now() -> None:
    ahead = state(Phase.WATCHING, since=5000.0, seen=5000.0, sick_since=4000.0, unknown_since=None)
    seen = not_ahead_of(rollout(ahead), 1400.0).of("app")
    assert (seen.since, seen.seen, seen.sick_since, seen.unknown_since) == (1400.0, 1400.0, 1400.0, None)
    assert not_ahead_of(rollout(state()), 1400.0) == rollout(state())
