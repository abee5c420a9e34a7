"""What is decided, phase by phase; `test_stories.py` tells whole rollouts."""

from __future__ import annotations

import dataclasses

import pytest

from reconciler.core.decide import LONGEST_TICK_S, Context, advance, course_of, decide, wish_changed
from reconciler.core.desired import Mode, RolloutSpec, Service, Step, Strategy
from reconciler.core.membership import recall, remember, without_vanished
from reconciler.core.observed import Health, ObservedContainer, ObservedProxy, ObservedState, Slot, Status
from reconciler.core.record import Verdict
from reconciler.core.rollout import (
    Asked,
    Course,
    Decision,
    Move,
    Paused,
    Phase,
    Release,
    Rollout,
    ServiceRollout,
)
from tests.builders import (
    CONFIG_HASH,
    STEPS,
    canary,
    container,
    desired,
    group,
    nginx,
    observed,
    opa,
    release,
    rollout,
    service,
    state,
    targets,
)

CAREFUL = RolloutSpec(steps=STEPS, watch_s=120.0, unknown_budget_s=300.0)
V1 = service(rollout=CAREFUL)
V2 = service(image="demo:2", rollout=CAREFUL)
HELD = dataclasses.replace(V2, mode=Mode.CANARY)
SAME = dataclasses.replace(V1, mode=Mode.CANARY)
TRIED, FRESH = canary(V2), group(V2)
HELD_BACK = Release(TRIED.revision, Mode.CANARY)
REV2 = release(V2).revision
STABLE = container()
CANARY = container(TRIED)
ALLOW = Verdict("infrastructure", True, "")
DENY = Verdict("infrastructure", False, "Disk space below 10GB")
DEAF = Verdict("infrastructure", False, "OPA is not reachable", known=False)
PROMOTE = Verdict("canary", True, "within all limits", action="promote")
HOLD = Verdict("canary", False, "too few requests", action="hold")
ROLLBACK = Verdict("canary", False, "Error rate exceeds 1% threshold", action="rollback")
UNKNOWN = Verdict("canary", False, "OPA is not reachable", known=False)
LONG_AGO = "1970-01-01T00:00:01Z"
SICK = {"health": Health.SICK, "health_detail": "503", "started_at": LONG_AGO}


def host(*containers: ObservedContainer, weight: int = 0, named: set[ObservedContainer] | None = None) -> ObservedState:
    """`named` are those whom nginx's running configuration names (None: nobody remembers that one)."""
    addresses = frozenset(c.address for c in named if c.address) if named is not None else None
    proxy = ObservedProxy(CONFIG_HASH, weights={"app": weight}, named=addresses)
    return observed(*containers, nginx(), opa(), proxy=proxy)


def decided(
    of: ServiceRollout | Rollout,
    *containers: ObservedContainer,
    weight: int = 0,
    wanted: Service = V2,
    verdict: Verdict | None = PROMOTE,
    gate: Verdict | None = ALLOW,
    now: float = 1010.0,
    named: set[ObservedContainer] | None = None,
) -> Decision:
    """What is decided 10 s into the phase."""
    known = {"app": verdict} if verdict else {}
    context = Context(targets(desired(wanted)), host(*containers, weight=weight, named=named), now, gate, known)
    (decision,) = decide(of if isinstance(of, Rollout) else rollout(of), context)
    return decision


def analyzing(**changes: object) -> ServiceRollout:
    """A canary that has stood at its first step, 5 %, for all the time it needs."""
    return state(Phase.ANALYZING, **{"candidate": TRIED, "step_s": 60.0, "waited_s": 60.0, **changes})


def suspended(**changes: object) -> ServiceRollout:
    return state(Phase.SUSPENDED, **{"candidate": TRIED, **changes})


def watching(**changes: object) -> ServiceRollout:
    return state(Phase.WATCHING, **{"stable": FRESH, "kept": group(), **changes})


# ---------------------------------------------------------------- at rest


def test_nothing_new_is_held_without_a_word() -> None:
    assert decided(state(), STABLE, wanted=V1) == Decision("app", Move.HOLD)


def test_a_first_deployment_is_of_stable_containers_even_where_a_canary_is_wanted() -> None:
    for wanted in (V2, HELD):
        decision = decided(Rollout(), wanted=wanted)
        assert (decision.move, decision.release, decision.course) == (Move.START, release(V2), Course())


def test_another_revision_starts_a_canary_with_the_steps_of_the_manifest() -> None:
    decision = decided(state(), STABLE)
    assert (decision.move, decision.release) == (Move.START, Release(REV2, Mode.CANARY))
    assert decision.course == Course(Strategy.CANARY, STEPS)


@pytest.mark.parametrize(
    ("gate", "reason"),
    [
        (DENY, "DENIED: Disk space below 10GB"),
        (DEAF, "policy engine failed: OPA is not reachable"),
        (None, "waiting for the policy engine"),
    ],
)
def test_nothing_starts_that_policy_does_not_allow(gate: Verdict | None, reason: str) -> None:
    for of in (Rollout(), rollout()):
        decision = decided(of, STABLE, gate=gate)
        assert (decision.move, decision.reason) == (Move.HOLD, reason)


@pytest.mark.fault("B17")
def test_a_taken_port_keeps_a_first_deployment_from_starting() -> None:
    seen = observed(opa(), ports_taken={8080: "container web (a1b2)"})
    (decision,) = decide(Rollout(), Context(targets(desired(V2)), seen, 1.0, ALLOW))
    assert (decision.move, decision.reason) == (
        Move.HOLD,
        "port 8080 is taken by container web (a1b2); stop it, or change nginx.port",
    )


def test_a_quarantined_revision_is_not_tried_again_and_what_would_help_is_said() -> None:
    decision = decided(state(quarantined=(REV2,)), STABLE)
    assert decision.move is Move.HOLD
    assert "quarantined" in decision.reason
    assert "retry" in decision.reason


def test_what_was_dismissed_waits_for_another_wish() -> None:
    same = Release(release().revision, Mode.CANARY)
    dismissed = rollout(state(dismissed=same))
    assert decided(dismissed, STABLE, wanted=SAME).move is Move.HOLD
    forgotten = wish_changed(dismissed, targets(desired(V1)))
    assert forgotten.of("app").dismissed is None
    assert wish_changed(dismissed, targets(desired(SAME))) == dismissed
    assert decided(forgotten, STABLE, wanted=SAME).move is Move.START


