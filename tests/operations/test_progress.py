"""How far a deployment is: read off cycles, so that `deploy` neither ends early nor waits for what never comes."""

from __future__ import annotations

import dataclasses

import pytest

from reconciler.core.desired import Mode, Service
from reconciler.core.observed import ObservedProxy
from reconciler.core.plan import Outcome, Plan, PlannedAction, Result, WaitProxy
from reconciler.core.record import Cycle, Trigger, Verdict
from reconciler.core.rollout import Decision, Move, Phase, Release, Rollout, ServiceRollout
from reconciler.operations import Exit
from reconciler.operations.progress import STEPS, Progress
from tests.builders import canary, container, desired, group, nginx, observed, opa, release, rollout, service, state

V1, V2 = service(), service(image="demo:2")
TRIED, FRESH = canary(V2), group(V2)
ALL = len(STEPS)


def cycle(of: ServiceRollout, wanted: Service = V1, weight: int = 0, **changes: object) -> Cycle:
    """A cycle after which nothing is left to do, with the manifest let in."""
    asked = desired(wanted)
    seen = observed(container(), nginx(), opa(), proxy=ObservedProxy("live", weights={"app": weight}))
    made = Cycle(
        1,
        Trigger("operator", "deploy"),
        "t",
        "t",
        1.0,
        asked,
        seen,
        rollout(of, admitted=asked.revision),
        asked=asked.revision,
        is_let_in=True,
        wanted={"app": Release(release(wanted).revision, wanted.mode)},
    )
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]


def held(of: Service) -> Service:
    return dataclasses.replace(of, mode=Mode.CANARY)


@pytest.mark.parametrize(
    ("made", "done"),
    [
        (cycle(state()), ALL),
        (cycle(state(Phase.STARTING, stable=None, candidate=group())), 4),
        (cycle(state(), V2), 2),
        (cycle(state(Phase.STARTING, candidate=TRIED), V2), 4),
        (cycle(state(Phase.ANALYZING, candidate=TRIED), V2, 5), 5),
        (cycle(state(Phase.SUSPENDED, candidate=TRIED), V2), 5),
        (cycle(state(Phase.PROMOTING, candidate=TRIED), V2), 5),
        (cycle(state(Phase.RENEWING, candidate=TRIED, fresh=FRESH), V2), 5),
        (cycle(state(Phase.SETTLING, stable=FRESH, kept=group()), V2), 5),
        (cycle(state(Phase.WATCHING, stable=FRESH, kept=group()), V2), ALL),
        (cycle(state(stable=FRESH), V2), ALL),
        (cycle(state(Phase.ROLLING_BACK, candidate=TRIED), V2), 2),
        (cycle(state(Phase.RETURNING, stable=FRESH, kept=group()), V2), 2),
        (cycle(state(Phase.UPDATING, candidate=FRESH), V2), 4),
    ],
    ids=lambda value: value.rollout.of("app").phase if isinstance(value, Cycle) else str(value),
)
def test_each_phase_has_come_so_far(made: Cycle, done: int) -> None:
    assert Progress().after(made).done == done


def test_a_held_canary_has_arrived_with_its_first_requests() -> None:
    wanted = held(V2)
    analyzing = state(Phase.ANALYZING, candidate=TRIED)
    assert Progress().after(cycle(analyzing, wanted, weight=0)).done == 5
    assert Progress().after(cycle(analyzing, wanted, weight=5)).done == ALL


def test_a_canary_of_the_stable_revision_is_not_there_before_it_is() -> None:
    assert Progress().after(cycle(state(), held(V1))).done < ALL
    same = state(Phase.ANALYZING, candidate=canary(V1))
    assert Progress().after(cycle(same, held(V1), weight=5)).done == ALL


def test_what_is_still_to_be_done_is_not_deployed() -> None:
    plan = Plan((PlannedAction(WaitProxy("h", True), "nginx", "reloading"),))
    unfinished = cycle(state(), plan=plan, results=(Result(Outcome.PENDING),))
    assert Progress().after(unfinished).done == 5


def test_steps_once_told_are_never_taken_back() -> None:
    far = Progress().after(cycle(state(Phase.ANALYZING, candidate=TRIED), V2, 5))
    assert far.after(cycle(state(Phase.ROLLING_BACK, candidate=TRIED), V2)).done == far.done


