"""Who belongs to a slot: properties over every host one can think of, in every phase."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.core.desired import Mode, Strategy
from reconciler.core.membership import GONE, in_turns, is_of, recall, remember, replaced, shown_slots, slot_groups, turn
from reconciler.core.observed import Health, ObservedContainer, ObservedState, Slot, Status
from reconciler.core.rollout import Course, Decision, Group, Member, Move, Phase, Rollout, ServiceRollout
from tests.builders import STEPS, canary, container, group, observed, release, rollout, service, state

UNHURRIED = settings(deadline=None, max_examples=50)

V2 = service(image="demo:2")
TRIED, FRESH = canary(V2), group(V2)
GREEN = (Member(container(TRIED).id, "10.1.0.170"),)
ADOPTED = Course(steps=STEPS, is_adopted=True)

STATES = [
    state(),
    state(Phase.STARTING, stable=None, candidate=group(), blue=()),
    state(Phase.STARTING, candidate=TRIED),
    state(Phase.ANALYZING, candidate=TRIED, green=GREEN),
    state(Phase.SUSPENDED, candidate=TRIED, green=GREEN),
    state(Phase.PROMOTING, candidate=TRIED, green=GREEN),
    state(Phase.PARKING, candidate=TRIED, green=GREEN),
    state(Phase.RENEWING, candidate=TRIED, fresh=FRESH, green=GREEN),
    state(Phase.HALTED, candidate=TRIED, fresh=FRESH, green=GREEN),
    state(Phase.SWITCHING, candidate=TRIED, fresh=FRESH, green=GREEN),
    state(Phase.SETTLING, stable=FRESH, kept=group(), green=GREEN),
    state(Phase.WATCHING, stable=FRESH, kept=group()),
    state(Phase.TURNING, stable=TRIED, kept=group(), serving=Slot.GREEN, course=ADOPTED, green=GREEN),
    state(Phase.PARKING, stable=TRIED, kept=group(), serving=Slot.GREEN, course=ADOPTED, green=GREEN),
    state(Phase.RETURNING, candidate=TRIED, green=GREEN),
    state(Phase.RETURNING, stable=FRESH, kept=group()),
    state(Phase.RESTORING, candidate=TRIED, green=GREEN),
    state(Phase.RESTORING, stable=FRESH, kept=group()),
    state(Phase.ROLLING_BACK, candidate=TRIED, green=GREEN),
    state(Phase.ROLLING_BACK, stable=None, candidate=group(), blue=()),
    *(
        state(phase, candidate=FRESH, course=Course(strategy))
        for strategy in (Strategy.ROLLING, Strategy.RECREATE)
        for phase in (Phase.UPDATING, Phase.ROLLING_BACK)
    ),
]


@st.composite
def containers(draw: st.DrawFn) -> tuple[ObservedContainer, ...]:
    found = []
    for number in range(draw(st.integers(0, 5))):
        found.append(
            container(
                draw(st.sampled_from([release(), TRIED.release, FRESH.release])),
                draw(st.sampled_from(Slot)),
                draw(st.integers(0, 2)),
                id=f"id-{number}",
                status=draw(st.sampled_from(Status)),
                health=draw(st.sampled_from(Health)),
                address=draw(st.sampled_from([None, f"10.1.0.{number + 20}"])),
                ours=draw(st.booleans()),
            )
        )
    return tuple(found)


WORLDS = containers().map(lambda found: observed(*found))
ROLLOUTS = st.sampled_from([rollout(one) for one in STATES])


def remembered(of: Rollout, seen: ObservedState) -> ServiceRollout:
    return remember(of, seen, {"app": 3}).of("app")


@UNHURRIED
@given(ROLLOUTS, WORLDS)
def test_members_are_ours_there_reachable_and_of_a_group_of_their_slot(of: Rollout, seen: ObservedState) -> None:
    there = {c.id: c for c in seen.of("app")}
    after, groups = remembered(of, seen), slot_groups(of.of("app"))
    for slot in Slot:
        for member in after.members(slot):
            found = there[member.container_id]
            assert found.address == member.address
            assert found.status not in GONE
            assert any(is_of(found, one) for one in groups[slot])


@UNHURRIED
@given(ROLLOUTS, WORLDS)
def test_nobody_is_a_member_of_both_slots(of: Rollout, seen: ObservedState) -> None:
    after = remembered(of, seen)
    assert not {m.container_id for m in after.blue} & {m.container_id for m in after.green}


@UNHURRIED
@given(ROLLOUTS, WORLDS)
def test_whoever_is_ready_of_a_group_that_serves_is_a_member(of: Rollout, seen: ObservedState) -> None:
    before, after = of.of("app"), remembered(of, seen)
    leaving = {c.id for c in replaced(before, seen)}
    for slot, groups in slot_groups(before).items():
        ready = {
            c.id
            for c in seen.of("app")
            if c.is_ready and c.address and c.id not in leaving and any(is_of(c, one) for one in groups)
        }
        assert ready <= {member.container_id for member in after.members(slot)}


@UNHURRIED
@given(ROLLOUTS, WORLDS)
def test_nobody_joins_before_it_was_ready_once(of: Rollout, seen: ObservedState) -> None:
    before, after = of.of("app"), remembered(of, seen)
    ready = {c.id for c in seen.of("app") if c.is_ready}
    for slot in Slot:
        joined = {m.container_id for m in after.members(slot)} - {m.container_id for m in before.members(slot)}
        assert joined <= ready


@UNHURRIED
@given(ROLLOUTS, WORLDS)
def test_remembering_twice_changes_nothing_more(of: Rollout, seen: ObservedState) -> None:
    once = remember(of, seen, {"app": 3})
    assert remember(once, seen, {"app": 3}) == once


@UNHURRIED
@given(WORLDS)
def test_a_lost_rollout_is_rebuilt_from_what_is_ready_or_is_absent(seen: ObservedState) -> None:
    rebuilt = recall(Rollout(), seen, {"app": release(V2)}).of("app")
    ready = [c for c in seen.of("app") if c.is_ready]
    assert (rebuilt.phase is Phase.STABLE) == bool(ready)
    if rebuilt.stable is not None:
        assert any(is_of(c, rebuilt.stable) and c.slot is rebuilt.serving for c in ready)
        was_stable = any(c.mode == Mode.STABLE for c in ready)
        assert (rebuilt.stable.release.mode is Mode.STABLE) == was_stable
        assert (rebuilt.paused is None) == (rebuilt.stable.release == release(V2))


@UNHURRIED
@given(ROLLOUTS, WORLDS)
def test_a_known_rollout_is_never_rebuilt(of: Rollout, seen: ObservedState) -> None:
    assert recall(of, seen, {"app": release(V2)}) == of


# ---------------------------------------------------------------- what nginx is shown


@pytest.mark.fault("I7")
@pytest.mark.parametrize("of", STATES, ids=lambda of: of.phase)
def test_nginx_lists_only_slots_that_have_somebody_to_list(of: ServiceRollout) -> None:
    assert shown_slots(of) <= set(slot_groups(of))


@pytest.mark.parametrize("of", STATES, ids=lambda of: of.phase)
def test_the_slot_that_carries_the_requests_is_always_shown(of: ServiceRollout) -> None:
    shown = shown_slots(of)
    if of.weight_pct:
        assert of.serving.other in shown
    if of.weight_pct < 100 and of.stable is not None:
        assert of.serving in shown


@pytest.mark.parametrize(
    ("phase", "changes", "shown"),
    [
        (Phase.STARTING, {"candidate": TRIED}, {Slot.BLUE}),
        (Phase.ANALYZING, {"candidate": TRIED}, {Slot.BLUE, Slot.GREEN}),
        (Phase.PARKING, {"candidate": TRIED}, {Slot.GREEN}),
        (Phase.PARKING, {"stable": TRIED, "kept": group(), "serving": Slot.GREEN, "course": ADOPTED}, {Slot.GREEN}),
        (Phase.RENEWING, {"candidate": TRIED, "fresh": FRESH}, {Slot.GREEN}),
        (Phase.SWITCHING, {"candidate": TRIED, "fresh": FRESH}, {Slot.BLUE, Slot.GREEN}),
        (Phase.SETTLING, {"stable": FRESH, "kept": group()}, {Slot.BLUE}),
        (Phase.RETURNING, {"stable": FRESH, "kept": group()}, {Slot.BLUE}),
        (Phase.RESTORING, {"stable": FRESH, "kept": group()}, {Slot.BLUE, Slot.GREEN}),
        (Phase.ROLLING_BACK, {"stable": None, "candidate": group()}, set()),
    ],
)
def test_a_slot_is_shown_from_before_its_first_request_until_after_its_last(
    phase: Phase, changes: dict, shown: set[Slot]
) -> None:
    assert shown_slots(state(phase, **changes)) == shown


def test_a_return_that_begins_while_stable_still_serves_keeps_it_in_nginx() -> None:
    promoting = state(Phase.PROMOTING, candidate=TRIED, green=GREEN)
    back = promoting.after(Decision("app", Move.RETURN, "rolled back by ann"), 1.0)
    after = remembered(rollout(back), observed(container(), container(TRIED)))
    assert after.serving in shown_slots(after)


def test_kept_containers_come_back_as_members_of_the_empty_slot() -> None:
    back = rollout(state(Phase.RETURNING, stable=FRESH, kept=group()))
    after = remembered(back, observed(container(), container(FRESH)))
    assert [m.container_id for m in after.blue] == [container(FRESH).id]
    assert [m.container_id for m in after.green] == [container().id]


# ---------------------------------------------------------------- turns


def turns(strategy: Strategy, phase: Phase = Phase.UPDATING) -> ServiceRollout:
    return state(phase, candidate=FRESH, course=Course(strategy))


def replicas(of: Group, *numbers: int, **changes: object) -> list[ObservedContainer]:
    return [container(of, replica=number, **changes) for number in numbers]


def test_turns_are_taken_forwards_in_an_update_and_backwards_in_its_roll_back() -> None:
    assert in_turns(turns(Strategy.ROLLING)) == (group(), FRESH)
    assert in_turns(turns(Strategy.ROLLING, Phase.ROLLING_BACK)) == (FRESH, group())
    assert in_turns(state(Phase.ANALYZING, candidate=TRIED)) is None
    assert in_turns(turns(Strategy.ROLLING, Phase.STABLE)) is None


def test_the_first_replica_without_a_ready_successor_has_its_turn() -> None:
    of = turns(Strategy.ROLLING)
    seen = observed(*replicas(group(), 0, 1, 2), *replicas(FRESH, 0, 2))
    assert turn(of, seen, 3) == 1
    assert turn(of, observed(*replicas(FRESH, 0, 1, 2)), 3) == 3


def test_a_rolling_replica_leaves_when_its_successor_is_ready_a_recreated_one_before() -> None:
    seen = observed(*replicas(group(), 0, 1, 2), *replicas(FRESH, 0))
    rolling = replaced(turns(Strategy.ROLLING), seen)
    recreated = replaced(turns(Strategy.RECREATE), seen)
    assert [c.replica for c in rolling] == [0]
    assert [c.replica for c in recreated] == [0, 1]


@UNHURRIED
@given(WORLDS)
def test_a_rolling_update_never_lets_a_replica_go_that_nobody_replaces(seen: ObservedState) -> None:
    of = turns(Strategy.ROLLING)
    ready = {c.replica for c in seen.of("app") if is_of(c, FRESH) and c.is_ready}
    assert {c.replica for c in replaced(of, seen)} <= ready


def test_who_leaves_in_its_turn_is_no_member_any_more() -> None:
    seen = observed(*replicas(group(), 0, 1), *replicas(FRESH, 0))
    after = remembered(rollout(turns(Strategy.ROLLING)), seen)
    assert {m.container_id for m in after.blue} == {replicas(group(), 1)[0].id, replicas(FRESH, 0)[0].id}


def test_a_group_is_known_by_revision_mode_and_the_slot_it_was_born_in() -> None:
    one = container()
    assert is_of(one, group())
    for other in (group(slot=Slot.GREEN), group(mode=Mode.CANARY), group(V2), None):
        assert not is_of(one, other)
    assert not is_of(dataclasses.replace(one, slot=None), group())