def test_a_pause_at_rest_lets_nothing_start() -> None:
    decision = decided(state(paused=Paused("ann", "audit day")), STABLE)
    assert (decision.move, decision.reason) == (Move.HOLD, "paused by ann: audit day")


def test_a_canary_that_the_manifest_keeps_may_be_of_the_stable_revision() -> None:
    decision = decided(state(), STABLE, wanted=SAME)
    assert (decision.move, decision.release) == (Move.START, Release(release().revision, Mode.CANARY))
    assert "a canary of the stable revision" in decision.reason


@pytest.mark.parametrize("strategy", [Strategy.ROLLING, Strategy.RECREATE])
def test_replicas_that_take_turns_are_stable_ones_from_the_start(strategy: Strategy) -> None:
    wanted = dataclasses.replace(V2, rollout=dataclasses.replace(CAREFUL, strategy=strategy))
    decision = decided(state(), STABLE, wanted=wanted)
    assert (decision.release, decision.course) == (release(V2), Course(strategy))
    same = dataclasses.replace(wanted, image="demo:1", mode=Mode.CANARY)
    assert decided(state(), STABLE, wanted=same).move is Move.HOLD, "no canary where replicas take turns"


def test_a_service_that_left_the_manifest_is_left_alone() -> None:
    gone = rollout(dataclasses.replace(state(), service="old"))
    context = Context(targets(desired(V1)), host(STABLE), 1.0, ALLOW)
    assert [d.move for d in decide(gone, context) if d.service == "old"] == [Move.HOLD]


@pytest.mark.parametrize(
    ("spec", "course"),
    [
        (CAREFUL, Course(Strategy.CANARY, STEPS)),
        (
            dataclasses.replace(CAREFUL, strategy=Strategy.BLUE_GREEN),
            Course(Strategy.BLUE_GREEN, (Step(0, 60.0),)),
        ),
        (dataclasses.replace(CAREFUL, strategy=Strategy.ROLLING), Course(Strategy.ROLLING)),
        (dataclasses.replace(CAREFUL, promotion="adopt"), Course(Strategy.CANARY, STEPS, is_adopted=True)),
    ],
)
def test_the_course_of_a_rollout_is_its_strategys(spec: RolloutSpec, course: Course) -> None:
    assert course_of(service(rollout=spec)) == course


# ---------------------------------------------------------------- starting


def test_a_candidate_is_ready_when_every_replica_is() -> None:
    two = dataclasses.replace(V2, replicas=2)
    starting = state(Phase.STARTING, candidate=TRIED)
    both = [container(TRIED, replica=i) for i in range(2)]
    assert decided(starting, STABLE, both[0], wanted=two).move is Move.HOLD
    assert decided(starting, STABLE, *both, wanted=two).move is Move.READY


BAD_SIGNS = [
    ({"oom_killed": True}, "out of memory"),
    ({"restarts": 3, "status": Status.RESTARTING, "exit_code": 1}, "crash-loops"),
    ({"status": Status.EXITED, "exit_code": 2}, "exited with code 2"),
    ({"status": Status.CREATED, "exit_code": 127, "error": "no such file"}, "cannot start: no such file"),
]


@pytest.mark.parametrize(("sign", "words"), BAD_SIGNS)
@pytest.mark.parametrize("phase", [Phase.STARTING, Phase.ANALYZING, Phase.SUSPENDED, Phase.UPDATING])
@pytest.mark.parametrize("paused", [None, Paused("ann")])
def test_bad_signs_give_a_candidate_up_at_once_even_while_paused(
    phase: Phase, sign: dict, words: str, paused: Paused | None
) -> None:
    bad = dataclasses.replace(CANARY, health=Health.SICK, **sign)
    decision = decided(state(phase, candidate=TRIED, paused=paused), STABLE, bad, verdict=HOLD)
    assert decision.move is Move.GIVE_UP
    assert words in decision.reason


def test_a_candidate_that_never_answers_is_given_up_at_its_deadline() -> None:
    started = "1970-01-01T00:16:40.123456789Z"  # 1000 s
    sick = dataclasses.replace(CANARY, health=Health.SICK, health_detail="connection refused", started_at=started)
    starting = state(Phase.STARTING, candidate=TRIED)
    assert decided(starting, STABLE, sick, now=1059.0).move is Move.HOLD
    decision = decided(starting, STABLE, sick, now=1061.0)
    assert decision.move is Move.GIVE_UP
    assert "not healthy within 60 s" in decision.reason
    assert "connection refused" in decision.reason


@pytest.mark.fault("E11")
def test_a_service_that_never_gets_healthy_keeps_no_other_one_waiting() -> None:
    other = dataclasses.replace(V2, name="web")
    sick = dataclasses.replace(CANARY, **SICK)
    web = dataclasses.replace(container(canary(other)), service="web", id="id-web", name="demo-web")
    both = {
        name: state(Phase.STARTING, service=name, candidate=canary(of)) for name, of in (("app", V2), ("web", other))
    }
    context = Context(targets(desired(V2, other)), host(STABLE, sick, web), 9999.0, ALLOW)
    moves = {decision.service: decision.move for decision in decide(Rollout(both), context)}
    assert moves == {"app": Move.GIVE_UP, "web": Move.READY}


def test_a_held_canary_that_is_given_up_is_not_tried_again_for_the_same_wish() -> None:
    bad = dataclasses.replace(CANARY, oom_killed=True)
    starting = state(Phase.STARTING, candidate=TRIED)
    assert decided(starting, STABLE, bad, wanted=HELD).dismisses == Release(REV2, Mode.CANARY)
    assert decided(starting, STABLE, bad).dismisses is None


# ---------------------------------------------------------------- supersede

V3 = service(image="nginx:1.30", rollout=CAREFUL)


@pytest.mark.parametrize("phase", [Phase.STARTING, Phase.ANALYZING, Phase.SUSPENDED, Phase.UPDATING])
@pytest.mark.parametrize("wanted", [V1, V3])
def test_a_newer_manifest_leaves_a_candidate_behind_at_once(phase: Phase, wanted: Service) -> None:
    decision = decided(state(phase, candidate=TRIED), STABLE, CANARY, wanted=wanted)
    assert (decision.move, decision.dismisses) == (Move.SUPERSEDE, None)


