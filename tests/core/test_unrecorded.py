"""What is left undone while nothing can be written down."""

from __future__ import annotations

import dataclasses

import pytest

from reconciler.core.observed import ObservedProxy, ObservedState, Slot
from reconciler.core.plan import Action, CreateContainer, ReloadProxy, RemoveContainer, SetTraffic, StopContainer
from reconciler.core.rollout import Group, Phase, Rollout
from reconciler.core.unrecorded import needs_record
from tests.builders import container, group, observed, release, rollout, service, state

V2 = Group(release(service(image="demo:2")), Slot.GREEN)
SEEN: ObservedState = dataclasses.replace(observed(container()), proxy=ObservedProxy(weights={"app": 20}))


def creation(of: Group) -> Action:
    labels = {"io.swiftdeploy.service": "app", "io.swiftdeploy.revision": of.revision}
    made = CreateContainer.__new__(CreateContainer)
    object.__setattr__(made, "labels", tuple(labels.items()))
    return made


def on_trial(phase: Phase) -> Rollout:
    return rollout(state(phase, stable=group(), candidate=V2))


@pytest.mark.fault("C1", "C2")
@pytest.mark.parametrize("phase", [Phase.STARTING, Phase.ANALYZING, Phase.PROMOTING])
def test_nothing_new_is_made_and_no_share_grows(phase: Phase) -> None:
    assert needs_record(creation(V2), on_trial(phase), SEEN)
    assert needs_record(SetTraffic("app", 50), on_trial(phase), SEEN)
    assert needs_record(StopContainer(container().id, 1.0), on_trial(phase), SEEN)
    assert needs_record(RemoveContainer(container().id), on_trial(phase), SEEN)


@pytest.mark.fault("C1", "C2")
def test_what_is_stable_is_healed_and_a_share_shrinks() -> None:
    assert not needs_record(creation(group()), on_trial(Phase.ANALYZING), SEEN)
    assert not needs_record(SetTraffic("app", 0), on_trial(Phase.ANALYZING), SEEN)
    assert not needs_record(ReloadProxy("n" * 64), on_trial(Phase.ANALYZING), SEEN)


@pytest.mark.parametrize("phase", [Phase.ROLLING_BACK, Phase.RETURNING, Phase.RESTORING])
def test_the_way_back_is_open(phase: Phase) -> None:
    for action in (creation(V2), SetTraffic("app", 100), RemoveContainer(container().id)):
        assert not needs_record(action, on_trial(phase), SEEN)


def test_a_teardown_needs_nothing() -> None:
    torn = dataclasses.replace(on_trial(Phase.STABLE), torn_down=True)
    assert not needs_record(RemoveContainer(container().id), torn, SEEN)
