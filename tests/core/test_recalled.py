"""What a rollout from disk is worth beside what runs: as it was, older or lost; and who counts as well unasked."""

from __future__ import annotations

import dataclasses

import pytest

from reconciler.core.desired import Mode, Service, Strategy
from reconciler.core.membership import may_be_older, recall, was_well
from reconciler.core.observed import Health, ObservedContainer, Slot, Status
from reconciler.core.rollout import WAY_BACK, Asked, Course, Member, Paused, Phase, Release, Rollout, ServiceRollout
from tests.builders import canary, container, group, observed, release, rollout, service, state

V2, V3 = service(image="demo:2"), service(port=3001)
TRIED, FRESH = canary(V2), group(V2)
NEWEST = container(group(V2))
ILL = dataclasses.replace(NEWEST, health=Health.SICK)
WISH = {"app": release(V2)}


def recalled(of: ServiceRollout, *there: ObservedContainer, wanted: Release | None = None) -> ServiceRollout:
    wish = {"app": wanted or release(V2)}
    return recall(rollout(of), observed(*there), wish, is_first=True).of("app")


def member(of: ObservedContainer) -> Member:
    return Member(of.id, of.address or "", of.revision)


# ---------------------------------------------------------------- who was well, and cannot be asked any more


@pytest.mark.parametrize("phase", [Phase.RENEWING, Phase.SWITCHING, Phase.HALTED, Phase.RETURNING])
def test_new_stable_containers_that_never_answered_were_never_well(phase: Phase) -> None:
    of = state(phase, candidate=TRIED, fresh=FRESH)
    assert not was_well(of, NEWEST)
    assert was_well(dataclasses.replace(of, blue=(member(NEWEST),)), NEWEST)


def test_a_first_release_that_never_answered_was_never_well() -> None:
    assert not was_well(ServiceRollout("app", Phase.STARTING, candidate=FRESH), NEWEST)


def test_a_replica_that_was_replaced_in_its_turn_was_well_once_it_is_a_member() -> None:
    turns = Course(Strategy.ROLLING)
    of = state(Phase.UPDATING, candidate=FRESH, course=turns)
    assert not was_well(of, NEWEST)
    assert was_well(dataclasses.replace(of, blue=(member(NEWEST),)), NEWEST)


@pytest.mark.parametrize("of", [state(Phase.WATCHING, stable=FRESH, kept=group()), state(stable=TRIED, kept=group())])
def test_what_is_stable_or_was_kept_was_well_even_as_an_adopted_canary(of: ServiceRollout) -> None:
    assert of.stable is not None
    assert of.kept is not None
    assert was_well(of, container(of.stable))
    assert was_well(of, container(of.kept))


def test_a_canary_on_trial_has_to_answer() -> None:
    trial = container(TRIED)
    assert not was_well(state(Phase.ANALYZING, candidate=TRIED, green=(member(trial),)), trial)


@pytest.mark.parametrize("of", [ServiceRollout("app"), state(stable=group(V3))])
def test_what_a_lost_or_older_state_does_not_know_was_well_if_it_was_started_as_stable(of: ServiceRollout) -> None:
    assert was_well(of, NEWEST)
    assert not was_well(of, container(TRIED))


# ---------------------------------------------------------------- an older rollout


def test_an_older_rollout_is_in_doubt_until_who_is_stable_now_has_answered() -> None:
    assert may_be_older(rollout(state()), observed(ILL)) == ("app",)
    assert recalled(state(), ILL) == state()
    assert may_be_older(rollout(state()), observed(NEWEST)) == ()
    assert recalled(state(), NEWEST).stable == FRESH


@pytest.mark.parametrize(
    ("of", "there"),
    [
        (rollout(state()), (ILL, container())),
        (rollout(state()), (ILL, container(status=Status.EXITED, health=Health.UNKNOWN))),
        (rollout(state()), (container(TRIED, health=Health.SICK),)),
        (rollout(state()), (dataclasses.replace(ILL, status=Status.EXITED),)),
        (rollout(state(Phase.RENEWING, candidate=TRIED, fresh=FRESH)), (ILL,)),
        (rollout(state(quarantined=(FRESH.revision,))), (ILL,)),
        (rollout(ServiceRollout("app", Phase.STARTING, candidate=group(V3))), (ILL,)),
        (Rollout({"app": state()}, torn_down=True), (ILL,)),
    ],
)
def test_a_rollout_that_fits_what_runs_is_not_in_doubt(of: Rollout, there: tuple[ObservedContainer, ...]) -> None:
    assert may_be_older(of, observed(*there)) == ()