@pytest.mark.parametrize("phase", [Phase.STARTING, Phase.ANALYZING, Phase.SUSPENDED])
def test_a_canary_of_the_stable_revision_is_dismissed_by_mode_stable(phase: Phase) -> None:
    same = state(phase, candidate=canary(V1))
    decision = decided(same, STABLE, container(canary(V1)), wanted=V1)
    assert decision.move is Move.DISMISS


def test_a_service_that_leaves_the_manifest_takes_its_canary_along() -> None:
    gone = rollout(dataclasses.replace(analyzing(), service="old"))
    decisions = decide(gone, Context(targets(desired(V1)), host(), 1.0, ALLOW))
    assert [d.move for d in decisions if d.service == "old"] == [Move.DISMISS]


@pytest.mark.parametrize("phase", [Phase.PROMOTING, Phase.PARKING, Phase.RENEWING])
def test_a_promotion_ends_before_a_newer_revision_has_its_turn(phase: Phase) -> None:
    of = state(phase, candidate=TRIED, fresh=FRESH if phase is Phase.RENEWING else None)
    assert decided(of, STABLE, CANARY, weight=100, wanted=V3).move in (Move.HOLD, Move.SWITCHED, Move.PARKED)


@pytest.mark.parametrize("phase", [Phase.TURNING, Phase.RETURNING, Phase.RESTORING, Phase.ROLLING_BACK])
def test_a_way_back_is_gone_to_its_end_whatever_is_wanted(phase: Phase) -> None:
    of = state(phase, candidate=TRIED)
    moves = {decided(of, STABLE, CANARY, weight=50, wanted=wanted).move for wanted in (V1, V2, V3)}
    assert len(moves) == 1
    assert moves <= {Move.HOLD, Move.READY}


@pytest.mark.parametrize(
    "of",
    [
        state(Phase.PROMOTING, candidate=TRIED),
        state(Phase.PARKING, candidate=TRIED),
        state(Phase.RENEWING, candidate=TRIED, fresh=FRESH),
        state(Phase.HALTED, candidate=TRIED, fresh=FRESH),
        state(Phase.SETTLING, stable=FRESH, kept=group()),
        watching(),
    ],
)
def test_the_old_revision_wanted_again_takes_a_promotion_back_without_quarantine(of: ServiceRollout) -> None:
    decision = decided(of, STABLE, CANARY, container(FRESH), wanted=V1)
    assert (decision.move, decision.dismisses) == (Move.RETURN, release(V2))
    assert rollout(of).of("app").after(decision, 1.0).quarantined == ()


def test_a_watch_ends_early_where_a_newer_revision_is_wanted() -> None:
    decision = decided(watching(), container(FRESH), wanted=V3)
    assert (decision.move, decision.reason) == (Move.SETTLED, "a newer revision is wanted")


def test_a_halted_promotion_is_left_by_a_newer_manifest_without_quarantine() -> None:
    halted = state(Phase.HALTED, candidate=TRIED, fresh=FRESH)
    decision = decided(halted, CANARY, wanted=V3)
    assert (decision.move, decision.dismisses) == (Move.RETURN, TRIED.release)


@pytest.mark.parametrize("phase", [Phase.STARTING, Phase.ANALYZING, Phase.SUSPENDED, Phase.UPDATING])
def test_what_an_operator_takes_back_is_condemned_even_as_the_manifest_moves_on(phase: Phase) -> None:
    of = state(phase, candidate=TRIED, asked=Asked("rollback", "ann", "it hurts"))
    decision = decided(of, STABLE, CANARY, wanted=dataclasses.replace(V3, mode=Mode.CANARY))
    assert (decision.move, decision.dismisses) == (Move.GIVE_UP, None)
    assert rollout(of).of("app").after(decision, 1.0).quarantined == (TRIED.revision,)


@pytest.mark.parametrize("wanted", [V1, V3])
def test_a_canary_that_serves_alone_gives_way_once_the_stable_containers_are_back(wanted: Service) -> None:
    of = analyzing()
    assert decided(of, CANARY, weight=5, wanted=wanted).move is Move.HOLD
    for share in (0, 3):  # it would be sent more than it ever was
        assert decided(of, CANARY, weight=share, wanted=wanted).move is Move.SUPERSEDE
    assert decided(of, STABLE, CANARY, weight=5, wanted=wanted, named={STABLE, CANARY}).move is Move.SUPERSEDE
    assert decided(of, STABLE, CANARY, weight=5, wanted=wanted, named={CANARY}).move is Move.HOLD
    assert decided(of, STABLE, CANARY, weight=5, wanted=wanted).move is Move.HOLD  # who is named is not known
    unproxied = observed(STABLE, CANARY, opa(), proxy=ObservedProxy(None, weights={"app": 5}))
    (begins,) = decide(rollout(of), Context(targets(desired(wanted)), unproxied, 1010.0, ALLOW, {"app": PROMOTE}))
    assert begins.move is Move.SUPERSEDE  # an nginx that is yet to be started will know them all
    known_long = dataclasses.replace(STABLE, started_at=LONG_AGO)
    assert decided(of, known_long, CANARY, weight=5, wanted=wanted).move is Move.SUPERSEDE
    sick = dataclasses.replace(CANARY, **SICK)
    assert decided(of, sick, weight=5, wanted=wanted).move is Move.HOLD  # badly answered is better than not at all
    for_long = dataclasses.replace(of, sick_since=900.0)
    assert decided(for_long, sick, weight=5, wanted=wanted).move is Move.GIVE_UP
    dead = dataclasses.replace(CANARY, status=Status.EXITED, health=Health.UNKNOWN)
    assert decided(of, dead, weight=5, wanted=wanted).move is Move.SUPERSEDE  # it serves nobody either
    some = {"weight": 5, "wanted": wanted, "named": {STABLE, CANARY}}
    assert decided(of, STABLE, container(replica=1), CANARY, **some).move is Move.SUPERSEDE
    unrouted = dataclasses.replace(wanted, route=None)
    assert decided(of, CANARY, weight=5, wanted=unrouted).move is not Move.HOLD


