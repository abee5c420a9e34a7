"""Whose requests are measured, against whose, and whether anybody is to judge."""

from __future__ import annotations

import dataclasses

import pytest

from reconciler.core.desired import Mode, RolloutSpec, Route, Service
from reconciler.core.observed import ObservedContainer, ObservedProxy, Status
from reconciler.core.rollout import Course, Phase, ServiceRollout
from reconciler.core.trial import Trial, trials
from tests.builders import CONFIG_HASH, STEPS, canary, container, desired, group, observed, rollout, service, state

V2 = service(image="demo:2", rollout=RolloutSpec(steps=STEPS))
TRIED, FRESH = canary(V2), group(V2)
OLD, CANARY, NEW = container(), container(TRIED), container(FRESH)


def found(
    of: ServiceRollout, *containers: ObservedContainer, wanted: Service = V2, weight: int = 5, **changes: object
) -> Trial | None:
    seen = observed(*containers, proxy=ObservedProxy(CONFIG_HASH, weights={"app": weight}))
    made = trials(desired(wanted, **changes), rollout(of), seen)
    return made[0] if made else None


ANALYZING = state(Phase.ANALYZING, candidate=TRIED)


@pytest.mark.parametrize("phase", [Phase.ANALYZING, Phase.SUSPENDED])
def test_a_canary_is_measured_beside_stable_and_judged(phase: Phase) -> None:
    made = found(state(phase, candidate=TRIED), OLD, CANARY)
    assert made is not None
    assert (made.tried, made.beside, made.is_judged) == ((CANARY,), (OLD,), True)


@pytest.mark.parametrize(
    ("of", "tried"),
    [
        (state(), OLD),
        (state(Phase.STARTING, candidate=TRIED), OLD),
        (state(Phase.PROMOTING, candidate=TRIED), CANARY),
        (state(Phase.PARKING, candidate=TRIED), CANARY),
        (state(Phase.RENEWING, candidate=TRIED, fresh=FRESH), CANARY),
        (state(Phase.HALTED, candidate=TRIED, fresh=FRESH), CANARY),
        (state(Phase.SWITCHING, candidate=TRIED, fresh=FRESH), CANARY),
        (state(Phase.SETTLING, stable=FRESH, kept=group()), NEW),
        (state(Phase.ROLLING_BACK), OLD),
    ],
)
def test_whoever_carries_the_requests_is_measured_and_not_judged(of: ServiceRollout, tried: ObservedContainer) -> None:
    made = found(of, OLD, CANARY, NEW)
    assert made is not None
    assert (made.tried, made.beside, made.share, made.is_judged) == ((tried,), (), None, False)


def test_a_watched_revision_is_judged_alone() -> None:
    made = found(state(Phase.WATCHING, stable=FRESH, kept=group()), OLD, NEW)
    assert made is not None
    assert (made.tried, made.beside, made.is_judged) == ((NEW,), (), True)


def test_only_what_runs_is_measured_and_nothing_is_no_trial() -> None:
    down = dataclasses.replace(CANARY, status=Status.EXITED)
    assert found(ANALYZING, OLD, down) is None
    assert found(ServiceRollout("app")) is None
    made = found(ANALYZING, dataclasses.replace(OLD, status=Status.EXITED), CANARY)
    assert made is not None
    assert made.beside == ()


@pytest.mark.parametrize("wanted", [dataclasses.replace(V2, route=None), dataclasses.replace(V2, port=None)])
def test_a_service_that_nobody_sends_requests_to_is_not_measured(wanted: Service) -> None:
    assert found(ANALYZING, OLD, CANARY, wanted=wanted) is None


@pytest.mark.parametrize(
    ("changes", "weight", "wanted", "share"),
    [
        ({}, 5, V2, 0.05),
        ({"step": 1}, 25, V2, 0.25),
        ({"step": 1}, 5, V2, None),
        ({}, 5, dataclasses.replace(V2, route=Route(sticky=True)), None),
        ({"course": Course(steps=(dataclasses.replace(STEPS[0], weight_pct=0),))}, 0, V2, None),
        ({"phase": Phase.SUSPENDED}, 0, V2, None),
    ],
)
def test_a_share_is_named_only_where_it_is_meant_and_is_so(
    changes: dict, weight: int, wanted: Service, share: float | None
) -> None:
    made = found(dataclasses.replace(ANALYZING, **changes), OLD, CANARY, weight=weight, wanted=wanted)
    assert made is not None
    assert made.share == share


def about(of: ServiceRollout, **changes: object) -> str:
    made = found(of, OLD, CANARY, NEW, container(canary(service())), **changes)
    assert made is not None
    return made.about


def test_evidence_adds_up_across_all_of_one_run() -> None:
    same = about(ANALYZING)
    assert about(dataclasses.replace(ANALYZING, step=2)) == same
    assert about(dataclasses.replace(ANALYZING, phase=Phase.SUSPENDED)) == same
    assert about(dataclasses.replace(ANALYZING, phase=Phase.PROMOTING)) == same
    assert about(dataclasses.replace(ANALYZING, phase=Phase.RENEWING, fresh=FRESH)) == same


def test_another_run_revision_or_limit_and_the_watch_start_evidence_afresh() -> None:
    limits = {"canary": {"max_error_rate": 0.02}}
    seen = {
        about(ANALYZING),
        about(dataclasses.replace(ANALYZING, run=2)),
        about(dataclasses.replace(ANALYZING, candidate=canary(service()))),
        about(ANALYZING, limits=limits),
        about(state(Phase.WATCHING, stable=FRESH, kept=group())),
        about(state(Phase.WATCHING, stable=FRESH, kept=group(), run=2)),
        about(state()),
    }
    assert len(seen) == 7
    assert about(ANALYZING, limits={"infrastructure": {"max_cpu": 1}}) == about(ANALYZING), "not the canary's business"


@pytest.mark.parametrize("mode", list(Mode))
def test_a_canary_that_the_manifest_keeps_is_called_held(mode: Mode) -> None:
    made = found(ANALYZING, OLD, CANARY, wanted=dataclasses.replace(V2, mode=mode))
    assert made is not None
    assert made.is_held is (mode is Mode.CANARY)


def test_evidence_lasts_for_the_longest_the_rollout_or_its_watch_may_take() -> None:
    made = found(ANALYZING, OLD, CANARY)
    assert made is not None
    assert made.horizon_s == 600 + 180
    long_watch = dataclasses.replace(V2, rollout=RolloutSpec(steps=STEPS, watch_s=3600.0))
    made = found(ANALYZING, OLD, CANARY, wanted=long_watch)
    assert made is not None
    assert made.horizon_s == 3600
