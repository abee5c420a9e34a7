"""What is planned in each phase of a rollout: who is healed, who leaves, where requests go, whose turn it is."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from reconciler.core.desired import RolloutSpec, Strategy
from reconciler.core.membership import is_of, remember
from reconciler.core.observed import (
    Health,
    ObservedContainer,
    ObservedProxy,
    Slot,
    Status,
)
from reconciler.core.plan import (
    CreateContainer,
    RemoveContainer,
    SetTraffic,
    StartContainer,
    WaitProxy,
)
from reconciler.core.planner import PROXY_CONFIG, is_on_trial, make_plan
from reconciler.core.rollout import Course, Phase, Rollout, ServiceRollout
from tests.builders import (
    CONFIG_HASH,
    STEPS,
    container,
    desired,
    group,
    kept,
    nginx,
    observed,
    opa,
    plan_text,
    rollout,
    service,
    state,
    targets,
    wish,
)
from tests.core.planner_world import CANARY, FRESH, NEW, OLD, PARKED, REV1, REV2, TRIED, V2, host, planned, touched

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
        (None, {"health": Health.SICK}, True),
    ],
)
def test_requests_go_back_to_old_ones_unless_only_the_new_ones_may_serve(
    old: dict[str, Any] | None, new: dict[str, Any], moves: bool
) -> None:
    """`old` and `new`: in what they differ from those that are well; None: nothing is there."""
    of = state(Phase.RESTORING, stable=FRESH, kept=group())
    there = () if old is None else (dataclasses.replace(OLD, **old),)
    plan = planned(of, host(*there, dataclasses.replace(NEW, **new), weight=0))
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


@pytest.mark.parametrize(
    ("old", "sick", "moved"),
    [
        (OLD, SICK_CANARY, ["app → 0 %"]),
        (dataclasses.replace(OLD, health=Health.SICK), SICK_CANARY, []),
        (
            dataclasses.replace(OLD, health=Health.SICK),
            dataclasses.replace(SICK_CANARY, status=Status.PAUSED),
            ["app → 0 %"],
        ),
    ],
)
def test_a_sick_canary_loses_its_share_to_whoever_may_answer(
    old: ObservedContainer, sick: ObservedContainer, moved: list[str]
) -> None:
    analyzing = state(Phase.ANALYZING, candidate=TRIED)
    assert touched(planned(analyzing, host(old, sick, weight=5)), SetTraffic) == moved


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