@pytest.mark.parametrize("of", [analyzing(blue=()), suspended(blue=(), is_suspended_by_verdict=True)])
@pytest.mark.parametrize("wanted", [V1, V3])
def test_so_does_one_that_nginx_names_alone_whatever_its_share(of: ServiceRollout, wanted: Service) -> None:
    decision = decided(of, CANARY, wanted=wanted)
    assert decision.move is Move.HOLD
    assert decision.reason.endswith(
        "nobody else serves yet: waiting for containers; `promote` does without the stable containers"
    )
    assert decided(of, STABLE, CANARY, wanted=wanted, named={STABLE}).move is Move.SUPERSEDE


def test_an_operator_may_promote_the_canary_that_serves_alone_though_the_manifest_moved_on() -> None:
    of = analyzing(asked=Asked("promote", "ann"))
    assert decided(of, CANARY, weight=5, wanted=V3).move is Move.PROMOTE
    assert decided(of, STABLE, CANARY, weight=5, wanted=V3, named={STABLE, CANARY}).move is Move.SUPERSEDE


@pytest.mark.parametrize(
    "begun_with", [Course(), Course(Strategy.CANARY, STEPS[:1]), Course(Strategy.BLUE_GREEN, STEPS)]
)
@pytest.mark.parametrize("wanted", [V2, HELD])
def test_another_course_that_the_manifest_gives_while_a_release_starts_is_the_one_it_goes(
    begun_with: Course, wanted: Service
) -> None:
    of = state(Phase.STARTING, candidate=TRIED, course=begun_with, paused=None)
    decision = decided(of, STABLE, CANARY, wanted=wanted)
    after = rollout(of).of("app").after(decision, 1.0)
    assert (decision.move, after.phase) == (Move.READY, Phase.ANALYZING)
    assert after.course == Course(Strategy.CANARY, STEPS)
    paused = dataclasses.replace(of, paused=Paused("ann", "not before Monday"))
    assert decided(paused, STABLE, CANARY, wanted=wanted).move is Move.HOLD


def test_a_course_in_place_is_none_for_what_began_as_a_canary() -> None:
    turns = dataclasses.replace(V2, rollout=RolloutSpec(strategy=Strategy.ROLLING))
    of = state(Phase.STARTING, candidate=TRIED, course=Course(Strategy.CANARY, STEPS))
    after = rollout(of).of("app").after(decided(of, STABLE, CANARY, wanted=turns), 1.0)
    assert (after.phase, after.course) == (Phase.ANALYZING, of.course)


def test_no_steps_by_now_promote_what_is_ready_and_keep_no_canary() -> None:
    of = state(Phase.STARTING, candidate=TRIED, course=Course(Strategy.CANARY, STEPS))
    quick = RolloutSpec(steps=(), watch_s=0.0)
    now = dataclasses.replace(V2, rollout=quick)
    after = rollout(of).of("app").after(decided(of, STABLE, CANARY, wanted=now), 1.0)
    assert after.phase is Phase.PROMOTING
    assert decided(of, STABLE, CANARY, wanted=dataclasses.replace(HELD, rollout=quick)).move is Move.HOLD


def test_a_canary_that_is_measured_keeps_the_course_it_began_with() -> None:
    longer = dataclasses.replace(V2, rollout=dataclasses.replace(CAREFUL, steps=STEPS[:1]))
    assert (
        decided(analyzing(course=Course(Strategy.CANARY, STEPS)), STABLE, CANARY, weight=5, wanted=longer).move
        is Move.ADVANCE
    )


# ---------------------------------------------------------------- analyzing


def test_policy_moves_a_canary_one_step_on() -> None:
    decision = decided(analyzing(), STABLE, CANARY, weight=5)
    assert (decision.move, decision.reason) == (Move.ADVANCE, "step 1 of 3, 5 %: within all limits")


def test_after_the_last_step_policy_promotes() -> None:
    assert decided(analyzing(step=2), STABLE, CANARY, weight=50).move is Move.PROMOTE


@pytest.mark.fault("G13")
def test_no_step_is_shorter_than_its_duration() -> None:
    decision = decided(analyzing(step_s=59.0), STABLE, CANARY, weight=5)
    assert (decision.move, decision.is_observing) == (Move.HOLD, True)
    assert "1 s to go" in decision.reason


@pytest.mark.parametrize(
    ("changes", "seen", "weight", "verdict", "is_observing"),
    [
        ({}, [STABLE, CANARY], 5, HOLD, True),
        ({"paused": Paused("ann")}, [STABLE, CANARY], 5, PROMOTE, False),
        ({}, [STABLE, CANARY], 0, PROMOTE, False),
        ({}, [STABLE, CANARY], 25, PROMOTE, False),
        ({}, [STABLE, dataclasses.replace(CANARY, **SICK)], 5, PROMOTE, False),
        ({}, [dataclasses.replace(STABLE, **SICK), CANARY], 5, PROMOTE, False),
        ({}, [CANARY], 5, PROMOTE, False),
        ({}, [STABLE, CANARY], 5, UNKNOWN, False),
        ({}, [STABLE, CANARY], 5, None, False),
    ],
)
def test_a_canary_is_held_and_its_clocks_run_only_while_it_is_observed(
    changes: dict, seen: list[ObservedContainer], weight: int, verdict: Verdict | None, is_observing: bool
) -> None:
    decision = decided(analyzing(**changes), *seen, weight=weight, verdict=verdict)
    assert (decision.move, decision.is_observing) == (Move.HOLD, is_observing)


@pytest.mark.fault("G13")
@pytest.mark.parametrize("changes", [{"step_s": 0.0}, {"paused": Paused("ann")}])
def test_policy_rolls_a_canary_back_at_once_even_while_it_is_paused(changes: dict) -> None:
    assert decided(analyzing(**changes), STABLE, CANARY, weight=5, verdict=ROLLBACK).move is Move.GIVE_UP