def test_a_manifest_that_is_not_in_force_is_not_even_valid_yet() -> None:
    made = cycle(state())
    assert Progress().after(dataclasses.replace(made, asked="other")).done == 0
    assert Progress().after(dataclasses.replace(made, is_let_in=False)).done == 0, "what lies beside it is not"
    assert Progress().after(dataclasses.replace(made, is_settled=False)).done == 0


# ---------------------------------------------------------------- failing


def gone_back(move: Move, phase: Phase, **changes: object) -> Cycle:
    return cycle(state(phase, **changes), V2, decisions=(Decision("app", move, "Error rate exceeds 1% threshold"),))


def test_a_rollout_that_was_given_up_fails_once_it_is_back_and_says_that_the_old_one_serves() -> None:
    left = gone_back(Move.GIVE_UP, Phase.ROLLING_BACK, candidate=TRIED)
    progress = Progress(done=5).after(left)
    assert progress.failure(left) is None, "nobody goes away before the traffic is safe"
    back = cycle(state(quarantined=(TRIED.revision,)), V2)
    progress = progress.after(back)
    failure = progress.failure(back)
    assert failure is not None
    assert failure.exit is Exit.UNHEALTHY
    assert failure.text == "Rolled back: Error rate exceeds 1% threshold. What ran before goes on serving."


def test_a_first_release_that_was_given_up_leaves_nothing() -> None:
    left = gone_back(Move.GIVE_UP, Phase.ROLLING_BACK, stable=None, candidate=group())
    progress = Progress(done=4).after(left)
    empty = cycle(ServiceRollout("app"))
    failure = progress.after(empty).failure(empty)
    assert failure is not None
    assert failure.text.startswith("Health check failed: ")
    assert failure.text.endswith("Nothing is left running of it.")


@pytest.mark.parametrize("phase", [Phase.RETURNING, Phase.RESTORING, Phase.TURNING, Phase.ROLLING_BACK])
def test_a_return_is_waited_for(phase: Phase) -> None:
    back = gone_back(Move.RETURN, phase, stable=FRESH, kept=group())
    assert Progress(done=5).after(back).failure(back) is None


@pytest.mark.parametrize("phase", [Phase.ABSENT, Phase.STABLE])
@pytest.mark.parametrize(
    ("reason", "code"),
    [
        ("DENIED: Disk space below 10GB", Exit.DENIED),
        ("policy engine failed: OPA is not reachable", Exit.POLICY_FAILED),
        ("paused by ann: lunch", Exit.ERROR),
        ("revision x was rolled back before and is quarantined", Exit.ERROR),
    ],
)
def test_a_start_that_is_held_for_a_reason_that_waiting_does_not_cure_fails(
    phase: Phase, reason: str, code: Exit
) -> None:
    of = state() if phase is Phase.STABLE else ServiceRollout("app")
    failure = Progress().failure(cycle(of, V2, decisions=(Decision("app", Move.HOLD, reason),)))
    assert failure is not None
    assert failure.exit is code


def test_what_a_rollout_under_way_waits_for_is_no_failure() -> None:
    hold = (Decision("app", Move.HOLD, "step 1 of 3, 5 %: too few requests"),)
    assert Progress().failure(cycle(state(Phase.ANALYZING, candidate=TRIED), V2, 5, decisions=hold)) is None
    waiting = (Decision("app", Move.HOLD, "waiting for the policy engine"),)
    assert Progress().failure(cycle(ServiceRollout("app"), decisions=waiting)) is None


@pytest.mark.parametrize(("known", "code"), [(True, Exit.DENIED), (False, Exit.POLICY_FAILED)])
def test_a_manifest_that_policy_does_not_let_in_fails_at_once(known: bool, code: Exit) -> None:
    verdict = Verdict("admission", False, "replicas above 5", known=known)
    failure = Progress().failure(cycle(state(), verdicts=(verdict,)))
    assert failure is not None
    assert (failure.exit, "replicas above 5" in failure.text) == (code, True)


def test_errors_count_only_in_a_row() -> None:
    bad, good = cycle(state(), errors=("the engine is down",)), cycle(state(Phase.STARTING, candidate=TRIED), V2)
    progress = Progress().after(bad).after(bad).after(good).after(bad).after(bad)
    assert progress.failure(bad) is None
    failure = progress.after(bad).failure(bad)
    assert failure is not None
    assert (failure.exit, failure.text) == (Exit.ERROR, "the engine is down")


def test_nothing_is_deployed_where_nothing_is_known() -> None:
    nothing = Cycle(1, Trigger("start"), "t", "t", 0.0, None, None, Rollout())
    assert Progress().after(nothing).done == 0
