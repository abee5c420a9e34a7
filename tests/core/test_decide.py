"""What is decided, phase by phase; each walk of the rollout is told as a story."""

from __future__ import annotations

import dataclasses

import pytest

from reconciler.core.decide import Context, advance, decide
from reconciler.core.desired import Mode
from reconciler.core.membership import recall, remember
from reconciler.core.observed import Health, ObservedProxy, ObservedState, Slot, Status
from reconciler.core.record import Verdict
from reconciler.core.rollout import TRANSITIONS, Decision, Move, Phase, Rollout, ServiceRollout
from reconciler.core.words import Deploy, Teardown, hear
from tests.builders import container, desired, nginx, observed, opa, release, rollout, service, state, targets

V2 = service(image="demo:2")
ALLOW = Verdict("infrastructure", True, "")
DENY = Verdict("infrastructure", False, "Disk space below 10GB")
UNKNOWN = Verdict("infrastructure", False, "OPA is not reachable", known=False)


def decided(of: Rollout, seen: ObservedState, gate: Verdict | None = ALLOW, now: float = 1010.0, wanted=V2) -> Decision:
    (decision,) = decide(of, Context(targets(desired(wanted)), seen, now, gate))
    return decision


def test_nothing_new_is_held_without_a_word() -> None:
    assert decided(rollout(), observed(container()), wanted=service()) == Decision("app", Move.HOLD)


def test_a_first_deployment_starts_when_the_gate_allows() -> None:
    decision = decided(Rollout(), observed(opa()))
    assert (decision.move, decision.release) == (Move.START, release(V2))


@pytest.mark.parametrize(
    ("gate", "reason"),
    [
        (DENY, "DENIED: Disk space below 10GB"),
        (UNKNOWN, "policy engine failed: OPA is not reachable"),
        (None, "waiting for the policy engine"),
    ],
)
def test_nothing_starts_that_policy_does_not_allow(gate: Verdict | None, reason: str) -> None:
    for of in (Rollout(), rollout()):
        decision = decided(of, observed(container()), gate)
        assert (decision.move, decision.reason) == (Move.HOLD, reason)


def test_a_taken_port_keeps_a_first_deployment_from_starting() -> None:
    decision = decided(Rollout(), observed(ports_taken={8080: "container web (a1b2)"}))
    assert (decision.move, decision.reason) == (Move.HOLD, "port 8080 is taken by container web (a1b2)")


def test_a_candidate_is_ready_when_every_replica_is() -> None:
    two = service(image="demo:2", replicas=2)
    starting = rollout(state(Phase.STARTING, candidate=release(two)))
    one = observed(container(), container(release(two), Slot.GREEN))
    both = observed(container(), *(container(release(two), Slot.GREEN, i) for i in range(2)))
    assert decided(starting, one, wanted=two).move is Move.HOLD
    assert decided(starting, both, wanted=two).move is Move.READY


@pytest.mark.parametrize(
    ("sign", "words"),
    [
        ({"oom_killed": True}, "out of memory"),
        ({"restarts": 3, "status": Status.RESTARTING, "exit_code": 1}, "crash-loops"),
        ({"status": Status.EXITED, "exit_code": 2}, "exited with code 2"),
        ({"status": Status.CREATED, "exit_code": 127, "error": "no such file"}, "cannot start: no such file"),
    ],
)
def test_bad_signs_give_a_candidate_up_at_once(sign: dict[str, object], words: str) -> None:
    bad = container(release(V2), Slot.GREEN, health=Health.SICK, **sign)
    starting = rollout(state(Phase.STARTING, candidate=release(V2)))
    decision = decided(starting, observed(container(), bad))
    assert decision.move is Move.GIVE_UP
    assert words in decision.reason


def test_a_candidate_that_never_answers_is_given_up_at_its_deadline() -> None:
    started = "1970-01-01T00:16:40.123456789Z"  # 1000 s
    sick = container(
        release(V2), Slot.GREEN, health=Health.SICK, health_detail="connection refused", started_at=started
    )
    starting = rollout(state(Phase.STARTING, candidate=release(V2)))
    assert decided(starting, observed(container(), sick), now=1059.0).move is Move.HOLD
    decision = decided(starting, observed(container(), sick), now=1061.0)
    assert decision.move is Move.GIVE_UP
    assert "not healthy within 60 s" in decision.reason
    assert "connection refused" in decision.reason


def test_a_given_up_revision_is_not_tried_again_until_an_operator_says_so() -> None:
    given_up = rollout(state(quarantined=(release(V2).revision,)))
    assert decided(given_up, observed(container())).move is Move.HOLD
    assert decided(hear(given_up, Deploy()), observed(container())).move is Move.START