@pytest.mark.fault("G14")
def test_stable_that_is_down_stops_everything_but_bad_signs() -> None:
    down = dataclasses.replace(STABLE, status=Status.EXITED, health=Health.UNKNOWN)
    assert decided(analyzing(), down, CANARY, weight=5, verdict=ROLLBACK).move is Move.HOLD
    bad = dataclasses.replace(CANARY, oom_killed=True)
    assert decided(analyzing(), down, bad, weight=5).move is Move.GIVE_UP


def test_a_canary_that_stays_sick_is_given_up_after_its_retries() -> None:
    sick = dataclasses.replace(CANARY, **SICK)
    assert decided(analyzing(), STABLE, sick, weight=5).is_sick
    assert decided(analyzing(sick_since=1000.0), STABLE, sick, weight=5, now=1015.0).move is Move.HOLD
    decision = decided(analyzing(sick_since=1000.0), STABLE, sick, weight=5, now=1016.0)
    assert decision.move is Move.GIVE_UP
    assert "unhealthy for 16 s" in decision.reason


def test_a_condemned_canary_goes_back_though_it_is_sick() -> None:
    sick = dataclasses.replace(CANARY, **SICK)
    decision = decided(analyzing(), STABLE, sick, weight=5, verdict=ROLLBACK)
    assert (decision.move, decision.reason) == (Move.GIVE_UP, ROLLBACK.reason)


def test_a_canary_that_was_just_started_again_has_the_time_of_a_new_one() -> None:
    young = dataclasses.replace(CANARY, **{**SICK, "started_at": "1970-01-01T00:16:20Z"})  # 980 s
    assert decided(analyzing(sick_since=980.0), STABLE, young, weight=5, now=1039.0).move is Move.HOLD
    assert decided(analyzing(sick_since=980.0), STABLE, young, weight=5, now=1041.0).move is Move.GIVE_UP


def advanced(of: ServiceRollout, decision: Decision) -> ServiceRollout:
    return advance(rollout(of), (decision,), 1000.0).of("app")


def test_an_operators_promotion_waits_while_a_canary_that_is_analyzed_is_ill() -> None:
    sick = dataclasses.replace(CANARY, **SICK)
    of = analyzing(asked=Asked("promote", "ann"))
    decision = decided(of, STABLE, sick, weight=of.weight_pct)
    assert decision.move is Move.HOLD
    assert advanced(of, decision).asked == of.asked


def test_an_operators_promotion_of_a_suspended_canary_is_done_at_once_or_not_at_all() -> None:
    sick = dataclasses.replace(CANARY, **SICK)
    of = state(Phase.SUSPENDED, candidate=TRIED, asked=Asked("promote", "ann"), dismissed=HELD_BACK, reason="silence")
    for _ in range(2):
        decision = decided(of, STABLE, sick)
        assert decision.reason.startswith("silence; not promoted, since the canary was not ready: ")
        assert decision.reason.count("not promoted") == 1
        after = advanced(of, decision)
        assert (after.phase, after.asked, after.dismissed) == (Phase.SUSPENDED, None, None)
        of = dataclasses.replace(after, asked=of.asked)
    assert decided(of, STABLE, CANARY).move is Move.PROMOTE


@pytest.mark.parametrize("wanted", [V2, HELD])
@pytest.mark.parametrize("stable", [STABLE, dataclasses.replace(STABLE, **SICK)])
def test_a_canary_that_policy_condemns_is_not_promoted_by_a_word_of_before(
    wanted: Service, stable: ObservedContainer
) -> None:
    of = analyzing(asked=Asked("promote", "ann"))
    decision = decided(of, stable, CANARY, weight=5, wanted=wanted, verdict=ROLLBACK)
    assert decision.move is (Move.SUSPEND if wanted is HELD else Move.GIVE_UP)
    assert advanced(of, decision).asked is None


def test_where_nothing_of_stable_runs_an_operators_word_counts_for_more_than_policy() -> None:
    of = analyzing(asked=Asked("promote", "ann"))
    assert decided(of, CANARY, weight=5, verdict=ROLLBACK).move is Move.PROMOTE


@pytest.mark.fault("G1")
@pytest.mark.parametrize("verdict", [UNKNOWN, None])
def test_an_unknown_verdict_holds_until_its_budget_is_spent(verdict: Verdict | None) -> None:
    seen = (STABLE, CANARY)
    first = decided(analyzing(), *seen, weight=5, verdict=verdict)
    assert (first.move, first.is_unknown) == (Move.HOLD, True)
    silent = analyzing(unknown_since=1000.0)
    assert decided(silent, *seen, weight=5, verdict=verdict, now=1300.0).move is Move.HOLD
    decision = decided(silent, *seen, weight=5, verdict=verdict, now=1301.0)
    assert (decision.move, decision.is_verdict) == (Move.SUSPEND, False)
    assert "no answer for 301 s" in decision.reason


def test_a_held_canary_stays_at_its_last_step() -> None:
    decision = decided(analyzing(step=2), STABLE, CANARY, weight=50, wanted=HELD)
    assert (decision.move, decision.is_observing) == (Move.HOLD, True)
    assert decided(analyzing(), STABLE, CANARY, weight=5, wanted=HELD).move is Move.ADVANCE


def test_a_held_canary_is_suspended_by_a_verdict_and_not_given_up() -> None:
    decision = decided(analyzing(), STABLE, CANARY, weight=5, wanted=HELD, verdict=ROLLBACK)
    assert (decision.move, decision.is_verdict) == (Move.SUSPEND, True)


@pytest.mark.parametrize("phase", [Phase.ANALYZING, Phase.SUSPENDED])
def test_an_operator_promotes_and_rolls_back_whatever_policy_says(phase: Phase) -> None:
    of = state(phase, candidate=TRIED, paused=Paused("bob"), asked=Asked("promote", "ann"))
    decision = decided(of, STABLE, CANARY, weight=5, verdict=HOLD)
    assert (decision.move, decision.reason) == (Move.PROMOTE, "promoted by ann")
    back = dataclasses.replace(of, asked=Asked("rollback", "ann", "looks odd"))
    decision = decided(back, STABLE, CANARY, weight=5)
    assert (decision.move, decision.reason) == (Move.GIVE_UP, "rolled back by ann: looks odd")


# ---------------------------------------------------------------- suspended


