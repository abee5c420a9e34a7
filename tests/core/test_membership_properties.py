"""Who belongs to a slot: properties over every host one can think of."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.core.membership import GONE, recall, remember
from reconciler.core.observed import Health, ObservedContainer, ObservedState, Slot, Status
from reconciler.core.rollout import Phase, Rollout
from tests.builders import container, observed, release, rollout, service, state

UNHURRIED = settings(deadline=None, max_examples=50)

V2 = release(service(image="demo:2"))


@st.composite
def containers(draw: st.DrawFn) -> tuple[ObservedContainer, ...]:
    found = []
    for number in range(draw(st.integers(0, 5))):
        found.append(
            container(
                draw(st.sampled_from([release(), V2])),
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
ROLLOUTS = st.sampled_from(
    [
        rollout(),
        rollout(state(Phase.STARTING, candidate=V2)),
        rollout(state(Phase.PROMOTING, candidate=V2)),
        rollout(state(Phase.DRAINING, serving=Slot.GREEN, stable=V2, leaving=release())),
        rollout(state(Phase.STARTING, stable=None, candidate=V2, blue=())),
    ]
)


@UNHURRIED
@given(ROLLOUTS, WORLDS)
def test_members_are_ours_there_and_reachable(of: Rollout, seen: ObservedState) -> None:
    there = {c.id: c for c in seen.of("app")}
    after = remember(of, seen, {"app": 3}).of("app")
    for slot in Slot:
        for member in after.members(slot):
            found = there[member.container_id]
            assert found.address == member.address
            assert found.slot is slot
            assert found.status not in GONE


@UNHURRIED
@given(ROLLOUTS, WORLDS)
def test_whoever_is_ready_of_the_stable_release_is_a_member(of: Rollout, seen: ObservedState) -> None:
    before = of.of("app")
    after = remember(of, seen, {"app": 3}).of("app")
    ready = {
        c.id
        for c in seen.of("app")
        if before.stable
        and c.is_ready
        and c.address
        and c.slot is before.serving
        and c.revision == before.stable.revision
    }
    assert ready <= {member.container_id for member in after.members(before.serving)}


@UNHURRIED
@given(ROLLOUTS, WORLDS)
def test_nobody_joins_before_it_was_ready_once(of: Rollout, seen: ObservedState) -> None:
    before, after = of.of("app"), remember(of, seen, {"app": 3}).of("app")
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
    rebuilt = recall(Rollout(), seen, {"app": V2}).of("app")
    ready = [c for c in seen.of("app") if c.is_ready]
    assert (rebuilt.phase is Phase.STABLE) == bool(ready)
    if rebuilt.stable is not None:
        assert any(c.revision == rebuilt.stable.revision and c.slot is rebuilt.serving for c in ready)
        wanted_is_ready = any(c.revision == V2.revision and c.mode == V2.mode for c in ready)
        assert (rebuilt.stable == V2) == wanted_is_ready


@UNHURRIED
@given(ROLLOUTS, WORLDS)
def test_a_known_rollout_is_never_rebuilt(of: Rollout, seen: ObservedState) -> None:
    assert recall(of, seen, {"app": V2}) == of