def test_a_newer_manifest_leaves_a_start_behind() -> None:
    starting = rollout(state(Phase.STARTING, candidate=release(V2)))
    assert decided(starting, observed(container()), wanted=service()).move is Move.SUPERSEDE


def test_a_switch_is_done_when_the_flags_say_so() -> None:
    promoting = rollout(state(Phase.PROMOTING, candidate=release(V2)))
    seen = observed(container(), container(release(V2), Slot.GREEN), nginx())
    assert decided(promoting, seen).move is Move.HOLD
    full = dataclasses.replace(seen, proxy=ObservedProxy("x", weights={"app": 100}))
    assert decided(promoting, full).move is Move.SWITCHED


def test_the_whole_walk_ends_stable_in_the_other_slot() -> None:
    walk = rollout()
    for move in (Move.START, Move.READY, Move.SWITCHED, Move.DRAINED):
        walk = advance(walk, (Decision("app", move, "", release(V2) if move is Move.START else None),), 5.0)
    end = walk.of("app")
    assert (end.phase, end.serving, end.stable, end.leaving) == (Phase.STABLE, Slot.GREEN, release(V2), None)


def test_a_failed_start_ends_where_it_began_and_is_quarantined() -> None:
    walk = rollout()
    for move in (Move.START, Move.GIVE_UP, Move.REMOVED):
        walk = advance(walk, (Decision("app", move, "sick", release(V2) if move is Move.START else None),), 5.0)
    end = walk.of("app")
    assert (end.phase, end.serving, end.stable) == (Phase.STABLE, Slot.BLUE, release())
    assert end.quarantined == (release(V2).revision,)
    first = advance(Rollout(), (Decision("app", Move.START, "", release(V2)),), 1.0)
    for move in (Move.GIVE_UP, Move.REMOVED):
        first = advance(first, (Decision("app", move, "sick"),), 2.0)
    assert first.of("app").phase is Phase.ABSENT


def test_every_phase_but_the_resting_ones_can_be_left() -> None:
    leaving = {phase for phase, _ in TRANSITIONS}
    assert leaving == set(Phase)


def test_torn_down_stays_torn_down() -> None:
    down = hear(rollout(), Teardown())
    assert decided(down, observed()).move is Move.HOLD
    assert decided(hear(down, Deploy()), observed()).move is Move.START


def test_members_join_when_ready_and_stay_while_they_can_come_back() -> None:
    fresh = rollout(state(blue=()))
    sick = container(health=Health.SICK)
    assert remember(fresh, observed(sick), {}).of("app").blue == ()
    joined = remember(fresh, observed(container()), {})
    assert [member.container_id for member in joined.of("app").blue] == [container().id]
    dead = container(status=Status.EXITED, health=Health.UNKNOWN)
    assert remember(joined, observed(dead), {}).of("app").blue == joined.of("app").blue
    assert remember(joined, observed(), {}).of("app").blue == ()


def test_a_dead_member_steps_aside_while_others_serve() -> None:
    two = [container(), container(replica=1)]
    both = remember(rollout(), observed(*two), {})
    assert len(both.of("app").blue) == 2
    died = dataclasses.replace(two[1], status=Status.EXITED, health=Health.UNKNOWN)
    assert [m.container_id for m in remember(both, observed(two[0], died), {}).of("app").blue] == [two[0].id]


def test_replicas_too_many_are_no_members() -> None:
    assert len(remember(rollout(), observed(container(), container(replica=1)), {"app": 1}).of("app").blue) == 1


def test_a_lost_rollout_is_rebuilt_from_what_runs() -> None:
    seen = observed(container(), container(release(V2), Slot.GREEN, health=Health.SICK))
    found = recall(Rollout(), seen, {"app": release(V2)}).of("app")
    assert (found.phase, found.serving, found.stable) == (Phase.STABLE, Slot.BLUE, release())
    both = observed(container(), container(release(V2), Slot.GREEN))
    assert recall(Rollout(), both, {"app": release(V2)}).of("app").serving is Slot.GREEN
    assert recall(Rollout(torn_down=True), seen, {}).services == {}


def test_a_hold_keeps_the_clock_and_tells_why() -> None:
    before = ServiceRollout("app", Phase.STABLE, stable=release(), since=7.0)
    after = before.after(Decision("app", Move.HOLD, "DENIED: Disk space below 10GB"), 99.0)
    assert (after.since, after.reason) == (7.0, "DENIED: Disk space below 10GB")
    assert before.stable.mode == Mode.STABLE  # type: ignore[union-attr]