def test_a_canary_suspended_by_silence_comes_back_with_the_answers() -> None:
    assert decided(suspended(), STABLE, CANARY, verdict=UNKNOWN).move is Move.HOLD
    assert decided(suspended(), STABLE, CANARY, verdict=None).move is Move.HOLD
    for verdict in (PROMOTE, HOLD):
        assert decided(suspended(), STABLE, CANARY, verdict=verdict).move is Move.RESUME


@pytest.mark.parametrize("said", [{}, {"paused": Paused("ann", "lunch")}, {"asked": Asked("resume", "ann")}])
def test_the_first_answer_after_silence_is_heeded_where_it_is_a_roll_back(said: dict[str, object]) -> None:
    decision = decided(suspended(**said), STABLE, CANARY, verdict=ROLLBACK)
    assert (decision.move, decision.reason) == (Move.GIVE_UP, "Error rate exceeds 1% threshold")
    judged = suspended(is_suspended_by_verdict=True)
    assert decided(judged, STABLE, CANARY, verdict=ROLLBACK).move is Move.HOLD  # it was told so, and waits for people


def test_a_canary_suspended_by_a_verdict_waits_for_resume() -> None:
    judged = suspended(is_suspended_by_verdict=True)
    assert decided(judged, STABLE, CANARY, wanted=HELD).move is Move.HOLD
    resumed = dataclasses.replace(judged, asked=Asked("resume", "ann"))
    assert decided(resumed, STABLE, CANARY, wanted=HELD).move is Move.RESUME


# ---------------------------------------------------------------- pause


@pytest.mark.parametrize("course", [Course(steps=STEPS), Course()])
def test_a_paused_start_gets_no_requests(course: Course) -> None:
    paused = state(Phase.STARTING, candidate=TRIED, course=course, paused=Paused("ann"))
    after = advance(rollout(paused), (decided(paused, STABLE, CANARY),), 1010.0).of("app")
    assert after.weight_pct == 0


def test_a_paused_suspension_does_not_end_by_itself() -> None:
    assert decided(suspended(paused=Paused("ann")), STABLE, CANARY).move is Move.HOLD


# ---------------------------------------------------------------- the promotion


def test_a_switch_is_done_when_the_flags_say_so() -> None:
    promoting = state(Phase.PROMOTING, candidate=TRIED)
    assert decided(promoting, STABLE, CANARY, weight=50).move is Move.HOLD
    assert decided(promoting, STABLE, CANARY, weight=100).move is Move.SWITCHED
    switching = state(Phase.SWITCHING, candidate=TRIED, fresh=FRESH)
    assert decided(switching, CANARY, container(FRESH), weight=100).move is Move.HOLD
    assert decided(switching, CANARY, container(FRESH), weight=0).move is Move.SWITCHED


@pytest.mark.parametrize(
    ("status", "move"),
    [
        (Status.RUNNING, Move.HOLD),
        (Status.PAUSED, Move.HOLD),
        (Status.RESTARTING, Move.HOLD),
        (Status.EXITED, Move.PARKED),
    ],
)
def test_the_old_containers_are_parked_when_none_can_serve_any_more(status: Status, move: Move) -> None:
    parking = state(Phase.PARKING, candidate=TRIED)
    old = dataclasses.replace(STABLE, status=status)
    assert decided(parking, old, CANARY, weight=100).move is move


def test_new_stable_containers_take_over_when_all_are_ready() -> None:
    renewing = state(Phase.RENEWING, candidate=TRIED, fresh=FRESH)
    assert decided(renewing, CANARY, weight=100).move is Move.HOLD
    assert decided(renewing, CANARY, container(FRESH), weight=100).move is Move.READY


@pytest.mark.parametrize(("sign", "words"), BAD_SIGNS)
def test_new_stable_containers_that_fail_halt_the_promotion(sign: dict, words: str) -> None:
    renewing = state(Phase.RENEWING, candidate=TRIED, fresh=FRESH)
    bad = dataclasses.replace(container(FRESH), health=Health.SICK, **sign)
    decision = decided(renewing, CANARY, bad, weight=100)
    assert decision.move is Move.HALT
    assert words in decision.reason


def test_a_halted_promotion_waits_for_an_operator() -> None:
    halted = state(Phase.HALTED, candidate=TRIED, fresh=FRESH, reason="the new stable containers are not well")
    decision = decided(halted, CANARY, weight=100)
    assert (decision.move, decision.reason) == (Move.HOLD, halted.reason)
    retried = dataclasses.replace(halted, asked=Asked("retry", "ann"))
    assert decided(retried, CANARY, weight=100).move is Move.RESUME
    back = dataclasses.replace(halted, asked=Asked("rollback", "ann"))
    assert decided(back, CANARY, weight=100).move is Move.RETURN


@pytest.mark.parametrize("phase", [Phase.PROMOTING, Phase.PARKING, Phase.RENEWING, Phase.HALTED])
def test_a_canary_that_dies_with_every_request_makes_the_old_ones_come_back(phase: Phase) -> None:
    of = state(phase, candidate=TRIED, fresh=FRESH if phase in (Phase.RENEWING, Phase.HALTED) else None)
    dead = dataclasses.replace(CANARY, status=Status.EXITED, exit_code=1, health=Health.UNKNOWN)
    decision = decided(of, STABLE, dead, weight=100)
    assert decision.move is Move.RETURN
    assert "the canary failed while it carried all requests" in decision.reason
    sick = dataclasses.replace(CANARY, **SICK)
    assert decided(of, STABLE, sick, weight=50).is_sick
    assert decided(dataclasses.replace(of, sick_since=980.0), STABLE, sick, weight=50).move is Move.RETURN


def test_a_promotion_is_settled_when_the_canary_is_gone() -> None:
    settling = state(Phase.SETTLING, stable=FRESH, kept=group())
    old = dataclasses.replace(STABLE, status=Status.EXITED)
    assert decided(settling, old, container(FRESH), CANARY).move is Move.HOLD
    assert decided(settling, old, container(FRESH)).move is Move.REMOVED


# ---------------------------------------------------------------- watching


def test_a_watch_lasts_its_window() -> None:
    assert decided(watching(), container(FRESH), now=1119.0).move is Move.HOLD
    decision = decided(watching(), container(FRESH), now=1120.0)
    assert (decision.move, decision.reason) == (Move.SETTLED, "nothing bad was seen")