@pytest.mark.parametrize("phase", sorted(WAY_BACK))
def test_what_a_way_back_leaves_behind_inherits_nothing(phase: Phase) -> None:
    of = state(phase)
    assert may_be_older(rollout(of), observed(ILL)) == ()
    assert recalled(of, NEWEST) == of


def test_what_was_rolled_back_inherits_nothing_and_another_one_does() -> None:
    of = state(quarantined=(FRESH.revision,))
    assert recalled(of, NEWEST) == of
    other = group(V3, slot=Slot.GREEN)
    assert recalled(of, NEWEST, container(other)).stable == other


def test_an_older_rollout_keeps_what_was_learned_and_forgets_what_was_tried() -> None:
    learned = {
        "run": 7,
        "quarantined": ("f" * 64,),
        "dismissed": Release("f" * 64, Mode.CANARY),
        "why_rolled_back": "slow",
    }
    older = state(Phase.ANALYZING, candidate=canary(V3), asked=Asked("promote"), **learned)
    found = recalled(older, NEWEST)
    assert {name: getattr(found, name) for name in learned} == learned
    assert (found.phase, found.candidate, found.asked, found.paused) == (Phase.STABLE, None, None, None)
    paused = dataclasses.replace(older, paused=Paused("ann", "holiday", 99.0))
    assert recalled(paused, NEWEST).paused == paused.paused
    ours = recalled(paused, NEWEST, wanted=release(V3)).paused
    assert ours is not None
    assert (ours.actor, ours.until) == ("swiftdeploy", None)


# ---------------------------------------------------------------- a lost one


@pytest.mark.parametrize("of", [service(), V2])
def test_a_lost_rollout_starts_no_canary_of_what_is_stable_before_a_human_has_looked(of: Service) -> None:
    held = {"app": release(of, Mode.CANARY)}
    for is_first in (False, True):
        assert recall(Rollout(), observed(container()), held, is_first=is_first).of("app").paused is not None
    assert recalled(state(stable=group(V3)), container(), wanted=held["app"]).paused is not None


PAUSED = dataclasses.replace(container(), status=Status.PAUSED, health=Health.UNKNOWN)


@pytest.mark.parametrize(
    "ill",
    [
        dataclasses.replace(container(), health=Health.SICK),
        PAUSED,
        container(status=Status.EXITED),
        container(status=Status.CREATED),
    ],
)
def test_a_lost_rollout_of_what_is_ill_and_can_be_healed_is_that_ones(ill: ObservedContainer) -> None:
    kept = {ill.revision}
    found = recall(Rollout(), observed(ill), WISH, kept).of("app")
    assert (found.phase, found.stable) == (Phase.STABLE, group())
    assert found.paused is not None
    wanted_anyway = recall(Rollout(), observed(ill), {"app": release()}, kept).of("app")
    assert wanted_anyway.phase is Phase.ABSENT  # it is deployed as ever, and judged by its deadline
    assert recall(Rollout(), observed(ill, NEWEST), WISH, kept).of("app").stable == FRESH  # who is ready serves


def test_of_what_is_ill_what_runs_is_what_was_stable_and_not_what_was_kept_for_a_roll_back() -> None:
    parked, newer = container(status=Status.EXITED, generation=1), dataclasses.replace(ILL, generation=2)
    kept, wish = {parked.revision, newer.revision}, {"app": release(V3)}
    assert recall(Rollout(), observed(parked, newer), wish, kept).of("app").stable == FRESH
    booting = dataclasses.replace(newer, status=Status.EXITED)  # as in the first second after a reboot
    assert recall(Rollout(), observed(parked, booting), wish, kept).of("app").stable == FRESH
    frozen = dataclasses.replace(newer, status=Status.PAUSED)
    assert recall(Rollout(), observed(parked, frozen), wish, kept).of("app").stable == FRESH


@pytest.mark.parametrize(
    ("ill", "kept"),
    [
        (container(status=Status.EXITED), set()),
        (container(status=Status.DEAD), {release().revision}),
        (container(TRIED, health=Health.SICK), {TRIED.revision}),
    ],
)
def test_what_nobody_can_heal_or_was_only_tried_is_not_what_was_stable(ill: ObservedContainer, kept: set[str]) -> None:
    assert recall(Rollout(), observed(ill), WISH, kept).of("app").phase is Phase.ABSENT