@pytest.mark.parametrize(
    ("changes", "fresh", "verdict"),
    [
        ({}, container(FRESH), ROLLBACK),
        ({}, dataclasses.replace(container(FRESH), oom_killed=True), PROMOTE),
        ({"sick_since": 990.0}, dataclasses.replace(container(FRESH), **SICK), PROMOTE),
        ({"asked": Asked("rollback", "ann")}, container(FRESH), PROMOTE),
    ],
)
def test_what_goes_bad_while_it_is_watched_is_taken_back(
    changes: dict, fresh: ObservedContainer, verdict: Verdict
) -> None:
    decision = decided(watching(**changes), fresh, verdict=verdict)
    assert (decision.move, decision.dismisses) == (Move.RETURN, None)


def test_a_watch_that_cannot_be_judged_goes_on() -> None:
    decision = decided(watching(), container(FRESH), verdict=UNKNOWN, now=1500.0)
    assert (decision.move, decision.reason) == (Move.HOLD, "watching on: OPA is not reachable")
    sick = dataclasses.replace(container(FRESH), **SICK)
    assert decided(watching(), sick, now=1500.0).move is Move.HOLD


def test_a_watch_goes_on_while_the_policy_engine_does_not_answer() -> None:
    assert decided(watching(), container(FRESH), verdict=None, gate=None, now=1500.0).move is Move.HOLD


def test_a_service_that_nobody_can_judge_is_watched_for_its_window_only() -> None:
    worker = service(image="demo:2", port=None, route=None, healthcheck=None)
    of = state(Phase.WATCHING, stable=group(worker), kept=group())
    assert decided(of, container(group(worker)), wanted=worker, verdict=None, now=1500.0).move is Move.SETTLED


# ---------------------------------------------------------------- the way back


def test_a_return_waits_for_the_old_containers_but_not_for_ever_for_the_last() -> None:
    two = dataclasses.replace(V2, replicas=2)
    returning = state(Phase.RETURNING, candidate=TRIED)
    one = [STABLE, CANARY]
    assert decided(returning, CANARY, wanted=two, now=2000.0).move is Move.HOLD
    assert decided(returning, *one, wanted=two, now=1015.0).move is Move.HOLD
    assert decided(returning, *one, wanted=two, now=1016.0).move is Move.READY
    assert decided(returning, *one, container(replica=1), wanted=two, now=1001.0).move is Move.READY


@pytest.mark.parametrize(("kept", "weight"), [(None, 0), (group(), 100)])
def test_a_return_is_made_when_the_flags_say_so(kept: object, weight: int) -> None:
    changes = {"candidate": TRIED} if kept is None else {"stable": FRESH, "kept": kept}
    restoring = state(Phase.RESTORING, **changes)
    assert decided(restoring, STABLE, CANARY, weight=100 - weight).move is Move.HOLD
    assert decided(restoring, STABLE, CANARY, weight=weight).move is Move.SWITCHED


def test_a_roll_back_ends_when_what_was_tried_is_gone() -> None:
    back = state(Phase.ROLLING_BACK, candidate=TRIED)
    assert decided(back, STABLE, CANARY).move is Move.HOLD
    assert decided(back, STABLE).move is Move.REMOVED


# ---------------------------------------------------------------- updating


def test_an_update_is_done_when_every_replica_is_replaced_and_the_old_ones_are_gone() -> None:
    two = dataclasses.replace(V2, replicas=2)
    updating = state(Phase.UPDATING, candidate=FRESH)
    new = [container(FRESH, replica=i) for i in range(2)]
    assert decided(updating, STABLE, *new, wanted=two).move is Move.HOLD
    assert decided(updating, new[0], wanted=two).move is Move.HOLD
    assert decided(updating, *new, wanted=two).move is Move.READY


# ---------------------------------------------------------------- teardown


def test_torn_down_stays_torn_down() -> None:
    decision = decided(rollout(torn_down=True), STABLE)
    assert (decision.move, decision.reason) == (Move.HOLD, "torn down; `deploy` brings it back")


def test_after_a_teardown_the_last_stable_revision_comes_first() -> None:
    one, two = release().revision, REV2
    gone = ServiceRollout("app", last_stable=one)
    known = targets(desired(V2), stored=tuple(targets(desired(V1)).kept.values()))
    (decision,) = decide(rollout(gone), Context(known, host(), 1.0, ALLOW))
    assert (decision.move, decision.release) == (Move.START, release())
    starting = dataclasses.replace(gone, phase=Phase.STARTING, candidate=group())
    (decision,) = decide(rollout(starting), Context(known, host(STABLE), 1.0, ALLOW))
    assert decision.move is Move.READY, "the manifest wants another, but not yet"
    for other in (
        dataclasses.replace(gone, quarantined=(one,)),
        ServiceRollout("app", last_stable="f" * 64),
    ):
        (decision,) = decide(rollout(other), Context(known, host(), 1.0, ALLOW))
        assert decision.release is not None
        assert decision.release.revision == two


def test_a_dismissed_canary_does_not_keep_stable_from_coming_back_after_a_teardown() -> None:
    gone = ServiceRollout("app", last_stable=release().revision, dismissed=Release(release().revision, Mode.CANARY))
    decision = decided(gone, wanted=SAME)
    assert (decision.move, decision.release) == (Move.START, release())


# ---------------------------------------------------------------- clocks


def ticked(of: ServiceRollout, now: float, **facts: bool) -> ServiceRollout:
    return advance(rollout(of), (Decision("app", Move.HOLD, "", **facts),), now).of("app")  # type: ignore[arg-type]


def test_clocks_run_only_through_what_was_observed() -> None:
    of = analyzing(step_s=1.0, waited_s=2.0)
    seen = ticked(of, 1010.0, is_observing=True)
    assert (seen.step_s, seen.waited_s, seen.seen) == (11.0, 12.0, 1010.0)
    blind = ticked(of, 1010.0)
    assert (blind.step_s, blind.waited_s, blind.seen) == (1.0, 2.0, 1010.0)


@pytest.mark.fault("A9", "D2")
@pytest.mark.parametrize(("gap_s", "counted_s"), [(29.0, 29.0), (600.0, LONGEST_TICK_S), (-5.0, 0.0)])
def test_a_gap_between_two_cycles_counts_thirty_seconds_at_most(gap_s: float, counted_s: float) -> None:
    after = ticked(analyzing(step_s=0.0, waited_s=0.0), 1000.0 + gap_s, is_observing=True)
    assert (after.step_s, after.waited_s) == (counted_s, counted_s)


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase is not Phase.ANALYZING])
def test_no_other_phase_has_clocks_of_its_own(phase: Phase) -> None:
    before = state(phase, candidate=TRIED, step_s=1.0, waited_s=2.0)
    after = ticked(before, 1010.0, is_observing=True)
    assert (after.step_s, after.waited_s) == (1.0, 2.0)


def test_sickness_and_silence_are_dated_from_their_first_cycle_to_their_last() -> None:
    of = analyzing()
    first = ticked(of, 1010.0, is_sick=True, is_unknown=True)
    assert (first.sick_since, first.unknown_since) == (1010.0, 1010.0)
    second = ticked(first, 1020.0, is_sick=True, is_unknown=True)
    assert (second.sick_since, second.unknown_since) == (1010.0, 1010.0)
    over = ticked(second, 1030.0)
    assert (over.sick_since, over.unknown_since) == (None, None)


@pytest.mark.fault("A9")
@pytest.mark.parametrize("phase", [Phase.ANALYZING, Phase.WATCHING])
def test_what_nobody_watched_does_not_count_as_sickness_or_silence(phase: Phase) -> None:
    of = state(phase, candidate=TRIED, sick_since=990.0, unknown_since=990.0)
    assert ticked(of, 1029.0, is_sick=True, is_unknown=True).sick_since == 990.0
    after = ticked(of, 1600.0, is_sick=True, is_unknown=True)
    assert (after.sick_since, after.unknown_since, after.seen) == (1600.0, 1600.0, 1600.0)


def test_a_pause_ends_when_it_said_it_would() -> None:
    paused = analyzing(paused=Paused("ann", until=1050.0))
    assert ticked(paused, 1049.0).paused is not None
    assert ticked(paused, 1050.0).paused is None
    assert ticked(analyzing(paused=Paused("ann")), 9999.0).paused is not None


def test_a_service_that_was_never_here_gets_no_state_by_being_looked_at() -> None:
    assert advance(Rollout(), (Decision("app", Move.HOLD),), 1.0) == Rollout()
    held = advance(Rollout(), (Decision("app", Move.HOLD, "DENIED: no"),), 1.0)
    assert held.of("app").reason == "DENIED: no"


# ---------------------------------------------------------------- members


def test_members_join_when_ready_and_stay_while_they_can_come_back() -> None:
    fresh = rollout(state(blue=()))
    sick = container(health=Health.SICK)
    assert remember(fresh, observed(sick), {}).of("app").blue == ()
    joined = remember(fresh, observed(container()), {})
    assert [member.container_id for member in joined.of("app").blue] == [container().id]
    dead = container(status=Status.EXITED, health=Health.UNKNOWN)
    assert remember(joined, observed(dead), {}).of("app").blue == joined.of("app").blue
    assert remember(joined, observed(), {}).of("app").blue == ()


@pytest.mark.fault("B22")
def test_a_dead_member_steps_aside_while_others_serve() -> None:
    two = [container(), container(replica=1)]
    both = remember(rollout(), observed(*two), {})
    assert len(both.of("app").blue) == 2
    died = dataclasses.replace(two[1], status=Status.EXITED, health=Health.UNKNOWN)
    assert [m.container_id for m in remember(both, observed(two[0], died), {}).of("app").blue] == [two[0].id]


def test_replicas_too_many_are_no_members() -> None:
    assert len(remember(rollout(), observed(container(), container(replica=1)), {"app": 1}).of("app").blue) == 1


# ---------------------------------------------------------------- lost and vanished


def test_a_lost_rollout_is_rebuilt_from_what_serves_and_waits_for_a_human() -> None:
    seen = observed(STABLE, CANARY)
    found = recall(Rollout(), seen, {"app": release(V2)}).of("app")
    assert (found.phase, found.serving, found.stable) == (Phase.STABLE, Slot.BLUE, group())
    assert found.paused is not None
    assert "`resume` goes on" in found.paused.reason
    assert decided(found, STABLE, CANARY).move is Move.HOLD


def test_an_older_rollout_gives_way_to_what_has_become_stable_since() -> None:
    newest = container(group(V3))
    older = state(phase=Phase.ANALYZING, stable=group(), candidate=TRIED, quarantined=("f" * 64,), run=7)
    found = recall(rollout(older), observed(newest, CANARY), {"app": release(V2)}, is_first=True).of("app")
    assert (found.phase, found.stable, found.run, found.quarantined) == (Phase.STABLE, group(V3), 7, ("f" * 64,))
    assert recall(rollout(older), observed(newest, CANARY), {"app": release(V2)}).of("app") == older
    both = observed(newest, CANARY, STABLE)
    assert recall(rollout(older), both, {"app": release(V2)}, is_first=True).of("app") == older


def test_a_lost_rollout_in_which_only_the_wish_runs_needs_no_human() -> None:
    assert recall(Rollout(), observed(STABLE), {"app": release()}).of("app").paused is None


def test_where_only_a_canary_serves_it_is_what_is_rebuilt() -> None:
    parked = dataclasses.replace(STABLE, status=Status.EXITED, health=Health.UNKNOWN)
    found = recall(Rollout(), observed(parked, CANARY), {"app": release(V2)}).of("app")
    assert (found.stable, found.serving) == (TRIED, Slot.GREEN)


def test_nothing_is_rebuilt_after_a_teardown_or_from_what_is_not_ours() -> None:
    assert recall(Rollout(torn_down=True), observed(STABLE), {}).services == {}
    assert recall(Rollout(), observed(container(ours=False)), {}).services == {}


def test_a_service_is_forgotten_when_it_is_neither_wanted_nor_there() -> None:
    assert without_vanished(rollout(), observed(), {"app"}) == rollout()
    assert without_vanished(rollout(), observed(STABLE), ()) == rollout()
    assert without_vanished(rollout(), observed(), ()).services == {}
